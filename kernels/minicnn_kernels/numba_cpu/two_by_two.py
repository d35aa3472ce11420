"""The usual pooling window, 2x2 cells that no other window shares, as vector instructions.

A compiler turns the loop over a row of windows into vectors where the row is long. The rows of a
CNN are short, 14 or 7 windows, less than one vector of 16 lanes: then it takes them one by one, at
a third of the speed. Here a vector has as many lanes as there are windows left, the others are
masked.

    row 2i      a0 b0 a1 b1 a2 b2 ...     even lanes to one vector (a), odd ones to another (b)
    row 2i + 1  c0 d0 c1 d1 c2 d2 ...     the same: c, d

Four vectors then hold the four cells of 16 windows, and the largest is found by three comparisons.
Backward runs the other way: four vectors of which one holds the gradient of a window and the others
0, woven into two rows.

As in `microkernel`, the functions are Numba intrinsics: they take addresses and check nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minicnn_kernels.numba_cpu.microkernel import VECTOR_BYTES, Emitter

_intrinsic: Any = intrinsic  # its declared type would hide the signatures of what it makes
_BYTE = ir.IntType(8)
_INT32 = ir.IntType(32)


class _Windows:
    """Loads and stores of the first ``count`` windows of a vector, one number or two for each."""

    def __init__(self, emit: Emitter, count: ir.Value) -> None:
        self.emit, builder = emit, emit.builder
        twice = builder.add(count, count)
        rest = builder.sub(twice, ir.Constant(twice.type, emit.lanes))
        self.single, self.double = emit.below(count), (emit.below(twice), emit.below(rest))
        self.bytes = ir.VectorType(_BYTE, emit.lanes)

    def load(self, address: ir.Value) -> ir.Value:
        return self.emit.masked_load(address, self.single)

    def store(self, value: ir.Value, address: ir.Value) -> None:
        self.emit.masked_store(value, address, self.single)

    def load_row(self, address: ir.Value) -> list[ir.Value]:
        """Both halves of a row, as they lie in memory."""
        return [self.emit.masked_load(self._half(address, i), self.double[i]) for i in range(2)]

    def store_row(self, halves: Sequence[ir.Value], address: ir.Value) -> None:
        for i, half in enumerate(halves):
            self.emit.masked_store(half, self._half(address, i), self.double[i])

    def load_taps(self, address: ir.Value) -> ir.Value:
        pointer = self.emit.at(address, 0, self.bytes)
        kind = ir.FunctionType(self.bytes, [pointer.type, _INT32, self.single.type, self.bytes])
        nothing = ir.Constant(self.bytes, [0] * self.emit.lanes)
        one = ir.Constant(_INT32, 1)
        return self._call("load", kind, [pointer, one, self.single, nothing])

    def store_taps(self, taps: ir.Value, address: ir.Value) -> None:
        pointer = self.emit.at(address, 0, self.bytes)
        kind = ir.FunctionType(ir.VoidType(), [self.bytes, pointer.type, _INT32, self.single.type])
        self._call("store", kind, [taps, pointer, ir.Constant(_INT32, 1), self.single])

    def _half(self, address: ir.Value, i: int) -> ir.Value:
        return self.emit.builder.add(address, ir.Constant(address.type, i * VECTOR_BYTES))

    def _call(self, action: str, kind: ir.FunctionType, arguments: list[ir.Value]) -> ir.Value:
        name = f"llvm.masked.{action}.v{self.emit.lanes}i8.p0"
        builder = self.emit.builder
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@_intrinsic
def select_windows(typing, number, upper, lower, count, sign, y, tap):
    """The largest of sign * cell in each of ``count`` windows, and the number of its cell.

    The first of equal cells wins, and the first NaN over everything.
    """
    address = types.uintp
    signature = types.void(number, address, address, types.intp, number, address, address)

    def generate(context, builder, signature, arguments):
        _, upper, lower, count, sign, y, tap = arguments
        emit = Emitter(builder, signature.args[0])
        windows, factor = _Windows(emit, count), emit.broadcast(sign)
        cells = [
            builder.fmul(factor, cell)
            for row in (upper, lower)
            for cell in _split(emit, windows.load_row(row))
        ]
        best, label = cells[0], ir.Constant(windows.bytes, [0] * emit.lanes)
        for k in (1, 2, 3):
            stays = builder.or_(
                builder.fcmp_ordered(">=", best, cells[k]), builder.fcmp_unordered("!=", best, best)
            )
            best = builder.select(stays, best, cells[k])
            label = builder.select(stays, label, ir.Constant(windows.bytes, [k] * emit.lanes))
        windows.store(builder.fmul(factor, best), y)
        windows.store_taps(label, tap)
        return context.get_dummy_value()

    return signature, generate


@_intrinsic
def spread_windows(typing, number, gy, tap, count, upper, lower):
    """Write the gradient of each of ``count`` windows to the cell that won, 0 to the others."""
    address = types.uintp
    signature = types.void(number, address, address, types.intp, address, address)

    def generate(context, builder, signature, arguments):
        _, gy, tap, count, upper, lower = arguments
        emit = Emitter(builder, signature.args[0])
        windows = _Windows(emit, count)
        rows = _spread(emit, windows, windows.load(gy), windows.load_taps(tap))
        for halves, row in zip(rows, (upper, lower), strict=True):
            windows.store_row(halves, row)
        return context.get_dummy_value()

    return signature, generate


@_intrinsic
def spread_normalised(typing, number, gy, best, tap, count, rows, channel):
    """`spread_windows` through ReLU and batch norm: see `batch_norm`.

    rows : addresses of the upper and the lower row of x, and of those of gx
    channel : mean, factor, shift, and what each cell loses by the mean and by the variance
    """
    address = types.uintp
    signature = types.void(
        number, address, address, address, types.intp,
        types.UniTuple(address, 4), types.UniTuple(number, 5),
    )  # fmt: skip

    def generate(context, builder, signature, arguments):
        _, gy, best, tap, count, rows, channel = arguments
        emit = Emitter(builder, signature.args[0])
        windows = _Windows(emit, count)
        mean, factor, shift, by_mean, by_var = map(
            emit.broadcast, cgutils.unpack_tuple(builder, channel)
        )
        centred = builder.fsub(windows.load(best), mean)
        value = emit.multiply_add(centred, factor, shift)
        passes = builder.fcmp_ordered(">", value, emit.zeros)
        g = builder.select(passes, builder.fmul(factor, windows.load(gy)), emit.zeros)
        addresses = cgutils.unpack_tuple(builder, rows)
        spread = _spread(emit, windows, g, windows.load_taps(tap))
        for halves, x, gx in zip(spread, addresses[:2], addresses[2:], strict=True):
            lost = [
                emit.multiply_add(by_var, builder.fsub(half, mean), by_mean)
                for half in windows.load_row(x)
            ]
            windows.store_row(list(map(builder.fsub, halves, lost)), gx)
        return context.get_dummy_value()

    return signature, generate


def _split(emit: Emitter, halves: Sequence[ir.Value]) -> list[ir.Value]:
    """The even and the odd numbers of a row."""
    first, second = halves
    return [emit.shuffle(first, second, list(range(i, 2 * emit.lanes, 2))) for i in range(2)]


def _spread(emit: Emitter, windows: _Windows, g: ir.Value, taps: ir.Value) -> list[list[ir.Value]]:
    """Both halves of both rows: g where a window's tap is, 0 elsewhere."""
    cells = []
    for k in range(4):
        is_winner = emit.builder.icmp_unsigned(
            "==", taps, ir.Constant(windows.bytes, [k] * emit.lanes)
        )
        cells.append(emit.builder.select(is_winner, g, emit.zeros))
    order = [i + emit.lanes * odd for i in range(emit.lanes) for odd in range(2)]
    halves = order[: emit.lanes], order[emit.lanes :]
    return [[emit.shuffle(cells[k], cells[k + 1], half) for half in halves] for k in (0, 2)]
