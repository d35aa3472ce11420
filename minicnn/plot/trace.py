"""What a network does with an image, as a graph of its operations, found by running it.

A picture of a network that someone drew by hand tells what the network was meant to be. This one is
read off the object: one image without numbers goes through it (`minicnn_kernels.fields`: shapes
only, nothing is computed and no weight is needed), and autograd, which remembers for every result
the operations that it came from, has then recorded the graph. Hooks on the modules tell which
operation is the work of which layer; a layer whose work leaves no operation in evaluation, such as
dropout, is noted at the operation that it passed on.

The graph is then put into a standard form, in which pictures of different authors' code are equal:

- a sum of sums is one sum, and a sum times a constant belongs to it (the mean of a fractal join);
- a concatenation that begins with all of an earlier one reads that one instead: a DenseNet layer,
  which concatenates the maps of *all* layers before it, then only adds its maps to what is there,
  and the dense block is a chain of equal links.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicnn.autograd import Op, Tensor
from minicnn.nn import Dropout, Module, evaluating
from minicnn_kernels.fields import image
from minicnn_kernels.registry import in_this_thread

INPUT = -1


@dataclass
class Node:
    """One operation: the layer whose work it is (or None), inputs by number, shape of the result.

    ``marks`` are layers that passed the result on as it is. The number of a node is its place in
    the order of computing; that of the image is `INPUT`.
    """

    number: int
    kind: str
    path: str
    layer: Module | None
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    marks: list[Module] = field(default_factory=list)


def trace(model: Module, input_shape: tuple[int, ...]) -> dict[int, Node]:
    """The operations of a model in evaluation, in the order of computing, for one sample.

    >>> from minicnn import nn
    >>> chain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    >>> [(node.kind, node.path, node.shape) for node in trace(chain, (1, 5, 5)).values()]
    [('conv2d', '0', (2, 3, 3)), ('relu', '1', (2, 3, 3))]
    """
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    x = Tensor(image((1, *input_shape), dtype), requires_grad=True)
    watch = _Watch()
    with ExitStack() as handles:
        for path, module in model.named_modules():
            if not any(module.children()):
                handles.enter_context(module.register_forward_hook(watch.hook(path)))
        with evaluating(model), in_this_thread("fields"):
            nodes = watch.nodes(model(x), x)
    _contract_sums(nodes)
    _nest_concatenations(nodes)
    return nodes


def readers(nodes: dict[int, Node]) -> dict[int, list[int]]:
    """Who reads the result of each node, and the image."""
    found: dict[int, list[int]] = {number: [] for number in (INPUT, *nodes)}
    for number, node in nodes.items():
        for source in dict.fromkeys(node.inputs):
            found[source].append(number)
    return found


class _Watch:
    """Notes whose work each operation is, while a model runs."""

    def __init__(self) -> None:
        self._layers: dict[Op, tuple[str, Module]] = {}  # by the last operation of the layer
        self._inside: set[Op] = set()  # the others
        self._marks: dict[Op, list[Module]] = {}

    def hook(self, path: str) -> Any:
        """The hook of the layer at that path."""

        def note(module: Module, arguments: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.op is None:
                return
            given = {a.op for a in arguments if isinstance(a, Tensor)}
            if output.op not in given:
                self._layers[output.op] = (path, module)
                self._inside |= {op for op in _behind(output.op, given) if op is not output.op}
            elif isinstance(module, Dropout):
                self._marks.setdefault(output.op, []).append(module)

        return note

    def nodes(self, output: Tensor, x: Tensor) -> dict[int, Node]:
        """The graph from x to the output; the operations inside a layer are one with it."""
        assert output.op is not None
        shapes = {output.op: output.shape[1:]}
        from_image: dict[Op, int] = {}  # the others make weights
        for op in sorted(_behind(output.op, set()), key=lambda op: op.order):
            for parent, spec in zip(op.parents, op.specs, strict=True):
                if isinstance(parent, Op) and spec is not None:
                    shapes[parent] = spec[0][1:]
            if any(p is x or p in from_image for p in op.parents):
                from_image[op] = len(from_image)
        nodes = {}
        for op, number in from_image.items():
            if op not in self._inside:
                path, layer = self._layers.get(op, ("", None))
                inputs = tuple(self._sources(op, x, from_image))
                marks = self._marks.get(op, [])
                nodes[number] = Node(number, op.name, path, layer, inputs, shapes[op], marks)
        return nodes

    def _sources(self, op: Op, x: Tensor, numbers: dict[Op, int]) -> Iterator[int]:
        for parent in op.parents:
            if parent is x:
                yield INPUT
            elif isinstance(parent, Op) and parent in self._inside:
                yield from self._sources(parent, x, numbers)
            elif isinstance(parent, Op) and parent in numbers:
                yield numbers[parent]


def _behind(root: Op, stops: set[Op | None]) -> set[Op]:
    """An operation and those that it came from, as far as the stops."""
    found: set[Op] = set()
    waiting: list[Any] = [root]
    while waiting:
        op = waiting.pop()
        if isinstance(op, Op) and op not in found and op not in stops:
            found.add(op)
            waiting += op.parents
    return found


def _contract_sums(nodes: dict[int, Node]) -> None:
    """(a + b) + c becomes one sum of three, and a constant factor behind it makes it a mean."""
    followers = {number: len(found) for number, found in readers(nodes).items()}
    for node in list(nodes.values()):
        if node.layer is not None or node.kind not in ("add", "multiply"):
            continue
        for source in node.inputs:
            before = nodes.get(source)
            if before is None or before.kind != "add" or before.layer is not None:
                continue
            if followers[source] == 1 and (node.kind == "add" or len(node.inputs) == 1):
                at = node.inputs.index(source)
                node.inputs = (*node.inputs[:at], *before.inputs, *node.inputs[at + 1 :])
                node.kind = "add" if node.kind == "add" else "mean of maps"
                del nodes[source]


def _nest_concatenations(nodes: dict[int, Node]) -> None:
    """concat(a, b, c) becomes concat(concat(a, b), c) where concat(a, b) is there already."""
    made: dict[tuple[int, ...], int] = {}
    for number, node in nodes.items():
        if node.kind != "concat":
            continue
        whole = node.inputs
        for length in range(len(whole) - 1, 1, -1):
            if whole[:length] in made:
                node.inputs = (made[whole[:length]], *whole[length:])
                break
        made.setdefault(whole, number)
