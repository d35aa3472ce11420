"""Random masks: the launches of dropout.cu."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import WALKERS, blocks, kernel, launch, walkers
from minicnn_kernels.cupy_cuda.modules import key as packed_key
from minicnn_kernels.reference import Key

Array = Any


def dropout(x: Array, p: float, key: Key, unit: int) -> Array:
    """See `Kernels.dropout`."""
    if p >= 1.0:
        return cupy.zeros(x.shape, x.dtype)
    y = cupy.empty(x.shape, x.dtype)
    numbers = 1.0 / (1.0 - p), *_threshold(p, key)
    if unit == 1:
        each = kernel("dropout", "dropout_each")
        launch(each, walkers(-(-x.size // 4)), 256, x, y, np.int64(x.size), *numbers)
    elif x.size:
        runs = x.size // unit
        threads = min(256, -(-unit // 32) * 32)
        columns = min(blocks(unit, threads), WALKERS)
        grid = columns, min(runs, -(-16 * WALKERS // columns))
        sizes = np.int64(runs), np.int64(unit)
        launch(kernel("dropout", "dropout_runs"), grid, threads, x, y, *sizes, *numbers)
    return y


def random_keep(count: int, p: float, key: Key) -> Array:
    """See `Kernels.random_keep`."""
    keep = cupy.empty(count, np.bool_)
    function = kernel("dropout", "random_keep")
    launch(function, walkers(count), 256, keep, np.int64(count), *_threshold(p, key))
    return keep


def _threshold(p: float, key: Key) -> tuple[Any, Any]:
    return np.uint64(round(p * 2**32)), packed_key(key)
