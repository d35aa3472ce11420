"""One epoch of the notes' CNN over 60,000 images of Fashion-MNIST, as `Trainer.fit` runs it.

The time is that of the history: shuffling, batches, every step and the losses read back; the
batches are made on the device (`DeviceLoader`). Where the full data set is not at hand, pictures of
noise, as many and as large, stand in for it; the time does not depend on what is on a picture.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator

import numpy as np
from sheet import Row

import minicnn
from minicnn import Trainer, data, models, optim

BAR = 0.5  # seconds
IMAGES = 60_000
BATCHES = (128, 512, 2048)


def epochs(options: argparse.Namespace) -> Iterator[Row]:
    """Eager and as CUDA graphs, for each batch."""
    train, source = _images(8, 6) if options.quick else _images(IMAGES, 28)
    for batch in (2,) if options.quick else BATCHES:
        for graph in (False, True):
            head: Row = {"section": "epoch", "batch": batch, "graph": graph, "images": len(train)}
            try:
                seconds, loss = _train(train, batch, graph, 2 if options.quick else 4)
            except Exception as error:
                yield head | {"error": f"{type(error).__name__}: {str(error)[:200]}"}
                continue
            outcome = "pass" if seconds <= BAR else "short"
            yield head | {
                "seconds": seconds, "bar": BAR, "outcome": outcome, "loss": loss, "data": source,
            }  # fmt: skip


def _images(count: int, size: int) -> tuple[data.ArrayDataset, str]:
    if os.environ.get("MINICNN_DATA") and count == IMAGES:
        return data.fashion_mnist("train"), "Fashion-MNIST"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 1, size, size), np.uint8)
    return data.ArrayDataset(images, rng.integers(0, 10, count)), "noise"


def _train(train: data.ArrayDataset, batch: int, graph: bool, count: int) -> tuple[float, float]:
    """-> median seconds of the epochs after the first, which compiles; the last loss."""
    minicnn.seed(0)
    model = models.create("notes_cnn", image_size=train[:1][0].shape[-1]).to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    trainer = Trainer(model, optimizer, graph=graph, graph_steps=min(8, len(train) // batch - 2))
    loader = data.DeviceLoader(data.Loader(train, batch, shuffle=True))
    records = trainer.fit(loader, epochs=count).records
    return statistics.median(r["seconds"] for r in records[1:]), records[-1]["loss"]
