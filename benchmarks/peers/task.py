"""What every library gets: the same images, labels and weights, made from names and shapes alone.

No file is passed around. An array of weights is a function of its name and shape, so that each
process makes the same ones for itself, also where it runs another version of Python and NumPy.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from timed_networks import NETWORKS, Network

# The arrays of networks.notes_cnn, for the libraries whose definition is written by hand.
NOTES_CNN = {
    "0.weight": (16, 1, 5, 5),
    "0.bias": (16,),
    "1.weight": (16,),
    "1.bias": (16,),
    "1.running_mean": (16,),
    "1.running_var": (16,),
    "4.weight": (32, 16, 5, 5),
    "4.bias": (32,),
    "5.weight": (32,),
    "5.bias": (32,),
    "5.running_mean": (32,),
    "5.running_var": (32,),
    "9.weight": (10, 32 * 49),
    "9.bias": (10,),
}
BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.1  # of the new statistics; some libraries want the share of the old ones


class NotWritten(Exception):
    """This library has no definition of the network here."""


@dataclass(frozen=True)
class Task:
    """One network, one batch; ``training`` steps or steps of inference; the number of threads."""

    network: str
    batch: int
    training: bool
    threads: int
    seed: int = 0

    @property
    def definition(self) -> Network:
        """The network itself."""
        return NETWORKS[self.network]

    def images(self) -> np.ndarray:
        """Random images (N, C, H, W), float32."""
        rng = np.random.default_rng(self.seed)
        return rng.standard_normal((self.batch, *self.definition.image), np.float32)

    def labels(self) -> np.ndarray:
        """Random classes (N,), int64."""
        return np.random.default_rng(self.seed + 1).integers(0, self.definition.classes, self.batch)

    def notes_weights(self) -> dict[str, np.ndarray]:
        """The weights of the notes' CNN; raises `NotWritten` for every other network."""
        if self.network != "notes_cnn":
            raise NotWritten("only notes_cnn is written for this library")
        return weights(NOTES_CNN)


def set_dropout(model: Any, on: bool) -> None:
    """Switch the dropout layers of a model of minicnn or PyTorch."""
    for module in model.modules():
        if type(module).__name__ == "Dropout":
            module.train(on)


def weights(shapes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Values for the parameters and buffers of these names and shapes."""
    return {name: _values(name, tuple(shape)) for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if len(shape) > 1:  # He initialisation keeps the size of the maps through the layers
        return noise * np.float32(math.sqrt(2 / math.prod(shape[1:])))
    noise *= np.float32(0.1)
    return 1 + np.abs(noise) if kind in ("weight", "running_var") else noise
