"""Making arrays, and bringing them from the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from cupy import _apply, _capture
from cupy._array import ndarray


def array(obj: Any, dtype: Any = None, copy: bool | None = True, order: str = "K",
          subok: bool = False, ndmin: int = 0, *, blocking: bool = False) -> ndarray:  # fmt: skip
    """A copy of ``obj`` on the device."""
    if isinstance(obj, ndarray):
        return _apply.apply(lambda view: np.array(view, dtype, order=order, ndmin=ndmin), obj)
    parts: list[ndarray] = []
    if isinstance(obj, (list, tuple)) and _apply.plain(obj, parts) and parts:
        return _apply.apply(lambda parts: np.array(parts, dtype, ndmin=ndmin), obj)
    _capture.refuse_synchronisation()
    value = np.array(obj, dtype, order=order, ndmin=ndmin)
    if value.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {value.dtype}")
    made = _apply.new_like(value)
    made._view[...] = value
    return made


def asarray(a: Any, dtype: Any = None, order: str | None = None, *, copy: bool | None = None,
            blocking: bool = False) -> ndarray:  # fmt: skip
    """``a`` itself where it is such an array already, otherwise a copy."""
    lies_so = isinstance(a, ndarray) and (
        order in (None, "K", "A") or (a.flags.c_contiguous if order == "C" else a.flags.fnc)
    )
    if lies_so and dtype in (None, a.dtype) and not copy:
        return a
    return array(a, dtype, order=order or "K")


asanyarray = asarray


def ascontiguousarray(a: ndarray, dtype: Any = None) -> ndarray:
    """``a`` itself where it is contiguous already, otherwise a copy that is."""
    if not isinstance(a, ndarray):
        raise TypeError(f"Argument 'a' has incorrect type (got {type(a).__name__})")
    if dtype in (None, a.dtype) and a.flags.c_contiguous:
        return a
    return _apply.apply(lambda view: np.array(view, dtype, order="C"), a)


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *,
            blocking: bool = True) -> np.ndarray:  # fmt: skip
    """A copy in the memory of the host."""
    if isinstance(a, ndarray):
        return a.get(stream, order, out)
    return np.asarray(a, order=order)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def _filled(made: ndarray, value: Any) -> ndarray:
    made[...] = value
    return made


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return _filled(empty(shape, dtype, order), 0)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return _filled(empty(shape, dtype, order), 1)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    if dtype is None:
        dtype = getattr(fill_value, "dtype", None) or np.array(fill_value).dtype
    return _filled(empty(shape, dtype, order), fill_value)


def empty_like(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None,
               shape: Any = None) -> ndarray:  # fmt: skip
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    form = np.empty_like(a._view, dtype, order, shape=shape)
    return _apply.new(form.shape, form.dtype, form.strides if form.size else None)


def zeros_like(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None,
               shape: Any = None) -> ndarray:  # fmt: skip
    return _filled(empty_like(a, dtype, order, shape=shape), 0)


def ones_like(a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None,
              shape: Any = None) -> ndarray:  # fmt: skip
    return _filled(empty_like(a, dtype, order, shape=shape), 1)


def full_like(a: ndarray, fill_value: Any, dtype: Any = None, order: str = "K", subok: Any = None,
              shape: Any = None) -> ndarray:  # fmt: skip
    return _filled(empty_like(a, dtype, order, shape=shape), fill_value)


def arange(*args: Any, dtype: Any = None) -> ndarray:
    return _apply.apply(np.arange, *args, dtype=dtype)


def linspace(*args: Any, **kwargs: Any) -> ndarray:
    return _apply.apply(np.linspace, *args, **kwargs)


def eye(*args: Any, **kwargs: Any) -> ndarray:
    return _apply.apply(np.eye, *args, **kwargs)


def identity(n: int, dtype: Any = float) -> ndarray:
    return eye(n, dtype=dtype)
