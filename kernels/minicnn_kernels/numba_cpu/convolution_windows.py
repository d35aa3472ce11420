"""What the loops of a convolution share: how windows are read, where results go, and the tile.

The work of a kernel is a list of tasks. A task is a range of images and output rows and a range of
tiles of result rows (output channels, or weights of one channel); no two tasks of different workers
write the same cells. Worker w takes the tasks w, w + workers, ...: which worker adds what, and in
which order, depends on the sizes alone, so that a result is the same in every run.

Numba compiles a helper into the kernels that call it. It does not notice when a helper in another
file has changed: after an edit here, empty its cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicnn_kernels.numba_cpu.compile import Array, helper
from minicnn_kernels.numba_cpu.microkernel import (
    FIRST_PIECE,
    ROWS,
    VECTOR_BYTES,
    VECTORS,
    clear,
    move_exactly,
    spread,
    tile,
)

_tile1, _tile2, _tile3 = tile(ROWS, 1), tile(ROWS, 2), tile(ROWS, 3)


class Map(NamedTuple):
    """How windows are read. Numbers of elements, but those of `convolution_plans` are bytes.

    A task reads its part of the input from a padded copy, or ``in_place``. Padded row u of output
    row r is input row r * row_step + top + u, the padded column v is input column left + v. Columns
    are kept by phase, those of equal remainder by column_step side by side: a window that moves by
    column_step moves by one number.
    """

    groups: int
    channels: int  # of one group
    h: int
    w: int
    in_place: bool
    row_step: int
    column_step: int
    top: int
    left: int
    row_extent: int
    phases: int
    phase_length: int
    row_length: int
    advance: int  # from the window of one output column to the next
    plane: int
    image: int  # from one image to the next
    oh: int
    ow: int


class Target(NamedTuple):
    """Where results go: pixel (r, c) of channel m is at base + m * plane + r * row + c * column."""

    rows: int  # channels of one group
    base: int
    plane: int
    row: int
    column: int


@helper
def first_window(shape: Map, task: Array) -> int:
    """The number of x where the first window of a task starts."""
    plane = (task[1] * shape.groups + task[0]) * shape.channels * shape.h
    return (plane + task[3] * shape.row_step + shape.top) * shape.w + shape.left


@helper
def copy_window(
    number: float, x: int, shape: Map, task: Array, channels: tuple[int, int], copy: int
) -> None:
    """Make a task's padded copy. What a vector writes too much is overwritten by what follows."""
    size = np.asarray(number).itemsize
    rows = (task[4] - task[3] - 1) * shape.row_step + shape.row_extent
    for n in range(task[1], task[2]):
        for c in range(channels[0], channels[1]):
            plane = ((n * shape.groups + task[0]) * shape.channels + c) * shape.h
            to = copy + ((n - task[1]) * shape.image + c * shape.plane) * size
            for u in range(rows):
                if u % shape.row_step < shape.row_extent:
                    row = task[3] * shape.row_step + shape.top + u
                    source = x + (plane + row) * shape.w * size
                    is_inside = 0 <= row < shape.h
                    _copy_row(number, size, source, shape, is_inside, to)
                to += shape.row_length * size


@helper
def _copy_row(number: float, size: int, source: int, shape: Map, is_inside: bool, to: int) -> None:
    lanes, step, length = VECTOR_BYTES // size, shape.column_step, shape.phase_length
    for phase in range(shape.phases):
        left, start, end = shape.left + phase, length, length
        if is_inside and step == 1:
            start, end = min(max(-left, 0), length), min(shape.w - left, length)
        elif is_inside:
            start = min(max((step - 1 - left) // step, 0), length)
            end = min((shape.w - 1 - left) // step + 1, length)
        for v in range(0, start, lanes):
            clear(number, to + v * size)
        at, end = start, max(start, end)
        if step == 1:
            while at < end:
                bits = (1 << min(lanes, end - at)) - 1
                move_exactly(number, source + (left + at) * size, to + at * size, bits)
                at += lanes
        else:
            first = source + (left + start * step) * size
            spread(number, first, step * size, to + start * size, size, end - start, False)
            at = end
        for v in range(at, length, lanes):
            clear(number, to + v * size)
        to += length * size


@helper
def run_tile(
    number: float, vectors: int, a: int, rows_of_a: int, b: int, steps: int, count: int, start: int,
    c: int, row_of_c: int, valid: int, pieces: int, add: bool, relu: bool,
) -> None:  # fmt: skip
    """The tile of ROWS x ``vectors``; see `microkernel.tile`."""
    if vectors == 3:
        _tile3(number, a, rows_of_a, b, steps, count, start, c, row_of_c, valid, pieces, add, relu)
    elif vectors == 2:
        _tile2(number, a, rows_of_a, b, steps, count, start, c, row_of_c, valid, pieces, add, relu)
    else:
        _tile1(number, a, rows_of_a, b, steps, count, start, c, row_of_c, valid, pieces, add, relu)


@helper
def whole_table() -> Array:
    """The table of pieces for a tile whose vectors lie side by side."""
    table = np.empty(2 * FIRST_PIECE + 2 * VECTORS, np.int64)
    for v in range(VECTORS + 1):
        table[v] = FIRST_PIECE + v
    for v in range(VECTORS):
        table[2 * (FIRST_PIECE + v)] = -1
        table[2 * (FIRST_PIECE + v) + 1] = v * VECTOR_BYTES
    return table
