"""Batches of training images, gathered on the GPU; see batches.cu."""

from __future__ import annotations

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import THREADS, Array, blocks, kernel, launch


def gather_images(
    images: Array,
    index: Array,
    placement: Array,
    size: tuple[int, int],
    reflect: bool,
    table: Array,
) -> Array:
    """See `Kernels.gather_images`."""
    _, C, H, W = images.shape
    y = cupy.empty((len(index), C, *size), np.float32)
    sizes = np.int64(y.size), C, H, W, *size, reflect
    arrays = images, index, placement, table, y
    launch(kernel("batches", "gather_images"), blocks(y.size), THREADS, *arrays, *sizes)
    return y
