"""Adaptive pooling: bins whose edges each thread works out for itself.

Bin i of B over L cells is [floor(i*L/B), ceil((i+1)*L/B)). Tables of the edges would have to be
brought to the device; two integer divisions are cheaper. Neighbouring bins may share a cell, so the
gradients are gathers again: cell l lies in the bins

    floor(l*B/L)  to  ceil((l+1)*B/L) - 1

which is the same rule with cells and bins exchanged (`first` and `end` serve both).
"""

from __future__ import annotations

from numba import cuda, float32

from minicnn_kernels.numba_cuda.device import (
    ZERO,
    Array,
    device_function,
    empty,
    launch_for,
    place,
)


def adaptive_avg_pool2d(x: Array, output_size: tuple[int, int]) -> Array:
    """See `Kernels.adaptive_avg_pool2d`."""
    y = empty((*x.shape[:2], *output_size), x)
    launch_for(y.size, _average, x, y)
    return y


def adaptive_avg_pool2d_grad(gy: Array, size: tuple[int, int]) -> Array:
    """See `Kernels.adaptive_avg_pool2d_grad`."""
    gx = empty((*gy.shape[:2], *size), gy)
    launch_for(gx.size, _average_grad, gy, gx)
    return gx


def adaptive_max_pool2d(x: Array, output_size: tuple[int, int]) -> tuple[Array, Array]:
    """See `Kernels.adaptive_max_pool2d`."""
    y = empty((*x.shape[:2], *output_size), x)
    position = empty(y.shape, x, "int32")
    launch_for(y.size, _largest, x, y, position)
    return y, position


def adaptive_max_pool2d_grad(gy: Array, position: Array, size: tuple[int, int]) -> Array:
    """See `Kernels.adaptive_max_pool2d_grad`."""
    gx = empty((*gy.shape[:2], *size), gy)
    launch_for(gx.size, _largest_grad, gy, position, gx)
    return gx


@device_function
def first(i: int, length: int, bins: int) -> int:
    """The first cell of bin i, where ``bins`` bins share ``length`` cells."""
    return i * length // bins


@device_function
def end(i: int, length: int, bins: int) -> int:
    """The cell behind the last one of bin i."""
    return ((i + 1) * length + bins - 1) // bins


@cuda.jit
def _average(x: Array, y: Array) -> None:
    _, _, H, W = x.shape
    _, _, OH, OW = y.shape
    for output in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, c, oh, ow = place(output, y.shape)
        top, bottom = first(oh, H, OH), end(oh, H, OH)
        left, right = first(ow, W, OW), end(ow, W, OW)
        total = ZERO
        for row in range(top, bottom):
            for column in range(left, right):
                total += x[n, c, row, column]
        y[n, c, oh, ow] = total / float32((bottom - top) * (right - left))


@cuda.jit
def _average_grad(gy: Array, gx: Array) -> None:
    _, _, H, W = gx.shape
    _, _, OH, OW = gy.shape
    for cell in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        n, c, row, column = place(cell, gx.shape)
        total = ZERO
        for oh in range(first(row, OH, H), end(row, OH, H)):
            rows = end(oh, H, OH) - first(oh, H, OH)
            for ow in range(first(column, OW, W), end(column, OW, W)):
                columns = end(ow, W, OW) - first(ow, W, OW)
                total += gy[n, c, oh, ow] / float32(rows * columns)
        gx[n, c, row, column] = total


@cuda.jit
def _largest(x: Array, y: Array, position: Array) -> None:
    _, _, H, W = x.shape
    _, _, OH, OW = y.shape
    for output in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, c, oh, ow = place(output, y.shape)
        top, left = first(oh, H, OH), first(ow, W, OW)
        best, at = x[n, c, top, left], top * W + left
        for row in range(top, end(oh, H, OH)):
            for column in range(left, end(ow, W, OW)):
                value = x[n, c, row, column]
                if value > best or (value != value and best == best):
                    best, at = value, row * W + column
        y[n, c, oh, ow] = best
        position[n, c, oh, ow] = at


@cuda.jit
def _largest_grad(gy: Array, position: Array, gx: Array) -> None:
    _, _, H, W = gx.shape
    _, _, OH, OW = gy.shape
    for cell in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        n, c, row, column = place(cell, gx.shape)
        total = ZERO
        for oh in range(first(row, OH, H), end(row, OH, H)):
            for ow in range(first(column, OW, W), end(column, OW, W)):
                if position[n, c, oh, ow] == row * W + column:
                    total += gy[n, c, oh, ow]
        gx[n, c, row, column] = total
