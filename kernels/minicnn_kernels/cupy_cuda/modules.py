"""From a .cu file to a call: compile it once a process and device, check what goes in, launch.

CuPy compiles the text with NVRTC for the device at hand and keeps the machine code on disk, in
``CUPY_CACHE_DIR``. A kernel reads plain memory: it knows neither shapes nor strides, and trusts the
size of every number. So `launch` refuses what the C++ would misread: an array that is not
contiguous or not on the device, and a number without a C type is given one (int32, float32).

Numbers that change from step to step (the learning rate, the key of a dropout mask) may be a
number or an array of no dimensions: a captured graph repeats its arguments for ever, but what an
array holds is read at each replay. `number` packs either into the struct ``Number`` of common.cuh.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from minicnn_kernels.errors import BackendError

FOLDER = Path(__file__).parent
THREADS = 256
WALKERS = 2112  # blocks of a grid that walks through an array: 16 for each unit of an H100

Array = Any

_NUMBER = np.dtype([("value", np.float64), ("at", np.uint64)], align=True)
_KEY = np.dtype([("value", np.uint64), ("at", np.uint64)], align=True)


def kernel(file: str, name: str, **defines: int) -> Any:
    """The kernel ``name`` of ``file``.cu on the current device, compiled with ``-DNAME=value``."""
    return _function(file, name, tuple(sorted(defines.items())), cupy.cuda.Device().id)


@functools.cache
def _function(file: str, name: str, defines: tuple[tuple[str, int], ...], device: int) -> Any:
    return _module(file, defines, device).get_function(name)


@functools.cache
def _module(file: str, defines: tuple[tuple[str, int], ...], device: int) -> Any:
    text = (FOLDER / f"{file}.cu").read_text()
    options = ["-std=c++17", f"-I{FOLDER}", f"-DHEADERS={_headers()}"]
    options += [f"-D{name}={value}" for name, value in defines]
    return cupy.RawModule(code=text, options=tuple(options))


@functools.cache
def _headers() -> int:
    """A sum over the included files, which CuPy's cache of compiled code does not look into."""
    return zlib.crc32(b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.cuh"))))


def launch(
    function: Any,
    grid: Sequence[int] | int,
    block: Sequence[int] | int,
    *args: Any,
    shared: int = 0,
) -> None:
    """Start ``grid`` blocks of ``block`` threads, with ``shared`` bytes of dynamic shared memory.

    None becomes a null pointer. Nothing is started where the grid is empty.
    """
    grid = (grid,) if isinstance(grid, int) else tuple(grid)
    block = (block,) if isinstance(block, int) else tuple(block)
    if 0 not in grid:
        function(grid, block, tuple(_argument(a) for a in args), shared_mem=shared)


def blocks(count: int, threads: int = THREADS, most: int = 2**31 - 1) -> int:
    """How many blocks give each of ``count`` elements a thread, up to ``most``."""
    return min(-(-count // threads), most)


def walkers(count: int, threads: int = THREADS) -> int:
    """Blocks for a kernel whose threads walk through ``count`` elements in steps of the grid."""
    return blocks(count, threads, WALKERS)


def wide(run: int, *arrays: Any) -> bool:
    """Whether runs of ``run`` numbers of float32 arrays can be read in vectors of four."""
    return run % 4 == 0 and all(a is None or a.data.ptr % 16 == 0 for a in arrays)


def divider(by: int) -> tuple[int, int]:
    """The struct ``Divider`` of common.cuh: multiplier and shift.

    >>> multiplier, shift = divider(7)
    >>> [((n * multiplier >> 32) + n) >> shift for n in (6, 7, 2**31 - 1)] == [0, 1, 306783378]
    True
    """
    shift = (by - 1).bit_length()
    return 2**32 * (2**shift - by) // by + 1, shift


def number(value: Any) -> Any:
    """A float or a float64 array of no dimensions, as the struct ``Number`` of common.cuh."""
    return _packed(value, _NUMBER, float)


def key(value: Any) -> Any:
    """A 64-bit integer or a uint64 array of no dimensions, as the struct ``Key``."""
    return _packed(value, _KEY, int)


def _packed(value: Any, form: np.dtype[Any], plain: type) -> Any:
    packed = np.zeros(1, form)
    if isinstance(value, cupy.ndarray):
        if value.dtype != form["value"] or value.ndim:
            raise BackendError(
                f"a number on the device must be {form['value']} of no dimensions, but is "
                f"{value.dtype} {value.shape}."
            )
        packed["at"] = value.data.ptr
    else:
        packed["value"] = plain(value)
    return packed


def _argument(value: Any) -> Any:
    if isinstance(value, cupy.ndarray):
        if not value.flags.c_contiguous:
            raise BackendError(f"launch: an array {value.shape} is not contiguous.")
        return value
    if value is None:
        return np.uint64(0)
    if isinstance(value, bool | int):
        return np.int32(value)
    return np.float32(value) if isinstance(value, float) else value
