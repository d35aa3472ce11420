"""im2col and its transpose: one thread an output, and gather in the place of scatter.

``im2col`` copies: each number of the result comes from one cell of the map, or from the padding. So
each thread takes one number of the result, works out which cell that is, and fetches it. Several
threads read the same cell, which is harmless.

``col2im`` is defined the other way round: every number of the columns is *added* to the cell that
it came from, and in overlapping windows many meet in one cell. Threads that take a number each and
add it to its cell would race: two read the old sum, both add, both write, and one of the additions
is lost. An atomic addition would save it, but floating-point sums depend on their order, and the
order of atomic additions changes from run to run. So the question is turned round. Each thread
takes one *cell* and asks, tap by tap, which window reads it there:

    row = oh * stride - padding + tap * dilation     so     oh = (row + padding - tap * dilation)
                                                                  / stride

if that leaves no rest and is a row of the output (`output_of`). It gathers those numbers and adds
them up alone, in the order of the taps. No two threads write to one cell, nothing is lost, and the
bits are the same every time. All gradients of this set are gathers of this kind.
"""

from __future__ import annotations

from numba import cuda

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cuda.device import ZERO, Array, device_function, empty, launch_for, place


def im2col(x: Array, window: Window2d) -> Array:
    """See `Kernels.im2col`."""
    N, C = x.shape[:2]
    col = empty((N, C, window.kh, window.kw, window.oh, window.ow), x)
    pixels = window.oh * window.ow
    launch_for(col.size, _im2col, x, window, col.reshape(N, C, window.taps, pixels))
    return col


def col2im(col: Array, window: Window2d) -> Array:
    """See `Kernels.col2im`."""
    N, C = col.shape[:2]
    x = empty((N, C, window.h, window.w), col)
    pixels = window.oh * window.ow
    launch_for(x.size, _col2im, col.reshape(N, C, window.taps, pixels), window, x)
    return x


@device_function
def read_padded(x: Array, n: int, c: int, row: int, column: int) -> float:
    """x at that place, or 0 where the place is in the padding."""
    if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
        return x[n, c, row, column]
    return ZERO


@device_function
def output_of(
    position: int, tap: int, stride: int, padding: int, dilation: int, outputs: int
) -> int:
    """Which output reads input ``position`` with its tap ``tap``, along one axis; -1 for none."""
    offset = position + padding - tap * dilation
    if offset < 0 or offset % stride != 0 or offset // stride >= outputs:
        return -1
    return offset // stride


@cuda.jit
def _im2col(x: Array, window: Window2d, col: Array) -> None:
    for element in range(cuda.grid(1), col.size, cuda.gridsize(1)):
        n, c, tap, pixel = place(element, col.shape)
        i, j = tap // window.kw, tap % window.kw
        oh, ow = pixel // window.ow, pixel % window.ow
        row = oh * window.sh - window.ph + i * window.dh
        column = ow * window.sw - window.pw + j * window.dw
        col[n, c, tap, pixel] = read_padded(x, n, c, row, column)


@cuda.jit
def _col2im(col: Array, window: Window2d, x: Array) -> None:
    for cell in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        n, c, row, column = place(cell, x.shape)
        total = ZERO
        for i in range(window.kh):
            oh = output_of(row, i, window.sh, window.ph, window.dh, window.oh)
            if oh >= 0:
                for j in range(window.kw):
                    ow = output_of(column, j, window.sw, window.pw, window.dw, window.ow)
                    if ow >= 0:
                        total += col[n, c, i * window.kw + j, oh * window.ow + ow]
        x[n, c, row, column] = total
