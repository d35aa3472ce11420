"""Local response normalisation: the launches of lrn.cu."""

from __future__ import annotations

from typing import Any

import cupy

from minicnn_kernels.cupy_cuda.modules import kernel, launch, walkers

Array = Any

WIDEST = 32  # channels of a window that fit the registers of a thread
CHUNK = 16  # channels that a thread serves


def local_response_norm(
    x: Array, size: int, alpha: float, beta: float, k: float
) -> tuple[Array, Array]:
    """See `Kernels.local_response_norm`; ``size`` is at most `WIDEST`."""
    y, s = cupy.empty(x.shape, x.dtype), cupy.empty(x.shape, x.dtype)
    function = kernel("lrn", "local_response_norm", CHANNELS=size)
    numbers = float(alpha), float(beta), float(k)
    launch(function, _grid(x), 256, x, y, s, *_sizes(x), *numbers)
    return y, s


def local_response_norm_grad(
    gy: Array, x: Array, s: Array, size: int, alpha: float, beta: float
) -> Array:
    """See `Kernels.local_response_norm_grad`; ``size`` is at most `WIDEST`."""
    gx = cupy.empty(x.shape, x.dtype)
    function = kernel("lrn", "local_response_norm_grad", CHANNELS=size)
    numbers = 2.0 * alpha * beta, float(beta)
    launch(function, _grid(x), 256, gy, x, s, gx, *_sizes(x), *numbers)
    return gx


def _sizes(x: Array) -> tuple[int, int, int]:
    """N, C and the cells of a map."""
    N, C = x.shape[:2]
    return N, C, x.size // max(N * C, 1)


def _grid(x: Array) -> int:
    N, C, cells = _sizes(x)
    return walkers(N * -(-C // CHUNK) * cells)
