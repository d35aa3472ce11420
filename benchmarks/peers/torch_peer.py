"""PyTorch on the CPU: eager, and with torch.compile."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from task import Task, set_dropout, weights


def model_of(task: Task) -> Any:
    """The network with the weights of the task, in the mode of the task."""
    model = task.definition.build(torch.nn, torch.cat)
    values = weights({name: tuple(t.shape) for name, t in model.state_dict().items()})
    model.load_state_dict({name: torch.as_tensor(array) for name, array in values.items()})
    return model.train(task.training)


class TorchPeer:
    """A model and its optimizer."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        self.training = task.training
        self.module = model_of(task)
        self.model = self.prepared(self.module)
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=0.0, momentum=0.9)
        self.x, self.y = torch.from_numpy(task.images()), torch.from_numpy(task.labels())

    @staticmethod
    def prepared(module: Any) -> Any:
        """What is called in a step."""
        return module

    @staticmethod
    def versions() -> dict[str, str]:
        """Of everything that takes part."""
        return {"PyTorch": torch.__version__}

    def step(self) -> None:
        """Train on the batch, or classify it."""
        if self.training:
            self.optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(self.model(self.x), self.y)
            loss.backward()
            self.optimizer.step()
            loss.item()
        else:
            with torch.no_grad():
                self.model(self.x)

    def logits(self) -> np.ndarray:
        """The output for the batch, without dropout."""
        set_dropout(self.module, False)
        with torch.no_grad():
            result = self.module(self.x).numpy()
        set_dropout(self.module, self.training)
        return result


class CompiledPeer(TorchPeer):
    """The same through torch.compile, which needs a C++ compiler."""

    @staticmethod
    def prepared(module: Any) -> Any:
        """Compiled at the first call."""
        return torch.compile(module)

    def logits(self) -> np.ndarray:
        """Of the compiled model where it has no dropout, which would be compiled in."""
        if self.training and any(isinstance(m, torch.nn.Dropout) for m in self.module.modules()):
            return super().logits()
        with torch.no_grad():
            return self.model(self.x).numpy()
