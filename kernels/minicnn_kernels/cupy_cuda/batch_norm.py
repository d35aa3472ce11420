"""Batch normalisation: the launches of batch_norm.cu.

The sums of a channel are taken in two launches: slices of it, then the slices. How many slices
depends on the sizes alone, so that every device adds up in the same order.
"""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import blocks, kernel, launch, walkers, wide

Array = Any

SLICES = 1056  # blocks that the first launch aims at: 8 for each unit of an H100
SLICE = 4096  # numbers that a block should have at least
FEW_CELLS = 16  # maps of fewer cells are summed column by column: see channels.cuh
LANES, ROWS = 32, 8


def batch_norm_statistics(x: Array) -> tuple[Array, Array]:
    """See `Kernels.batch_norm_statistics`."""
    N, C, cells = _sizes(x)
    grid, spread = _partition(N, C, cells)
    parts = cupy.empty((grid[1], C * spread, 3), np.float64)
    mean, var = cupy.empty(C, x.dtype), cupy.empty(C, x.dtype)
    if cells < FEW_CELLS:
        columns = kernel("batch_norm", "column_moments")
        launch(columns, grid, (LANES, ROWS), x, parts, N, C * cells)
    else:
        channels = kernel("batch_norm", "channel_moments")
        launch(channels, grid, 256, x, parts, N, C, cells, wide(cells, x))
    finish = kernel("batch_norm", "finish_moments")
    launch(finish, C, 32, parts, mean, var, grid[1] * spread, C, spread)
    return mean, var


def batch_norm_eval(
    x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
) -> Array:
    """See `Kernels.batch_norm_eval`."""
    return _normalise(x, None, (mean, var, w, b, eps), relu=False)


def batch_norm_relu(
    x: Array,
    w: Array | None,
    b: Array | None,
    mean: Array,
    var: Array,
    eps: float,
    skip: Array | None,
) -> Array:
    """See `Kernels.batch_norm_relu`."""
    return _normalise(x, skip, (mean, var, w, b, eps), relu=True)


def batch_norm_grad(
    gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_grad`."""
    return _gradients(gy, x, (mean, var, w, None, eps), relu=False)


def batch_norm_relu_grad(
    gy: Array, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_relu_grad`."""
    return _gradients(gy, x, (mean, var, w, b, eps), relu=True)


def batch_norm_eval_grad(
    gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    """See `Kernels.batch_norm_eval_grad`."""
    affine = mean, var, w, None, eps
    gw, gb = gradient_sums(gy, x, affine, relu=False)
    return _input_gradient(gy, x, affine, None, None, relu=False), gw, gb


def batch_norm_move(
    running_mean: Array,
    running_var: Array,
    mean: Array,
    var: Array,
    momentum: float,
    count: int,
) -> None:
    """See `Kernels.batch_norm_move`."""
    C = mean.size
    numbers = float(momentum), count / (count - 1)
    move = kernel("batch_norm", "move_statistics")
    launch(move, blocks(C), 256, running_mean, running_var, mean, var, *numbers, C)


def gradient_sums(
    gy: Array, x: Array, affine: tuple[Any, ...], *, relu: bool
) -> tuple[Array, Array]:
    """The gradients by w and b: sums of gy * xhat and of gy, behind ReLU where it passed.

    ``affine`` is mean, var, w, b, eps.
    """
    N, C, cells = _sizes(x)
    grid, spread = _partition(N, C, cells)
    parts = cupy.empty((grid[1], C * spread, 2), np.float64)
    gw, gb = cupy.empty(C, x.dtype), cupy.empty(C, x.dtype)
    if cells < FEW_CELLS:
        columns = kernel("batch_norm", "column_gradient_sums")
        launch(columns, grid, (LANES, ROWS), gy, x, *affine, parts, N, C * cells, cells, relu)
    else:
        channels = kernel("batch_norm", "channel_gradient_sums")
        is_wide = wide(cells, gy, x)
        launch(channels, grid, 256, gy, x, *affine, parts, N, C, cells, relu, is_wide)
    finish = kernel("batch_norm", "finish_gradient_sums")
    _, var, *_, eps = affine
    launch(finish, C, 32, parts, var, eps, gw, gb, grid[1] * spread, C, spread)
    return gw, gb


def _normalise(x: Array, skip: Array | None, affine: tuple[Any, ...], *, relu: bool) -> Array:
    N, C, cells = _sizes(x)
    y = cupy.empty(x.shape, x.dtype)
    is_wide = wide(cells, x, skip)
    grid = walkers(x.size // 4 if is_wide else x.size)
    normalise = kernel("batch_norm", "normalise")
    launch(normalise, grid, 256, x, skip, y, *affine, N, C, cells, relu, is_wide)
    return y


def _gradients(
    gy: Array, x: Array, affine: tuple[Any, ...], *, relu: bool
) -> tuple[Array, Array, Array]:
    gw, gb = gradient_sums(gy, x, affine, relu=relu)
    return _input_gradient(gy, x, affine, gw, gb, relu=relu), gw, gb


def _input_gradient(
    gy: Array, x: Array, affine: tuple[Any, ...], gw: Array | None, gb: Array | None, *, relu: bool
) -> Array:
    N, C, cells = _sizes(x)
    gx = cupy.empty(x.shape, x.dtype)
    is_wide = wide(cells, gy, x)
    grid = walkers(x.size // 4 if is_wide else x.size)
    share = 1.0 / (N * cells)
    function = kernel("batch_norm", "input_gradient")
    launch(
        function, grid, 256, gy, x, gx, *affine, gw, gb, share, N, C, cells, relu, is_wide
    )  # fmt: skip
    return gx


def _sizes(x: Array) -> tuple[int, int, int]:
    """N, C and the cells of a map."""
    N, C = x.shape[:2]
    return N, C, x.size // (N * C)


def _partition(N: int, C: int, cells: int) -> tuple[tuple[int, int], int]:
    """The grid of the first launch (its second number: slices), and parts a channel and slice."""
    if cells < FEW_CELLS:
        groups = -(-C * cells // LANES)
        return (groups, _slices(groups, N // (4 * ROWS))), cells
    return (C, _slices(C, N * cells // SLICE)), 1


def _slices(groups: int, most: int) -> int:
    return max(1, min(-(-SLICES // groups), most))
