"""`RawModule` and `RawKernel`: compiled CUDA C++, and a call that trusts nothing.

A GPU takes the bytes of the arguments as they are: a Python integer, which CuPy sends as 64 bits,
where the kernel reads 32, shifts nothing but garbles the number; a float64 array is read as twice
as many float32. Each call is checked against the C++ signature, and after it the red zones of all
arrays it was given.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cupy import _build, _capture, _memory
from cupy._array import ndarray

_STATIC_LIMIT = 48 << 10
_DYNAMIC_LIMIT = 227 << 10
_GRID_LIMITS = (2**31 - 1, 65535, 65535)
_BLOCK_LIMITS = (1024, 1024, 64)
_launches = itertools.count(2)


class KernelFault(RuntimeError):
    """A kernel did what a GPU would answer with garbage, or with an error that names nothing."""


def thread_order() -> int:
    """The order of threads in the next launch: MINICNN_CUDA_ORDER, or another one each time."""
    chosen = os.environ.get("MINICNN_CUDA_ORDER")
    return int(chosen) if chosen else next(_launches)


class RawModule:
    """The kernels of one text."""

    def __init__(self, code: str | None = None, *, path: str | None = None,
                 options: Sequence[str] = (), backend: str = "nvrtc",
                 translate_cucomplex: bool = False, enable_cooperative_groups: bool = False,
                 name_expressions: Any = None, jitify: Any = None) -> None:  # fmt: skip
        if code is None or path is not None or name_expressions is not None:
            raise NotImplementedError('the stand-in compiles the text of extern "C" kernels only')
        if not isinstance(options, tuple):
            raise TypeError("options must be a tuple")
        self.code, self.options, self.backend = code, options, backend
        self._library: ctypes.CDLL | None = None
        self._kernels: list[str] = []

    def compile(self, log_stream: Any = None) -> None:
        if self._library is None:
            path, self._kernels = _build.library(self.code, self.options, _memory.SANITIZE)
            self._library = ctypes.CDLL(str(path))
            self._library.cuda_on_cpu_launch.restype = ctypes.c_char_p
            _share_stacks(self._library)

    def get_function(self, name: str) -> RawKernel:
        self.compile()
        if name not in self._kernels:
            from cupy.cuda.driver import CUDADriverError

            raise CUDADriverError(f"CUDA_ERROR_NOT_FOUND: no kernel {name!r} among {self._kernels}")
        return RawKernel._of(self, name)


_stacks: int | None = None


def _share_stacks(library: ctypes.CDLL) -> None:
    """All libraries run their threads on the stacks that the first one has made."""
    global _stacks
    library.cuda_on_cpu_stacks.restype = ctypes.c_void_p
    _stacks = library.cuda_on_cpu_stacks(ctypes.c_void_p(_stacks))
    if _stacks is None:
        raise MemoryError("there is no memory for the stacks of a block's threads")


class RawKernel:
    """One kernel; call it with a grid, a block and a tuple of arguments."""

    local_size_bytes = 0
    num_regs = 32  # unknown here: the test that compiles for a GPU counts them
    max_threads_per_block = 1024

    def __init__(self, code: str, name: str, options: Sequence[str] = (), **kwargs: Any) -> None:
        self._prepare(RawModule(code, options=options, **kwargs), name)

    @classmethod
    def _of(cls, module: RawModule, name: str) -> RawKernel:
        self = object.__new__(cls)
        self._prepare(module, name)
        return self

    def _prepare(self, module: RawModule, name: str) -> None:
        module.compile()
        self.name, self._library = name, module._library
        words = getattr(self._library, f"parameters__{name}")
        words.restype = ctypes.c_char_p
        self.parameters = words().decode().split()
        self._body = ctypes.cast(getattr(self._library, f"run__{name}"), ctypes.c_void_p)
        self._dynamic_limit = _STATIC_LIMIT

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._dynamic_limit

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if size > _DYNAMIC_LIMIT:
            raise ValueError(f"{self.name}: {size} bytes of shared memory, of {_DYNAMIC_LIMIT}")
        self._dynamic_limit = size

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *,
                 shared_mem: int = 0, stream: Any = None) -> None:  # fmt: skip
        shape = (ctypes.c_uint * 6)(*_extent(self.name, "grid", grid, _GRID_LIMITS),
                                    *_extent(self.name, "block", block, _BLOCK_LIMITS))  # fmt: skip
        if shape[3] * shape[4] * shape[5] > 1024:
            raise ValueError(f"{self.name}: a block of {tuple(block)} has more than 1024 threads")
        if shared_mem > self._dynamic_limit:
            raise ValueError(
                f"{self.name}: {shared_mem} bytes of dynamic shared memory; the limit is "
                f"{self._dynamic_limit} (max_dynamic_shared_size_bytes)"
            )
        if len(args) != len(self.parameters):
            raise TypeError(
                f"{self.name}: {len(args)} arguments for {len(self.parameters)} parameters"
            )
        values = [self._bytes(i, a) for i, a in enumerate(args)]
        blocks = {id(a._memory.block): a._memory.block for a in args if isinstance(a, ndarray)}
        zones = [(block, block.requested) for block in blocks.values()]
        _capture.perform(lambda: self._launch(shape, values, shared_mem, zones))

    def _launch(
        self, shape: Any, values: list[Any], shared: int, blocks: list[tuple[Any, int]]
    ) -> None:
        # A replay may find other arrays behind this one in its block: what counts is a change.
        before = [] if _memory.SANITIZE else [block.outside(size) for block, size in blocks]
        addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        order = thread_order()
        fault = self._library.cuda_on_cpu_launch(
            self._body, addresses, self.name.encode(), shape, ctypes.c_size_t(shared),
            ctypes.c_uint(order % 2**32),
        )  # fmt: skip
        if fault is not None:
            raise KernelFault(f"{fault.decode()} [MINICNN_CUDA_ORDER={order}]")
        for (block, size), zones in zip(blocks, before, strict=False):
            offset = block.changed(size, zones)
            if offset is not None:
                raise KernelFault(
                    f"kernel {self.name!r} wrote outside an array of {size} bytes: at "
                    f"byte {offset} [MINICNN_CUDA_ORDER={order}]"
                )

    def _bytes(self, number: int, value: Any) -> Any:
        """The argument as the kernel's parameter reads it."""
        form = self.parameters[number]
        where = f"{self.name}: argument {number}"
        if form.startswith("*"):
            return ctypes.c_void_p(_address(where, form[1:], value))
        if form.startswith("s"):
            if not isinstance(value, np.ndarray) or value.size != 1:
                raise TypeError(f"{where} must be one element of a structured array")
            raw = value.tobytes()
        else:
            if not isinstance(value, np.generic):
                raise TypeError(f"{where} must be a NumPy scalar of known size for {form!r}, not "
                                f"{type(value).__name__}")  # fmt: skip
            kind = f"{value.dtype.kind}{value.dtype.itemsize}"
            if kind != form:
                raise TypeError(f"{where} is {value.dtype}, but the kernel's parameter is {form!r}")
            raw = value.tobytes()
        if len(raw) != int(form[1:]):
            raise TypeError(f"{where} has {len(raw)} bytes, but the kernel's struct {form[1:]}")
        return ctypes.create_string_buffer(raw, len(raw) + 16)


def _address(where: str, pointee: str, value: Any) -> int:
    if isinstance(value, np.uint64):
        return int(value)
    if not isinstance(value, ndarray):
        raise TypeError(f"{where} must be a device array or an address in numpy.uint64, not "
                        f"{type(value).__name__}")  # fmt: skip
    kind = f"{value.dtype.kind}{value.dtype.itemsize}"
    if pointee[:1] in "biuf" and pointee and kind != pointee:
        raise TypeError(f"{where} is an array of {value.dtype}, but the kernel reads {pointee!r}")
    if not value.flags.c_contiguous:
        raise ValueError(f"{where} has strides {value.strides}: a kernel reads memory, not views")
    return value.data.ptr


def _extent(name: str, what: str, sizes: Sequence[int], limits: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(sizes, tuple) or not 1 <= len(sizes) <= 3:
        raise TypeError(f"{name}: {what} must be a tuple of 1 to 3 integers, but is {sizes!r}")
    whole = (*map(int, sizes), 1, 1)[:3]
    if any(not 1 <= n <= limit for n, limit in zip(whole, limits, strict=True)):
        raise ValueError(f"{name}: {what} {sizes} must lie between 1 and {tuple(limits)}")
    return whole
