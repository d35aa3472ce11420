"""Vector instructions of the depthwise convolution, which has too few products for the tile.

A depthwise convolution sums 9 products for each result (3x3), each with another number of the map,
so nothing can be used 24 times as in `microkernel`. What is left to save is the work around the
products. `plane_tile` computes 8 vectors of one map at once: a weight is fetched and copied to all
lanes once for the 8, which may lie anywhere, in one row or in eight. `plane_products` is its
counterpart for the gradient by the weights: 9 sums, one for each tap, run along a whole map.

Where a vector belongs is said by three numbers of a table (`ENTRY` bytes): the place in the padded
copy that its first window starts at, its place in the result (or in gy), and a bit mask of lanes.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from minicnn_kernels.numba_cpu.microkernel import (
    INT,
    VECTOR_BYTES,
    Emitter,
    rectified,
    vector_intrinsic,
)

ABREAST = 8  # vectors of one `plane_tile`
SUMS = 9  # taps of one `plane_products`
ENTRY = 24


@vector_intrinsic
def plane_tile(typing, number, w, steps, count, source, entries, target, bias, relu):
    """target[p] = bias + sum over steps of w[into w] * source[p + into source], then ReLU if asked.

    ``steps`` are ``count`` pairs of offsets in bytes; ``bias`` is the address of one number.
    """
    address, integer = types.uintp, types.intp
    signature = types.void(
        number, address, address, integer, address, address, address, address, types.boolean
    )

    def generate(context, builder, signature, arguments):
        _, w, steps, count, source, entries, target, bias, relu = arguments
        emit = Emitter(builder, signature.args[0])
        start = emit.broadcast(emit.load(bias, 0, emit.scalar))
        sums = [cgutils.alloca_once(builder, emit.vector) for _ in range(ABREAST)]
        sources = []
        for v, register in enumerate(sums):
            builder.store(start, register)
            sources.append(builder.add(source, emit.load(entries, ENTRY * v, INT)))
        with cgutils.for_range(builder, count, intp=INT) as loop:
            step = builder.add(steps, builder.mul(loop.index, ir.Constant(INT, 16)))
            into_w, into_source = emit.load(step, 0, INT), emit.load(step, 8, INT)
            weight = emit.broadcast(emit.load(w, into_w, emit.scalar))
            for place, register in zip(sources, sums, strict=True):
                vector = emit.load(place, into_source, emit.vector)
                builder.store(emit.multiply_add(vector, weight, builder.load(register)), register)
        for v, register in enumerate(sums):
            place = builder.add(target, emit.load(entries, ENTRY * v + 8, INT))
            mask = emit.mask(emit.load(entries, ENTRY * v + 16, INT))
            emit.masked_store(rectified(emit, builder.load(register), relu), place, mask)
        return context.get_dummy_value()

    return signature, generate


@vector_intrinsic
def plane_products(typing, number, source, gy, entries, count, offsets, sums):
    """sums[t] += source[p + offset t] * gy[p] along ``count`` entries; one vector for each tap."""
    address = types.uintp
    signature = types.void(number, address, address, address, types.intp, address, address)

    def generate(context, builder, signature, arguments):
        _, source, gy, entries, count, offsets, sums = arguments
        emit = Emitter(builder, signature.args[0])
        registers = [cgutils.alloca_once(builder, emit.vector) for _ in range(SUMS)]
        sources = []
        for t, register in enumerate(registers):
            builder.store(emit.load(sums, VECTOR_BYTES * t, emit.vector), register)
            sources.append(builder.add(source, emit.load(offsets, 8 * t, INT)))
        with cgutils.for_range(builder, count, intp=INT) as loop:
            entry = builder.add(entries, builder.mul(loop.index, ir.Constant(INT, ENTRY)))
            at, mask = emit.load(entry, 0, INT), emit.mask(emit.load(entry, 16, INT))
            place = builder.add(gy, emit.load(entry, 8, INT))
            factor = emit.masked_load(place, mask)
            for tap, register in zip(sources, registers, strict=True):
                before = builder.load(register)
                after = emit.multiply_add(emit.load(tap, at, emit.vector), factor, before)
                builder.store(builder.select(mask, after, before), register)
        for t, register in enumerate(registers):
            emit.store(builder.load(register), sums, VECTOR_BYTES * t)
        return context.get_dummy_value()

    return signature, generate
