"""Learning rates as functions of the step: what schedules share, and the ones with a plain formula.

The formulas are closed, not recursive: the learning rate depends on the step number alone, so a
resumed run has exactly the rates of an uninterrupted one. PyTorch's recursive forms, which multiply
the rate of the step before, differ from them by rounding only, as long as one schedule alone sets
the rates: one set by hand lasts until the next step here, and of two schedules of one optimizer the
second overwrites the first.
"""

from __future__ import annotations

import copy
import math
import numbers
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

from minicnn.errors import ArgumentError, StateDictError
from minicnn.optim._checks import number_from, whole_number_from
from minicnn.optim.optimizer import Optimizer


class Schedule:
    """What every schedule has: the optimizer, and a state of plain data."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(
                f"{type(self).__name__}: optimizer is a {type(optimizer).__name__}; pass an "
                "optimizer, such as SGD(model.parameters(), lr=0.1)."
            )
        self.optimizer = optimizer

    def get_last_lr(self) -> list[float]:
        """The learning rate of each parameter group now."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return position and settings, in a form that JSON can hold."""
        return {
            name: copy.deepcopy(value) for name, value in vars(self).items() if name != "optimizer"
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; sets the learning rates too.

        Raises `StateDictError` for the state of another kind of schedule, or of another number of
        parameter groups, before anything is changed.
        """
        self._check_state(state)
        self.__dict__.update(copy.deepcopy(dict(state)))
        self._apply()

    def _check_state(self, state: Mapping[str, Any]) -> None:
        own = self.state_dict()
        name = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise StateDictError(
                f"{name}: the state is a {type(state).__name__}; pass what state_dict() returned."
            )
        if wrong := sorted(set(own) ^ set(state)):
            raise StateDictError(
                f"{name}: the state does not fit; only one side has {', '.join(wrong)}. Load it "
                "into the kind of schedule that it was saved from."
            )
        for lrs in ("base_lrs", "max_lrs", "min_lrs", "last_lrs"):
            if lrs in own and not _are_numbers(state[lrs]):
                raise StateDictError(
                    f"{name}: {lrs} is {state[lrs]!r}; it must be a list of learning rates."
                )
            if lrs in own and len(state[lrs]) != len(own[lrs]):
                raise StateDictError(
                    f"{name}: the state has {len(state[lrs])} parameter groups, the optimizer "
                    f"{len(own[lrs])}; make it with the same groups."
                )
        if "last_epoch" in own and not isinstance(state["last_epoch"], numbers.Integral):
            raise StateDictError(
                f"{name}: last_epoch is {state['last_epoch']!r}; it must be a whole number."
            )

    def _apply(self) -> None:
        """Set the learning rates that belong to the present position."""
        raise NotImplementedError

    def _set_lrs(self, lrs: list[float]) -> None:
        self._check_groups(lrs)
        for group, lr in zip(self.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr

    def _check_groups(self, values: list[float]) -> None:
        """Raise `ArgumentError` unless there is one value a parameter group."""
        groups = self.optimizer.param_groups
        if len(values) != len(groups):
            raise ArgumentError(
                f"{type(self).__name__}: the optimizer has {len(groups)} parameter groups, but had "
                f"{len(values)} when the schedule was made; make a new schedule after "
                "add_param_group."
            )


class LRScheduler(Schedule):
    """A schedule in steps: subclass it and define `get_lr`.

    Set up what `get_lr` needs before ``super().__init__``, which calls it. Attributes:
    ``last_epoch``, the number of steps so far, and ``base_lrs``, the learning rates that the
    parameter groups had at the start.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.base_lrs = self.get_last_lr()
        self.last_epoch = 0
        self._apply()

    def get_lr(self) -> list[float]:
        """The learning rate of each parameter group in step ``last_epoch``."""
        raise NotImplementedError

    def step(self) -> None:
        """Go on by one step: call it after every epoch or batch, whichever the settings count."""
        self.last_epoch += 1
        self._apply()

    def _apply(self) -> None:
        self._set_lrs(self.get_lr())


class StepLR(LRScheduler):
    """Multiply the learning rate by ``gamma`` every ``step_size`` steps: lr * gamma**(t // s).

    >>> from minicnn import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    >>> scheduler = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = whole_number_from(1, step_size, "step_size", "StepLR")
        self.gamma = number_from(0, gamma, "gamma", "StepLR")
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """lr * gamma**(t // step_size)."""
        return [lr * self.gamma ** (self.last_epoch // self.step_size) for lr in self.base_lrs]


class MultiStepLR(LRScheduler):
    """Multiply the learning rate by ``gamma`` at each of the ``milestones``, step numbers.

    >>> from minicnn import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    >>> scheduler = MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> for _ in range(3):
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(
            whole_number_from(0, milestone, "a milestone", "MultiStepLR")
            for milestone in milestones
        )
        self.gamma = number_from(0, gamma, "gamma", "MultiStepLR")
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """lr * gamma**(milestones reached)."""
        reached = bisect_right(self.milestones, self.last_epoch)
        return [lr * self.gamma**reached for lr in self.base_lrs]


class ExponentialLR(LRScheduler):
    """Multiply the learning rate by ``gamma`` in every step: lr * gamma**t.

    >>> from minicnn import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    >>> scheduler = ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = number_from(0, gamma, "gamma", "ExponentialLR")
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """lr * gamma**t."""
        return [lr * self.gamma**self.last_epoch for lr in self.base_lrs]


class PolynomialLR(LRScheduler):
    """Lower the learning rate to 0 in step ``total_iters``: lr * (1 - t / total_iters)**power.

    With ``power`` 1 it falls on a line, with 0.5 slowly at first, and it stays 0 afterwards. The
    name in Caffe is "poly".

    >>> from minicnn import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    >>> scheduler = PolynomialLR(optimizer, total_iters=4)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.75]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters = whole_number_from(1, total_iters, "total_iters", "PolynomialLR")
        self.power = number_from(0, power, "power", "PolynomialLR")
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """lr * (share of the steps left)**power."""
        left = 1.0 - min(self.last_epoch, self.total_iters) / self.total_iters
        return [lr * left**self.power for lr in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """Lower the learning rate along half a cosine, to ``eta_min`` in step ``T_max``.

    lr(t) = eta_min + (lr - eta_min) * (1 + cos(pi * t / T_max)) / 2; it rises again afterwards.
    Source: Loshchilov & Hutter 2017, equation 5, without restarts.

    >>> from minicnn import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    >>> scheduler = CosineAnnealingLR(optimizer, T_max=4)
    >>> for _ in range(2):
    ...     scheduler.step()
    >>> round(scheduler.get_last_lr()[0], 6)
    0.5
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = whole_number_from(1, T_max, "T_max", "CosineAnnealingLR")
        self.eta_min = number_from(0, eta_min, "eta_min", "CosineAnnealingLR")
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The cosine at t."""
        factor = (1.0 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2.0
        return [self.eta_min + (lr - self.eta_min) * factor for lr in self.base_lrs]


def _are_numbers(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(v, numbers.Real) for v in values)
