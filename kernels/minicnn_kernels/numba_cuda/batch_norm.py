"""Batch norm: what one block cannot know alone, and what each thread can.

The statistics of a channel are sums over the whole batch, so they take two launches each (see
reduction.py): the mean first, then the squares of the distances from it. One pass over the sums of
x and of x*x would be faster, and wrong in float32 where a channel's mean is large beside its
spread: the difference of two large sums keeps only the digits in which they differ.

With the statistics at hand, every number of y depends on its own x alone: the grid-stride loop of
elementwise.py, to which ReLU and the sum with a skip connection are added for nothing, as x is read
and y is written anyway. A launch that has no skip connection passes an array of no elements.

The gradient is the same in reverse. Two sums for each channel, of gy and of gy * (x - mean), are
the gradients of b and w; then each thread combines them with its own gy and x.

Behind ReLU the gradient needs to know where y was positive. It is computed again from x: arithmetic
is cheaper than keeping y in memory until then.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cuda.device import (
    ONE,
    ZERO,
    Array,
    channels,
    device_function,
    empty,
    flat,
    launch_for,
    place,
)
from minicnn_kernels.numba_cuda.pooling import max_pool2d_grad, winner
from minicnn_kernels.numba_cuda.reduction import channel_products, channel_squares, channel_sums
from minicnn_kernels.reference import tap_dtype

MINUS_ONE: Any = np.float32(-1)


def batch_norm_statistics(x: Array) -> tuple[Array, Array]:
    """See `Kernels.batch_norm_statistics`."""
    share = x.shape[1] / x.size if x.size else math.nan
    mean = channel_sums(x, share)
    return mean, channel_squares(x, mean, share)


def batch_norm_move(
    running_mean: Array, running_var: Array, mean: Array, var: Array, momentum: float, count: int
) -> None:
    """See `Kernels.batch_norm_move`."""
    numbers = float(momentum), count / (count - 1)
    launch_for(mean.size, _move, running_mean, running_var, mean, var, *numbers)


def batch_norm_eval(
    x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
) -> Array:
    """See `Kernels.batch_norm_eval`."""
    return _normalise(x, w, b, mean, var, eps, None, False)


def batch_norm_relu(
    x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float,
    skip: Array | None,
) -> Array:  # fmt: skip
    """See `Kernels.batch_norm_relu`."""
    return _normalise(x, w, b, mean, var, eps, skip, True)


def batch_norm_relu_max_pool2d(
    x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float,
    window: Window2d,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """See `Kernels.batch_norm_relu_max_pool2d`."""
    y = empty((*x.shape[:2], window.oh, window.ow), x)
    best, tap = empty(y.shape, x), empty(y.shape, x, tap_dtype(window))
    launch_for(y.size, _relu_max_pool2d, x, w, b, mean, var, float(eps), window, y, best, tap)
    return y, best, tap


def batch_norm_eval_grad(
    gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_eval_grad`."""
    return _gradients(gy, x, w, mean, var, eps, False)


