"""im2col, its transpose col2im, and the copy that orders a convolution's images and channels.

A column matrix has one row for each (channel, tap) and one column for each window. Two strides tell
where its numbers lie: number p of row r of image n is at n*image_stride + r*row_stride + p. With
image_stride = rows * OH*OW and row_stride = OH*OW each image has a matrix of its own: the
(N, C, KH, KW, OH, OW) of the contract. With image_stride = OH*OW and row_stride = N * OH*OW the
images lie side by side in one wide matrix, which BLAS multiplies faster than many narrow ones.

`im2col` takes one row of one image as a task. `col2im` takes one plane (n, c) of the map and
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
    rows, outputs = C * window.taps, window.oh * window.ow
    col = np.empty((N, C, window.kh, window.kw, window.oh, window.ow), x.dtype)
    fill_columns(x, window, rows * outputs, outputs, col.reshape(-1))
    return col


def col2im(col: Array, window: Window2d) -> Array:
    """See `Kernels.col2im`."""
    N, C = col.shape[:2]
    rows, outputs = C * window.taps, window.oh * window.ow
    gx = np.empty((N, C, window.h, window.w), col.dtype)
    sum_columns(flat(col, N * rows * outputs), window, rows * outputs, outputs, gx)
    return gx


def fill_columns(
    x: Array, window: Window2d, image_stride: int, row_stride: int, col: Array
) -> None:
    """Write the windows of x (N, C, H, W) into the flat ``col``."""
    N, C = x.shape[:2]
    x = flat(x, N * C * window.h * window.w)
    _im2col(x, rectangles(window), steps(window), N, C, image_stride, row_stride, col)


def sum_columns(
    col: Array, window: Window2d, image_stride: int, row_stride: int, gx: Array
) -> None:
    """Write the sums of the flat ``col`` over its windows into gx (N, C, H, W)."""
    N, C = gx.shape[:2]
    gx = gx.reshape(N * C * window.h * window.w)
    _col2im(col, rectangles(window), steps(window), N, C, image_stride, row_stride, gx)


def swap_leading(x: Array, bias: Array | None, out: Array) -> None:
    """out[b, a] = x[a, b] + bias[a] for x (A, B, P) and out (B, A, P); ``bias`` (A,) or None."""
    A, B, P = x.shape
    bias = np.zeros(A, x.dtype) if bias is None else bias
    _swap_leading(flat(x, A * B * P), flat(bias, A), P, out.reshape(A * B * P))


@kernel
def _im2col(
    x: Array,
    taps: Array,
    steps: Steps,
    N: int,
    C: int,
    image_stride: int,
    row_stride: int,
    col: Array,
) -> None:
    cells, row_step, column_step, outputs, OW = steps
    for task in prange(N * C * len(taps)):
        plane, tap = int64(task) // len(taps), int64(task) % len(taps)
        n, c = plane // C, plane % C
        rows, count, map_start, output_start = (
            taps[tap, 0],
            taps[tap, 1],
            taps[tap, 2],
            taps[tap, 3],
        )
        to = n * image_stride + (c * len(taps) + tap) * row_stride
        if rows * count < outputs:
            for o in range(uint64(outputs)):
                col[uint64(to) + o] = 0
        for row in range(rows):
            source = uint64(plane * cells + map_start + row * row_step)
            target = uint64(to + output_start + row * OW)
            for o in range(uint64(count)):
                col[target + o] = x[source + o * uint64(column_step)]


@kernel
def _col2im(
    col: Array,
    taps: Array,
    steps: Steps,
    N: int,
    C: int,
    image_stride: int,
    row_stride: int,
    gx: Array,
) -> None:
    cells, row_step, column_step, _, OW = steps
    for task in prange(N * C):
        plane = int64(task)
        n, c = plane // C, plane % C
        for o in range(uint64(cells)):
            gx[uint64(plane * cells) + o] = 0
        for tap in range(len(taps)):
            start = n * image_stride + (c * len(taps) + tap) * row_stride + taps[tap, 3]
            for row in range(taps[tap, 0]):
                source = uint64(start + row * OW)
                target = uint64(plane * cells + taps[tap, 2] + row * row_step)
                for o in range(uint64(taps[tap, 1])):
                    gx[target + o * uint64(column_step)] += col[source + o]


@kernel
def _swap_leading(x: Array, bias: Array, P: int, out: Array) -> None:
    A = len(bias)
    B = len(x) // (A * P)
    for task in prange(A * B):
        b, a = int64(task) // A, int64(task) % A
        source, target = uint64((a * B + b) * P), uint64((b * A + a) * P)
        for p in range(uint64(P)):
            out[target + p] = x[source + p] + bias[a]
