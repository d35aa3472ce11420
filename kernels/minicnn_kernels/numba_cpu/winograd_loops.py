"""The loops of Winograd's convolution; `winograd` explains what they compute.

The lanes are channels throughout. A worker takes a block of tiles and turns the maps they read, 16
channels (a vector) at a time, from rows of pixels to pixels of channels, with zeros for the
padding. From there every step is whole vectors: the transform of a tile is some 150 vector
instructions, and the 36 matrix products are the register tile of `microkernel` with 8 tiles of the
map as rows. One vector of results goes back to rows of pixels last.

What a worker keeps for a block lies in its own memory and is meant to stay in the second- and
third-level cache: the transformed tiles V[z][tile][channel], and for up to three vectors of output
channels at a time, the transformed weights U[z][channel][lane] and the products M[z][tile][lane].
U is made anew for each block: that costs less than to write it to memory and read it back, as each
number of w becomes four.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int64, prange

from minicnn_kernels.numba_cpu.compile import Array, helper, kernel
from minicnn_kernels.numba_cpu.convolution_windows import run_tile, whole_table
from minicnn_kernels.numba_cpu.microkernel import (
    ROWS,
    VECTOR_BYTES,
    VECTORS,
    clear,
    finish,
    transpose,
)
from minicnn_kernels.numba_cpu.winograd_transforms import (
    SIDE,
    transform_grad_output3,
    transform_grad_output5,
    transform_grad_weights3,
    transform_grad_weights5,
    transform_input,
    transform_output3,
    transform_output5,
    transform_weights3,
    transform_weights5,
)

PRODUCTS = SIDE**2  # numbers of a transformed tile


class Maps(NamedTuple):
    """Maps of which tiles are read: tile (0, 0) starts at (top, left), which may be outside."""

    channels: int
    h: int
    w: int
    top: int
    left: int
    patch: int  # rows and columns that a tile reads: SIDE, or those of gy in the weight gradient


class Sizes(NamedTuple):
    """The rest of a problem, and how a worker's memory is cut, in numbers of elements."""

    taps: int  # rows and columns of a filter
    tile: int  # rows and columns of results that a tile has
    tile_rows: int
    tile_columns: int
    oh: int
    ow: int
    channels: int  # of the result
    row: int  # from one transformed tile to the next
    plane: int  # from one of the 36 products to the next, of V
    plane_of_u: int
    plane_of_m: int
    relu: bool


class Weights(NamedTuple):
    """Where w[m, k] starts, m a channel of the result and k one that is summed over."""

    step: int  # from m to the next
    row: int  # from k to the next
    flip: bool


@helper
def _turn_rows(
    number: float, x: int, maps: Maps, row: int, rows: int, column: int, columns: int,
    channels: int, copy: int,
) -> None:  # fmt: skip
    """Write copy[r][c][lane] for rows x columns from (row, column) of one vector of planes at x."""
    size = np.asarray(number).itemsize
    lanes = VECTOR_BYTES // size
    start = min(max(-column, 0), columns)
    end = max(min(maps.w - column, columns), start)
    for r in range(rows):
        is_inside = 0 <= row + r < maps.h
        to = copy + r * columns * VECTOR_BYTES
        first, last = (start, end) if is_inside else (columns, columns)
        for c in range(first):
            clear(number, to + c * VECTOR_BYTES)
        source = x + ((row + r) * maps.w + column) * size
        for c in range(first, last, lanes):
            transpose(
                number, source + c * size, maps.h * maps.w * size, channels, last - c,
                to + c * VECTOR_BYTES, VECTOR_BYTES, 0, False,
            )  # fmt: skip
        for c in range(last, columns):
            clear(number, to + c * VECTOR_BYTES)


@helper
def _transform_patch(
    number: float, patch: int, source: int, row_of_copy: int, to: int, row_of_v: int, plane: int
) -> None:
    if patch == 6:
        transform_input(number, source, row_of_copy, VECTOR_BYTES, to, row_of_v, plane)
    elif patch == 4:
        transform_grad_output3(number, source, row_of_copy, VECTOR_BYTES, to, row_of_v, plane)
    else:
        transform_grad_output5(number, source, row_of_copy, VECTOR_BYTES, to, row_of_v, plane)


