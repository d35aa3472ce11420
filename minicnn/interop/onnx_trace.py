"""What a network computes, as a list of steps: found by running it twice and watching.

A network is Python code, and no one can read off it which operations an image will pass through.
But every operation goes through `autograd.apply`; so the network is run, and `apply` tells of each
op, its arguments and its result. A result is recognised when it comes back as the argument of a
later op, because it is the same array: that makes the graph. What is no result of the input (a
parameter, a buffer, a number, and whatever is computed from these alone) is a constant.

One run shows the sizes of one batch and hides which numbers depend on it. So there are two, on
different images, two of them and then three. What is the same in both runs holds for every batch;
an axis that is 2 long in one and 3 in the other is the batch; a constant that differs is no
constant: the code went around the ops, and the steps would not say what it computes. Such a network
is refused, and so is one whose two runs take different ways.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn import autograd
from minicnn.autograd import Op, Tensor, no_grad
from minicnn.errors import ArgumentError
from minicnn.nn import Module, evaluating, unfused
from minicnn.nn._arrays import on_device
from minicnn.nn.calls import running
from minicnn_kernels import registry

BATCHES = (2, 3)
#: what ops keep for their way back or from their forward, and what a shape says already
_NOT_SETTINGS = {"needs", "saved", "old", "size", "lengths", "count", "shape", "mean", "var", "key"}


@dataclass(eq=False)
class Value:
    """A tensor that depends on the images; an axis of None grows with the batch."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(eq=False)
class Constant:
    """An array that does not; ``name`` is that of the parameter or buffer that it is."""

    name: str
    array: np.ndarray


@dataclass(eq=False)
class Step:
    """One op: its arguments are each a `Value`, a `Constant`, a number or None."""

    op: Any  # an Op; the table of ops knows which, and so which settings it has
    inputs: tuple[Any, ...]
    output: Value
    layer: str  # path of the module whose forward applied it

    def __str__(self) -> str:
        return f"{self.op.name} in {self.layer or 'the network itself'}"


@dataclass(frozen=True)
class Trace:
    """The steps from ``input`` to ``outputs``, in the order in which they ran."""

    input: Value
    steps: tuple[Step, ...]
    outputs: tuple[Value, ...]


def trace(model: Module, input_shape: tuple[int, ...], caller: str) -> Trace:
    """Follow a model in eval mode; ``input_shape`` is that of one sample, such as (C, H, W).

    The model is not changed. Raises `ArgumentError` for one that cannot be told by its ops.

    >>> from minicnn import nn
    >>> found = trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2), "example")
    >>> [(str(step), step.output.shape) for step in found.steps]
    [('reshape in 0', (None, 4)), ('linear in 1', (None, 3))]
    """
    first, second = (_Recorder(model, caller).run(input_shape, N) for N in BATCHES)
    return _merged(first, second, caller)


