"""Fully connected layers: three matrix products whose large factor, the weights, is read once.

The weights of AlexNet's first fully connected layer fill 151 MB, and a batch of 16 images does 16
multiply-adds with each of them: the product waits for memory. A general matrix product first copies
its factors into an order that suits its inner loop, which pays off when each number is used
hundreds of times, and here only adds traffic. These loops take the weights as they lie:

    forward          y[n, f]  = sum over k of x[n, k] * w[f, k]      lanes along k
    input gradient   gx[n, k] = sum over f of gy[n, f] * w[f, k]     lanes along k
    weight gradient  gw[f, k] = sum over n of gy[n, f] * x[n, k]     lanes along k

In all three a vector is a piece of a row of w or gw. The forward pass is made of dot products, 4
rows of x with 4 rows of w at a time, so that each fetched vector is used 4 times. The gradients are
sums of rows: a number of gy times a row of w or x. There the register tile of `microkernel` holds a
piece of 8 result rows while the terms pass.

The threads share the rows of w in the forward pass and in the weight gradient, and the columns in
the input gradient. No sum is split between threads: results do not depend on their number.

BLAS, which has one thread here, serves products too small to repay starting the others, the input
gradient of a single row, and the gradients of rows that do not fill whole vectors.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minicnn_kernels.numba_cpu.compile import Array, flat, helper, int64, kernel, uint64
from minicnn_kernels.numba_cpu.convolution_windows import run_tile, whole_table
from minicnn_kernels.numba_cpu.microkernel import ROWS, VECTOR_BYTES, VECTORS, lanes
from minicnn_kernels.threads import get_num_threads

COLUMNS = 2048  # about as many of gx are summed up at once: for 32 images, a quarter megabyte
LINE = 256  # columns of a task of the bias gradient
TERMS = 64, 128  # rows of w, or of x, whose pieces stay in the first-level cache


def linear(x: Array, w: Array, b: Array | None) -> Array:
    """See `Kernels.linear`."""
    F, K = w.shape
    y = np.empty((*x.shape[:-1], F), x.dtype)
    bias = np.zeros(F, x.dtype) if b is None else flat(b, F)
    N = y.size // F
    _dot_products(flat(x, N * K), flat(w, F * K), bias, y.reshape(-1), N, F, K)
    return y


def linear_grad_input(gy: Array, w: Array) -> Array:
    """See `Kernels.linear_grad_input`. K must be a multiple of the vector's lanes."""
    F, K = w.shape
    gx = np.empty((*gy.shape[:-1], K), gy.dtype)
    N = gx.size // K
    gy, w, tasks = flat(gy, N * F), flat(w, F * K), _column_tasks(N, K, lanes(gy.dtype))
    # few images do little with a row of w, which is then fetched sooner if rows are read for longer
    _sums_of_rows(gy, w, gx.reshape(-1), (F, 1), F, K, tasks, min(max(N, 16), TERMS[0]))
    return gx


def linear_grad_weight(gy: Array, x: Array) -> Array:
    """See `Kernels.linear_grad_weight`. K must be a multiple of the vector's lanes."""
    F, K = gy.shape[-1], x.shape[-1]
    gw = np.empty((F, K), x.dtype)
    N = gy.size // F
    gy, x, tasks = flat(gy, N * F), flat(x, N * K), _row_tasks(F, K)
    _sums_of_rows(gy, x, gw.reshape(-1), (1, F), N, K, tasks, min(N, TERMS[1]))
    return gw


def linear_grad_bias(gy: Array) -> Array:
    """See `Kernels.linear_grad_bias`."""
    F = gy.shape[-1]
    gb = np.zeros(F, gy.dtype)
    _column_sums(flat(gy, gy.size), gb)
    return gb


