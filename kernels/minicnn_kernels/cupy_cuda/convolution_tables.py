"""The tables that a convolution's kernels read their addresses from: see window.cuh.

All of it is integer arithmetic on the geometry, done once for each in NumPy and kept on the device
for as long as the process lives, because a captured graph goes on reading from that address.

For the gradient by the input the map of x falls into classes of pixels, by their remainders modulo
the strides. With ``y = ry + sh * i``, tap ky of the window comes from row

    (y + ph - ky * dh) / sh = i + (ry + ph - ky * dh) / sh

of gy wherever that division leaves nothing; whether it does depends on ry and ky alone. So a class
has its own taps, and is met by them at offsets that do not depend on i.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.tiles import ceil
from minicnn_kernels.geometry import Window2d

BITS = 15  # rows or columns of taps that the bits of a mask can tell apart
OUTSIDE = 16384 << 16  # a tap of a large window that is on no map
END = 128  # every list of taps is followed by as many that are nowhere

Array = Any


class Tables(NamedTuple):
    """Arrays of the device, or, before `on_device`, of NumPy; all int32.

    positions (P, 4), taps (K, 2) and classes (number, 8) as in window.cuh and convolution.cu,
    sources (K,) as in turn_weights.cu; ``weights``, the turned weights of one group; ``most``, the
    positions of the largest class.
    """

    positions: Array
    taps: Array
    classes: Array
    sources: Array
    weights: int
    most: int


class _Axis(NamedTuple):
    """One axis of a class: where windows start, whether each tap is on the map, where tap k is."""

    starts: np.ndarray
    taps: list[int]
    offsets: list[int]
    targets: np.ndarray
    size: int  # of the map that is read

    def rows(self) -> np.ndarray:
        """Bit k of element i: whether tap k of window i is on the map."""
        masks = np.zeros(len(self.starts), np.int64)
        for k, offset in zip(self.taps, self.offsets, strict=True):
            on_map = (self.starts + offset >= 0) & (self.starts + offset < self.size)
            masks |= on_map.astype(np.int64) << k
        return masks


def is_large(window: Window2d) -> bool:
    """Whether a window has more rows or columns of taps than the masks have bits."""
    return max(window.kh, window.kw) > BITS


@functools.cache
def forward(window: Window2d, channels: int, device: int) -> Tables:
    """For y from x, and for the weights' gradient, with so many channels in a group."""
    return on_device(forward_tables(window, channels))


@functools.cache
def backward(window: Window2d, channels: int, filters: int, device: int) -> Tables:
    """For the gradient by x, with so many channels and filters in a group."""
    return on_device(backward_tables(window, channels, filters))


def on_device(tables: Tables) -> Tables:
    """Copies of the arrays on the current device."""
    t = tables
    arrays = {"positions": t.positions, "taps": t.taps, "classes": t.classes, "sources": t.sources}
    return t._replace(**{k: cupy.asarray(a.astype(np.int32)) for k, a in arrays.items()})


def forward_tables(window: Window2d, channels: int) -> Tables:
    """See `forward`."""
    s = window
    rows = _Axis(
        np.arange(s.oh) * s.sh - s.ph, list(range(s.kh)), [k * s.dh for k in range(s.kh)],
        np.arange(s.oh), s.h,
    )  # fmt: skip
    columns = _Axis(
        np.arange(s.ow) * s.sw - s.pw, list(range(s.kw)), [k * s.dw for k in range(s.kw)],
        np.arange(s.ow), s.w,
    )  # fmt: skip
    taps = _taps(rows, columns, channels, is_large(window))
    depth = channels * s.taps
    classes = np.array([[0, s.oh * s.ow, 0, depth, 0, 0, 0, 0]])
    positions = _positions(rows, columns, s.ow, is_large(window))
    return Tables(positions, taps, classes, np.zeros(0), 0, s.oh * s.ow)


