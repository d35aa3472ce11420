"""What the constructors of layers share: checks of arguments, and the text of the settings."""

from __future__ import annotations

from typing import Any

from minicnn.errors import ArgumentError
from minicnn_kernels.geometry import Padding, pair


def positive_int(value: Any, name: str, caller: str) -> int:
    """Return a whole number >= 1, or raise `ArgumentError`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ArgumentError(f"{caller}: {name} is {value!r}; give a whole number >= 1.")
    return int(value)


def sample_shape(value: Any, caller: str, name: str = "input_shape") -> tuple[int, ...]:
    """Return the shape of one sample as a tuple, or raise `ArgumentError`.

    Sides of 0 pass: what cannot take them says so by its name.
    """
    sides = () if isinstance(value, str) or not hasattr(value, "__iter__") else tuple(value)
    whole = (hasattr(n, "__index__") and not isinstance(n, bool) and n >= 0 for n in sides)
    if not sides or not all(whole):
        raise ArgumentError(
            f"{caller}: {name} is {value!r}; give the shape of one sample without the batch, "
            "such as (3, 224, 224)."
        )
    return tuple(map(int, sides))


def checked_padding(padding: Padding, stride: tuple[int, int], caller: str) -> Padding:
    """Return padding as a pair or a name, or raise `ArgumentError` or `ShapeError`."""
    if not isinstance(padding, str):
        return pair(padding, "padding", caller, minimum=0)
    if padding not in ("same", "valid"):
        raise ArgumentError(
            f"{caller}: padding is {padding!r}; use 'same', 'valid', a number or a pair of numbers."
        )
    if padding == "same" and stride != (1, 1):
        raise ArgumentError(
            f"{caller}: padding='same' keeps the size of the map, which stride={stride} cannot; "
            "give the padding as a number."
        )
    return padding


def settings(layer: Any, *required: str, **defaults: Any) -> str:
    """List the attributes named in ``required``, and those that differ from their default.

    A name that ends in "=" is printed before its value. ``bias=True`` asks whether there is one.

    >>> from types import SimpleNamespace
    >>> settings(SimpleNamespace(width=3, size=(5, 5), stride=(2, 1)), "width", "size=", stride=1)
    '3, size=5, stride=(2, 1)'
    """
    parts = []
    for name in required:
        value = _compact(getattr(layer, name.rstrip("=")))
        parts.append(f"{name}{value!r}" if name.endswith("=") else repr(value))
    for name, default in defaults.items():
        value = _compact(getattr(layer, name))
        if name == "bias":
            value = value is not None
        if value != default:
            parts.append(f"{name}={value!r}")
    return ", ".join(parts)


def _compact(value: Any) -> Any:
    """A pair of equal numbers as one."""
    is_square = isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]
    return value[0] if is_square else value
