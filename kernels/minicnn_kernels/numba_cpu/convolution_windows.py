"""What the loops of a convolution share: how windows are read, where results go, and the tile.

The work of a kernel is a list of tasks. A task is a range of images and output rows, a range of
tiles of result rows (output channels, or weights), and the channels that these read; no two tasks
of different workers write the same cells. Worker w takes the tasks w, w + workers, ...: which
worker adds what, and in which order, depends on the sizes alone, so that a result is the same in
every run.

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
    spread,
    tile,
)
from minicnn_kernels.numba_cpu.row_copies import copy_rows, halve_rows

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
def row_table(size: int, shape: Map) -> Array:
    """How one row of the padded copy is made, the same for all rows: see `row_copies`.

    With a step above 2, one entry for each phase, with a count of numbers instead of lanes.
    """
    step, length = shape.column_step, shape.phase_length
    lanes = VECTOR_BYTES // size
    vectors = (length + lanes - 1) // lanes if step <= 2 else 1
    table = np.zeros((shape.phases * vectors, 4), np.int64)
    for i in range(len(table)):
        phase, v = i // vectors, i % vectors * lanes
        column = shape.left + phase + v * step
        if step <= 2:
            first, end = min(max(-column, 0), step * lanes), min(shape.w - column, step * lanes)
            bits = max((1 << max(end, 0)) - (1 << first), 0)
        else:
            v = max((step - 1 - column) // step, 0)
            column += v * step
            bits = max(min((shape.w - 1 - column) // step + 1, length - v), 0)
        table[i, 0], table[i, 1], table[i, 2] = column * size, bits, (phase * length + v) * size
    return table


@helper
def copy_window(
    number: float, size: int, x: int, shape: Map, task: Array, table: Array, copy: int
) -> None:  # fmt: skip
    """Make a task's padded copy. What a vector writes too much is overwritten by what follows."""
    rows = (task[4] - task[3] - 1) * shape.row_step + shape.row_extent
    top, step = task[3] * shape.row_step + shape.top, shape.column_step
    bytes_of_row = shape.w * size
    length = shape.phases * shape.phase_length * size  # longer than a row that shares its padding
    for n in range(task[1], task[2]):
        for c in range(task[7], task[8]):
            plane = ((n * shape.groups + task[0]) * shape.channels + c) * shape.h
            to = copy + ((n - task[1]) * shape.image + c * shape.plane) * size
            for u in range(rows):
                source = x + (plane + top + u) * bytes_of_row
                is_inside = 0 <= top + u < shape.h
                if step > 2 or not is_inside:
                    for v in range(0, length, VECTOR_BYTES):
                        clear(number, to + v)
                if is_inside and u % shape.row_step < shape.row_extent:
                    if step == 1:
                        copy_rows(number, source, table.ctypes.data, len(table), to)
                    elif step == 2:
                        halve_rows(number, source, table.ctypes.data, len(table), to)
                    else:
                        for i in range(len(table)):
                            spread(
                                number, source + table[i, 0], step * size, to + table[i, 2], size,
                                table[i, 1], False,
                            )  # fmt: skip
                to += shape.row_length * size


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
