"""The operators and methods of `ndarray` that only forward to NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cupy import _apply, _capture
from cupy._array import ndarray
from cupy._capture import refuse_cublas

OPERATORS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power, "matmul": np.matmul,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift,
    "rshift": np.right_shift, "divmod": np.divmod,
}  # fmt: skip
COMPARISONS = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip
UNARY = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}
METHODS = (
    "all", "any", "argmax", "argmin", "argsort", "choose", "clip", "conj", "cumprod", "cumsum",
    "diagonal", "flatten", "max", "mean", "min", "prod", "ravel", "repeat", "reshape",
    "round", "squeeze", "std", "sum", "swapaxes", "take", "trace", "transpose", "var",
)  # fmt: skip


def _understood(other: object) -> bool:
    return isinstance(other, (ndarray, np.ndarray, np.generic, int, float, complex))


def _binary(ufunc: np.ufunc, *, swapped: bool) -> Callable[[ndarray, Any], Any]:
    def method(self: ndarray, other: Any) -> Any:
        if not _understood(other):
            return NotImplemented
        refuse_cublas(ufunc.__name__)
        return _apply.apply(ufunc, *((other, self) if swapped else (self, other)))

    return method


def _in_place(ufunc: np.ufunc) -> Callable[[ndarray, Any], Any]:
    def method(self: ndarray, other: Any) -> Any:
        if not _understood(other):
            return NotImplemented
        refuse_cublas(ufunc.__name__)
        return _apply.apply(ufunc, self, other, out=self)

    return method


def _unary(ufunc: np.ufunc) -> Callable[[ndarray], Any]:
    return lambda self: _apply.apply(ufunc, self)


def _forward(name: str) -> Callable[..., Any]:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        return _apply.apply(
            lambda view, *a, **k: getattr(view, name)(*a, **k), self, *args, **kwargs
        )

    method.__name__ = name
    return method


def _dot(self: ndarray, other: Any, out: Any = None) -> Any:
    refuse_cublas("dot")
    return _apply.apply(np.dot, self, other, **({} if out is None else {"out": out}))


def _nonzero(self: ndarray) -> Any:
    _capture.refuse_synchronisation()
    return _apply.apply(np.nonzero, self)


def install() -> None:
    """Give `ndarray` all of them."""
    for name, ufunc in OPERATORS.items():
        setattr(ndarray, f"__{name}__", _binary(ufunc, swapped=False))
        setattr(ndarray, f"__r{name}__", _binary(ufunc, swapped=True))
        if name != "divmod":
            setattr(ndarray, f"__i{name}__", _in_place(ufunc))
    for name, ufunc in COMPARISONS.items():
        setattr(ndarray, f"__{name}__", _binary(ufunc, swapped=False))
    for name, ufunc in UNARY.items():
        setattr(ndarray, f"__{name}__", _unary(ufunc))
    for name in METHODS:
        setattr(ndarray, name, _forward(name))
    ndarray.dot = _dot
    ndarray.nonzero = _nonzero


install()
