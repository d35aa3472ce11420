"""Softmax and cross-entropy: one block a row, three passes over it.

A row needs its largest number, then the sum of the exponentials, then the division. The threads of
a block share the row: thread t takes elements t, t + ROW, t + 2*ROW, and so on, and after each pass
the block brings its threads' numbers together (`_over_row`, a tree as in reduction.py, of sums or
of maxima). A block has only the 32 threads of one warp: rows are short, ten classes or a thousand,
and there are as many blocks as rows.

The row is shifted by its maximum, so that the largest exponential is 1 and none overflows. A NaN is
no maximum (no comparison with it holds), but it reaches every number of its row through the sum.

Kernels call `_over_row` themselves, not through another function: numba-cuda 0.30 links a function
twice that a kernel reaches by two ways, and NVVM refuses to define its shared memory twice.

A softmax may run along any axis. Seen as (outer, length, inner) every array has it in the middle,
and neighbouring rows of blocks are then neighbours in memory too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32

from minicnn_kernels.numba_cuda.device import (
    SIMULATED,
    ZERO,
    Array,
    device_function,
    empty,
    launch,
)

ROW = 4 if SIMULATED else 32  # threads that share a row
LEAST: Any = np.float32(-math.inf)


def softmax(x: Array, axis: int) -> Array:
    """See `Kernels.softmax`."""
    return _softmax(x, axis, False)


def log_softmax(x: Array, axis: int) -> Array:
    """See `Kernels.log_softmax`."""
    return _softmax(x, axis, True)


def softmax_grad(gy: Array, y: Array, axis: int) -> Array:
    """See `Kernels.softmax_grad`."""
    return _softmax_grad(gy, y, axis, False)


def log_softmax_grad(gy: Array, y: Array, axis: int) -> Array:
    """See `Kernels.log_softmax_grad`."""
    return _softmax_grad(gy, y, axis, True)


def softmax_cross_entropy(x: Array, q: Array) -> tuple[Array, Array]:
    """See `Kernels.softmax_cross_entropy`."""
    loss, p = empty(x.shape[0], x), empty(x.shape, x)
    launch(_cross_entropy, x.shape[0], ROW, _rows(x, 1), q, loss, p)
    return loss, p


def softmax_cross_entropy_grad(gloss: Array, p: Array, q: Array) -> Array:
    """See `Kernels.softmax_cross_entropy_grad`."""
    gx = empty(p.shape, p)
    launch(_cross_entropy_grad, p.shape[0], ROW, gloss, p, q, gx)
    return gx


def _softmax(x: Array, axis: int, is_log: bool) -> Array:
    y = empty(x.shape, x)
    rows = _rows(x, axis)
    launch(_forward, rows.shape[0] * rows.shape[2], ROW, rows, is_log, _rows(y, axis))
    return y


def _softmax_grad(gy: Array, y: Array, axis: int, is_log: bool) -> Array:
    gx = empty(y.shape, y)
    rows = _rows(y, axis)
    count = rows.shape[0] * rows.shape[2]
    launch(_backward, count, ROW, _rows(gy, axis), rows, is_log, _rows(gx, axis))
    return gx


def _rows(x: Array, axis: int) -> Array:
    """x as (outer, length, inner) with the axis in the middle, sharing its memory."""
    axis %= x.ndim
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    return x.reshape(outer, x.shape[axis], inner)


@device_function
def _over_row(value: float, is_sum: bool) -> float:
    """The sum, or the largest, of ``value`` over the threads of the row."""
    numbers = cuda.shared.array(ROW, float32)
    thread = cuda.threadIdx.x
    numbers[thread] = value
    cuda.syncthreads()
    half = ROW // 2
    while half > 0:
        if thread < half:
            mine, other = numbers[thread], numbers[thread + half]
            if is_sum:
                numbers[thread] = mine + other
            elif other > mine:
                numbers[thread] = other
        cuda.syncthreads()
        half //= 2
    result = numbers[0]
    cuda.syncthreads()  # none may write its next number before all have read this one
    return result


@device_function
def _own_largest(x: Array, o: int, i: int) -> float:
    """The largest of this thread's numbers of row (o, i)."""
    largest = LEAST
    for k in range(cuda.threadIdx.x, x.shape[1], ROW):
        if x[o, k, i] > largest:
            largest = x[o, k, i]
    return largest


@device_function
def _own_sum(x: Array, o: int, i: int, largest: float) -> float:
    """The sum of exp(number - largest) over this thread's numbers of row (o, i)."""
    total = ZERO
    for k in range(cuda.threadIdx.x, x.shape[1], ROW):
        total += math.exp(x[o, k, i] - largest)
    return total


@cuda.jit
def _forward(x: Array, is_log: bool, y: Array) -> None:
    o, i = cuda.blockIdx.x // x.shape[2], cuda.blockIdx.x % x.shape[2]
    largest = _over_row(_own_largest(x, o, i), False)
    total = _over_row(_own_sum(x, o, i, largest), True)
    for k in range(cuda.threadIdx.x, x.shape[1], ROW):
        shifted = x[o, k, i] - largest
        y[o, k, i] = shifted - math.log(total) if is_log else math.exp(shifted) / total


@cuda.jit
def _backward(gy: Array, y: Array, is_log: bool, gx: Array) -> None:
    o, i = cuda.blockIdx.x // y.shape[2], cuda.blockIdx.x % y.shape[2]
    total = ZERO
    for k in range(cuda.threadIdx.x, y.shape[1], ROW):
        total += gy[o, k, i] if is_log else gy[o, k, i] * y[o, k, i]
    total = _over_row(total, True)
    for k in range(cuda.threadIdx.x, y.shape[1], ROW):
        if is_log:
            gx[o, k, i] = gy[o, k, i] - math.exp(y[o, k, i]) * total
        else:
            gx[o, k, i] = y[o, k, i] * (gy[o, k, i] - total)


@cuda.jit
def _cross_entropy(x: Array, q: Array, loss: Array, p: Array) -> None:
    n = cuda.blockIdx.x
    largest = _over_row(_own_largest(x, n, 0), False)
    total = _over_row(_own_sum(x, n, 0, largest), True)
    missed = ZERO
    for k in range(cuda.threadIdx.x, x.shape[1], ROW):
        log_p = x[n, k, 0] - largest - math.log(total)
        p[n, k] = math.exp(log_p)
        if q[n, k] != ZERO:
            missed -= q[n, k] * log_p
    missed = _over_row(missed, True)
    if cuda.threadIdx.x == 0:
        loss[n] = missed


@cuda.jit
def _cross_entropy_grad(gloss: Array, p: Array, q: Array, gx: Array) -> None:
    n = cuda.blockIdx.x
    total = ZERO
    for k in range(cuda.threadIdx.x, q.shape[1], ROW):
        total += q[n, k]
    total = _over_row(total, True)
    for k in range(cuda.threadIdx.x, q.shape[1], ROW):
        gx[n, k] = gloss[n] * (p[n, k] * total - q[n, k])
