"""Optimizer steps: one kernel over a list of tensors.

A network has many small parameters: a ResNet-20 has 59 tensors, and most are biases and scales of
16 to 64 numbers. A launch costs the host several microseconds, whatever it does, so that a launch
for each tensor spends the step on launching. Instead, the kernel is given up to `AT_ONCE` tensors
of each kind, as tuples, and the grid has two dimensions:

    blockIdx.y    which tensor
    blockIdx.x    which part of it, in a grid-stride loop as ever

The blocks of a short tensor that have nothing to do end at once. A tuple is passed by value: its
addresses are among the arguments of the launch, and a captured graph keeps them. (An argument list
holds 4 KB, which is what limits `AT_ONCE`.) The last chunk of a list is filled up with its last
tensor, so that one compiled kernel serves lists of every length; the grid has no blocks for those.

The learning rate and the number of the step change while the arguments of a captured graph do not.
They come as arrays of one element and are read anew in every launch, in float64. Adam needs powers
of the step: one thread of each block computes them, puts the results into shared memory in float32,
and after a barrier all threads of the block use them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import cuda, float32, float64

from minicnn_kernels.numba_cuda.device import (
    THREADS,
    ZERO,
    Array,
    launch_for_lists,
    number,
)
from minicnn_kernels.reference import Number


def sgd_step(
    params: Sequence[Array], grads: Sequence[Array], velocities: Sequence[Array] | None, lr: Number,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool,
) -> None:  # fmt: skip
    """See `Kernels.sgd_step`."""
    moves = velocities is not None
    lists = params, grads, velocities if velocities is not None else params
    numbers = float(momentum), 1.0 - dampening, float(weight_decay)
    launch_for_lists(_sgd, lists, _rate(lr, params), *numbers, moves, bool(nesterov))


def adam_step(
    params: Sequence[Array], grads: Sequence[Array], ms: Sequence[Array], vs: Sequence[Array],
    step: Number, lr: Number, betas: tuple[float, float], eps: float, weight_decay: float,
    decoupled: bool,
) -> None:  # fmt: skip
    """See `Kernels.adam_step`."""
    changing = _rate(step, params), _rate(lr, params)
    exact = np.float64(betas[0]), np.float64(betas[1])
    fresh = 1.0 - betas[0], 1.0 - betas[1]
    numbers = *fresh, float(eps), float(weight_decay), bool(decoupled)
    launch_for_lists(_adam, (params, grads, ms, vs), *changing, *exact, *numbers)


def rmsprop_step(
    params: Sequence[Array], grads: Sequence[Array], squares: Sequence[Array],
    velocities: Sequence[Array], lr: Number, alpha: float, eps: float, weight_decay: float,
    momentum: float,
) -> None:  # fmt: skip
    """See `Kernels.rmsprop_step`."""
    numbers = float(alpha), 1.0 - alpha, float(eps), float(weight_decay), float(momentum)
    launch_for_lists(_rmsprop, (params, grads, squares, velocities), _rate(lr, params), *numbers)


def scale_by(arrays: Sequence[Array], factor: Number) -> None:
    """See `Kernels.scale_by`."""
    launch_for_lists(_scale, (arrays,), _rate(factor, arrays))


def _rate(value: Number, arrays: Sequence[Array]) -> Array:
    return number(value, arrays[0])


@cuda.jit
def _sgd(
    params: tuple[Array, ...], grads: tuple[Array, ...], velocities: tuple[Array, ...], lr: Array,
    momentum: float, fresh: float, weight_decay: float, moves: bool, nesterov: bool,
) -> None:  # fmt: skip
    tensor = cuda.blockIdx.y
    p, g, v = params[tensor], grads[tensor], velocities[tensor]
    rate = float32(lr[0])
    start = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    for i in range(start, p.size, THREADS * cuda.gridDim.x):
        d = g[i] + weight_decay * p[i] if weight_decay != ZERO else g[i]
        if moves:
            v[i] = momentum * v[i] + fresh * d
            d = d + momentum * v[i] if nesterov else v[i]
        p[i] -= rate * d


@cuda.jit
def _adam(
    params: tuple[Array, ...], grads: tuple[Array, ...], ms: tuple[Array, ...],
    vs: tuple[Array, ...], step: Array, lr: Array, beta1: float, beta2: float, fresh1: float,
    fresh2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    rates = cuda.shared.array(3, float32)
    if cuda.threadIdx.x == 0:
        rates[0] = lr[0] / (float64(1) - math.pow(beta1, step[0]))
        rates[1] = float64(1) - math.pow(beta2, step[0])
        rates[2] = float64(1) - lr[0] * weight_decay if decoupled else float64(1)
    cuda.syncthreads()
    rate, correction, shrink = rates[0], rates[1], rates[2]
    keep1, keep2 = float32(beta1), float32(beta2)
    tensor = cuda.blockIdx.y
    p, g, m, v = params[tensor], grads[tensor], ms[tensor], vs[tensor]
    start = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    for i in range(start, p.size, THREADS * cuda.gridDim.x):
        d = g[i] if decoupled or weight_decay == ZERO else g[i] + weight_decay * p[i]
        m[i] = keep1 * m[i] + fresh1 * d
        v[i] = keep2 * v[i] + fresh2 * (d * d)
        p[i] = shrink * p[i] - rate * m[i] / (math.sqrt(v[i] / correction) + eps)


@cuda.jit
def _rmsprop(
    params: tuple[Array, ...], grads: tuple[Array, ...], squares: tuple[Array, ...],
    velocities: tuple[Array, ...], lr: Array, alpha: float, fresh: float, eps: float,
    weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    tensor = cuda.blockIdx.y
    p, g, square, v = params[tensor], grads[tensor], squares[tensor], velocities[tensor]
    rate = float32(lr[0])
    start = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    for i in range(start, p.size, THREADS * cuda.gridDim.x):
        d = g[i] + weight_decay * p[i] if weight_decay != ZERO else g[i]
        square[i] = alpha * square[i] + fresh * (d * d)
        v[i] = momentum * v[i] + d / (math.sqrt(square[i]) + eps)
        p[i] -= rate * v[i]


@cuda.jit
def _scale(arrays: tuple[Array, ...], factor: Array) -> None:
    a, by = arrays[cuda.blockIdx.y], float32(factor[0])
    start = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    for i in range(start, a.size, THREADS * cuda.gridDim.x):
        a[i] *= by
