"""The functions of NumPy's name that work on device arrays, and a few that only CuPy has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cupy import _apply, _capture
from cupy._array import ndarray
from cupy._capture import refuse_cublas

# The host has to read from the device before it knows the shape of the result.
_WAITING = frozenset(
    ("nonzero", "argwhere", "flatnonzero", "unique", "unique_all", "unique_counts", "bincount",
     "unique_inverse", "unique_values", "compress", "extract", "histogram", "union1d", "delete",
     "intersect1d", "setdiff1d", "setxor1d")
)  # fmt: skip


class ufunc:
    """A function of each element; refuses NumPy arrays."""

    def __init__(self, function: np.ufunc) -> None:
        self._function, self.__name__, self.name = function, function.__name__, function.__name__
        self.__doc__ = function.__doc__
        self.nin, self.nout, self.nargs = function.nin, function.nout, function.nargs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) > self.nin:  # positional outputs
            kwargs["out"], args = args[self.nin :], args[: self.nin]
        return _apply.apply(self._function, *args, **kwargs)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        """Apply at each index, as often as it occurs, into ``a``."""
        index = indices if isinstance(indices, (slice, int, type(...))) else _plain_index(indices)
        value = () if b is None else (_apply.plain(b),)
        _apply.mutate(lambda view: self._function.at(view, index, *value), a)

    def reduce(self, *args: Any, **kwargs: Any) -> Any:
        return _apply.apply(self._function.reduce, *args, **kwargs)

    def accumulate(self, *args: Any, **kwargs: Any) -> Any:
        return _apply.apply(self._function.accumulate, *args, **kwargs)

    def outer(self, *args: Any, **kwargs: Any) -> Any:
        return _apply.apply(self._function.outer, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<ufunc {self.name!r}>"


def _plain_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_plain_index(i) for i in index)
    if isinstance(index, (list, np.ndarray)):
        _capture.refuse_synchronisation()
        return index
    return _apply.plain(index)


def _forward(name: str) -> Callable[..., Any]:
    original = getattr(np, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        refuse_cublas(name)
        if name in _WAITING:
            _capture.refuse_synchronisation()
        result = _apply.apply(original, *args, **kwargs)
        if isinstance(result, bool):  # array_equal and the like
            return _apply.apply(np.asarray, result)
        return result

    function.__name__ = function.__qualname__ = name
    return function


def copyto(dst: ndarray, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    mask = {} if where is None else {"where": where}
    _apply.mutate(np.copyto, dst, src, casting, **mask)


def put(a: ndarray, ind: Any, v: Any, mode: str = "wrap") -> None:
    _apply.mutate(np.put, a, ind, v, mode)


def putmask(a: ndarray, mask: Any, values: Any) -> None:
    _apply.mutate(np.putmask, a, mask, values)


def place(arr: ndarray, mask: Any, vals: Any) -> None:
    _apply.mutate(np.place, arr, mask, vals)


def fill_diagonal(a: ndarray, val: Any, wrap: bool = False) -> None:
    _apply.mutate(np.fill_diagonal, a, val, wrap)


def put_along_axis(arr: ndarray, indices: Any, values: Any, axis: int) -> None:
    _apply.mutate(np.put_along_axis, arr, indices, values, axis)


def matmul(a: Any, b: Any, /, out: ndarray | None = None, **kwargs: Any) -> Any:
    refuse_cublas("matmul")
    return _apply.apply(np.matmul, a, b, **kwargs, **({} if out is None else {"out": out}))


def copy(a: ndarray, order: str = "K") -> ndarray:
    return a.copy(order)


def may_share_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    if isinstance(a, ndarray) and isinstance(b, ndarray):
        return bool(np.may_share_memory(a._view, b._view))
    return False


shares_memory = may_share_memory


def result_type(*values: Any) -> np.dtype[Any]:
    return np.result_type(*_apply.plain(values))


def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    return np.can_cast(from_.dtype if isinstance(from_, ndarray) else from_, to, casting)


def shape(a: Any) -> tuple[int, ...]:
    return np.shape(_apply.plain(a))


def ndim(a: Any) -> int:
    return np.ndim(_apply.plain(a))


def size(a: Any, axis: int | None = None) -> int:
    return np.size(_apply.plain(a), axis)


def isscalar(element: Any) -> bool:
    return np.isscalar(element)


def get_array_module(*args: Any) -> Any:
    """This package where an argument is a device array, otherwise NumPy."""
    import cupy

    return cupy if any(isinstance(a, ndarray) for a in args) else np


def install(names: dict[str, Any]) -> None:
    """Put the forwarding functions in the package's namespace, except what it defines itself."""
    makers: dict[str, Callable[[str], Any]] = {
        "shared": lambda name: getattr(np, name),
        "ufuncs": lambda name: ufunc(getattr(np, name)),
        "functions": _forward,
    }
    make = makers["shared"]
    for line in (Path(__file__).parent / "names.txt").read_text().splitlines():
        if line.startswith("["):
            make = makers[line[1:-1]]
        elif not line.startswith("#"):
            for name in line.split():
                if name not in names and hasattr(np, name):
                    names[name] = make(name)
