"""Building a `Module` from the nodes of an ONNX graph, one by one, and running it on shapes.

Each node is turned into a layer or a function (`onnx_nodes` has the table), which is at once run on
an array that has a shape and no numbers (`minicnn_kernels.shapes`). So the shape of every value is
known when the next node is read, which resolves padding that a file gives by name and reshapes that
mean "flatten"; and a file that cannot work is refused before a number is computed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.autograd import Tensor
from minicnn.errors import MiniCNNError
from minicnn.interop.onnx_network import Call, ImportedNetwork, Part, Stored
from minicnn.nn import Module, Parameter

#: numbers in one map, and cells along one axis of a map, that a file may ask for
LARGEST_MAP, LONGEST_SIDE = 2**27, 2**14
#: of windows, strides and padding
LARGEST_SETTING = 1024
_DEEPEST_PATH = 16

FLOAT, INT, STRING, TENSOR, FLOATS, INTS = 1, 2, 3, 4, 6, 7  # AttributeProto.type


class Unsupported(Exception):
    """Why a node cannot be turned into a layer."""


class Node:
    """A node of the graph, its attributes checked for their types when they are asked for."""

    def __init__(self, proto: Any, number: int) -> None:
        self.kind: str = proto.op_type
        self.name: str = proto.name or f"number {number}"
        self.inputs = list(proto.input)
        self.outputs = list(proto.output)
        self.number = number
        self._attributes = {a.name: a for a in proto.attribute}

    def __str__(self) -> str:
        return f"{self.kind:.60} ({self.name:.80})"

    def input(self, i: int) -> str:
        """The name of an input, or "" where it is left out."""
        return self.inputs[i] if i < len(self.inputs) else ""

    def has(self, name: str) -> bool:
        """Whether there is such an attribute."""
        return name in self._attributes

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        return int(self._attributes[name].i) if self._is(name, INT) else default

    def real(self, name: str, default: float) -> float:
        """A number."""
        return float(self._attributes[name].f) if self._is(name, FLOAT) else default

    def text(self, name: str, default: str) -> str:
        """A text."""
        if not self._is(name, STRING):
            return default
        return self._attributes[name].s.decode("utf-8", "replace")

    def integers(self, name: str, default: list[int] | None = None) -> list[int] | None:
        """A list of whole numbers."""
        return list(self._attributes[name].ints) if self._is(name, INTS) else default

    def pair(self, name: str, default: tuple[int, int]) -> tuple[int, int]:
        """Two small whole numbers, for height and width."""
        values = self.integers(name, list(default))
        assert values is not None
        if len(values) != 2 or not all(0 <= n <= LARGEST_SETTING for n in values):
            raise Unsupported(f"{name} is {values!s:.60}; two numbers up to {LARGEST_SETTING} are")
        return values[0], values[1]

    def tensor(self, name: str) -> Any:
        """A TensorProto, or None."""
        return self._attributes[name].t if self._is(name, TENSOR) else None

    def _is(self, name: str, kind: int) -> bool:
        if name not in self._attributes:
            return False
        if self._attributes[name].type != kind:
            raise Unsupported(f"its attribute {name:.40} has the wrong type")
        return True


class Builder:
    """What is known about the values of a graph while its nodes become a network."""

    def __init__(self, network: ImportedNetwork, x: Tensor, opset: int) -> None:
        self.network = network
        self.opset = opset
        self.batch = x.shape[0]
        self.tensors: dict[str, Tensor] = {network.source: x}
        self.constants: dict[str, np.ndarray] = {}
        self.trained: set[str] = set()  # constants that are weights
        self.calls: list[Call] = []
        self._parameters: dict[tuple[str, bool], Parameter] = {}
        self._places: dict[str, Stored] = {}
        self._layers: dict[tuple[Any, ...], str] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value, constants included."""
        if name in self.tensors:
            return self.tensors[name].shape
        return self.constants[name].shape

    def constant(self, name: str, what: str) -> np.ndarray:
        """An array that the file holds; refuses one that is computed."""
        if name not in self.constants:
            raise Unsupported(f"its {what} is computed, not stored")
        return self.constants[name]

    def ints(self, name: str, what: str) -> list[int]:
        """A stored list of whole numbers."""
        array = self.constant(name, what)
        if array.dtype.kind not in "iu" or array.ndim > 1 or array.size > 64:
            raise Unsupported(f"its {what} is {array.dtype} of shape {array.shape}")
        return [int(n) for n in np.atleast_1d(array)]

    def number(self, name: str, what: str) -> float:
        """A stored single number."""
        array = self.constant(name, what)
        if array.size != 1:
            raise Unsupported(f"its {what} is an array of shape {array.shape}, not a number")
        return float(array.reshape(-1)[0])

    # -- what a node becomes

    def add_layer(
        self, node: Node, make: Callable[[], Module], x: str, weights: tuple[str, ...] = ()
    ) -> None:
        """A part of the network; nodes with the same weights and settings are one part."""
        module = make().eval()  # or a norm would take its statistics from the shapes
        key = (type(module), repr(module), weights) if any(weights) else (node.number,)
        if key not in self._layers:
            self._layers[key] = self._attach(self._path(node, weights), module)
        call = Call((x,), node.outputs[0], part=self._layers[key])
        self._run(node, call, self.network.get_submodule(call.part))

    def add_function(
        self, node: Node, function: Callable[..., Tensor], inputs: list[str], **settings: Any
    ) -> None:
        """A function of values; a constant among them becomes a parameter or a buffer."""
        names = tuple(n if n in self.tensors else self._stored(n) for n in inputs)
        call = Call(names, node.outputs[0], function=function, settings=settings)
        self._run(node, call, function)

    def before(self, node: Node, function: Callable[..., Tensor], **settings: Any) -> str:
        """A function on a node's first input, before the node itself; returns the result's name."""
        name = f"\0{function.__name__} before {node.number}"  # no name in a file has a NUL
        call = Call((node.input(0),), name, function=function, settings=settings)
        self._run(node, call, function)
        return name

    def parameter(self, name: str, transposed: bool = False) -> Parameter:
        """The trained tensor of a stored array, one for all nodes that read it."""
        array = self.constant(name, "weight")
        if array.dtype.kind != "f":
            raise Unsupported(f"its weight is {array.dtype}")
        key = name, transposed
        if key not in self._parameters:
            self._parameters[key] = Parameter(array.T if transposed else array)
        return self._parameters[key]

    def _run(self, node: Node, call: Call, run: Callable[..., Any]) -> None:
        arguments = [self._argument(name) for name in call.inputs]
        try:
            result = run(*arguments, **call.settings)
            sides = max(result.shape[2:], default=0)
            if math.prod(result.shape) > LARGEST_MAP or sides > LONGEST_SIDE:
                raise Unsupported(f"its result would be {result.shape}")
        except (MiniCNNError, ValueError, OverflowError, TypeError) as error:
            raise Unsupported(str(error)) from error
        self.calls.append(call)
        self.tensors[call.output] = result

    def _argument(self, name: str | Stored) -> Tensor:
        if not isinstance(name, Stored):
            return self.tensors[name]
        owner = self.network.get_submodule(name.path.rpartition(".")[0])
        value = getattr(owner, name.path.rpartition(".")[2])
        return value if isinstance(value, Tensor) else Tensor(value)

    def _stored(self, name: str) -> Stored:
        """Where the network keeps a constant: a parameter if it is a weight, or a buffer."""
        if name not in self._places:
            array = self.constant(name, "argument")
            path = self._free(_pieces(name))
            owner = self._owner(path[:-1])
            if name in self.trained and array.dtype.kind == "f":
                owner.register_parameter(path[-1], self.parameter(name))
            else:
                owner.register_buffer(path[-1], np.array(array))
            self._places[name] = Stored(".".join(path))
        return self._places[name]

    # -- names

    def _path(self, node: Node, weights: tuple[str, ...]) -> list[str]:
        """Where a layer belongs: where its weights come from, or the scope in the node's name."""
        first = next((name for name in weights if name), "")
        if first.endswith(".weight"):
            return _pieces(first.removesuffix(".weight"))
        scopes = node.name.strip("/").split("/")[:-1]
        pairs = zip(scopes, [*scopes[1:], ""], strict=False)  # "layer1/layer1.0": one scope twice
        inner = [scope for scope, after in pairs if not after.startswith(f"{scope}.")]
        return _pieces(".".join(inner)) if inner else [f"{node.kind.lower()}_{node.number}"]

    def _attach(self, path: list[str], module: Module) -> str:
        path = self._free(path)
        self._owner(path[:-1]).add_module(path[-1], module)
        return ".".join(path)

    def _owner(self, path: list[str]) -> Module:
        owner: Module = self.network
        for piece in path:
            if piece not in owner._modules:
                owner.add_module(piece, Part())
            owner = owner._modules[piece]
        return owner

    def _free(self, path: list[str]) -> list[str]:
        """The path, changed where a name on it is taken by something that is no `Part`."""
        owner: Any = self.network
        free: list[str] = []
        for i, piece in enumerate(path):
            last = i == len(path) - 1
            number, chosen = 1, f"{piece}_" if hasattr(ImportedNetwork, piece) else piece
            start = chosen
            while owner is not None and _taken(owner, chosen, last):
                number += 1
                chosen = f"{start}_{number}"
            free.append(chosen)
            owner = None if owner is None else owner._modules.get(chosen)
        return free


def _taken(owner: Module, name: str, last: bool) -> bool:
    if name in owner._parameters or name in owner._buffers or name in vars(owner):
        return True
    return name in owner._modules and (last or type(owner._modules[name]) is not Part)


def _pieces(name: str) -> list[str]:
    """A dotted name as names of attributes."""
    pieces = [re.sub(r"\W", "_", piece) or "_" for piece in name.split(".")]
    return pieces if len(pieces) <= _DEEPEST_PATH else ["_".join(pieces)[:200]]
