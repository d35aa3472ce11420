"""Convolution as a matrix product whose second matrix is never written: implicit GEMM.

A convolution is the product of the weights with the columns of `im2col` (see columns.py):

    y       (F, pixels)       =  w    (F, C*KH*KW)       @  col  (C*KH*KW, pixels)
    grad x  (C, cells)        =  w^T  (C, F*KH*KW)       @  gy as the cells' taps saw it
    grad w  (F, C*KH*KW)      =  gy   (F, pixels)        @  col^T

where ``pixels`` counts the outputs of all images. The columns hold each number of x KH*KW times, 9
times for a 3x3 kernel, and writing and reading them costs more time than the product itself. But a
tiled product (see linear.py) looks at them one tile at a time, and a thread that fetches a number
of the tile can as well work out where in x that number is, and fetch it from there. So the columns
exist only as a few tiles in shared memory. The price is integer arithmetic for each fetch: row k
of the columns is channel k // (KH*KW) and tap k % (KH*KW).

The three kernels differ in what their two tiles hold, and in nothing else.

The product of the weight gradient has few results, and each is a sum over all pixels of the batch:
too few blocks with too much work each. So the pixels are cut into slices, each with blocks and a
partial result of its own, and a second launch adds the slices in order (see reduction.py).

Groups are independent convolutions, numbered by ``blockIdx.z``. With one channel a group most of a
tile is empty. That is the price of one kernel for every shape.
"""

from __future__ import annotations

from numba import cuda, float32

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cuda.columns import output_of, read_padded
from minicnn_kernels.numba_cuda.device import (
    TILE,
    ZERO,
    Array,
    device_function,
    empty,
    launch,
    slices,
    tiles,
)
from minicnn_kernels.numba_cuda.linear import multiply_tiles
from minicnn_kernels.numba_cuda.reduction import add_slices, channel_sums


