"""The run folder in tests/runs, kept to prove that later versions read what this one wrote.

``python tests/stored_run.py FOLDER`` writes another, for a new version of the format; the old ones
stay. The network is a tiny one that only the tests have, so that the folder takes few kilobytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import minicnn
from minicnn import models, nn
from minicnn.models import registry
from minicnn.models.network import Network
from minicnn.nn.prediction import predict
from minicnn.training.config import TrainConfig
from minicnn.training.run import Run, load_model

NAME = "stored_tiny"
STORED = Path(__file__).parent / "runs"
PROBABILITIES = "probabilities.npy"


class Tiny(Network):
    """A convolution, a batch norm and a linear layer: weights, buffers and a counter."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 4, 5, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3)
        )
        self.classifier = nn.Linear(4 * 4 * 4, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def known() -> None:
    """Make the network known by its name."""
    if NAME not in registry._architectures:
        models.register(NAME, {"fashion_mnist": models.Preset((1, 28, 28), 10)})(Tiny)


def probe() -> np.ndarray:
    """Images whose probabilities are stored beside the run."""
    return np.random.default_rng(0).standard_normal((5, 1, 28, 28)).astype(np.float32)


def write(folder: Path) -> None:
    """Train for an epoch, and store what the network then says."""
    known()
    config = TrainConfig(
        model=NAME, source="sample", images=300, epochs=1, backend="numpy", keep=1,
        validation=0.2, lr=0.05, schedule="constant", output=str(folder.parent), name=folder.name,
    )  # fmt: skip
    folder.mkdir(parents=True)
    run = Run(config, folder)
    run.fit()
    run.test()
    np.save(folder / PROBABILITIES, predict(load_model(folder)[0], probe()))


if __name__ == "__main__":
    with minicnn.use_backend("numpy"):
        write(Path(sys.argv[1]))
