"""Softmax, its logarithm and the cross-entropy loss along the last axis: one task for each row.

A row of logits fits the first-level cache, so that a task may cross it several times: for the
largest, the sum of exponentials and the result. All exponents are at most 0 after the shift by the
largest, so nothing overflows. A NaN, or an infinity as the largest, makes its whole row NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from minicnn_kernels.numba_cpu.compile import Array, flat, helper, int64, kernel, uint64
from minicnn_kernels.numba_cpu.exponential import exponential, larger


def softmax(x: Array, axis: int) -> Array:
    """See `Kernels.softmax`; ``axis`` must be the last."""
    return _along_rows(_softmax, x)


def softmax_grad(gy: Array, y: Array, axis: int) -> Array:
    """See `Kernels.softmax_grad`; ``axis`` must be the last."""
    return _along_rows(_softmax_grad, gy, y)


def log_softmax(x: Array, axis: int) -> Array:
    """See `Kernels.log_softmax`; ``axis`` must be the last."""
    return _along_rows(_log_softmax, x)


def log_softmax_grad(gy: Array, y: Array, axis: int) -> Array:
    """See `Kernels.log_softmax_grad`; ``axis`` must be the last."""
    return _along_rows(_log_softmax_grad, gy, y)


def softmax_cross_entropy(x: Array, q: Array) -> tuple[Array, Array]:
    """See `Kernels.softmax_cross_entropy`."""
    N, K = x.shape
    loss, p = np.empty(N, x.dtype), np.empty((N, K), x.dtype)
    _cross_entropy(flat(x, x.size), flat(q, x.size), loss, p.reshape(-1), K)
    return loss, p


def softmax_cross_entropy_grad(gloss: Array, p: Array, q: Array) -> Array:
    """See `Kernels.softmax_cross_entropy_grad`."""
    N, K = p.shape
    gx = np.empty((N, K), p.dtype)
    _cross_entropy_grad(flat(gloss, N), flat(p, p.size), flat(q, p.size), gx.reshape(-1), K)
    return gx


def _along_rows(function: Any, *arrays: Array) -> Array:
    shape = arrays[-1].shape
    result = np.empty(shape, arrays[-1].dtype)
    function(*(flat(a, result.size) for a in arrays), result.reshape(-1), shape[-1])
    return result


@helper
def _largest(x: Array, start: int, end: int) -> float:
    largest = x.dtype.type(-math.inf)
    for i in range(start, end):
        largest = larger(largest, x[i])
    return largest


@helper
def _shift(x: Array, start: int, end: int, y: Array) -> float:
    """Write y = x - largest for a row, and return log(sum(exp(y))).

    y is stored, not kept in an expression: fast-math would turn (x - largest) - log_sum into
    x - (largest + log_sum), which loses the digits that a large shift was to save.
    """
    largest, total = _largest(x, start, end), x.dtype.type(0)
    for i in range(start, end):
        y[i] = x[i] - largest
    for i in range(start, end):
        total += exponential(y[i])
    return x.dtype.type(math.log(total))


@kernel
def _softmax(x: Array, y: Array, K: int) -> None:
    for row in prange(len(x) // K):
        start, end = uint64(int64(row) * K), uint64(int64(row) * K + K)
        largest, total = _largest(x, start, end), x.dtype.type(0)
        for i in range(start, end):
            y[i] = exponential(x[i] - largest)
        for i in range(start, end):
            total += y[i]
        for i in range(start, end):
            y[i] = y[i] / total


@kernel
def _softmax_grad(gy: Array, y: Array, gx: Array, K: int) -> None:
    for row in prange(len(y) // K):
        start, end = uint64(int64(row) * K), uint64(int64(row) * K + K)
        total = y.dtype.type(0)
        for i in range(start, end):
            total += gy[i] * y[i]
        for i in range(start, end):
            gx[i] = y[i] * (gy[i] - total)


@kernel
def _log_softmax(x: Array, y: Array, K: int) -> None:
    for row in prange(len(x) // K):
        start, end = uint64(int64(row) * K), uint64(int64(row) * K + K)
        log_sum = _shift(x, start, end, y)
        for i in range(start, end):
            y[i] = y[i] - log_sum


@kernel
def _log_softmax_grad(gy: Array, y: Array, gx: Array, K: int) -> None:
    for row in prange(len(y) // K):
        start, end = uint64(int64(row) * K), uint64(int64(row) * K + K)
        total = y.dtype.type(0)
        for i in range(start, end):
            total += gy[i]
        for i in range(start, end):
            gx[i] = gy[i] - exponential(y[i]) * total


@kernel
def _cross_entropy(x: Array, q: Array, loss: Array, p: Array, K: int) -> None:
    zero = x.dtype.type(0)
    for row in prange(len(loss)):
        start, end = uint64(int64(row) * K), uint64(int64(row) * K + K)
        log_sum, total = _shift(x, start, end, p), zero
        for i in range(start, end):
            log_p = p[i] - log_sum
            p[i] = exponential(log_p)
            total += zero if q[i] == 0 else q[i] * log_p
        loss[row] = -total


@kernel
def _cross_entropy_grad(gloss: Array, p: Array, q: Array, gx: Array, K: int) -> None:
    for row in prange(len(gloss)):
        start, end = uint64(int64(row) * K), uint64(int64(row) * K + K)
        total = p.dtype.type(0)
        for i in range(start, end):
            total += q[i]
        for i in range(start, end):
            gx[i] = gloss[row] * (p[i] * total - q[i])
