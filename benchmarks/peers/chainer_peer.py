"""Chainer 7 on NumPy; it needs NumPy 1.23 or older, hence an environment of its own."""

from __future__ import annotations

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
from task import BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Task


class NotesCNN(chainer.Chain):
    """The notes' CNN from Chainer's links."""

    def __init__(self, w: dict[str, np.ndarray]) -> None:
        super().__init__()
        with self.init_scope():
            self.conv1 = L.Convolution2D(1, 16, 5, 1, 2, False, w["0.weight"], w["0.bias"])
            self.norm1 = _batch_norm(w, "1")
            self.conv2 = L.Convolution2D(16, 32, 5, 1, 2, False, w["4.weight"], w["4.bias"])
            self.norm2 = _batch_norm(w, "5")
            self.top = L.Linear(32 * 49, 10, False, w["9.weight"], w["9.bias"])

    def forward(self, x: np.ndarray) -> chainer.Variable:
        """Images to logits."""
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = F.max_pooling_2d(F.relu(norm(conv(x))), 2)
        return self.top(x)


def _batch_norm(w: dict[str, np.ndarray], name: str) -> L.BatchNormalization:
    return L.BatchNormalization(
        len(w[f"{name}.weight"]),
        decay=1 - BATCH_NORM_MOMENTUM,
        eps=BATCH_NORM_EPS,
        initial_gamma=w[f"{name}.weight"],
        initial_beta=w[f"{name}.bias"],
        initial_avg_mean=w[f"{name}.running_mean"],
        initial_avg_var=w[f"{name}.running_var"],
    )


class ChainerPeer:
    """A model and its optimizer."""

    def __init__(self, task: Task) -> None:
        chainer.global_config.train = task.training
        chainer.global_config.enable_backprop = task.training
        self.model = NotesCNN(task.notes_weights())
        self.optimizer = chainer.optimizers.MomentumSGD(lr=0.0, momentum=0.9).setup(self.model)
        self.x, self.labels = task.images(), task.labels().astype(np.int32)

    @staticmethod
    def versions() -> dict[str, str]:
        """Of everything that takes part."""
        return {"Chainer": chainer.__version__, "NumPy": np.__version__}

    def step(self) -> None:
        """Train on the batch, or classify it."""
        if chainer.config.train:
            self.model.cleargrads()
            loss = F.softmax_cross_entropy(self.model(self.x), self.labels)
            loss.backward()
            self.optimizer.update()
            float(loss.array)
        else:
            self.model(self.x)

    def logits(self) -> np.ndarray:
        """The output for the batch."""
        return self.model(self.x).array
