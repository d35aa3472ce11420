"""Several opinions: of several networks on a picture, of one network on several crops of it.

Networks that were trained from different initial weights make different mistakes, and so does one
network on different crops. Where most are right, the mean of their class probabilities is right
too, although a part of them errs. AlexNet's entry of 2012 was a mean over seven networks and, for
each, over ten crops: the four corners and the centre of the picture, and the same mirrored.

The mean is of softmax outputs and not of logits: probabilities of different networks are on one
scale. A picture too small for crops is padded first, as it was in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import ArgumentError, ConfigError
from minicnn.nn import Module
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.config import TrainConfig, load_config, resolve
from minicnn.training.evaluation import Evaluation, evaluate_probabilities, probabilities
from minicnn.training.pictures import (
    check_unchanged,
    is_path,
    source_of,
    statistics_of,
    stored_size,
)
from minicnn.training.run import apply_machine_settings, eval_loader, load_model
from minicnn.training.run_folder import inside
from minicnn_kernels import registry


def evaluate_ensemble(
    models: Sequence[Module], batches: Iterable[tuple[Any, Any]], crop_size: int | None = None
) -> Evaluation:
    """Measure the mean of the class probabilities of several models on the same batches.

    batches : a `Loader`, or a list of (images, labels): it is run through for each model
    crop_size : then each model's probabilities are a mean over ten crops of that size

    Raises `ArgumentError` where there is no model, or models differ in the number of classes.

    >>> from minicnn import nn
    >>> images, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> evaluate_ensemble([nn.Identity(), nn.Identity()], [(images, labels)]).accuracy
    1.0
    """
    if not models:
        raise ArgumentError("evaluate_ensemble: there are no models; give at least one.")
    parts = [probabilities(model, batches, crop_size) for model in models]
    classes = sorted({found.shape[1] for found, _ in parts})
    if len(classes) > 1:
        raise ArgumentError(
            f"evaluate_ensemble: the models have {' and '.join(map(str, classes))} classes; give "
            "models of the same classes."
        )
    return evaluate_probabilities(np.mean([found for found, _ in parts], axis=0), parts[0][1])


@dataclass(frozen=True)
class RunsEvaluation:
    """What `evaluate_runs` measured: each run, with the checkpoint used, and all together."""

    each: tuple[Evaluation, ...]
    checkpoints: tuple[Checkpoint, ...]
    together: Evaluation

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self.checkpoints[0].meta["classes"]


def evaluate_runs(
    folders: Sequence[Path],
    source: str | None = None,
    crops: int = 1,
    crop_size: int | None = None,
    crop_padding: int | None = None,
    backend: str | None = None,
) -> RunsEvaluation:
    """Measure the best weights of runs on the test set of their data, each alone and the mean.

    source : which data, in place of what each run used
    crops : 1, the picture or its middle; 10, the mean over ten crops
    crop_size : side of the crops; that of the pictures that a network was trained on if None
    crop_padding : pixels added on each side before cropping; if None as many as in training, where
        the crops would be the whole picture, else none
    backend : kernel set that computes, in place of what each run used

    Raises `ConfigError` where runs were trained on different data or classes.
    """
    if crops not in (1, 10):
        raise ConfigError(f"crops = {crops} must be 1 or 10.")
    if crops == 1 and (crop_size is not None or crop_padding is not None):
        raise ConfigError("crop_size and crop_padding are for ten crops; set crops = 10.")
    folders = [Path(folder) for folder in folders]
    configs = [
        resolve(load_config(inside(folder, "config.toml")), {"source": source, "backend": backend})
        for folder in folders
    ]
    loaded = [load_model(folder) for folder in folders]
    _check_fit(folders, configs, [checkpoint for _, checkpoint in loaded])
    origin = source_of(configs[0], statistics_of(loaded[0][1].meta))
    check_unchanged(origin, configs[0], loaded[0][1].meta)
    test = origin.load("test", source=configs[0].source)
    found = []
    for config, (model, checkpoint) in zip(configs, loaded, strict=True):
        apply_machine_settings(config)
        model.to(registry.load(config.backend).device)
        size = padding = None
        if crops == 10:
            size, padding = _crops(config, test.image_shape[1:], crop_size, crop_padding)
        mean, std = statistics_of(checkpoint.meta)
        batches = eval_loader(test, replace(origin, mean=mean, std=std), config, padding)
        found.append(probabilities(model, batches, size)[0])
    return RunsEvaluation(
        tuple(evaluate_probabilities(one, test.labels) for one in found),
        tuple(checkpoint for _, checkpoint in loaded),
        evaluate_probabilities(np.mean(found, axis=0), test.labels),
    )


def _crops(
    config: TrainConfig, image_size: tuple[int, ...], size: int | None, padding: int | None
) -> tuple[int, int]:
    """The side of the crops of a run, and how many pixels are added around its pictures."""
    side = min(image_size)
    size = size or config.crop_size or side
    if padding is None:
        padding = 0 if size < side else config.crop_padding
    if not 0 < size < side + 2 * padding:
        raise ConfigError(
            f"ten crops of side {size} of {image_size[0]}x{image_size[1]} pictures with "
            f"{padding} pixels around them: the crops must be smaller; lower crop_size or raise "
            "crop_padding."
        )
    return size, padding


def _check_fit(
    folders: Sequence[Path], configs: Sequence[TrainConfig], checkpoints: Sequence[Checkpoint]
) -> None:
    """Raise unless all runs can be measured on one test set."""
    if not folders:
        raise ConfigError("there are no runs to measure; name at least one run folder.")
    first = configs[0], checkpoints[0].meta["classes"]
    for folder, config, checkpoint in zip(folders, configs, checkpoints, strict=True):
        if config.data != first[0].data or checkpoint.meta["classes"] != first[1]:
            raise ConfigError(
                f"{folders[0]} and {folder} do not fit together: {first[0].data} with "
                f"{len(first[1])} classes and {config.data} with "
                f"{len(checkpoint.meta['classes'])}; name runs of the same data and classes."
            )
        if _pictures(config) != _pictures(first[0]):
            raise ConfigError(
                f"{folders[0]} and {folder} do not see the same pictures: size, channels and "
                "test must be equal, because they decide what is tested."
            )
        if config.source != first[0].source:
            raise ConfigError(
                f"{folders[0]} was trained on source {first[0].source!r} and {folder} on "
                f"{config.source!r}; say with --source which test set is meant."
            )


def _pictures(config: TrainConfig) -> tuple[Any, ...]:
    """What decides on the test pictures of a folder."""
    if not is_path(config.data):
        return ()
    return stored_size(config), config.channels, config.test
