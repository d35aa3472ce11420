"""Pooling to a given size: the launches of adaptive_pooling.cu."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import blocks, kernel, launch, walkers
from minicnn_kernels.cupy_cuda.pooling import planes

Array = Any

WARPS = 8  # maps that a block of 256 threads adds up


def adaptive_avg_pool2d(x: Array, output_size: tuple[int, int]) -> Array:
    """See `Kernels.adaptive_avg_pool2d`."""
    y = cupy.empty((*x.shape[:2], *output_size), x.dtype)
    H, W = x.shape[2:]
    if tuple(output_size) == (1, 1):
        means = kernel("adaptive_pooling", "plane_means")
        launch(means, blocks(planes(x), WARPS), 32 * WARPS, x, y, planes(x), H * W)
    else:
        means = kernel("adaptive_pooling", "bin_means")
        launch(means, walkers(y.size), 256, x, y, planes(x), H, W, *output_size)
    return y


def adaptive_avg_pool2d_grad(gy: Array, size: tuple[int, int]) -> Array:
    """See `Kernels.adaptive_avg_pool2d_grad`."""
    gx = cupy.empty((*gy.shape[:2], *size), gy.dtype)
    gather = kernel("adaptive_pooling", "bin_means_grad")
    launch(gather, walkers(gx.size), 256, gy, gx, planes(gy), *size, *gy.shape[2:])
    return gx


def adaptive_max_pool2d(x: Array, output_size: tuple[int, int]) -> tuple[Array, Array]:
    """See `Kernels.adaptive_max_pool2d`."""
    y = cupy.empty((*x.shape[:2], *output_size), x.dtype)
    position = cupy.empty(y.shape, np.int32)
    maxima = kernel("adaptive_pooling", "bin_maxima")
    sizes = planes(x), *x.shape[2:], *output_size
    launch(maxima, walkers(y.size), 256, x, y, position, *sizes)
    return y, position


def adaptive_max_pool2d_grad(gy: Array, position: Array, size: tuple[int, int]) -> Array:
    """See `Kernels.adaptive_max_pool2d_grad`."""
    gx = cupy.empty((*gy.shape[:2], *size), gy.dtype)
    gather = kernel("adaptive_pooling", "bin_maxima_grad")
    launch(gather, walkers(gx.size), 256, gy, position, gx, planes(gy), *size, *gy.shape[2:])
    return gx
