"""Working memory of the convolution loops: kept from call to call, and aligned to cache lines."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from minicnn_kernels.numba_cpu.compile import Array

LINE = 64  # bytes of a cache line: a vector of AVX-512 across two of them costs twice

_kept = threading.local()


def scratch(tasks: int, workers: int, reserved: int, dtype: np.dtype[Any]) -> Array:
    """Working memory, one row a worker: kept, as a page touched for the first time costs dearly.

    No row is needed for workers without a task. Each thread of Python has memory of its own.
    """
    workers = min(tasks, workers)
    needed = workers * reserved * dtype.itemsize
    memory = getattr(_kept, "memory", None)
    if memory is None or memory.size < needed:
        memory = _kept.memory = aligned((needed,), np.dtype(np.uint8))
    return memory[:needed].view(dtype).reshape(workers, reserved)


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array of unspecified numbers that starts at a cache line.

    >>> aligned((3, 5), np.dtype(np.float32)).ctypes.data % LINE
    0
    """
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)
