"""Softmax, its logarithm and the cross-entropy loss: the launches of softmax.cu."""

from __future__ import annotations

from typing import Any

import cupy

from minicnn_kernels.cupy_cuda.modules import blocks, kernel, launch

Array = Any

WARPS = 8  # rows that a block of 256 threads serves where a warp takes each
LONG = 1024  # numbers from which on a row is worth a block


def softmax(x: Array, axis: int) -> Array:
    """See `Kernels.softmax`; ``axis`` must be the last."""
    return _along_rows("softmax", x)


def softmax_grad(gy: Array, y: Array, axis: int) -> Array:
    """See `Kernels.softmax_grad`; ``axis`` must be the last."""
    return _along_rows("softmax_grad", gy, y)


def log_softmax(x: Array, axis: int) -> Array:
    """See `Kernels.log_softmax`; ``axis`` must be the last."""
    return _along_rows("log_softmax", x)


def log_softmax_grad(gy: Array, y: Array, axis: int) -> Array:
    """See `Kernels.log_softmax_grad`; ``axis`` must be the last."""
    return _along_rows("log_softmax_grad", gy, y)


def softmax_cross_entropy(x: Array, q: Array) -> tuple[Array, Array]:
    """See `Kernels.softmax_cross_entropy`."""
    rows, K = x.shape
    loss, p = cupy.empty(rows, x.dtype), cupy.empty(x.shape, x.dtype)
    _launch_rows("cross_entropy", rows, K, x, q, loss, p)
    return loss, p


def softmax_cross_entropy_grad(gloss: Array, p: Array, q: Array) -> Array:
    """See `Kernels.softmax_cross_entropy_grad`."""
    gx = cupy.empty(p.shape, p.dtype)
    _launch_rows("cross_entropy_grad", *p.shape, gloss, p, q, gx)
    return gx


def _along_rows(name: str, *arrays: Array) -> Array:
    shape = arrays[-1].shape
    result = cupy.empty(shape, arrays[-1].dtype)
    if result.size:
        _launch_rows(name, result.size // shape[-1], shape[-1], *arrays, result)
    return result


def _launch_rows(name: str, rows: int, K: int, *arrays: Array) -> None:
    by_block = K >= LONG
    grid = rows if by_block else blocks(rows, WARPS)
    launch(kernel("softmax", name), grid, 32 * WARPS, *arrays, rows, K, by_block)