@helper
def _transform_tiles(
    number: float, x: int, maps: Maps, sizes: Sizes, task: Array, channels: tuple[int, int],
    row: int, plane: int, copy: int, v: int,
) -> int:  # fmt: skip
    """Write v[z][tile][channel] for the tiles of a task; return how many there are.

    ``row`` and ``plane``: the numbers from one tile, and from one z, to the next.
    """
    size = np.asarray(number).itemsize
    lanes = VECTOR_BYTES // size
    width = task[3] - task[2]
    columns = sizes.tile * width + maps.patch - sizes.tile
    row_of_copy, row_of_v = columns * VECTOR_BYTES, 6 * plane * size
    tile, line = 0, task[0]
    while line < task[1]:
        n, r0 = line // sizes.tile_rows, line % sizes.tile_rows
        lines = min(sizes.tile_rows - r0, task[1] - line)
        for c in range(channels[0], channels[1], lanes):
            planes = x + (n * maps.channels + c) * maps.h * maps.w * size
            _turn_rows(
                number, planes, maps, maps.top + sizes.tile * r0,
                sizes.tile * lines + maps.patch - sizes.tile, maps.left + sizes.tile * task[2],
                columns, channels[1] - c, copy,
            )  # fmt: skip
            for r in range(lines):
                for j in range(width):
                    source = copy + sizes.tile * (r * columns + j) * VECTOR_BYTES
                    to = v + ((tile + r * width + j) * row + c - channels[0]) * size
                    _transform_patch(
                        number, maps.patch, source, row_of_copy, to, row_of_v, plane * size
                    )
        tile += lines * width
        line += lines
    return tile


@helper
def _transform_panel(
    number: float, w: int, weights: Weights, K: int, sizes: Sizes, first: int, vectors: int,
    copy: int, u: int,
) -> None:  # fmt: skip
    """Write u[z][k][lane] for the ``vectors`` of result channels from ``first``."""
    size = np.asarray(number).itemsize
    lanes = VECTOR_BYTES // size
    taps, row_of_u, plane = sizes.taps**2, 6 * sizes.plane_of_u * size, sizes.plane_of_u * size
    row, column, start = sizes.taps * VECTOR_BYTES, VECTOR_BYTES, copy
    if weights.flip:
        row, column, start = -row, -column, copy + (taps - 1) * VECTOR_BYTES
    for v in range(vectors):
        m = (first + v) * lanes
        for k in range(K):
            source = w + (m * weights.step + k * weights.row) * size
            for j in range(0, taps, lanes):
                transpose(
                    number, source + j * size, weights.step * size, sizes.channels - m, taps - j,
                    copy + j * VECTOR_BYTES, VECTOR_BYTES, 0, False,
                )  # fmt: skip
            to = u + (k * vectors + v) * VECTOR_BYTES
            if sizes.taps == 3:
                transform_weights3(number, start, row, column, to, row_of_u, plane)
            else:
                transform_weights5(number, start, row, column, to, row_of_u, plane)


@helper
def _multiply(
    number: float, v: int, u: int, m: int, sizes: Sizes, count: int, vectors: int, steps: Array,
    rows: Array, zeros: int, whole: int,
) -> None:  # fmt: skip
    """m[z][tile][lane] = the sum over k of v[z][tile][k] * u[z][k][lane]."""
    size = np.asarray(number).itemsize
    row_of_m = VECTORS * VECTOR_BYTES
    for z in range(PRODUCTS):
        a, b, c = v + z * sizes.plane * size, u + z * sizes.plane_of_u * size, m
        c += z * sizes.plane_of_m * size
        for t in range(0, count, ROWS):
            run_tile(
                number, vectors, a, rows.ctypes.data + t * 8, b, steps.ctypes.data, len(steps),
                zeros, c + t * row_of_m, row_of_m, count - t, whole, False, False,
            )  # fmt: skip


