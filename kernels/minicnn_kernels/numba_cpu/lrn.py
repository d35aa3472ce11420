"""Local response normalisation: `BLOCK` neighbouring cells of one image through all channels.

It divides by s**beta, for the usual beta = 0.75 by two square roots, an instruction of the
processor.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minicnn_kernels.numba_cpu.compile import Array, helper, int64, kernel, uint64

BLOCK = 64


def local_response_norm(
    x: Array, size: int, alpha: float, beta: float, k: float
) -> tuple[Array, Array]:
    """See `Kernels.local_response_norm`."""
    y, s = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    alpha, beta, k = map(x.dtype.type, (alpha, beta, k))
    before, after = size // 2, (size - 1) // 2
    _local_response_norm(_maps(x), before, after, alpha, beta, k, _maps(y), _maps(s))
    return y, s


def local_response_norm_grad(
    gy: Array, x: Array, s: Array, size: int, alpha: float, beta: float
) -> Array:
    """See `Kernels.local_response_norm_grad`."""
    gx = np.empty(x.shape, x.dtype)
    twice, beta = x.dtype.type(2 * alpha * beta), x.dtype.type(beta)
    before, after = (size - 1) // 2, size // 2  # the channels whose window holds this one
    _local_response_norm_grad(_maps(gy), _maps(x), _maps(s), before, after, twice, beta, _maps(gx))
    return gx


def _maps(x: Array) -> Array:
    """x (N, C, ...) as contiguous (N, C, cells)."""
    N, C = x.shape[:2]
    return np.ascontiguousarray(x).reshape(N, C, x.size // max(N * C, 1))


@helper
def _power(s: float, beta: float) -> float:
    if beta == 0.75:
        root = np.sqrt(s)
        return root * np.sqrt(root)
    return s**beta


@kernel
def _local_response_norm(
    x: Array, before: int, after: int, alpha: float, beta: float, k: float, y: Array, s: Array
) -> None:
    N, C, cells = x.shape
    blocks = (cells + BLOCK - 1) // BLOCK
    for task in prange(N * blocks):
        n, start = int64(task) // blocks, int64(task) % blocks * BLOCK
        first, end = uint64(start), uint64(min(start + BLOCK, cells))
        for c in range(C):
            for o in range(first, end):
                s[n, c, o] = 0
            for d in range(max(c - before, 0), min(c + after + 1, C)):
                for o in range(first, end):
                    s[n, c, o] += x[n, d, o] * x[n, d, o]
            for o in range(first, end):
                s[n, c, o] = k + alpha * s[n, c, o]
                y[n, c, o] = x[n, c, o] / _power(s[n, c, o], beta)


@kernel
def _local_response_norm_grad(
    gy: Array, x: Array, s: Array, before: int, after: int, twice: float, beta: float, gx: Array
) -> None:
    N, C, cells = x.shape
    blocks = (cells + BLOCK - 1) // BLOCK
    for task in prange(N * blocks):
        n, start = int64(task) // blocks, int64(task) % blocks * BLOCK
        first, count = uint64(start), uint64(min(BLOCK, cells - start))
        direct, inner = np.empty((C, BLOCK), x.dtype), np.empty((C, BLOCK), x.dtype)
        for c in range(C):
            for o in range(count):
                direct[c, o] = gy[n, c, first + o] / _power(s[n, c, first + o], beta)
                inner[c, o] = direct[c, o] * x[n, c, first + o] / s[n, c, first + o]
        for c in range(C):
            for o in range(count):
                gx[n, c, first + o] = 0
            for d in range(max(c - before, 0), min(c + after + 1, C)):
                for o in range(count):
                    gx[n, c, first + o] += inner[d, o]
            for o in range(count):
                at = first + o
                gx[n, c, at] = direct[c, o] - twice * x[n, c, at] * gx[n, c, at]
