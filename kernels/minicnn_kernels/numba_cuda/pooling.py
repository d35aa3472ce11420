"""Pooling: windows forward, and backward the windows that hold a cell.

Forward, a thread takes one output and walks over its window (`winner`): its neighbours in the warp
take the neighbouring windows, so what they read lies together, and overlapping windows find their
numbers in the cache. Cells in the padding are passed over, not read.

Backward, a thread takes one cell of the map and gathers from the outputs whose windows hold it, as
`col2im` does (see columns.py): with windows that overlap, a scatter would race.

A maximum is a choice, and a choice needs rules. The first of equal values wins, and a NaN wins over
every number (it compares as false with everything, itself included, so it has to be asked for).
The winner's tap is written beside the value: the gradient sends each number to the tap that won.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cuda.columns import output_of
from minicnn_kernels.numba_cuda.device import (
    ZERO,
    Array,
    device_function,
    empty,
    launch_for,
    place,
    table,
)
from minicnn_kernels.reference import tap_dtype

LEAST: Any = np.float32(-math.inf)


def max_pool2d(x: Array, window: Window2d) -> tuple[Array, Array]:
    """See `Kernels.max_pool2d`."""
    return _select(x, window, 1.0)


def min_pool2d(x: Array, window: Window2d) -> tuple[Array, Array]:
    """See `Kernels.min_pool2d`. The smallest is the largest of the negatives."""
    return _select(x, window, -1.0)


def max_pool2d_grad(gy: Array, tap: Array, window: Window2d) -> Array:
    """See `Kernels.max_pool2d_grad`."""
    gx = empty((*gy.shape[:2], window.h, window.w), gy)
    launch_for(gx.size, _select_grad, gy, tap, window, gx)
    return gx


def weighted_pool2d(x: Array, taps: Any, scale: Any, window: Window2d) -> Array:
    """See `Kernels.weighted_pool2d`."""
    y = empty((*x.shape[:2], window.oh, window.ow), x)
    launch_for(y.size, _weighted, x, table(taps, x), table(scale, x), window, y)
    return y


def weighted_pool2d_grad(gy: Array, taps: Any, scale: Any, window: Window2d) -> Array:
    """See `Kernels.weighted_pool2d_grad`."""
    gx = empty((*gy.shape[:2], window.h, window.w), gy)
    launch_for(gx.size, _weighted_grad, gy, table(taps, gy), table(scale, gy), window, gx)
    return gx


def _select(x: Array, window: Window2d, sign: float) -> tuple[Array, Array]:
    y = empty((*x.shape[:2], window.oh, window.ow), x)
    tap = empty(y.shape, x, tap_dtype(window))
    launch_for(y.size, _select_window, x, window, sign, y, tap)
    return y, tap


@device_function
def winner(
    x: Array, n: int, c: int, oh: int, ow: int, window: Window2d, sign: float
) -> tuple[float, int]:
    """The cell of the window at (oh, ow) where sign * x is largest: its value in x, and its tap."""
    best, tap, is_first = LEAST, 0, True
    for i in range(window.kh):
        row = oh * window.sh - window.ph + i * window.dh
        if 0 <= row < window.h:
            for j in range(window.kw):
                column = ow * window.sw - window.pw + j * window.dw
                if 0 <= column < window.w:
                    value = sign * x[n, c, row, column]
                    beats = value > best or (value != value and best == best)
                    if is_first or beats:
                        best, tap, is_first = value, i * window.kw + j, False
    return sign * best, tap


@cuda.jit
def _select_window(x: Array, window: Window2d, sign: float, y: Array, tap: Array) -> None:
    for output in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, c, oh, ow = place(output, y.shape)
        best, at = winner(x, n, c, oh, ow, window, sign)
        y[n, c, oh, ow] = best
        tap[n, c, oh, ow] = at


@cuda.jit
def _select_grad(gy: Array, tap: Array, window: Window2d, gx: Array) -> None:
    for cell in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        n, c, row, column = place(cell, gx.shape)
        total = ZERO
        for i in range(window.kh):
            oh = output_of(row, i, window.sh, window.ph, window.dh, window.oh)
            if oh >= 0:
                for j in range(window.kw):
                    ow = output_of(column, j, window.sw, window.pw, window.dw, window.ow)
                    if ow >= 0 and tap[n, c, oh, ow] == i * window.kw + j:
                        total += gy[n, c, oh, ow]
        gx[n, c, row, column] = total


@cuda.jit
def _weighted(x: Array, taps: Array, scale: Array, window: Window2d, y: Array) -> None:
    for output in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, c, oh, ow = place(output, y.shape)
        total = ZERO
        for i in range(window.kh):
            row = oh * window.sh - window.ph + i * window.dh
            if 0 <= row < window.h:
                for j in range(window.kw):
                    column = ow * window.sw - window.pw + j * window.dw
                    if 0 <= column < window.w:
                        total += taps[i, j] * x[n, c, row, column]
        y[n, c, oh, ow] = total * scale[oh, ow]


@cuda.jit
def _weighted_grad(gy: Array, taps: Array, scale: Array, window: Window2d, gx: Array) -> None:
    for cell in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        n, c, row, column = place(cell, gx.shape)
        total = ZERO
        for i in range(window.kh):
            oh = output_of(row, i, window.sh, window.ph, window.dh, window.oh)
            if oh >= 0:
                for j in range(window.kw):
                    ow = output_of(column, j, window.sw, window.pw, window.dw, window.ow)
                    if ow >= 0:
                        total += taps[i, j] * (gy[n, c, oh, ow] * scale[oh, ow])
        gx[n, c, row, column] = total
