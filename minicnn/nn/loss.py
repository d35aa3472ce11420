"""Loss layers; the functions `cross_entropy` and `mse_loss` define what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np

import minicnn.functional as F
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError, ShapeError
from minicnn.functional._checks import check_reduction, lies_between
from minicnn.functional.loss import checked_index
from minicnn.nn._arrays import Array
from minicnn.nn._settings import settings
from minicnn.nn.module import Module


class CrossEntropyLoss(Module):
    """Softmax and cross-entropy on logits (N, K): see `minicnn.functional.cross_entropy`.

    ``weight`` (K,), the importance of each class, is kept as a buffer.

    >>> round(CrossEntropyLoss()(Tensor([[2.0, 1.0, 0.1]]), [0]).item(), 6)
    0.41703
    """

    weight: Array | None

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if weight is not None:
            weight = np.asarray(weight.array if isinstance(weight, Tensor) else weight, np.float32)
            if weight.ndim != 1:
                raise ShapeError(
                    f"CrossEntropyLoss: weight is {weight.shape}; give one number a class, (K,)."
                )
        self.register_buffer("weight", weight)
        if not lies_between(0, label_smoothing, 1):
            raise ArgumentError(
                f"CrossEntropyLoss: label_smoothing is {label_smoothing!r}; give a number from 0 "
                "to 1."
            )
        self.ignore_index = checked_index(ignore_index, "CrossEntropyLoss")
        self.reduction = check_reduction(reduction, "CrossEntropyLoss")
        self.label_smoothing = float(label_smoothing)

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """Logits (N, K) and class numbers (N,) or probabilities (N, K) -> the loss."""
        return F.cross_entropy(
            x,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        """Settings that differ from the defaults."""
        return settings(self, ignore_index=-100, reduction="mean", label_smoothing=0.0)


class MSELoss(Module):
    """Squared error: see `minicnn.functional.mse_loss`.

    >>> MSELoss()(Tensor([1.0, 2.0]), Tensor([1.0, 4.0])).item()
    2.0
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = check_reduction(reduction, "MSELoss")

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """Two tensors of one shape -> the loss."""
        return F.mse_loss(x, target, reduction=self.reduction)

    def extra_repr(self) -> str:
        """Settings that differ from the defaults."""
        return settings(self, reduction="mean")
