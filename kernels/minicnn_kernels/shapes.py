"""Results without numbers: the kernel set that finds the shape of each map and computes none.

An array of it has a shape and a dtype but the memory of one number, which all places share. So a
network of any size runs at once, and what is left of the run is the shapes: enough for a table of
its layers, for counting operations, and for finding the smallest image that it takes. Forward only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from minicnn_kernels.errors import BackendError
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.reference import PRIMITIVES, Array, Kernels, tap_dtype


class ShapeKernels(Kernels):
    """Forward primitives that return `blank` arrays of the right shape; gradients are refused.

    >>> k = ShapeKernels()
    >>> k.add(blank((3, 1), np.float32), blank((5,), np.float32)).shape
    (3, 5)
    """

    name = "shapes"

    def __init__(self) -> None:
        super().__init__(np)
        for primitive in PRIMITIVES:
            setattr(self, primitive, _RULES.get(primitive) or _refusal(primitive))


def blank(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of zeros without memory, which cannot be written.

    >>> blank((10**6, 10**6), np.float32).shape
    (1000000, 1000000)
    """
    return np.broadcast_to(np.zeros((), dtype), shape)


def _refusal(primitive: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise BackendError(
            f"{primitive}: the 'shapes' kernels know the shapes of forward passes alone; use "
            "another backend."
        )

    return refuse


def _like_first(x: Array, *settings: Any) -> Array:
    return blank(x.shape, x.dtype)


def _like_both(a: Array, b: Array) -> Array:
    return blank(np.broadcast_shapes(np.shape(a), np.shape(b)), np.result_type(a, b))


def _conv2d(x: Array, w: Array, b: Array | None, window: Window2d, groups: int) -> Array:
    return blank((x.shape[0], w.shape[0], window.oh, window.ow), x.dtype)


def _conv2d_affine(
    x: Array, w: Array, scale: Array | None, shift: Array | None, window: Window2d, groups: int,
    relu: bool,
) -> Array:  # fmt: skip
    return _conv2d(x, w, shift, window, groups)


def _linear(x: Array, w: Array, b: Array | None) -> Array:
    return blank((*x.shape[:-1], w.shape[0]), x.dtype)


def _matmul(a: Array, b: Array) -> Array:
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return blank((*leading, a.shape[-2], b.shape[-1]), np.result_type(a, b))


def _select_pool2d(x: Array, window: Window2d) -> tuple[Array, Array]:
    shape = (*x.shape[:2], window.oh, window.ow)
    return blank(shape, x.dtype), blank(shape, tap_dtype(window))


def _weighted_pool2d(x: Array, taps: Array, scale: Array, window: Window2d) -> Array:
    return blank((*x.shape[:2], window.oh, window.ow), x.dtype)


def _adaptive_avg_pool2d(x: Array, output_size: tuple[int, int]) -> Array:
    return blank((*x.shape[:2], *output_size), x.dtype)


def _adaptive_max_pool2d(x: Array, output_size: tuple[int, int]) -> tuple[Array, Array]:
    y = _adaptive_avg_pool2d(x, output_size)
    return y, blank(y.shape, np.int32)


def _batch_norm_statistics(x: Array) -> tuple[Array, Array]:
    of_channels = blank(x.shape[1:2], x.dtype)
    return of_channels, of_channels


def _nothing(*arguments: Any) -> None:
    """There are no numbers to be changed."""


def _batch_norm_relu_max_pool2d(
    x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float,
    window: Window2d,
) -> tuple[Array, Array, Array]:  # fmt: skip
    y, tap = _select_pool2d(x, window)
    return y, y, tap


def _local_response_norm(x: Array, *settings: Any) -> tuple[Array, Array]:
    y = _like_first(x)
    return y, y


def _softmax_cross_entropy(x: Array, q: Array) -> tuple[Array, Array]:
    return blank(x.shape[:1], x.dtype), blank(x.shape, x.dtype)


def _reduced(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in axis]
    sizes = [1 if a in axes else n for a, n in enumerate(x.shape) if keepdims or a not in axes]
    return blank(tuple(sizes), x.dtype)


def _concat(arrays: Sequence[Array], axis: int) -> Array:
    shape = list(arrays[0].shape)
    shape[axis] = sum(a.shape[axis] for a in arrays)
    return blank(tuple(shape), np.result_type(*arrays))


def _pad(x: Array, widths: Sequence[tuple[int, int]], value: float) -> Array:
    sizes = (n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
    return blank(tuple(sizes), x.dtype)


_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        ("relu", "leaky_relu", "sigmoid", "tanh", "softmax", "log_softmax", "exp", "log", "power",
         "batch_norm_eval", "batch_norm_relu", "dropout"),
        _like_first,
    ),
    **dict.fromkeys(("add", "subtract", "multiply", "divide"), _like_both),
    **dict.fromkeys(("max_pool2d", "min_pool2d"), _select_pool2d),
    **dict.fromkeys(("sum", "max"), _reduced),
    "conv2d": _conv2d,
    "conv2d_affine": _conv2d_affine,
    "linear": _linear,
    "matmul": _matmul,
    "weighted_pool2d": _weighted_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "batch_norm_statistics": _batch_norm_statistics,
    "batch_norm_move": _nothing,
    "batch_norm_relu_max_pool2d": _batch_norm_relu_max_pool2d,
    "local_response_norm": _local_response_norm,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "concat": _concat,
    "pad": _pad,
}  # fmt: skip
