"""The training loop: steps, epochs, validation, history, and a state that resumes bit for bit."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from minicnn import functional as F
from minicnn import random
from minicnn.autograd import Tensor
from minicnn.data import DeviceLoader, Loader
from minicnn.errors import ArgumentError, CheckpointError, MiniCNNError, NonFiniteError
from minicnn.nn import Module
from minicnn.nn._arrays import on_device
from minicnn.optim import Optimizer, clip_grad_norm_
from minicnn.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from minicnn.training import graphed
from minicnn.training.auxiliary import total_loss
from minicnn.training.callbacks import Callback
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.evaluation import Evaluation, Loss, evaluate
from minicnn.training.graphed import GraphedSteps
from minicnn.training.history import History
from minicnn.training.interrupts import deferred_interrupts, stop_if, until
from minicnn.training.metrics import RunningMean
from minicnn.training.nonfinite import find_nonfinite
from minicnn_kernels import registry

Batches = Loader | DeviceLoader


@dataclass
class Position:
    """How far a training has come: whole epochs, batches of the running one, steps in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


class Trainer:
    """Trains a model on batches from a `Loader`.

    model, optimizer : what is trained, and how; a model may have auxiliary heads, see `auxiliary`
    loss : from logits (N, K) and labels (N,) to the mean loss
    scheduler : moves the learning rate, after every ``schedule_every`` "step" or "epoch"; a
        `ReduceLROnPlateau` watches the validation loss, without validation the training loss
    clip_norm : longest gradient over all parameters, or 0 for no limit
    callbacks : told of each step and epoch; see `Callback`
    graph : on a GPU, run ``graph_steps`` steps at a time as one CUDA graph; callbacks are then told
        of them together. See `minicnn.training.graphed`
    history : where the record of each epoch goes

    >>> import minicnn, minicnn.data, minicnn.nn, minicnn.optim
    >>> minicnn.seed(0)
    >>> points = np.random.default_rng(0).standard_normal((64, 1, 1, 2)).astype(np.float32)
    >>> data = minicnn.data.ArrayDataset(points, (points[:, 0, 0, 0] > 0).astype(int))
    >>> model = minicnn.nn.Sequential(minicnn.nn.Flatten(), minicnn.nn.Linear(2, 2))
    >>> trainer = Trainer(model, minicnn.optim.SGD(model.parameters(), lr=1.0))
    >>> history = trainer.fit(minicnn.data.Loader(data, 16), epochs=5)
    >>> history.records[-1]["accuracy"] > 0.9
    True
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        *,
        loss: Loss = F.cross_entropy,
        scheduler: LRScheduler | ReduceLROnPlateau | None = None,
        schedule_every: str = "epoch",
        clip_norm: float = 0.0,
        callbacks: Sequence[Callback] = (),
        history: History | None = None,
        graph: bool = False,
        graph_steps: int = 8,
    ) -> None:
        if schedule_every not in ("step", "epoch"):
            raise ArgumentError(
                f"Trainer: schedule_every is {schedule_every!r}; use 'step' or 'epoch'."
            )
        if isinstance(graph_steps, bool) or not isinstance(graph_steps, int) or graph_steps < 2:
            raise ArgumentError(
                f"Trainer: graph_steps is {graph_steps!r}; give a whole number >= 2."
            )
        self.model = model
        self.optimizer = optimizer
        self.loss = loss
        self.scheduler = scheduler
        self.schedule_every = schedule_every
        self.clip_norm = clip_norm
        self.callbacks = list(callbacks)
        self.history = History() if history is None else history
        self.position = Position()
        self.running = {"loss": RunningMean(), "accuracy": RunningMean()}
        self.epochs = 0
        self.batches = 0
        self.should_stop = False
        self.graph_steps = graph_steps if graph else 0
        self.graphed: GraphedSteps | None = None
        if graph:
            graphed.check(self)

    def fit(self, train: Batches, validation: Batches | None = None, epochs: int = 10) -> History:
        """Train until ``epochs`` epochs are done, those before a resume included.

        Ctrl-C, SIGTERM or SIGHUP ends the running step, or batch of the validation, lets the
        callbacks save, and raises KeyboardInterrupt. Raises `NonFiniteError` when the loss is no
        longer a number.
        """
        self.epochs, self.batches = epochs, len(train)
        if self.graph_steps:
            self.graphed = GraphedSteps(self, self.graph_steps)
        with deferred_interrupts() as interrupted:
            self._tell("on_fit_begin")
            try:
                while self.position.epoch < epochs and not self.should_stop:
                    self._run_epoch(train, validation, interrupted)
                stop_if(interrupted)
            except KeyboardInterrupt:
                self._tell("on_interrupt")
                raise
            finally:
                self.graphed = None
                self._tell("on_fit_end")
        return self.history

    def evaluate(self, loader: Batches) -> Evaluation:
        """Measure the model on a data set, in eval mode."""
        return evaluate(self.model, loader, self.loss)

    def _run_epoch(
        self, train: Batches, validation: Batches | None, interrupted: threading.Event
    ) -> None:
        started, done = time.perf_counter(), self.position.batch
        self._tell("on_epoch_begin")
        self.model.train()
        with np.errstate(all="ignore"):  # every loss is checked, with a better message
            batches = train.iterate(self.position.epoch, start=self.position.batch)
            for group in self._groups(batches, train.batch_size):
                if len(group) > 1:
                    self._replay(group)
                else:
                    self._run_step(*group[0])
                stop_if(interrupted)
        seconds = time.perf_counter() - started
        images_seen = (self.position.batch - done) * train.batch_size
        record: dict[str, Any] = {
            "kind": "epoch",
            "epoch": self.position.epoch + 1,
            "step": self.position.step,
            "lr": self.lr,
            **{name: mean.value for name, mean in self.running.items()},
        }
        if validation is not None:
            result = evaluate(self.model, until(interrupted, validation), self.loss)
            record |= {"val_loss": result.loss, "val_accuracy": result.accuracy}
        record |= {"seconds": seconds, "images_per_second": images_seen / max(seconds, 1e-9)}
        self._finish_epoch(record)

    def _groups(self, batches: Iterable[Any], batch_size: int) -> Iterator[list[Any]]:
        if self.graphed is None:
            return ([batch] for batch in batches)
        return self.graphed.groups(batches, batch_size)

    def _run_step(self, images: Any, labels: Any) -> None:
        """Forward, backward, update: one batch."""
        device = self.model.device
        images, labels = on_device(images, device), on_device(labels, device)
        logits, loss = self.forward(images, labels)
        value, hits = loss_and_hits(logits, loss, labels)
        if not math.isfinite(value):
            raise NonFiniteError(self._nonfinite_message(value, images))
        self.update(loss)
        if self.schedule_every == "step":
            self._move_schedule(value)
        self._count_step(value, hits, len(labels))
        self._tell("on_step_end", len(labels))

    def _replay(self, batches: list[Any]) -> None:
        """The steps of several batches as one CUDA graph."""
        assert self.graphed is not None
        measured = self.graphed.run(batches)
        first, last = self.position.step + 1, self.position.step + len(batches)
        for (value, hits), (_, labels) in zip(measured, batches, strict=True):
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"train: the loss is {value} in epoch {self.position.epoch + 1}, batch "
                    f"{self.position.batch + 1} (step {self.position.step + 1}, seen after steps "
                    f"{first} to {last}, which ran together). Lower the learning rate (now "
                    f"{self.lr:.3g}), clip the gradient, or check the data; with graph=False the "
                    "error names the layer."
                )
            self._count_step(value, hits, len(labels))
        self._tell("on_step_end", sum(len(labels) for _, labels in batches))

    def forward(self, images: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """Logits and loss of a batch on the model's device; old gradients are forgotten."""
        self.optimizer.zero_grad()
        return total_loss(self.model, self.model(Tensor(images)), labels, self.loss)

    def update(self, loss: Tensor) -> None:
        """Backward, clip and change the weights."""
        loss.backward()
        self.apply_gradients()

    def apply_gradients(self) -> None:
        """Clip the gradients that are there and change the weights."""
        if self.clip_norm:
            clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()

    def move_step_schedule(self) -> None:
        """What a schedule that moves after every step does then, without knowing the loss."""
        if self.schedule_every == "step":
            self._move_schedule(math.nan)

    def _count_step(self, value: float, hits: int, images: int) -> None:
        self.running["loss"].update(value, images)
        self.running["accuracy"].update(hits / images, images)
        self.position.batch += 1
        self.position.step += 1

    def _finish_epoch(self, record: dict[str, Any]) -> None:
        if self.schedule_every == "epoch":
            self._move_schedule(record.get("val_loss", record["loss"]))
        self.position.epoch += 1
        self.position.batch = 0
        for mean in self.running.values():
            mean.reset()
        self.history.append(**record)
        self._tell("on_epoch_end", record)

    def _move_schedule(self, metric: float) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(metric)
        elif self.scheduler is not None:
            self.scheduler.step()

    @property
    def lr(self) -> float:
        """The learning rate of the first parameter group, as it is now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def _nonfinite_message(self, value: float, images: np.ndarray) -> str:
        where = find_nonfinite(self.model, images)
        return (
            f"train: the loss is {value} in epoch {self.position.epoch + 1}, batch "
            f"{self.position.batch + 1} (step {self.position.step + 1}): {where}. "
            f"Lower the learning rate (now {self.lr:.3g}), clip the gradient, or check the data."
        )

    def _tell(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    # -- state: everything that the next step depends on

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
        """Weights, other arrays, and plain data: all that a bit-for-bit continuation needs."""
        arrays: dict[str, np.ndarray] = {}
        meta = {
            **asdict(self.position),
            "optimizer": _without_arrays(self.optimizer.state_dict(), "optimizer", arrays),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "random": random.get_state(),
            "running": {name: mean.state_dict() for name, mean in self.running.items()},
            "callbacks": {c.name: s for c in self.callbacks if (s := c.state_dict())},
            "stopped": self.should_stop,
        }
        return self.model.state_dict(), arrays, meta

    def load_state(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint. Nothing changes where it does not fit.

        Raises `StateDictError` where the weights are another architecture's, and
        `CheckpointError` where other parts do not fit this trainer.
        """
        before = self.state()
        try:
            self._take_state(checkpoint.weights, checkpoint.arrays, checkpoint.meta)
        except Exception as error:
            self._take_state(*before)
            if isinstance(error, MiniCNNError):
                raise
            raise CheckpointError(
                f"load_state: {checkpoint.path} does not hold the state of this training "
                f"({type(error).__name__}: {error}); resume with the settings it was made with."
            ) from error

    def _take_state(
        self, weights: dict[str, np.ndarray], arrays: dict[str, np.ndarray], meta: dict[str, Any]
    ) -> None:
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(_with_arrays(meta["optimizer"], arrays))
        if self.scheduler is not None:
            self.scheduler.load_state_dict(meta["scheduler"])
        for name, mean in self.running.items():
            mean.load_state_dict(meta["running"][name])
        for callback in self.callbacks:
            if callback.name in meta["callbacks"]:
                callback.load_state_dict(meta["callbacks"][callback.name])
        random.set_state(meta["random"])
        self.should_stop = bool(meta["stopped"])
        self.position = Position(meta["epoch"], meta["batch"], meta["step"])


