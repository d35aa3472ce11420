"""Convolution as im2col and a matrix product, a few images at a time.

The columns of a piece of the batch lie side by side (see `columns`), so one product serves the
whole piece: (F/G, C/G*KH*KW) @ (C/G*KH*KW, n*OH*OW) for each group. A product for each image would
read all weights again for the few columns of a small map. The price is one more copy, since the
product has its channels before its images; that copy adds the bias.

Columns take KH*KW times the memory of the map. `PIECE_BYTES` keeps those of a piece in the cache of
the processor, in one buffer for all pieces. BLAS runs the products on threads of its own, never
inside a `prange`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import prange

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu.columns import fill_columns, sum_columns, swap_leading
from minicnn_kernels.numba_cpu.compile import Array, flat, int64, kernel, uint64

PIECE_BYTES = 4 * 2**20


def conv2d(x: Array, w: Array, b: Array | None, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d`."""
    N, C, F = len(x), x.shape[1], len(w)
    outputs = window.oh * window.ow
    w = w.reshape(groups, F // groups, -1)
    y = np.empty((N, F, window.oh, window.ow), x.dtype)
    for piece, n, (col, product) in _pieces(N, (C * window.taps, F), outputs, x.dtype):
        fill_columns(x[piece], window, outputs, n * outputs, col)
        np.matmul(w, _grouped(col, groups, n * outputs), out=_grouped(product, groups, n * outputs))
        swap_leading(product.reshape(F, n, outputs), b, y[piece].reshape(n, F, outputs))
    return y


def conv2d_grad_input(gy: Array, w: Array, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d_grad_input`."""
    N, C, F = len(gy), w.shape[1] * groups, len(w)
    outputs = window.oh * window.ow
    w_t = w.reshape(groups, F // groups, -1).swapaxes(1, 2)
    gx = np.empty((N, C, window.h, window.w), gy.dtype)
    for piece, n, (col, gys) in _pieces(N, (C * window.taps, F), outputs, gy.dtype):
        swap_leading(gy[piece].reshape(n, F, outputs), None, gys.reshape(F, n, outputs))
        np.matmul(w_t, _grouped(gys, groups, n * outputs), out=_grouped(col, groups, n * outputs))
        sum_columns(col, window, outputs, n * outputs, gx[piece])
    return gx


def conv2d_grad_weight(gy: Array, x: Array, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d_grad_weight`."""
    N, F, C = len(gy), gy.shape[1], x.shape[1]
    outputs = window.oh * window.ow
    gw = np.zeros((groups, F // groups, C // groups * window.taps), x.dtype)
    for piece, n, (col, gys) in _pieces(N, (C * window.taps, F), outputs, x.dtype):
        swap_leading(gy[piece].reshape(n, F, outputs), None, gys.reshape(F, n, outputs))
        fill_columns(x[piece], window, outputs, n * outputs, col)
        col_t = _grouped(col, groups, n * outputs).swapaxes(1, 2)
        gw += np.matmul(_grouped(gys, groups, n * outputs), col_t)
    return gw.reshape(F, C // groups, window.kh, window.kw)


def conv2d_grad_bias(gy: Array) -> Array:
    """See `Kernels.conv2d_grad_bias`."""
    N, F = gy.shape[:2]
    totals = np.empty((N, F))
    _plane_totals(flat(gy, gy.size), totals.reshape(-1))
    return totals.sum(axis=0).astype(gy.dtype)


def _pieces(
    N: int, rows: tuple[int, int], outputs: int, dtype: np.dtype[np.floating]
) -> Iterator[tuple[slice, int, tuple[Array, Array]]]:
    """Slices of the batch, their lengths, and a reused flat buffer for each number of ``rows``."""
    step = max(1, min(N, PIECE_BYTES // (rows[0] * outputs * dtype.itemsize)))
    buffers = [np.empty(r * step * outputs, dtype) for r in rows]
    for start in range(0, N, step):
        n = min(step, N - start)
        first, second = (buffer[: r * n * outputs] for buffer, r in zip(buffers, rows, strict=True))
        yield slice(start, start + n), n, (first, second)


def _grouped(matrix: Array, groups: int, columns: int) -> Array:
    """The flat ``matrix`` as (G, rows / G, columns)."""
    return matrix.reshape(groups, -1, columns)


@kernel
def _plane_totals(gy: Array, totals: Array) -> None:
    for plane in prange(len(totals)):
        cells = len(gy) // len(totals)
        start, total = uint64(int64(plane) * cells), 0.0
        for o in range(uint64(cells)):
            total += gy[start + o]
        totals[plane] = total