@helper
def _write_maps(
    number: float, m: int, sizes: Sizes, task: Array, channel: int, bias: int, turn: int,
    pixels: int, y: int,
) -> None:  # fmt: skip
    """Turn the products of one vector of channels into pixels of y, bias and ReLU included."""
    size = np.asarray(number).itemsize
    lanes = VECTOR_BYTES // size
    width = task[3] - task[2]
    row = sizes.tile * width * VECTOR_BYTES
    plane, row_of_m = sizes.plane_of_m * size, VECTORS * VECTOR_BYTES
    column = sizes.tile * task[2]
    columns = min(sizes.tile * task[3], sizes.ow) - column
    tile = 0
    for line in range(task[0], task[1]):
        n, r0 = line // sizes.tile_rows, sizes.tile * (line % sizes.tile_rows)
        for j in range(width):
            source, to = m + tile * row_of_m, turn + sizes.tile * j * VECTOR_BYTES
            if sizes.taps == 3:
                transform_output3(number, source, 6 * plane, plane, to, row, VECTOR_BYTES)
            else:
                transform_output5(number, source, 6 * plane, plane, to, row, VECTOR_BYTES)
            tile += 1
        cells = (n * sizes.channels + channel) * sizes.oh * sizes.ow + column
        for r in range(min(sizes.tile, sizes.oh - r0)):
            to = y + (cells + (r0 + r) * sizes.ow) * size
            for c in range(0, columns, lanes):
                finish(
                    number, turn + r * row + c * VECTOR_BYTES, pixels, columns - c,
                    sizes.channels - channel, to + c * size, sizes.oh * sizes.ow * size, bias,
                    sizes.relu,
                )  # fmt: skip


@kernel
def correlate_tiles(
    x: Array, w: Array, bias: Array, y: Array, maps: Maps, sizes: Sizes, weights: Weights,
    tasks: Array, panels: Array, parts: tuple[int, int, int, int], scratch: Array,
) -> None:  # fmt: skip
    """Convolve. ``tasks``: first and end of tile rows (of all images), tile columns and panels.

    ``panels`` (n, 2): first vector and count of vectors of the result channels. ``parts``: where
    in a worker's memory V, U, M and the rest start.
    """
    workers, reserved = scratch.shape
    number, size = x[0], x.itemsize
    lanes = VECTOR_BYTES // size
    most = parts[3]
    for worker in prange(workers):
        base = scratch.ctypes.data + int64(worker) * reserved * size
        u, m, rest = base + parts[0] * size, base + parts[1] * size, base + parts[2] * size
        whole, zeros = whole_table(), np.zeros(ROWS, x.dtype)
        steps, rows = np.empty((maps.channels, 2), np.int64), np.empty(most, np.int64)
        pixels = np.empty(lanes, np.int64)
        for i in range(lanes):
            pixels[i] = i * VECTOR_BYTES
        for t in range(int64(worker), len(tasks), workers):
            task = tasks[t]
            count = _transform_tiles(
                number, x.ctypes.data, maps, sizes, task, (0, maps.channels), sizes.row,
                sizes.plane, rest, base,
            )  # fmt: skip
            for i in range(most):
                rows[i] = min(i, count - 1) * sizes.row * size
            for i in range(task[4], task[5]):
                first, vectors = panels[i, 0], panels[i, 1]
                _transform_panel(
                    number, w.ctypes.data, weights, maps.channels, sizes, first, vectors, rest, u,
                )  # fmt: skip
                for k in range(maps.channels):
                    steps[k, 0], steps[k, 1] = k * size, k * vectors * VECTOR_BYTES
                _multiply(
                    number, base, u, m, sizes, count, vectors, steps, rows, zeros.ctypes.data,
                    whole.ctypes.data,
                )  # fmt: skip
                for v in range(vectors):
                    channel = (first + v) * lanes
                    _write_maps(
                        number, m + v * VECTOR_BYTES, sizes, task, channel,
                        bias.ctypes.data + channel * size, rest, pixels.ctypes.data,
                        y.ctypes.data,
                    )  # fmt: skip


@helper
def _finish_pairs(
    number: float, sums: int, sizes: Sizes, row: int, channels: tuple[int, int],
    filters: tuple[int, int], shape: tuple[int, int], taps: int, gw: int,
) -> None:  # fmt: skip
    """gw[f, c] = G^T sums[:][c - first c][f - first f] G. ``shape``: F and C of gw."""
    size = np.asarray(number).itemsize
    lanes, plane = VECTOR_BYTES // size, sizes.plane_of_m * size
    cells = sizes.taps**2
    zeros, pixels = np.zeros(lanes, np.float64), np.empty(lanes, np.int64)
    for i in range(lanes):
        pixels[i] = i * VECTOR_BYTES
    for c in range(channels[0], min(channels[1], shape[1])):
        for f in range(filters[0], filters[1], lanes):
            source = sums + ((c - channels[0]) * row + f - filters[0]) * size
            if sizes.taps == 3:
                transform_grad_weights3(
                    number, source, 6 * plane, plane, taps, 3 * VECTOR_BYTES, VECTOR_BYTES
                )
            else:
                transform_grad_weights5(
                    number, source, 6 * plane, plane, taps, 5 * VECTOR_BYTES, VECTOR_BYTES
                )
            for j in range(0, cells, lanes):
                to = gw + ((f * shape[1] + c) * cells + j) * size
                finish(
                    number, taps + j * VECTOR_BYTES, pixels.ctypes.data, cells - j, shape[0] - f,
                    to, shape[1] * cells * size, zeros.ctypes.data, False,
                )  # fmt: skip


