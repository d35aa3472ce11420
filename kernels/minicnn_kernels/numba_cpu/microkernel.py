"""The register tile: the inner loop of every convolution, written as vector instructions.

A convolution is a sum of products, and a core can do far more products than it can fetch numbers
for. One fused multiply-add (FMA) of AVX-512 does 32 operations in a cycle, but reads two vectors of
16 numbers; a loop that fetches both from memory and writes its sum back runs at a tenth of the
peak. The cure is the one of every fast matrix product: *keep a small tile of results in registers
and use each fetched number several times*.

    c[m, 0:48] += a[m, k] * b[k, 0:48]        for m = 0..7, k = 0, 1, 2, ...

The tile is 8 rows by 3 vectors of 16 lanes: 24 of the 32 vector registers hold sums, 3 hold b[k]
and one holds a[m, k], copied ("broadcast") to all lanes. A step k fetches 3 vectors and 8 single
numbers and does 24 FMAs with them, 2 for each fetch, so the fetches hide behind the arithmetic. An
FMA takes 4 cycles until its sum can be used again; the other sums of the tile fill that time. The
sums leave the registers once, after the last k. Where there are only 16 registers (AVX2, SSE) the
tile has 4 rows.

What k runs over, and where a[m, k] and b[k] lie, the tile does not know. It gets a table with two
offsets for each step, one into a and one into b, and one offset into a for each row. That makes it
a matrix product (both offsets grow evenly), a convolution that reads a picture in place (the
offsets are those of channels and taps), or the gradient by the weights (those of pixels): see
`convolution`.

The functions here are Numba intrinsics: they take addresses, check nothing and emit LLVM
instructions for the element type of their first argument. LLVM chooses the machine's instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

VECTORS = 3


def _features() -> set[str]:
    """What the processor can do that Numba compiles for: this one, or NUMBA_CPU_FEATURES."""
    wanted = getattr(config, "CPU_FEATURES", None)
    if wanted is not None:
        return {name[1:] for name in wanted.split(",") if name.startswith("+")}
    return {name for name, is_there in binding.get_host_cpu_features().items() if is_there}


def _vector_bytes() -> int:
    if "avx512f" in FEATURES:
        return 64
    return 32 if "avx" in FEATURES else 16


FEATURES = _features()
VECTOR_BYTES = _vector_bytes()
ROWS = 8 if VECTOR_BYTES == 64 or "neon" in FEATURES else 4  # 32 vector registers, or 16
MASKED = VECTOR_BYTES > 16  # whether a masked load is one instruction, not one for each lane

# A table of pieces, int64: for each vector the number of its first piece and after the last of them
# the end; at twice each piece's number a bit mask of lanes and the place of lane 0, in bytes from
# c. Pieces are numbered from FIRST_PIECE, so that the table holds both.
FIRST_PIECE = 2

vector_intrinsic: Any = intrinsic  # its declared type would hide the signatures of what it makes
INT = ir.IntType(64)
_INT32 = ir.IntType(32)
_CONTRACT = ("contract",)


def lanes(dtype: np.dtype[Any]) -> int:
    """Numbers of ``dtype`` in one vector.

    >>> lanes(np.dtype(np.float32)) == 2 * lanes(np.dtype(np.float64))
    True
    """
    return VECTOR_BYTES // dtype.itemsize


class Emitter:
    """The vector instructions of one element type."""

    def __init__(self, builder: ir.IRBuilder, element: types.Float) -> None:
        self.builder = builder
        self.size = element.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.size
        self.scalar = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zeros = ir.Constant(self.vector, [ir.Constant(self.scalar, 0.0)] * self.lanes)
        bit = ir.IntType(1)
        self.no_lanes = ir.Constant(ir.VectorType(bit, self.lanes), [bit(0)] * self.lanes)

    def at(self, address: ir.Value, offset: int | ir.Value, kind: ir.Type) -> ir.Value:
        """A typed pointer, ``offset`` bytes from an address."""
        if isinstance(offset, int):
            offset = ir.Constant(INT, offset)
        return self.builder.inttoptr(self.builder.add(address, offset), kind.as_pointer())

    def load(self, address: ir.Value, offset: int | ir.Value, kind: ir.Type) -> ir.Value:
        """Read one value; its place needs no alignment beyond its numbers' own."""
        return self.builder.load(self.at(address, offset, kind), align=self._align(kind))

    def store(self, value: ir.Value, address: ir.Value, offset: int | ir.Value) -> None:
        """Write one value, aligned as in `load`."""
        self.builder.store(value, self.at(address, offset, value.type), align=self.size)

    def _align(self, kind: ir.Type) -> int:
        return 8 if kind is INT else self.size

    def broadcast(self, value: ir.Value) -> ir.Value:
        """Copy one number to all lanes."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
        return self.shuffle(first, undefined, [0] * self.lanes)

    def shuffle(self, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
        """Pick lanes of two vectors by number; those of ``b`` count on from those of ``a``."""
        mask = ir.Constant(ir.VectorType(_INT32, len(order)), order)
        return self.builder.shuffle_vector(a, b, mask)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a * b + c, rounded once where the machine can."""
        product = self.builder.fmul(a, b, flags=_CONTRACT)
        return self.builder.fadd(c, product, flags=_CONTRACT)

    def masked_load(self, address: ir.Value, mask: ir.Value) -> ir.Value:
        """Read the lanes of ``mask`` only; the others become 0."""
        pointer = self.at(address, 0, self.vector)
        kind = ir.FunctionType(self.vector, [pointer.type, _INT32, mask.type, self.vector])
        arguments = [pointer, ir.Constant(_INT32, self.size), mask, self.zeros]
        return self.builder.call(self._masked("load", kind), arguments)

    def masked_store(self, value: ir.Value, address: ir.Value, mask: ir.Value) -> None:
        """Write the lanes of ``mask`` only."""
        pointer = self.at(address, 0, self.vector)
        kind = ir.FunctionType(ir.VoidType(), [self.vector, pointer.type, _INT32, mask.type])
        arguments = [value, pointer, ir.Constant(_INT32, self.size), mask]
        self.builder.call(self._masked("store", kind), arguments)

    def mask(self, bits: ir.Value) -> ir.Value:
        """The lanes whose bit is set."""
        narrow = self.builder.trunc(bits, ir.IntType(self.lanes))
        return self.builder.bitcast(narrow, ir.VectorType(ir.IntType(1), self.lanes))

    def below(self, count: ir.Value) -> ir.Value:
        """The first ``count`` lanes, all if there are not so many."""
        numbers = ir.VectorType(_INT32, self.lanes)
        undefined = ir.Constant(numbers, ir.Undefined)
        narrow = self.builder.trunc(count, _INT32)
        first = self.builder.insert_element(undefined, narrow, ir.Constant(_INT32, 0))
        limit = self.shuffle(first, undefined, [0] * self.lanes)
        every = ir.Constant(numbers, list(range(self.lanes)))
        return self.builder.icmp_signed("<", every, limit)

    def only_below(self, number: int, count: ir.Value, mask: ir.Value) -> ir.Value:
        """``mask`` if number < count, else no lane."""
        is_below = self.builder.icmp_signed("<", ir.Constant(INT, number), count)
        return self.builder.select(is_below, mask, self.no_lanes)

    def _masked(self, action: str, kind: ir.FunctionType) -> ir.Function:
        name = f"llvm.masked.{action}.v{self.lanes}f{8 * self.size}.p0"
        return cgutils.get_or_insert_function(self.builder.module, kind, name)


