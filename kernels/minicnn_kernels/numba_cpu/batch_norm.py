"""Batch normalisation, alone and fused with what follows it: an addition, ReLU, max pooling.

Normalising is a few operations on each number, so its time is that of the memory it crosses. In
training a map is read twice in each direction: for the sums of its channels, and to apply them. All
else happens on the way: the sum with a skip connection and ReLU while a number is in a register,
and backward computes again where ReLU passed instead of reading its result.

The sums are taken plane by plane (n, c) in float64, each into a cell of its own, and NumPy adds the
N*C cells: always in the same order, whatever the number of threads. A plane is summed about its own
first number, and its squares are moved to the channel's mean afterwards (Chan, Golub & LeVeque
1979):

    var * count = sum over planes of squares + cells * (plane's mean - channel's mean)**2

which needs one crossing and does not cancel as E[x**2] - mean**2 would.

Max pooling comes first where it follows. Within a channel, normalising and ReLU keep the order of
the numbers or turn it round, so the winners are found among the x and only they are normalised: a
quarter of the map for the usual 2x2 window. Backward needs no full-size gradient of the pooling:
the sums run over the winners, and the gradient of a cell that won nothing is that of the statistics
alone.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu.compile import Array, int64, kernel, uint64
from minicnn_kernels.numba_cpu.microkernel import VECTOR_BYTES
from minicnn_kernels.numba_cpu.pooling import covers_two_by_two, select
from minicnn_kernels.numba_cpu.taps import tap_offsets
from minicnn_kernels.numba_cpu.two_by_two import spread_normalised


def batch_norm_statistics(x: Array) -> tuple[Array, Array]:
    """See `Kernels.batch_norm_statistics`."""
    N, C = x.shape[:2]
    cells = x.size // (N * C)
    means, squares = np.empty((N, C)), np.empty((N, C))
    _plane_moments(_planes(x), means.reshape(-1), squares.reshape(-1))
    with np.errstate(all="ignore"):  # an infinity shows in the result
        mean = means.mean(axis=0)
        var = (squares + cells * (means - mean) ** 2).sum(axis=0) / (N * cells)
        return mean.astype(x.dtype), var.astype(x.dtype)


def batch_norm_eval(
    x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
) -> Array:
    """See `Kernels.batch_norm_eval`."""
    y = np.empty(x.shape, x.dtype)
    every = x.dtype.type(-np.inf)
    _normalise(_planes(x), *_affine(w, b, mean, var, eps), _planes(x), False, every, _planes(y))
    return y


def batch_norm_relu(
    x: Array,
    w: Array | None,
    b: Array | None,
    mean: Array,
    var: Array,
    eps: float,
    skip: Array | None,
) -> Array:
    """See `Kernels.batch_norm_relu`."""
    y = np.empty(x.shape, x.dtype)
    added = _planes(x if skip is None else skip)
    zero = x.dtype.type(0)
    affine = _affine(w, b, mean, var, eps)
    _normalise(_planes(x), *affine, added, skip is not None, zero, _planes(y))
    return y


def batch_norm_grad(
    gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_grad`."""
    return _gradients(gy, x, _affine(w, None, mean, var, eps), var, eps, relu=False)


