"""Sums over batches, in the fixed order of sums.cu: the same bits in every run."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import launch
from minicnn_kernels.cupy_cuda.prepare import prepared
from minicnn_kernels.cupy_cuda.tiles import PROCESSORS, ceil

Array = Any

BLOCKS = 4 * PROCESSORS  # that a sum of slices is spread over
WIDTH, HEIGHT = 32, 8  # threads of a block that adds rows
PER_BLOCK = 4096  # numbers of a channel that make a block worth its start


def add_slices(
    slices: Array, out: Array, bias: Array | None = None, alpha: float = 1.0,
    accumulate: bool = False,
) -> Array:  # fmt: skip
    """``out`` = alpha * sum of ``slices`` (count, out.size) + bias by column, or added to ``out``.

    A column is a place along the last axis of ``out``.
    """
    _launch(
        "add_slices", (ceil(out.size, WIDTH),), (WIDTH, HEIGHT), slices, bias, out, out.size,
        slices.size // out.size, out.shape[-1], float(alpha), bool(accumulate),
    )  # fmt: skip
    return out


def channel_sums(x: Array) -> Array:
    """The sum of each channel of x (N, C, H, W); (C,)."""
    N, C, H, W = x.shape
    if not x.size:
        return cupy.zeros(C, np.float32)
    count = max(min(ceil(BLOCKS, C), ceil(N * H * W, PER_BLOCK), N), 1)
    sums = cupy.empty((count, C), np.float32)
    _launch("channel_sums", (C, count), (256,), x, sums, N, C, H * W)
    return add_slices(sums, cupy.empty(C, np.float32)) if count > 1 else sums.reshape(C)


def column_sums(x: Array) -> Array:
    """The sum of each column of x (rows, columns); (columns,)."""
    rows, columns = x.shape
    if not x.size:
        return cupy.zeros(columns, np.float32)
    across = ceil(columns, WIDTH)
    count = max(min(ceil(BLOCKS, across), ceil(rows, 16 * HEIGHT)), 1)
    sums = cupy.empty((count, columns), np.float32)
    _launch("column_sums", (across, count), (WIDTH, HEIGHT), x, sums, rows, columns)
    return add_slices(sums, cupy.empty(columns, np.float32)) if count > 1 else sums.reshape(columns)


def _launch(name: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
    launch(prepared("sums", name), grid, block, *args)
