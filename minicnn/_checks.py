"""What autograd checks at every op: dtypes going forward, gradients coming back, and memory."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

from minicnn.errors import DTypeError, GraphError, ShapeError
from minicnn_kernels import registry


def check_call(op: Any, arrays: list[Any]) -> None:
    """Raise `GraphError` for an op that is in a graph, `DTypeError` where float types differ."""
    if op.parents or op.freed:
        raise GraphError(
            f"{op.name}: this op object is part of a graph already, whose gradients would be lost; "
            "make a new one for each call of apply."
        )
    dtypes = {a.dtype for a in arrays if hasattr(a, "dtype")}
    if len(dtypes) > 1 and len({dtype for dtype in dtypes if dtype.kind == "f"}) > 1:
        floats = [
            (i, a) for i, a in enumerate(arrays) if hasattr(a, "dtype") and a.dtype.kind == "f"
        ]
        names = dict(enumerate(list(inspect.signature(op.forward).parameters)[1:]))
        listed = ", ".join(
            f"{names.get(i, f'argument {i}')} is {a.dtype} {a.shape}" for i, a in floats
        )
        raise DTypeError(f"{op.name}: {listed}; convert their arrays to one dtype with .astype().")


def check_gradient(what: str, g: Any, spec: tuple[tuple[int, ...], Any]) -> None:
    """Raise where a gradient is no array with the shape and dtype of its tensor."""
    shape, dtype = spec
    if hasattr(g, "requires_grad"):
        raise DTypeError(f"{what} is a tensor, but backward works on arrays; return its .array.")
    if getattr(g, "shape", None) != shape:
        raise ShapeError(
            f"{what} has shape {getattr(g, 'shape', type(g).__name__)}, but the tensor has "
            f"{shape}; they must be equal."
        )
    if g.dtype != dtype:
        raise DTypeError(
            f"{what} is {g.dtype}, but the tensor is {dtype}; they must be equal "
            "(a NumPy float64 scalar in the formula is the usual cause)."
        )


def check_unchanged(op: Any, saved: tuple[Any, ...], parameter: Any) -> None:
    """Raise `GraphError` where an op saved the array of a parameter that has changed since."""
    array = parameter.array
    kept = (a for a in saved if isinstance(a, type(array)))
    if any(op.k.xp.may_share_memory(a, array) for a in kept):
        raise GraphError(
            f"backward: {op.name} computed with a parameter of shape {parameter.shape} that an "
            "optimizer or load_state_dict has changed since; run the forward pass again after the "
            "change."
        )


@functools.cache
def snake_case(name: str) -> str:
    """The name of a class as that of a function.

    >>> snake_case("Conv2dRelu")
    'conv2d_relu'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def guarded(op: Any, method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a method of an op; a GPU without memory is an error that names the op and the cure."""
    try:
        return method(*arguments)
    except MemoryError as error:
        registry.raise_out_of_memory(f"{op.name}, {method.__name__}", error)
