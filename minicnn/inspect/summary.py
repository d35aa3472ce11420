"""A table of a network's layers: output shape, parameters, multiply-adds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn.autograd import Tensor, no_grad
from minicnn.nn import Module
from minicnn_kernels.registry import use_backend
from minicnn_kernels.shapes import blank


@dataclass(frozen=True)
class LayerRow:
    """One layer of a `Summary`: shapes without the batch axis; multiply-adds for one sample."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """The layers of a network in the order in which they run; prints as a table.

    Multiply-adds count the weights of convolutions and fully connected layers, trained or fixed,
    each as often as it is used; biases, normalisation, activations and pooling are not counted.
    """

    title: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerRow, ...]
    parameters: int

    @property
    def multiply_adds(self) -> int:
        """Sum over the layers, for one sample."""
        return sum(layer.multiply_adds for layer in self.layers)

    def table(self) -> Any:
        """The summary as a table of the rich library."""
        from rich.table import Table

        table = Table(title=self.title, title_justify="left")
        for heading in ("layer", "kind", "output"):
            table.add_column(heading)
        table.add_column("parameters", justify="right")
        table.add_column("multiply-adds", justify="right")
        table.add_row("input", "", _form(self.input_shape), "", "")
        for row in self.layers:
            counts = (f"{n:,}" if n else "" for n in (row.parameters, row.multiply_adds))
            table.add_row(row.name, row.kind, _form(row.output_shape), *counts)
        table.add_section()
        table.add_row("total", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=110, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get().rstrip()


def summary(model: Module, input_shape: tuple[int, ...]) -> Summary:
    """Send the shape of one sample through the model and list its layers; nothing is computed.

    ``input_shape`` is that of one sample, (C, H, W). The model is not changed: it runs in eval mode
    and gets its mode back. A layer that runs twice is listed twice, its parameters once.

    >>> from minicnn import models
    >>> rows = summary(models.create("notes_cnn"), (1, 28, 28)).layers
    >>> rows[-1].output_shape, rows[-1].parameters
    ((10,), 15690)
    """
    rows: list[LayerRow] = []
    counted: set[int] = set()

    def record(name: str, layer: Module) -> Any:
        def hook(module: Module, arguments: Any, output: Tensor) -> None:
            fresh = [p for p in module.parameters() if id(p) not in counted]
            counted.update(id(p) for p in fresh)
            parameters = sum(p.size for p in fresh)
            shape = output.shape[1:]
            rows.append(
                LayerRow(
                    name, type(module).__name__, shape, parameters, _multiply_adds(module, shape)
                )
            )

        return layer.register_forward_hook(hook)

    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    handles = [record(name, layer) for name, layer in leaves]
    modes = [(m, m.training) for m in model.modules()]
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    try:
        model.eval()
        with no_grad(), use_backend("shapes"):
            model(Tensor(blank((1, *input_shape), dtype)))
    finally:
        for module, training in modes:
            module.training = training
        for handle in handles:
            handle.remove()
    total = sum(p.size for p in model.parameters())
    title = f"{type(model).__name__}, input {_form(input_shape)}"
    return Summary(title, tuple(input_shape), tuple(rows), total)


def _multiply_adds(layer: Module, output_shape: tuple[int, ...]) -> int:
    """Weights times the positions at which they are applied; 0 for a layer without a matrix."""
    weight = getattr(layer, "weight", None)  # a parameter, or a buffer where it is fixed
    if weight is None or weight.ndim < 2:
        return 0
    return weight.size * math.prod(output_shape[1:] if weight.ndim > 2 else output_shape[:-1])


def _form(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
