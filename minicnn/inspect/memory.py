"""What a training step holds in memory, layer by layer, measured while it runs.

Backward needs what forward computed: an op keeps (`Op.save`) its input, its output or a few small
arrays. So the memory of a step grows from layer to layer on the way forward and shrinks on the way
back, and the most is held somewhere around the turn. Two things make that hard to foretell: arrays
are shared (the output of a ReLU is also the saved input of the next convolution), and kernels need
working memory of their own. So nothing here is computed from formulas. One step runs, Python's
tracemalloc counts every array that NumPy allocates, and the ops in the graph tell who keeps what.
"""

from __future__ import annotations

import copy
import functools
import operator
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from minicnn import random
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError, DeviceError
from minicnn.inspect._sheet import form
from minicnn.inspect._watch import Watch
from minicnn.nn import Module
from minicnn.nn._settings import sample_shape
from minicnn.nn.fusion import is_fusing, unfused
from minicnn.nn.module import check_module
from minicnn_kernels.threads import apply_num_threads


@dataclass(frozen=True)
class MemoryRow:
    """One layer of a `Memory`; all numbers are bytes of arrays.

    ``saved`` is what the layer keeps for backward and no layer before it kept already. ``held`` is
    everything that was there when its forward ended, and the peaks are the most that was there
    while it ran; both include the parameters, the gradients so far and the batch.
    """

    name: str
    kind: str
    output: int
    saved: int
    parameters: int
    gradients: int
    held: int
    forward_peak: int
    backward_peak: int


@dataclass(frozen=True)
class Memory:
    """The layers of a network in the order in which they run, in bytes; prints as a table.

    ``parameters``, ``gradients``, ``buffers`` and ``batch`` are there for the whole step; what an
    optimizer keeps beside them (SGD with momentum: once the parameters, Adam: twice) is not
    counted. ``peak`` is the most that was held, ``peak_layer`` the layer in which that was, and
    ``peak_pass`` whether it was "forward" or "backward".
    """

    title: str
    layers: tuple[MemoryRow, ...]
    parameters: int
    gradients: int
    buffers: int
    batch: int
    peak: int
    peak_layer: str
    peak_pass: str

    @property
    def saved(self) -> int:
        """Sum over the layers: what forward keeps for backward."""
        return sum(layer.saved for layer in self.layers)

    def table(self) -> Any:
        """The layers as a table of the rich library, in units of 10^6 bytes.

        "weights" are parameters and their gradients; "forward" and "backward" are the peaks.
        """
        from rich.table import Table

        where = f"peak {_millions(self.peak)} in {self.peak_layer}, {self.peak_pass}"
        title = f"{self.title}; in 10^6 bytes"
        table = Table(title=title, title_justify="left", caption=where, padding=0)
        for heading in ("layer", "kind"):
            table.add_column(heading)
        for heading in ("output", "saved", "weights", "held", "forward", "backward"):
            table.add_column(heading, justify="right")
        table.add_row("batch", "", _millions(self.batch), *[""] * 5)
        for row in self.layers:
            counts = (row.output, row.saved, row.parameters + row.gradients)
            totals = (row.held, row.forward_peak, row.backward_peak)
            table.add_row(row.name, row.kind, *map(_millions, (*counts, *totals)))
        table.add_section()
        sums = map(_millions, (self.saved, self.parameters + self.gradients))
        table.add_row("total", "", "", *sums, "", "", "")
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=130, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get().rstrip()


def memory(model: Module, input_shape: tuple[int, ...], batch_size: int = 1) -> Memory:
    """Run a training step on random numbers and list what its layers hold.

    ``input_shape`` is that of one sample, (C, H, W). The step is forward and backward from a
    gradient of ones by the output; a loss would add a few numbers a class. It runs in training
    mode, on a copy of the model: parameters, running statistics and the random generator stay as
    they are. Raises `ArgumentError`, and `DeviceError` for a model that is not on the CPU.

    >>> from minicnn import models
    >>> found = memory(models.create("notes_cnn"), (1, 28, 28), batch_size=2)
    >>> found.layers[0].output == 2 * 16 * 28 * 28 * 4, found.parameters == 29034 * 4
    (True, True)
    >>> found.peak >= found.parameters + found.gradients + found.batch + found.layers[0].output
    True
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ArgumentError(f"memory: batch_size is {batch_size!r}; give a whole number from 1 up.")
    check_module(model, "memory")
    shape = sample_shape(input_shape, "memory")
    if any(not isinstance(p.array, np.ndarray) for p in model.parameters()):
        raise DeviceError("memory: the model is not on the CPU; move it with model.to('cpu').")
    before = random.get_state()
    try:
        rehearsed = copy.deepcopy(model).train()
        rehearsed.zero_grad()
        return _measured(rehearsed, shape, batch_size)
    finally:
        random.set_state(before)


def _measured(model: Module, input_shape: tuple[int, ...], batch_size: int) -> Memory:
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    shape = (batch_size, *input_shape)
    batch = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    parameters = sum(p.array.nbytes for p in model.parameters())
    buffers = sum(b.nbytes for b in model.buffers())
    there = parameters + buffers + batch.nbytes

    _in_own_thread(lambda: _step(model, batch))  # compiles, plans, fills caches
    model.zero_grad()
    started_here = not tracemalloc.is_tracing()
    if started_here:
        tracemalloc.start()
    try:
        with Watch(model, there, batch) as watch:
            _in_own_thread(lambda: _step(model, batch, watch))
    finally:
        if started_here:
            tracemalloc.stop()
    rows = tuple(MemoryRow(**asdict(entry)) for entry in watch.entries)
    peak, layer, way = watch.peak
    title = f"{type(model).__name__}, {batch_size} x {form(input_shape)}"
    gradients = sum(row.gradients for row in rows)
    return Memory(title, rows, parameters, gradients, buffers, batch.nbytes, peak, layer, way)


def _step(model: Module, batch: np.ndarray, watch: Watch | None = None) -> None:
    if watch:
        watch.start()
    y = model(Tensor(batch))
    if isinstance(y, tuple):  # auxiliary heads: all of them send a gradient back
        y = functools.reduce(operator.add, y)
    gradient = np.ones_like(y.array)
    if watch:
        watch.backward(y, gradient)
    else:
        y.backward(gradient)


def _in_own_thread(step: Callable[[], None]) -> None:
    """Kernels keep working memory for each thread: in a new one it is allocated, and so counted."""
    fusing = nullcontext() if is_fusing() else unfused()

    def as_here() -> None:
        with fusing:
            step()

    with ThreadPoolExecutor(1, initializer=apply_num_threads) as thread:
        thread.submit(as_here).result()


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f}" if count else ""
