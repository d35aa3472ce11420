"""How every operation runs: on the NumPy arrays behind the device arrays, now or at each replay.

`apply` computes something new, `mutate` changes its first argument. While a stream is captured
neither computes: `apply` works out shape and dtype, takes memory for the result and leaves it
poisoned, and both record what has to be done. A replay writes to that same memory.

Mixing with NumPy arrays is refused, as CuPy refuses it: it would be a hidden copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cupy import _capture, _memory


class Flags:
    """How an array lies in memory."""

    def __init__(self, view: np.ndarray, owner: bool) -> None:
        self.c_contiguous = view.flags.c_contiguous
        self.f_contiguous = view.flags.f_contiguous
        self.owndata = owner
        self.fnc = self.f_contiguous and not self.c_contiguous
        self.forc = self.f_contiguous or self.c_contiguous

    def __getitem__(self, name: str) -> bool:
        return bool(getattr(self, name.lower()))


class Base:
    """What an array is: a NumPy view of device memory, and the memory that it keeps in use."""

    _view: np.ndarray
    _memory: _memory.Memory
    base: Base | None


_array_type: list[type[Base]] = []  # filled in by _array, which imports this module


def new(shape: tuple[int, ...], dtype: np.dtype[Any], strides: Any = None) -> Any:
    """An array of poison; ``strides`` must be those of a dense layout."""
    memory = _memory.alloc(math.prod(shape) * dtype.itemsize)
    block, offset = memory.mem.block, memory.ptr - memory.mem.ptr
    view = np.ndarray(shape, dtype, block.whole, block.start + offset, strides)
    return _array_type[0]._of(view, memory.mem, None)


def new_like(value: np.ndarray) -> Any:
    """An array of poison with the shape, the dtype and the order of axes of ``value``."""
    if value.flags.c_contiguous:
        return new(value.shape, value.dtype)
    return new(value.shape, value.dtype, np.empty_like(value, subok=False).strides)


def is_array(value: object) -> bool:
    return isinstance(value, _array_type[0])


def plain(value: Any, sources: list[Any] | None = None) -> Any:
    """``value`` with NumPy views in the place of device arrays, which are added to ``sources``."""
    if isinstance(value, Base):
        if sources is not None:
            sources.append(value)
        return value._view
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)([plain(v, sources) for v in value])
    if isinstance(value, dict):
        return {name: plain(v, sources) for name, v in value.items()}
    return value


def run(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call it as a GPU would: without warnings about division by zero, NaN or overflow."""
    with np.errstate(all="ignore"):
        return function(*args, **kwargs)


def apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``function`` of device arrays; its NumPy results become device arrays."""
    out = kwargs.get("out")
    sources: list[Any] = []
    real_args, real_kwargs = plain(args, sources), plain(kwargs, sources)
    if out is not None and not (isinstance(out, tuple) and all(o is None for o in out)):
        _capture.perform(lambda: run(function, real_args, real_kwargs))
        return out[0] if isinstance(out, tuple) and len(out) == 1 else out
    result = _trial(function, real_args, real_kwargs)
    if isinstance(result, (tuple, list)) and any(
        isinstance(r, (np.ndarray, np.generic)) for r in result
    ):
        results = [_placed(r, sources) for r in result]
        _fill(results, function, real_args, real_kwargs)
        return type(result)(r[0] for r in results)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    placed = _placed(result, sources)
    _fill([placed], function, real_args, real_kwargs)
    return placed[0]


def _trial(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The result; in capture the arguments may hold poison, and zeros show the shape as well."""
    if _capture.recording() is None:
        return run(function, args, kwargs)
    try:
        return run(function, args, kwargs)
    except (IndexError, ValueError, OverflowError):
        return run(function, _zeros(args), _zeros(kwargs))


def _zeros(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.zeros_like(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_zeros(v) for v in value)
    if isinstance(value, dict):
        return {name: _zeros(v) for name, v in value.items()}
    return value


def _placed(result: Any, sources: list[Any]) -> tuple[Any, Any]:
    """The device array of a result, with the value still to be written there (None for a view)."""
    if not isinstance(result, (np.ndarray, np.generic)):
        return result, None
    if isinstance(result, np.ndarray):
        for source in sources:
            if result.base is source._memory.block.whole:
                return _array_type[0]._of(result, source._memory, source), None
    value = np.asarray(result)
    return new_like(value), value


def _fill(
    results: list[tuple[Any, Any]], function: Callable[..., Any], args: Any, kwargs: Any
) -> None:
    """Write what was computed, or record that it is to be computed and written."""
    targets = [(i, array._view) for i, (array, value) in enumerate(results) if value is not None]
    if not targets:
        return
    recording = _capture.recording()
    if recording is None:
        for i, view in targets:
            view[...] = results[i][1]
        return
    single = len(results) == 1

    def replay() -> None:
        values = run(function, args, kwargs)
        for i, view in targets:
            view[...] = values if single else values[i]

    recording.operations.append(replay)


def mutate(function: Callable[..., Any], target: Any, *args: Any, **kwargs: Any) -> None:
    """``function(target, ...)``, which changes ``target``."""
    if not is_array(target):
        raise TypeError(
            f"Argument 'a' has incorrect type (expected cupy.ndarray, got {type(target)})"
        )
    real_args, real_kwargs = plain(args), plain(kwargs)
    view = target._view
    _capture.perform(lambda: run(function, (view, *real_args), real_kwargs))
