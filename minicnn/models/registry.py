"""The architectures by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from minicnn.errors import ArgumentError, nearest
from minicnn.nn import Module

_Builder = TypeVar("_Builder", bound=Callable[..., Module])
_builders: dict[str, Callable[..., Module]] = {}


def register(name: str) -> Callable[[_Builder], _Builder]:
    """Enter a function or class that builds a model under a name for `create`.

    >>> from minicnn import nn
    >>> @register("one_layer")
    ... def one_layer(num_classes=10, in_channels=1, image_size=28):
    ...     return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
    >>> create("one_layer").num_parameters()
    7850
    >>> _ = _builders.pop("one_layer")  # only an example
    """

    def enter(builder: _Builder) -> _Builder:
        _builders[name] = builder
        return builder

    return enter


def names() -> list[str]:
    """Names of all architectures, in alphabetical order.

    >>> "notes_cnn" in names()
    True
    """
    return sorted(_builders)


def create(name: str, **options: Any) -> Module:
    """Build the architecture ``name``; ``options`` go to its builder (``num_classes``, ...).

    Raises `ArgumentError` for an unknown name, with the nearest one that exists.

    >>> create("notes_cnn", num_classes=3).num_parameters()
    18051
    """
    if name not in _builders:
        raise ArgumentError(
            f"models.create: unknown model {name!r}; {nearest(name, _builders)}"
            f"choose one of {', '.join(names())}."
        )
    return _builders[name](**options)