def tile(rows: int, vectors: int) -> Callable[..., None]:
    """The intrinsic for a tile of ``rows`` x ``vectors`` sums.

    Its arguments, addresses and offsets in bytes: any number of the element type; a and the table
    of its rows; b; steps, pairs of offsets into a and b, and their count; the address of one
    starting value for each row; c, the distance of its rows, how many there are, and the table of
    pieces that tells where in a row the lanes belong (see `FIRST_PIECE`); whether to add to what c
    holds, and whether to end with ReLU.
    """

    @vector_intrinsic
    def emit_tile(
        typing, number, a, rows_of_a, b, steps, count, start, c, row_of_c, valid, pieces, add, relu
    ):
        address, integer, flag = types.uintp, types.intp, types.boolean
        signature = types.void(
            number, address, address, address, address, integer, address, address, integer, integer,
            address, flag, flag,
        )  # fmt: skip

        def generate(context, builder, signature, arguments):
            _, a, rows_of_a, b, steps, count, start, *target, relu = arguments
            emit = Emitter(builder, signature.args[0])
            sums = [
                [cgutils.alloca_once(builder, emit.vector) for _ in range(vectors)]
                for _ in range(rows)
            ]
            for m, row in enumerate(sums):
                value = emit.broadcast(emit.load(start, emit.size * m, emit.scalar))
                for register in row:
                    builder.store(value, register)
            row_of_a = [builder.add(a, emit.load(rows_of_a, 8 * m, INT)) for m in range(rows)]
            _accumulate(emit, sums, row_of_a, b, steps, count)
            for row in sums:
                for register in row:
                    builder.store(rectified(emit, builder.load(register), relu), register)
            _write(emit, sums, *target)
            return context.get_dummy_value()

        return signature, generate

    return emit_tile