def conv2d(x: Array, w: Array, b: Array | None, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d`."""
    return conv2d_affine(x, w, None, b, window, groups, False)


def conv2d_affine(
    x: Array, w: Array, scale: Array | None, shift: Array | None, window: Window2d, groups: int,
    relu: bool,
) -> Array:  # fmt: skip
    """See `Kernels.conv2d_affine`."""
    F = w.shape[0]
    y = empty((x.shape[0], F, window.oh, window.ow), x)
    grid = tiles(y.shape[0] * window.oh * window.ow), tiles(F // groups), groups
    launch(_forward, grid, (TILE, TILE), x, w, scale, shift, window, bool(relu), y)
    return y


def conv2d_grad_input(gy: Array, w: Array, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d_grad_input`."""
    C = w.shape[1] * groups
    gx = empty((gy.shape[0], C, window.h, window.w), gy)
    grid = tiles(gx.shape[0] * window.h * window.w), tiles(w.shape[1]), groups
    launch(_grad_input, grid, (TILE, TILE), gy, w, window, gx)
    return gx


def conv2d_grad_weight(gy: Array, x: Array, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d_grad_weight`."""
    F, C = gy.shape[1], x.shape[1] // groups
    row_tiles, column_tiles = tiles(F // groups), tiles(C * window.taps)
    count = slices(row_tiles * column_tiles * groups, gy.shape[0] * window.oh * window.ow)
    partial = empty((count, F, C * window.taps), gy)
    grid = row_tiles * column_tiles, count, groups
    launch(_grad_weight, grid, (TILE, TILE), gy, x, window, partial)
    return add_slices(partial.reshape(count, F * C * window.taps)).reshape(
        F, C, window.kh, window.kw
    )


def conv2d_grad_bias(gy: Array) -> Array:
    """See `Kernels.conv2d_grad_bias`."""
    return channel_sums(gy)


@device_function
def _column_value(x: Array, c: int, tap: int, pixel: int, window: Window2d) -> float:
    """What `im2col` would write for that channel, tap and pixel of the batch."""
    n, oh, ow = pixel // (window.oh * window.ow), pixel // window.ow % window.oh, pixel % window.ow
    row = oh * window.sh - window.ph + tap // window.kw * window.dh
    column = ow * window.sw - window.pw + tap % window.kw * window.dw
    return read_padded(x, n, c, row, column)


@device_function
def _upstream(gy: Array, f: int, tap: int, cell: int, window: Window2d) -> float:
    """gy of the output that read that cell of the batch with that tap, or 0 where none did."""
    n, row, column = cell // (window.h * window.w), cell // window.w % window.h, cell % window.w
    oh = output_of(row, tap // window.kw, window.sh, window.ph, window.dh, window.oh)
    ow = output_of(column, tap % window.kw, window.sw, window.pw, window.dw, window.ow)
    return gy[n, f, oh, ow] if oh >= 0 and ow >= 0 else ZERO


@cuda.jit
def _forward(
    x: Array, w: Array, scale: Array, shift: Array, window: Window2d, relu: bool, y: Array
) -> None:
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    row, column = cuda.threadIdx.y, cuda.threadIdx.x
    C, taps = w.shape[1], window.kh * window.kw
    filters = y.shape[1] // cuda.gridDim.z  # of one group
    pixels = y.shape[0] * window.oh * window.ow
    pixel, in_group = cuda.blockIdx.x * TILE + column, cuda.blockIdx.y * TILE + row
    f, first_channel = cuda.blockIdx.z * filters + in_group, cuda.blockIdx.z * C
    total = ZERO
    for start in range(0, C * taps, TILE):
        left[row, column] = ZERO
        k = start + column
        if in_group < filters and k < C * taps:
            tap = k % taps
            left[row, column] = w[f, k // taps, tap // window.kw, tap % window.kw]
        right[row, column] = ZERO
        k = start + row
        if pixel < pixels and k < C * taps:
            c = first_channel + k // taps
            right[row, column] = _column_value(x, c, k % taps, pixel, window)
        cuda.syncthreads()
        total = multiply_tiles(left, right, row, column, total)
        cuda.syncthreads()
    if in_group < filters and pixel < pixels:
        if scale.size > 0:
            total *= scale[f]
        if shift.size > 0:
            total += shift[f]
        if relu and total <= ZERO:
            total = ZERO
        n, rest = pixel // (window.oh * window.ow), pixel % (window.oh * window.ow)
        y[n, f, rest // window.ow, rest % window.ow] = total


@cuda.jit
def _grad_input(gy: Array, w: Array, window: Window2d, gx: Array) -> None:
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    row, column = cuda.threadIdx.y, cuda.threadIdx.x
    C, taps = w.shape[1], window.kh * window.kw
    filters = w.shape[0] // cuda.gridDim.z
    cells = gx.shape[0] * window.h * window.w
    cell, c = cuda.blockIdx.x * TILE + column, cuda.blockIdx.y * TILE + row
    first_filter = cuda.blockIdx.z * filters
    total = ZERO
    for start in range(0, filters * taps, TILE):
        left[row, column] = ZERO
        k = start + column
        if c < C and k < filters * taps:
            tap = k % taps
            left[row, column] = w[first_filter + k // taps, c, tap // window.kw, tap % window.kw]
        right[row, column] = ZERO
        k = start + row
        if cell < cells and k < filters * taps:
            f = first_filter + k // taps
            right[row, column] = _upstream(gy, f, k % taps, cell, window)
        cuda.syncthreads()
        total = multiply_tiles(left, right, row, column, total)
        cuda.syncthreads()
    if c < C and cell < cells:
        n, rest = cell // (window.h * window.w), cell % (window.h * window.w)
        gx[n, cuda.blockIdx.z * C + c, rest // window.w, rest % window.w] = total


@cuda.jit
def _grad_weight(gy: Array, x: Array, window: Window2d, partial: Array) -> None:
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    row, column = cuda.threadIdx.y, cuda.threadIdx.x
    _, F, columns = partial.shape
    filters, taps = F // cuda.gridDim.z, window.kh * window.kw
    area, pixels = window.oh * window.ow, gy.shape[0] * window.oh * window.ow
    across = (columns + TILE - 1) // TILE
    in_group = cuda.blockIdx.x // across * TILE + row
    k = cuda.blockIdx.x % across * TILE + column
    f, s = cuda.blockIdx.z * filters + in_group, cuda.blockIdx.y
    c = cuda.blockIdx.z * (columns // taps) + k // taps
    total = ZERO
    for start in range(s * TILE, pixels, TILE * cuda.gridDim.y):
        left[row, column] = ZERO
        pixel = start + column
        if in_group < filters and pixel < pixels:
            rest = pixel % area
            left[row, column] = gy[pixel // area, f, rest // window.ow, rest % window.ow]
        right[row, column] = ZERO
        pixel = start + row
        if k < columns and pixel < pixels:
            right[row, column] = _column_value(x, c, k % taps, pixel, window)
        cuda.syncthreads()
        total = multiply_tiles(left, right, row, column, total)
        cuda.syncthreads()
    if in_group < filters and k < columns:
        partial[s, f, k] = total