def _column_tasks(rows: int, columns: int, lanes: int) -> Array:
    """All rows of some columns: first row, end, first column, end. Equally many for each thread."""
    width, threads = VECTORS * lanes, get_num_threads()
    parts = threads * -(-columns // (threads * COLUMNS))
    share = -(-columns // (width * parts)) * width
    first = np.arange(0, columns, share)
    end = np.minimum(first + share, columns)
    return np.stack([np.zeros_like(first), np.full_like(first, rows), first, end], axis=1)


def _row_tasks(rows: int, columns: int) -> Array:
    """All columns of the rows of one tile, in the form of `_column_tasks`."""
    first = np.arange(0, rows, ROWS)
    end = np.minimum(first + ROWS, rows)
    return np.stack([first, end, np.zeros_like(first), np.full_like(first, columns)], axis=1)


@kernel
def _dot_products(x: Array, w: Array, b: Array, y: Array, N: int, F: int, K: int) -> None:
    """Tiles of 4 x 4; one that reaches over the end takes the last row several times."""
    zero = x.dtype.type(0)
    for task in prange((F + 3) // 4):
        f0 = int64(task) * 4
        f1, f2, f3 = min(f0 + 1, F - 1), min(f0 + 2, F - 1), min(f0 + 3, F - 1)
        w0, w1, w2, w3 = uint64(f0 * K), uint64(f1 * K), uint64(f2 * K), uint64(f3 * K)
        for n0 in range(0, N, 4):
            n1, n2, n3 = min(n0 + 1, N - 1), min(n0 + 2, N - 1), min(n0 + 3, N - 1)
            x0, x1, x2, x3 = uint64(n0 * K), uint64(n1 * K), uint64(n2 * K), uint64(n3 * K)
            y00 = y01 = y02 = y03 = y10 = y11 = y12 = y13 = zero
            y20 = y21 = y22 = y23 = y30 = y31 = y32 = y33 = zero
            for k in range(uint64(K)):
                p0, p1, p2, p3 = x[x0 + k], x[x1 + k], x[x2 + k], x[x3 + k]
                q0, q1, q2, q3 = w[w0 + k], w[w1 + k], w[w2 + k], w[w3 + k]
                y00, y01, y02, y03 = y00 + p0 * q0, y01 + p0 * q1, y02 + p0 * q2, y03 + p0 * q3
                y10, y11, y12, y13 = y10 + p1 * q0, y11 + p1 * q1, y12 + p1 * q2, y13 + p1 * q3
                y20, y21, y22, y23 = y20 + p2 * q0, y21 + p2 * q1, y22 + p2 * q2, y23 + p2 * q3
                y30, y31, y32, y33 = y30 + p3 * q0, y31 + p3 * q1, y32 + p3 * q2, y33 + p3 * q3
            for n, s0, s1, s2, s3 in (
                (n0, y00, y01, y02, y03),
                (n1, y10, y11, y12, y13),
                (n2, y20, y21, y22, y23),
                (n3, y30, y31, y32, y33),
            ):
                y[n * F + f0], y[n * F + f1] = s0 + b[f0], s1 + b[f1]
                y[n * F + f2], y[n * F + f3] = s2 + b[f2], s3 + b[f3]


@kernel
def _column_sums(gy: Array, gb: Array) -> None:
    F = len(gb)
    for task in prange((F + LINE - 1) // LINE):
        first, end = uint64(int64(task) * LINE), uint64(min(int64(task) * LINE + LINE, F))
        for n in range(len(gy) // F):
            start = uint64(int64(n) * F)
            for f in range(first, end):
                gb[f] += gy[start + f]


@kernel
def _sums_of_rows(
    a: Array, b: Array, c: Array, strides: tuple[int, int], terms: int, K: int, tasks: Array,
    block: int,
) -> None:  # fmt: skip
    """c[m, k] = sum over t of a[m, t] * b[t, k], ``block`` terms at a time.

    ``strides`` are those of a, from m to m and from t to t.
    """
    number, size = a[0], a.itemsize
    for i in prange(len(tasks)):
        m0, m1, first, end = tasks[i]
        pieces, zeros = whole_table(), np.zeros(ROWS, a.dtype)
        packed = np.empty((m1 - m0 + ROWS - 1) // ROWS * block * ROWS, a.dtype)
        steps, rows_of_a = np.empty((block, 2), np.int64), np.empty(ROWS, np.int64)
        for j in range(ROWS):
            rows_of_a[j] = j * size
        for t in range(block):
            steps[t, 0], steps[t, 1] = t * ROWS * size, t * K * size
        for t in range(0, terms, block):
            count = min(block, terms - t)
            _pack(a[t * strides[1] :], strides, m0, m1, count, block, packed)
            for k in range(first, end, VECTORS * VECTOR_BYTES // size):
                vectors = min(VECTORS, (end - k) * size // VECTOR_BYTES)
                for m in range(m0, m1, ROWS):
                    run_tile(
                        number, vectors, packed.ctypes.data + (m - m0) * block * size,
                        rows_of_a.ctypes.data, b.ctypes.data + (t * K + k) * size,
                        steps.ctypes.data, count, zeros.ctypes.data,
                        c.ctypes.data + (m * K + k) * size, K * size, min(ROWS, m1 - m),
                        pieces.ctypes.data, t > 0, False,
                    )  # fmt: skip


@helper
def _pack(
    a: Array, strides: tuple[int, int], m0: int, m1: int, count: int, block: int, packed: Array
) -> None:
    """Bring the factors of a tile side by side: in a they lie pages apart, or in one cache set."""
    for m in range(m0, m1, ROWS):
        for t in range(count):
            to = ((m - m0) // ROWS * block + t) * ROWS
            for j in range(ROWS):
                at = min(m + j, m1 - 1) * strides[0] + t * strides[1]
                packed[uint64(to + j)] = a[uint64(at)]
