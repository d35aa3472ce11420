"""Lowering the learning rate when a metric stops getting better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minicnn.errors import ArgumentError
from minicnn.optim._checks import number_from, whole_number_from
from minicnn.optim.optimizer import Optimizer
from minicnn.optim.schedule import Schedule


class ReduceLROnPlateau(Schedule):
    """Multiply the learning rate by ``factor`` after more than ``patience`` steps without progress.

    mode : "min" for a metric that should fall, such as a loss, "max" for one that should rise
    threshold : what counts as progress: relative to the best value (``threshold_mode="rel"``), or
        the difference itself ("abs")
    cooldown : steps after a reduction in which nothing is counted
    min_lr : the lowest learning rate, a number or one a parameter group
    eps : a reduction by less than this is not made

    A NaN is no progress. Raises `ArgumentError`.

    >>> from minicnn import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    >>> scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (1.0, 1.0, 1.0):
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(optimizer)
        name = "ReduceLROnPlateau"
        if mode not in ("min", "max"):
            raise ArgumentError(f"{name}: mode is {mode!r}; use 'min' or 'max'.")
        if threshold_mode not in ("rel", "abs"):
            raise ArgumentError(
                f"{name}: threshold_mode is {threshold_mode!r}; use 'rel' or 'abs'."
            )
        self.mode = mode
        self.factor = number_from(0, factor, "factor", name, below=1)
        self.patience = whole_number_from(0, patience, "patience", name)
        self.threshold = number_from(0, threshold, "threshold", name)
        self.threshold_mode = threshold_mode
        self.cooldown = whole_number_from(0, cooldown, "cooldown", name)
        self.min_lrs = _min_lrs(min_lr, len(optimizer.param_groups))
        self.eps = number_from(0, eps, "eps", name)
        self.best: float | None = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0
        self.last_lrs = self.get_last_lr()

    def step(self, metric: float) -> None:
        """Count a step with the value of the metric; lower the learning rates if it is time."""
        self._check_groups(self.min_lrs)
        value = float(metric.item() if hasattr(metric, "item") else metric)
        self.last_epoch += 1
        if self._is_better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        self.last_lrs = self.get_last_lr()
        if self.num_bad_epochs > self.patience:
            self.last_lrs = [
                self._reduced(lr, least)
                for lr, least in zip(self.last_lrs, self.min_lrs, strict=True)
            ]
            self._apply()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def _apply(self) -> None:
        self._set_lrs(self.last_lrs)

    def _reduced(self, lr: float, least: float) -> float:
        lower = max(lr * self.factor, least)
        return lower if lr - lower > self.eps else lr

    def _is_better(self, value: float) -> bool:
        sign = 1.0 if self.mode == "max" else -1.0
        if self.best is None:
            return sign * value > -math.inf
        if self.threshold_mode == "abs":
            return sign * value > sign * self.best + self.threshold
        return sign * value > sign * self.best * (1.0 + sign * self.threshold)


def _min_lrs(min_lr: Any, count: int) -> list[float]:
    values = list(min_lr) if isinstance(min_lr, Sequence) else [min_lr] * count
    if len(values) != count:
        raise ArgumentError(
            f"ReduceLROnPlateau: min_lr has {len(values)} values, but the optimizer {count} "
            "parameter groups; give one a group, or one number."
        )
    return [number_from(0, value, "min_lr", "ReduceLROnPlateau") for value in values]
