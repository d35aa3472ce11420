"""The class that puts the Numba CUDA kernels in the place of CuPy's array code.

The functions of the modules beside this one have the names and arguments of the primitives, and
take contiguous arrays; `method` makes a method of one. The kernels compute in float32. Any other
type goes to CuPy, and in strict mode is an error.

What CuPy does in one launch of its own stays with CuPy: arithmetic with broadcasting, exponential
and logarithm, sums and maxima over axes, joining, padding and indexing, and `matmul`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minicnn_kernels.cupy_set import CupyKernels
from minicnn_kernels.errors import BackendError
from minicnn_kernels.numba_cuda import (
    adaptive_pooling,
    batch_norm,
    batches,
    columns,
    convolution,
    device,
    dropout,
    elementwise,
    lrn,
    optimizers,
    pooling,
    reduction,
)
from minicnn_kernels.numba_cuda import linear as fully_connected
from minicnn_kernels.numba_cuda import softmax as rows
from minicnn_kernels.reference import Kernels, Key

CURE = 'install minicnn with the extra "gpu-numba", or numba-cuda for the CUDA of the driver'

Arguments = Sequence[Any]


def method(function: Callable[..., Any], *floats: int, others: Sequence[int] = ()) -> Any:
    """The method that runs ``function`` where it serves the arguments, and else CuPy.

    The arguments at ``floats`` must be float32 arrays or None; they, and the arrays of any type at
    ``others``, are made contiguous.
    """
    name = function.__name__
    reference = getattr(Kernels, name)
    signature = inspect.signature(function)

    @functools.wraps(reference)
    def run(self: Kernels, *args: Any, **kwargs: Any) -> Any:
        bound = list(signature.bind(*args, **kwargs).args)
        reason = _other_type(bound[i] for i in floats)
        if reason is not None:
            self.fall_back(name, reason)
            return reference(self, *bound)
        for i in (*floats, *others):
            if bound[i] is not None:
                bound[i] = self.xp.ascontiguousarray(bound[i])
        return function(*bound)

    return run


def in_place(function: Callable[..., Any], *changed: int, read: Sequence[int] = ()) -> Any:
    """The method for a function that updates the arrays, or lists of arrays, at ``changed``.

    Those at ``read`` are made contiguous; the others have to be, as a copy would not do.
    """
    name = function.__name__
    reference = getattr(Kernels, name)
    signature = inspect.signature(function)

    @functools.wraps(reference)
    def run(self: Kernels, *args: Any, **kwargs: Any) -> Any:
        bound = list(signature.bind(*args, **kwargs).args)
        updated = [a for i in changed for a in _arrays(bound[i])]
        found = [*updated, *(a for i in read for a in _arrays(bound[i]))]
        reason = _other_type(found)
        if not all(a.flags.c_contiguous for a in updated):
            reason = "an array to update in place is not contiguous"
        if reason is not None:
            self.fall_back(name, reason)
        if reason is not None or not found:
            return reference(self, *bound)
        for i in read:
            whole = [self.xp.ascontiguousarray(a) for a in _arrays(bound[i])]
            bound[i] = whole if isinstance(bound[i], Sequence) else whole[0]
        return function(*bound)

    return run


def _arrays(value: Any) -> Sequence[Any]:
    """The arrays of an argument: a list of them, one, or None."""
    if value is None:
        return ()
    return value if isinstance(value, Sequence) else (value,)


def _other_type(arrays: Iterable[Any]) -> str | None:
    """Why the kernels do not serve these arrays, or None where they do."""
    names = sorted({str(a.dtype) for a in arrays if a is not None})
    if names and names != ["float32"]:
        return f"its kernels take float32, not {' and '.join(names)}"
    return None


def check_numba() -> None:
    """Raise `BackendError` unless Numba can start a kernel on the arrays of CuPy."""
    import cupy

    on_host = getattr(cupy, "IS_STAND_IN", False)  # the tests' CuPy for machines without a GPU
    if on_host != device.SIMULATED:
        needed, cure = ("the CPU", "unset it") if device.SIMULATED else ("a GPU", "set it to 1")
        raise BackendError(
            f"use_backend: 'numba_cuda' cannot be used here: with NUMBA_ENABLE_CUDASIM="
            f"{int(device.SIMULATED)} its kernels read the memory of {needed}, and the arrays of "
            f"this CuPy are elsewhere; {cure}."
        )
    try:
        elementwise.relu(cupy.zeros(1, np.float32))
    except Exception as error:
        raise BackendError(
            f"use_backend: 'numba_cuda' cannot be used here: CuPy finds a CUDA device, but Numba "
            f"cannot start a kernel on it ({type(error).__name__}: {error}); {CURE}."
        ) from error


class NumbaCudaKernels(CupyKernels):
    """Primitives in Numba CUDA, the rest as CuPy array code."""

    name = "numba_cuda"
    capture_fault = ""

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        check_numba()

    im2col = method(columns.im2col, 0)
    col2im = method(columns.col2im, 0)
    conv2d = method(convolution.conv2d, 0, 1, 2)
    conv2d_affine = method(convolution.conv2d_affine, 0, 1, 2, 3)
    conv2d_grad_input = method(convolution.conv2d_grad_input, 0, 1)
    conv2d_grad_weight = method(convolution.conv2d_grad_weight, 0, 1)
    conv2d_grad_bias = method(convolution.conv2d_grad_bias, 0)

    linear = method(fully_connected.linear, 0, 1, 2)
    linear_grad_input = method(fully_connected.linear_grad_input, 0, 1)
    linear_grad_weight = method(fully_connected.linear_grad_weight, 0, 1)
    linear_grad_bias = method(fully_connected.linear_grad_bias, 0)

    max_pool2d = method(pooling.max_pool2d, 0)
    min_pool2d = method(pooling.min_pool2d, 0)
    max_pool2d_grad = method(pooling.max_pool2d_grad, 0, others=[1])
    weighted_pool2d = method(pooling.weighted_pool2d, 0)
    weighted_pool2d_grad = method(pooling.weighted_pool2d_grad, 0)
    adaptive_avg_pool2d = method(adaptive_pooling.adaptive_avg_pool2d, 0)
    adaptive_avg_pool2d_grad = method(adaptive_pooling.adaptive_avg_pool2d_grad, 0)
    adaptive_max_pool2d = method(adaptive_pooling.adaptive_max_pool2d, 0)
    adaptive_max_pool2d_grad = method(adaptive_pooling.adaptive_max_pool2d_grad, 0, others=[1])

    batch_norm_statistics = method(batch_norm.batch_norm_statistics, 0)
    batch_norm_move = in_place(batch_norm.batch_norm_move, 0, 1, read=[2, 3])
    batch_norm_eval = method(batch_norm.batch_norm_eval, 0, 1, 2, 3, 4)
    batch_norm_eval_grad = method(batch_norm.batch_norm_eval_grad, 0, 1, 2, 3, 4)
    batch_norm_grad = method(batch_norm.batch_norm_grad, 0, 1, 2, 3, 4)
    batch_norm_relu = method(batch_norm.batch_norm_relu, 0, 1, 2, 3, 4, 6)
    batch_norm_relu_grad = method(batch_norm.batch_norm_relu_grad, 0, 1, 2, 3, 4, 5)
    batch_norm_relu_max_pool2d = method(batch_norm.batch_norm_relu_max_pool2d, 0, 1, 2, 3, 4)
    batch_norm_relu_max_pool2d_grad = method(
        batch_norm.batch_norm_relu_max_pool2d_grad, 0, 1, 3, 4, 5, 6, 7, others=[2]
    )

    local_response_norm = method(lrn.local_response_norm, 0)
    local_response_norm_grad = method(lrn.local_response_norm_grad, 0, 1, 2)

    relu = method(elementwise.relu, 0)
    relu_grad = method(elementwise.relu_grad, 0, 1)
    leaky_relu = method(elementwise.leaky_relu, 0)
    leaky_relu_grad = method(elementwise.leaky_relu_grad, 0, 1)
    sigmoid = method(elementwise.sigmoid, 0)
    sigmoid_grad = method(elementwise.sigmoid_grad, 0, 1)
    tanh = method(elementwise.tanh, 0)
    tanh_grad = method(elementwise.tanh_grad, 0, 1)
    softmax = method(rows.softmax, 0)
    softmax_grad = method(rows.softmax_grad, 0, 1)
    log_softmax = method(rows.log_softmax, 0)
    log_softmax_grad = method(rows.log_softmax_grad, 0, 1)
    softmax_cross_entropy = method(rows.softmax_cross_entropy, 0, 1)
    softmax_cross_entropy_grad = method(rows.softmax_cross_entropy_grad, 0, 1, 2)

    dropout = method(dropout.dropout, 0)
    gather_images = method(batches.gather_images, 5, others=[0, 1, 2])
    sgd_step = in_place(optimizers.sgd_step, 0, 2, read=[1])
    adam_step = in_place(optimizers.adam_step, 0, 2, 3, read=[1])
    rmsprop_step = in_place(optimizers.rmsprop_step, 0, 2, 3, read=[1])
    squared_norm = in_place(reduction.squared_norm, read=[0])
    scale_by = in_place(optimizers.scale_by, 0)

    def random_keep(self, count: int, p: float, key: Key) -> Any:
        """See `Kernels.random_keep`."""
        return dropout.keep(self.xp.empty(count, np.bool_), p, key)
