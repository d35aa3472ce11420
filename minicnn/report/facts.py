"""What a run folder knows: settings, history, result, machine, and the best weights' test scores.

A folder may hold all of that or only the beginning: a run that is going on, was interrupted, or
was killed before its first epoch. Whatever is there is read; what is missing is None or empty, and
the page leaves out what cannot be said.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn import nn
from minicnn.data.loader import BatchDataset
from minicnn.errors import CheckpointError
from minicnn.inspect import Summary, summary
from minicnn.nn import Module
from minicnn.report import environment
from minicnn.training.build import DataSource, create_model
from minicnn.training.checkpoint import Checkpoint, best_checkpoint, newest_checkpoint
from minicnn.training.config import TrainConfig, load_config, resolve
from minicnn.training.evaluation import Evaluation, evaluate_probabilities, probabilities
from minicnn.training.history import History
from minicnn.training.pictures import source_of, statistics_of
from minicnn.training.run import eval_loader, load_model
from minicnn.training.run_folder import inside

if TYPE_CHECKING:
    from minicnn.training.run import Run


@dataclass(frozen=True)
class Facts:
    """What the files of a run folder say; no picture was looked at for it.

    epochs : the records of the history; result : of result.json, or None
    meta : of the checkpoint whose weights count, or None where there is none yet
    sessions : on which machine it ran; see `minicnn.report.environment`
    """

    folder: Path
    config: TrainConfig
    epochs: list[dict[str, Any]]
    result: dict[str, Any] | None
    meta: dict[str, Any] | None
    sessions: list[dict[str, str]]

    @property
    def name(self) -> str:
        """The run's name: that of its folder."""
        return self.folder.resolve().name

    @property
    def planned(self) -> int:
        """How many epochs the run shall take, as far as that is known."""
        noted = self.sessions[-1].get("epochs planned", "") if self.sessions else ""
        return int(noted) if noted.isdigit() else self.config.epochs

    @property
    def seconds(self) -> float:
        """Time spent in training steps, over all epochs that are done."""
        return math.fsum(self.column("seconds"))

    def column(self, name: str) -> list[float]:
        """The finite values of a field of the history."""
        found = [record.get(name) for record in self.epochs]
        return [float(v) for v in found if isinstance(v, int | float) and math.isfinite(v)]

    def points(self, name: str) -> list[tuple[float, float]]:
        """(epoch, value) of a field; NaN where it was not finite, nothing where there is none."""
        return [
            (record.get("epoch", i), math.nan if record[name] is None else record[name])
            for i, record in enumerate(self.epochs, start=1)
            if name in record
        ]

    def best(self, name: str, choose: Any = max) -> float | None:
        """The best value of a field, or None."""
        values = self.column(name)
        return float(choose(values)) if values else None

    def skeleton(self) -> Module | None:
        """The network without memory for its weights, or None where no checkpoint describes it."""
        if self.meta is None:
            return None
        meta = self.meta
        with nn.without_weights():
            return create_model(
                meta["model"], meta["classes"], tuple(meta["image_shape"]),
                meta.get("preset", ""), meta.get("model_options", {}).items(),
            ).eval()  # fmt: skip

    def summary(self, model: Module | None) -> Summary | None:
        """The layers of the run's network; None for None."""
        if model is None or self.meta is None:
            return None
        return summary(model, tuple(self.meta["image_shape"]))


@dataclass(frozen=True)
class Answers:
    """What the network says of each test image: ``probabilities`` (N, K) beside the ``labels``."""

    classes: list[str]
    images: np.ndarray | _Images
    labels: np.ndarray
    probabilities: np.ndarray
    epoch: int
    seconds: float

    def evaluation(self) -> Evaluation:
        """Loss, accuracy, top-5 error and confusion matrix."""
        return evaluate_probabilities(self.probabilities, self.labels)


def facts(folder: Path) -> Facts:
    """Read a run folder; raises `CheckpointError` where it is none, or a file in it is corrupt."""
    config = resolve(load_config(inside(folder, "config.toml")))
    history = folder / "history.jsonl"
    records = History.read(history).records if history.exists() else []
    epochs = [record for record in records if record.get("kind", "epoch") == "epoch"]
    checkpoint = _checkpoint(folder)
    meta = None if checkpoint is None else checkpoint.meta
    return Facts(folder, config, epochs, _result(folder), meta, environment.sessions(folder))


def measure(folder: Path, config: TrainConfig, backend: str | None = None) -> Answers:
    """Measure the best weights of a run, or the newest, on its test set.

    ``backend`` computes; by default the one that is selected on the CPU.
    """
    model, checkpoint = load_model(folder, backend)
    source = source_of(config, statistics_of(checkpoint.meta))
    return _measured(model, source, config, checkpoint.meta["classes"], checkpoint.meta["epoch"])


def measure_now(run: Run, epoch: int) -> Answers:
    """Measure the network of a run as it is now in memory, with the weights of that epoch."""
    return _measured(run.model, run.source, run.config, list(run.classes), epoch)


def _measured(
    model: Module, source: DataSource, config: TrainConfig, classes: list[str], epoch: int
) -> Answers:
    test = source.load("test", source=config.source)
    started = time.perf_counter()
    found, labels = probabilities(model, eval_loader(test, source, config))
    seconds = time.perf_counter() - started
    return Answers(list(classes), _Images(test), labels, found, epoch, seconds)


class _Images:
    """The pictures of a data set by number; one is read when it is asked for."""

    def __init__(self, dataset: BatchDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, number: int) -> np.ndarray:
        image: np.ndarray = self.dataset[np.array([number])][0][0]
        return image


def _checkpoint(folder: Path) -> Checkpoint | None:
    """The best checkpoint, else the newest; None where there is none that can be read."""
    try:
        return best_checkpoint(folder) or newest_checkpoint(folder)
    except CheckpointError:
        return None


def _result(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
