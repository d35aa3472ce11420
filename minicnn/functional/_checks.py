"""Argument checks that several functions share."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np

from minicnn.errors import ArgumentError, DTypeError, ShapeError


def check_float(x: Any, caller: str) -> None:
    """Raise `DTypeError` where x is no tensor or array, or holds integers or booleans."""
    if not hasattr(x, "dtype"):
        raise DTypeError(
            f"{caller}: x is a {type(x).__name__}, not a tensor; make one with minicnn.tensor(x)."
        )
    if x.dtype.kind != "f":
        raise DTypeError(
            f"{caller}: x is {x.dtype}, but must hold floating-point numbers; convert its array "
            "with .astype(np.float32), and divide the bytes of an image by 255."
        )


def check_map(x: Any, caller: str) -> tuple[int, int, int, int]:
    """Return N, C, H, W of a batch of maps, or raise `ShapeError` or `DTypeError`."""
    check_float(x, caller)
    if len(x.shape) != 4:
        cure = "reshape it"
        if len(x.shape) == 3:
            cure = "add the batch axis with x[None], or where maps are gray the channel axis with "
            cure += "x[:, None]"
        raise ShapeError(
            f"{caller}: x must be (N, C, H, W), but has {len(x.shape)} axes, shape {x.shape}; "
            f"{cure}."
        )
    return x.shape


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number: an int of Python or NumPy, and no boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def lies_between(low: float, value: Any, high: float) -> bool:
    """Whether a value is a number from low to high, and not text, None or NaN."""
    return isinstance(value, numbers.Real) and low <= float(value) <= high


def check_dim(dim: int, ndim: int, caller: str) -> int:
    """Return the axis counted from the front, or raise `ShapeError` or `ArgumentError`."""
    if not is_whole(dim):
        raise ArgumentError(f"{caller}: dim is {dim!r}; give the number of an axis.")
    if not -ndim <= dim < ndim:
        raise ShapeError(
            f"{caller}: dim is {dim}, but the tensor has {ndim} axes; use {-ndim} to {ndim - 1}."
        )
    return dim % ndim


def check_not_empty(x: Any, axes: Iterable[int], caller: str) -> None:
    """Raise `ShapeError` where an axis to find the largest value along has no values."""
    empty = [a for a in axes if x.shape[a] == 0]
    if empty:
        raise ShapeError(
            f"{caller}: axis {empty[0]} of x is empty (x is {x.shape}); it needs a value at least."
        )


def check_probability(p: float, caller: str) -> float:
    """Return p where it is between 0 and 1, or raise `ArgumentError`."""
    if not lies_between(0, p, 1):
        raise ArgumentError(f"{caller}: p is {p!r}; give a probability from 0 to 1.")
    return float(p)


def check_reduction(reduction: str, caller: str) -> str:
    """Return the name of a reduction, or raise `ArgumentError`."""
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"{caller}: reduction is {reduction!r}; use 'mean', 'sum' or 'none'.")
    return reduction


def check_broadcast(caller: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Raise `ShapeError` unless the shapes a and b fit together."""
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        raise ShapeError(
            f"{caller}: shapes {a} and {b} do not broadcast; from the last axis backward the "
            "lengths must be equal or 1."
        ) from None
