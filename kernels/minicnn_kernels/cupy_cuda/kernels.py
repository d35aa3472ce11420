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

from minicnn_kernels.cupy_cuda import (
    adaptive_pooling,
    batch_norm,
    batch_norm_pool,
    batches,
    columns,
    convolution,
    elementwise,
    gemm,
    lrn,
    optimizers,
    pooling,
)
from minicnn_kernels.cupy_cuda import dropout as masks
from minicnn_kernels.cupy_cuda import softmax as rows
from minicnn_kernels.cupy_set import CupyKernels

COMPUTED = np.dtype(np.float32)

Arguments = Sequence[Any]


def launched(
    function: Callable[..., Any],
    arrays: int,
    in_place: Sequence[int] = (),
    skip: Callable[[Arguments], bool] = lambda arguments: False,
    contiguous: bool = True,
) -> Any:
    """The method that runs ``function`` where it serves the arguments, and else CuPy's code.

    The first ``arrays`` arguments, each an array, a list of arrays or None, must be float32, and
    those at ``in_place`` contiguous; of the others, whatever is not contiguous reaches ``function``
    as a copy, unless it can do with views. ``skip`` tells the arguments for which array code is as
    good.
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
        reason = _refusal(args, arrays, in_place)
        if reason is not None:
            self.fall_back(name, reason)
            return parent(self, *args)
        return function(*(map(_contiguous, args) if contiguous else args))

    return method


def _refusal(args: Arguments, arrays: int, in_place: Sequence[int]) -> str | None:
    """Why the kernels do not serve these arguments, or None where they do."""
    dtypes = {a.dtype for value in args[:arrays] for a in _each(value)}
    if not dtypes <= {COMPUTED}:
        return f"its kernels take float32, not {' and '.join(sorted(map(str, dtypes)))}"
    if not all(a.flags.c_contiguous for i in in_place for a in _each(args[i])):
        return "an array to update in place is not contiguous"
    return None


def _each(value: Any) -> Sequence[Any]:
    """The arrays of an argument that is one, a list of them, or None."""
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _contiguous(value: Any) -> Any:
    if isinstance(value, list):
        return [_contiguous(a) for a in value]
    return cupy.ascontiguousarray(value) if isinstance(value, cupy.ndarray) else value


def _empty(args: Arguments) -> bool:
    return bool(args[0].size == 0)


def _other_axis(args: Arguments) -> bool:
    """Whether a softmax runs along another axis than the last."""
    return bool(args[-1] % args[0].ndim != args[0].ndim - 1)


def _too_wide(args: Arguments) -> bool:
    """Whether the window of a response norm has more channels than a thread has registers for."""
    return next(a for a in args if isinstance(a, int)) > lrn.WIDEST


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
    capture_fault = ""

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

    # Pooling.
    max_pool2d = launched(pooling.max_pool2d, 1)
    min_pool2d = launched(pooling.min_pool2d, 1)
    max_pool2d_grad = launched(pooling.max_pool2d_grad, 1)
    weighted_pool2d = launched(pooling.weighted_pool2d, 1)
    weighted_pool2d_grad = launched(pooling.weighted_pool2d_grad, 1)
    adaptive_avg_pool2d = launched(adaptive_pooling.adaptive_avg_pool2d, 1)
    adaptive_avg_pool2d_grad = launched(adaptive_pooling.adaptive_avg_pool2d_grad, 1)
    adaptive_max_pool2d = launched(adaptive_pooling.adaptive_max_pool2d, 1)
    adaptive_max_pool2d_grad = launched(adaptive_pooling.adaptive_max_pool2d_grad, 1)

    # Normalisation.
    batch_norm_statistics = launched(batch_norm.batch_norm_statistics, 1, skip=_empty)
    batch_norm_eval = launched(batch_norm.batch_norm_eval, 5, skip=_empty)
    batch_norm_eval_grad = launched(batch_norm.batch_norm_eval_grad, 5, skip=_empty)
    batch_norm_grad = launched(batch_norm.batch_norm_grad, 5, skip=_empty)
    batch_norm_relu = launched(batch_norm.batch_norm_relu, 5, skip=_empty)
    batch_norm_relu_grad = launched(batch_norm.batch_norm_relu_grad, 6, skip=_empty)
    batch_norm_relu_max_pool2d = launched(
        batch_norm_pool.batch_norm_relu_max_pool2d, 5, skip=_empty
    )
    batch_norm_relu_max_pool2d_grad = launched(
        batch_norm_pool.batch_norm_relu_max_pool2d_grad, 2, skip=_empty
    )
    batch_norm_move = launched(batch_norm.batch_norm_move, 4, in_place=(0, 1))
    local_response_norm = launched(lrn.local_response_norm, 1, skip=_too_wide)
    local_response_norm_grad = launched(lrn.local_response_norm_grad, 3, skip=_too_wide)

    # Rows of logits, and random masks.
    softmax = launched(rows.softmax, 1, skip=_other_axis)
    softmax_grad = launched(rows.softmax_grad, 2, skip=_other_axis)
    log_softmax = launched(rows.log_softmax, 1, skip=_other_axis)
    log_softmax_grad = launched(rows.log_softmax_grad, 2, skip=_other_axis)
    softmax_cross_entropy = launched(rows.softmax_cross_entropy, 2)
    softmax_cross_entropy_grad = launched(rows.softmax_cross_entropy_grad, 3)
    dropout = launched(masks.dropout, 1)
    random_keep = launched(masks.random_keep, 0)

    # Lists of arrays.
    sgd_step = launched(optimizers.sgd_step, 3, in_place=(0, 2))
    adam_step = launched(optimizers.adam_step, 4, in_place=(0, 2, 3))
    rmsprop_step = launched(optimizers.rmsprop_step, 4, in_place=(0, 2, 3))
    squared_norm = launched(optimizers.squared_norm, 1)
    scale_by = launched(optimizers.scale_by, 1, in_place=(0,))

    # Batches.
    gather_images = launched(batches.gather_images, 0)
