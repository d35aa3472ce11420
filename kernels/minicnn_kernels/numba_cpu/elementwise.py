"""Activations, dropout and optimizer steps: one task for each number, in one pass over memory.

Array code makes a pass over memory, and a temporary array, for each operation; the loops here read
each input once and write each output once. Numba cuts the `prange` into one run for each thread.

Dropout's mask is never stored. Whether run i survives is a hash of the key and i, so each task
computes its own answer, the same one as `Kernels.random_keep`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import prange

from minicnn_kernels.numba_cpu.compile import Array, flat, helper, int64, kernel, uint64
from minicnn_kernels.numba_cpu.exponential import exponential
from minicnn_kernels.reference import Key, Number

BLOCK = 4096  # numbers that one task of dropout takes


def relu(x: Array) -> Array:
    """See `Kernels.relu`."""
    y = np.empty(x.shape, x.dtype)
    _relu(flat(x, x.size), y.reshape(-1))
    return y


def relu_grad(gy: Array, y: Array) -> Array:
    """See `Kernels.relu_grad`."""
    gx = np.empty(y.shape, y.dtype)
    _relu_grad(flat(gy, y.size), flat(y, y.size), gx.reshape(-1))
    return gx


def leaky_relu(x: Array, negative_slope: float) -> Array:
    """See `Kernels.leaky_relu`."""
    return leaky_relu_grad(x, x, negative_slope)


def leaky_relu_grad(gy: Array, x: Array, negative_slope: float) -> Array:
    """See `Kernels.leaky_relu_grad`. With gy = x it is the function itself."""
    gx = np.empty(x.shape, x.dtype)
    slope = x.dtype.type(negative_slope)
    _leaky_relu_grad(flat(gy, x.size), flat(x, x.size), slope, gx.reshape(-1))
    return gx


def sigmoid(x: Array) -> Array:
    """See `Kernels.sigmoid`."""
    y = np.empty(x.shape, x.dtype)
    _sigmoid(flat(x, x.size), y.reshape(-1))
    return y


def sigmoid_grad(gy: Array, y: Array) -> Array:
    """See `Kernels.sigmoid_grad`."""
    gx = np.empty(y.shape, y.dtype)
    _sigmoid_grad(flat(gy, y.size), flat(y, y.size), gx.reshape(-1))
    return gx


def tanh_grad(gy: Array, y: Array) -> Array:
    """See `Kernels.tanh_grad`."""
    gx = np.empty(y.shape, y.dtype)
    _tanh_grad(flat(gy, y.size), flat(y, y.size), gx.reshape(-1))
    return gx


def dropout(x: Array, p: float, key: Key, unit: int) -> Array:
    """See `Kernels.dropout`."""
    if p >= 1.0:
        return np.zeros(x.shape, x.dtype)
    y = np.empty(x.shape, x.dtype)
    scale = x.dtype.type(1.0 / (1.0 - p))
    _dropout(flat(x, x.size), *_threshold(p, key), unit, scale, y.reshape(-1))
    return y


def random_keep(count: int, p: float, key: Key) -> Array:
    """See `Kernels.random_keep`."""
    keep = np.empty(count, np.bool_)
    _random_keep(*_threshold(p, key), keep)
    return keep


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array] | None,
    lr: Number,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """See `Kernels.sgd_step`; ``params`` and ``velocities`` must be contiguous."""
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        number = p.dtype.type
        v = np.empty(0, p.dtype) if velocities is None else velocities[i].reshape(p.size)
        rates = number(lr), number(momentum), number(1.0 - dampening), number(weight_decay)
        _sgd_step(p.reshape(p.size), flat(g, p.size), v, *rates, nesterov)


def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    ms: Sequence[Array],
    vs: Sequence[Array],
    step: Number,
    lr: Number,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """See `Kernels.adam_step`; ``params``, ``ms`` and ``vs`` must be contiguous."""
    rates = (
        lr / (1.0 - betas[0] ** step),
        *betas,
        1.0 - betas[0],
        1.0 - betas[1],
        1.0 - betas[1] ** step,
        eps,
        0.0 if decoupled else weight_decay,
        1.0 - lr * weight_decay if decoupled else 1.0,
    )
    for p, g, m, v in zip(params, grads, ms, vs, strict=True):
        arrays = p.reshape(p.size), flat(g, p.size), m.reshape(p.size), v.reshape(p.size)
        _adam_step(*arrays, np.array(rates, p.dtype))


def _threshold(p: float, key: Key) -> tuple[np.uint64, np.uint64]:
    return np.uint64(round(p * 2**32)), np.uint64(key)


@kernel
def _relu(x: Array, y: Array) -> None:
    for i in prange(len(x)):
        y[i] = 0 if x[i] <= 0 else x[i]  # in this order, NaN stays


@kernel
def _relu_grad(gy: Array, y: Array, gx: Array) -> None:
    for i in prange(len(y)):
        gx[i] = gy[i] if y[i] > 0 else 0


@kernel
def _leaky_relu_grad(gy: Array, x: Array, slope: float, gx: Array) -> None:
    for i in prange(len(x)):
        gx[i] = gy[i] if x[i] > 0 else slope * gy[i]


@kernel
def _sigmoid(x: Array, y: Array) -> None:
    one = x.dtype.type(1)
    for i in prange(len(x)):
        e = exponential(-abs(x[i]))
        y[i] = (e if x[i] < 0 else one) / (one + e)


@kernel
def _sigmoid_grad(gy: Array, y: Array, gx: Array) -> None:
    one = y.dtype.type(1)
    for i in prange(len(y)):
        gx[i] = gy[i] * y[i] * (one - y[i])


@kernel
def _tanh_grad(gy: Array, y: Array, gx: Array) -> None:
    one = y.dtype.type(1)
    for i in prange(len(y)):
        gx[i] = gy[i] * (one - y[i] * y[i])


@helper
def _kept(i: int, threshold: int, key: int) -> bool:
    """SplitMix64 of key + (i + 1) * golden, compared by its upper half."""
    z = (i + uint64(1)) * uint64(0x9E3779B97F4A7C15) + key
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return ((z ^ (z >> uint64(31))) >> uint64(32)) >= threshold


@kernel
def _random_keep(threshold: int, key: int, keep: Array) -> None:
    for i in prange(len(keep)):
        keep[i] = _kept(uint64(i), threshold, key)


@kernel
def _dropout(x: Array, threshold: int, key: int, unit: int, scale: float, y: Array) -> None:
    zero = x.dtype.type(0)
    for block in prange((len(x) + BLOCK - 1) // BLOCK):
        i, stop = int64(block) * BLOCK, min(int64(block) * BLOCK + BLOCK, len(x))
        if unit == 1:
            for j in range(uint64(i), uint64(stop)):
                y[j] = x[j] * (scale if _kept(j, threshold, key) else zero)
        while unit > 1 and i < stop:
            end = min((i // unit + 1) * unit, stop)
            factor = scale if _kept(uint64(i // unit), threshold, key) else zero
            for j in range(uint64(i), uint64(end)):
                y[j] = x[j] * factor
            i = end


@kernel
def _sgd_step(
    p: Array,
    g: Array,
    v: Array,
    lr: float,
    momentum: float,
    fresh: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    for i in prange(len(p)):
        d = g[i] + weight_decay * p[i] if weight_decay != 0 else g[i]
        if len(v) > 0:
            v[i] = momentum * v[i] + fresh * d
            d = d + momentum * v[i] if nesterov else v[i]
        p[i] -= lr * d


@kernel
def _adam_step(p: Array, g: Array, m: Array, v: Array, rates: Array) -> None:
    lr, beta1, beta2, fresh1, fresh2 = rates[0], rates[1], rates[2], rates[3], rates[4]
    correction, eps, weight_decay, shrink = rates[5], rates[6], rates[7], rates[8]
    for i in prange(len(p)):
        d = g[i] + weight_decay * p[i] if weight_decay != 0 else g[i]
        m[i] = beta1 * m[i] + fresh1 * d
        v[i] = beta2 * v[i] + fresh2 * (d * d)
        p[i] = shrink * p[i] - lr * m[i] / (np.sqrt(v[i] / correction) + eps)
