"""Which kernel sets exist, which one each device uses now, and what each overrides.

Two levels: the type of an array tells the device, and the set selected for that device gives the
kernels. The selection is one plain setting of the process: unlike a context variable it holds
across notebook cells and threads. Only who watches a network run, for its shapes or its graph,
takes another set for a moment and in its own thread, with `in_this_thread`: what other threads
compute meanwhile is computed as ever.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from minicnn_kernels.errors import BackendError, DeviceError, nearest
from minicnn_kernels.reference import PRIMITIVES, Kernels
from minicnn_kernels.threads import give_threads_to_blas

ENVIRONMENT_VARIABLE = "MINICNN_BACKEND"


@dataclass(frozen=True)
class Backend:
    """One kernel set: its name, its device, how to load it, and in words what it is.

    ``load(strict)`` returns the set, or raises ImportError or BackendError saying why it cannot be
    used on this machine. One that does not compute is for inspection and in no list.
    """

    name: str
    device: str
    summary: str
    load: Callable[[bool], Kernels]
    computes: bool = True


def _load_numpy(strict: bool) -> Kernels:
    return Kernels(np, strict=strict)


def _load_numba(strict: bool) -> Kernels:
    from minicnn_kernels.numba_cpu import NumbaKernels

    return NumbaKernels(np, strict=strict)


def _load_cupy(strict: bool) -> Kernels:
    from minicnn_kernels.cupy_set import CupyKernels

    return CupyKernels(strict=strict)


def _load_cupy_cuda(strict: bool) -> Kernels:
    _load_cupy(strict)  # says in words what is missing
    from minicnn_kernels.cupy_cuda import CudaKernels

    return CudaKernels(strict=strict)


def _load_numba_cuda(strict: bool) -> Kernels:
    from minicnn_kernels.numba_cuda import NumbaCudaKernels

    return NumbaCudaKernels(strict=strict)


def _load_shapes(strict: bool) -> Kernels:
    from minicnn_kernels.shapes import ShapeKernels

    return ShapeKernels()


def _load_fields(strict: bool) -> Kernels:
    from minicnn_kernels.fields import FieldKernels

    return FieldKernels()


_backends: dict[str, Backend] = {}
_loaded: dict[tuple[str, bool], Kernels] = {}
_selected: dict[str, str] = {}
_strict = False
_lock = threading.RLock()


class _Thread(threading.local):
    """The set that holds in one Python thread instead of the selected one."""

    instead: Kernels | None = None


_thread = _Thread()


def register(backend: Backend) -> None:
    """Add a kernel set, or replace the one of that name."""
    with _lock:
        _backends[backend.name] = backend
        for key in [key for key in _loaded if key[0] == backend.name]:
            del _loaded[key]


register(Backend("numpy", "cpu", "the reference, plain NumPy", _load_numpy))
register(Backend("numba", "cpu", "compiled loops on every core", _load_numba))
register(Backend("cupy", "cuda", "the reference on an NVIDIA GPU", _load_cupy))
register(Backend("cupy_cuda", "cuda", "CUDA C++ on an NVIDIA GPU", _load_cupy_cuda))
register(Backend("numba_cuda", "cuda", "Numba CUDA on an NVIDIA GPU", _load_numba_cuda))
register(Backend("shapes", "cpu", "shapes without numbers", _load_shapes, computes=False))
register(Backend("fields", "cpu", "shapes with receptive fields", _load_fields, computes=False))

_DEFAULTS = {"cpu": ("numba", "numpy"), "cuda": ("cupy_cuda", "cupy")}


def names() -> list[str]:
    """Names of all kernel sets that compute, usable here or not."""
    return [name for name, backend in _backends.items() if backend.computes]


def load(name: str, *, strict: bool | None = None) -> Kernels:
    """Return the kernel set ``name``; raises `BackendError` where it cannot be used, saying why.

    >>> load("numpy").name
    'numpy'
    """
    strict = _strict if strict is None else strict
    with _lock:
        if (name, strict) not in _loaded:
            backend = _find(name)
            try:
                _loaded[name, strict] = backend.load(strict)
            except ImportError as error:
                raise BackendError(
                    f"use_backend: {name!r} ({backend.summary}) cannot be used here: {error}."
                ) from error
        return _loaded[name, strict]


def availability() -> dict[str, str | None]:
    """For each kernel set, None where it can be used and otherwise the reason why not."""
    reasons: dict[str, str | None] = {}
    for name in names():
        try:
            load(name)
            reasons[name] = None
        except BackendError as error:
            reasons[name] = str(error)
    return reasons


class use_backend:
    """Select the kernel set for its device: at once, and with ``with`` until the block ends.

    ``name`` is one of `names`; ``strict`` turns every fallback to the reference into an error.

    >>> with use_backend("numpy"):
    ...     selected("cpu")
    'numpy'
    """

    def __init__(self, name: str, *, strict: bool = False) -> None:
        self._wanted = name, strict
        self._choose()

    def _choose(self) -> None:
        global _strict
        name, strict = self._wanted
        device = load(name, strict=strict).device
        with _lock:
            self._before = (device, _selected.get(device), _strict)
            _strict = strict
            _select(device, name)
        self._left = False

    def __enter__(self) -> use_backend:
        name, strict = self._wanted
        if self._left or (selected(self._before[0]), _strict) != (name, strict):
            self._choose()  # a second block, or others have chosen since
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global _strict
        device, name, strict = self._before
        self._left = True
        with _lock:
            _strict = strict
            if name is None:
                _selected.pop(device, None)
            else:
                _select(device, name)


@contextmanager
def in_this_thread(name: str) -> Iterator[None]:
    """Use the kernel set ``name`` for its device until the block ends, in this Python thread alone.

    Unlike `use_backend` it changes nothing for the process, neither the selection nor who has the
    threads of the CPU.

    >>> with in_this_thread("shapes"):
    ...     selected("cpu")
    'shapes'
    """
    wanted, before = load(name, strict=False), _thread.instead
    _thread.instead = wanted
    try:
        yield
    finally:
        _thread.instead = before


def selected(device: str = "cpu") -> str:
    """Name of the kernel set that ``device`` ("cpu" or "cuda") uses now.

    That is the one chosen with `use_backend`, else by the environment variable MINICNN_BACKEND,
    else the fastest that loads; inside `in_this_thread` it is that one.
    """
    if (instead := _thread.instead) is not None and instead.device == device:
        return instead.name
    with _lock:
        if device not in _selected:
            _select(device, _initial(device))
        return _selected[device]


def kernels(device: str = "cpu") -> Kernels:
    """The kernel set that ``device`` uses now."""
    if (instead := _thread.instead) is not None and instead.device == device:
        return instead
    return load(selected(device))


def kernels_for(caller: str, arguments: Iterable[Any]) -> Kernels:
    """The kernel set for the arrays among ``arguments``; all must be on one device.

    Raises `DeviceError` naming the device of each array.
    """
    found = [(i, device_of(a)) for i, a in enumerate(arguments) if hasattr(a, "__array_priority__")]
    devices = {device for _, device in found}
    if len(devices) > 1:
        where = ", ".join(f"argument {i} on {device}" for i, device in found)
        raise DeviceError(
            f"{caller}: {where}; bring them to one device (model.to('cuda'), cupy.asarray(x))."
        )
    return kernels(devices.pop() if devices else "cpu")


def device_of(array: Any) -> str:
    """ "cuda" for a CuPy array, "cpu" for a NumPy array."""
    return "cpu" if isinstance(array, (np.ndarray, np.generic)) else _foreign_device(array)


def _foreign_device(array: Any) -> str:
    cupy = sys.modules.get("cupy")  # an array of CuPy exists only where CuPy is imported
    if cupy is not None and isinstance(array, cupy.ndarray):
        return "cuda"
    raise DeviceError(
        f"minicnn cannot use an array of type {type(array).__name__}; convert it to NumPy or CuPy."
    )


def raise_out_of_memory(caller: str, error: MemoryError) -> NoReturn:
    """Raise a GPU's error of that kind again in words that help; others as they are."""
    if not type(error).__module__.startswith("cupy"):
        raise error
    from minicnn_kernels.cupy_probe import out_of_memory

    raise out_of_memory(caller, error) from error


