"""The gradient of a convolution by its weights, whose lanes are output channels.

`weight_gradient` computes gw[k, m] = sum over p of x[k, p] * gy[p, m] over all pixels p of the
batch. The tile reads x where it lies, one number at a time, and a gy turned so that the channels m
of a pixel are neighbours. Each worker adds up the pixels of its own tasks; `combine` adds the
workers' sums in their order and turns the result. Large sets of weights are shared out instead of
the pixels: then each sum is one worker's.
"""

from __future__ import annotations

import numpy as np
from numba import int64, prange, uint64

from minicnn_kernels.numba_cpu.compile import Array, helper, kernel
from minicnn_kernels.numba_cpu.convolution_windows import (
    Map,
    Target,
    copy_window,
    first_window,
    run_tile,
    whole_table,
)
from minicnn_kernels.numba_cpu.microkernel import ROWS, VECTOR_BYTES, VECTORS, transpose


@helper
def _transpose_panel(
    gy: Array, shape: Map, target: Target, task: Array, q: int, count: int, m0: int, width: int,
    panel: Array, at: int,
) -> None:  # fmt: skip
    """Write gy[p, m] for ``count`` pixels from q and ``width`` channels from m0."""
    size = gy.itemsize
    step, rows = VECTOR_BYTES // size, (task[4] - task[3]) * shape.ow
    image = shape.groups * target.rows * target.plane
    p = 0
    while p < count:
        n, o = (q + p) // rows, (q + p) % rows
        length = min(rows - o, count - p)
        start = (task[1] + n) * image + task[0] * target.rows * target.plane
        start += task[3] * shape.ow + o
        for m in range(m0, m0 + width, step):
            source, to = start + m * target.plane, at + p * width + m - m0
            for v in range(0, length, step):
                transpose(
                    gy[0], gy.ctypes.data + (source + v) * size, target.plane * size,
                    target.rows - m, length - v, panel.ctypes.data + (to + v * width) * size,
                    width * size, 0, False,
                )  # fmt: skip
        p += length


@helper
def _find_steps(
    size: int, shape: Map, rows: int, q: int, count: int, row_of_panel: int, steps: Array
) -> None:
    """Bytes to the window, and to the row of the panel, of ``count`` pixels from q."""
    line, column = q // shape.ow, q % shape.ow
    n, r = line // rows, line % rows
    for p in range(uint64(count)):
        at = n * shape.image + r * shape.row_step * shape.row_length + column
        steps[p, 0] = at * size
        steps[p, 1] = int64(p) * row_of_panel
        column += 1
        if column == shape.ow:
            column, r = 0, r + 1
            if r == rows:
                n, r = n + 1, 0


@kernel
def weight_gradient(
    x: Array, gy: Array, sums: Array, shape: Map, target: Target, tasks: Array, offsets: Array,
    block: int, width: int, scratch: Array,
) -> None:  # fmt: skip
    """Write sums (parts, G, K rounded up, M rounded up), where a worker has a part to itself.

    ``offsets`` (K rounded up,): bytes from a pixel's window to its number k; tasks hold a range of
    tiles of k. ``block`` pixels and ``width`` channels are transposed at once.
    """
    workers, reserved = scratch.shape
    number, size = x[0], x.itemsize
    lanes = VECTOR_BYTES // size
    parts, _, K, M = sums.shape
    for worker in prange(workers):
        steps, whole, zeros = np.empty((block, 2), np.int64), whole_table(), np.zeros(ROWS, x.dtype)
        panel_at = int64(worker) * reserved
        memory, part = scratch.reshape(-1), int64(worker) % parts
        panel = memory.ctypes.data + panel_at * size
        copy = panel + (block * width + lanes) * size
        for t in range(int64(worker), len(tasks), workers):
            task = tasks[t]
            g, rows = task[0], task[4] - task[3]
            start = x.ctypes.data + first_window(shape, task) * size
            if not shape.in_place:
                channels = task[7], task[8]
                copy_window(number, x.ctypes.data, shape, task, channels, copy)
                start = copy
            pixels = (task[2] - task[1]) * rows * shape.ow
            for q in range(0, pixels, block):
                count = min(block, pixels - q)
                add = q > 0 or task[9] > 0
                for m0 in range(0, M, width):
                    channel = min(width, M - m0)
                    _transpose_panel(
                        gy, shape, target, task, q, count, m0, channel, memory, panel_at
                    )
                    _find_steps(size, shape, rows, q, count, channel * size, steps)
                    for i in range(task[5], task[6]):
                        for m in range(0, channel, VECTORS * lanes):
                            vectors = min(VECTORS, (channel - m) // lanes)
                            c = ((part * shape.groups + g) * K + i * ROWS) * M + m0 + m
                            run_tile(
                                number, vectors, start, offsets.ctypes.data + i * ROWS * 8,
                                panel + m * size, steps.ctypes.data, count, zeros.ctypes.data,
                                sums.ctypes.data + c * size, M * size, ROWS, whole.ctypes.data,
                                add, False,
                            )  # fmt: skip


@kernel
def combine(sums: Array, gw: Array) -> None:
    """gw[g, m, k] = the sum over parts of sums[part, g, k, m], in their order."""
    parts = sums.shape[0]
    G, M, K = gw.shape
    for task in prange(G * ((M + 15) // 16)):
        g, m0 = int64(task) // ((M + 15) // 16), int64(task) % ((M + 15) // 16) * 16
        for k in range(K):
            for m in range(m0, min(m0 + 16, M)):
                total = sums[0, g, k, m]
                for part in range(1, parts):
                    total += sums[part, g, k, m]
                gw[g, m, k] = total
