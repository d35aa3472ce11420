"""`ImportedNetwork`: a Module whose forward is a list of calls, as read from an ONNX file.

What has weights, or is a layer of `minicnn.nn`, is a part of the module under its name in the file;
what joins values (a sum, a concatenation) is a function. A call names its arguments: results of
earlier calls, or parameters and buffers of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minicnn.autograd import Tensor
from minicnn.nn import Module


class Stored(NamedTuple):
    """The argument of a call that is a parameter or buffer: its path, which no value's name is."""

    path: str


@dataclass(frozen=True)
class Call:
    """One step: the part at a path, or a function with settings, applied to named values."""

    inputs: tuple[str | Stored, ...]
    output: str
    part: str = ""
    function: Callable[..., Tensor] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class Part(Module):
    """A name on the way to layers, such as ``features`` in ``features.0.weight``."""


class ImportedNetwork(Part):
    """A network read from a file: images (N, *input_shape) in, what the file computes out.

    input_shape : of one sample
    metadata : what the file says about itself, texts by name
    calls : the steps of the forward pass
    """

    def __init__(self, source: str, input_shape: tuple[int, ...], metadata: dict[str, str]) -> None:
        super().__init__()
        self.source = source
        self.input_shape = input_shape
        self.metadata = metadata
        self.calls: tuple[Call, ...] = ()
        self.outputs: tuple[str, ...] = ()
        self._finished: list[tuple[Any, ...]] = []

    def set_calls(self, calls: Sequence[Call], outputs: Sequence[str]) -> None:
        """Take the steps, and find after which of them each value is needed no more."""
        self.calls, self.outputs = tuple(calls), tuple(outputs)
        seen: set[Any] = set(outputs)
        finished = []
        for call in reversed(self.calls):
            finished.append(tuple({name for name in call.inputs if name not in seen}))
            seen.update(call.inputs)
        self._finished = finished[::-1]

    def forward(self, x: Tensor) -> Any:
        """Run the calls; several outputs are a tuple."""
        parts = dict(self.named_modules())
        values: dict[Any, Any] = {self.source: x}
        stored: dict[str, Any] = {name: Tensor(array) for name, array in self.named_buffers()}
        stored.update(self.named_parameters())
        for call, finished in zip(self.calls, self._finished, strict=True):
            arguments = [
                stored[name.path] if isinstance(name, Stored) else values[name]
                for name in call.inputs
            ]
            run = parts[call.part] if call.function is None else call.function
            values[call.output] = run(*arguments, **call.settings)
            for name in finished:
                values.pop(name, None)
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found

    def extra_repr(self) -> str:
        """How many steps there are."""
        return f"{len(self.calls)} steps, images {self.input_shape}"
