"""How the maps of a depthwise convolution are copied and computed: tables from sizes alone.

A padded copy has room for each number that a window reads. With a stride the forward keeps the
columns by phase, those of equal remainder side by side, so that the windows of neighbouring results
are neighbours too. The gradient by the input turns this round: it reads a gy with zeros between its
columns. Between its rows there are none: the rows of gx fall into SH phases, each with its own
taps.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu.compile import Array
from minicnn_kernels.numba_cpu.depthwise_loops import Sizes
from minicnn_kernels.numba_cpu.depthwise_tile import ABREAST, SUMS
from minicnn_kernels.numba_cpu.microkernel import VECTOR_BYTES, lanes

COPY_BYTES = 2**14  # of the maps that are copied before the first of them is read: half of a cache
MOST_MAPS = 3  # for each input channel; with more, the register tile is faster

Tap = tuple[int, int, int]  # row, column, number of the weight


class PlanePlan(NamedTuple):
    """The arguments of the loops that depend on sizes alone."""

    sizes: Sizes
    copies: Array
    entries: Array
    spans: Array
    steps: Array
    reserved: int


class _Copy(NamedTuple):
    """A padded copy: its first row and column on the map, and its sizes in numbers."""

    top: int
    left: int
    rows: int
    row_length: int
    phase_length: int


def is_depthwise(C: int, F: int, groups: int) -> bool:
    """Whether ``groups`` of C input channels and F / groups output channels are for these loops."""
    return C == 1 and groups > 1 and F // groups <= MOST_MAPS


@functools.lru_cache(maxsize=256)
def forward_planes(window: Window2d, F: int, G: int, dtype: np.dtype[Any]) -> PlanePlan:
    """The plan of the forward, and with other steps that of the gradient by the weights."""
    M, size, step = F // G, dtype.itemsize, window.sw
    taps = [
        (i * window.dh - window.ph, j * window.dw - window.pw, i * window.kw + j)
        for i in range(window.kh)
        for j in range(window.kw)
    ]
    top, left, bottom, right = _extent([taps])
    phase = _whole(window.ow + (right - left) // step, dtype)
    rows, phases = (window.oh - 1) * window.sh + bottom - top + 1, min(step, right - left + 1)
    copy = _Copy(top, left, rows, phases * phase, phase)
    steps = []
    for r, c, t in taps:
        place = (r - top) * copy.row_length + (c - left) % step * phase + (c - left) // step
        steps.append((t * size, place * size))
    starts = np.arange(window.oh) * window.sh * copy.row_length
    entries = _entries(starts, np.arange(window.oh), window.ow, dtype)
    sizes = Sizes(
        G, 1, M, window.h * window.w, window.oh * window.ow, _bytes(copy, size), 1, step,
        window.taps,
    )  # fmt: skip
    copies = _copies(copy, (window.h, window.w), step, phases, dtype)
    return _plan(sizes, copies, [entries], [steps], dtype)


@functools.lru_cache(maxsize=256)
def input_planes(window: Window2d, F: int, G: int, dtype: np.dtype[Any]) -> PlanePlan:
    """The plan of the gradient by the input."""
    M, size, step = F // G, dtype.itemsize, window.sw
    by_phase: list[list[Tap]] = []
    for h0 in range(min(window.sh, window.h)):
        by_phase.append([])
        for i in range(window.kh):
            up, rest = divmod(h0 + window.ph - i * window.dh, window.sh)
            if rest == 0:
                for j in range(window.kw):
                    by_phase[-1].append((up, window.pw - j * window.dw, i * window.kw + j))
    top, left, bottom, right = _extent(by_phase)
    left -= left % step
    rows = (window.h - 1) // window.sh + bottom - top + 1
    length = _whole(window.w + right - left, dtype, 1 if step == 1 else 2)
    copy = _Copy(top, left, rows, length, length)
    plane = _bytes(copy, size)
    steps = [
        [
            ((m * window.taps + t) * size, m * plane + ((r - top) * length + c - left) * size)
            for m in range(M)
            for r, c, t in taps
        ]
        for taps in by_phase
    ]
    entries = []
    for h0 in range(len(by_phase)):
        of_phase = np.arange(h0, window.h, window.sh)
        starts = np.arange(len(of_phase)) * length
        entries.append(_entries(starts, of_phase, window.w, dtype))
    sizes = Sizes(
        G, M, 1, window.oh * window.ow, window.h * window.w, plane, 1, -step, M * window.taps
    )
    copies = _copies(copy, (window.oh, window.ow), -step, 1, dtype)
    return _plan(sizes, copies, entries, steps, dtype)


def weight_offsets(plan: PlanePlan) -> tuple[Array, Array]:
    """The entries, and the offset of each tap, for `plane_weight_gradient`."""
    taps = plan.steps[:, 1]
    entries = plan.entries[plan.entries[:, 2] != 0]
    return entries, np.concatenate([taps, np.repeat(taps[-1:], -len(taps) % SUMS)])


def _plan(
    sizes: Sizes, copies: Array, entries: list[Array], steps: list[Any], dtype: np.dtype[Any]
) -> PlanePlan:  # fmt: skip
    """Put the phases one after another, each in whole groups of `ABREAST` entries."""
    spans, filled, first = [], [], 0
    for of_phase, taken in zip(entries, steps, strict=True):
        spare = np.repeat(of_phase[-1:] * (1, 1, 0), -len(of_phase) % ABREAST, axis=0)
        filled += [of_phase, spare]
        spans += [(first, len(taken))] * ((len(of_phase) + len(spare)) // ABREAST)
        first += len(taken)
    together = max(1, COPY_BYTES // (sizes.copy * sizes.reads))
    sizes = sizes._replace(together=together)
    reserved = (together * sizes.reads * sizes.copy + 3 * VECTOR_BYTES) // dtype.itemsize
    table = np.array([step for taken in steps for step in taken], np.int64).reshape(-1, 2)
    return PlanePlan(
        sizes, copies, np.concatenate(filled), np.array(spans, np.int64), table, reserved
    )


def _extent(phases: list[list[Tap]]) -> tuple[int, int, int, int]:
    """First row and column, last row and column of all taps."""
    taps = [tap for of_phase in phases for tap in of_phase] or [(0, 0, 0)]
    rows, columns = [r for r, _, _ in taps], [c for _, c, _ in taps]
    return min(rows), min(columns), max(rows), max(columns)


def _whole(count: int, dtype: np.dtype[Any], vectors: int = 1) -> int:
    """``count`` up to whole vectors."""
    step = lanes(dtype) * vectors
    return -(-count // step) * step


def _bytes(copy: _Copy, size: int) -> int:
    """Of the copy, and one vector more for columns of `split_rows` that nobody reads."""
    return copy.rows * copy.row_length * size + VECTOR_BYTES


def _entries(starts: Array, rows: Array, length: int, dtype: np.dtype[Any]) -> Array:
    """(n, 3): the table of `depthwise_tile` for whole rows, which lie at ``starts`` in the copy."""
    step, size = lanes(dtype), dtype.itemsize
    columns = np.arange(0, length, step)
    count = np.minimum(step, length - columns)
    sources = (starts[:, None] + columns) * size
    targets = (rows[:, None] * length + columns) * size
    bits = np.broadcast_to((1 << count) - 1, sources.shape)
    return np.stack([sources, targets, bits], axis=2).reshape(-1, 3)


def _copies(
    copy: _Copy, size: tuple[int, int], step: int, phases: int, dtype: np.dtype[Any]
) -> Array:
    """(n, 4): the table of `depthwise_loops._copy_plane`."""
    (h, w), itemsize, width = size, dtype.itemsize, lanes(dtype)
    table = []
    for u in range(copy.rows):
        row, to = copy.top + u, u * copy.row_length
        inside = 0 <= row < h
        if abs(step) > 2:
            table += _spread_row(copy, row * w, w if inside else 0, step, phases, to)
            continue
        taken = width * max(step, 1)  # columns of the map for one entry
        given = width * max(-step, 1)  # and numbers of the copy
        for v in range(0, copy.phase_length, given):
            column = copy.left // max(-step, 1) + v // given * taken
            bits = sum(1 << i for i in range(taken) if inside and 0 <= column + i < w)
            other = to + copy.phase_length + v
            if phases == 1:
                other = copy.rows * copy.row_length
            table.append((row * w + column if bits else 0, bits, to + v, other))
    return np.array(table, np.int64) * (itemsize, 1, itemsize, itemsize)


def _spread_row(
    copy: _Copy, start: int, w: int, step: int, phases: int, to: int
) -> list[tuple[int, int, int, int]]:
    """The entries of a row whose numbers are moved one by one; ``w`` is 0 for a row of padding."""
    if step < 0:
        first = copy.left // -step
        skipped = max(-first, 0)
        count = min(w - first - skipped, (copy.row_length - 1) // -step + 1 - skipped)
        return [(start + first + skipped, max(count, 0), to - skipped * step, 0)]
    table = []
    for phase in range(phases):
        first = copy.left + phase
        skipped = max(-(first // step), 0)
        count = min(-((first - w) // step), copy.phase_length) - skipped
        target = to + phase * copy.phase_length + skipped
        table.append((start + first + skipped * step, max(count, 0), target, 0))
    return table
