"""Training and evaluation: switching a model for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from minicnn.nn.module import Module


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Put a model into eval mode for a ``with`` block; every module gets its own mode back.

    >>> from minicnn import nn
    >>> layer = nn.Dropout(0.5)
    >>> with nn.evaluating(layer):
    ...     print(layer.training)
    False
    >>> layer.training
    True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
