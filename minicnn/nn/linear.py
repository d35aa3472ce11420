"""The fully connected layer, and the layers that lead to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import minicnn.functional as F
from minicnn.autograd import Tensor
from minicnn.nn import init
from minicnn.nn._settings import positive_int, settings
from minicnn.nn.module import Module
from minicnn.nn.parameter import Parameter
from minicnn_kernels.shapes import blank


class Linear(Module):
    """Multiply by a trained matrix and add a trained vector: see `minicnn.functional.linear`.

    Parameters: ``weight`` (out_features, in_features) and ``bias`` (out_features,), both drawn from
    U(-b, b) with b = 1 / sqrt(in_features), PyTorch's default: `init.kaiming_uniform_` with
    a = sqrt(5). Raises `ArgumentError`.

    >>> Linear(120, 84)
    Linear(120, 84)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features = positive_int(in_features, "in_features", "Linear")
        self.out_features = positive_int(out_features, "out_features", "Linear")
        self.weight = Parameter(blank((self.out_features, self.in_features), np.float32))
        self.register_parameter(
            "bias", Parameter(blank((self.out_features,), np.float32)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        init.bias_uniform_(self.bias, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Settings that differ from the defaults."""
        return settings(self, "in_features", "out_features", bias=True)


class Flatten(Module):
    """Merge the axes from ``start_dim`` to ``end_dim``: (N, C, H, W) -> (N, C*H*W).

    >>> Flatten()(Tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])).shape
    (1, 4)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Tensor) -> Tensor:
        """Merge the axes."""
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Settings that differ from the defaults."""
        return settings(self, start_dim=1, end_dim=-1)


class Identity(Module):
    """Return the input: the layer to put in the place of one that is to be left out.

    Any arguments are accepted and ignored.

    >>> Identity()(Tensor([1.0])).array
    array([1.], dtype=float32)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x
