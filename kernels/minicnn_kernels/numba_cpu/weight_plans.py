"""How the gradient by the weights is cut into work: tables of offsets, tasks and parts of the sums.

Rows of the result are numbers k of a window. Where products with padding are worth skipping, they
are put in another order: a tile gets 8 channels of one tap, and the next tile the next tap of the
same channels, whose pixels are then still in the first cache.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu.compile import Array
from minicnn_kernels.numba_cpu.convolution_plans import (
    SORTED_PIXELS,
    WORTH_SORTING,
    Taps,
    cut_tasks,
    distinct,
    on_the_map,
    rounded,
    taps_of,
    window_map,
)
from minicnn_kernels.numba_cpu.convolution_windows import Map, Target
from minicnn_kernels.numba_cpu.microkernel import ROWS, VECTORS, lanes
from minicnn_kernels.numba_cpu.weight_loops import Cut

PIXELS = 512  # pixels of gy that are transposed at once
CHANNELS = 2 * VECTORS  # vectors of channels that are transposed at once


class WeightPlan(NamedTuple):
    """The arguments of `weight_gradient` that depend on sizes alone."""

    shape: Map
    target: Target
    tasks: Array
    offsets: Array
    cut: Cut
    columns: Array
    taps: Array
    rows: Array
    sums: tuple[int, ...]
    complete: bool  # whether each part of the sums is written
    workers: int
    reserved: int


@functools.lru_cache(maxsize=256)
def weight_plan(
    window: Window2d, C: int, F: int, N: int, G: int, dtype: np.dtype[Any], workers: int
) -> WeightPlan:
    """The plan of `convolution.conv2d_grad_weight`."""
    M, T, size, step = F // G, window.taps, dtype.itemsize, lanes(dtype)
    target = Target(M, 0, window.oh * window.ow, window.ow, 1)
    shape, offsets = window_map(
        G, C, (window.h, window.w), (window.sh, window.sw), taps_of(window),
        (window.oh, window.ow), target, size,
    )  # fmt: skip
    channels = -(-M // step) * step
    columns, taps = _stretches(shape, taps_of(window))
    skips = len(taps) > 0 and C % ROWS == 0 and window.oh * window.ow <= SORTED_PIXELS // 2
    rows, pixels = np.arange(C * T), PIXELS
    if skips:
        shape, offsets = on_the_map(shape, taps_of(window), size)
        of_tiles = rows.reshape(-1, ROWS, T).swapaxes(1, 2).reshape(-1)  # a tile: one tap
        offsets, rows = offsets[of_tiles], np.argsort(of_tiles)
        pixels = max(1, PIXELS // (window.oh * window.ow)) * window.oh * window.ow
    else:
        columns = np.ones((1, shape.ow), np.int64)
    tiles = -(-C * T // ROWS)
    offsets = np.concatenate([offsets, np.repeat(offsets[-1:], tiles * ROWS - C * T)])
    rows = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % step)]) * channels * size
    split = G * C * T * channels * size > 2**20 and tiles >= 8 * workers and workers > G
    tasks, largest = cut_tasks(shape, N, tiles, workers, size, split, skips)
    first, end = tasks[:, 5] * ROWS // T, np.minimum(-(-tasks[:, 6] * ROWS // T), C)
    parts, again, complete = _parts(tasks, workers)
    tasks = np.stack([*tasks.T[:7], first, end, again], axis=1)
    cut = Cut(pixels, min(CHANNELS * step, channels), skips)
    reserved = rounded(pixels * cut.width + step + largest + step)
    sums = parts, G, tiles * ROWS, channels
    return WeightPlan(
        shape, target, tasks, offsets, cut, columns, taps, rows, sums, complete, workers, reserved
    )


def _parts(tasks: Array, workers: int) -> tuple[int, Array, bool]:
    """How many sums are kept apart, which tasks add to one, and whether each sum is written."""
    cells = [(g, t0) for g, _, _, _, _, t0, *_ in tasks.tolist()]
    owners = {(cell, t % workers) for t, cell in enumerate(cells)}
    parts = 1 if len(owners) == len(set(cells)) else min(workers, len(tasks))
    written = [(cell, t % parts) for t, cell in enumerate(cells)]
    again = np.array([place in written[:t] for t, place in enumerate(written)])
    return parts, again, len(set(written)) == parts * len(set(cells))


def _stretches(shape: Map, taps: Taps) -> tuple[Array, Array]:
    """The sets of columns that taps find on the map; of each tap its set, its first and end row.

    No taps where all products are with the map, and where a pixel meets the map with no tap: that
    a gy there is NaN would not show in the result.
    """
    up, left = np.array(taps).T[:, :, None]
    rows = np.arange(shape.oh) * shape.row_step + up
    columns = np.arange(shape.ow) * shape.column_step + left
    row_inside = (rows >= 0) & (rows < shape.h)
    column_inside = (columns >= 0) & (columns < shape.w)
    share = (row_inside.sum(axis=1) * column_inside.sum(axis=1)).sum()
    share /= len(taps) * shape.oh * shape.ow
    meets = row_inside.any(axis=0).all() and column_inside.any(axis=0).all()
    lists, which = distinct(column_inside)
    if share > WORTH_SORTING or not meets:
        return lists.astype(np.int64), np.empty((0, 3), np.int64)
    first = row_inside.argmax(axis=1)
    return lists.astype(np.int64), np.stack([which, first, first + row_inside.sum(axis=1)], axis=1)
