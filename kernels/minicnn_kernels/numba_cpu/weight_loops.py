"""The gradient of a convolution by its weights, whose lanes are output channels.

`weight_gradient` computes gw[k, m] = sum over p of x[k, p] * gy[p, m] over all pixels p of the
batch. The tile reads x where it lies, one number at a time, and a gy turned so that the channels m
of a pixel are neighbours. Each worker adds up the pixels of its own tasks; `combine` adds the
workers' sums in their order and turns the result. Large sets of weights are shared out instead of
the pixels: then each sum is one worker's.

On a small map many products are with padding: of a 5x5 window on 7x7 pixels, 31 %. They are left
out where the rows of a tile can be channels of one tap: the tap then decides which pixels count.
Pixels are listed row by row, once for each set of columns that some tap finds on the map, so that
the rows which the tap finds there are one stretch of its list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int64, prange, uint64

from minicnn_kernels.numba_cpu.compile import Array, helper, kernel
from minicnn_kernels.numba_cpu.convolution_windows import (
    Map,
    Target,
    copy_window,
    first_window,
    row_table,
    run_tile,
    whole_table,
)
from minicnn_kernels.numba_cpu.microkernel import ROWS, VECTOR_BYTES, VECTORS, finish, transpose


class Cut(NamedTuple):
    """How the work is cut: pixels and channels transposed at once; whether padding is skipped."""

    pixels: int
    width: int
    skips_padding: bool


@helper
def _transpose_panel(
    gy: Array, shape: Map, target: Target, task: Array, q: int, count: int, m0: int, channels: int,
    width: int, panel: int,
) -> None:  # fmt: skip
    """Write gy[p, m] for ``count`` pixels from q and some channels from m0; rows of ``width``."""
    size = gy.itemsize
    step, rows = VECTOR_BYTES // size, (task[4] - task[3]) * shape.ow
    image = shape.groups * target.rows * target.plane
    p = 0
    while p < count:
        n, o = (q + p) // rows, (q + p) % rows
        length = min(rows - o, count - p)
        start = (task[1] + n) * image + task[0] * target.rows * target.plane
        start += task[3] * shape.ow + o
        for m in range(m0, m0 + channels, step):
            source, to = start + m * target.plane, p * width + m - m0
            for v in range(0, length, step):
                transpose(
                    gy[0], gy.ctypes.data + (source + v) * size, target.plane * size,
                    target.rows - m, length - v, panel + (to + v * width) * size,
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


@helper
def _list_steps(
    size: int, shape: Map, images: int, columns: Array, row_of_panel: int, steps: Array,
    places: Array,
) -> None:  # fmt: skip
    """The same for the pixels of whole images, by rows, in one list for each row of ``columns``.

    Write where the steps of each row of the map begin, and where the last ends, to ``places``.
    """
    found = 0
    for kind in range(len(columns)):
        for r in range(shape.oh):
            places[kind, r] = found
            for n in range(images):
                at = n * shape.image + r * shape.row_step * shape.row_length
                pixel = (n * shape.oh + r) * shape.ow
                for column in range(shape.ow):
                    if columns[kind, column] != 0:
                        steps[found, 0] = (at + column * shape.advance) * size
                        steps[found, 1] = (pixel + column) * row_of_panel
                        found += 1
        places[kind, shape.oh] = found


@kernel
def weight_gradient(
    x: Array, gy: Array, sums: Array, shape: Map, target: Target, tasks: Array, offsets: Array,
    cut: Cut, columns: Array, taps: Array, scratch: Array,
) -> None:  # fmt: skip
    """Write sums (parts, G, rows, M rounded up), where a worker has a part to itself.

    ``offsets`` (rows,): bytes from a pixel's window to the number of a row; tasks hold a range of
    tiles of rows. Where padding is skipped, tile i is of tap i % T; ``taps`` (T, 3): which of the
    lists it takes, and its first and end row of the map; ``columns`` (lists, OW): those of a list.
    """
    workers, reserved = scratch.shape
    number, size = x[0], x.itemsize
    lanes = VECTOR_BYTES // size
    parts, _, K, M = sums.shape
    for worker in prange(workers):
        steps = np.empty((len(columns) * cut.pixels, 2), np.int64)
        places = np.zeros((len(columns), shape.oh + 1), np.int64)
        whole, zeros = whole_table(), np.zeros(ROWS, x.dtype)
        table = row_table(size, shape)
        part, listed, step, there = int64(worker) % parts, 0, 0, 0
        panel = scratch.ctypes.data + int64(worker) * reserved * size
        copy = panel + (cut.pixels * cut.width + lanes) * size
        for t in range(int64(worker), len(tasks), workers):
            task = tasks[t]
            g, rows = task[0], task[4] - task[3]
            start = x.ctypes.data + first_window(shape, task) * size
            if not shape.in_place:
                copy_window(number, size, x.ctypes.data, shape, task, table, copy)
                start = copy
            pixels = (task[2] - task[1]) * rows * shape.ow
            for q in range(0, pixels, cut.pixels):
                there = min(cut.pixels, pixels - q)
                a, add = start, q > 0 or task[9] > 0
                if cut.skips_padding:
                    images = there // (rows * shape.ow)
                    a += q // (rows * shape.ow) * shape.image * size
                    if images != listed:
                        _list_steps(size, shape, images, columns, cut.width * size, steps, places)
                        listed = images
                else:
                    _find_steps(size, shape, rows, q, there, cut.width * size, steps)
                for m0 in range(0, M, cut.width):
                    channel = min(cut.width, M - m0)
                    _transpose_panel(
                        gy, shape, target, task, q, there, m0, channel, cut.width, panel
                    )
                    for i in range(task[5], task[6]):
                        step, count = 0, there
                        if cut.skips_padding:
                            tap = i % len(taps)
                            kind = taps[tap, 0]
                            step = places[kind, taps[tap, 1]]
                            count = places[kind, taps[tap, 2]] - step
                        for m in range(0, channel, VECTORS * lanes):
                            vectors = min(VECTORS, (channel - m) // lanes)
                            c = ((part * shape.groups + g) * K + i * ROWS) * M + m0 + m
                            run_tile(
                                number, vectors, a, offsets.ctypes.data + i * ROWS * 8,
                                panel + m * size, steps.ctypes.data + step * 16, count,
                                zeros.ctypes.data, sums.ctypes.data + c * size, M * size, ROWS,
                                whole.ctypes.data, add, False,
                            )  # fmt: skip


@kernel
def combine(sums: Array, rows: Array, gw: Array) -> None:
    """gw[g, m, k] = the sum over parts of sums[part, g, row of k, m], in their order.

    ``rows`` (K,): bytes from the first row to the row of k.
    """
    parts, _, height, width = sums.shape
    G, M, K = gw.shape
    number, size = gw[0, 0, 0], gw.itemsize
    lanes = VECTOR_BYTES // size
    blocks = width // lanes
    for task in prange(G * blocks):
        g, m = int64(task) // blocks, int64(task) % blocks * lanes
        zeros = np.zeros(lanes, gw.dtype)
        for row in range(height):
            for part in range(1, parts):
                for lane in range(uint64(m), uint64(m + lanes)):
                    sums[0, g, row, lane] += sums[part, g, row, lane]
        source = sums.ctypes.data + (g * height * width + m) * size
        for k in range(0, K, lanes):
            finish(
                number, source, rows.ctypes.data + k * 8, K - k, M - m,
                gw.ctypes.data + ((g * M + m) * K + k) * size, K * size, zeros.ctypes.data, False,
            )  # fmt: skip
