"""The convolution whose lanes are output channels: nothing is gathered, only the result is turned.

`correlate_lanes` computes y[p, m] = sum over k of x[k, p] * b[k, m]. The rows of a tile are 8
pixels, read one number at a time where they lie in the padded copy, whatever the stride and
wherever a row of the map ends. The lanes are channels m, so ``b`` holds the weights channel by
channel side by side (`pack_weights`). A block of results is turned back to one map for each channel
when it is complete.

As the 8 pixels of a tile need not be neighbours, they are sorted by the taps that lie on the map
for them: in the corner of a map that is padded by 1, that is 4 of 9. The others would only add
zeros; on a map of 7x7 they are 18 % of all products.

With 16, 32, 48, ... channels no lane idles. `panel_loops` serves the other cases.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int64, prange

from minicnn_kernels.numba_cpu.compile import Array, helper, kernel
from minicnn_kernels.numba_cpu.convolution_windows import (
    Map,
    Target,
    copy_window,
    first_window,
    row_table,
    run_tile,
    whole_table,
)
from minicnn_kernels.numba_cpu.microkernel import (
    ROWS,
    VECTOR_BYTES,
    VECTORS,
    finish,
    move,
    transpose,
)
from minicnn_kernels.numba_cpu.row_copies import spread_row


class Lanes(NamedTuple):
    """How the work is cut: pixels and blocks of numbers k; and the sizes of ``b``."""

    pixels: int
    slots: int  # for as many pixels, with each class rounded up to whole tiles
    blocks: int
    numbers: int
    vectors: int  # of the channels of one group
    relu: bool


@kernel
def pack_weights(w: Array, sizes: tuple[int, ...], places: Array, tiles: Array, b: Array) -> None:
    """b[g][vectors][k][lane] = w[g, outer, m, column], m being the lane and k what the others say.

    ``sizes``: G, outer, channels m, columns, columns used. ``places`` (columns,): the number of
    each used column, -1 for the others; k = outer * columns used + place. ``tiles`` (n, ...): first
    vector and count of vectors of each tile.
    """
    G, outer, M, columns, used = sizes
    size = w.itemsize
    lanes = VECTOR_BYTES // size
    vectors = (M + lanes - 1) // lanes
    for worker in prange(G * outer * vectors):
        block = np.empty(lanes * lanes, w.dtype)
        v = int64(worker) % vectors
        o = int64(worker) // vectors % outer
        g = int64(worker) // vectors // outer
        first, count = v, 1
        for i in range(len(tiles)):
            if tiles[i, 0] <= v:
                first, count = tiles[i, 0], tiles[i, 1]
        source = w.ctypes.data + (((g * outer + o) * M + v * lanes) * columns) * size
        panel = (g * vectors + first) * lanes * outer * used
        for column in range(0, columns, lanes):
            there = min(lanes, columns - column)
            transpose(
                w[0], source + column * size, columns * size, M - v * lanes, there,
                block.ctypes.data, VECTOR_BYTES, 0, False,
            )  # fmt: skip
            for j in range(there):
                if places[column + j] >= 0:
                    k = o * used + places[column + j]
                    to = panel + (k * count + v - first) * lanes
                    from_block = block.ctypes.data + j * VECTOR_BYTES
                    move(w[0], from_block, b.ctypes.data + to * size, -1)


@kernel
def correlate_lanes(
    x: Array, b: Array, bias: Array, y: Array, shape: Map, target: Target, how: Lanes,
    tasks: Array, classes: tuple[Array, Array], spans: Array, steps: Array, tiles: Array,
    scratch: Array,
) -> None:  # fmt: skip
    """See the top of the file.

    ``classes``: of each output row, and of each column; pixels of one class meet the same taps.
    ``spans`` (widths, classes, blocks, 2): first and count of the ``steps`` of a class, which tell
    bytes from a pixel's window to its number k and from the first row of ``b`` to row k. ``tiles``
    (n, 3): first vector, count of vectors, and which of the widths that is.
    """
    workers, reserved = scratch.shape
    number, size = x[0], x.itemsize
    lanes = VECTOR_BYTES // size
    for worker in prange(workers):
        pixels_at, class_at = np.empty(how.slots, np.int64), np.empty(how.slots, np.int64)
        slots = np.empty(how.pixels + lanes, np.int64)
        whole, zeros = whole_table(), np.zeros(ROWS, x.dtype)
        table = row_table(size, shape)
        sums = scratch.ctypes.data + int64(worker) * reserved * size
        block = sums + how.slots * VECTORS * VECTOR_BYTES
        copy = block + lanes * VECTOR_BYTES
        for t in range(int64(worker), len(tasks), workers):
            task = tasks[t]
            start = x.ctypes.data + first_window(shape, task) * size
            if not shape.in_place:
                copy_window(number, size, x.ctypes.data, shape, task, table, copy)
                start = copy
            pixels = (task[2] - task[1]) * (task[4] - task[3]) * shape.ow
            for q in range(0, pixels, how.pixels):
                there = min(how.pixels, pixels - q)
                used = _sort_pixels(
                    size, shape, task, q, there, classes, spans.shape[1], pixels_at, class_at, slots
                )
                for i in range(task[5], task[6]):
                    first, vectors, width = tiles[i, 0], tiles[i, 1], tiles[i, 2]
                    panel = (task[0] * how.vectors + first) * VECTOR_BYTES * how.numbers
                    for k in range(how.blocks):
                        for p in range(0, used, ROWS):
                            span = spans[width, class_at[p], k]
                            run_tile(
                                number, vectors, start, pixels_at.ctypes.data + p * 8,
                                b.ctypes.data + panel, steps.ctypes.data + span[0] * 16, span[1],
                                zeros.ctypes.data, sums + p * VECTORS * VECTOR_BYTES,
                                VECTORS * VECTOR_BYTES, ROWS, whole.ctypes.data, k > 0, False,
                            )  # fmt: skip
                    for v in range(vectors):
                        m = (first + v) * lanes
                        channel = task[0] * target.rows + m
                        _turn(
                            number, size, shape, target, task, q, there, target.rows - m,
                            sums + v * VECTOR_BYTES, slots, bias.ctypes.data + channel * size,
                            y.ctypes.data + (target.base + channel * target.plane) * size, block,
                            how.relu,
                        )  # fmt: skip


@helper
def _sort_pixels(
    size: int, shape: Map, task: Array, q: int, count: int, classes: tuple[Array, Array],
    number_of_classes: int, pixels_at: Array, class_at: Array, slots: Array,
) -> int:  # fmt: skip
    """Give each of ``count`` pixels from q a slot, so that a tile holds pixels of one class.

    Return how many slots there are. Slots that fill a tile up hold its class's last pixel again.
    """
    rows, used = task[4] - task[3], 0
    places = np.zeros(number_of_classes + 1, np.int64)
    for turn in range(2):
        line, column = q // shape.ow, q % shape.ow
        n, r = line // rows, line % rows
        for p in range(count):
            kind = classes[0][task[3] + r] + classes[1][column]
            if turn == 0:
                places[kind + 1] += 1
            else:
                at = n * shape.image + r * shape.row_step * shape.row_length
                at += column * shape.advance
                slot = places[kind]
                places[kind], slots[p] = slot + 1, slot * VECTORS * VECTOR_BYTES
                pixels_at[slot], class_at[slot] = at * size, kind
            column += 1
            if column == shape.ow:
                column, r = 0, r + 1
                if r == rows:
                    n, r = n + 1, 0
        if turn == 0:
            for kind in range(number_of_classes):
                places[kind + 1] = places[kind] + (places[kind + 1] + ROWS - 1) // ROWS * ROWS
            used = places[number_of_classes]
    for kind in range(number_of_classes):
        slot = places[kind]
        while slot % ROWS != 0:
            pixels_at[slot], class_at[slot] = pixels_at[slot - 1], kind
            slot += 1
    return used


@helper
def _turn(
    number: float, size: int, shape: Map, target: Target, task: Array, q: int, count: int,
    channels: int, sums: int, slots: Array, bias: int, y: int, block: int, relu: bool,
) -> None:  # fmt: skip
    """Write a block of pixels x one vector of channels to the maps of those channels."""
    lanes, rows, cells, lane = VECTOR_BYTES // size, task[4] - task[3], shape.ow, 0
    if target.column == 1 and target.row == cells:
        rows, cells = 1, rows * cells  # rows without gaps are one row
    image = shape.groups * target.rows * target.plane
    while lane < count:
        line, column = (q + lane) // cells, (q + lane) % cells
        length = min(cells - column, count - lane)
        to = (task[1] + line // rows) * image + (task[3] + line % rows) * target.row
        to = y + (to + column * target.column) * size
        for v in range(0, length, lanes):
            of_sums, there = slots.ctypes.data + (lane + v) * 8, min(lanes, length - v)
            if target.column == 1:
                finish(
                    number, sums, of_sums, there, channels, to + v * size, target.plane * size,
                    bias, relu,
                )  # fmt: skip
            else:
                finish(number, sums, of_sums, there, channels, block, VECTOR_BYTES, bias, relu)
                for m in range(min(lanes, channels)):
                    spread_row(
                        number, size, block + m * VECTOR_BYTES,
                        to + (v * target.column + m * target.plane) * size, target.column, there,
                        False,
                    )  # fmt: skip
        lane += length
