"""The one-cycle schedule: the learning rate up and down once, the momentum the other way."""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicnn.errors import ArgumentError
from minicnn.optim._checks import number_from, whole_number_from
from minicnn.optim.optimizer import Optimizer
from minicnn.optim.schedule import LRScheduler, Schedule


class OneCycleLR(LRScheduler):
    """Raise the learning rate to ``max_lr``, then lower it far below the start, in one run.

    Step it after every batch. The rate goes from ``max_lr / div_factor`` to ``max_lr`` in the
    first ``pct_start`` of the steps, and from there to ``max_lr / div_factor / final_div_factor``
    in the last one, along half cosines or lines. Momentum (of Adam: the first beta) goes from
    ``max_momentum`` to ``base_momentum`` and back; with SGD it is switched on by this.

    max_lr : a number, or one a parameter group
    total_steps : number of steps; or give ``epochs`` and ``steps_per_epoch``
    anneal_strategy : "cos" or "linear"
    cycle_momentum : False leaves the momentum alone

    Raises `ArgumentError`, also when it is stepped beyond the end. Source: Smith & Topin 2019, in
    PyTorch's two-phase form.

    >>> from minicnn import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0, momentum=0.9)
    >>> scheduler = OneCycleLR(optimizer, max_lr=1.0, total_steps=10, div_factor=10.0)
    >>> round(scheduler.get_last_lr()[0], 6), optimizer.param_groups[0]["momentum"]
    (0.1, 0.95)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        Schedule.__init__(self, optimizer)  # checks the optimizer, which is asked below
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not 0.0 <= pct_start <= 1.0:
            raise ArgumentError(
                f"OneCycleLR: pct_start is {pct_start!r}; give the rising part, from 0 to 1."
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"OneCycleLR: anneal_strategy is {anneal_strategy!r}; use 'cos' or 'linear'."
            )
        self.pct_start = float(pct_start)
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = bool(cycle_momentum)
        self.base_momentum = _momentum(base_momentum, "base_momentum")
        self.max_momentum = _momentum(max_momentum, "max_momentum")
        self.div_factor = number_from(0, div_factor, "div_factor", "OneCycleLR", above=True)
        self.final_div_factor = number_from(
            0, final_div_factor, "final_div_factor", "OneCycleLR", above=True
        )
        self.max_lrs = _per_group(max_lr, optimizer)
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ArgumentError(
                f"OneCycleLR: {type(optimizer).__name__} has no momentum to cycle; pass "
                "cycle_momentum=False."
            )
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The learning rates in step ``last_epoch``."""
        lrs = []
        for top in self.max_lrs:
            start = top / self.div_factor
            lrs.append(self._between(start, top, start / self.final_div_factor))
        return lrs

    def step(self) -> None:
        """Go on by one step; raises `ArgumentError` where there are more than ``total_steps``."""
        if self.last_epoch >= self.total_steps:
            raise ArgumentError(
                f"OneCycleLR.step: called {self.last_epoch + 1} times, but total_steps is "
                f"{self.total_steps}; make it with a larger total_steps."
            )
        super().step()

    def _apply(self) -> None:
        super()._apply()
        if not self.cycle_momentum:
            return
        momentum = self._between(self.max_momentum, self.base_momentum, self.max_momentum)
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = momentum
            else:
                group["betas"] = (momentum, *group["betas"][1:])

    def _between(self, start: float, top: float, end: float) -> float:
        """The value now on the way from ``start`` over ``top`` to ``end``."""
        turn = self.pct_start * self.total_steps - 1.0
        last = self.total_steps - 1.0
        t = min(float(self.last_epoch), last)
        if t <= turn:
            return self._annealed(start, top, t / turn if turn > 0 else 1.0)
        return self._annealed(top, end, (t - turn) / (last - turn))

    def _annealed(self, start: float, end: float, fraction: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * fraction
        return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * fraction))


def _total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is not None:
        return whole_number_from(1, total_steps, "total_steps", "OneCycleLR")
    if epochs is None or steps_per_epoch is None:
        raise ArgumentError(
            "OneCycleLR: its length is missing; give total_steps, or epochs and steps_per_epoch."
        )
    epochs = whole_number_from(1, epochs, "epochs", "OneCycleLR")
    return epochs * whole_number_from(1, steps_per_epoch, "steps_per_epoch", "OneCycleLR")


def _momentum(value: float, name: str) -> float:
    return number_from(0, value, name, "OneCycleLR", below=1)


def _per_group(max_lr: float | Sequence[float], optimizer: Optimizer) -> list[float]:
    count = len(optimizer.param_groups)
    values = list(max_lr) if isinstance(max_lr, Sequence) else [max_lr] * count
    if len(values) != count:
        raise ArgumentError(
            f"OneCycleLR: max_lr has {len(values)} values, but the optimizer {count} parameter "
            "groups; give one a group, or one number."
        )
    return [number_from(0, value, "max_lr", "OneCycleLR") for value in values]
