"""Where Numba meets CuPy: arrays, streams, launches, and the numbers that change between steps.

CuPy owns every array of this set. A kernel of Numba needs its own description of an array (address,
shape, strides, type), which `view` makes without copying a number. Making one takes about as long
as a launch, so the latest are kept. Such a description holds no memory alive and knows nothing of
who owns the memory: it is the same for every array with the same address, shape, strides and type,
on the same device, and those are the key under which it is kept. So it cannot go stale. When CuPy
gives the memory to another array, that one either has an equal description or another key.

Kernels start on the stream that CuPy works on now, so they come in order with CuPy's own work, and
between ``begin_capture`` and ``end_capture`` become part of its graph. Nothing here waits for the
device: the interface between the libraries would (an importer has to wait for the exporter's
stream), but both sides use one stream, and `view` leaves the stream out of the description.

A captured graph repeats its launches for ever with the same arguments. A learning rate passed as a
number would stay what it was on the day of the capture. So whatever may change from step to step is
passed as an array of one element, which the kernel reads: `number` and `key` make it, without
copying from an array of no dimensions, and by one more launch from a plain number.

**The simulator.** With ``NUMBA_ENABLE_CUDASIM=1`` Numba runs each thread of a kernel as Python code
on the CPU. The one place where that makes a difference is `view`: kernels then read NumPy arrays,
so a NumPy array stays as it is, and of any other array (a stand-in for CuPy whose memory is the
CPU's) the address is read as an address of the CPU. Blocks are smaller there, because a thread
costs a tenth of a millisecond, and because small sizes then meet several blocks and unfull tiles.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numba import config, cuda

from minicnn_kernels.errors import BackendError

Array = Any

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))
THREADS = 8 if SIMULATED else 256  # of a block; a power of two
TILE = 4 if SIMULATED else 16  # edge of the squares that a matrix product works in
MOST_BLOCKS = 4 if SIMULATED else 4096  # of a grid-stride loop
WANTED_BLOCKS = 8 if SIMULATED else 1024  # enough to fill the device
AT_ONCE = 16  # tensors a launch: four tuples of 16 arrays are 3.5 KB of arguments
DESCRIPTIONS = 4096  # of arrays, kept

ZERO: Any = np.float32(0)  # Any: to a kernel simply a float
ONE: Any = np.float32(1)


def device_function(function: Callable[..., Any]) -> Any:
    """A function that kernels call; compiled into each of them."""
    return cuda.jit(device=True)(function)


def launch(kernel: Any, grid: Sequence[int] | int, block: Sequence[int] | int, *args: Any) -> None:
    """Start ``grid`` blocks of ``block`` threads on CuPy's stream; nothing where there are none.

    A Python float becomes a float32, None an array of no elements.
    """
    grid = (grid,) if isinstance(grid, int) else tuple(grid)
    if 0 not in grid:
        start(kernel, grid, block, tuple(map(argument, args)))


def start(kernel: Any, grid: Any, block: Any, args: tuple[Any, ...]) -> None:
    """Start a kernel with arguments as Numba takes them."""
    kernel[grid, block, _stream()](*args)


def launch_for(count: int, kernel: Any, *args: Any) -> None:
    """Start a kernel whose grid-stride loop does ``count`` things."""
    launch(kernel, min(_ceil(count, THREADS), MOST_BLOCKS), THREADS, *args)


def launch_for_lists(kernel: Any, lists: Sequence[Sequence[Array]], *args: Any) -> None:
    """Start a kernel for `AT_ONCE` tensors of each list at a time; see optimizers.py."""
    for _, count, chunk in chunks(lists):
        longest = max(a.size for a in chunk[0])
        blocks = min(_ceil(longest, THREADS), MOST_BLOCKS)
        launch(kernel, (blocks, count), THREADS, *chunk, *args)


def chunks(
    lists: Sequence[Sequence[Array]],
) -> Iterator[tuple[int, int, list[tuple[Array, ...]]]]:
    """Tuples of `AT_ONCE` flat tensors of each list, with the number of the first and their count.

    The last ones are filled up with the last tensor.
    """
    for first in range(0, len(lists[0]), AT_ONCE):
        parts = [[flat(a) for a in arrays[first : first + AT_ONCE]] for arrays in lists]
        count = len(parts[0])
        yield first, count, [tuple(part + part[-1:] * (AT_ONCE - count)) for part in parts]


def tiles(length: int) -> int:
    """How many tiles cover ``length`` rows or columns."""
    return _ceil(length, TILE)


def slices(tasks: int, length: int) -> int:
    """Into how many slices to cut sums of ``length`` numbers, of which there are ``tasks``.

    Enough to occupy the device, and none shorter than a block can add at a stroke. It depends on
    the sizes alone, so that the same sum is cut in the same way every time.
    """
    return max(1, min(WANTED_BLOCKS // max(tasks, 1), length // THREADS))


def argument(value: Any) -> Any:
    """What Numba is given for one argument of a kernel."""
    if value is None:
        return nothing()
    if type(value) is tuple:
        return tuple(map(argument, value))
    if type(value) is float:
        return np.float32(value)
    is_array = hasattr(value, "strides") and not isinstance(value, np.generic)
    return view(value) if is_array else value


def view(array: Array) -> Any:
    """An array as Numba's kernels take it; no number is copied."""
    if isinstance(array, np.ndarray):
        if not SIMULATED:
            raise BackendError(
                f"numba_cuda: an array {array.shape} of NumPy is not on the device; bring it there "
                "with cupy.asarray(x)."
            )
        return array
    place = array.data.ptr, array.shape, array.strides, array.dtype.str
    return _host_view(*place) if SIMULATED else _device_view(array.device.id, *place)


