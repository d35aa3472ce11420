"""Layers that add noise in training and do nothing in evaluation."""

from __future__ import annotations

import minicnn.functional as F
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.functional._checks import check_probability
from minicnn.nn._settings import settings
from minicnn.nn.module import Module


class Dropout(Module):
    """In training, zero each value with probability p and scale the others by 1 / (1 - p).

    The mask comes from `minicnn.random`: `minicnn.seed` reproduces it.

    >>> Dropout(0.5).eval()(Tensor([1.0])).array
    array([1.], dtype=float32)
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = check_probability(p, "Dropout")

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return settings(self, "p=")


class StochasticDepth(Module):
    """In training, zero whole samples (mode "row") or the whole batch ("batch").

    With probability p; what survives is scaled by 1 / (1 - p). It belongs at the end of a residual
    branch. See `minicnn.functional.stochastic_depth`.

    >>> StochasticDepth(0.2)
    StochasticDepth(p=0.2, mode='row')
    """

    def __init__(self, p: float, mode: str = "row") -> None:
        super().__init__()
        self.p = check_probability(p, "StochasticDepth")
        if mode not in ("row", "batch"):
            raise ArgumentError(f"StochasticDepth: mode is {mode!r}; use 'row' or 'batch'.")
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.stochastic_depth(x, self.p, self.mode, self.training)

    def extra_repr(self) -> str:
        """The probability and the mode."""
        return settings(self, "p=", "mode=")


class DropPath(Module):
    """In training, zero whole samples with probability p: `StochasticDepth` by row.

    >>> DropPath(1.0)(Tensor([[1.0]])).array
    array([[0.]], dtype=float32)
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = check_probability(p, "DropPath")

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.drop_path(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return settings(self, "p=")
