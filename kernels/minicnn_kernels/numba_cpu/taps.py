"""Where each tap of a sliding window meets the map: geometry that im2col and pooling share.

The outputs whose tap (i, j) lies on the map, not on padding, form a rectangle. In the flat map it
is ``rows`` runs of ``count`` cells: the first begins at ``map_start``, the cells of a run are
``column_step`` apart and the runs ``row_step``. In the flat output the first run begins at
``output_start``, its cells are neighbours, and the runs are OW apart. A compiled loop that has
these numbers needs to know neither padding nor dilation, and tests no bounds.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from minicnn_kernels.geometry import Window2d

Array = np.ndarray[Any, np.dtype[Any]]
Steps = tuple[int, int, int, int, int]


@functools.lru_cache(maxsize=256)
def rectangles(window: Window2d) -> Array:
    """(KH*KW, 4) integers: rows, count, map_start and output_start of each tap.

    >>> rectangles(Window2d.of((3, 3), 2, padding=1))[0]  # the first tap misses row and column 0
    array([3, 3, 0, 5])
    """
    table = np.empty((window.taps, 4), np.int64)
    for tap in range(window.taps):
        up, left = tap_offsets(window)[:, tap].tolist()
        top, bottom = _covered(up, window.sh, window.h, window.oh)
        first, end = _covered(left, window.sw, window.w, window.ow)
        map_start = (top * window.sh + up) * window.w + first * window.sw + left
        table[tap] = bottom - top, end - first, map_start, top * window.ow + first
    table.flags.writeable = False
    return table


def steps(window: Window2d) -> Steps:
    """H*W, row_step, column_step, OH*OW and OW: a plain tuple, which Numba takes as it is."""
    row_step = window.sh * window.w
    return window.h * window.w, row_step, window.sw, window.oh * window.ow, window.ow


@functools.lru_cache(maxsize=256)
def tap_offsets(window: Window2d) -> Array:
    """(2, KH*KW) integers: row and column of each tap for output (0, 0); negative on padding."""
    i, j = np.divmod(np.arange(window.taps), window.kw)
    offsets = np.stack([i * window.dh - window.ph, j * window.dw - window.pw])
    offsets.flags.writeable = False
    return offsets


def _covered(offset: int, stride: int, length: int, count: int) -> tuple[int, int]:
    """First and end of the o < count for which 0 <= o * stride + offset < length."""
    first = -(min(offset, 0) // stride)
    end = min((length - 1 - offset) // stride + 1, count)
    return first, max(first, end)
