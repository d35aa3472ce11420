"""Activations: ReLU, leaky ReLU, sigmoid, tanh, softmax."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Op, Tensor, apply, tensor_method
from minicnn.functional._checks import check_dim, check_not_empty
from minicnn_kernels.reference import Array, Kernels


class Relu(Op):
    """max(x, 0)."""

    def forward(self, k: Kernels, x: Array) -> Array:
        """y is saved; x is not needed."""
        y = k.relu(x)
        self.save(y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy where y > 0."""
        (y,) = self.saved
        return k.relu_grad(gy, y)


class LeakyRelu(Op):
    """x for x > 0, a fraction of x below."""

    def __init__(self, negative_slope: float) -> None:
        self.negative_slope = negative_slope

    def forward(self, k: Kernels, x: Array) -> Array:
        """x is saved."""
        self.save(x)
        return k.leaky_relu(x, self.negative_slope)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy where x > 0, negative_slope * gy elsewhere."""
        (x,) = self.saved
        return k.leaky_relu_grad(gy, x, self.negative_slope)


class Sigmoid(Op):
    """1 / (1 + exp(-x))."""

    def forward(self, k: Kernels, x: Array) -> Array:
        """y is saved."""
        y = k.sigmoid(x)
        self.save(y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy * y * (1 - y)."""
        (y,) = self.saved
        return k.sigmoid_grad(gy, y)


class Tanh(Op):
    """Hyperbolic tangent."""

    def forward(self, k: Kernels, x: Array) -> Array:
        """y is saved."""
        y = k.tanh(x)
        self.save(y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy * (1 - y**2)."""
        (y,) = self.saved
        return k.tanh_grad(gy, y)


class Softmax(Op):
    """exp(x) / sum(exp(x))."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, k: Kernels, x: Array) -> Array:
        """y is saved."""
        y = k.softmax(x, self.axis)
        self.save(y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = y * (gy - sum(gy * y))."""
        (y,) = self.saved
        return k.softmax_grad(gy, y, self.axis)


class LogSoftmax(Op):
    """x - log(sum(exp(x)))."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, k: Kernels, x: Array) -> Array:
        """y is saved."""
        y = k.log_softmax(x, self.axis)
        self.save(y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy - exp(y) * sum(gy)."""
        (y,) = self.saved
        return k.log_softmax_grad(gy, y, self.axis)


@tensor_method("relu")
def relu(x: Tensor) -> Tensor:
    """Rectify: max(x, 0). NaN stays NaN; the gradient at 0 is 0. Saved for backward: the result.

    Source: Nair & Hinton 2010; made popular by Krizhevsky et al. 2012, section 3.1.

    >>> relu(Tensor([-1.0, 2.0])).array
    array([0., 2.], dtype=float32)
    """
    return apply(Relu(), x)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Rectify with a leak: x for x > 0, negative_slope * x otherwise (Maas et al. 2013).

    >>> leaky_relu(Tensor([-1.0, 2.0])).array
    array([-0.01,  2.  ], dtype=float32)
    """
    return apply(LeakyRelu(float(negative_slope)), x)


@tensor_method("sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """Squash to (0, 1): 1 / (1 + exp(-x)), without overflow. Saved for backward: the result.

    >>> sigmoid(Tensor([0.0])).array
    array([0.5], dtype=float32)
    """
    return apply(Sigmoid(), x)


@tensor_method("tanh")
def tanh(x: Tensor) -> Tensor:
    """Squash to (-1, 1): the hyperbolic tangent. Saved for backward: the result.

    >>> tanh(Tensor([0.0])).array
    array([0.], dtype=float32)
    """
    return apply(Tanh(), x)


@tensor_method("softmax")
def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Turn scores into probabilities: exp(x) / sum(exp(x)) along ``dim``, without overflow.

    >>> softmax(Tensor([[2.0, 1.0, 0.1]])).array.round(6)
    array([[0.659001, 0.242433, 0.098566]], dtype=float32)
    """
    return apply(Softmax(_axis(x, dim, "softmax")), x)


@tensor_method("log_softmax")
def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Logarithm of `softmax`: x - log(sum(exp(x))) along ``dim``, exact also for tiny ones.

    >>> log_softmax(Tensor([[1000.0, 0.0]])).array
    array([[    0., -1000.]], dtype=float32)
    """
    return apply(LogSoftmax(_axis(x, dim, "log_softmax")), x)


def _axis(x: Tensor, dim: int, caller: str) -> int:
    axis = check_dim(dim, len(x.shape), caller)
    check_not_empty(x, (axis,), caller)
    return axis
