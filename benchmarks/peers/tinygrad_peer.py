"""tinygrad on the CPU: whole steps captured by TinyJit. It compiles with clang (or CC)."""

from __future__ import annotations

import importlib.metadata
import os

os.environ["DEV"] = "CPU"  # it would rather take a GPU, or say only that there is none

import numpy as np
from task import Task
from tinygrad import Tensor, TinyJit, nn
from tinygrad.helpers import Context


class NotesCNN:
    """The notes' CNN from tinygrad's layers."""

    def __init__(self, w: dict[str, np.ndarray]) -> None:
        self.layers = {
            "0": nn.Conv2d(1, 16, 5, padding=2),
            "1": nn.BatchNorm2d(16),
            "4": nn.Conv2d(16, 32, 5, padding=2),
            "5": nn.BatchNorm2d(32),
            "9": nn.Linear(32 * 49, 10),
        }
        state = nn.state.get_state_dict(self.layers)
        for name, array in w.items():
            state[name].assign(Tensor(array)).realize()

    def __call__(self, x: Tensor) -> Tensor:
        """Images to logits."""
        for conv, norm in (("0", "1"), ("4", "5")):
            x = self.layers[norm](self.layers[conv](x)).relu().max_pool2d()
        return self.layers["9"](x.flatten(1))


class TinygradPeer:
    """A model, its optimizer and the captured step."""

    def __init__(self, task: Task) -> None:
        self.training = task.training
        self.model = NotesCNN(task.notes_weights())
        self.x, self.y = Tensor(task.images()).realize(), Tensor(task.labels()).realize()
        optimizer = nn.optim.SGD(nn.state.get_parameters(self.model.layers), lr=0.0, momentum=0.9)

        def train() -> Tensor:
            optimizer.zero_grad()
            loss = self.model(self.x).sparse_categorical_crossentropy(self.y).backward()
            return loss.realize(*optimizer.schedule_step())

        self.captured = TinyJit(train if task.training else lambda: self.model(self.x).realize())

    @staticmethod
    def versions() -> dict[str, str]:
        """Of everything that takes part."""
        return {"tinygrad": importlib.metadata.version("tinygrad")}

    def step(self) -> None:
        """Train on the batch, or classify it; reading the result waits for the end."""
        with Context(TRAINING=int(self.training)):
            self.captured().numpy()

    def logits(self) -> np.ndarray:
        """The output for the batch."""
        with Context(TRAINING=int(self.training)):
            return self.model(self.x).numpy()
