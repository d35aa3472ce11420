"""One training step, written for each way to run it: the same network, weights, batch and SGD.

A contender has ``call()``, which launches ``steps`` steps and returns their losses where they lie,
without waiting for them where the library need not; `values` waits. Those that replay a captured
graph run their first steps eagerly, to compile and to warm up, as part of the same training: so the
losses of all contenders can be compared step by step, replays included.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import cupy
import numpy as np
import torch_calls
from task import weights
from timed_networks import Network, notes_cnn, resnet20, resnet50

import minicnn
import minicnn.functional as F
from minicnn import Trainer, nn, optim
from minicnn.training import graphed
from minicnn.training.graphed import GraphedSteps

LR, MOMENTUM = 1e-3, 0.9
WARM_UP = 3  # eager steps of PyTorch before a capture
GRAPH_STEPS = 8  # steps of minicnn in one graph


def tiny(library: Any, cat: Any) -> Any:
    """Every kind of layer of the others, for a run that only shows that everything runs."""
    body = [library.Conv2d(1, 4, 3, padding=1), library.BatchNorm2d(4), library.ReLU()]
    return library.Sequential(
        *body, library.MaxPool2d(2), library.Flatten(), library.Linear(4 * 9, 3)
    )


NETWORKS = {
    "tiny": Network(tiny, (1, 6, 6), 2, 3),
    "notes_cnn": Network(notes_cnn, (1, 28, 28), 128, 10),
    "resnet20": Network(resnet20, (3, 32, 32), 256, 10),
    "resnet50": Network(resnet50, (3, 224, 224), 64, 1000),
}


class LeftOut(Exception):
    """Why a contender cannot run here."""


@dataclass(frozen=True)
class Work:
    """A network and a batch."""

    network: str
    batch: int

    def images(self) -> np.ndarray:
        """Random images, the same for all."""
        shape = self.batch, *NETWORKS[self.network].image
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    def labels(self) -> np.ndarray:
        """Random classes."""
        return np.random.default_rng(1).integers(0, NETWORKS[self.network].classes, self.batch)

    def build(self, library: Any, cat: Any) -> Any:
        """The network with values that depend on names and shapes alone."""
        model = NETWORKS[self.network].build(library, cat)
        values = weights({name: tuple(a.shape) for name, a in model.state_dict().items()})
        return model, values

    def terms(self) -> int:
        """Products added up between an image and its logits, all layers together."""
        with nn.without_weights():
            model = NETWORKS[self.network].build(nn, F.cat)
        shapes = [p.shape for p in model.parameters()]
        return sum(int(np.prod(shape[1:])) for shape in shapes if len(shape) > 1)

    def layers(self) -> int:
        """Convolutions and fully connected layers."""
        with nn.without_weights():
            model = NETWORKS[self.network].build(nn, F.cat)
        return sum(len(p.shape) > 1 for p in model.parameters())


class Ours:
    """minicnn, eager, with the kernel set that the device uses."""

    name = "minicnn"
    steps = 1  # of a call

    def __init__(self, work: Work) -> None:
        self.model, values = work.build(nn, F.cat)
        self.model.load_state_dict(values)
        self.model.to("cuda")
        self.optimizer = optim.SGD(self.model.parameters(), lr=LR, momentum=MOMENTUM)
        self.x = minicnn.Tensor(cupy.asarray(work.images()))
        self.labels = cupy.asarray(work.labels())

    def call(self) -> list[Any]:
        """Launch a step."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return [loss]

    @staticmethod
    def values(losses: list[Any]) -> list[float]:
        """The losses as numbers."""
        return [float(loss.item()) for loss in losses]


