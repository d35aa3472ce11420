"""What a launch needs and what does not change from call to call: the kernel, and its sizes."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, get_type_hints

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import kernel

PREPARED_BYTES = 48 * 1024  # of dynamic shared memory; a kernel must ask for more


def prepared(file: str, name: str, shared: int = 0, **defines: int) -> Any:
    """The kernel ``name`` of ``file``.cu for the current device, kept once it was asked for.

    ``shared`` is the number of bytes of dynamic shared memory that it is to be started with.
    """
    return _prepared(file, name, shared, tuple(defines.items()), cupy.cuda.Device().id)


@functools.cache
def _prepared(
    file: str, name: str, shared: int, defines: tuple[tuple[str, int], ...], device: int
) -> Any:
    function = kernel(file, name, **dict(defines))
    if shared > PREPARED_BYTES:
        function.max_dynamic_shared_size_bytes = shared
    return function


def record(values: NamedTuple) -> Any:
    """A named tuple as the C struct of its fields, to be passed by value.

    int and bool become int32, float a float, and numpy.int64 a long long.
    """
    return np.array([tuple(values)], _form(type(values)))


@functools.cache
def _form(kind: type) -> np.dtype[Any]:
    types = {int: np.int32, bool: np.int32, float: np.float32, np.int64: np.int64}
    return np.dtype([(name, types[t]) for name, t in get_type_hints(kind).items()], align=True)
