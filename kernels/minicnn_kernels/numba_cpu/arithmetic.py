"""Sums, products and joins of arrays of one shape: as fast as memory, on every thread.

NumPy does these as well as a loop can on one core. But one core does not fill the memory's
bandwidth, so that the sum of a residual block or the joined maps of a dense block gain from two.
Arrays that are broadcast, small or not contiguous stay with NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import prange

from minicnn_kernels.numba_cpu.compile import Array, int64, kernel, uint64

PIECE = 2**16  # bytes that one task of a join copies


def add(a: Array, b: Array) -> Array:
    """See `Kernels.add`; a and b must have one shape and be contiguous, here and below."""
    return _elementwise(_add, a, b)


def subtract(a: Array, b: Array) -> Array:
    """See `Kernels.subtract`."""
    return _elementwise(_subtract, a, b)


def multiply(a: Array, b: Array) -> Array:
    """See `Kernels.multiply`."""
    return _elementwise(_multiply, a, b)


def divide(a: Array, b: Array) -> Array:
    """See `Kernels.divide`."""
    return _elementwise(_divide, a, b)


def concat(arrays: Sequence[Array], axis: int) -> Array:
    """See `Kernels.concat`; the arrays must be contiguous and of one dtype, any one."""
    first = arrays[0]
    axis %= first.ndim
    shape = list(first.shape)
    shape[axis] = sum(a.shape[axis] for a in arrays)
    y = np.empty(shape, first.dtype)
    row, start = math.prod(shape[axis:]) * y.itemsize, 0
    for a in arrays:
        run = math.prod(a.shape[axis:]) * y.itemsize
        if run:
            _copy_runs(_bytes(a), _bytes(y), run, row, start)
        start += run
    return y


def _elementwise(function: Callable[..., None], a: Array, b: Array) -> Array:
    y = np.empty(a.shape, a.dtype)
    function(a.reshape(-1), b.reshape(-1), y.reshape(-1))
    return y


def _bytes(x: Array) -> Any:
    return x.reshape(-1).view(np.uint8)


@kernel
def _add(a: Array, b: Array, y: Array) -> None:
    for i in prange(len(y)):
        y[i] = a[i] + b[i]


@kernel
def _subtract(a: Array, b: Array, y: Array) -> None:
    for i in prange(len(y)):
        y[i] = a[i] - b[i]


@kernel
def _multiply(a: Array, b: Array, y: Array) -> None:
    for i in prange(len(y)):
        y[i] = a[i] * b[i]


@kernel
def _divide(a: Array, b: Array, y: Array) -> None:
    for i in prange(len(y)):
        y[i] = a[i] / b[i]


@kernel
def _copy_runs(source: Array, target: Array, run: int, row: int, start: int) -> None:
    """Run r of ``source`` goes to byte ``start`` of row r of ``target``."""
    pieces = (run + PIECE - 1) // PIECE
    for task in prange(len(source) // run * pieces):
        r, first = int64(task) // pieces, int64(task) % pieces * PIECE
        at, to = uint64(r * run + first), uint64(r * row + start + first)
        for i in range(uint64(min(PIECE, run - first))):
            target[to + i] = source[at + i]