def _accumulate(
    emit: Emitter,
    sums: list[list[ir.Value]],
    row_of_a: list[ir.Value],
    b: ir.Value,
    steps: ir.Value,
    count: ir.Value,
) -> None:
    builder = emit.builder
    with cgutils.for_range(builder, count, intp=INT) as loop:
        step = builder.add(steps, builder.mul(loop.index, ir.Constant(INT, 16)))
        into_a, into_b = emit.load(step, 0, INT), emit.load(step, 8, INT)
        row_of_b = builder.add(b, into_b)
        vectors = [emit.load(row_of_b, VECTOR_BYTES * v, emit.vector) for v in range(len(sums[0]))]
        for m, row in enumerate(sums):
            factor = emit.broadcast(emit.load(row_of_a[m], into_a, emit.scalar))
            for vector, register in zip(vectors, row, strict=True):
                builder.store(emit.multiply_add(factor, vector, builder.load(register)), register)


def rectified(emit: Emitter, value: ir.Value, relu: ir.Value) -> ir.Value:
    """max(value, 0) if the flag is set; NaN stays."""
    builder = emit.builder
    lowest = ir.Constant(emit.vector, [ir.Constant(emit.scalar, float("-inf"))] * emit.lanes)
    floor = builder.select(builder.trunc(relu, ir.IntType(1)), emit.zeros, lowest)
    is_lower = builder.fcmp_ordered("<", value, floor)  # false for NaN, which stays
    return builder.select(is_lower, floor, value)


def _write(
    emit: Emitter,
    sums: list[list[ir.Value]],
    c: ir.Value,
    row_of_c: ir.Value,
    valid: ir.Value,
    pieces: ir.Value,
    add: ir.Value,
) -> None:
    """Store the lanes of each vector piece by piece: nothing outside a piece is touched."""
    builder = emit.builder
    with builder.if_then(builder.trunc(add, ir.IntType(1))):
        for row, register, place, mask in _pieces(emit, sums, c, row_of_c, pieces):
            before = emit.masked_load(place, emit.only_below(row, valid, mask))
            builder.store(builder.fadd(builder.load(register), before), register)
    for row, register, place, mask in _pieces(emit, sums, c, row_of_c, pieces):
        emit.masked_store(builder.load(register), place, emit.only_below(row, valid, mask))


def _pieces(
    emit: Emitter, sums: list[list[ir.Value]], c: ir.Value, row_of_c: ir.Value, pieces: ir.Value
) -> Iterator[tuple[int, ir.Value, ir.Value, ir.Value]]:
    """Emit loops over the pieces; inside, give each row, its register, its place and the lanes."""
    builder = emit.builder
    for v in range(len(sums[0])):
        first, end = emit.load(pieces, 8 * v, INT), emit.load(pieces, 8 * v + 8, INT)
        with cgutils.for_range_slice(builder, first, end, ir.Constant(INT, 1), intp=INT) as loop:
            piece = builder.add(pieces, builder.mul(loop[0], ir.Constant(INT, 16)))
            mask = emit.mask(emit.load(piece, 0, INT))
            place = builder.add(c, emit.load(piece, 8, INT))
            for m, row in enumerate(sums):
                yield m, row[v], place, mask
                place = builder.add(place, row_of_c)


