"""Arithmetic with broadcasting, elementary functions, and the matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.autograd import Op, Tensor, apply, tensor_method
from minicnn.errors import ArgumentError, ShapeError
from minicnn.functional._checks import check_broadcast
from minicnn_kernels.reference import Array, Kernels


def _fit(op: Op, i: int, k: Kernels, g: Array) -> Array:
    """Sum g over the axes along which argument i was broadcast."""
    spec = op.specs[i]
    assert spec is not None  # asked only for arguments that need a gradient
    shape = spec[0]
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + a for a, n in enumerate(shape) if n == 1 and g.shape[lead + a] != 1
    )
    return k.sum(g, axes, True).reshape(shape)


def _number(value: Any) -> Any:
    """A NumPy scalar as a Python number, which takes on the dtype of the array it meets."""
    return value.item() if isinstance(value, np.generic) else value


class Add(Op):
    """a + b."""

    def forward(self, k: Kernels, a: Array, b: Array) -> Array:
        """Nothing is saved."""
        return k.add(a, b)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """ga = gy, gb = gy, each summed over broadcast axes."""
        return tuple(_fit(self, i, k, gy) if self.needs[i] else None for i in (0, 1))


class Subtract(Op):
    """a - b."""

    def forward(self, k: Kernels, a: Array, b: Array) -> Array:
        """Nothing is saved."""
        return k.subtract(a, b)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """ga = gy, gb = -gy."""
        ga = _fit(self, 0, k, gy) if self.needs[0] else None
        gb = _fit(self, 1, k, k.multiply(gy, -1.0)) if self.needs[1] else None
        return ga, gb


class Multiply(Op):
    """a * b."""

    def forward(self, k: Kernels, a: Array, b: Array) -> Array:
        """Each factor is saved where the other needs a gradient."""
        self.save(a if self.needs[1] else None, b if self.needs[0] else None)
        return k.multiply(a, b)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """ga = gy * b, gb = gy * a."""
        a, b = self.saved
        ga = _fit(self, 0, k, k.multiply(gy, b)) if self.needs[0] else None
        gb = _fit(self, 1, k, k.multiply(gy, a)) if self.needs[1] else None
        return ga, gb


class Divide(Op):
    """a / b."""

    def forward(self, k: Kernels, a: Array, b: Array) -> Array:
        """The divisor is saved, and the quotient where b needs a gradient."""
        y = k.divide(a, b)
        self.save(b, y if self.needs[1] else None)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """ga = gy / b, gb = -gy * y / b."""
        b, y = self.saved
        ga = k.divide(gy, b)
        gb = _fit(self, 1, k, k.multiply(k.multiply(ga, y), -1.0)) if self.needs[1] else None
        return _fit(self, 0, k, ga) if self.needs[0] else None, gb


class Power(Op):
    """x ** exponent for a number."""

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def forward(self, k: Kernels, x: Array) -> Array:
        """x is saved."""
        self.save(x)
        return k.power(x, self.exponent)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy * exponent * x ** (exponent - 1)."""
        (x,) = self.saved
        if self.exponent == 0:
            return k.multiply(gy, 0.0)
        return k.multiply(k.multiply(gy, self.exponent), k.power(x, self.exponent - 1))


