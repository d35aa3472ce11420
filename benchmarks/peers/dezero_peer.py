"""DeZero on NumPy."""

from __future__ import annotations

import contextlib
import importlib.metadata

import dezero
import dezero.functions as F
import dezero.layers as L
import numpy as np
from task import Task


class NotesCNN(dezero.Model):
    """The notes' CNN from DeZero's layers."""

    def __init__(self, w: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.conv1, self.norm1 = L.Conv2d(16, 5, pad=2, in_channels=1), L.BatchNorm()
        self.conv2, self.norm2 = L.Conv2d(32, 5, pad=2, in_channels=16), L.BatchNorm()
        self.top = L.Linear(10, in_size=32 * 49)
        for layer, name in ((self.conv1, "0"), (self.conv2, "4"), (self.top, "9")):
            transposed = layer is self.top  # its weight is (inputs, outputs)
            layer.W.data = w[f"{name}.weight"].T.copy() if transposed else w[f"{name}.weight"]
            layer.b.data = w[f"{name}.bias"]
        for layer, name in ((self.norm1, "1"), (self.norm2, "5")):
            layer.gamma.data, layer.beta.data = w[f"{name}.weight"], w[f"{name}.bias"]
            layer.avg_mean.data = w[f"{name}.running_mean"]
            layer.avg_var.data = w[f"{name}.running_var"]

    def forward(self, x: np.ndarray) -> dezero.Variable:
        """Images to logits."""
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = F.pooling(F.relu(norm(conv(x))), 2, 2)
        return self.top(F.flatten(x))


class DezeroPeer:
    """A model and its optimizer."""

    def __init__(self, task: Task) -> None:
        self.training = task.training
        self.model = NotesCNN(task.notes_weights())
        self.optimizer = dezero.optimizers.MomentumSGD(lr=0.0, momentum=0.9).setup(self.model)
        self.x, self.labels = task.images(), task.labels()

    @staticmethod
    def versions() -> dict[str, str]:
        """Of everything that takes part."""
        return {"DeZero": importlib.metadata.version("dezero"), "NumPy": np.__version__}

    def step(self) -> None:
        """Train on the batch, or classify it."""
        if self.training:
            self.model.cleargrads()
            loss = F.softmax_cross_entropy(self.model(self.x), self.labels)
            loss.backward()
            self.optimizer.update()
            float(loss.data)
        else:
            self._classified()

    def _classified(self) -> dezero.Variable:
        with dezero.no_grad(), contextlib.nullcontext() if self.training else dezero.test_mode():
            return self.model(self.x)

    def logits(self) -> np.ndarray:
        """The output for the batch."""
        return self._classified().data
