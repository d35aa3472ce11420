"""Following a training step: which layer runs, which ops it makes, what is held meanwhile.

Layers with hooks are not fused with their neighbours, so hooks would change what they measure. A
`Watch` replaces the ``forward`` of the modules instead, by functions that are marked as ones that
leave the fusion alone.
"""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn.autograd import Op, Tensor
from minicnn.nn import Module
from minicnn.nn.fusion import has_plain_forward, passes_everything_on


@dataclass
class Entry:
    """What is known about one layer so far, in bytes; see `minicnn.inspect.memory.MemoryRow`."""

    name: str
    kind: str
    output: int = 0
    saved: int = 0
    parameters: int = 0
    gradients: int = 0
    held: int = 0
    forward_peak: int = 0
    backward_peak: int = 0


class Watch:
    """Inside ``with``, the forward of every module of a model reports here.

    ``there`` counts the bytes of the arrays that exist already. A layer gets an entry each time
    that it runs; a module made of others gets one where it computes something itself, such as the
    sum at the end of a residual block. `backward` watches the way back from a result.
    """

    def __init__(self, model: Module, there: int, batch: np.ndarray) -> None:
        self.entries: list[Entry] = []
        self._model = model
        self._names = {id(m): name or type(m).__name__ for name, m in model.named_modules()}
        arrays = [batch, *(p.array for p in model.parameters()), *model.buffers()]
        self._known = {id(_owner(array)) for array in arrays}
        self._counted: set[int] = set()  # parameters
        self._seen: weakref.WeakKeyDictionary[Op, Entry] = weakref.WeakKeyDictionary()
        self._running: list[Module] = []
        self._replaced: dict[Module, Callable[..., Any]] = {}
        self._there = there
        self._peak = (0, "", "forward")

    @property
    def peak(self) -> tuple[int, str, str]:
        """The most that was held, the layer, and on which way: forward or backward."""
        return self._peak

    def __enter__(self) -> Watch:
        for module in self._model.modules():
            watched = self._watched(module, module.forward)
            if has_plain_forward(module):
                passes_everything_on(watched)
            if "forward" in vars(module):
                self._replaced[module] = module.forward
            vars(module)["forward"] = watched
        return self

    def __exit__(self, *exception: object) -> None:
        for module in self._model.modules():
            del vars(module)["forward"]
            if module in self._replaced:
                vars(module)["forward"] = self._replaced[module]

    def start(self) -> None:
        """Take what is allocated now as what is there."""
        tracemalloc.reset_peak()
        self._there -= tracemalloc.get_traced_memory()[0]

    # -- forward

    def _watched(self, module: Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._running:
                self._own_work(self._running[-1], args)
            self._running.append(module)
            output = forward(*args, **kwargs)
            self._running.pop()
            if any(module.children()):
                self._own_work(module, (output,))
            else:
                kind = type(module).__name__ + ("+ReLU" if kwargs.get("relu") else "")
                self._enter(module, kind, output, self._new_ops((output,)))
            return output

        return watched

    def _own_work(self, module: Module, tensors: Iterable[Any]) -> None:
        """What a module of modules did since the last of its parts ended."""
        tensors = list(_tensors(tensors))
        ops = self._new_ops(tensors)
        if ops:
            self._enter(module, type(module).__name__, tensors[-1], ops)
        elif self.entries:
            self._take(self.entries[-1], "forward")

    def _enter(self, module: Module, kind: str, output: Any, ops: list[Op]) -> None:
        entry = Entry(self._names[id(module)], kind)
        entry.output = sum(t.array.nbytes for t in _tensors((output,)))
        entry.saved = sum(map(self._newly_saved, ops))
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in self._counted:
                self._counted.add(id(parameter))
                entry.parameters += parameter.array.nbytes
                entry.gradients += parameter.array.nbytes if parameter.requires_grad else 0
        entry.held = self._take(entry, "forward")
        self._seen.update(dict.fromkeys(ops, entry))
        self.entries.append(entry)

    def _new_ops(self, results: Iterable[Any]) -> list[Op]:
        """The ops behind some tensors that belong to no layer yet."""
        found: dict[Op, None] = {}
        waiting: list[Any] = [tensor.op for tensor in _tensors(results)]
        while waiting:
            op = waiting.pop()
            if isinstance(op, Op) and op not in self._seen and op not in found:
                found[op] = None
                waiting += op.parents
        return list(found)

    def _newly_saved(self, op: Op) -> int:
        """Bytes of the arrays that an op keeps, those that are counted already left out."""
        kept = [a for a in (*op.saved, *vars(op).values()) if isinstance(a, np.ndarray)]
        owners = {id(owner): owner for owner in map(_owner, kept) if id(owner) not in self._known}
        self._known.update(owners)
        return sum(owner.nbytes for owner in owners.values())

    # -- backward

    def backward(self, result: Tensor, gradient: np.ndarray) -> None:
        """Go back from a result; each op reports when it starts."""
        now = [self.entries[-1]]

        def watch(op: Op, entry: Entry) -> None:
            reference = weakref.ref(op)  # op -> its backward -> op would keep the op alive

            def watched(k: Any, gy: Any) -> Any:
                self._take(now[0], "backward")
                now[0] = entry
                own: Any = reference()
                return type(own).backward(own, k, gy)

            vars(op)["backward"] = watched

        for op, entry in list(self._seen.items()):
            watch(op, entry)
        del op
        result.backward(gradient)
        self._take(now[0], "backward")

    # -- counting

    def _take(self, entry: Entry, way: str) -> int:
        """Note the most since the last call for a layer; -> what is held now."""
        current, peak = (self._there + count for count in tracemalloc.get_traced_memory())
        tracemalloc.reset_peak()
        if way == "forward":
            entry.forward_peak = max(entry.forward_peak, peak)
        else:
            entry.backward_peak = max(entry.backward_peak, peak)
        if peak > self._peak[0]:
            self._peak = (peak, entry.name, way)
        return current


def _owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory this one is a view of, or itself."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
