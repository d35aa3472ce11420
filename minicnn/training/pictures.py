"""A folder of one's own pictures as a data set that can be trained on.

The setting ``data`` names a built-in set, or else a folder, an archive or a URL. A folder that is
divided into train, validation and test stays so. Another has no official test set, so a part of it,
the same in every run whatever its seed, is kept for that.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicnn import models
from minicnn.data import ArrayDataset, ImageFolder
from minicnn.errors import ConfigError
from minicnn.training.build import DATA_SOURCES, DataSource, data_source
from minicnn.training.checkpoint import best_checkpoint, newest_checkpoint
from minicnn.training.config import TrainConfig

#: of ImageNet's pictures, red, green and blue in 0..1: what published weights were trained with
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MEASURED = 1000  # pictures whose brightness is measured; more change the third digit
_LEAST_STD = 1e-3

Statistics = tuple[float | Sequence[float], float | Sequence[float]]


def is_path(name: str) -> bool:
    """Tell whether the setting ``data`` names pictures of one's own rather than a built-in set.

    >>> is_path("mnist"), is_path("https://example.org/pets.zip"), is_path("photos/pets")
    (False, True, True)
    """
    if name in DATA_SOURCES:
        return False
    return "://" in name or os.sep in name or "/" in name or os.path.exists(name)


def settled(config: TrainConfig) -> TrainConfig:
    """The settings with the whole path of the pictures, so that they hold in any folder.

    Raises `ConfigError` where the run would be written among the pictures.
    """
    if not is_path(config.data) or "://" in config.data:
        return config
    path = os.path.abspath(os.path.expanduser(config.data))
    if Path(os.path.abspath(config.output)).is_relative_to(path):
        raise ConfigError(
            f"output = {config.output!r} lies in the folder of pictures {path}, where the run "
            "would be taken for a class; choose another --output."
        )
    return dataclasses.replace(config, data=path)


def source_of(config: TrainConfig, statistics: Statistics | None = None) -> DataSource:
    """The data set of the settings.

    statistics : mean and standard deviation of its pixels; measured, or those that the weights to
        start from were trained with, if None
    """
    if not is_path(config.data):
        return data_source(config.data)
    pictures = ImageFolder(
        config.data,
        size=stored_size(config),
        channels=config.channels,
        cache_bytes=config.cache_mb * 2**20,
        threads=config.threads,
    )
    parts = pictures.parts
    train = parts.get("train", pictures)
    if "test" in parts:
        test = parts["test"]
    else:
        test, train = train.split(config.test)  # whatever the seed: runs can be compared
    mean, std = statistics or _statistics(config, train)

    def load(split: str, source: str = "auto") -> ImageFolder:
        return {"train": train, "test": test}[split]

    return DataSource(load, mean, std, pictures, parts.get("validation"))


def statistics_of(meta: dict[str, Any]) -> Statistics:
    """The statistics that a checkpoint's network was trained with."""
    return meta["mean"], meta["std"]


def stored_size(config: TrainConfig) -> int:
    """The side of the pictures: as set, with room for crops, or what the architecture wants."""
    if config.size:
        return config.size
    if config.crop_size:
        return round(config.crop_size * 8 / 7)  # 256 for crops of 224, as AlexNet's
    return models.find(config.model).preset(config.preset or None).input_shape[1]


def _statistics(config: TrainConfig, pictures: ImageFolder) -> Statistics:
    if config.weights and Path(config.weights).is_dir():
        folder = Path(config.weights)
        found = best_checkpoint(folder) or newest_checkpoint(folder)
        if found is not None:
            return found.meta["mean"], found.meta["std"]
    elif config.weights and config.channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return measured(pictures)


def measured(pictures: ImageFolder | ArrayDataset) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in 0..1, of pictures spread over the data set."""
    step = -(-len(pictures) // _MEASURED)
    C = pictures.image_shape[0]
    count, total, squares = 0, np.zeros(C), np.zeros(C)
    for start in range(0, len(pictures), step * 100):  # 100 pictures in memory at a time
        images, _ = pictures[start : start + step * 100 : step]
        pixels = images.transpose(1, 0, 2, 3).reshape(C, -1) / 255.0
        count += pixels.shape[1]
        total += pixels.sum(axis=1)
        squares += (pixels**2).sum(axis=1)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, _LEAST_STD**2))
    return mean.round(6).tolist(), std.round(6).tolist()


def check_unchanged(source: DataSource, config: TrainConfig, meta: dict[str, Any]) -> None:
    """Raise `ConfigError` where the folder holds other pictures than when the run began."""
    if source.pictures is None or "pictures" not in meta:
        return
    if source.pictures.fingerprint() != meta["pictures"]:
        raise ConfigError(
            f"the pictures in {config.data} are not those that the run was made with, and some "
            "that it has seen may now be among those for the test; put them back, or start a new "
            "run with --weights of this one."
        )
