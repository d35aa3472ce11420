"""MyGrad on NumPy. It has no layers, optimizers or running statistics: these few lines are ours."""

from __future__ import annotations

import mygrad as mg
import numpy as np
from mygrad.nnet.activations import relu
from mygrad.nnet.layers import batchnorm, conv_nd, max_pool
from mygrad.nnet.losses import softmax_crossentropy
from task import BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Task


class MygradPeer:
    """Parameters, their velocities and the functions that use them."""

    def __init__(self, task: Task) -> None:
        mg.turn_memory_guarding_off()  # a guard against mistakes that costs time
        self.training = task.training
        arrays = task.notes_weights()
        self.running = {name: arrays.pop(name) for name in list(arrays) if "running" in name}
        self.w = {name: mg.tensor(array) for name, array in arrays.items()}
        self.velocities = {name: np.zeros_like(array) for name, array in arrays.items()}
        self.x, self.labels = task.images(), task.labels()

    @staticmethod
    def versions() -> dict[str, str]:
        """Of everything that takes part."""
        return {"MyGrad": mg.__version__, "NumPy": np.__version__}

    def _model(self) -> mg.Tensor:
        x = self.x
        for conv, norm in (("0", "1"), ("4", "5")):
            x = conv_nd(x, self.w[f"{conv}.weight"], stride=1, padding=2)
            x = x + self.w[f"{conv}.bias"].reshape(1, -1, 1, 1)
            x = max_pool(relu(self._norm(x, norm)), (2, 2), 2)
        x = x.reshape(x.shape[0], -1)
        return mg.matmul(x, self.w["9.weight"].T) + self.w["9.bias"]

    def _norm(self, x: mg.Tensor, name: str) -> mg.Tensor:
        gamma, beta = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        mean, var = (self.running[f"{name}.running_{what}"] for what in ("mean", "var"))
        if not self.training:
            factor = (gamma.data / np.sqrt(var + np.float32(BATCH_NORM_EPS))).reshape(1, -1, 1, 1)
            return (x - mean.reshape(1, -1, 1, 1)) * factor + beta.reshape(1, -1, 1, 1)
        axes = (0, 2, 3)
        for old, new in ((mean, x.data.mean(axes)), (var, x.data.var(axes, ddof=1))):
            old *= 1 - BATCH_NORM_MOMENTUM
            old += BATCH_NORM_MOMENTUM * new
        return batchnorm(x, gamma=gamma, beta=beta, eps=BATCH_NORM_EPS)

    def step(self) -> None:
        """Train on the batch, or classify it."""
        if not self.training:
            self.logits()
            return
        loss = softmax_crossentropy(self._model(), self.labels)
        loss.backward()
        for name, parameter in self.w.items():
            velocity = self.velocities[name]
            velocity *= np.float32(0.9)
            velocity += parameter.grad
            parameter.data -= np.float32(0.0) * velocity  # the learning rate of every library here
        loss.item()

    def logits(self) -> np.ndarray:
        """The output for the batch."""
        with mg.no_autodiff:
            return np.asarray(self._model())
