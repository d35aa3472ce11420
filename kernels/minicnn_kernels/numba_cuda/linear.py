"""Fully connected layers: a matrix product in tiles of shared memory.

In y = a @ b every number of ``a`` is needed for a whole row of y. With one thread for each number
of y and no more thought, each thread reads its row of ``a`` and its column of ``b`` from memory:
two reads for each multiplication, and the arithmetic waits for the memory.

So a block of TILE x TILE threads computes one square tile of y, and goes along the inner dimension
in steps of TILE. In each step every thread fetches *one* number of ``a`` and *one* of ``b`` into
shared memory, and then uses TILE of each, most of which its neighbours fetched:

           inner ->                     j
        +---+---+---+               +---+---+
        |   |###|   |  left tile    |   |###|
      i |   |###|   |               |   |###|  right tile
        +---+---+---+               +---+---+

Memory is read TILE times less often: with TILE = 16 one read of 4 bytes for 16 multiply-adds.
Libraries go on from here: each thread then keeps a small square of results in its registers, which
does for shared memory what the tile does for memory.

Two barriers guard the tiles. After the fetch: nobody multiplies before the tile is complete. After
the multiplication: nobody fetches the next tile over numbers that a slower thread still needs.

At the edges a tile hangs over the matrix. What lies outside is read as 0 (`read`), which adds
nothing, and the threads outside take part in everything, barriers included, but do not write.

A transposed matrix costs nothing: ``w.T`` is the same memory with its strides exchanged, which is
all that Numba's arrays know of their layout. So one kernel serves the layer and both gradients.
"""

from __future__ import annotations

import math

from numba import cuda, float32

from minicnn_kernels.numba_cuda.device import (
    TILE,
    ZERO,
    Array,
    device_function,
    empty,
    launch,
    tiles,
)
from minicnn_kernels.numba_cuda.reduction import channel_sums


def linear(x: Array, w: Array, b: Array | None) -> Array:
    """See `Kernels.linear`."""
    return _product(_rows(x), w.T, b).reshape(*x.shape[:-1], w.shape[0])


def linear_grad_input(gy: Array, w: Array) -> Array:
    """See `Kernels.linear_grad_input`."""
    return _product(_rows(gy), w, None).reshape(*gy.shape[:-1], w.shape[1])


def linear_grad_weight(gy: Array, x: Array) -> Array:
    """See `Kernels.linear_grad_weight`."""
    return _product(_rows(gy).T, _rows(x), None)


def linear_grad_bias(gy: Array) -> Array:
    """See `Kernels.linear_grad_bias`."""
    return channel_sums(_rows(gy))


def _rows(x: Array) -> Array:
    """x (..., K) as a matrix, sharing its memory."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _product(a: Array, b: Array, bias: Array | None) -> Array:
    """a (M, K) @ b (K, F) + bias (F,); -> (M, F)."""
    y = empty((a.shape[0], b.shape[1]), a)
    grid = tiles(y.shape[0]), tiles(y.shape[1])
    launch(_matrix_product, grid, (TILE, TILE), a, b, bias, y)
    return y


@device_function
def read(a: Array, i: int, j: int) -> float:
    """a[i, j], or 0 outside the matrix."""
    return a[i, j] if i < a.shape[0] and j < a.shape[1] else ZERO


@device_function
def multiply_tiles(left: Array, right: Array, row: int, column: int, total: float) -> float:
    """``total`` plus the product of a row of the left tile and a column of the right one."""
    for k in range(TILE):
        total += left[row, k] * right[k, column]
    return total


@cuda.jit
def _matrix_product(a: Array, b: Array, bias: Array, y: Array) -> None:
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    row, column = cuda.threadIdx.y, cuda.threadIdx.x  # neighbours in x fetch neighbours in memory
    i, j = cuda.blockIdx.x * TILE + row, cuda.blockIdx.y * TILE + column
    total = ZERO
    for start in range(0, a.shape[1], TILE):
        left[row, column] = read(a, i, start + column)
        right[row, column] = read(b, start + row, j)
        cuda.syncthreads()
        total = multiply_tiles(left, right, row, column, total)
        cuda.syncthreads()
    if i < y.shape[0] and j < y.shape[1]:
        y[i, j] = total + bias[j] if bias.size > 0 else total
