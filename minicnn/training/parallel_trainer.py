"""`ParallelTrainer`: the training loop in one process of several that train one network.

A step of process r of n, with the images of its part of the batch:

1. forward; the loss is the mean over the own images
2. one small sum over all processes starts: losses, right answers, and whether someone pressed
   Ctrl-C. It arrives while backward runs
3. backward, weighted with the own share of the batch, so that the sum of all processes' gradients
   is the gradient of the mean over the whole batch, however unevenly that was divided. The sums of
   the gradients start on the way, see `parallel_gradients`
4. every process makes the same step with the same gradients

So the weights stay equal without being sent; once an epoch they are compared all the same. Whatever
decides how the training goes on (the record of an epoch, early stopping, an interruption) is one
process's word or everybody's sum, never each one's own, because a process that goes another way
leaves the others waiting.

Batch norms normalise by the own part of the batch, or with ``sync_bn`` by all of it. In the first
case the running statistics, which are only for evaluation, are averaged over the processes in every
step, with those of the gradients' weights; a moving average of averages is the average of moving
averages. Then a checkpoint of one process is a checkpoint of all.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.autograd import Tensor
from minicnn.data import Loader
from minicnn.data.sharded import ShardedLoader
from minicnn.errors import ArgumentError, DataError, NonFiniteError, ParallelError
from minicnn.nn import Module
from minicnn.nn._arrays import on_device, to_numpy, write
from minicnn.optim import Optimizer
from minicnn.training.evaluation import Evaluation, evaluate
from minicnn.training.history import History
from minicnn.training.metrics import ConfusionMatrix
from minicnn.training.nonfinite import ONLY_THE_LOSS
from minicnn.training.parallel import Group, Pending
from minicnn.training.parallel_gradients import GradientBuckets
from minicnn.training.parallel_nccl import fastest_channel
from minicnn.training.parallel_norm import Statistics, synchronise
from minicnn.training.trainer import Trainer, loss_and_hits


class ParallelTrainer(Trainer):
    """A `Trainer` for one process of a `Group`; all make the same calls.

    group : the processes
    sync_bn : normalise by the statistics of the whole batch instead of the own part

    `fit` takes the loader of the whole batches, which it divides. Only the callbacks of rank 0 may
    write; they may not decide anything but ``should_stop``. Other arguments as for `Trainer`.

    >>> from minicnn import nn, optim
    >>> from minicnn.training.parallel import join
    >>> model = nn.Linear(2, 2)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> if (group := join()) is not None:  # else no launcher has started several
    ...     trainer = ParallelTrainer(group, model, optimizer)
    """

    def __init__(
        self,
        group: Group,
        model: Module,
        optimizer: Optimizer,
        *,
        sync_bn: bool = False,
        **settings: Any,
    ) -> None:
        if settings.get("graph"):
            raise ArgumentError(
                "ParallelTrainer: graph=True records steps that wait for nobody; use graph=False."
            )
        super().__init__(model, optimizer, **settings)
        self.group = group
        self._reports = group.channel()
        self._statistics = Statistics(group)
        channel, xp = fastest_channel(group.channel(), model.device)
        self._buckets = GradientBuckets(channel, model.parameters(), xp)
        synchronised = synchronise(model, self._statistics) if sync_bn else 0
        self._averages = None if synchronised else _BufferAverages(group, model)
        self._shares: ShardedLoader | None = None
        self._interrupted = threading.Event()
        self._agreed = threading.Event()

    def fit(self, train: Any, validation: Any = None, epochs: int = 10) -> History:
        """As `Trainer.fit`, with the loaders of whole batches."""
        self._shares = self._own_part(train)
        if train.batch_size < self.group.size:
            raise ArgumentError(
                f"ParallelTrainer: batch_size={train.batch_size} is smaller than the number of "
                f"processes, {self.group.size}; use a larger batch or fewer processes."
            )
        self.model.load_state_dict(self.group.broadcast(self.model.state_dict(), "the weights"))
        return super().fit(self._shares, validation, epochs)

    def evaluate(self, loader: Any) -> Evaluation:
        """Measure the model on a data set that all processes share; all get the same result."""
        part = self._own_part(loader)
        if part.total(len(part) - 1) < self.group.size and len(part) == 1:
            raise DataError(
                f"evaluate: {len(part.dataset)} images cannot be shared by {self.group.size} "
                "processes; use more images or fewer processes."
            )
        batches = (batch for i, batch in enumerate(part.iterate(0)) if part.count(i))
        return _combined(self.group, evaluate(self.model, batches, self.loss))

    def _own_part(self, loader: Any) -> ShardedLoader:
        if not isinstance(loader, Loader):
            raise ArgumentError(
                f"ParallelTrainer: a {type(loader).__name__} cannot be divided among processes; "
                "pass a Loader."
            )
        return ShardedLoader(loader, self.group.rank, self.group.size)

    def _run_epoch(self, train: Any, validation: Any, interrupted: threading.Event) -> None:
        # A signal reaches the processes at different moments: only what all know may end a step.
        self._interrupted, self._agreed = interrupted, threading.Event()
        super()._run_epoch(train, validation, self._agreed)

    def _run_step(self, images: Any, labels: Any) -> None:
        """Forward, backward and sums, update: the own part of one batch."""
        assert self._shares is not None
        index = self.position.batch
        own, total = self._shares.count(index), self._shares.total(index)
        self._statistics.counts = own > 0
        device = self.model.device
        images, labels = on_device(images, device), on_device(labels, device)
        logits, loss = self.forward(images, labels)
        value, hits = loss_and_hits(logits, loss, labels)
        sums = self._report(value, hits, own)
        if self._averages is not None:
            self._averages.start(own / total)
        self._backward(loss, own / total)
        mean, right, stopped = self._reported(sums.wait(), total, value, images)
        self.apply_gradients()
        if self._averages is not None:
            self._averages.finish()
        if self.schedule_every == "step":
            self._move_schedule(mean)
        self._count_step(mean, right, total)
        self._tell("on_step_end", total)
        if stopped:
            self._agreed.set()

    def _backward(self, loss: Tensor, share: float) -> None:
        self._buckets.backward(loss, share)

    def _report(self, value: float, hits: int, own: int) -> Pending:
        """Tell the others of the own part: sum of the losses, right answers, interrupted or not."""
        counted = (value * own, hits) if own else (0.0, 0)
        report = np.array([*counted, self._interrupted.is_set()], np.float64)
        return self._reports.start_sum(report, "the sum of the losses")

    def _reported(
        self, sums: np.ndarray, total: int, value: float, images: Any
    ) -> tuple[float, int, bool]:
        """Mean loss and right answers of the whole batch, and whether anybody was interrupted."""
        mean = float(sums[0]) / total
        if not math.isfinite(mean):
            with self._statistics.alone():
                own = "" if math.isfinite(value) else self._nonfinite_message(value, images)
            found = self._reports.gather(own, "the reason of a loss that is not finite")
            seen = [(ONLY_THE_LOSS in m, rank, m) for rank, m in enumerate(found) if m]
            # Synchronised norms spread a NaN; where a layer made it, that process names the layer.
            _, rank, reason = min(seen, default=(True, 0, f"train: the mean loss is {mean}."))
            raise NonFiniteError(f"{reason} (seen by process {rank})")
        return mean, int(sums[1]), bool(sums[2])

    def _finish_epoch(self, record: dict[str, Any]) -> None:
        """One record for all, and one word on whether to stop; the weights must be equal."""
        super()._finish_epoch(self.group.broadcast(record, "the record of the epoch"))
        self.should_stop = self.group.broadcast(self.should_stop, "whether to stop")
        self.check_equal()

    def check_equal(self) -> None:
        """Raise `ParallelError` where the processes no longer have the same weights."""
        digest = hashlib.sha256()
        for name, array in self.model.state_dict().items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        found = self.group.gather(digest.hexdigest(), "the comparison of the weights")
        if others := [rank for rank, theirs in enumerate(found) if theirs != found[0]]:
            raise ParallelError(
                f"parallel: after step {self.position.step} the weights of the processes "
                f"{', '.join(map(str, others))} differ from those of process 0. A sum gave them "
                "other bits, or memory failed; continue from the last checkpoint with --resume."
            )


class _BufferAverages:
    """Keeps the floating-point buffers, the running statistics, equal: the average of all."""

    def __init__(self, group: Group, model: Module) -> None:
        self._channel = group.channel()
        self._model = model
        self._pending: Pending | None = None

    def _buffers(self) -> list[Any]:
        return [b for b in self._model.buffers() if b.dtype.kind == "f"]

    def start(self, weight: float) -> None:
        """Begin to average; the weights of all processes add up to 1."""
        if buffers := self._buffers():
            flat = np.concatenate([to_numpy(b).ravel() for b in buffers]) * np.float32(weight)
            self._pending = self._channel.start_sum(flat, "the average of the running statistics")

    def finish(self) -> None:
        """Write the averages into the buffers."""
        if self._pending is None:
            return
        flat, start = self._pending.wait(), 0
        for buffer in self._buffers():
            write(buffer, flat[start : start + buffer.size].reshape(buffer.shape))
            start += buffer.size
        self._pending = None


def _combined(group: Group, part: Evaluation) -> Evaluation:
    """The evaluation of all images from those of each process's."""
    counts = part.confusion.matrix
    images = int(counts.sum())
    top5 = part.top5_error or 0.0
    sums = group.sum(np.array([images, images * part.loss, images * top5]), "an evaluation")
    confusion = ConfusionMatrix(len(counts))
    confusion.matrix += group.sum(counts.copy(), "an evaluation")
    means = group.broadcast(sums[1:] / sums[0], "an evaluation")
    return Evaluation(
        float(means[0]),
        float(confusion.accuracy),
        None if part.top5_error is None else float(means[1]),
        confusion,
    )


def deciding(callbacks: Sequence[Any], kinds: tuple[type, ...]) -> list[Any]:
    """The callbacks that every process needs, not only the one that writes."""
    return [callback for callback in callbacks if isinstance(callback, kinds)]
