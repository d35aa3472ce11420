"""The class that puts the compiled loops in the place of the reference's array code.

The functions of the modules beside this one have the names and arguments of the primitives; `loop`
turns one into a method that first looks whether it serves the arguments. Its loops take arrays of
one dtype, float32 or float64. Anything else goes to the reference, and in strict mode is an error.

Some calls go to the reference silently, because array code is as good for them: a few operations on
fewer than `SMALL` numbers take less time than starting the threads (`LIGHT`, `PRODUCTS` and
`GRADIENT_PRODUCTS` times as many, where array code does better), the mean of a whole plane, the
one bin of global average pooling, is a single call of NumPy, and `array_code` is for what takes few
numbers or, like the norm of all gradients, a small part of a step.

Other calls run on one thread: a second one needs 10 to 50 microseconds to wake, so that it only
delays what one does in `WORTH_SHARING`. How long a call takes on one thread is estimated from its
sizes; the numbers below were measured on an AMD EPYC with AVX-512 in 2026.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import (
    arithmetic,
    batch_norm,
    columns,
    convolution,
    elementwise,
    lrn,
    pooling,
)
from minicnn_kernels.numba_cpu import linear as fully_connected
from minicnn_kernels.numba_cpu import softmax as rows
from minicnn_kernels.numba_cpu.microkernel import lanes
from minicnn_kernels.reference import Kernels
from minicnn_kernels.threads import use_num_threads

COMPILED = {np.dtype(np.float32), np.dtype(np.float64)}
SMALL = 2**14
LIGHT = 8  # for operations in which NumPy, too, crosses memory once
PRODUCTS = 64  # for multiply-adds of a fully connected layer
GRADIENT_PRODUCTS = 256  # for those of its gradients
WORTH_SHARING = 60_000.0  # nanoseconds
MULTIPLY_ADD = 0.01  # nanoseconds, in a convolution

Arguments = Sequence[Any]


def loop(
    function: Callable[..., Any],
    arrays: int,
    in_place: Sequence[int] = (),
    skip: Callable[[Arguments], bool] = lambda arguments: False,
    cost: Callable[[Arguments], float] = lambda arguments: WORTH_SHARING,
) -> Any:
    """The method that runs ``function`` where it serves the arguments, and else the reference.

    The first ``arrays`` arguments must have one compiled dtype, and those at ``in_place`` must be
    contiguous. ``skip`` tells the arguments for which the reference is the better implementation,
    ``cost`` about how many nanoseconds one thread needs.
    """
    name = function.__name__
    reference = getattr(Kernels, name)
    signature = inspect.signature(function)

    @functools.wraps(reference)
    def method(self: Kernels, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args = signature.bind(*args, **kwargs).args
        if skip(args):
            return reference(self, *args)
        reason = _refusal(args, arrays, in_place)
        if reason is not None:
            self.fall_back(name, reason)
            return reference(self, *args)
        use_num_threads(is_small=cost(args) < WORTH_SHARING)
        return function(*args)

    return method


def loop_of_lists(function: Callable[..., Any], lists: int, in_place: Sequence[int]) -> Any:
    """The method whose first ``lists`` arguments are lists, each array served as `loop` would.

    Small arrays go to the reference, and so does what the loops do not serve.
    """
    name = function.__name__
    reference = getattr(Kernels, name)
    signature = inspect.signature(function)

    @functools.wraps(reference)
    def method(self: Kernels, *args: Any, **kwargs: Any) -> None:
        if kwargs:
            args = signature.bind(*args, **kwargs).args
        served: list[tuple[Any, ...]] = []
        others: list[tuple[Any, ...]] = []
        none = [None] * len(args[0])
        for arrays in zip(*(none if a is None else a for a in args[:lists]), strict=True):
            reason = None if _small(arrays) else _refusal(arrays, lists, in_place)
            if reason is not None:
                self.fall_back(name, reason)
            (others if reason or _small(arrays) else served).append(arrays)
        if others:
            reference(self, *_columns(args, others), *args[lists:])
        if served:
            use_num_threads(is_small=False)
            function(*_columns(args, served), *args[lists:])

    return method


def _columns(args: Arguments, rows: list[tuple[Any, ...]]) -> list[Any]:
    """The lists among args again, with the arrays of some rows; None stays."""
    columns = zip(*rows, strict=True)
    return [None if a is None else list(c) for a, c in zip(args, columns, strict=False)]


def array_code(primitive: str) -> Any:
    """The method that leaves a primitive to array code, which nothing here would be better than."""
    reference = getattr(Kernels, primitive)

    @functools.wraps(reference)
    def method(self: Kernels, *args: Any, **kwargs: Any) -> Any:
        return reference(self, *args, **kwargs)

    return method


def _refusal(args: Arguments, arrays: int, in_place: Sequence[int]) -> str | None:
    """Why the loops do not serve these arguments, or None where they do."""
    dtypes = {a.dtype for a in args[:arrays] if a is not None}
    if len(dtypes) > 1 or not dtypes <= COMPILED:
        names = " and ".join(sorted(map(str, dtypes)))
        return f"its loops take float32 or float64 throughout, not {names}"
    if not all(args[i] is None or args[i].flags.c_contiguous for i in in_place):
        return "an array to update in place is not contiguous"
    return None


def _each(nanoseconds: float) -> Callable[[Arguments], float]:
    """The cost of so much for each number of the first array."""
    return lambda args: nanoseconds * args[0].size


def _joined(args: Arguments) -> float:
    return 0.12 * sum(a.size for a in args[0])


def _convolution(args: Arguments) -> float:
    """Of (x or gy, w, ...): each weight meets each pixel of each result map."""
    window = next(a for a in args if isinstance(a, Window2d))
    return MULTIPLY_ADD * args[0].shape[0] * window.oh * window.ow * args[1].size


def _convolution_weight(args: Arguments) -> float:
    """Of (gy, x, window, groups)."""
    gy, x, window, groups = args
    return MULTIPLY_ADD * gy.size * x.shape[1] // groups * window.taps


def _small(args: Arguments) -> bool:
    return bool(args[0].size < SMALL)


def _few(args: Arguments) -> bool:
    return bool(args[0] < SMALL)


def _small_or_other_axis(args: Arguments) -> bool:
    """Whether a softmax is short, or along another axis than the last."""
    return _small(args) or args[-1] % args[0].ndim != args[0].ndim - 1


def _small_loss(args: Arguments) -> bool:
    """Whether there are few probabilities (for the gradient, the second argument)."""
    return _small(args[-1:])


def _unlike(args: Arguments) -> bool:
    """Whether NumPy is as good at a + b: numbers, broadcasting, small arrays, and views."""
    a, b = args
    arrays = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    if not arrays or a.shape != b.shape:
        return True
    return a.size < LIGHT * SMALL or not _all_contiguous(args)


def _apart(args: Arguments) -> bool:
    arrays = args[0]
    total = sum(a.size for a in arrays)
    return (
        total < LIGHT * SMALL or len({a.dtype for a in arrays}) > 1 or not _all_contiguous(arrays)
    )


def _all_contiguous(arrays: Arguments) -> bool:
    return all(a.flags.c_contiguous for a in arrays)


def _empty(args: Arguments) -> bool:
    return bool(args[0].size == 0)


def _one_bin(args: Arguments) -> bool:
    return tuple(args[1]) == (1, 1)


def _one_bin_grad(args: Arguments) -> bool:
    return bool(args[0].shape[2:] == (1, 1))


def _small_linear(args: Arguments) -> bool:
    x, w = args[:2]
    return bool(x.size * w.shape[0] <= PRODUCTS * SMALL)


def _small_linear_grad(args: Arguments) -> bool:
    """For both gradients: the vectors of their loops must be full, too."""
    gy, other = args
    columns = other.shape[-1]
    is_small = gy.size * columns <= GRADIENT_PRODUCTS * SMALL
    return bool(is_small or columns % lanes(other.dtype))


def _small_linear_grad_input(args: Arguments) -> bool:
    return _small_linear_grad(args) or args[0].size == args[0].shape[-1]


class NumbaKernels(Kernels):
    """The reference with its slow primitives replaced by parallel compiled loops."""

    name = "numba"
    gives_threads_to_blas = False

    im2col = loop(columns.im2col, 1)
    col2im = loop(columns.col2im, 1)
    conv2d = loop(convolution.conv2d, 3, cost=_convolution)
    conv2d_affine = loop(convolution.conv2d_affine, 4, cost=_convolution)
    conv2d_grad_input = loop(convolution.conv2d_grad_input, 2, cost=_convolution)
    conv2d_grad_weight = loop(convolution.conv2d_grad_weight, 2, cost=_convolution_weight)
    conv2d_grad_bias = loop(convolution.conv2d_grad_bias, 1, cost=_each(0.1))

    linear = loop(fully_connected.linear, 3, skip=_small_linear)
    linear_grad_input = loop(fully_connected.linear_grad_input, 2, skip=_small_linear_grad_input)
    linear_grad_weight = loop(fully_connected.linear_grad_weight, 2, skip=_small_linear_grad)
    linear_grad_bias = loop(fully_connected.linear_grad_bias, 1, skip=_small)

    max_pool2d = loop(pooling.max_pool2d, 1, cost=_each(0.5))
    min_pool2d = loop(pooling.min_pool2d, 1, cost=_each(0.5))
    max_pool2d_grad = loop(pooling.max_pool2d_grad, 1, cost=_each(0.5))
    weighted_pool2d = loop(pooling.weighted_pool2d, 1, cost=_each(0.5))
    weighted_pool2d_grad = loop(pooling.weighted_pool2d_grad, 1, cost=_each(0.5))
    adaptive_avg_pool2d = loop(pooling.adaptive_avg_pool2d, 1, skip=_one_bin, cost=_each(0.5))
    adaptive_avg_pool2d_grad = loop(pooling.adaptive_avg_pool2d_grad, 1, skip=_one_bin_grad)

    adaptive_max_pool2d = loop(pooling.adaptive_max_pool2d, 1)
    adaptive_max_pool2d_grad = loop(pooling.adaptive_max_pool2d_grad, 1)

    batch_norm_statistics = loop(batch_norm.batch_norm_statistics, 1, skip=_empty, cost=_each(0.1))
    batch_norm_move = array_code("batch_norm_move")
    batch_norm_eval = loop(batch_norm.batch_norm_eval, 5, cost=_each(0.1))
    batch_norm_eval_grad = loop(batch_norm.batch_norm_eval_grad, 5, cost=_each(0.3))
    batch_norm_grad = loop(batch_norm.batch_norm_grad, 5, cost=_each(0.3))
    batch_norm_relu = loop(batch_norm.batch_norm_relu, 5, cost=_each(0.1))
    batch_norm_relu_grad = loop(batch_norm.batch_norm_relu_grad, 6, cost=_each(0.3))
    batch_norm_relu_max_pool2d = loop(batch_norm.batch_norm_relu_max_pool2d, 5, cost=_each(0.1))
    batch_norm_relu_max_pool2d_grad = loop(batch_norm.batch_norm_relu_max_pool2d_grad, 2)

    local_response_norm = loop(lrn.local_response_norm, 1, cost=_each(0.7))
    local_response_norm_grad = loop(lrn.local_response_norm_grad, 3, cost=_each(0.9))

    relu = loop(elementwise.relu, 1, skip=_small, cost=_each(0.1))
    relu_grad = loop(elementwise.relu_grad, 2, skip=_small, cost=_each(0.1))
    leaky_relu = loop(elementwise.leaky_relu, 1, skip=_small, cost=_each(0.1))
    leaky_relu_grad = loop(elementwise.leaky_relu_grad, 2, skip=_small, cost=_each(0.1))
    sigmoid = loop(elementwise.sigmoid, 1, skip=_small, cost=_each(0.3))
    sigmoid_grad = loop(elementwise.sigmoid_grad, 2, skip=_small, cost=_each(0.1))
    tanh_grad = loop(elementwise.tanh_grad, 2, skip=_small, cost=_each(0.1))
    softmax = loop(rows.softmax, 1, skip=_small_or_other_axis)
    softmax_grad = loop(rows.softmax_grad, 2, skip=_small_or_other_axis)
    log_softmax = loop(rows.log_softmax, 1, skip=_small_or_other_axis)
    log_softmax_grad = loop(rows.log_softmax_grad, 2, skip=_small_or_other_axis)
    softmax_cross_entropy = loop(rows.softmax_cross_entropy, 2, skip=_small_loss)
    softmax_cross_entropy_grad = loop(rows.softmax_cross_entropy_grad, 3, skip=_small_loss)
    add = loop(arithmetic.add, 2, skip=_unlike)
    subtract = loop(arithmetic.subtract, 2, skip=_unlike)
    multiply = loop(arithmetic.multiply, 2, skip=_unlike)
    divide = loop(arithmetic.divide, 2, skip=_unlike)
    concat = loop(arithmetic.concat, 0, skip=_apart, cost=_joined)
    dropout = loop(elementwise.dropout, 1, skip=_small, cost=_each(0.3))
    random_keep = loop(elementwise.random_keep, 0, skip=_few)
    sgd_step = loop_of_lists(elementwise.sgd_step, 3, in_place=(0, 2))
    adam_step = loop_of_lists(elementwise.adam_step, 4, in_place=(0, 2, 3))
    squared_norm = array_code("squared_norm")
    scale_by = array_code("scale_by")