def backward_tables(window: Window2d, channels: int, filters: int) -> Tables:
    """See `backward`."""
    s, large = window, is_large(window)
    positions, taps, sources, classes = [], [], [], []
    position = tap = weights = most = 0
    for ry in range(min(s.sh, s.h)):
        rows = _class_axis(ry, s.h, s.oh, s.kh, s.sh, s.dh, s.ph)
        for rx in range(min(s.sw, s.w)):
            columns = _class_axis(rx, s.w, s.ow, s.kw, s.sw, s.dw, s.pw)
            positions.append(_positions(rows, columns, s.w, large))
            taps.append(_taps(rows, columns, filters, large))
            sources.append(_sources(rows, columns, window, channels, filters, len(taps[-1])))
            depth = ceil(filters * len(rows.taps) * len(columns.taps), 4) * 4
            classes.append([position, len(positions[-1]), tap, depth, weights, 0, 0, 0])
            most = max(most, len(positions[-1]))
            position += len(positions[-1])
            tap += len(taps[-1])
            weights += channels * depth
    return Tables(
        np.concatenate(positions), np.concatenate(taps), np.array(classes),
        np.concatenate(sources), weights, most,
    )  # fmt: skip


def _class_axis(remainder: int, size: int, out: int, k: int, s: int, d: int, p: int) -> _Axis:
    """The pixels of one remainder, as windows of stride 1 over the output map."""
    taps = [i for i in range(k) if (remainder + p - i * d) % s == 0]
    targets = np.arange(remainder, size, s)
    offsets = [(remainder + p - i * d) // s for i in taps]
    return _Axis(np.arange(len(targets)), taps, offsets, targets, out)


def _positions(rows: _Axis, columns: _Axis, width: int, large: bool) -> np.ndarray:
    """(P, 4): from, mask, to and nothing, for each pair of a row and a column."""
    table = np.zeros((len(rows.starts), len(columns.starts), 4), np.int64)
    table[..., 0] = rows.starts[:, None] * columns.size + columns.starts
    if large:
        table[..., 1] = (rows.starts[:, None] << 16) | (columns.starts & 0xFFFF)
    else:
        table[..., 1] = rows.rows()[:, None] | columns.rows() << 16
    table[..., 2] = rows.targets[:, None] * width + columns.targets
    return table.reshape(-1, 4)


def _taps(rows: _Axis, columns: _Axis, maps: int, large: bool) -> np.ndarray:
    """(K, 2): offset and need, for each map, row and column, and `END` that are nowhere."""
    count = maps * len(rows.taps) * len(columns.taps)
    table = np.zeros((ceil(count, 4) * 4 + END, 2), np.int64)
    table[:, 1] = OUTSIDE if large else 1 << BITS
    offsets, needs = [], []
    for row, at_row in zip(rows.taps, rows.offsets, strict=True):
        for column, at_column in zip(columns.taps, columns.offsets, strict=True):
            offsets.append(at_row * columns.size + at_column)
            bits = (1 << row) | (1 << (16 + column)) if not large else 0
            needs.append((at_row << 16) | (at_column & 0xFFFF) if large else bits)
    starts = np.arange(maps)[:, None] * (rows.size * columns.size)
    table[:count, 0] = (starts + np.array(offsets, np.int64)).reshape(-1)
    table[:count, 1] = np.tile(np.array(needs, np.int64), maps)
    return table


def _sources(
    rows: _Axis, columns: _Axis, window: Window2d, channels: int, filters: int, length: int
) -> np.ndarray:
    """(K,): which weight belongs to a tap, for channel 0, or -1."""
    taps = [i * window.kw + j for i in rows.taps for j in columns.taps]
    starts = np.arange(filters)[:, None] * (channels * window.taps)
    table = np.full(length, -1, np.int64)
    table[: filters * len(taps)] = (starts + np.array(taps, np.int64)).reshape(-1)
    return table
