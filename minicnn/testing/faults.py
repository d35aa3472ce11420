"""Planted faults: broken copies of an operation that its checks must notice.

A check that passes on correct code has shown little: it may pass on everything. So every operation
is also broken on purpose, in the ways in which operations really break, and a fault that slips
through convicts the check.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from minicnn.autograd import Tensor
from minicnn.errors import MiniCNNError
from minicnn.testing.checks import check_op
from minicnn.testing.general_faults import general_faults
from minicnn.testing.spec import Fault, OpSpec
from minicnn.testing.tolerance import CheckError
from minicnn_kernels import registry


def broken_attribute(
    name: str, owner: Any, attribute: str, replacement: Callable[..., Any]
) -> Fault:
    """A function or method of a module or class replaced.

    ``replacement`` is called like the original, with the original as an additional first argument.

    >>> from minicnn.functional.activation import Tanh
    >>> broken_attribute("half", Tanh, "backward", lambda right, *a: 0.5 * right(*a)).name
    'half'
    """

    @contextlib.contextmanager
    def plant(spec: OpSpec, backend: str) -> Iterator[OpSpec]:
        with _replaced(owner, attribute, replacement):
            yield spec

    return Fault(name, plant)


def broken_kernel(name: str, primitive: str, replacement: Callable[..., Any]) -> Fault:
    """A primitive of the kernel set replaced; it gets the right one as its first argument.

    It works on NumPy arrays, whatever the device: with a set of a GPU, the right primitive and what
    the replacement gets and returns are carried over.

    >>> broken_kernel("tanh is steep", "tanh", lambda right, x: right(2 * x)).name
    'tanh is steep'
    """

    @contextlib.contextmanager
    def plant(spec: OpSpec, backend: str) -> Iterator[OpSpec]:
        k = registry.load(backend)
        on_device = replacement if k.device == "cpu" else _through_the_host(k.xp, replacement)
        with _replaced(k, primitive, on_device):
            yield spec

    return Fault(name, plant)


def broken_function(name: str, function: Callable[..., Tensor]) -> Fault:
    """Another function in the place of the right one: a wrong default, a swapped argument.

    >>> broken_function("no sign", lambda x: x * 1.0).name
    'no sign'
    """

    @contextlib.contextmanager
    def plant(spec: OpSpec, backend: str) -> Iterator[OpSpec]:
        yield dataclasses.replace(spec, function=function)

    return Fault(name, plant)


def planted_faults(spec: OpSpec) -> list[Fault]:
    """Every fault that `surviving_faults` plants: those that any operation can have, and its own.

    >>> len(planted_faults(OpSpec("nothing", lambda x: x, [], oracle=lambda x: x))) > 3
    True
    """
    return [*general_faults(spec), *spec.faults]


def surviving_faults(
    spec: OpSpec,
    backend: str = "numpy",
    dtypes: Sequence[npt.DTypeLike] = (np.float64, np.float32),
) -> list[str]:
    """Names of the planted faults that `check_op` misses; none for a spec that can be trusted.

    A fault is caught when a check fails or the library itself refuses the result. Any other
    exception is a mistake in the planting, and passes through.

    >>> from minicnn.testing import Case
    >>> def square_spec(*values):
    ...     case = Case("plain", lambda rng: (np.array(values),))
    ...     fault = broken_kernel("cubes", "multiply", lambda right, a, b: right(a, right(b, b)))
    ...     return OpSpec("square", lambda x: x * x, [case], lambda x: x * x, faults=[fault])
    >>> surviving_faults(square_spec(2.0, 3.0))
    []
    """
    return [
        fault.name for fault in planted_faults(spec) if not _caught(fault, spec, backend, dtypes)
    ]


def _caught(fault: Fault, spec: OpSpec, backend: str, dtypes: Sequence[npt.DTypeLike]) -> bool:
    with fault.plant(spec, backend) as broken:
        for dtype in dtypes:
            try:
                check_op(broken, backend, dtype)
            except (CheckError, MiniCNNError):
                return True
    return False


def _through_the_host(xp: Any, replacement: Callable[..., Any]) -> Callable[..., Any]:
    """The replacement of a primitive for arrays on a device, written for NumPy arrays."""

    def run(right: Callable[..., Any], *args: Any) -> Any:
        lives_there = [a is None or isinstance(a, xp.ndarray) for a in args]

        def right_on_host(*values: Any) -> Any:
            there = [
                xp.asarray(v) if move and isinstance(v, np.ndarray) else v
                for v, move in zip(values, lives_there, strict=True)
            ]
            return _each(_fetched, right(*there))

        def placed(value: Any) -> Any:
            for argument, on_host in zip(args, hosts, strict=True):
                if value is on_host:  # an argument handed back is part of the fault
                    return argument
            return xp.asarray(value) if isinstance(value, np.ndarray | np.generic) else value

        hosts = [_each(_fetched, a) for a in args]
        return _each(placed, replacement(right_on_host, *hosts))

    return run


def _fetched(value: Any) -> Any:
    return value.get() if hasattr(value, "get") and hasattr(value, "dtype") else value


def _each(function: Callable[[Any], Any], values: Any) -> Any:
    """A function of each array of a result: of one array, or of those in a tuple or list."""
    if type(values) in (tuple, list):
        return type(values)(function(v) for v in values)
    return function(values)


@contextlib.contextmanager
def _replaced(owner: Any, attribute: str, replacement: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, attribute)
    own = attribute in vars(owner)

    def broken(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(owner, attribute, broken)
    try:
        yield
    finally:
        if own:
            setattr(owner, attribute, original)
        else:
            delattr(owner, attribute)
