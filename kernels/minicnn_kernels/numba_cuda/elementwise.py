"""Activations: the grid-stride loop, with which every CUDA program begins.

A launch starts many copies of the kernel, the threads. Each asks for its number, ``cuda.grid(1)``,
and does the work of that number:

    thread     0    1    2    3    4    5    6    7
    element    0    1    2    3    4    5    6    7
               8    9   10   11   12 (13 elements: five threads take a second one)

With fewer threads than elements, each goes on by the number of all threads, ``cuda.gridsize(1)``:
the grid-stride loop. It makes the kernel right for every size and every launch, and its ``range``
ends at the last element, which is the guard that a kernel without a loop has to write as an ``if``.

Neighbouring threads read neighbouring numbers. The 32 threads of a warp go through the code
together, so their 32 reads of 4 bytes fall into one piece of 128 bytes, and the memory delivers it
at once: the access is *coalesced*. If each thread instead took a run of its own (0 to 99, 100 to
199, ...), the same loop would fetch 32 pieces for 32 numbers.

All arithmetic is in float32. In Numba, as in NumPy, a Python ``1.0`` is a float64, and so is a
float32 times an int64: a kernel that mixes them computes in float64, on most GPUs 2 to 64 times
slower. Hence the constants ``ZERO`` and ``ONE``.
"""

from __future__ import annotations

import math

from numba import cuda

from minicnn_kernels.numba_cuda.device import ONE, ZERO, Array, empty, flat, launch_for


def relu(x: Array) -> Array:
    """See `Kernels.relu`."""
    y = empty(x.shape, x)
    launch_for(x.size, _relu, flat(x), flat(y))
    return y


def relu_grad(gy: Array, y: Array) -> Array:
    """See `Kernels.relu_grad`."""
    gx = empty(y.shape, y)
    launch_for(y.size, _relu_grad, flat(gy), flat(y), flat(gx))
    return gx


def leaky_relu(x: Array, negative_slope: float) -> Array:
    """See `Kernels.leaky_relu`."""
    return leaky_relu_grad(x, x, negative_slope)


def leaky_relu_grad(gy: Array, x: Array, negative_slope: float) -> Array:
    """See `Kernels.leaky_relu_grad`. With gy = x it is the function itself."""
    gx = empty(x.shape, x)
    launch_for(x.size, _leaky_relu_grad, flat(gy), flat(x), float(negative_slope), flat(gx))
    return gx


def sigmoid(x: Array) -> Array:
    """See `Kernels.sigmoid`."""
    y = empty(x.shape, x)
    launch_for(x.size, _sigmoid, flat(x), flat(y))
    return y


def sigmoid_grad(gy: Array, y: Array) -> Array:
    """See `Kernels.sigmoid_grad`."""
    gx = empty(y.shape, y)
    launch_for(y.size, _sigmoid_grad, flat(gy), flat(y), flat(gx))
    return gx


def tanh(x: Array) -> Array:
    """See `Kernels.tanh`."""
    y = empty(x.shape, x)
    launch_for(x.size, _tanh, flat(x), flat(y))
    return y


def tanh_grad(gy: Array, y: Array) -> Array:
    """See `Kernels.tanh_grad`."""
    gx = empty(y.shape, y)
    launch_for(y.size, _tanh_grad, flat(gy), flat(y), flat(gx))
    return gx


@cuda.jit
def _relu(x: Array, y: Array) -> None:
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = ZERO if x[i] <= ZERO else x[i]  # asked in this order, NaN stays NaN


@cuda.jit
def _relu_grad(gy: Array, y: Array, gx: Array) -> None:
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        gx[i] = gy[i] if y[i] > ZERO else ZERO


@cuda.jit
def _leaky_relu_grad(gy: Array, x: Array, slope: float, gx: Array) -> None:
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        gx[i] = gy[i] if x[i] > ZERO else slope * gy[i]


@cuda.jit
def _sigmoid(x: Array, y: Array) -> None:
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        e = math.exp(-abs(x[i]))  # at most 1, whatever x is
        y[i] = (e if x[i] < ZERO else ONE) / (ONE + e)


@cuda.jit
def _sigmoid_grad(gy: Array, y: Array, gx: Array) -> None:
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        gx[i] = gy[i] * y[i] * (ONE - y[i])


@cuda.jit
def _tanh(x: Array, y: Array) -> None:
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = math.tanh(x[i])


@cuda.jit
def _tanh_grad(gy: Array, y: Array, gx: Array) -> None:
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        gx[i] = gy[i] * (ONE - y[i] * y[i])
