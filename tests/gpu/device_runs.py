"""A small network that is trained in the tests of training on a device and of CUDA graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

import minicnn
from minicnn import nn, optim
from minicnn.data import ArrayDataset, Compose, Loader, Normalize, RandomHorizontalFlip, ToFloat
from minicnn.training.trainer import Trainer
from minicnn_kernels import registry

REASONS = registry.availability()
SETS = [name for name in ("cupy", "cupy_cuda") if REASONS[name] is None]
REASON = REASONS["cupy_cuda"]

TIMES = ("seconds", "images_per_second")

OPTIMIZERS = {
    "momentum": lambda p: optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "dampening": lambda p: optim.SGD(p, 0.05, momentum=0.9, dampening=0.2),
    "plain": lambda p: optim.SGD(p, 0.05),
    "adam": lambda p: optim.Adam(p, 1e-3),
    "adamw": lambda p: optim.AdamW(p, 1e-3),
    "rmsprop": lambda p: optim.RMSprop(p, 1e-3, momentum=0.9),
}


def dataset(count: int = 26) -> ArrayDataset:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 1, 8, 8)).astype(np.uint8)
    return ArrayDataset(pixels, rng.integers(0, 3, count), classes=["a", "b", "c"])


def loader(count: int = 26, batch_size: int = 2) -> Loader:
    transform = Compose([RandomHorizontalFlip(), ToFloat(), Normalize(0.5, 0.25)])
    return Loader(dataset(count), batch_size, shuffle=True, seed=5, transform=transform)


def network(dropout: float = 0.25) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(64, 3),
    )


def trainer(
    device: str,
    optimizer: str = "momentum",
    graph: bool = False,
    schedule: bool = True,
    model: Any = None,
    **settings: Any,
) -> Trainer:
    minicnn.seed(1)
    model = (network() if model is None else model).to(device)
    update = OPTIMIZERS[optimizer](model.parameters())
    if schedule:
        settings["scheduler"] = optim.lr_scheduler.OneCycleLR(
            update, max_lr=0.1, total_steps=60, cycle_momentum=False
        )
        settings["schedule_every"] = "step"
    settings = {"clip_norm": 1.0, "graph_steps": 3, **settings}
    return Trainer(model, update, graph=graph, **settings)


def outcome(trained: Trainer) -> dict[str, Any]:
    """Everything that two equal trainings have in common."""
    weights, arrays, meta = trained.state()
    history = [
        {name: value for name, value in record.items() if name not in TIMES}
        for record in trained.history.records
    ]
    return {
        "weights": {name: array.tobytes() for name, array in weights.items()},
        "optimizer": {name: array.tobytes() for name, array in arrays.items()},
        "history": history,
        "meta": meta,
    }
