"""Activations and arithmetic: one launch for each, in elementwise.cu.

Each reads its inputs once and writes its output once, so its time is that of the memory it crosses.
"""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import blocks, kernel, launch

Array = Any

THREADS = 256
VECTOR = 4  # numbers in the widest load of a thread: 16 bytes
VECTORS = 4  # vectors that a thread has under way at once


def relu(x: Array) -> Array:
    """See `Kernels.relu`."""
    return _mapped("relu", x)


def relu_grad(gy: Array, y: Array) -> Array:
    """See `Kernels.relu_grad`."""
    return _mapped("relu_grad", gy, y)


def leaky_relu(x: Array, negative_slope: float) -> Array:
    """See `Kernels.leaky_relu`."""
    return _mapped("leaky_relu", x, number=negative_slope)


def leaky_relu_grad(gy: Array, x: Array, negative_slope: float) -> Array:
    """See `Kernels.leaky_relu_grad`."""
    return _mapped("leaky_relu_grad", gy, x, number=negative_slope)


def sigmoid(x: Array) -> Array:
    """See `Kernels.sigmoid`."""
    return _mapped("sigmoid", x)


def sigmoid_grad(gy: Array, y: Array) -> Array:
    """See `Kernels.sigmoid_grad`."""
    return _mapped("sigmoid_grad", gy, y)


def tanh(x: Array) -> Array:
    """See `Kernels.tanh`."""
    return _mapped("hyperbolic_tangent", x)


def tanh_grad(gy: Array, y: Array) -> Array:
    """See `Kernels.tanh_grad`."""
    return _mapped("tanh_grad", gy, y)


def add(a: Array, b: Array) -> Array:
    """See `Kernels.add`; no broadcasting."""
    return _mapped("add", a, b)


def subtract(a: Array, b: Array) -> Array:
    """See `Kernels.subtract`; no broadcasting."""
    return _mapped("subtract", a, b)


def multiply(a: Array, b: Array) -> Array:
    """See `Kernels.multiply`; no broadcasting."""
    return _mapped("multiply", a, b)


def divide(a: Array, b: Array) -> Array:
    """See `Kernels.divide`; no broadcasting."""
    return _mapped("divide", a, b)


def _mapped(name: str, a: Array, b: Array | None = None, number: float = 0.0) -> Array:
    y = cupy.empty(a.shape, a.dtype)
    grid = blocks(a.size, THREADS * VECTOR * VECTORS)
    launch(kernel("elementwise", name), grid, THREADS, a, b, y, float(number), np.int64(a.size))
    return y
