"""What is known about each architecture: one `Known` for each entry of facts.json that is built.

facts.json holds, for each network of the papers, exact counts of parameters, multiply-adds and
running statistics, and its stages, computed from the papers and compared with reference
implementations. The families list which model of the registry each belongs to.
"""

import importlib
import json
import pkgutil
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minicnn import models, nn

FACTS = json.loads((Path(__file__).parent / "facts.json").read_text())


@dataclass(frozen=True)
class Known:
    """A model of the registry, what it is called in facts.json, and in torchvision if it is there.

    preset, options : arguments of `models.create`; stages : for stages of facts.json the path of
    the submodule whose output has the stage's shape; auxiliary : the path prefixes of the heads
    that only training uses, which facts.json counts apart.
    """

    model: str
    fact: str
    preset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    torchvision: str = ""
    auxiliary: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """Its entry of facts.json."""
        return FACTS[self.fact]

    def build(self) -> models.Network:
        """The network, with the numbers of channels and classes that facts.json has."""
        return models.create(self.model, preset=self.preset, **self.options)

    def outline(self) -> models.Network:
        """The same without memory for weights."""
        with nn.without_weights():
            return self.build()


@cache
def known() -> list[Known]:
    """All of them, from the modules of this folder, each with a list ``KNOWN``."""
    found = [
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    ]
    return [entry for module in found for entry in module.KNOWN]


def torchvision_models() -> Any:
    """torchvision's models, without its compiled operators, which no classifier uses."""
    import torch

    for name in ("nms", "qnms"):
        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", signature)
    import torchvision

    return torchvision.models


def images(model: models.Network, count: int = 2, seed: int = 0) -> np.ndarray:
    """Random pictures of the size that the model is built for."""
    assert model.input_shape is not None
    shape = (count, *model.input_shape)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
