"""minicnn: the networks of timed_networks.py on the selected CPU kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from task import Task, set_dropout, weights

import minicnn
import minicnn.functional as F
from minicnn import nn, optim
from minicnn_kernels import registry


def model_of(task: Task) -> Any:
    """The network with the weights of the task, in the mode of the task."""
    model = task.definition.build(nn, F.cat)
    model.load_state_dict(weights({name: a.shape for name, a in model.state_dict().items()}))
    return model.train(task.training)


class MinicnnPeer:
    """A model and its optimizer."""

    def __init__(self, task: Task) -> None:
        minicnn.set_num_threads(task.threads)
        self.training = task.training
        self.model = model_of(task)
        self.optimizer = optim.SGD(self.model.parameters(), lr=0.0, momentum=0.9)
        self.x, self.labels = minicnn.Tensor(task.images()), task.labels()

    @staticmethod
    def versions() -> dict[str, str]:
        """Of everything that takes part."""
        versions = {"minicnn": minicnn.__version__, "NumPy": np.__version__}
        if registry.selected("cpu") == "numba":
            import numba

            versions["Numba"] = numba.__version__
        return versions

    def step(self) -> None:
        """Train on the batch, or classify it."""
        if self.training:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(self.x), self.labels)
            loss.backward()
            self.optimizer.step()
            loss.item()
        else:
            with minicnn.no_grad():
                self.model(self.x)

    def logits(self) -> np.ndarray:
        """The output for the batch, without dropout."""
        set_dropout(self.model, False)
        with minicnn.no_grad():
            result = self.model(self.x).numpy()
        set_dropout(self.model, self.training)
        return result
