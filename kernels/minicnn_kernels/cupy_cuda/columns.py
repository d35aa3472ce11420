"""im2col and col2im: see columns.cu. The convolutions beside them do without."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import THREADS, blocks, launch
from minicnn_kernels.cupy_cuda.prepare import prepared, record
from minicnn_kernels.geometry import Window2d

Array = Any

MOST_BLOCKS = 2**20


def im2col(x: Array, window: Window2d) -> Array:
    """See `Kernels.im2col`."""
    shape = (*x.shape[:2], window.kh, window.kw, window.oh, window.ow)
    return _run("im2col", x, cupy.empty(shape, np.float32), window)


def col2im(col: Array, window: Window2d) -> Array:
    """See `Kernels.col2im`."""
    shape = (*col.shape[:2], window.h, window.w)
    return _run("col2im", col, cupy.empty(shape, np.float32), window)


def _run(name: str, source: Array, out: Array, window: Window2d) -> Array:
    grid = blocks(out.size, most=MOST_BLOCKS)
    planes = np.int64(source.shape[0] * source.shape[1])
    launch(prepared("columns", name), grid, THREADS, source, out, planes, record(window))
    return out
