"""im2col and its transpose col2im.

A column matrix has one row for each (channel, tap) and one column for each window; each image has a
matrix of its own. `im2col` takes one row as a task. `col2im` takes one plane (n, c) of the map and
*gathers* from the KH*KW rows of its channel: overlapping windows add up in one thread, and the
plane stays in the cache meanwhile.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu.compile import Array, flat, int64, kernel, uint64
from minicnn_kernels.numba_cpu.taps import Steps, rectangles, steps


def im2col(x: Array, window: Window2d) -> Array:
    """See `Kernels.im2col`."""
    N, C = x.shape[:2]
    col = np.empty((N, C, window.kh, window.kw, window.oh, window.ow), x.dtype)
    x = flat(x, N * C * window.h * window.w)
    _im2col(x, rectangles(window), steps(window), N * C, col.reshape(-1))
    return col


def col2im(col: Array, window: Window2d) -> Array:
    """See `Kernels.col2im`."""
    N, C = col.shape[:2]
    gx = np.empty((N, C, window.h, window.w), col.dtype)
    col = flat(col, N * C * window.taps * window.oh * window.ow)
    _col2im(col, rectangles(window), steps(window), N * C, gx.reshape(-1))
    return gx


@kernel
def _im2col(x: Array, taps: Array, steps: Steps, planes: int, col: Array) -> None:
    cells, row_step, column_step, outputs, OW = steps
    for task in prange(planes * len(taps)):
        plane, tap = int64(task) // len(taps), int64(task) % len(taps)
        rows, count, map_start = taps[tap, 0], taps[tap, 1], taps[tap, 2]
        start = int64(task) * outputs
        if rows * count < outputs:
            for o in range(uint64(outputs)):
                col[uint64(start) + o] = 0
        for row in range(rows):
            source = uint64(plane * cells + map_start + row * row_step)
            target = uint64(start + taps[tap, 3] + row * OW)
            for o in range(uint64(count)):
                col[target + o] = x[source + o * uint64(column_step)]


@kernel
def _col2im(col: Array, taps: Array, steps: Steps, planes: int, gx: Array) -> None:
    cells, row_step, column_step, outputs, OW = steps
    for task in prange(planes):
        plane = int64(task)
        for o in range(uint64(cells)):
            gx[uint64(plane * cells) + o] = 0
        for tap in range(len(taps)):
            start = (plane * len(taps) + tap) * outputs + taps[tap, 3]
            for row in range(taps[tap, 0]):
                source = uint64(start + row * OW)
                target = uint64(plane * cells + taps[tap, 2] + row * row_step)
                for o in range(uint64(taps[tap, 1])):
                    gx[target + o * uint64(column_step)] += col[source + o]
