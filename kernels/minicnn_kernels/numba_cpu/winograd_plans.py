"""How Winograd's convolution is cut into work: blocks of tiles, panels of channels, memory."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu.compile import Array
from minicnn_kernels.numba_cpu.microkernel import ROWS, VECTORS, lanes
from minicnn_kernels.numba_cpu.winograd_loops import PRODUCTS, Maps, Sizes, Weights
from minicnn_kernels.numba_cpu.winograd_transforms import SIDE

BLOCK = 128  # tiles: U is made once for each block; half as many where those of gy are kept too
CHANNELS = 192  # of x and of gy for whose products a worker keeps the sums
LEAST_CHANNELS = 64  # below, adding sums up is cheaper than splitting the channels further
BUSY = 0.75  # least share of the workers' turns that have a range of channels

_Block = tuple[int, int, int, int]


class TilesPlan(NamedTuple):
    """The arguments of `correlate_tiles` that depend on sizes alone."""

    maps: Maps
    sizes: Sizes
    weights: Weights
    tasks: Array
    panels: Array
    parts: tuple[int, int, int, int]
    workers: int
    reserved: int


class GradientsPlan(NamedTuple):
    """The arguments of `correlate_gradients` that depend on sizes alone."""

    maps: Maps
    maps_of_gy: Maps
    sizes: Sizes
    tasks: Array
    parts: tuple[int, int, int]
    row: int
    in_parts: bool  # whether `add_parts` is to follow
    sums: tuple[int, int]
    workers: int
    reserved: int


def forward_plan(
    window: Window2d, C: int, F: int, N: int, dtype: np.dtype[Any], workers: int
) -> TilesPlan:
    """The plan for y."""
    maps = Maps(C, window.h, window.w, -window.ph, -window.pw, SIDE)
    weights, out = Weights(C * window.taps, window.taps, False), (window.oh, window.ow)
    return _tiles_plan(maps, out, F, window.kh, weights, N, dtype, workers)


def input_plan(
    window: Window2d, C: int, F: int, N: int, dtype: np.dtype[Any], workers: int
) -> TilesPlan:
    """The plan for gx: a convolution of gy, padded by KH - 1 - PH, with the weights turned."""
    top, left = window.ph - (window.kh - 1), window.pw - (window.kw - 1)
    maps = Maps(F, window.oh, window.ow, top, left, SIDE)
    weights, out = Weights(window.taps, C * window.taps, True), (window.h, window.w)
    return _tiles_plan(maps, out, C, window.kh, weights, N, dtype, workers)


@functools.lru_cache(maxsize=256)
def _tiles_plan(
    maps: Maps, out: tuple[int, int], M: int, taps: int, weights: Weights, N: int,
    dtype: np.dtype[Any], workers: int,
) -> TilesPlan:  # fmt: skip
    step, tile = lanes(dtype), SIDE + 1 - taps
    tile_rows, tile_columns = -(-out[0] // tile), -(-out[1] // tile)
    vectors = -(-M // step)
    bounds = _shares(vectors, -(-vectors // VECTORS))
    # Share out what there is more of, as each worker makes anew what it needs of the other.
    by_panels = workers > 1 and N * tile_rows * tile_columns < M and len(bounds) >= workers
    blocks = _blocks(N * tile_rows, tile_columns, 1 if by_panels else workers, BLOCK)
    ranges = _shares(len(bounds), workers if by_panels else 1)
    tasks = np.array([(*b, *r) for b, r in itertools.product(blocks, ranges)], np.int64)
    most = -(-_most_tiles(blocks) // ROWS) * ROWS
    row = _odd(maps.channels, step)
    plane = _odd(most * row, step)
    plane_of_u = _odd(maps.channels * min(VECTORS, vectors) * step, step)
    plane_of_m = _odd(most * VECTORS * step, step)
    sizes = Sizes(
        taps, tile, tile_rows, tile_columns, *out, M, row, plane, plane_of_u, plane_of_m, False
    )
    u, m, rest = itertools.accumulate(PRODUCTS * n for n in (plane, plane_of_u, plane_of_m))
    reserved = _rounded(rest + _turning(blocks, tile_rows, taps, step))
    panels = np.array([(a, b - a) for a, b in bounds], np.int64)
    return TilesPlan(maps, sizes, weights, tasks, panels, (u, m, rest, most), workers, reserved)


@functools.lru_cache(maxsize=256)
def weight_plan(
    window: Window2d, C: int, F: int, N: int, dtype: np.dtype[Any], workers: int
) -> GradientsPlan:
    """The plan for gw: ranges of channels are shared out, or tiles where that is impossible."""
    step, taps, tile = lanes(dtype), window.kh, SIDE + 1 - window.kh
    tile_rows, tile_columns = -(-window.oh // tile), -(-window.ow // tile)
    ranges, is_even = _ranges(C, F, step, workers)
    blocks = _blocks(N * tile_rows, tile_columns, 1 if is_even else workers, BLOCK // 2)
    if is_even:
        last = len(blocks) - 1
        tasks = [
            (*block, *of_worker, part, int(t > 0), int(t == last))
            for i in range(0, len(ranges), workers)
            for t, block in enumerate(blocks)
            for part, of_worker in enumerate(ranges[i : i + workers])
        ]
        height, row = (max(r[i + 1] - r[i] for r in ranges) for i in (0, 2))
        parts = workers
    else:
        parts = workers = min(workers, len(blocks))
        tasks = [
            (*b, *r, t % parts, int(t >= parts), -1) for r in ranges for t, b in enumerate(blocks)
        ]
        height, row = ranges[-1][1], ranges[-1][3]
    most = _most_tiles(blocks)
    row_of_v = _odd(max(max(c1 - c0, f1 - f0) for c0, c1, f0, f1 in ranges), step)
    plane, plane_of_sums = _odd(most * row_of_v, step), _odd(height * row, step)
    sizes = Sizes(
        taps, tile, tile_rows, tile_columns, window.oh, window.ow, F, row_of_v, plane, 0,
        plane_of_sums, False,
    )  # fmt: skip
    g, rest = PRODUCTS * plane, 2 * PRODUCTS * plane
    return GradientsPlan(
        Maps(C, window.h, window.w, -window.ph, -window.pw, SIDE),
        Maps(F, window.oh, window.ow, 0, 0, tile), sizes, np.array(tasks, np.int64),
        (g, rest, most), row, not is_even, (parts, PRODUCTS * plane_of_sums), workers,
        _rounded(rest + _turning(blocks, tile_rows, taps, step)),
    )  # fmt: skip


def _ranges(C: int, F: int, step: int, workers: int) -> tuple[list[_Block], bool]:
    """Ranges of channels c and f, and whether there are as many for each worker.

    Where there are, empty ranges fill the last turn up.
    """
    of_c, of_f = (
        range(-(-n // CHANNELS), max(n // LEAST_CHANNELS, -(-n // CHANNELS)) + 1) for n in (C, F)
    )

    def busy(counts: tuple[int, int]) -> float:
        turns = -(-counts[0] * counts[1] // workers)
        return counts[0] * counts[1] / (turns * workers)

    parts = max(itertools.product(of_c, of_f), key=lambda n: (busy(n), -n[0] * n[1]))
    is_even = busy(parts) >= BUSY
    if not is_even:
        parts = of_c[0], of_f[0]
    rows = max(ROWS, step)  # whole vectors, and whole tiles
    ranges = [
        (c0 * rows, c1 * rows, f0 * step, f1 * step)
        for c0, c1 in _shares(-(-C // rows), parts[0])
        for f0, f1 in _shares(-(-F // step), parts[1])
    ]
    if is_even:
        ranges += [(0, 0, 0, 0)] * (-len(ranges) % workers)
    return ranges, is_even


def _blocks(rows: int, columns: int, workers: int, most: int) -> list[_Block]:
    """Up to ``most`` tiles each: whole tile rows, or parts of one; evenly many for the workers."""
    parts = -(-columns // most)
    count = -(-rows // max(1, most // columns))
    count = min(-(-count // workers) * workers, rows)
    return [
        (r0, r1, c0, c1) for r0, r1 in _shares(rows, count) for c0, c1 in _shares(columns, parts)
    ]


def _most_tiles(blocks: list[_Block]) -> int:
    return max((r1 - r0) * (c1 - c0) for r0, r1, c0, c1 in blocks)


def _turning(blocks: list[_Block], tile_rows: int, taps: int, step: int) -> int:
    """Numbers of the largest copy of maps that is turned, and of what else takes its place."""
    tile, more = SIDE + 1 - taps, taps - 1
    largest = max(
        (tile * min(r1 - r0, tile_rows) + more) * (tile * (c1 - c0) + more)
        for r0, r1, c0, c1 in blocks
    )
    return max(largest, taps**2) * step


def _odd(count: int, step: int) -> int:
    """Up to an odd number of vectors: places at even distances would share a few cache sets."""
    return (-(-count // step) | 1) * step


def _rounded(count: int) -> int:
    """Up to whole pages, and an odd number of cache lines more, so that workers do not collide."""
    return -(-count // 1024) * 1024 + 16


def _shares(length: int, parts: int) -> list[tuple[int, int]]:
    bounds = [length * i // parts for i in range(parts + 1)]
    return [(a, b) for a, b in itertools.pairwise(bounds) if a < b]