def batch_norm_grad(
    gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_grad`."""
    return _gradients(gy, x, w, mean, var, eps, True)


def batch_norm_relu_grad(
    gy: Array, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_relu_grad`."""
    passed = _passed(gy, x, w, b, mean, var, eps)
    return batch_norm_grad(passed, x, w, mean, var, eps)


def batch_norm_relu_max_pool2d_grad(
    gy: Array, best: Array, tap: Array, x: Array, w: Array | None, b: Array | None,
    mean: Array, var: Array, eps: float, window: Window2d,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """See `Kernels.batch_norm_relu_max_pool2d_grad`."""
    passed = max_pool2d_grad(_passed(gy, best, w, b, mean, var, eps), tap, window)
    return batch_norm_grad(passed, x, w, mean, var, eps)


def _normalise(
    x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float,
    skip: Array | None, relu: bool,
) -> Array:  # fmt: skip
    y = empty(x.shape, x)
    statistics = w, b, mean, var, float(eps)
    launch_for(x.size, _forward, channels(x), *statistics, flat(skip), relu, channels(y))
    return y


def _passed(
    gy: Array, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
) -> Array:
    """gy where ReLU passed the normalised x, else 0."""
    passed = empty(x.shape, x)
    statistics = w, b, mean, var, float(eps)
    launch_for(x.size, _relu_grad, channels(gy), channels(x), *statistics, channels(passed))
    return passed


def _gradients(
    gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float, moves: bool
) -> tuple[Array, Array, Array]:
    """The gradients by x, w and b; ``moves`` where the statistics are those of x itself."""
    gx, gb = empty(x.shape, x), channel_sums(gy)
    products = channel_products(gy, x, mean)
    gw = empty(mean.shape, x)
    launch_for(gw.size, _grad_weight, products, var, float(eps), gw)
    share = x.shape[1] / max(x.size, 1) if moves else 0.0
    arguments = w, mean, var, float(eps), gw, gb, share
    launch_for(x.size, _grad_input, channels(gy), channels(x), *arguments, channels(gx))
    return gx, gw, gb


@device_function
def _factor(c: int, w: Array, var: Array, eps: float) -> float:
    """What channel c is multiplied by."""
    inverse = ONE / math.sqrt(var[c] + eps)
    return inverse * w[c] if w.size > 0 else inverse


@device_function
def _normalised(
    value: float, c: int, w: Array, b: Array, mean: Array, var: Array, eps: float
) -> float:
    y = (value - mean[c]) * _factor(c, w, var, eps)
    return y + b[c] if b.size > 0 else y


@device_function
def _place(i: int, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Image, channel and cell of element number i."""
    _, C, cells = shape
    return i // (C * cells), i // cells % C, i % cells


@cuda.jit
def _move(
    running_mean: Array, running_var: Array, mean: Array, var: Array, momentum: float,
    unbiased: float,
) -> None:  # fmt: skip
    for c in range(cuda.grid(1), mean.size, cuda.gridsize(1)):
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_var[c] += momentum * (var[c] * unbiased - running_var[c])


@cuda.jit
def _forward(
    x: Array, w: Array, b: Array, mean: Array, var: Array, eps: float, skip: Array, relu: bool,
    y: Array,
) -> None:  # fmt: skip
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        n, c, cell = _place(i, x.shape)
        value = _normalised(x[n, c, cell], c, w, b, mean, var, eps)
        if skip.size > 0:
            value += skip[i]
        if relu and value <= ZERO:
            value = ZERO
        y[n, c, cell] = value


@cuda.jit
def _relu_max_pool2d(
    x: Array, w: Array, b: Array, mean: Array, var: Array, eps: float, window: Window2d, y: Array,
    best: Array, tap: Array,
) -> None:  # fmt: skip
    for output in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, c, oh, ow = place(output, y.shape)
        sign = MINUS_ONE if _factor(c, w, var, eps) < ZERO else ONE
        value, at = winner(x, n, c, oh, ow, window, sign)
        best[n, c, oh, ow] = value
        tap[n, c, oh, ow] = at
        value = _normalised(value, c, w, b, mean, var, eps)
        y[n, c, oh, ow] = ZERO if value <= ZERO else value


@cuda.jit
def _relu_grad(
    gy: Array, x: Array, w: Array, b: Array, mean: Array, var: Array, eps: float, passed: Array
) -> None:
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        n, c, cell = _place(i, x.shape)
        y = _normalised(x[n, c, cell], c, w, b, mean, var, eps)
        passed[n, c, cell] = gy[n, c, cell] if y > ZERO else ZERO


@cuda.jit
def _grad_weight(products: Array, var: Array, eps: float, gw: Array) -> None:
    for c in range(cuda.grid(1), gw.size, cuda.gridsize(1)):
        gw[c] = products[c] / math.sqrt(var[c] + eps)


@cuda.jit
def _grad_input(
    gy: Array, x: Array, w: Array, mean: Array, var: Array, eps: float, gw: Array, gb: Array,
    share: float, gx: Array,
) -> None:  # fmt: skip
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        n, c, cell = _place(i, x.shape)
        value = gy[n, c, cell]
        if share > ZERO:
            xhat = (x[n, c, cell] - mean[c]) / math.sqrt(var[c] + eps)
            value -= share * (gb[c] + xhat * gw[c])
        gx[n, c, cell] = _factor(c, w, var, eps) * value
