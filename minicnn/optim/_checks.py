"""Checks of hyperparameters that optimizers and schedules share."""

from __future__ import annotations

import math
import numbers
from typing import Any

from minicnn.errors import ArgumentError


def number_from(
    low: float, value: Any, name: str, caller: str, *, below: float = math.inf, above: bool = False
) -> float:
    """Return a finite number with low <= value < below (``above``: low < value) as a float.

    Raises `ArgumentError`. Python floats keep the dtype of the arrays that they meet.

    >>> number_from(0, 1, "lr", "SGD")
    1.0
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    fits = is_number and math.isfinite(value) and low <= value < below
    if not fits or (above and value == low):
        span = f"{'>' if above else '>='} {low:g}"
        if below < math.inf:
            span += f" and < {below:g}"
        raise ArgumentError(f"{caller}: {name} is {value!r}; give a number {span}.")
    return float(value)


def whole_number_from(low: int, value: Any, name: str, caller: str) -> int:
    """Return a whole number >= low, or raise `ArgumentError`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < low:
        raise ArgumentError(f"{caller}: {name} is {value!r}; give a whole number >= {low}.")
    return int(value)
