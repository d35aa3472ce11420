"""What a training tells of: subclass `Callback` and give it to the `Trainer`."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minicnn.errors import ArgumentError
from minicnn.training.checkpoint import mark_best, prune, save_checkpoint

if TYPE_CHECKING:
    from minicnn.training.trainer import Trainer


class Callback:
    """Is told of each event of a training; does nothing until a subclass overrides a method.

    Set ``trainer.should_stop = True`` to end the training after the epoch. What must survive a
    resume goes into `state_dict`, as plain data.

    >>> class Print(Callback):
    ...     def on_epoch_end(self, trainer, record):
    ...         print(record["epoch"], record["loss"])
    >>> Print().name
    'Print'
    """

    @property
    def name(self) -> str:
        """Under which name a checkpoint keeps the state."""
        return type(self).__name__

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Before the first step of an epoch, or the first after a resume."""

    def on_step_end(self, trainer: Trainer, images: int) -> None:
        """After each update of the weights, by so many images; with graphs, after several."""

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """After validation; ``record`` is the epoch's line of the history."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """After Ctrl-C, when the running step is done."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch, and after an error too."""

    def state_dict(self) -> dict[str, Any]:
        """Plain data that a resume needs; an empty dict for none."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""


class EarlyStopping(Callback):
    """Ends the training when ``monitor`` has not improved for ``patience`` epochs.

    ``mode`` is "min" for a loss, "max" for an accuracy.
    """

    def __init__(self, patience: int, monitor: str = "val_loss", mode: str = "min") -> None:
        if patience < 1 or mode not in ("min", "max"):
            raise ArgumentError(
                f"EarlyStopping: patience is {patience!r} and mode {mode!r}; give a whole number "
                ">= 1, and 'min' or 'max'."
            )
        self.patience = patience
        self.monitor = monitor
        self.mode = mode
        self.best = math.inf
        self.waited = 0

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Count the epochs without improvement."""
        if self.monitor not in record:
            raise ArgumentError(
                f"EarlyStopping: the epoch has no {self.monitor!r}, only {', '.join(record)}; "
                "validate, or monitor one of those."
            )
        value = record[self.monitor] if self.mode == "min" else -record[self.monitor]
        self.waited = 0 if value < self.best else self.waited + 1
        self.best = min(self.best, value)
        if self.waited >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """The best value, how long ago it was, and how long that may be."""
        return {"best": self.best, "waited": self.waited, "patience": self.patience}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting; the patience is the one that was asked for now."""
        self.best, self.waited = state["best"], state["waited"]


class Checkpointer(Callback):
    """Saves the training into a run folder: at the start, every so often, after each epoch.

    The state before the first step is saved too: that proves early that the folder can be
    written, and a run that is killed at once can be resumed.

    seconds : time between checkpoints within an epoch; 0 for none
    keep : newest checkpoints that stay, beside the best one (highest ``val_accuracy``, or
        ``accuracy`` without validation)
    meta : plain data to keep in every checkpoint
    """

    def __init__(
        self,
        run_folder: Path,
        seconds: float = 60.0,
        keep: int = 2,
        meta: dict[str, Any] | None = None,
    ) -> None:
        self.run_folder = Path(run_folder)
        self.seconds = seconds
        self.keep = keep
        self.meta = meta or {}
        self.best_accuracy = -math.inf
        self.best_name = ""
        self._saved_at = time.monotonic()

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Save the initial state, unless this is a resume."""
        if trainer.position.step == 0:
            self.save(trainer)
        elif self.best_name and self._path(self.best_name).exists():
            # a kill may have come between saving the best epoch and marking it
            mark_best(self.run_folder, self.best_name)

    def on_step_end(self, trainer: Trainer, images: int) -> None:
        """Save where the last checkpoint is old enough."""
        if self.seconds and time.monotonic() - self._saved_at >= self.seconds:
            self.save(trainer)

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Save, and mark the best epoch."""
        accuracy = record.get("val_accuracy", record["accuracy"])
        name = self._checkpoint_name(trainer)
        is_best = accuracy > self.best_accuracy
        if is_best:
            self.best_accuracy, self.best_name = accuracy, name
        self.save(trainer)
        if is_best:
            mark_best(self.run_folder, name)

    def on_interrupt(self, trainer: Trainer) -> None:
        """Save where it was stopped."""
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write a checkpoint and remove those that are no longer wanted."""
        weights, arrays, meta = trainer.state()
        name = self._checkpoint_name(trainer)
        if not self._path(name).exists():
            save_checkpoint(self.run_folder, name, weights, arrays, {**self.meta, **meta})
            prune(self.run_folder, self.keep, {self.best_name} if self.best_name else ())
        self._saved_at = time.monotonic()

    def _path(self, name: str) -> Path:
        return self.run_folder / "checkpoints" / name

    @staticmethod
    def _checkpoint_name(trainer: Trainer) -> str:
        position = trainer.position
        return f"epoch-{position.epoch:04d}-step-{position.step:08d}"

    def state_dict(self) -> dict[str, Any]:
        """The best accuracy so far and where it is kept."""
        return {"best_accuracy": self.best_accuracy, "best_name": self.best_name}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on comparing with the best."""
        self.best_accuracy, self.best_name = state["best_accuracy"], state["best_name"]
