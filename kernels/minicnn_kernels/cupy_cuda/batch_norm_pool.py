"""Batch normalisation, ReLU and max pooling: the launches of batch_norm_pool.cu."""

from __future__ import annotations

from typing import Any

import cupy

from minicnn_kernels.cupy_cuda.batch_norm import gradient_sums
from minicnn_kernels.cupy_cuda.modules import kernel, launch, walkers
from minicnn_kernels.cupy_cuda.pooling import is_two_by_two, packed, planes, wide_taps
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.reference import tap_dtype

Array = Any


def batch_norm_relu_max_pool2d(
    x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float,
    window: Window2d,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """See `Kernels.batch_norm_relu_max_pool2d`."""
    shape = *x.shape[:2], window.oh, window.ow
    y, best = cupy.empty(shape, x.dtype), cupy.empty(shape, x.dtype)
    tap = cupy.empty(shape, tap_dtype(window))
    function = kernel("batch_norm_pool", "normalised_pool", WIDE_TAPS=wide_taps(window))
    sizes = packed(window), planes(x), x.shape[1], is_two_by_two(x, window)
    launch(function, walkers(y.size), 256, x, y, best, tap, mean, var, w, b, eps, *sizes)
    return y, best, tap


def batch_norm_relu_max_pool2d_grad(
    gy: Array, best: Array, tap: Array, x: Array, w: Array | None, b: Array | None, mean: Array,
    var: Array, eps: float, window: Window2d,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """See `Kernels.batch_norm_relu_max_pool2d_grad`."""
    affine = mean, var, w, b, eps
    gw, gb = gradient_sums(gy, best, affine, relu=True)
    gx = cupy.empty(x.shape, x.dtype)
    share = x.shape[1] / x.size
    function = kernel("batch_norm_pool", "normalised_pool_grad", WIDE_TAPS=wide_taps(window))
    sizes = packed(window), planes(x), x.shape[1]
    launch(
        function, walkers(x.size), 256, gy, best, tap, x, gx, *affine, gw, gb, share, *sizes
    )  # fmt: skip
    return gx, gw, gb
