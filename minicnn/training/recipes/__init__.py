"""Training as published: one TOML file of settings for each paper, found by name.

A recipe holds the hyper-parameters of the paper and nothing about data, so it goes with any data
set. Its comment names the source and what differs. Lengths are the paper's too, meant for ImageNet
or CIFAR-10; `shortened` makes a recipe of a share of the length, with the same shape.

>>> load("wide_resnet")["milestones"]
(60, 120, 160)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minicnn.errors import ConfigError, nearest
from minicnn.training.config import TrainConfig, load_config

__all__ = ["load", "names", "shortened", "text"]

_FOLDER = Path(__file__).parent
_LENGTHS = ("epochs", "steps", "step_size", "patience", "warmup_steps")


def names() -> list[str]:
    """Names of all recipes, in alphabetical order.

    >>> "resnet_cifar" in names()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def text(name: str) -> str:
    """The file of a recipe, comment included; raises `ConfigError` for an unknown name.

    >>> text("vgg").splitlines()[0]
    '# VGG: Simonyan, Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image'
    """
    return _path(name).read_text(encoding="utf-8")


def load(name: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings of a recipe, for `resolve`; a path to a TOML file is read too.

    Raises `ConfigError` for a name that is neither a recipe nor a file, and for bad settings.

    >>> load("vgg")["batch_size"]
    256
    """
    path = Path(name)
    return load_config(path if path.suffix or path.parent.name else _path(str(name)))


def shortened(values: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The settings of a run of a share of the length: its drops of the rate come at that share.

    Epochs, steps, milestones, step size, patience and warm-up are multiplied by ``share`` and
    rounded, to 1 at least. A rate that falls a little every few epochs keeps its factor, so where
    its step size is rounded it ends at another rate.

    >>> short = shortened(load("wide_resnet"), 0.05)
    >>> short["epochs"], short["milestones"]
    (10, (3, 6, 8))
    """
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"shortened: share is {share}; give a number above 0 and at most 1.")
    defaults = TrainConfig()
    short = dict(values)
    if "steps" not in short:
        short.setdefault("epochs", defaults.epochs)
    for name in _LENGTHS:
        if short.get(name):
            short[name] = max(round(short[name] * share), 1)
    if "milestones" in short:
        scaled = (max(round(m * share), 1) for m in short["milestones"])
        short["milestones"] = tuple(sorted(set(scaled)))
    return short


def _path(name: str) -> Path:
    if name not in names():
        raise ConfigError(
            f"there is no recipe {name!r}; {nearest(name, names())}choose one of "
            f"{', '.join(names())}, or name a TOML file."
        )
    return _FOLDER / f"{name}.toml"