def loss_and_hits(logits: Tensor, loss: Tensor, labels: Any) -> tuple[float, int]:
    """Loss and right answers of a batch as plain numbers; a GPU is waited for once."""
    hits = (logits.array.argmax(axis=1) == labels).sum()
    if isinstance(hits, np.generic):
        return loss.item(), int(hits)
    xp = registry.kernels("cuda").xp
    value, count = xp.stack([loss.array.astype(np.float64), hits.astype(np.float64)]).get()
    return float(value), int(count)


def _without_arrays(tree: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Copy nested data, moving its arrays into ``arrays`` under their paths."""
    if isinstance(tree, dict):
        return {str(k): _without_arrays(v, f"{path}/{k}", arrays) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_without_arrays(v, f"{path}/{i}", arrays) for i, v in enumerate(tree)]
    if hasattr(tree, "dtype") and hasattr(tree, "shape"):
        arrays[path] = Tensor(tree).numpy().copy()
        return {_ARRAY: path}
    return tree


def _with_arrays(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `_without_arrays`."""
    if isinstance(tree, dict):
        if set(tree) == {_ARRAY}:
            return arrays[tree[_ARRAY]]
        return {k: _with_arrays(v, arrays) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_with_arrays(v, arrays) for v in tree]
    return tree


_ARRAY = "$array"  # marks the place of an array in plain data
