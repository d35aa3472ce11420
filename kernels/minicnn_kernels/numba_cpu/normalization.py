"""Batch normalisation and local response normalisation.

Batch normalisation crosses the map twice in each direction: once for the sums of each channel, once
to apply them. The sums are taken plane by plane (n, c) in float64, each into a cell of its own, and
NumPy adds the N*C cells: always in the same order, whatever the number of threads.

A plane's squares are summed about the plane's own mean, while it is in the cache, and moved to the
channel's mean afterwards (Chan, Golub & LeVeque 1979):

    var * count = sum over planes of squares + cells * (plane's mean - channel's mean)**2

which needs no second crossing and does not cancel as E[x**2] - mean**2 would.

Local response normalisation takes `BLOCK` neighbouring cells of one image through all channels. It
divides by s**beta, for the usual beta = 0.75 by two square roots, an instruction of the processor.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minicnn_kernels.numba_cpu.compile import Array, helper, int64, kernel, uint64

BLOCK = 64


def batch_norm_train(
    x: Array, w: Array | None, b: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_train`."""
    N, C = x.shape[:2]
    cells = x.size // (N * C)
    means, squares = np.empty((N, C)), np.empty((N, C))
    _plane_moments(_planes(x), means.reshape(-1), squares.reshape(-1))
    with np.errstate(all="ignore"):  # an infinity shows in the result
        mean = means.mean(axis=0)
        var = (squares + cells * (means - mean) ** 2).sum(axis=0) / (N * cells)
        mean, var = mean.astype(x.dtype), var.astype(x.dtype)
    return batch_norm_eval(x, w, b, mean, var, eps), mean, var


def batch_norm_eval(
    x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
) -> Array:
    """See `Kernels.batch_norm_eval`."""
    y = np.empty(x.shape, x.dtype)
    shift = np.zeros_like(mean) if b is None else b
    _scale_shift(_planes(x), *map(_vector, (mean, _factor(w, var, eps), shift)), _planes(y))
    return y


def batch_norm_grad(
    gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_grad`."""
    gw, gb = _gradient_sums(gy, x, mean, var, eps)
    with np.errstate(all="ignore"):
        factor = _factor(w, var, eps)
        share = factor / (x.size // x.shape[1])
        per_channel = mean, factor, share * gb, share * gw * (var + eps) ** -0.5
    gx = np.empty(gy.shape, gy.dtype)
    _input_gradient(_planes(gy), _planes(x), *map(_vector, per_channel), _planes(gx))
    return gx, gw, gb


def batch_norm_eval_grad(
    gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_eval_grad`."""
    gx, zero = np.empty(gy.shape, gy.dtype), np.zeros(gy.shape[1], gy.dtype)
    _scale_shift(_planes(gy), zero, _vector(_factor(w, var, eps)), zero, _planes(gx))
    return gx, *_gradient_sums(gy, x, mean, var, eps)


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


def _planes(x: Array) -> Array:
    """x (N, C, ...) as contiguous (N*C, cells)."""
    N, C = x.shape[:2]
    return np.ascontiguousarray(x).reshape(N * C, x.size // max(N * C, 1))


def _maps(x: Array) -> Array:
    """x (N, C, ...) as contiguous (N, C, cells)."""
    N, C = x.shape[:2]
    return np.ascontiguousarray(x).reshape(N, C, x.size // max(N * C, 1))


def _vector(v: Array) -> Array:
    return np.ascontiguousarray(v)


def _factor(w: Array | None, var: Array, eps: float) -> Array:
    with np.errstate(all="ignore"):
        inv = (var + eps) ** -0.5
        return inv if w is None else inv * w


def _gradient_sums(gy: Array, x: Array, mean: Array, var: Array, eps: float) -> tuple[Array, Array]:
    """The gradients by w and b: sums of gy * xhat and of gy."""
    sums, products = np.empty(x.shape[:2]), np.empty(x.shape[:2])
    _plane_sums(_planes(gy), _planes(x), _vector(mean), sums.reshape(-1), products.reshape(-1))
    with np.errstate(all="ignore"):
        gw = products.sum(axis=0) * (var + eps) ** -0.5
        return gw.astype(x.dtype), sums.sum(axis=0).astype(x.dtype)


@kernel
def _plane_moments(x: Array, means: Array, squares: Array) -> None:
    planes, cells = x.shape
    for plane in prange(planes):
        total, square = 0.0, 0.0
        for o in range(cells):
            total += x[plane, o]
        mean = total / cells
        for o in range(cells):
            square += (x[plane, o] - mean) ** 2
        means[plane] = mean
        squares[plane] = square


@kernel
def _scale_shift(x: Array, mean: Array, factor: Array, shift: Array, y: Array) -> None:
    planes, cells = x.shape
    for plane in prange(planes):
        c = int64(plane) % len(mean)
        for o in range(cells):
            y[plane, o] = (x[plane, o] - mean[c]) * factor[c] + shift[c]


@kernel
def _plane_sums(gy: Array, x: Array, mean: Array, sums: Array, products: Array) -> None:
    planes, cells = x.shape
    for plane in prange(planes):
        c = int64(plane) % len(mean)
        total, product = 0.0, 0.0
        for o in range(cells):
            total += gy[plane, o]
            product += gy[plane, o] * (x[plane, o] - mean[c])
        sums[plane] = total
        products[plane] = product


@kernel
def _input_gradient(
    gy: Array, x: Array, mean: Array, factor: Array, by_mean: Array, by_var: Array, gx: Array
) -> None:
    planes, cells = x.shape
    for plane in prange(planes):
        c = int64(plane) % len(mean)
        for o in range(cells):
            centred = x[plane, o] - mean[c]
            gx[plane, o] = factor[c] * gy[plane, o] - (by_mean[c] + by_var[c] * centred)


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
