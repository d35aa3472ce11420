"""Pooling: one task for each plane (n, c), so that overlapping windows add up without races.

Most loops run tap by tap (see `taps`): a row of outputs whose tap lies on the map is updated in
place from a row of the map. A plane and its output stay in the first-level cache for all KH*KW
turns, so memory sees the map once. The gradient of max pooling runs output by output instead: each
sends its number to one cell.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import prange

from minicnn_kernels.geometry import Window2d, adaptive_bins
from minicnn_kernels.numba_cpu.compile import Array, flat, helper, int64, kernel, uint64
from minicnn_kernels.numba_cpu.microkernel import VECTOR_BYTES
from minicnn_kernels.numba_cpu.taps import Steps, rectangles, steps, tap_offsets
from minicnn_kernels.numba_cpu.two_by_two import select_windows, spread_windows
from minicnn_kernels.reference import first_taps, tap_dtype


def max_pool2d(x: Array, window: Window2d) -> tuple[Array, Array]:
    """See `Kernels.max_pool2d`."""
    return select(x, window, np.ones(1, x.dtype))


def min_pool2d(x: Array, window: Window2d) -> tuple[Array, Array]:
    """See `Kernels.min_pool2d`."""
    return select(x, window, -np.ones(1, x.dtype))


def max_pool2d_grad(gy: Array, tap: Array, window: Window2d) -> Array:
    """See `Kernels.max_pool2d_grad`."""
    N, C = gy.shape[:2]
    outputs = N * C * window.oh * window.ow
    gx = np.empty((N, C, window.h, window.w), gy.dtype)
    gy, tap = flat(gy, outputs), flat(tap, outputs)
    sizes = window.h, window.w, window.sh, window.sw, window.oh, window.ow
    if covers_two_by_two(window):
        _two_by_two_grad(gy, tap, sizes, gx.reshape(-1))
    else:
        _select_pool2d_grad(gy, tap, tap_offsets(window), sizes, gx.reshape(-1))
    return gx


def weighted_pool2d(x: Array, taps: Array, scale: Array, window: Window2d) -> Array:
    """See `Kernels.weighted_pool2d`."""
    N, C = x.shape[:2]
    y = np.empty((N, C, window.oh, window.ow), x.dtype)
    weights, scale = _weights(taps, scale, window, x.dtype)
    x = flat(x, N * C * window.h * window.w)
    _weighted_pool2d(x, weights, scale, rectangles(window), steps(window), y.reshape(-1))
    return y


def weighted_pool2d_grad(gy: Array, taps: Array, scale: Array, window: Window2d) -> Array:
    """See `Kernels.weighted_pool2d_grad`."""
    N, C = gy.shape[:2]
    gx = np.empty((N, C, window.h, window.w), gy.dtype)
    weights, scale = _weights(taps, scale, window, gy.dtype)
    gy = flat(gy, N * C * window.oh * window.ow)
    _weighted_pool2d_grad(gy, weights, scale, rectangles(window), steps(window), gx.reshape(-1))
    return gx


def adaptive_avg_pool2d(x: Array, output_size: tuple[int, int]) -> Array:
    """See `Kernels.adaptive_avg_pool2d`."""
    N, C, H, W = x.shape
    y = np.empty((N, C, *output_size), x.dtype)
    rows, columns = _bins(H, output_size[0]), _bins(W, output_size[1])
    _adaptive_avg_pool2d(flat(x, x.size), rows, columns, H, W, y.reshape(-1))
    return y


def adaptive_avg_pool2d_grad(gy: Array, size: tuple[int, int]) -> Array:
    """See `Kernels.adaptive_avg_pool2d_grad`."""
    N, C, OH, OW = gy.shape
    gx = np.empty((N, C, *size), gy.dtype)
    rows, columns = _bins(size[0], OH), _bins(size[1], OW)
    _adaptive_avg_pool2d_grad(flat(gy, gy.size), rows, columns, *size, gx.reshape(-1))
    return gx


def adaptive_max_pool2d(x: Array, output_size: tuple[int, int]) -> tuple[Array, Array]:
    """See `Kernels.adaptive_max_pool2d`."""
    N, C, H, W = x.shape
    y = np.empty((N, C, *output_size), x.dtype)
    position = np.empty(y.shape, np.int32)
    rows, columns = _bins(H, output_size[0]), _bins(W, output_size[1])
    _adaptive_max_pool2d(flat(x, x.size), rows, columns, H, W, y.reshape(-1), position.reshape(-1))
    return y, position


def adaptive_max_pool2d_grad(gy: Array, position: Array, size: tuple[int, int]) -> Array:
    """See `Kernels.adaptive_max_pool2d_grad`."""
    N, C, OH, OW = gy.shape
    gx = np.empty((N, C, *size), gy.dtype)
    cells, outputs = size[0] * size[1], OH * OW
    gy, position = flat(gy, gy.size), flat(position, gy.size)
    _adaptive_max_pool2d_grad(gy, position, cells, outputs, gx.reshape(-1))
    return gx


def select(x: Array, window: Window2d, signs: Array) -> tuple[Array, Array]:
    """The value of each window whose product with its channel's sign is largest, and its tap.

    ``signs`` (C,) holds 1 and -1, or one of them for all channels.
    """
    N, C = x.shape[:2]
    y = np.empty((N, C, window.oh, window.ow), x.dtype)
    tap = np.empty(y.shape, tap_dtype(window))
    x = flat(x, N * C * window.h * window.w)
    if is_two_by_two(window):
        sizes = window.h, window.w, window.oh, window.ow
        _select_two_by_two(x, sizes, signs, y.reshape(-1), tap.reshape(-1))
        return y, tap
    table, first = rectangles(window), first_taps(window).reshape(-1)
    _select_pool2d(x, table, steps(window), first, signs, y.reshape(-1), tap.reshape(-1))
    return y, tap


def is_two_by_two(window: Window2d) -> bool:
    """Whether windows are those of 2x2 cells that share none and lie on the map."""
    is_usual = window[2:12] == _TWO_BY_TWO
    return is_usual and 2 * window.oh <= window.h and 2 * window.ow <= window.w


def covers_two_by_two(window: Window2d) -> bool:
    """The same where every cell lies in a window."""
    is_even = window.h == 2 * window.oh and window.w == 2 * window.ow
    return is_two_by_two(window) and is_even


_TWO_BY_TWO = (2, 2, 2, 2, 0, 0, 0, 0, 1, 1)  # kernel, stride, padding on all sides, dilation


def _weights(
    taps: Array, scale: Array, window: Window2d, dtype: np.dtype[np.floating]
) -> tuple[Array, Array]:
    taps, scale = np.asarray(taps, dtype), np.asarray(scale, dtype)
    return flat(taps, window.taps), flat(scale, window.oh * window.ow)


@functools.lru_cache(maxsize=256)
def _bins(size: int, bins: int) -> Array:
    """First cell and end of each bin."""
    bounds = np.array([(b.start, b.stop) for b in adaptive_bins(size, bins)])
    bounds.flags.writeable = False
    return bounds


@helper
def _keep_better(value: float, at: int, label: int, sign: float, y: Array, tap: Array) -> None:
    """A larger value or the first NaN, the one value unequal to itself, replaces y[at]."""
    best = y[at]
    if not ((sign * value <= sign * best) | (best != best)):
        y[at] = value
        tap[at] = label


@kernel
def _select_two_by_two(
    x: Array, sizes: tuple[int, ...], signs: Array, y: Array, tap: Array
) -> None:
    H, W, OH, OW = sizes
    size = x.itemsize
    lanes = VECTOR_BYTES // size
    for plane in prange(len(y) // (OH * OW)):
        sign = signs[int64(plane) % len(signs)]
        for oh in range(OH):
            upper = x.ctypes.data + (int64(plane) * H + 2 * oh) * W * size
            at = (int64(plane) * OH + oh) * OW
            for o in range(0, OW, lanes):
                row = upper + 2 * o * size
                select_windows(
                    x[0], row, row + W * size, OW - o, sign, y.ctypes.data + (at + o) * size,
                    tap.ctypes.data + at + o,
                )  # fmt: skip


@kernel
def _two_by_two_grad(gy: Array, tap: Array, sizes: tuple[int, ...], gx: Array) -> None:
    H, W, _, _, OH, OW = sizes
    size = gx.itemsize
    lanes = VECTOR_BYTES // size
    for plane in prange(len(gx) // (H * W)):
        for oh in range(OH):
            upper = gx.ctypes.data + (int64(plane) * H + 2 * oh) * W * size
            at = (int64(plane) * OH + oh) * OW
            for o in range(0, OW, lanes):
                row = upper + 2 * o * size
                spread_windows(
                    gx[0], gy.ctypes.data + (at + o) * size, tap.ctypes.data + at + o, OW - o,
                    row, row + W * size,
                )  # fmt: skip


@kernel
def _select_pool2d(
    x: Array, taps: Array, steps: Steps, first: Array, signs: Array, y: Array, tap: Array
) -> None:
    cells, row_step, column_step, outputs, OW = steps
    for plane in prange(len(y) // outputs):
        start, sign = int64(plane) * outputs, signs[int64(plane) % len(signs)]
        for o in range(uint64(outputs)):
            y[uint64(start) + o] = sign * -math.inf
            tap[uint64(start) + o] = first[o]
        for k in range(len(taps)):
            label = tap.dtype.type(k)
            for row in range(taps[k, 0]):
                source = uint64(int64(plane) * cells + taps[k, 2] + row * row_step)
                target = uint64(start + taps[k, 3] + row * OW)
                if column_step == 2:  # as a constant, the usual stride of pooling is vectorised
                    for o in range(uint64(taps[k, 1])):
                        _keep_better(x[source + o * uint64(2)], target + o, label, sign, y, tap)
                else:
                    step = uint64(column_step)
                    for o in range(uint64(taps[k, 1])):
                        _keep_better(x[source + o * step], target + o, label, sign, y, tap)


@kernel
def _select_pool2d_grad(
    gy: Array, tap: Array, offsets: Array, sizes: tuple[int, ...], gx: Array
) -> None:
    H, W, SH, SW, OH, OW = sizes
    for plane in prange(len(gx) // (H * W)):
        start = int64(plane) * H * W
        for o in range(uint64(H * W)):
            gx[uint64(start) + o] = 0
        for oh in range(OH):
            for ow in range(OW):
                o = uint64((int64(plane) * OH + oh) * OW + ow)
                k = uint64(tap[o])
                row, column = oh * SH + offsets[0, k], ow * SW + offsets[1, k]
                if 0 <= row < H and 0 <= column < W:  # a window of -inf alone may name padding
                    gx[uint64(start + row * W + column)] += gy[o]


@kernel
def _weighted_pool2d(
    x: Array, weights: Array, scale: Array, taps: Array, steps: Steps, y: Array
) -> None:
    cells, row_step, column_step, outputs, OW = steps
    for plane in prange(len(y) // outputs):
        start = int64(plane) * outputs
        for o in range(uint64(outputs)):
            y[uint64(start) + o] = 0
        for k in range(len(taps)):
            for row in range(taps[k, 0]):
                source = uint64(int64(plane) * cells + taps[k, 2] + row * row_step)
                target = uint64(start + taps[k, 3] + row * OW)
                for o in range(uint64(taps[k, 1])):
                    y[target + o] += weights[k] * x[source + o * uint64(column_step)]
        for o in range(uint64(outputs)):
            y[uint64(start) + o] *= scale[o]


@kernel
def _weighted_pool2d_grad(
    gy: Array, weights: Array, scale: Array, taps: Array, steps: Steps, gx: Array
) -> None:
    cells, row_step, column_step, outputs, OW = steps
    for plane in prange(len(gx) // cells):
        start = int64(plane) * cells
        for o in range(uint64(cells)):
            gx[uint64(start) + o] = 0
        for k in range(len(taps)):
            for row in range(taps[k, 0]):
                at = uint64(taps[k, 3] + row * OW)
                source = uint64(int64(plane) * outputs) + at
                target = uint64(start + taps[k, 2] + row * row_step)
                for o in range(uint64(taps[k, 1])):
                    share = weights[k] * (scale[at + o] * gy[source + o])
                    gx[target + o * uint64(column_step)] += share


@kernel
def _adaptive_avg_pool2d(x: Array, rows: Array, columns: Array, H: int, W: int, y: Array) -> None:
    OH, OW = len(rows), len(columns)
    for task in prange(len(y)):
        ow, oh, plane = int64(task) % OW, int64(task) // OW % OH, int64(task) // OW // OH
        width, total = columns[ow, 1] - columns[ow, 0], 0.0
        for row in range(rows[oh, 0], rows[oh, 1]):
            start = uint64((plane * H + row) * W + columns[ow, 0])
            for o in range(uint64(width)):
                total += x[start + o]
        y[task] = total / ((rows[oh, 1] - rows[oh, 0]) * width)


@kernel
def _adaptive_avg_pool2d_grad(
    gy: Array, rows: Array, columns: Array, H: int, W: int, gx: Array
) -> None:
    OH, OW = len(rows), len(columns)
    for task in prange(len(gx) // (H * W)):
        plane = int64(task)
        for o in range(uint64(H * W)):
            gx[uint64(plane * H * W) + o] = 0
        for oh in range(OH):
            for ow in range(OW):
                width = columns[ow, 1] - columns[ow, 0]
                cells = (rows[oh, 1] - rows[oh, 0]) * width
                share = gy[uint64((plane * OH + oh) * OW + ow)] / gy.dtype.type(cells)
                for row in range(rows[oh, 0], rows[oh, 1]):
                    start = uint64((plane * H + row) * W + columns[ow, 0])
                    for o in range(uint64(width)):
                        gx[start + o] += share


@kernel
def _adaptive_max_pool2d(
    x: Array, rows: Array, columns: Array, H: int, W: int, y: Array, position: Array
) -> None:
    """For each row of bins the best of every column, all columns at once; then the best of those.

    Equal values and NaN go to the first cell, row by row.
    """
    OH, OW = len(rows), len(columns)
    for plane in prange(len(x) // (H * W)):
        best, at = np.empty(W, x.dtype), np.empty(W, np.int32)
        for oh in range(OH):
            for row in range(rows[oh, 0], rows[oh, 1]):
                start, label = uint64((int64(plane) * H + row) * W), np.int32(row)
                is_first = row == rows[oh, 0]
                for c in range(uint64(W)):
                    value = x[start + c]
                    better = is_first | (not ((value <= best[c]) | (best[c] != best[c])))
                    best[c], at[c] = value if better else best[c], label if better else at[c]
            for ow in range(OW):
                winner = columns[ow, 0]
                for c in range(columns[ow, 0] + 1, columns[ow, 1]):
                    old, new = best[winner], best[c]
                    both_nan, earlier = (old != old) & (new != new), at[c] < at[winner]
                    if both_nan | (new == old):
                        winner = c if earlier else winner
                    elif not ((new <= old) | (old != old)):
                        winner = c
                o = uint64((int64(plane) * OH + oh) * OW + ow)
                y[o] = best[winner]
                position[o] = at[winner] * W + winner


@kernel
def _adaptive_max_pool2d_grad(
    gy: Array, position: Array, cells: int, outputs: int, gx: Array
) -> None:
    for task in prange(len(gx) // cells):
        start, first = uint64(int64(task) * cells), uint64(int64(task) * outputs)
        for o in range(uint64(cells)):
            gx[start + o] = 0
        for o in range(uint64(outputs)):
            gx[start + uint64(position[first + o])] += gy[first + o]