class OursGraphed(Ours):
    """What `Trainer` does with ``graph=True``: several steps a replay, losses read at its end.

    Every step gets its batch anew, though here it is the same one.
    """

    name = "minicnn, CUDA graph"

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        trainer = Trainer(self.model, self.optimizer, graph=True, graph_steps=GRAPH_STEPS)
        self.graphed = GraphedSteps(trainer, GRAPH_STEPS)
        self.eager = graphed.WARM_UP

    def call(self) -> list[Any]:
        """An eager step at first, then replays."""
        if self.eager:
            self.eager -= 1
            return super().call()
        self.steps = GRAPH_STEPS
        batches = [(self.x.array, self.labels)] * GRAPH_STEPS
        return [loss for loss, _ in self.graphed.run(batches)]

    @staticmethod
    def values(losses: list[Any]) -> list[float]:
        """The losses as numbers, which those of a replay are."""
        return [float(loss) for loss in losses]


class Torch:
    """PyTorch, eager, in its own layout."""

    name = "torch"
    steps = 1
    layout: str | None = None

    def __init__(self, work: Work, torch: Any) -> None:
        self.torch = torch
        where = torch_calls.device(torch)
        self.model, values = work.build(torch.nn, torch.cat)
        self.model.load_state_dict({k: torch.as_tensor(v) for k, v in values.items()})
        self.model.to(where).train()
        self.x = torch.from_numpy(work.images()).to(where)
        self.labels = torch.from_numpy(work.labels()).to(where)
        if self.layout is not None:
            form = getattr(torch, self.layout)
            self.model.to(memory_format=form)
            self.x = self.x.contiguous(memory_format=form)
        self.called = self.prepared(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=MOMENTUM)

    def prepared(self, model: Any) -> Any:
        """What is called in a step."""
        return model

    def call(self) -> list[Any]:
        """Launch a step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.torch.nn.functional.cross_entropy(self.called(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return [loss.detach()]

    @staticmethod
    def values(losses: list[Any]) -> list[float]:
        """The losses as numbers."""
        return [float(loss.item()) for loss in losses]


class TorchChannelsLast(Torch):
    """The layout that cuDNN's tensor cores read."""

    name = "torch, channels_last"
    layout = "channels_last"


class TorchGraph(Torch):
    """A captured CUDA graph of the whole step."""

    name = "torch, CUDA graph"

    def __init__(self, work: Work, torch: Any) -> None:
        if torch_calls.device(torch) != "cuda":
            raise LeftOut("PyTorch sees no CUDA device")
        super().__init__(work, torch)
        self.graph: Any = None
        self.done = 0

    def call(self) -> list[Any]:
        """A replay, after some eager steps on a stream of their own."""
        if self.graph is None and self.done == WARM_UP:
            self._capture()
        if self.graph is not None:
            self.graph.replay()
            return self.losses
        self.done += 1
        side = self.torch.cuda.Stream()
        side.wait_stream(self.torch.cuda.current_stream())
        with self.torch.cuda.stream(side):
            losses = super().call()
        self.torch.cuda.current_stream().wait_stream(side)
        return losses

    def _capture(self) -> None:
        self.graph = self.torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with self.torch.cuda.graph(self.graph):
            self.losses = super().call()


class TorchGraphChannelsLast(TorchGraph):
    """The same in the layout of cuDNN's tensor cores."""

    name = "torch, CUDA graph, channels_last"
    layout = "channels_last"


class TorchCompile(Torch):
    """torch.compile with its own graphs."""

    name = "torch.compile, reduce-overhead"
    layout = "channels_last"

    def prepared(self, model: Any) -> Any:
        """Compiled at the first call, by Triton and a C compiler."""
        if torch_calls.device(self.torch) != "cuda":
            raise LeftOut("PyTorch sees no CUDA device")
        if not any(map(shutil.which, ("gcc", "cc", "clang"))):
            raise LeftOut("there is no C compiler, which Triton needs")
        return self.torch.compile(model, mode="reduce-overhead")


OURS = (Ours, OursGraphed)
THEIRS = (Torch, TorchChannelsLast, TorchGraph, TorchGraphChannelsLast, TorchCompile)
