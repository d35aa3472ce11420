"""The declaration of an operation, from which every check of it follows.

>>> from minicnn.testing import Case, OpSpec, check_op
>>> spec = OpSpec(
...     "square",
...     function=lambda x: x * x,
...     cases=[Case("plain", lambda rng: (rng.normal(size=(2, 3)),))],
...     oracle=lambda x: [[value**2 for value in row] for row in x],
... )
>>> check_op(spec)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicnn.autograd import Tensor
from minicnn.testing.tolerance import is_float, to_host

Array = Any


@dataclass(frozen=True)
class Case:
    """One set of arguments of an operation.

    name : what messages call the case
    inputs : draws the positional arguments from a generator; floating-point arrays, drawn in
        float64, are converted to the dtype of the check, everything else is passed on as it is
    kwargs : keyword arguments, for the function and the oracle
    differentiable : numbers of the arguments with a gradient; by default every floating-point array
    batch : numbers of the arguments whose first axis is the batch; the case is run with an empty
        batch too, unless there is none
    updates : numbers of the arguments that the function changes in place, as batch norm does its
        running statistics; the oracle returns their new values after the result
    view : the result may share memory with an argument
    nan : a NaN in the first element of the first array must reach the result
    seed : of the generator that ``inputs`` gets

    >>> Case("plain", lambda rng: (rng.normal(size=(2, 3)),)).draw()[0].shape
    (2, 3)
    """

    name: str
    inputs: Callable[[np.random.Generator], Sequence[Any]]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    differentiable: tuple[int, ...] | None = None
    batch: tuple[int, ...] = ()
    updates: tuple[int, ...] = ()
    view: bool = False
    nan: bool = True
    seed: int = 0

    def draw(self) -> list[Any]:
        """The arguments; the same ones at each call."""
        return list(self.inputs(np.random.default_rng(self.seed)))

    def with_gradient(self, arguments: Sequence[Any]) -> tuple[int, ...]:
        """Numbers of the arguments that have a gradient."""
        if self.differentiable is not None:
            return self.differentiable
        floats = tuple(i for i, a in enumerate(arguments) if is_float(a))
        return tuple(i for i in floats if i not in self.updates)


@dataclass(frozen=True)
class Fault:
    """A way to break an operation for the length of a ``with`` block.

    name : what the fault does wrong
    plant : takes a spec and the name of a kernel set; its context gives the spec to check

    See `broken_kernel`, `broken_attribute`, `broken_function` and `tampered`, which make faults.
    """

    name: str
    plant: Callable[[OpSpec, str], AbstractContextManager[OpSpec]]


@dataclass(frozen=True)
class OpSpec:
    """An operation, an independent definition of it, and the faults that its checks must notice.

    name : of the public function
    function : takes a tensor for every floating-point array and the other arguments as they are
    cases : the arguments to check it with
    oracle : the same function of float64 arrays, written independently: as loops, or by another
        formula
    terms : numbers added up for one result, or a function of the arguments that returns it; 0 for
        an operation without rounding, whose result must equal the oracle's
    condition : by how much the largest intermediate value exceeds the largest result, or a function
        of the arguments that returns it: states a cancellation
    also : other public names of the same function
    integer : the result holds integers, whatever the dtype of the arguments
    faults : planted faults, besides those that every operation gets (see `surviving_faults`)

    >>> OpSpec("negate", lambda x: -x, [], oracle=lambda x: -x).name
    'negate'
    """

    name: str
    function: Callable[..., Tensor]
    cases: Sequence[Case]
    oracle: Callable[..., Any]
    terms: int | Callable[..., int] = 1
    condition: float | Callable[..., float] = 1.0
    also: tuple[str, ...] = ()
    integer: bool = False
    faults: Sequence[Fault] = ()

    def expected(self, case: Case, arguments: Sequence[Any]) -> list[np.ndarray]:
        """The oracle's result for float64 copies of the arguments, and the updated arguments."""
        hosts = _on_host(arguments)
        copies = [a.astype(np.float64) if is_float(a) else a for a in hosts]
        results = self.oracle(*copies, **case.kwargs)
        results = results if case.updates else (results,)
        return [np.asarray(r, np.int64 if self.integer else np.float64) for r in results]

    def rounding(self, case: Case, arguments: Sequence[Any]) -> dict[str, Any]:
        """``terms`` and ``condition`` of a case, for `assert_close`."""
        stated = {"terms": self.terms, "condition": self.condition}
        hosts = _on_host(arguments)
        return {
            key: value(*hosts, **case.kwargs) if callable(value) else value
            for key, value in stated.items()
        }


def _on_host(arguments: Sequence[Any]) -> list[Any]:
    """The arguments with every array in the memory of the CPU, where oracles are written."""
    return [to_host(a) if hasattr(a, "get") and hasattr(a, "dtype") else a for a in arguments]
