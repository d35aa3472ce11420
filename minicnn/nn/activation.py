"""Activation layers; the functions of the same names define what they compute."""

from __future__ import annotations

import minicnn.functional as F
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.functional._checks import is_whole
from minicnn.nn._settings import settings
from minicnn.nn.module import Module


class ReLU(Module):
    """max(x, 0). There is no ``inplace``: backward needs what it would overwrite.

    >>> ReLU()(Tensor([-1.0, 2.0])).array
    array([0., 2.], dtype=float32)
    """

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.relu(x)


class LeakyReLU(Module):
    """x where x > 0, ``negative_slope * x`` elsewhere.

    >>> LeakyReLU(0.5)(Tensor([-1.0, 2.0])).array
    array([-0.5,  2. ], dtype=float32)
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = float(negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """Settings that differ from the defaults."""
        return settings(self, negative_slope=0.01)


class Sigmoid(Module):
    """1 / (1 + exp(-x)).

    >>> Sigmoid()(Tensor([0.0])).array
    array([0.5], dtype=float32)
    """

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent.

    >>> Tanh()(Tensor([0.0])).array
    array([0.], dtype=float32)
    """

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.tanh(x)


class _AlongAxis(Module):
    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        if not is_whole(dim):
            raise ArgumentError(
                f"{type(self).__name__}: dim is {dim!r}; give the number of an axis."
            )
        self.dim = dim

    def extra_repr(self) -> str:
        """The axis."""
        return settings(self, "dim=")


class Softmax(_AlongAxis):
    """Probabilities from scores, along ``dim``. `CrossEntropyLoss` wants the scores, without it.

    >>> Softmax()(Tensor([[0.0, 0.0]])).array
    array([[0.5, 0.5]], dtype=float32)
    """

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.softmax(x, self.dim)


class LogSoftmax(_AlongAxis):
    """Logarithms of the probabilities of `Softmax`, exact also for tiny ones.

    >>> LogSoftmax()(Tensor([[1000.0, 0.0]])).array
    array([[    0., -1000.]], dtype=float32)
    """

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.log_softmax(x, self.dim)
