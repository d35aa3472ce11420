"""The transforms of Winograd's convolution: a small constant matrix on both sides of a block.

Each transform is Y = M X M^T with a matrix M that is known when the code is made, and each entry of
X and Y is a whole vector of channels. So a product with an entry of M becomes one instruction, or
none: zeros are left out, and 1 and -1 are additions and subtractions.

The matrices have more structure than zeros. They come from polynomials taken at 1 and -1, and at 2
and -2, where the even powers agree and the odd ones differ in sign. Two such rows of M have equal
magnitudes, and both products are found from the sum over the even entries and that over the odd
ones, e + o and e - o. In a transposed matrix two such *columns* share their entries: there x + y
and x - y of the two inputs are found first. `_multiply` looks for both; B^T d then takes 13
instructions for each column instead of 36.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minicnn_kernels.numba_cpu.compile import Array
from minicnn_kernels.numba_cpu.microkernel import Emitter

_intrinsic: Any = intrinsic  # its declared type would hide the signatures of what it makes
_Values = list[ir.Value]

# The sixth point is infinity.
POINTS = (0, 1, -1, 2, -2)
SIDE = len(POINTS) + 1  # rows and columns of a transformed tile

# Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4.3.
B_T = np.array([
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
])  # fmt: skip


def _values(count: int) -> Array:
    """(6, count): the powers 0, 1, ... of the points; at infinity only the last one counts."""
    at_infinity = [k == count - 1 for k in range(count)]
    return np.array([*([float(p) ** k for k in range(count)] for p in POINTS), at_infinity])


def matrices(taps: int) -> tuple[Array, Array]:
    """A^T and G for filters of ``taps`` numbers; with the same points, B^T is the same for all.

    >>> matrices(5)[0]
    array([[ 1.,  1.,  1.,  1.,  1.,  0.],
           [ 0.,  1., -1.,  2., -2.,  1.]])
    """
    distances = [np.prod([p - q for q in POINTS if q != p]) for p in POINTS]
    return _values(SIDE + 1 - taps).T, _values(taps) / np.array([*distances, 1.0])[:, None]


def two_sided(matrix: Array) -> Callable[..., None]:
    """The intrinsic that writes Y = M X M^T for blocks of vectors in memory.

    Its arguments: any number of the element type; the address of X and the bytes from one of its
    rows to the next, and from one column to the next; the same three for Y.
    """
    matrix = matrix.astype(np.float64)
    rows, columns = matrix.shape

    @_intrinsic
    def emit_two_sided(
        typing, number, source, row_of_source, column_of_source,
        target, row_of_target, column_of_target,
    ):  # fmt: skip
        address, integer = types.uintp, types.intp
        signature = types.void(number, address, integer, integer, address, integer, integer)

        def generate(context, builder, signature, arguments):
            _, source, row_of_x, column_of_x, target, row_of_y, column_of_y = arguments
            emit = Emitter(builder, signature.args[0])
            half_done: list[_Values] = []
            for j in range(columns):
                places = [_place(emit, i, row_of_x, j, column_of_x) for i in range(columns)]
                column = [emit.load(source, place, emit.vector) for place in places]
                half_done.append(_multiply(emit, matrix, column))
            for i in range(rows):
                row = _multiply(emit, matrix, [column[i] for column in half_done])
                for j, value in enumerate(row):
                    emit.store(value, target, _place(emit, i, row_of_y, j, column_of_y))
            return context.get_dummy_value()

        return signature, generate

    return emit_two_sided


A_T3, G3 = matrices(3)
A_T5, G5 = matrices(5)

transform_input = two_sided(B_T)  # 6x6 numbers of x to 6x6
transform_weights3 = two_sided(G3)  # 3x3 to 6x6
transform_weights5 = two_sided(G5)  # 5x5 to 6x6
transform_output3 = two_sided(A_T3)  # 6x6 to 4x4 numbers of y
transform_output5 = two_sided(A_T5)  # 6x6 to 2x2
transform_grad_output3 = two_sided(A_T3.T)  # 4x4 numbers of gy to 6x6
transform_grad_output5 = two_sided(A_T5.T)  # 2x2 to 6x6
transform_grad_weights3 = two_sided(G3.T)  # 6x6 to 3x3
transform_grad_weights5 = two_sided(G5.T)  # 6x6 to 5x5


def _place(emit: Emitter, i: int, row: ir.Value, j: int, column: ir.Value) -> ir.Value:
    builder = emit.builder
    down = builder.mul(row, ir.Constant(row.type, i))
    return builder.add(down, builder.mul(column, ir.Constant(column.type, j)))


def _multiply(emit: Emitter, matrix: Array, x: _Values) -> _Values:
    """The instructions for matrix @ x."""
    pairs = mirrored(matrix.T)
    if pairs:  # columns: replace two inputs by their sum and their difference
        matrix, x = matrix.copy(), list(x)
        for j, k in pairs:
            total, difference = matrix[:, j] + matrix[:, k], matrix[:, j] - matrix[:, k]
            matrix[:, j], matrix[:, k] = total / 2, difference / 2
            x[j], x[k] = emit.builder.fadd(x[j], x[k]), emit.builder.fsub(x[j], x[k])
    y: dict[int, ir.Value] = {}
    for r, s in mirrored(matrix):
        even = _combine(emit, (matrix[r] + matrix[s]) / 2, x)
        odd = _combine(emit, (matrix[r] - matrix[s]) / 2, x)
        y[r], y[s] = emit.builder.fadd(even, odd), emit.builder.fsub(even, odd)
    return [y[i] if i in y else _combine(emit, row, x) for i, row in enumerate(matrix)]


def mirrored(matrix: Array) -> list[tuple[int, int]]:
    """Pairs of rows that differ in the signs of some entries alone.

    >>> mirrored(B_T), mirrored(A_T3.T), mirrored(A_T3)
    ([(1, 2), (3, 4)], [(1, 2), (3, 4)], [])
    """
    pairs: list[tuple[int, int]] = []
    for i in range(len(matrix) - 1):
        is_free = not any(i in pair for pair in pairs)
        if is_free and (abs(matrix[i]) == abs(matrix[i + 1])).all():
            pairs.append((i, i + 1))
    return pairs


def _combine(emit: Emitter, factors: Array, x: _Values) -> ir.Value:
    """The sum of factor * x, starting with a factor of 1 where there is one."""
    order = sorted(np.flatnonzero(factors), key=lambda j: factors[j] != 1)
    total = None
    for j in order:
        if total is None:
            total = x[j] if factors[j] == 1 else emit.builder.fmul(x[j], _all(emit, factors[j]))
        elif factors[j] == 1:
            total = emit.builder.fadd(total, x[j])
        elif factors[j] == -1:
            total = emit.builder.fsub(total, x[j])
        else:
            total = emit.multiply_add(x[j], _all(emit, factors[j]), total)
    return total


def _all(emit: Emitter, number: float) -> ir.Constant:
    rounded = float(np.float32(number)) if emit.size == 4 else float(number)
    return ir.Constant(emit.vector, [ir.Constant(emit.scalar, rounded)] * emit.lanes)
