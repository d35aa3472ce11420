"""A stand-in for CuPy on a machine without a GPU: the part that a project of kernels uses.

Arrays live in NumPy, kernels run through g++, streams run at once. What CuPy refuses is refused
here: hidden copies between host and device, reading back while a stream is captured, arguments of
the wrong size. See the README beside this package for what it cannot show.
"""

from __future__ import annotations

from cupy import _functions, _memory, cuda
from cupy import _methods as _methods  # gives the array its methods
from cupy._array import ndarray
from cupy._creation import (
    arange,
    array,
    asanyarray,
    asarray,
    ascontiguousarray,
    asnumpy,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    identity,
    linspace,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from cupy._functions import (
    can_cast,
    copy,
    copyto,
    fill_diagonal,
    get_array_module,
    isscalar,
    matmul,
    may_share_memory,
    ndim,
    place,
    put,
    put_along_axis,
    putmask,
    result_type,
    shape,
    shares_memory,
    size,
    ufunc,
)
from cupy._raw import RawKernel, RawModule

__all__ = [
    "RawKernel",
    "RawModule",
    "arange",
    "array",
    "asanyarray",
    "asarray",
    "ascontiguousarray",
    "asnumpy",
    "can_cast",
    "copy",
    "copyto",
    "cuda",
    "empty",
    "empty_like",
    "eye",
    "fill_diagonal",
    "full",
    "full_like",
    "get_array_module",
    "get_default_memory_pool",
    "get_default_pinned_memory_pool",
    "identity",
    "is_available",
    "isscalar",
    "linspace",
    "matmul",
    "may_share_memory",
    "ndarray",
    "ndim",
    "ones",
    "ones_like",
    "place",
    "put",
    "put_along_axis",
    "putmask",
    "result_type",
    "shape",
    "shares_memory",
    "size",
    "ufunc",
    "zeros",
    "zeros_like",
]

__version__ = "14.2.0"
IS_STAND_IN = True


def is_available() -> bool:
    """True: the stand-in is a device."""
    return True


def get_default_memory_pool():
    return _memory.default_pool


def get_default_pinned_memory_pool():
    return _memory.default_pinned_pool


_functions.install(globals())
