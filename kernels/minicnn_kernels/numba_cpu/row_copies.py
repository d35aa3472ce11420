"""Rows of a map, copied by whole vectors: as they are, every second number, or two apart.

With a stride of 2 a window takes every second number of a row, and the gradient puts its numbers
back two apart. Moved one by one they would cost more than the products of a small convolution. Two
vectors and a shuffle give a vector of every second number; a shuffle of one vector with zeros, or a
store that leaves every other lane alone, does the reverse.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils

from minicnn_kernels.numba_cpu.compile import helper
from minicnn_kernels.numba_cpu.microkernel import (
    INT,
    VECTOR_BYTES,
    Emitter,
    spread,
    vector_intrinsic,
)

COPY_ENTRY = 32


def _copying(columns_read: int, vectors_written: int) -> Callable[..., None]:
    """The intrinsic that runs through a table, four numbers for each vector."""

    @vector_intrinsic
    def emit_copy(typing, number, source, table, count, target):
        address = types.uintp
        signature = types.void(number, address, address, types.intp, address)

        def generate(context, builder, signature, arguments):
            _, source, table, count, target = arguments
            emit = Emitter(builder, signature.args[0])
            with cgutils.for_range(builder, count, intp=INT) as loop:
                entry = builder.add(table, builder.mul(loop.index, ir.Constant(INT, COPY_ENTRY)))
                at, bits, to, other = (emit.load(entry, 8 * i, INT) for i in range(4))
                place, to = builder.add(source, at), builder.add(target, to)
                vector = emit.masked_load(place, emit.mask(bits))
                if columns_read == 2:
                    place = builder.add(place, ir.Constant(INT, VECTOR_BYTES))
                    bits = builder.lshr(bits, ir.Constant(INT, emit.lanes))
                    after = emit.masked_load(place, emit.mask(bits))
                    even, odd = (list(range(first, 2 * emit.lanes, 2)) for first in range(2))
                    emit.store(emit.shuffle(vector, after, even), to, 0)
                    if vectors_written == 2:
                        emit.store(emit.shuffle(vector, after, odd), target, other)
                elif vectors_written == 2:
                    _widen(emit, vector, to)
                else:
                    emit.store(vector, to, 0)
            return context.get_dummy_value()

        return signature, generate

    return emit_copy


def _widen(emit: Emitter, vector: ir.Value, to: ir.Value) -> None:
    half = emit.lanes // 2
    for part in range(2):
        order = [lane for i in range(half) for lane in (part * half + i, emit.lanes)]
        emit.store(emit.shuffle(vector, emit.zeros, order), to, part * VECTOR_BYTES)


# Copy ``count`` vectors as they are; take every second number; the others as well, apart; put a
# zero after each number. An entry of the table: bytes from the source, the lanes to read as a bit
# mask (the others become 0), bytes from the target, and the same for the odd numbers.
copy_rows, halve_rows = _copying(1, 1), _copying(2, 1)
split_rows, widen_rows = _copying(2, 2), _copying(1, 2)


@vector_intrinsic
def _part(typing, number, source, bits, target):
    """Write the lanes of ``bits`` of one vector two apart; what lies between stays as it is."""
    address = types.uintp
    signature = types.void(number, address, types.int64, address)

    def generate(context, builder, signature, arguments):
        _, source, bits, target = arguments
        emit = Emitter(builder, signature.args[0])
        inside, half = emit.mask(bits), emit.lanes // 2
        vector = emit.masked_load(source, inside)
        for part in range(2):
            order = [lane for i in range(half) for lane in (part * half + i, emit.lanes)]
            mask = emit.shuffle(inside, emit.no_lanes, order)
            place = builder.add(target, ir.Constant(INT, part * VECTOR_BYTES))
            emit.masked_store(emit.shuffle(vector, emit.zeros, order), place, mask)
        return context.get_dummy_value()

    return signature, generate


@helper
def spread_row(
    number: float, size: int, source: int, target: int, step: int, count: int, add: bool
) -> None:
    """Write, or with ``add`` add, ``count`` neighbours to places ``step`` numbers apart."""
    if step != 2 or add:
        spread(number, source, size, target, step * size, count, add)
        return
    lanes = VECTOR_BYTES // size
    for v in range(0, count, lanes):
        bits = (1 << min(lanes, count - v)) - 1
        _part(number, source + v * size, bits, target + 2 * v * size)