class _Recorder:
    """One run of a model, written down."""

    def __init__(self, model: Module, caller: str) -> None:
        self.model = model
        self.caller = caller
        self.steps: list[Step] = []
        self._layers = {id(m): path for path, m in model.named_modules()}
        self._counts: dict[str, int] = {}
        # by the id of the array; a weak reference tells whether the id is still that array's
        self._values: dict[int, tuple[weakref.ref[Any], Value]] = {}
        self._constants: dict[int, Constant] = {}
        self._kept: list[Any] = []  # arrays whose ids must not be given again
        for name, parameter in model.named_parameters():
            self._enter(parameter.array, name)
        for name, buffer in model.named_buffers():
            self._enter(buffer, name)

    def run(self, input_shape: tuple[int, ...], N: int) -> Trace:
        """Run the model on N random samples."""
        first = next(self.model.parameters(), None)
        dtype = np.dtype(np.float32) if first is None else first.dtype
        noise = np.random.default_rng(N).standard_normal((N, *input_shape)).astype(dtype)
        device = "cpu" if first is None else registry.device_of(first.array)
        x = Tensor(on_device(noise, device))
        source = self._new_value(x.array, "input")
        with evaluating(self.model), no_grad(), unfused(), registry.in_this_thread("numpy"):
            output = self._watched(x)
        found = output if isinstance(output, (tuple, list)) else (output,)
        outputs = tuple(self._seen(y) if isinstance(y, Tensor) else None for y in found)
        if not all(isinstance(y, Value) for y in outputs):
            raise ArgumentError(
                f"{self.caller}: {type(self.model).__name__} returns something that no op computed "
                "from the images; return a tensor, or a tuple of tensors."
            )
        return Trace(source, tuple(self.steps), outputs)  # type: ignore[arg-type]

    def _watched(self, x: Tensor) -> Any:
        with _recording(self), np.errstate(all="ignore"):
            return self.model(x)

    def __call__(self, op: Op, arguments: tuple[Any, ...], result: Tensor) -> None:
        """Write an op down; one that only reads constants makes another constant."""
        inputs = tuple(self._seen(a) for a in arguments)
        module = running.stack[-1] if running.stack else None
        layer = self._layers.get(id(module), "")
        name = self._numbered(f"{layer}.{op.name}" if layer else op.name)
        if any(isinstance(a, Value) for a in inputs):
            value = self._new_value(result.array, name)
            self.steps.append(Step(op, inputs, value, layer))
        else:
            self._enter(result.array, name)

    def _seen(self, argument: Any) -> Any:
        array = argument.array if isinstance(argument, Tensor) else argument
        if not hasattr(array, "dtype") or not hasattr(array, "shape"):
            return array
        known = self._values.get(id(array))
        if known is not None and known[0]() is array:
            return known[1]
        if id(array) not in self._constants:
            self._enter(array, self._numbered("constant"))
        return self._constants[id(array)]

    def _new_value(self, array: Any, name: str) -> Value:
        value = Value(name, tuple(array.shape))
        self._values[id(array)] = (weakref.ref(array), value)
        return value

    def _enter(self, array: Any, name: str) -> None:
        self._kept.append(array)
        self._constants.setdefault(id(array), Constant(name, on_device(array, "cpu")))

    def _numbered(self, name: str) -> str:
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"


@contextmanager
def _recording(record: _Recorder) -> Iterator[None]:
    before, autograd._thread.record = autograd._thread.record, record
    try:
        yield
    finally:
        autograd._thread.record = before


def _merged(first: Trace, second: Trace, caller: str) -> Trace:
    """The first run, with the axes that grow with the batch set to None."""
    pairs = list(zip(first.steps, second.steps, strict=False))
    for one, other in pairs:
        same = len(one.inputs) == len(other.inputs) and type(one.op) is type(other.op)
        if not (same and all(map(_is_same, one.inputs, other.inputs))):
            raise _refused(caller, one)
        if not _is_same(_settings(one.op), _settings(other.op)):
            raise _refused(caller, one)
    outputs = [[v.name for v in run.outputs] for run in (first, second)]
    if len(first.steps) != len(second.steps) or outputs[0] != outputs[1]:
        raise _refused(caller, first.steps[-1] if first.steps else None)
    for one, other in pairs:
        one.output.shape = _by_batch(one, one.output.shape, other.output.shape, caller)
    first.input.shape = (None, *first.input.shape[1:])
    return first


def _refused(caller: str, step: Step | None) -> ArgumentError:
    return ArgumentError(
        f"{caller}: two runs of the model on different images differ at {step}: what it computes "
        "depends on the images or their number by a way around minicnn's functions; compute with "
        "tensors throughout (no .array, .numpy() or .item() in forward)."
    )


def _by_batch(
    step: Step, one: tuple[Any, ...], other: tuple[Any, ...], caller: str
) -> tuple[int | None, ...]:
    shape = tuple(n if n == m else None for n, m in zip(one, other, strict=False))
    grown = [(n, m) for n, m in zip(one, other, strict=False) if n != m]
    if len(one) != len(other) or any(n * BATCHES[1] != m * BATCHES[0] for n, m in grown):
        raise ArgumentError(
            f"{caller}: {step} makes {one} of {BATCHES[0]} images and {other} of {BATCHES[1]}; "
            "each axis must have one length, or grow as the batch does."
        )
    return shape


def _settings(op: Op) -> dict[str, Any]:
    return {name: value for name, value in vars(op).items() if name not in _NOT_SETTINGS}


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Value):
        return isinstance(other, Value) and one.name == other.name
    if isinstance(one, Constant):
        return isinstance(other, Constant) and _is_same(one.array, other.array)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return (one is other) or np.array_equal(one, other, equal_nan=True)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[k], other[k]) for k in one)
    return bool(one == other)
