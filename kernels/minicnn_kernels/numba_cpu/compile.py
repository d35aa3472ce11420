"""How every loop of this set is compiled: one decorator, one cache, one line for the waiting user.

A kernel is a function of contiguous arrays and plain numbers. Its outer loop is a `prange` over
independent tasks (a plane of a map, a row of columns, a number), and each task writes cells that no
other task touches: no races, and the same result for every number of threads.

Compiling takes 0.2 to 5 s for each kernel and dtype, on its first call. Numba keeps the machine
code on disk, in ``NUMBA_CACHE_DIR`` if set, else in the user's cache directory (on Linux
``~/.cache/minicnn/kernels``), so that a read-only installation has a cache too; where that cannot
be written, Numba's own choices, and in the worst case each process compiles anew. A damaged file or
a full disk stops nobody (`_KernelCache`). Numba alone notices only a change in the file of the
kernel itself, not in a helper's. So the cache has a folder for each version of all sources together
(`_sources_digest`), and code from before an upgrade is never loaded.

Conventions of the loops
    - Positions computed from offsets are ``uint64``. For a signed index Numba adds the code that
      lets ``x[-1]`` mean the last element, which keeps LLVM from vectorising: a shifted row is read
      9 times slower. Numba makes uint64 + int64 a float64, so both sides of a sum are converted.
    - Scalar loops only: array expressions inside a `prange` compile slowly.
    - No BLAS inside a `prange`, whose threads would start more threads.

Fast-math may contract, reorder and drop signs of zero, but NaN and infinity keep their meaning.

GNU OpenMP ends a forked child that runs a kernel after its parent did: start such processes with
"spawn", or keep kernels out of them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read by the OpenMP runtime when it loads: its idle threads sleep instead of taking the cores that
# BLAS and the next Python code need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
import numpy as np
from numba.core import event
from numba.core.caching import FunctionCache

Array = np.ndarray[Any, np.dtype[Any]]

int64: Any = numba.int64  # Any: in a kernel a conversion, to a type checker the type itself
uint64: Any = numba.uint64

FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}


def _has_thread_safe_layer() -> bool:
    """Whether two Python threads may be in kernels at once: Numba's own "workqueue" dies of it."""
    if getattr(numba.config, "THREADING_LAYER", None) == "workqueue":
        return False
    for pool in ("omppool", "tbbpool"):
        try:
            importlib.import_module(f"numba.np.ufunc.{pool}")
        except ImportError:
            continue
        return True
    return False


# The last option makes 1/0 infinity, as in NumPy, where Numba would raise.
_SERIAL: dict[str, Any] = {
    "nogil": _has_thread_safe_layer(),
    "fastmath": FAST_MATH,
    "error_model": "numpy",
}


def kernel(function: Callable[..., None]) -> Any:
    """Compile ``function`` with its `prange` on all threads."""
    return _cached(function, parallel=True)


def helper(function: Callable[..., Any]) -> Any:
    """Compile ``function`` to be called from kernels of the same file."""
    return _cached(function)


def _cached(function: Callable[..., Any], **options: Any) -> Any:
    config: Any = numba.config  # its attributes are made at run time
    chosen, config.CACHE_DIR = config.CACHE_DIR, _cache_folder()
    dispatcher = numba.njit(**_SERIAL, **options)(function)
    try:
        dispatcher._cache = _KernelCache(function)
    except RuntimeError:  # Numba found no directory that it can write to
        pass
    finally:
        config.CACHE_DIR = chosen
    return dispatcher


class _KernelCache(FunctionCache):
    """Numba's cache of a function, which compiles and goes on where its files cannot be used."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The machine code, or None if there is none or its file is damaged."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle may raise anything
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the machine code, or, where the disk is full, say so and keep no more."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            _announce_once(
                f"minicnn: compiled kernels cannot be kept in {self.cache_path} ({error}); the "
                "next start compiles anew."
            )


@functools.cache
def _announce_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@functools.cache
def _cache_folder() -> str:
    """Where the machine code of these sources is kept; read by Numba when it decorates."""
    base = os.environ.get("NUMBA_CACHE_DIR")
    if not base:
        import platformdirs

        base = str(platformdirs.user_cache_path("minicnn") / "kernels")
    return str(Path(base) / _sources_digest())


def _sources_digest() -> str:
    """Sixteen letters that change with any source of the compiled kernels."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted([*folder.glob("*.py"), folder.parent / "geometry.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class _Announcement(event.Listener):
    """Tells the user once why the first step takes so long. Code from the cache stays silent."""

    def on_start(self, event: event.Event) -> None:
        ours = event.data["dispatcher"].__module__.startswith(__package__)
        if ours:
            _announce_once("minicnn: compiling kernels (first use, cached afterwards) ...")

    def on_end(self, event: event.Event) -> None:
        """Nothing to say."""


event.register("numba:compile", _Announcement())


def flat(x: Array, size: int) -> Array:
    """``x`` as the contiguous vector of ``size`` numbers that kernels take; an error if it is not.

    >>> flat(np.ones((2, 3)).T, 6).shape
    (6,)
    """
    return np.ascontiguousarray(x).reshape(size)
