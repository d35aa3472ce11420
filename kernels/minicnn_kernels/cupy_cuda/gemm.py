"""Products of matrices on the GPU: gemm.cu, and what fully connected layers need of it.

A matrix is taken as it lies: C-contiguous, to be read as it is or transposed. `gemm` serves plain
and batched products; it cuts a long sum into slices where C alone has too few tiles to occupy the
device. Where the vendor's library can be loaded, large products go to it: see blas.py.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda import blas
from minicnn_kernels.cupy_cuda.modules import launch
from minicnn_kernels.cupy_cuda.prepare import prepared, record
from minicnn_kernels.cupy_cuda.sums import add_slices, column_sums
from minicnn_kernels.cupy_cuda.tiles import PROCESSORS, STRICT, TENSOR, Tile, ceil, choose, slices
from minicnn_kernels.precision import tf32_allowed

Array = Any

LEAST_SLICE = 128  # terms
WIDE = 16  # bytes
MOST_BATCH = 65535  # blocks along z


class _Sizes(NamedTuple):
    """The struct of gemm.cu."""

    m: int
    n: int
    k: int
    row_a: int
    row_b: int
    slices: int
    chunk: int
    batch_a: np.int64
    batch_b: np.int64
    batch_c: np.int64
    alpha: float
    accumulate: bool


class Product(NamedTuple):
    """The sizes of C (m, n) = A (m, k) @ B (k, n), and how both factors lie in memory.

    A transposed factor is stored as (k, m) or (n, k). The products of a batch lie ``batch_a`` and
    ``batch_b`` numbers apart, 0 where all share one factor.
    """

    m: int
    n: int
    k: int
    transpose_a: bool = False
    transpose_b: bool = False
    batch: int = 1
    batch_a: int = 0
    batch_b: int = 0


class Plan(NamedTuple):
    """One launch of gemm.cu, and into how many slices it cuts the sum."""

    function: Any
    grid: tuple[int, int, int]
    threads: int
    shared: int
    sizes: Any
    slices: int


def gemm(
    a: Array, b: Array, product: Product, bias: Array | None = None, alpha: float = 1.0,
    out: Array | None = None, tile: Tile | None = None,
) -> Array:  # fmt: skip
    """C = alpha * A @ B + bias by column, or added to ``out`` where that is given.

    ``a`` and ``b`` are contiguous and hold what ``product`` says. ``tile`` overrides the choice,
    for tests and benchmarks.
    """
    p = product
    shape = (p.m, p.n) if p.batch == 1 else (p.batch, p.m, p.n)
    c = cupy.empty(shape, np.float32) if out is None else out
    if not c.size:
        return c
    if tile is None and bias is None and blas.serves(p):
        return blas.gemm(a, b, c, p, alpha, out is not None)
    wide = a.data.ptr % WIDE == 0, b.data.ptr % WIDE == 0
    device = cupy.cuda.Device().id
    plan = _plan(p, float(alpha), out is not None, tf32_allowed(), wide, device, tile)
    whole = plan.slices == 1
    sums = c if whole else cupy.empty((plan.slices, p.m, p.n), np.float32)
    launch(
        plan.function, plan.grid, plan.threads, a, b, bias if whole else None, sums, plan.sizes,
        shared=plan.shared,
    )  # fmt: skip
    return c if whole else add_slices(sums, c, bias, alpha, out is not None)


@functools.cache
def _plan(
    p: Product, alpha: float, accumulate: bool, tf32: bool, wide: tuple[bool, bool], device: int,
    tile: Tile | None,
) -> Plan:  # fmt: skip
    tile = tile or choose(TENSOR if tf32 else STRICT, p.m, p.n, p.batch)
    a_by_rows, b_by_rows = not p.transpose_a, p.transpose_b
    across, down = ceil(p.n, tile.bn), ceil(p.m, tile.bm)
    count, chunk = 1, max(p.k, 1)
    if p.batch == 1 and across * down < PROCESSORS:
        count, chunk = slices(tile, across * down, p.k, LEAST_SLICE)
    row_a, row_b = (p.k if a_by_rows else p.m), (p.k if b_by_rows else p.n)
    fits_a = wide[0] and row_a % 4 == 0 and p.batch_a % 4 == 0
    fits_b = wide[1] and row_b % 4 == 0 and p.batch_b % 4 == 0
    sizes = _Sizes(
        p.m, p.n, p.k, row_a, row_b, count, chunk,
        np.int64(p.batch_a), np.int64(p.batch_b), np.int64(p.m * p.n),
        alpha if count == 1 else 1.0, accumulate and count == 1,
    )  # fmt: skip
    defines = tile.defines(tf32, a_by_rows, b_by_rows)
    defines |= {"VEC_A": 4 if fits_a else 1, "VEC_B": 4 if fits_b else 1}
    shared = tile.shared(a_by_rows, b_by_rows)
    function = prepared("gemm", "gemm", shared, **defines)
    grid = (across, down, p.batch * count)
    return Plan(function, grid, tile.threads, shared, record(sizes), count)


def linear(x: Array, w: Array, b: Array | None) -> Array:
    """See `Kernels.linear`."""
    F, K = w.shape
    y = gemm(x, w, Product(_rows(x), F, K, transpose_b=True), b)
    return y.reshape(*x.shape[:-1], F)


def linear_grad_input(gy: Array, w: Array) -> Array:
    """See `Kernels.linear_grad_input`."""
    F, K = w.shape
    return gemm(gy, w, Product(_rows(gy), K, F)).reshape(*gy.shape[:-1], K)


def linear_grad_weight(gy: Array, x: Array) -> Array:
    """See `Kernels.linear_grad_weight`."""
    F, K = gy.shape[-1], x.shape[-1]
    return gemm(gy, x, Product(F, K, _rows(gy), transpose_a=True))


def linear_grad_bias(gy: Array) -> Array:
    """See `Kernels.linear_grad_bias`."""
    return column_sums(gy.reshape(_rows(gy), gy.shape[-1]))


def _rows(x: Array) -> int:
    """The product of all axes but the last."""
    return math.prod(x.shape[:-1])


def matmul(a: Array, b: Array) -> Array:
    """See `Kernels.matmul`, for what `serves_matmul` tells; a transposed view is not copied."""
    (a, transpose_a), (b, transpose_b) = _as_stored(a), _as_stored(b)
    m, k = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    n = b.shape[-2] if transpose_b else b.shape[-1]
    batch = math.prod(a.shape[:-2])
    if b.ndim == 2 and not transpose_a:
        return gemm(a, b, Product(batch * m, n, k, False, transpose_b)).reshape(*a.shape[:-1], n)
    batch_b = 0 if b.ndim == 2 else k * n
    product = Product(m, n, k, transpose_a, transpose_b, batch, m * k, batch_b)
    return gemm(a, b, product).reshape(*a.shape[:-2], m, n)


def serves_matmul(a: Array, b: Array) -> bool:
    """Whether the leading axes are alike, or the right factor has none; numbers fit throughout."""
    if min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-2]:
        return False
    is_alike = b.ndim == 2 or a.shape[:-2] == b.shape[:-2]
    return is_alike and 0 < math.prod(a.shape[:-2]) <= MOST_BATCH


def _as_stored(x: Array) -> tuple[Array, bool]:
    """A contiguous array and whether it holds the transpose of ``x`` along the last two axes."""
    if not x.flags.c_contiguous:
        turned = x.swapaxes(-1, -2)
        if turned.flags.c_contiguous:
            return turned, True
    return cupy.ascontiguousarray(x), False
