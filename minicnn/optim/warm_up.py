"""Starting another schedule slowly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minicnn.errors import ArgumentError
from minicnn.optim._checks import number_from, whole_number_from
from minicnn.optim.plateau import ReduceLROnPlateau
from minicnn.optim.schedule import LRScheduler


class WarmUp(LRScheduler):
    """Raise the learning rate on a line for ``steps`` steps, then hand over to another schedule.

    In step t < steps the rate is that of the schedule's beginning times
    ``start_factor + (1 - start_factor) * t / steps``; step ``steps`` is step 0 of the schedule.
    Source: Goyal et al. 2017, section 2.2.

    scheduler : the schedule to start; from now on step only the warm-up

    >>> from minicnn import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler = WarmUp(decay, steps=2, start_factor=0.5)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.5]
    """

    def __init__(
        self, scheduler: LRScheduler | ReduceLROnPlateau, steps: int, start_factor: float = 0.1
    ) -> None:
        if not isinstance(scheduler, (LRScheduler, ReduceLROnPlateau)):
            raise ArgumentError(
                f"WarmUp: scheduler is a {type(scheduler).__name__}; pass a schedule, such as "
                "StepLR(optimizer, 30)."
            )
        if scheduler.last_epoch:
            raise ArgumentError(
                f"WarmUp: the {type(scheduler).__name__} is at step {scheduler.last_epoch}; wrap "
                "it before its first step."
            )
        self.scheduler = scheduler
        self.steps = whole_number_from(0, steps, "steps", "WarmUp")
        self.start_factor = number_from(0, start_factor, "start_factor", "WarmUp")
        super().__init__(scheduler.optimizer)

    def get_lr(self) -> list[float]:
        """The line in the first steps, afterwards what the schedule has set."""
        if self.last_epoch >= self.steps:
            return self.get_last_lr()
        rise = (1.0 - self.start_factor) * self.last_epoch / self.steps
        return [lr * (self.start_factor + rise) for lr in self.base_lrs]

    def step(self, metric: float | None = None) -> None:
        """Go on by one step; the metric is for a `ReduceLROnPlateau`, which ignores the warm-up."""
        if self.last_epoch < self.steps:
            super().step()
        elif isinstance(self.scheduler, LRScheduler):
            self.scheduler.step()
            self.last_epoch += 1
        elif metric is None:
            raise ArgumentError("WarmUp.step: ReduceLROnPlateau needs a metric; call .step(loss).")
        else:
            self.scheduler.step(metric)
            self.last_epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Return position and settings, with those of the wrapped schedule."""
        names = ("steps", "start_factor", "last_epoch")
        own = {name: getattr(self, name) for name in names}
        return {**own, "base_lrs": list(self.base_lrs), "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; sets the learning rates too."""
        self._check_state(state)
        self.scheduler.load_state_dict(state["scheduler"])
        self.__dict__.update({**state, "scheduler": self.scheduler})
        self.base_lrs = list(self.base_lrs)
        self._apply()

    def _apply(self) -> None:
        if self.last_epoch == self.steps:  # hand over: step 0 of the schedule
            self.scheduler._apply()
        super()._apply()
