"""Layers that run as one operation where they follow each other in a `Sequential`.

The one place that knows which: a layer of `WITH_RELU` followed by a ReLU computes both in one pass,
which saves writing a feature map to memory and reading it back. The result is the same. Layers with
hooks run by themselves, so that a hook sees every output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minicnn.nn.activation import ReLU
from minicnn.nn.convolution import Conv2d
from minicnn.nn.module import Module

WITH_RELU: tuple[type[Module], ...] = (Conv2d,)  # their forward takes ``relu=True``
_enabled = True


@contextmanager
def unfused() -> Iterator[None]:
    """Run every layer by itself inside the ``with`` block, in the whole process.

    >>> from minicnn import nn
    >>> with nn.unfused():
    ...     pass
    """
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def run_chain(modules: Sequence[Module], x: Any) -> Any:
    """Send x through the modules, two at a time where the pair is fused."""
    i = 0
    while i < len(modules):
        if _enabled and _is_fused(modules[i : i + 2]):
            x = modules[i](x, relu=True)
            i += 2
        else:
            x = modules[i](x)
            i += 1
    return x


def _is_fused(pair: Sequence[Module]) -> bool:
    """Exactly these classes, not heirs that may compute something else, and without hooks."""
    return (
        len(pair) == 2
        and type(pair[0]) in WITH_RELU
        and type(pair[1]) is ReLU
        and not any(module.has_hooks for module in pair)
    )
