"""Depthwise convolution: one input channel for each group, one map at a time.

A worker copies a few maps into a padded form that fits the cache, where every row starts at a whole
vector and no tap falls outside, and computes their results from it with `depthwise_tile`. Maps are
copied several at a time, because a processor waits when it reads bytes across two vectors that it
wrote a moment ago. `depthwise_plans` describes the copy, the vectors of a result and the taps in
tables, so that the loops know neither stride nor padding; each result is one task's sum in a fixed
order, whatever the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int64, prange, uint64

from minicnn_kernels.numba_cpu.compile import Array, helper, kernel
from minicnn_kernels.numba_cpu.depthwise_tile import (
    ABREAST,
    ENTRY,
    SUMS,
    plane_products,
    plane_tile,
)
from minicnn_kernels.numba_cpu.microkernel import VECTOR_BYTES, clear, spread
from minicnn_kernels.numba_cpu.row_copies import copy_rows, split_rows, widen_rows


class Sizes(NamedTuple):
    """How maps are read and written. A unit is one group of one image.

    ``column_step``: of the forward, columns are kept by their remainder by it; where it is
    negative, for the gradient, -column_step - 1 zeros follow each column.
    """

    groups: int
    reads: int  # maps copied for one unit
    writes: int  # maps computed from them
    source: int  # numbers of one map that is copied
    target: int  # and of one that is computed
    copy: int  # bytes of one padded copy
    together: int  # units copied before the first is computed
    column_step: int
    weights: int  # for one map that is computed


@helper
def _copy_plane(
    number: float, size: int, source: int, sizes: Sizes, copies: Array, table: int, copy: int
) -> None:  # fmt: skip
    """Make the padded copy of one map; ``table`` is the address of ``copies``.

    ``copies`` (n, 4): bytes from the source, lanes as a bit mask, bytes from the copy, and the same
    for odd columns; for steps above 2, a count instead of the lanes.
    """
    step = sizes.column_step
    if step == 1 or step == -1:
        copy_rows(number, source, table, len(copies), copy)
    elif step == 2:
        split_rows(number, source, table, len(copies), copy)
    elif step == -2:
        widen_rows(number, source, table, len(copies), copy)
    else:
        for v in range(0, sizes.copy, VECTOR_BYTES):
            clear(number, copy + v)
        of_source, of_copy = max(step, 1) * size, max(-step, 1) * size
        for i in range(len(copies)):
            place, to = source + copies[i, 0], copy + copies[i, 2]
            spread(number, place, of_source, to, of_copy, copies[i, 1], False)


@kernel
def correlate_planes(
    x: Array, w: Array, bias: Array, y: Array, sizes: Sizes, copies: Array, entries: Array,
    spans: Array, steps: Array, relu: bool, scratch: Array,
) -> None:  # fmt: skip
    """The forward and the input gradient; see the top of the file.

    ``entries`` (n, 3): see `depthwise_tile`. ``spans``: of each `ABREAST` of them, the first and
    the count of their ``steps`` (bytes into the weights of a map, and into a copy).
    """
    workers, reserved = scratch.shape
    number, size = x[0], x.itemsize
    units = len(x) // (sizes.reads * sizes.source)
    x_at, w_at, bias_at, y_at = x.ctypes.data, w.ctypes.data, bias.ctypes.data, y.ctypes.data
    table, entries_at, steps_at = copies.ctypes.data, entries.ctypes.data, steps.ctypes.data
    for worker in prange(workers):
        memory = scratch.ctypes.data + int64(worker) * reserved * size
        memory += -memory % VECTOR_BYTES
        last = units * (int64(worker) + 1) // workers
        for first in range(units * int64(worker) // workers, last, sizes.together):
            end = min(first + sizes.together, last)
            for plane in range((end - first) * sizes.reads):
                source = x_at + (first * sizes.reads + plane) * sizes.source * size
                to = memory + plane * sizes.copy
                _copy_plane(number, size, source, sizes, copies, table, to)
            for unit in range(first, end):
                copy = memory + (unit - first) * sizes.reads * sizes.copy
                for m in range(sizes.writes):
                    f = unit % sizes.groups * sizes.writes + m
                    target = y_at + (unit * sizes.writes + m) * sizes.target * size
                    for i in range(uint64(len(spans))):
                        plane_tile(
                            number, w_at + f * sizes.weights * size, steps_at + spans[i, 0] * 16,
                            spans[i, 1], copy, entries_at + int64(i) * ABREAST * ENTRY, target,
                            bias_at + f * size, relu,
                        )  # fmt: skip


@kernel
def plane_weight_gradient(
    x: Array, gy: Array, gw: Array, sizes: Sizes, copies: Array, entries: Array, offsets: Array,
    scratch: Array,
) -> None:  # fmt: skip
    """gw[f, t] = the sum over images and pixels of x, at tap t, times gy.

    ``offsets`` (taps rounded up to whole `SUMS`,): bytes from a window's start to its tap.
    """
    workers, reserved = scratch.shape
    number, size = x[0], x.itemsize
    lanes, blocks = VECTOR_BYTES // size, len(offsets) // SUMS
    groups, channels, taps = sizes.groups, sizes.groups * sizes.writes, sizes.weights
    images = len(x) // (groups * sizes.source)
    x_at, gy_at, table = x.ctypes.data, gy.ctypes.data, copies.ctypes.data
    entries_at, offsets_at = entries.ctypes.data, offsets.ctypes.data
    for worker in prange(workers):
        sums = np.empty((blocks * SUMS, lanes), x.dtype)
        sums_at = sums.ctypes.data
        memory = scratch.ctypes.data + int64(worker) * reserved * size
        memory += -memory % VECTOR_BYTES
        last = channels * (int64(worker) + 1) // workers
        for f in range(channels * int64(worker) // workers, last):
            for t in range(blocks * SUMS):
                clear(number, sums_at + t * VECTOR_BYTES)
            source = x_at + f // sizes.writes * sizes.source * size
            for first in range(0, images, sizes.together):
                end = min(first + sizes.together, images)
                for n in range(first, end):
                    _copy_plane(
                        number, size, source + n * groups * sizes.source * size, sizes, copies,
                        table, memory + (n - first) * sizes.copy,
                    )  # fmt: skip
                for n in range(first, end):
                    for block in range(blocks):
                        plane_products(
                            number, memory + (n - first) * sizes.copy,
                            gy_at + (n * channels + f) * sizes.target * size, entries_at,
                            len(entries), offsets_at + block * SUMS * 8,
                            sums_at + block * SUMS * VECTOR_BYTES,
                        )  # fmt: skip
            for t in range(taps):
                total = sums[t, 0]
                for lane in range(1, lanes):
                    total += sums[t, lane]
                gw[f * taps + t] = total