@kernel
def correlate_gradients(
    x: Array, gy: Array, sums: Array, gw: Array, maps: Maps, maps_of_gy: Maps, sizes: Sizes,
    tasks: Array, parts: tuple[int, int, int], row: int, scratch: Array,
) -> None:  # fmt: skip
    """sums[part][z][c][f] = the sum over a part's tiles of V[z][tile][c] * (A gy A^T)[z][tile][f].

    ``tasks``: first and end of tile rows, tile columns, channels c and channels f; the part;
    whether to add to what an earlier task has left; and whether the sums are complete then, for gw
    to be written. Where they become so, each part holds its worker's range of channels at a time,
    else all channels, whose parts `add_parts` combines. ``row``: from one c of sums to the next.
    ``parts``: where in a worker's memory the transformed gy and the rest start; the tiles of the
    largest task.
    """
    workers, reserved = scratch.shape
    number, size = x[0], x.itemsize
    lanes = VECTOR_BYTES // size
    shape = gw.shape[0], gw.shape[1]
    for worker in prange(workers):
        base = scratch.ctypes.data + int64(worker) * reserved * size
        g, rest = base + parts[0] * size, base + parts[1] * size
        whole, zeros = whole_table(), np.zeros(ROWS, x.dtype)
        steps, rows = np.empty((parts[2], 2), np.int64), np.empty(ROWS, np.int64)
        for i in range(ROWS):
            rows[i] = i * size
        for i in range(parts[2]):
            steps[i, 0], steps[i, 1] = i * sizes.row * size, i * sizes.row * size
        for t in range(int64(worker), len(tasks), workers):
            task = tasks[t]
            c0, c1, f0, f1 = task[4], task[5], task[6], task[7]
            _transform_tiles(
                number, x.ctypes.data, maps, sizes, task, (c0, min(c1, maps.channels)), sizes.row,
                sizes.plane, rest, base,
            )  # fmt: skip
            count = _transform_tiles(
                number, gy.ctypes.data, maps_of_gy, sizes, task,
                (f0, min(f1, maps_of_gy.channels)), sizes.row, sizes.plane, rest, g,
            )  # fmt: skip
            part = sums.ctypes.data + task[8] * sums.shape[1] * size
            place = part if task[10] >= 0 else part + (c0 * row + f0) * size
            for z in range(PRODUCTS):
                cells, plane = place + z * sizes.plane_of_m * size, z * sizes.plane * size
                for f in range(0, f1 - f0, VECTORS * lanes):
                    for c in range(0, c1 - c0, ROWS):
                        run_tile(
                            number, min(VECTORS, (f1 - f0 - f) // lanes), base + plane + c * size,
                            rows.ctypes.data, g + plane + f * size, steps.ctypes.data, count,
                            zeros.ctypes.data, cells + (c * row + f) * size, row * size, ROWS,
                            whole.ctypes.data, task[9] > 0, False,
                        )  # fmt: skip
            if task[10] > 0:
                _finish_pairs(
                    number, part, sizes, row, (c0, c1), (f0, f1), shape, rest, gw.ctypes.data
                )


@kernel
def add_parts(sums: Array, gw: Array, sizes: Sizes, row: int) -> None:
    """Write gw from the sum over parts, in their order."""
    parts, number = len(sums), sums[0, 0]
    shape = gw.shape[0], gw.shape[1]
    for c in prange(gw.shape[1]):
        taps = np.empty(sizes.taps**2 * row, sums.dtype)
        first = int64(c) * row
        for part in range(1, parts):
            for z in range(PRODUCTS):
                for cell in range(z * sizes.plane_of_m + first, z * sizes.plane_of_m + first + row):
                    sums[0, cell] += sums[part, cell]
        _finish_pairs(
            number, sums.ctypes.data + first * sums.itemsize, sizes, row,
            (int64(c), int64(c) + 1), (0, row), shape, taps.ctypes.data, gw.ctypes.data,
        )  # fmt: skip
