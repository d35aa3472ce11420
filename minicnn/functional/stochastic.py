"""Noise against overfitting: dropout, and stochastic depth, also known as drop-path.

A mask is a pure function of a 64-bit key (see `Kernels.dropout`): backward draws it again from the
key instead of keeping it, and every backend draws the same one.
"""

from __future__ import annotations

import math
from typing import Any

from minicnn import random
from minicnn.autograd import Op, Tensor, apply
from minicnn.errors import ArgumentError
from minicnn.functional._checks import check_float, check_probability
from minicnn_kernels.reference import Array, Kernels


class Dropout(Op):
    """Zero runs of values at random and scale the rest up."""

    def __init__(self, p: float, key: int, unit: int) -> None:
        self.p = p
        self.key = key
        self.unit = unit

    def forward(self, k: Kernels, x: Array) -> Array:
        """Nothing is saved."""
        return k.dropout(x, self.p, self.key, self.unit)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """The same mask and scale, applied to gy."""
        return k.dropout(gy, self.p, self.key, self.unit)


def dropout(x: Tensor, p: float = 0.5, training: bool = True, *, key: int | None = None) -> Tensor:
    """Zero each value with probability p and scale the others by 1 / (1 - p).

    The expected value stays, so that nothing is to be done outside training, where x is returned as
    it is. (AlexNet instead halved the outputs at test time; the expectations are equal.)

    x : Tensor of any shape; p : probability of zero
    key : 64-bit number that decides the mask; a fresh one from `minicnn.random` if None

    Source: Srivastava et al. 2014; Krizhevsky et al. 2012, section 4.2.

    >>> dropout(Tensor([1.0, 1.0, 1.0, 1.0]), 0.5, key=7).array
    array([0., 0., 2., 2.], dtype=float32)
    >>> dropout(Tensor([1.0]), 0.5, training=False).array
    array([1.], dtype=float32)
    """
    check_float(x, "dropout")
    p = check_probability(p, "dropout")
    if not training or p == 0.0:
        return x
    return apply(Dropout(p, random.next_key() if key is None else key, 1), x)


def stochastic_depth(
    x: Tensor, p: float, mode: str = "row", training: bool = True, *, key: int | None = None
) -> Tensor:
    """Zero whole samples (``mode="row"``) or the whole batch ("batch") with probability p.

    What survives is scaled by 1 / (1 - p). Put it at the end of a residual branch, and a dropped
    sample takes the shortcut alone. x is (N, ...). See `dropout` for ``key``.

    Source: Huang et al. 2016, section 3; per row: Larsson et al. 2017, who call it drop-path.

    >>> stochastic_depth(Tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]), 0.5, key=7).array
    array([[0., 0.],
           [0., 0.],
           [2., 2.]], dtype=float32)
    """
    check_float(x, "stochastic_depth")
    p = check_probability(p, "stochastic_depth")
    if mode not in ("row", "batch"):
        raise ArgumentError(f"stochastic_depth: mode is {mode!r}; use 'row' or 'batch'.")
    if not training or p == 0.0:
        return x
    unit = math.prod(x.shape[1:]) if mode == "row" else x.size
    return apply(Dropout(p, random.next_key() if key is None else key, max(unit, 1)), x)


def drop_path(x: Tensor, p: float, training: bool = True, *, key: int | None = None) -> Tensor:
    """Zero whole samples with probability p: `stochastic_depth` by row, under its other name.

    >>> drop_path(Tensor([[1.0]]), 1.0).array
    array([[0.]], dtype=float32)
    """
    return stochastic_depth(x, p, "row", training, key=key)
