"""Checks of plain arguments that several files of this package share."""

from __future__ import annotations

import operator

import numpy as np

from minicnn.errors import ArgumentError


def integer(function: str, name: str, value: object, at_least: int = 0) -> int:
    """Return `value` as an int, or raise `ArgumentError` if it is none or below `at_least`.

    >>> integer("Loader", "batch_size", np.int64(4), at_least=1)
    4
    """
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value < at_least:  # type: ignore[operator]
        raise ArgumentError(
            f"{function}: {name}={value!r} must be an integer of at least {at_least}; "
            f"pass {name}={at_least} or more."
        )
    return operator.index(value)  # type: ignore[arg-type]


def pair(function: str, name: str, value: object, at_least: int = 0) -> tuple[int, int]:
    """Return a size as (height, width); one integer stands for both.

    >>> pair("RandomCrop", "size", 24)
    (24, 24)
    """
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ArgumentError(
                f"{function}: {name}={value!r} has {len(value)} entries; "
                "pass one integer or (height, width)."
            )
        height, width = value
    else:
        height = width = value
    return (
        integer(function, name, height, at_least),
        integer(function, name, width, at_least),
    )


def probability(function: str, name: str, value: object) -> float:
    """Return `value` as a float in 0..1, or raise `ArgumentError`.

    >>> probability("RandomErasing", "p", 1)
    1.0
    """
    is_number = isinstance(value, int | float | np.integer | np.floating)
    if not is_number or not 0 <= value <= 1:  # type: ignore[operator]
        raise ArgumentError(
            f"{function}: {name}={value!r} must be a probability; pass a number from 0 to 1."
        )
    return float(value)  # type: ignore[arg-type]
