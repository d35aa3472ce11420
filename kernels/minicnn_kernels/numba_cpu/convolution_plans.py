"""How a convolution is cut into work: tables of offsets, tasks and blocks, from sizes alone.

The input gradient is a convolution of gy that runs over the taps backwards. With a stride, the
cells of gx that a tap reaches lie stride apart, so gx falls into SH*SW interleaved maps, each an
ordinary convolution of gy with the taps that reach it: no product is with a zero that the stride
put in.

Which loops run, by what was measured: lanes are channels (`lanes_loops`) where the channels fill
them, else pixels (`panel_loops`). Plans are kept, since a network asks for the same ones each step.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu.compile import Array
from minicnn_kernels.numba_cpu.convolution_windows import Map, Target
from minicnn_kernels.numba_cpu.lanes_loops import Lanes
from minicnn_kernels.numba_cpu.microkernel import MASKED, ROWS, VECTORS, lanes
from minicnn_kernels.numba_cpu.panel_loops import Blocking

COPY_BYTES = 2**20  # a task's padded copy: half the second-level cache, or as much as it must
BLOCK = 512  # numbers of each window that are gathered at once
PANEL_BYTES = 2**19  # of all panels that are gathered at once
PANELS = 32  # at most as many panels are multiplied at once
LANE_PIXELS = 256  # pixels of one block where the lanes are channels
SORTED_PIXELS = 2048  # of at most so many where they are sorted
WORTH_SORTING = 0.96  # sort pixels by the taps on the map if these are a smaller share
MOST_CLASSES = 64
SMALL_MAP = 2048  # read a map of up to so many cells in place instead of copying it
LEAST_NUMBERS = 100  # of a window, for turning the results to be cheap beside summing them
MOVE = 3.5  # cycles to gather a vector of pixels; an FMA of a vector takes one

Taps = tuple[tuple[int, int], ...]


class PanelPlan(NamedTuple):
    """The arguments of `correlate` that depend on sizes alone."""

    shape: Map
    target: Target
    blocking: Blocking
    tasks: Array
    offsets: Array
    steps: Array
    rows_of_a: Array
    workers: int
    reserved: int


class LanesPlan(NamedTuple):
    """The arguments of `pack_weights` and `correlate_lanes` that depend on sizes alone."""

    shape: Map
    target: Target
    blocking: Lanes
    tasks: Array
    classes: tuple[Array, Array]
    spans: Array
    steps: Array
    tiles: Array
    weights: tuple[int, ...]
    places: Array
    skips_padding: bool
    workers: int
    reserved: int


@functools.lru_cache(maxsize=256)
def forward_plan(
    window: Window2d, C: int, F: int, N: int, G: int, dtype: np.dtype[Any], workers: int
) -> PanelPlan | LanesPlan:
    """The plan of `convolution.conv2d`; C, the channels of one group."""
    M, T, size = F // G, window.taps, dtype.itemsize
    target = Target(M, 0, window.oh * window.ow, window.ow, 1)
    shape, offsets = window_map(
        G, C, (window.h, window.w), (window.sh, window.sw), taps_of(window),
        (window.oh, window.ow), target, size,
    )  # fmt: skip
    places = np.arange(C * T)
    if _is_by_lanes(shape, target, T, dtype):
        return _lanes_plan(shape, target, taps_of(window), offsets, 1, places, N, dtype, workers)
    numbers = places * size
    return _panel_plan(shape, target, M * C * T, offsets, numbers, C * T * size, N, dtype, workers)


@functools.lru_cache(maxsize=256)
def input_plans(
    window: Window2d, C: int, F: int, N: int, G: int, dtype: np.dtype[Any], workers: int
) -> list[PanelPlan | LanesPlan]:
    """The plans of `convolution.conv2d_grad_input`, one for each of the interleaved maps."""
    M, T, size = F // G, window.taps, dtype.itemsize
    plans: list[PanelPlan | LanesPlan] = []
    for h0 in range(min(window.sh, window.h)):
        for w0 in range(min(window.sw, window.w)):
            numbers, taps = [], []
            for i in range(window.kh):
                for j in range(window.kw):
                    up, row = divmod(h0 + window.ph - i * window.dh, window.sh)
                    left, column = divmod(w0 + window.pw - j * window.dw, window.sw)
                    if row == 0 == column:
                        numbers.append(i * window.kw + j)
                        taps.append((up, left))
            if not taps:
                continue
            rows = len(range(h0, window.h, window.sh)), len(range(w0, window.w, window.sw))
            target = Target(
                C, h0 * window.w + w0, window.h * window.w, window.sh * window.w, window.sw
            )
            shape, offsets = window_map(
                G, M, (window.oh, window.ow), (1, 1), tuple(taps), rows, target, size
            )
            if _is_by_lanes(shape, target, len(taps), dtype):
                places = np.full(T, -1)
                places[numbers] = np.arange(len(numbers))
                plans.append(
                    _lanes_plan(shape, target, tuple(taps), offsets, M, places, N, dtype, workers)
                )
                continue
            of_a = (np.arange(M)[:, None] * C * T + np.array(numbers)).reshape(-1) * size
            plans.append(
                _panel_plan(shape, target, M * C * T, offsets, of_a, T * size, N, dtype, workers)
            )
    return plans


def _panel_plan(
    shape: Map, target: Target, group_of_a: int, offsets: Array, numbers: Array, row_of_a: int,
    N: int, dtype: np.dtype[Any], workers: int,
) -> PanelPlan:  # fmt: skip
    K, width, size = len(offsets), VECTORS * lanes(dtype), dtype.itemsize
    height = 1 if target.rows <= 3 else ROWS
    tiles = -(-target.rows // height)
    tasks, largest = cut_tasks(shape, N, tiles, workers, size, False)
    direct = _is_direct(shape, K, tiles * height, dtype)
    if direct:
        block, panels, into_b = 0, PANELS, offsets
    else:
        block = -(-K // -(-K // BLOCK))
        panels = min(max(1, PANEL_BYTES // (block * width * size)), PANELS)
        into_b = np.arange(K) % block * width * size
    steps = np.stack([numbers, into_b], axis=1)
    rows = np.minimum(np.arange(tiles * height), target.rows - 1).reshape(tiles, height) * row_of_a
    reserved = rounded((ROWS + panels * block + 2) * width + largest)
    blocking = Blocking(group_of_a, height, K, block, panels, direct, False)
    return PanelPlan(shape, target, blocking, tasks, offsets, steps, rows, workers, reserved)


def _lanes_plan(
    shape: Map, target: Target, taps: Taps, offsets: Array, outer: int, places: Array, N: int,
    dtype: np.dtype[Any], workers: int,
) -> LanesPlan:  # fmt: skip
    vectors, size = -(-target.rows // lanes(dtype)), dtype.itemsize
    row_classes, column_classes, inside = _classes(shape, taps)
    if sum(map(len, inside)) < len(inside) * len(taps):
        shape, offsets = on_the_map(shape, taps, size)
    widths = _shares(vectors, -(-vectors // VECTORS))
    kinds = sorted({b - a for a, b in widths})
    tiles = np.array([(a, b - a, kinds.index(b - a)) for a, b in widths], np.int64)
    per_block = max(1, BLOCK // len(taps))
    numbers = np.arange(len(offsets)).reshape(shape.channels, len(taps))
    spans, steps, first = [], [], 0
    for kind in kinds:
        for of_class in inside:
            for c in range(0, shape.channels, per_block):
                k = numbers[c : c + per_block, of_class].reshape(-1)
                steps.append(np.stack([offsets[k], k * kind * lanes(dtype) * size], axis=1))
                spans.append((first, len(k)))
                first += len(k)
    table = np.array(spans, np.int64).reshape(len(kinds), len(inside), -1, 2)
    tasks, largest = cut_tasks(shape, N, len(widths), workers, size, False)
    pixels = LANE_PIXELS if len(inside) == 1 else _sorted_pixels(shape)
    slots = pixels + (ROWS - 1) * len(inside) + ROWS
    blocking = Lanes(pixels, slots, table.shape[2], len(offsets), vectors, False)
    weights = shape.groups, outer, target.rows, len(places), len(offsets) // outer
    reserved = rounded((slots + 1) * VECTORS * lanes(dtype) + lanes(dtype) ** 2 + largest)
    return LanesPlan(
        shape, target, blocking, tasks, (row_classes, column_classes), table,
        np.concatenate(steps), tiles, weights, places, shape.in_place, workers, reserved,
    )  # fmt: skip


def _classes(shape: Map, taps: Taps) -> tuple[Array, Array, list[list[int]]]:
    """The class of each row, what each column adds to it, and the taps that each class meets."""
    up, left = np.array(taps).T
    rows = np.arange(shape.oh)[:, None] * shape.row_step + up
    columns = np.arange(shape.ow)[:, None] * shape.column_step + left
    row_inside, of_row = distinct((rows >= 0) & (rows < shape.h))
    column_inside, of_column = distinct((columns >= 0) & (columns < shape.w))
    both = row_inside[:, None] & column_inside
    pixels = np.bincount(of_row)[:, None] * np.bincount(of_column)
    met = (both.sum(axis=2) * pixels).sum() / (pixels.sum() * len(taps))
    is_small = shape.h * shape.w <= SMALL_MAP
    if pixels.size > MOST_CLASSES or (met > WORTH_SORTING and not is_small):
        every = list(range(len(taps)))
        return np.zeros(shape.oh, np.int64), np.zeros(shape.ow, np.int64), [every]
    met_by_class = [np.flatnonzero(inside).tolist() for inside in both.reshape(-1, len(taps))]
    return of_row * len(column_inside), of_column, met_by_class


def _sorted_pixels(shape: Map) -> int:
    """Pixels of one block; of as many images as the tile has rows, so that each class fills it."""
    images = shape.oh * shape.ow * ROWS
    return images * (SORTED_PIXELS // images) or SORTED_PIXELS // 2


def on_the_map(shape: Map, taps: Taps, size: int) -> tuple[Map, Array]:
    """Where the taps lie on the map itself: enough where each pixel meets only those on the map."""
    up, left = np.array(taps).T
    plane = shape.h * shape.w
    offsets = np.arange(shape.channels)[:, None] * plane + up * shape.w + left
    shape = shape._replace(
        in_place=True, top=0, left=0, row_length=shape.w, advance=shape.column_step, plane=plane,
        image=shape.groups * shape.channels * plane,
    )  # fmt: skip
    return shape, offsets.reshape(-1) * size


def distinct(rows: Array) -> tuple[Array, Array]:
    """The distinct rows, and which of them each row is."""
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    return distinct, which.reshape(-1).astype(np.int64)


def _is_by_lanes(shape: Map, target: Target, taps: int, dtype: np.dtype[Any]) -> bool:
    """Whether channels fill the lanes well enough; for one tap, gathering is but a copy."""
    step = lanes(dtype)
    waste = -target.rows % step / target.rows
    return taps > 1 and shape.channels * taps >= LEAST_NUMBERS and waste < 0.1


def _is_direct(shape: Map, K: int, rows: int, dtype: np.dtype[Any]) -> bool:
    """Whether computing the cells between the rows of the padded copy is cheaper than gathering."""
    if shape.in_place or shape.channels == K:
        return False
    if shape.row_step == 1:
        waste = shape.row_length / shape.ow - 1
    else:
        waste = -shape.ow % lanes(dtype) / shape.ow
    gathering = VECTORS + VECTORS * lanes(dtype) / shape.ow
    return waste * VECTORS * rows < MOVE * gathering


def rounded(count: int) -> int:
    """Up to whole pages, and an odd number of cache lines more, so that workers do not collide."""
    return -(-count // 1024) * 1024 + 16


def taps_of(window: Window2d) -> Taps:
    """Row and column of each tap, for output (0, 0)."""
    return tuple(
        (i * window.dh - window.ph, j * window.dw - window.pw)
        for i in range(window.kh)
        for j in range(window.kw)
    )


def window_map(
    G: int, C: int, size: tuple[int, int], step: tuple[int, int], taps: Taps,
    out: tuple[int, int], target: Target, itemsize: int,
) -> tuple[Map, Array]:  # fmt: skip
    """How to read windows with the given ``taps`` (row, column) of output (0, 0)."""
    (h, w), (row_step, column_step), (oh, ow) = size, step, out
    compact = step == (1, 1) and size == out and (target.row, target.column) == (ow, 1)
    if compact and taps == ((0, 0),):
        h, w, oh, ow = 1, h * w, 1, oh * ow  # the rows of a 1x1 convolution make one long row
    rows, columns = np.array(taps).T
    top, left = int(rows.min()), int(columns.min())
    row_extent, column_extent = int(rows.max()) - top + 1, int(columns.max()) - left + 1
    in_place = (
        MASKED and column_step == 1 and top >= 0 and left >= 0
        and top + (oh - 1) * row_step + row_extent <= h and left + ow - 1 + column_extent <= w
    )  # fmt: skip
    if in_place:
        phases, length, row_length, plane, image = 1, w, w, h * w, G * C * h * w
    else:
        phases = min(column_step, column_extent)
        length = ow + (column_extent - 1) // column_step
        row_length = phases * length
        if column_step == 1:  # the padding after a row is also that before the next
            row_length -= max(0, min(-left, left + length - w, column_extent - 1))
        plane = ((oh - 1) * row_step + row_extent) * row_length
        image = C * plane
    places = (columns - left) % column_step * length + (columns - left) // column_step
    offsets = np.arange(C)[:, None] * plane + (rows - top) * row_length + places
    shape = Map(
        G, C, h, w, in_place, row_step, column_step, top, left, row_extent, phases, length,
        row_length, 1, plane, image, oh, ow,
    )  # fmt: skip
    return shape, offsets.reshape(-1) * itemsize


def cut_tasks(
    shape: Map, N: int, tiles: int, workers: int, size: int, split: bool, whole: bool = False
) -> tuple[Array, int]:
    """The tasks (group; first and end of images, rows, tiles, channels); the largest copy's size.

    Images, or without ``whole`` rows of few large images, are shared out; where they are too few,
    tiles.
    """
    copy = shape.channels * shape.plane * size
    images = max(1, min(COPY_BYTES // max(copy, 1), -(-N // workers)))
    pieces = 1
    if images == 1 and not whole:
        pieces = min(-(-copy // COPY_BYTES), shape.oh)
    even = shape.groups * N % workers == 0 or 8 * workers <= N
    if split:
        parts = workers
    else:
        parts = 1
        if not even:
            images = 1
            if shape.oh >= 4 * workers and not whole:
                pieces = -(-pieces // workers) * workers
            else:
                parts = min(workers, tiles)
    count = -(-N // images)
    if count >= workers and not split:
        count = min(-(-count // workers) * workers, N)
    tasks = [
        (g, n0, n1, r0, r1, t0, t1, 0, shape.channels)
        for g in range(shape.groups)
        for n0, n1 in _shares(N, count)
        for r0, r1 in _shares(shape.oh, pieces)
        for t0, t1 in _shares(tiles, parts)
    ]
    most = max(n1 - n0 for _, n0, n1, *_ in tasks)
    return np.array(tasks, np.int64), 0 if shape.in_place else most * shape.image


def _shares(length: int, parts: int) -> list[tuple[int, int]]:
    bounds = [length * i // parts for i in range(parts + 1)]
    return [(a, b) for a, b in itertools.pairwise(bounds) if a < b]
