"""What this machine can do at most, measured: arithmetic and main memory.

Two numbers bound every kernel (Williams, Waterman & Patterson 2009, "Roofline"): it cannot add and
multiply faster than the register tile does on numbers that stay in the cache, and it cannot read
and write large arrays faster than the plainest loop over them does.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
import numpy as np
from timing import interleaved

from minicnn_kernels.numba_cpu.convolution_windows import run_tile, whole_table
from minicnn_kernels.numba_cpu.microkernel import ROWS, VECTORS, lanes

SECONDS = 0.5
TRIAD_BYTES = 2**28  # each array; several times any cache


@numba.njit(parallel=True, fastmath={"contract"})
def _tiles(a, rows, b, steps, c, start, table, count):  # type: ignore[no-untyped-def]
    for worker in numba.prange(len(c)):
        for _ in range(count):
            run_tile(
                a[0], VECTORS, a.ctypes.data, rows.ctypes.data, b.ctypes.data, steps.ctypes.data,
                len(steps), start.ctypes.data, c[worker].ctypes.data, VECTORS * 64, ROWS,
                table.ctypes.data, False, False,
            )  # fmt: skip


def arithmetic(workers: int, numbers: int = 128, count: int = 5000) -> float:
    """GFLOP/s of the register tile alone, float32, on so many threads."""
    width = VECTORS * lanes(np.dtype(np.float32))
    a, b = np.ones(ROWS * numbers, np.float32), np.ones(numbers * width, np.float32)
    steps = np.stack([np.arange(numbers) * 4, np.arange(numbers) * width * 4], axis=1)
    rows, c = np.arange(ROWS) * numbers * 4, np.empty((workers, ROWS, 64 * VECTORS), np.float32)
    arguments = a, rows, b, steps, c, np.zeros(ROWS, np.float32), whole_table(), count
    times = interleaved([lambda: _tiles(*arguments)], SECONDS)[0]
    return 2 * ROWS * width * numbers * count * workers / min(times) / 1e9


@numba.njit(parallel=True, fastmath={"contract"})
def _triad(a, b, c):  # type: ignore[no-untyped-def]
    for i in numba.prange(len(a)):
        a[i] = b[i] + np.float32(3) * c[i]


def bandwidth(size: int = TRIAD_BYTES) -> float:
    """GB/s of a = b + 3 * c on arrays too large for the caches (McCalpin's "triad").

    It runs on as many threads as `set_num_threads` says. Two arrays are read and one is written;
    that the processor also reads the lines that it is going to write is not counted, here or in the
    kernels.
    """
    a, b, c = (np.ones(size // 4, np.float32) for _ in range(3))
    times = interleaved([lambda: _triad(a, b, c)], SECONDS)[0]
    return 3 * a.nbytes / min(times) / 1e9
