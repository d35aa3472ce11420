"""`ndarray`: an array on the device, which NumPy cannot see into."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from cupy import _apply, _capture, _memory

_CONVERSION = (
    "Implicit conversion to a NumPy array is not allowed. "
    "Please use `.get()` to construct a NumPy array explicitly."
)


class ndarray(_apply.Base):
    """An array in device memory; indexing, reshaping and transposing give views of the same."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: Any = None,
        strides: Any = None,
        order: str = "C",
    ) -> None:
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        dtype = np.dtype(dtype)
        if memptr is None:
            memptr = _memory.alloc(math.prod(shape) * dtype.itemsize)
        block = memptr.mem.block
        offset = memptr.ptr - memptr.mem.ptr + block.start
        self._view = np.ndarray(shape, dtype, block.whole, offset, strides, order)
        self._memory, self.base = memptr.mem, None

    @classmethod
    def _of(cls, view: np.ndarray, memory: _memory.Memory, source: Any) -> ndarray:
        self = object.__new__(cls)
        self._view, self._memory = view, memory
        self.base = source if source is None or source.base is None else source.base
        return self

    # ------------------------------------------------------------------ what it is

    shape = property(lambda self: self._view.shape)
    dtype = property(lambda self: self._view.dtype)
    ndim = property(lambda self: self._view.ndim)
    size = property(lambda self: self._view.size)
    nbytes = property(lambda self: self._view.nbytes)
    itemsize = property(lambda self: self._view.itemsize)
    strides = property(lambda self: self._view.strides)
    flags = property(lambda self: _apply.Flags(self._view, self.base is None))
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))
    real = property(lambda self: _apply.apply(np.real, self))
    imag = property(lambda self: _apply.apply(np.imag, self))

    @property
    def data(self) -> _memory.MemoryPointer:
        return _memory.MemoryPointer(self._memory, self._view.ctypes.data - self._memory.ptr)

    @property
    def device(self) -> Any:
        from cupy.cuda import Device

        return Device()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.data.ptr, False),
            "strides": None if self.flags.c_contiguous else self.strides,
            "version": 3,
        }

    # ------------------------------------------------------------------ between host and device

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(_CONVERSION)

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        _capture.refuse_synchronisation()
        if out is None:
            return self._view.copy(order)
        if out.dtype != self.dtype or out.shape != self.shape:
            raise ValueError(f"get: out is {out.dtype} {out.shape}, not {self.dtype} {self.shape}")
        out[...] = self._view
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        if stream is None:
            _capture.refuse_synchronisation()
        view = self._view
        _capture.perform(lambda: np.copyto(view, arr))

    def item(self, *args: Any) -> Any:
        _capture.refuse_synchronisation()
        return self._view.item(*args)

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __index__(self) -> int:
        return operator.index(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, form: str) -> str:
        return format(self.get(), form)

    def __reduce__(self) -> Any:
        from cupy._creation import array

        return array, (self.get(),)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    # ------------------------------------------------------------------ parts and wholes

    def __len__(self) -> int:
        return len(self._view)

    def __iter__(self) -> Any:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        key = _index(index)
        parts = key if isinstance(key, tuple) else (key,)
        if any(np.dtype(bool) == getattr(part, "dtype", None) for part in parts):
            # how many are true decides the shape
            _capture.refuse_synchronisation()
        return _apply.apply(lambda view: view[key], self)

    def __setitem__(self, index: Any, value: Any) -> None:
        key, value = _index(index), _apply.plain(value)
        _apply.mutate(lambda view: view.__setitem__(key, value), self)

    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None,
               copy: bool = True) -> ndarray:  # fmt: skip
        if not copy and self.dtype == dtype:
            return self
        return _apply.apply(lambda view: view.astype(dtype, order), self)

    def copy(self, order: str = "C") -> ndarray:
        return _apply.apply(lambda view: view.copy(order), self)

    def view(self, dtype: Any = None) -> ndarray:
        return self._of(self._view.view(dtype or self.dtype), self._memory, self)

    def fill(self, value: Any) -> None:
        self[...] = value

    def sort(self, axis: int = -1) -> None:
        _apply.mutate(lambda view: view.sort(axis), self)

    # ------------------------------------------------------------------ NumPy's functions on it

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(o, np.ndarray) for o in kwargs.get("out", ())):
            raise TypeError("The out array must be a cupy.ndarray")
        _capture.refuse_cublas(ufunc.__name__)
        if method == "at":
            return _apply.mutate(ufunc.at, *inputs)
        return _apply.apply(getattr(ufunc, method), *inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        import cupy

        own = getattr(cupy, function.__name__, None)
        return NotImplemented if own is None else own(*args, **kwargs)


def _index(index: Any) -> Any:
    """An index for the NumPy view; lists and NumPy arrays would have to be copied to the device."""
    if isinstance(index, tuple):
        return tuple(_index(i) for i in index)
    if isinstance(index, _apply.Base):
        return index._view
    if isinstance(index, (list, np.ndarray)):
        _capture.refuse_synchronisation()
    return index


_apply._array_type.append(ndarray)