@functools.lru_cache(DESCRIPTIONS)
def _device_view(
    device: int, pointer: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: str
) -> Any:
    described = {
        "version": 3,
        "data": (pointer, False),
        "shape": shape,
        "strides": strides,
        "typestr": dtype,
    }
    return cuda.from_cuda_array_interface(described, owner=None, sync=False)


def _host_view(
    pointer: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: str
) -> np.ndarray[Any, Any]:
    number = np.dtype(dtype)
    if 0 in shape:
        return np.empty(shape, number)
    last = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    memory: Any = (ctypes.c_byte * (last + number.itemsize)).from_address(pointer)
    return np.ndarray(shape, number, memory, strides=strides)


def _stream() -> Any:
    """CuPy's current stream as Numba knows it; 0 is the default stream to both."""
    if SIMULATED:
        return 0
    import cupy

    pointer = cupy.cuda.get_current_stream().ptr
    return _known_stream(pointer) if pointer else 0


@functools.lru_cache(64)
def _known_stream(pointer: int) -> Any:
    return cuda.external_stream(pointer)  # the address is all that it holds


@functools.cache
def nothing() -> Any:
    """What stands for an absent array: kernels ask for its size."""
    if SIMULATED:
        return np.empty(0, np.float32)
    return _device_view(0, 0, (0,), (4,), "<f4")


def empty(shape: int | tuple[int, ...], like: Array, dtype: Any = None) -> Array:
    """A new array beside ``like`` (CuPy's, or NumPy's in the simulator), and of its type."""
    return library(like).empty(shape, like.dtype if dtype is None else dtype)


def library(array: Array) -> Any:
    """The library of an array: cupy, or numpy in the simulator."""
    if isinstance(array, np.ndarray):
        return np
    import cupy

    return cupy


def number(value: Any, like: Array) -> Array:
    """A number, or a float64 array of no dimensions, as an array of one float64."""
    return _one(value, np.float64, like)


def key(value: Any, like: Array) -> Array:
    """A 64-bit number, or a uint64 array of no dimensions, as an array of one uint64."""
    return _one(value, np.uint64, like)


def _one(value: Any, dtype: Any, like: Array) -> Array:
    xp = library(like)
    if not isinstance(value, xp.ndarray):
        return xp.full(1, value, dtype)
    if value.dtype != dtype or value.ndim:
        raise BackendError(
            f"numba_cuda: a number on the device must be {np.dtype(dtype)} of no dimensions, but "
            f"is {value.dtype} {value.shape}."
        )
    return value.reshape(1)


@functools.cache
def constant(values: bytes, dtype: str, shape: tuple[int, ...], on_host: bool) -> Array:
    """A table of numbers on the device, brought there once and kept.

    It is never given back: a captured graph may read it for as long as the process runs.
    """
    table = np.frombuffer(values, dtype).reshape(shape)
    if on_host:
        return table.copy()  # the simulator writes arguments back
    import cupy

    return cupy.asarray(table)


def table(values: np.ndarray[Any, Any], like: Array) -> Array:
    """A NumPy array that describes a layer (its taps, its scales) in the float type of ``like``."""
    values = np.ascontiguousarray(values, like.dtype)
    on_host = isinstance(like, np.ndarray)
    return constant(values.tobytes(), values.dtype.str, values.shape, on_host)


def flat(array: Array | None) -> Array | None:
    """A contiguous array in one dimension, sharing its memory."""
    return None if array is None else array.reshape(-1)


def channels(x: Array) -> Array:
    """x (N, C, ...) as (N, C, cells), sharing its memory."""
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


@device_function
def place(i: int, shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The four indices of element number ``i`` of an array of that shape."""
    _, C, H, W = shape
    return i // (C * H * W), i // (H * W) % C, i // W % H, i % W