class Exp(Op):
    """e ** x."""

    def forward(self, k: Kernels, x: Array) -> Array:
        """y is saved."""
        y = k.exp(x)
        self.save(y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy * y."""
        (y,) = self.saved
        return k.multiply(gy, y)


class Log(Op):
    """Natural logarithm."""

    def forward(self, k: Kernels, x: Array) -> Array:
        """x is saved."""
        self.save(x)
        return k.log(x)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy / x."""
        (x,) = self.saved
        return k.divide(gy, x)


class Matmul(Op):
    """a @ b over the last two axes."""

    def forward(self, k: Kernels, a: Array, b: Array) -> Array:
        """Each factor is saved where the other needs a gradient."""
        self.save(a if self.needs[1] else None, b if self.needs[0] else None)
        return k.matmul(a, b)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """ga = gy @ b^T, gb = a^T @ gy, each summed over broadcast leading axes."""
        a, b = self.saved
        ga = _fit(self, 0, k, k.matmul(gy, b.swapaxes(-1, -2))) if self.needs[0] else None
        gb = _fit(self, 1, k, k.matmul(a.swapaxes(-1, -2), gy)) if self.needs[1] else None
        return ga, gb


@tensor_method("__add__", "__radd__", "add")
def add(x: Any, y: Any) -> Tensor:
    """Sum of two tensors, arrays or numbers, with NumPy's broadcasting; also ``x + y``.

    >>> add(Tensor([[1.0, 2.0]]), Tensor([[10.0], [20.0]])).array
    array([[11., 12.],
           [21., 22.]], dtype=float32)
    """
    return apply(Add(), *_operands("add", x, y))


@tensor_method("__sub__", "sub")
def sub(x: Any, y: Any) -> Tensor:
    """Difference, with broadcasting; also ``x - y``.

    >>> (5 - Tensor([1.0, 2.0])).array
    array([4., 3.], dtype=float32)
    """
    return apply(Subtract(), *_operands("sub", x, y))


@tensor_method("__mul__", "__rmul__", "mul")
def mul(x: Any, y: Any) -> Tensor:
    """Product element by element, with broadcasting; also ``x * y``.

    >>> (Tensor([1.0, 2.0]) * 3).array
    array([3., 6.], dtype=float32)
    """
    return apply(Multiply(), *_operands("mul", x, y))


@tensor_method("__truediv__", "div")
def div(x: Any, y: Any) -> Tensor:
    """Quotient, with broadcasting; also ``x / y``.

    >>> (1 / Tensor([2.0, 4.0])).array
    array([0.5 , 0.25], dtype=float32)
    """
    return apply(Divide(), *_operands("div", x, y))


@tensor_method("__rsub__")
def _rsub(x: Tensor, y: Any) -> Tensor:
    return sub(y, x)


@tensor_method("__rtruediv__")
def _rdiv(x: Tensor, y: Any) -> Tensor:
    return div(y, x)


@tensor_method("__rmatmul__")
def _rmatmul(x: Tensor, y: Any) -> Tensor:
    return matmul(y, x)


@tensor_method("__neg__", "neg")
def neg(x: Tensor) -> Tensor:
    """-x.

    >>> (-Tensor([1.0])).array
    array([-1.], dtype=float32)
    """
    return mul(x, -1.0)


@tensor_method("__pow__", "pow")
def pow(x: Tensor, exponent: float) -> Tensor:
    """x ** exponent for a number ``exponent``.

    >>> (Tensor([1.0, 3.0]) ** 2).array
    array([1., 9.], dtype=float32)
    """
    exponent = _number(exponent)
    if isinstance(exponent, bool) or not isinstance(exponent, (int, float)):
        raise ArgumentError(
            f"pow: exponent is a {type(exponent).__name__}; give a number (for a tensor exponent "
            "use exp(y * log(x)))."
        )
    return apply(Power(float(exponent)), x)


@tensor_method("sqrt")
def sqrt(x: Tensor) -> Tensor:
    """Square root; its gradient at 0 is infinite.

    >>> sqrt(Tensor([9.0])).array
    array([3.], dtype=float32)
    """
    return pow(x, 0.5)


@tensor_method("exp")
def exp(x: Tensor) -> Tensor:
    """e ** x, element by element.

    >>> exp(Tensor([0.0])).array
    array([1.], dtype=float32)
    """
    return apply(Exp(), x)


@tensor_method("log")
def log(x: Tensor) -> Tensor:
    """Natural logarithm, element by element.

    >>> log(Tensor([1.0])).array
    array([0.], dtype=float32)
    """
    return apply(Log(), x)


@tensor_method("__matmul__", "matmul")
def matmul(x: Any, y: Any) -> Tensor:
    """Matrix product over the last two axes, leading axes broadcast; also ``x @ y``.

    x is (..., M, K), y (..., K, N); the result (..., M, N). Raises `ShapeError`.

    >>> (Tensor([[1.0, 2.0]]) @ Tensor([[3.0], [4.0]])).array
    array([[11.]], dtype=float32)
    """
    if len(x.shape) < 2 or len(y.shape) < 2 or x.shape[-1] != y.shape[-2]:
        raise ShapeError(
            f"matmul: x is {x.shape} and y is {y.shape}; both need two axes or more, and the last "
            "of x must be as long as the last but one of y."
        )
    check_broadcast("matmul", x.shape[:-2], y.shape[:-2])
    return apply(Matmul(), _in_dtype_of(y, x), _in_dtype_of(x, y))


def _operands(caller: str, x: Any, y: Any) -> tuple[Any, Any]:
    x, y = _operand(caller, x), _operand(caller, y)
    x, y = _in_dtype_of(y, x), _in_dtype_of(x, y)
    if hasattr(x, "shape") and hasattr(y, "shape") and x.shape != y.shape:
        check_broadcast(caller, x.shape, y.shape)
    return x, y


def _operand(caller: str, value: Any) -> Any:
    """A tensor, array or Python number as it is; other number-likes as a tensor."""
    value = _number(value)
    if isinstance(value, (bool, int, float)) or (
        hasattr(value, "shape") and hasattr(value, "dtype")
    ):
        return value
    if isinstance(value, (list, tuple)):
        return Tensor(value)
    raise ArgumentError(
        f"{caller}: cannot use a {type(value).__name__}; pass a tensor, an array or a number."
    )


def _in_dtype_of(other: Any, value: Any) -> Any:
    """Integers and booleans that meet floating-point numbers take on their dtype."""
    dtype = getattr(other, "dtype", None)
    if dtype is None or dtype.kind != "f" or not hasattr(value, "dtype") or value.dtype.kind == "f":
        return value
    return (value.array if isinstance(value, Tensor) else value).astype(dtype)
