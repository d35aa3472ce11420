"""The convolution whose lanes are pixels: it serves any number of channels and any window.

`correlate` computes y[m, p] = sum over k of a[m, k] * x[k, p]. Here p counts the output pixels of
the task, image after image without a gap, so that a 7x7 map wastes no lane. The pixels are taken in
panels as wide as the tile. The windows of a panel are gathered into a (k, p) matrix that fits the
cache and serves all rows m of ``a``. Where there are few rows to repay the gathering, the tile
reads the padded copy directly, and also computes the few cells between one row of pixels and the
next.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int64, prange, uint64

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
    FIRST_PIECE,
    ROWS,
    VECTOR_BYTES,
    VECTORS,
    move,
    tile,
)
from minicnn_kernels.numba_cpu.row_copies import spread_row

_row3 = tile(1, 3)


class Operands(NamedTuple):
    """The arrays of `correlate`.

    ``offsets`` (K,): bytes from a pixel's window to its number k. ``steps`` (K, 2): bytes from a
    row of ``a`` to its number k, and to row k of a panel or, without panels, the offset of k.
    ``rows_of_a`` (tiles, rows): bytes to the rows of each tile. ``bias`` ends with a tile of zeros.
    """

    x: Array
    a: Array
    bias: Array
    y: Array
    offsets: Array
    steps: Array
    rows_of_a: Array


class Blocking(NamedTuple):
    """How the work is cut: numbers k gathered at once, panels at once; whether to gather at all."""

    group_of_a: int
    rows: int
    numbers: int
    block: int
    panels: int
    direct: bool
    relu: bool

    @property
    def adds_up(self) -> bool:
        """Whether results are written and read again, so that none is final when written."""
        return not self.direct and self.block < self.numbers


class _Job(NamedTuple):
    """What the loops of one worker need all the time, as plain numbers: addresses, and sizes."""

    a: int
    bias: int
    y: int
    steps: int
    rows_of_a: int
    zeros: int
    tile: int
    panels: int
    copy: int
    whole: int


@kernel
def correlate(
    operands: Operands, shape: Map, target: Target, how: Blocking, tasks: Array, scratch: Array
) -> None:
    """See the top of the file."""
    workers, reserved = scratch.shape
    number, size = operands.x[0], operands.x.itemsize
    x = operands.x.ctypes.data
    for worker in prange(workers):
        whole, table = whole_table(), row_table(size, shape)
        tile_at = scratch.ctypes.data + int64(worker) * reserved * size
        panels = tile_at + ROWS * VECTORS * VECTOR_BYTES
        copy = panels + (how.panels * how.block + 1) * VECTORS * VECTOR_BYTES
        job = _Job(
            operands.a.ctypes.data, operands.bias.ctypes.data, operands.y.ctypes.data,
            operands.steps.ctypes.data, operands.rows_of_a.ctypes.data,
            operands.bias.ctypes.data + (len(operands.bias) - ROWS) * size, tile_at, panels, copy,
            whole.ctypes.data,
        )  # fmt: skip
        for t in range(int64(worker), len(tasks), workers):
            task = tasks[t]
            start = x + first_window(shape, task) * size
            if not shape.in_place:
                copy_window(number, size, x, shape, task, table, copy)
                start = copy
            if how.direct:
                _directly(number, size, job, shape, target, how, task, start)
            else:
                _by_panels(number, size, job, operands.offsets, shape, target, how, task, start)


@helper
def _gather(
    number: float, size: int, start: int, offsets: Array, shape: Map, rows: int, q: int, count: int,
    panel: int, pieces: Array,
) -> None:  # fmt: skip
    """Write the panel of ``count`` pixels from q, in pieces of one vector and one row of the map.

    A piece may spill into what is written after it.
    """
    lanes, lane, found = VECTOR_BYTES // size, 0, 0
    line, column = q // shape.ow, q % shape.ow
    n, r = line // rows, line % rows
    while lane < count:
        length = min(shape.ow - column, count - lane)
        at = n * shape.image + r * shape.row_step * shape.row_length + column
        for v in range(0, length, lanes):
            pieces[found, 0] = start + (at + v) * size
            pieces[found, 1] = panel + (lane + v) * size
            pieces[found, 2] = (1 << min(lanes, length - v)) - 1
            found += 1
        lane, column, r = lane + length, 0, r + 1
        if r == rows:
            n, r = n + 1, 0
    for k in range(uint64(len(offsets))):
        offset, to = offsets[k], int64(k) * (VECTORS * VECTOR_BYTES)
        for i in range(uint64(found)):
            move(number, pieces[i, 0] + offset, pieces[i, 1] + to, pieces[i, 2])


@helper
def _place(
    size: int, shape: Map, target: Target, task: Array, q: int, count: int, length: int,
    table: Array,
) -> None:  # fmt: skip
    """The table of pieces of ``count`` pixels from q; a line of ``length`` holds OW pixels."""
    lanes, lane, found, vector = VECTOR_BYTES // size, 0, FIRST_PIECE, 0
    rows, cells = task[4] - task[3], shape.ow
    if length == cells and target.row == cells:
        rows, length, cells = 1, rows * length, rows * cells  # rows without gaps are one row
    line, column = q // length, q % length
    n, r = line // rows, line % rows
    table[0] = FIRST_PIECE
    while lane < count:
        at = (task[1] + n) * shape.groups * target.rows * target.plane
        at += (task[3] + r) * target.row + column
        there = min(length - column, count - lane)
        done, end = lane, lane + min(there, cells - column)
        while done < end:
            while vector < done // lanes:
                vector += 1
                table[vector] = found
            inside = done % lanes
            part = min(lanes - inside, end - done)
            table[2 * found] = ((1 << part) - 1) << inside
            table[2 * found + 1] = (at + done - lane - inside) * size
            found, done = found + 1, done + part
        lane, column, r = lane + there, 0, r + 1
        if r == rows:
            n, r = n + 1, 0
    while vector < VECTORS:
        vector += 1
        table[vector] = found


@helper
def _spread_tile(
    number: float, size: int, shape: Map, target: Target, task: Array, q: int, count: int,
    length: int, valid: int, source: int, to: int, add: bool,
) -> None:  # fmt: skip
    """Write ``valid`` rows of a tile to an output whose pixels are not neighbours."""
    lane, rows = 0, task[4] - task[3]
    while lane < count:
        line, column = (q + lane) // length, (q + lane) % length
        at = (task[1] + line // rows) * shape.groups * target.rows * target.plane
        at += (task[3] + line % rows) * target.row + column * target.column
        there = min(length - column, count - lane)
        for m in range(valid):
            spread_row(
                number, size, source + m * VECTORS * VECTOR_BYTES + lane * size,
                to + (at + m * target.plane) * size, target.column, min(there, shape.ow - column),
                add,
            )  # fmt: skip
        lane += there


@helper
def _by_panels(
    number: float, size: int, job: _Job, offsets: Array, shape: Map, target: Target, how: Blocking,
    task: Array, start: int,
) -> None:  # fmt: skip
    """Gather a few panels, multiply, and so on."""
    width, rows = VECTORS * VECTOR_BYTES // size, task[4] - task[3]
    pieces, panels = np.empty((width, 3), np.int64), np.empty((how.panels, 3), np.int64)
    tables = np.empty((how.panels, 2 * (FIRST_PIECE + width)), np.int64)
    pixels = (task[2] - task[1]) * rows * shape.ow
    for k in range(0, how.numbers, how.block):
        count = min(how.block, how.numbers - k)
        for q0 in range(0, pixels, how.panels * width):
            found = min((pixels - q0 + width - 1) // width, how.panels)
            for j in range(found):
                q = q0 + j * width
                there = min(width, pixels - q)
                panel = job.panels + j * how.block * VECTORS * VECTOR_BYTES
                _gather(
                    number, size, start, offsets[k : k + count], shape, rows, q, there, panel,
                    pieces,
                )  # fmt: skip
                _place(size, shape, target, task, q, there, shape.ow, tables[j])
                panels[j, 0], panels[j, 1], panels[j, 2] = panel, there, q
            _multiply(
                number, size, job, int64(job.y), shape, target, how, task, k, count, panels, tables,
                found, shape.ow,
            )  # fmt: skip


@helper
def _directly(
    number: float, size: int, job: _Job, shape: Map, target: Target, how: Blocking, task: Array,
    start: int,
) -> None:  # fmt: skip
    """Let the tile read the padded copy, with the cells between the rows of pixels."""
    width, rows, found = VECTORS * VECTOR_BYTES // size, task[4] - task[3], 0
    tables = np.empty((how.panels, 2 * (FIRST_PIECE + width)), np.int64)
    panels = np.empty((how.panels, 3), np.int64)
    lines, length = 1, (rows - 1) * shape.row_length + shape.ow
    if shape.row_step > 1:
        lines, length = rows, shape.ow
    is_known = lines * ((length + width - 1) // width) <= how.panels  # one image's, for all
    for n in range(task[2] - task[1]):
        y = int64(job.y) + n * shape.groups * target.rows * target.plane * size
        for line in range(lines):
            at = start + (n * shape.image + line * shape.row_step * shape.row_length) * size
            for q in range(0, length, width):
                there, pixel = min(width, length - q), line * shape.row_length + q
                if n == 0 or not is_known:
                    _place(size, shape, target, task, pixel, there, shape.row_length, tables[found])
                panels[found, 0], panels[found, 1], panels[found, 2] = at + q * size, there, pixel
                found += 1
                if found == how.panels or (line + 1 == lines and q + width >= length):
                    for k in range(0, how.numbers, how.numbers):  # a constant is a type of its own
                        _multiply(
                            number, size, job, y, shape, target, how, task, k, how.numbers,
                            panels, tables, found, shape.row_length,
                        )  # fmt: skip
                    found = 0


@helper
def _multiply(
    number: float, size: int, job: _Job, y_at: int, shape: Map, target: Target, how: Blocking,
    task: Array, k: int, count: int, panels: Array, tables: Array, found: int, length: int,
) -> None:  # fmt: skip
    """All tiles of numbers k..k+count. A few rows of ``a`` visit all panels in turn."""
    lanes = VECTOR_BYTES // size
    a, add = job.a + task[0] * how.group_of_a * size, k > 0
    neighbours, relu = target.column == 1, how.relu and k + count == how.numbers
    for i in range(task[5], task[6]):
        m, valid = task[0] * target.rows + i * how.rows, min(how.rows, target.rows - i * how.rows)
        y = y_at + (target.base + m * target.plane) * size
        start = job.zeros if add else job.bias + m * size
        rows_of_a, steps = job.rows_of_a + i * how.rows * 8, job.steps + k * 16
        for j in range(found):
            there = panels[j, 1]
            vectors = (there + lanes - 1) // lanes
            c, row_of_c, table = y, target.plane * size, tables[j].ctypes.data
            if not neighbours:
                c, row_of_c, table = job.tile, VECTORS * VECTOR_BYTES, job.whole
            if how.rows == 1:
                _row3(
                    number, a, rows_of_a, panels[j, 0], steps, count, start, c, row_of_c, 1, table,
                    add and neighbours, relu,
                )  # fmt: skip
            else:
                run_tile(
                    number, vectors, a, rows_of_a, panels[j, 0], steps, count, start, c, row_of_c,
                    valid, table, add and neighbours, relu,
                )  # fmt: skip
            if not neighbours:
                _spread_tile(
                    number, size, shape, target, task, panels[j, 2], there, length, valid,
                    job.tile, y, add,
                )  # fmt: skip