def describe() -> str:
    """A table of the kernel sets: which can be used, and what each implements itself.

    >>> print(describe().splitlines()[0])
    numpy (cpu): the reference, plain NumPy
    """
    lines = []
    for name, reason in availability().items():
        backend = _backends[name]
        lines.append(f"{name} ({backend.device}): {backend.summary}")
        if reason is not None:
            lines.append(f"  not available: {reason}")
            continue
        own = load(name, strict=False).overridden()
        if own == PRIMITIVES:
            lines.append(f"  implements all {len(own)} primitives")
            continue
        lines.append(f"  own ({len(own)}): {', '.join(sorted(own))}")
        rest = PRIMITIVES - own
        lines.append(f"  from the reference ({len(rest)}): {', '.join(sorted(rest))}")
    return "\n".join(lines)


def _find(name: str) -> Backend:
    if name not in _backends:
        raise BackendError(
            f"use_backend: unknown backend {name!r}; {nearest(name, names())}"
            f"choose one of {', '.join(names())}."
        )
    return _backends[name]


def _select(device: str, name: str) -> None:
    _selected[device] = name
    if device == "cpu":
        give_threads_to_blas(load(name).gives_threads_to_blas)


def _initial(device: str) -> str:
    wanted = os.environ.get(ENVIRONMENT_VARIABLE)
    if wanted and _find(wanted).device == device:
        load(wanted)
        return wanted
    reasons = []
    for name in _DEFAULTS[device]:
        try:
            load(name)
            return name
        except BackendError as error:
            reasons.append(str(error))
    raise BackendError(f"no kernel set can be used on {device}: {' '.join(reasons)}")
