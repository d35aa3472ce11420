"""The class that puts the CUDA C++ kernels in the place of CuPy's array code.

The functions of the modules beside this one have the names and arguments of the primitives;
`launched` turns one into a method that first looks whether it serves the arguments. The kernels
compute in float32 and read contiguous arrays: a view is copied first, and another dtype goes to
CuPy's array code, which in strict mode is an error.

Some calls go to array code silently, because it is as good for them: arithmetic that broadcasts is
one kernel of CuPy's too, and so is a softmax along another axis than the last.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda import columns, convolution, elementwise, gemm
from minicnn_kernels.cupy_set import CupyKernels

COMPUTED = np.dtype(np.float32)

Arguments = Sequence[Any]


def launched(
    function: Callable[..., Any],
    arrays: int,
    skip: Callable[[Arguments], bool] = lambda arguments: False,
    contiguous: bool = True,
) -> Any:
    """The method that runs ``function`` where it serves the arguments, and else CuPy's code.

    The first ``arrays`` arguments must be float32 (or None), and whatever array is among the
    arguments reaches ``function`` contiguous, unless it can do with views. ``skip`` tells the
    arguments for which array code is as good. For functions that write to their arguments see
    `updating`.
    """
    name = function.__name__
    parent = getattr(CupyKernels, name)
    signature = inspect.signature(function)

    @functools.wraps(parent)
    def method(self: CupyKernels, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args = signature.bind(*args, **kwargs).args
        if skip(args):
            return parent(self, *args)
        dtypes = {a.dtype for a in args[:arrays] if a is not None}
        if not dtypes <= {COMPUTED}:
            self.fall_back(name, f"its kernels take float32, not {_listed(dtypes)}")
            return parent(self, *args)
        return function(*(map(_contiguous, args) if contiguous else args))

    return method


def updating(function: Callable[..., Any], lists: int) -> Any:
    """The method that runs ``function``, which updates lists of arrays in place, or CuPy's code.

    The first ``lists`` arguments are lists of arrays (or None), all of which must be float32 and
    contiguous.
    """
    name = function.__name__
    parent = getattr(CupyKernels, name)
    signature = inspect.signature(function)

    @functools.wraps(parent)
    def method(self: CupyKernels, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args = signature.bind(*args, **kwargs).args
        every = [a for arrays in args[:lists] if arrays is not None for a in arrays]
        dtypes = {a.dtype for a in every}
        if not dtypes <= {COMPUTED}:
            self.fall_back(name, f"its kernels take float32, not {_listed(dtypes)}")
        elif not all(a.flags.c_contiguous for a in every):
            self.fall_back(name, "an array is not contiguous")
        else:
            return function(*args)
        return parent(self, *args)

    return method


def _listed(dtypes: set[Any]) -> str:
    return " and ".join(sorted(map(str, dtypes)))


def _contiguous(value: Any) -> Any:
    return cupy.ascontiguousarray(value) if isinstance(value, cupy.ndarray) else value


def _unlike(args: Arguments) -> bool:
    """Whether a + b is not one of two like arrays: a number, broadcasting, mixed dtypes."""
    a, b = args
    arrays = isinstance(a, cupy.ndarray) and isinstance(b, cupy.ndarray)
    return not arrays or a.shape != b.shape or a.dtype != b.dtype


def _broadcasting(args: Arguments) -> bool:
    """Whether a product of matrices is left to CuPy: vectors, and leading axes that broadcast."""
    return not gemm.serves_matmul(*args)


class CudaKernels(CupyKernels):
    """Primitives as CUDA C++, the rest as CuPy array code."""

    name = "cupy_cuda"

    # Convolution and products.
    im2col = launched(columns.im2col, 1)
    col2im = launched(columns.col2im, 1)
    conv2d = launched(convolution.conv2d, 3)
    conv2d_affine = launched(convolution.conv2d_affine, 4)
    conv2d_grad_input = launched(convolution.conv2d_grad_input, 2)
    conv2d_grad_weight = launched(convolution.conv2d_grad_weight, 2)
    conv2d_grad_bias = launched(convolution.conv2d_grad_bias, 1)
    linear = launched(gemm.linear, 3)
    linear_grad_input = launched(gemm.linear_grad_input, 2)
    linear_grad_weight = launched(gemm.linear_grad_weight, 2)
    linear_grad_bias = launched(gemm.linear_grad_bias, 1)
    matmul = launched(gemm.matmul, 2, skip=_broadcasting, contiguous=False)

    # Element by element.
    relu = launched(elementwise.relu, 1)
    relu_grad = launched(elementwise.relu_grad, 2)
    leaky_relu = launched(elementwise.leaky_relu, 1)
    leaky_relu_grad = launched(elementwise.leaky_relu_grad, 2)
    sigmoid = launched(elementwise.sigmoid, 1)
    sigmoid_grad = launched(elementwise.sigmoid_grad, 2)
    tanh = launched(elementwise.tanh, 1)
    tanh_grad = launched(elementwise.tanh_grad, 2)
    add = launched(elementwise.add, 2, skip=_unlike)
    subtract = launched(elementwise.subtract, 2, skip=_unlike)
    multiply = launched(elementwise.multiply, 2, skip=_unlike)
    divide = launched(elementwise.divide, 2, skip=_unlike)
