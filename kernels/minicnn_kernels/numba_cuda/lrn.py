"""Local response normalisation: compute once, gather after.

Each number is divided by a power of a sum over the neighbouring channels. Forward, a thread takes
one number and reads its neighbours, ``cells`` numbers apart in memory. The threads beside it read
the cells beside, so every one of those reads is coalesced.

Backward, a sum over the neighbours has a power in every term. If each thread worked out all its
terms, every power would be computed ``size`` times over. So a first kernel computes each term once
and writes it down, and a second one gathers: a little memory for a lot of arithmetic. The end of
the first launch is the barrier between them.
"""

from __future__ import annotations

import math

from numba import cuda

from minicnn_kernels.numba_cuda.device import ZERO, Array, channels, empty, launch_for


def local_response_norm(
    x: Array, size: int, alpha: float, beta: float, k: float
) -> tuple[Array, Array]:
    """See `Kernels.local_response_norm`."""
    y, s = empty(x.shape, x), empty(x.shape, x)
    numbers = size // 2, (size - 1) // 2, float(alpha), float(beta), float(k)
    launch_for(x.size, _forward, channels(x), *numbers, channels(y), channels(s))
    return y, s


def local_response_norm_grad(
    gy: Array, x: Array, s: Array, size: int, alpha: float, beta: float
) -> Array:
    """See `Kernels.local_response_norm_grad`."""
    direct, inner, gx = (empty(x.shape, x) for _ in range(3))
    arrays = [channels(a) for a in (gy, x, s, direct, inner, gx)]
    launch_for(x.size, _terms, *arrays[:3], float(beta), *arrays[3:5])
    before, after = (size - 1) // 2, size // 2  # the channels whose window holds this one
    twice = 2.0 * alpha * beta
    launch_for(x.size, _gather, arrays[1], *arrays[3:5], before, after, twice, arrays[5])
    return gx


@cuda.jit
def _forward(
    x: Array, before: int, after: int, alpha: float, beta: float, k: float, y: Array, s: Array
) -> None:
    _, C, cells = x.shape
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        n, c, cell = i // (C * cells), i // cells % C, i % cells
        total = ZERO
        for d in range(c - before, c + after + 1):
            if 0 <= d < C:
                total += x[n, d, cell] * x[n, d, cell]
        divisor = k + alpha * total
        s[n, c, cell] = divisor
        y[n, c, cell] = x[n, c, cell] / math.pow(divisor, beta)


@cuda.jit
def _terms(gy: Array, x: Array, s: Array, beta: float, direct: Array, inner: Array) -> None:
    _, C, cells = x.shape
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        n, c, cell = i // (C * cells), i // cells % C, i % cells
        divisor = s[n, c, cell]
        value = gy[n, c, cell] / math.pow(divisor, beta)
        direct[n, c, cell] = value
        inner[n, c, cell] = value * x[n, c, cell] / divisor


@cuda.jit
def _gather(
    x: Array, direct: Array, inner: Array, before: int, after: int, twice: float, gx: Array
) -> None:
    _, C, cells = x.shape
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        n, c, cell = i // (C * cells), i // cells % C, i % cells
        total = ZERO
        for d in range(c - before, c + after + 1):
            if 0 <= d < C:
                total += inner[n, d, cell]
        gx[n, c, cell] = direct[n, c, cell] - twice * x[n, c, cell] * total