@vector_intrinsic
def move(typing, number, source, target, lanes_to_read):
    """Copy one vector; lanes outside a bit mask may become 0, and must be readable all the same."""
    signature = types.void(number, types.uintp, types.uintp, types.int64)

    def generate(context, builder, signature, arguments):
        _, source, target, lanes_to_read = arguments
        emit = Emitter(builder, signature.args[0])
        if MASKED:
            vector = emit.masked_load(source, emit.mask(lanes_to_read))
        else:
            vector = emit.load(source, 0, emit.vector)
        emit.store(vector, target, 0)
        return context.get_dummy_value()

    return signature, generate


@vector_intrinsic
def clear(typing, number, target):
    """Write one vector of zeros."""
    signature = types.void(number, types.uintp)

    def generate(context, builder, signature, arguments):
        emit = Emitter(builder, signature.args[0])
        emit.store(emit.zeros, arguments[1], 0)
        return context.get_dummy_value()

    return signature, generate


@vector_intrinsic
def spread(typing, number, source, source_step, target, target_step, count, add):
    """Copy, or with ``add`` add, ``count`` numbers between places that many bytes apart."""
    address, integer = types.uintp, types.intp
    signature = types.void(number, address, integer, address, integer, integer, types.boolean)

    def generate(context, builder, signature, arguments):
        _, source, source_step, target, target_step, count, add = arguments
        emit = Emitter(builder, signature.args[0])
        zero = ir.Constant(emit.scalar, 0.0)
        add = builder.trunc(add, ir.IntType(1))
        with cgutils.for_range(builder, count, intp=INT) as loop:
            value = emit.load(source, builder.mul(loop.index, source_step), emit.scalar)
            place = builder.mul(loop.index, target_step)
            old = builder.select(add, emit.load(target, place, emit.scalar), zero)
            emit.store(builder.fadd(value, old), target, place)
        return context.get_dummy_value()

    return signature, generate


def _transposing(finish: bool) -> Callable[..., None]:
    @vector_intrinsic
    def emit_transpose(
        typing, number, source, row_of_source, rows, columns, target, row_of_target, start, relu
    ):
        address, integer = types.uintp, types.intp
        signature = types.void(
            number, address, integer, integer, integer, address, integer, address, types.boolean
        )

        def generate(context, builder, signature, arguments):
            _, source, row_of_source, rows, columns, target, row_of_target, start, relu = arguments
            emit = Emitter(builder, signature.args[0])
            inside, full = emit.below(columns), ir.Constant(INT, -1)
            vectors = []
            for i in range(emit.lanes):
                if finish:
                    place = builder.add(source, emit.load(row_of_source, 8 * i, INT))
                else:
                    place = builder.add(source, builder.mul(row_of_source, ir.Constant(INT, i)))
                vectors.append(emit.masked_load(place, emit.only_below(i, rows, inside)))
            lanes_to_store = emit.below(rows) if finish else emit.mask(full)
            for j, column in enumerate(_transposed(emit, vectors)):
                if finish:
                    bias = emit.load(start, emit.size * j, emit.scalar)
                    column = builder.fadd(column, emit.broadcast(bias))
                    column = rectified(emit, column, relu)
                place = builder.add(target, builder.mul(row_of_target, ir.Constant(INT, j)))
                emit.masked_store(column, place, emit.only_below(j, columns, lanes_to_store))
            return context.get_dummy_value()

        return signature, generate

    return emit_transpose


# Transpose ``rows`` x ``columns`` numbers, at most one vector of each: target[j, i] = source[i, j].
# `transpose` writes zeros for the rows that are missing. `finish` writes nothing there, and adds a
# number to each column, those at ``start``, before the optional ReLU; its rows lie where a table of
# offsets says, whose address it gets for the distance of the rows.
transpose, finish = _transposing(False), _transposing(True)


def _transposed(emit: Emitter, rows: list[ir.Value]) -> list[ir.Value]:
    """Swap the off-diagonal quarters of 2x2, 4x4, ... blocks: log2(lanes) rounds of shuffles."""
    count, half = emit.lanes, 1
    while half < count:
        low = [i if i & half == 0 else count + i - half for i in range(count)]
        high = [i + half if i & half == 0 else count + i for i in range(count)]
        swapped = list(rows)
        for i in range(count):
            if i & half == 0:
                swapped[i] = emit.shuffle(rows[i], rows[i + half], low)
                swapped[i + half] = emit.shuffle(rows[i], rows[i + half], high)
        rows, half = swapped, 2 * half
    return rows