def batch_norm_relu_grad(
    gy: Array, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_relu_grad`."""
    return _gradients(gy, x, _affine(w, b, mean, var, eps), var, eps, relu=True)


def batch_norm_eval_grad(
    gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_eval_grad`."""
    gx, zero = np.empty(gy.shape, gy.dtype), np.zeros(gy.shape[1], gy.dtype)
    affine = _affine(w, None, mean, var, eps)
    every = gy.dtype.type(-np.inf)
    _normalise(_planes(gy), zero, affine[1], zero, _planes(gy), False, every, _planes(gx))
    return gx, *_sums(gy, x, affine, var, eps, relu=False)


def batch_norm_relu_max_pool2d(
    x: Array,
    w: Array | None,
    b: Array | None,
    mean: Array,
    var: Array,
    eps: float,
    window: Window2d,
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_relu_max_pool2d`."""
    signs = np.where(_affine(w, b, mean, var, eps)[1] < 0, -1, 1).astype(x.dtype)
    best, tap = select(x, window, signs)
    return batch_norm_relu(best, w, b, mean, var, eps, None), best, tap


def batch_norm_relu_max_pool2d_grad(
    gy: Array, best: Array, tap: Array, x: Array, w: Array | None, b: Array | None, mean: Array,
    var: Array, eps: float, window: Window2d,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """See `Kernels.batch_norm_relu_max_pool2d_grad`."""
    affine = _affine(w, b, mean, var, eps)
    gw, gb = _sums(gy, best, affine, var, eps, relu=True)
    gx = np.empty(x.shape, x.dtype)
    shares = _shares(affine, gw, gb, x, var, eps)
    sizes = window.h, window.w, window.sh, window.sw, window.oh, window.ow
    winners = _planes(gy), _planes(best), _planes(tap)
    if covers_two_by_two(window):
        _two_by_two_gradient(*winners, _planes(x), *affine, *shares, sizes, _planes(gx))
    else:
        offsets = tap_offsets(window)
        _pooled_gradient(*winners, offsets, _planes(x), *affine, *shares, sizes, _planes(gx))
    return gx, gw, gb


def scale_and_shift(x: Array, scale: Array, shift: Array, relu: bool) -> Array:
    """scale * x + shift for each channel, then ReLU if asked, in the place of x."""
    floor = x.dtype.type(0 if relu else -np.inf)
    planes, zero = _planes(x), np.zeros_like(scale)
    factors = np.ascontiguousarray(scale), np.ascontiguousarray(shift)
    _normalise(planes, zero, *factors, planes, False, floor, planes)
    return x


def _planes(x: Array) -> Array:
    """x (N, C, ...) as contiguous (N*C, cells)."""
    N, C = x.shape[:2]
    return np.ascontiguousarray(x).reshape(N * C, x.size // max(N * C, 1))


def _affine(
    w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """mean, factor and shift: y = (x - mean) * factor + shift."""
    with np.errstate(all="ignore"):
        factor = (var + eps) ** -0.5
        factor = factor if w is None else factor * w
    shift = np.zeros_like(mean) if b is None else np.ascontiguousarray(b)
    return np.ascontiguousarray(mean), np.ascontiguousarray(factor), shift


def _sums(
    gy: Array, x: Array, affine: tuple[Array, ...], var: Array, eps: float, relu: bool
) -> tuple[Array, Array]:
    """The gradients by w and b: sums of gy * xhat and of gy, behind ReLU where it passed."""
    sums, products = np.empty(x.shape[:2]), np.empty(x.shape[:2])
    _plane_sums(_planes(gy), _planes(x), *affine, not relu, sums.reshape(-1), products.reshape(-1))
    with np.errstate(all="ignore"):
        gw = products.sum(axis=0) * (var + eps) ** -0.5
        return gw.astype(x.dtype), sums.sum(axis=0).astype(x.dtype)


def _shares(
    affine: tuple[Array, ...], gw: Array, gb: Array, x: Array, var: Array, eps: float
) -> tuple[Array, Array]:
    """What each cell of x gives up through the mean, and through the variance for each x - mean."""
    with np.errstate(all="ignore"):
        share = affine[1] / x.dtype.type(x.size // x.shape[1])
        return share * gb, share * gw * (var + eps) ** -0.5


def _gradients(
    gy: Array, x: Array, affine: tuple[Array, ...], var: Array, eps: float, relu: bool
) -> tuple[Array, Array, Array]:
    gw, gb = _sums(gy, x, affine, var, eps, relu)
    gx = np.empty(x.shape, x.dtype)
    shares = _shares(affine, gw, gb, x, var, eps)
    _input_gradient(_planes(gy), _planes(x), *affine, *shares, not relu, _planes(gx))
    return gx, gw, gb


@kernel
def _plane_moments(x: Array, means: Array, squares: Array) -> None:
    planes, cells = x.shape
    for plane in prange(planes):
        first = np.float64(x[plane, 0]) if np.isfinite(x[plane, 0]) else 0.0
        total, square = 0.0, 0.0
        for o in range(cells):
            d = x[plane, o] - first
            total += d
            square += d * d
        means[plane] = first + total / cells
        squares[plane] = square - total * (total / cells)


@kernel
def _normalise(
    x: Array, mean: Array, factor: Array, shift: Array, skip: Array, adds: bool, floor: float,
    y: Array,
) -> None:  # fmt: skip
    planes, cells = x.shape
    for plane in prange(planes):
        c = int64(plane) % len(mean)
        m, f, s = mean[c], factor[c], shift[c]
        if adds:
            for o in range(cells):
                v = (x[plane, o] - m) * f + s + skip[plane, o]
                y[plane, o] = floor if v < floor else v
        else:
            for o in range(cells):
                v = (x[plane, o] - m) * f + s
                y[plane, o] = floor if v < floor else v


@kernel
def _plane_sums(
    gy: Array, x: Array, mean: Array, factor: Array, shift: Array, every: bool, sums: Array,
    products: Array,
) -> None:  # fmt: skip
    planes, cells = x.shape
    for plane in prange(planes):
        c = int64(plane) % len(mean)
        m, f, s = mean[c], factor[c], shift[c]
        total, product = 0.0, 0.0
        for o in range(cells):
            centred = x[plane, o] - m
            g = gy[plane, o] if (centred * f + s > 0) | every else gy.dtype.type(0)
            total += g
            product += g * centred
        sums[plane] = total
        products[plane] = product


@kernel
def _input_gradient(
    gy: Array, x: Array, mean: Array, factor: Array, shift: Array, by_mean: Array, by_var: Array,
    every: bool, gx: Array,
) -> None:  # fmt: skip
    planes, cells = x.shape
    for plane in prange(planes):
        c = int64(plane) % len(mean)
        m, f, s, all_lose, lose = mean[c], factor[c], shift[c], by_mean[c], by_var[c]
        for o in range(cells):
            centred = x[plane, o] - m
            g = gy[plane, o] if (centred * f + s > 0) | every else gy.dtype.type(0)
            gx[plane, o] = f * g - (all_lose + lose * centred)


@kernel
def _pooled_gradient(
    gy: Array, best: Array, tap: Array, offsets: Array, x: Array, mean: Array, factor: Array,
    shift: Array, by_mean: Array, by_var: Array, sizes: tuple[int, ...], gx: Array,
) -> None:  # fmt: skip
    H, W, SH, SW, OH, OW = sizes
    planes, cells = x.shape
    for plane in prange(planes):
        c = int64(plane) % len(mean)
        m, f, s, all_lose, lose = mean[c], factor[c], shift[c], by_mean[c], by_var[c]
        for o in range(cells):
            gx[plane, o] = -(all_lose + lose * (x[plane, o] - m))
        for oh in range(OH):
            for ow in range(OW):
                o = uint64(oh * OW + ow)
                k = uint64(tap[plane, o])
                row, column = oh * SH + offsets[0, k], ow * SW + offsets[1, k]
                if (best[plane, o] - m) * f + s > 0 and 0 <= row < H and 0 <= column < W:
                    gx[plane, uint64(row * W + column)] += f * gy[plane, o]


@kernel
def _two_by_two_gradient(
    gy: Array, best: Array, tap: Array, x: Array, mean: Array, factor: Array, shift: Array,
    by_mean: Array, by_var: Array, sizes: tuple[int, ...], gx: Array,
) -> None:  # fmt: skip
    _, W, _, _, OH, OW = sizes
    planes, cells = x.shape
    size = x.itemsize
    lanes = VECTOR_BYTES // size
    for plane in prange(planes):
        c = int64(plane) % len(mean)
        channel = mean[c], factor[c], shift[c], by_mean[c], by_var[c]
        for oh in range(OH):
            at, to = (int64(plane) * OH + oh) * OW, (int64(plane) * cells + 2 * oh * W) * size
            for o in range(0, OW, lanes):
                x_row = x.ctypes.data + to + 2 * o * size
                gx_row = gx.ctypes.data + to + 2 * o * size
                place = (at + o) * size
                spread_normalised(
                    x[0, 0], gy.ctypes.data + place, best.ctypes.data + place,
                    tap.ctypes.data + at + o, OW - o,
                    (x_row, x_row + W * size, gx_row, gx_row + W * size), channel,
                )  # fmt: skip
