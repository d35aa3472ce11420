"""Optimizer steps and gradient clipping: the launches of optimizers.cu, each over many arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import blocks, kernel, launch, number
from minicnn_kernels.reference import Number

Array = Any

MANY = 80  # arrays in a launch
CHUNK = 4096  # numbers of an array that a block serves
_LISTS = np.dtype(
    [
        ("at", np.uint64, (4, MANY)),
        ("size", np.int64, MANY),
        ("first_block", np.int32, MANY + 1),
        ("count", np.int32),
    ],
    align=True,
)


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array] | None,
    lr: Number,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """See `Kernels.sgd_step`."""
    roles = [params, grads] if velocities is None else [params, grads, velocities]
    numbers = number(lr), float(momentum), 1.0 - dampening, float(weight_decay), bool(nesterov)
    _launch_over(roles, "sgd_step", *numbers, velocities is not None)


def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    ms: Sequence[Array],
    vs: Sequence[Array],
    step: Number,
    lr: Number,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """See `Kernels.adam_step`."""
    rates = number(step), number(lr), number(betas[0]), number(betas[1]), float(eps)
    _launch_over([params, grads, ms, vs], "adam_step", *rates, number(weight_decay), decoupled)


def rmsprop_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    squares: Sequence[Array],
    velocities: Sequence[Array],
    lr: Number,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> None:
    """See `Kernels.rmsprop_step`."""
    numbers = float(alpha), 1.0 - alpha, float(eps), float(weight_decay), float(momentum)
    roles = [params, grads, squares, velocities]
    _launch_over(roles, "rmsprop_step", number(lr), *numbers)


def squared_norm(arrays: Sequence[Array]) -> Array:
    """See `Kernels.squared_norm`."""
    pieces = list(_pieces([arrays]))
    total = sum(grid for _, grid in pieces)
    parts, norm = cupy.empty(total, np.float64), cupy.empty((), np.float64)
    begin = 0
    for lists, grid in pieces:
        launch(kernel("optimizers", "squares_of_chunks"), grid, 256, lists, parts[begin:])
        begin += grid
    launch(kernel("optimizers", "sum_of_parts"), 1, 256, parts, norm, np.int64(total))
    return norm


def scale_by(arrays: Sequence[Array], factor: Number) -> None:
    """See `Kernels.scale_by`."""
    _launch_over([arrays], "scale_by", number(factor))


def _launch_over(roles: Sequence[Sequence[Array]], name: str, *args: Any) -> None:
    for lists, grid in _pieces(roles):
        launch(kernel("optimizers", name), grid, 256, lists, *args)


def _pieces(roles: Sequence[Sequence[Array]]) -> Iterator[tuple[Any, int]]:
    """The struct ``Lists`` of lists.cuh for each `MANY` arrays that hold anything, and its grid."""
    filled = [together for together in zip(*roles, strict=True) if together[0].size]
    for start in range(0, len(filled), MANY):
        some = filled[start : start + MANY]
        sizes = [together[0].size for together in some]
        lists = np.zeros(1, _LISTS)
        for role, arrays in enumerate(zip(*some, strict=True)):
            lists["at"][0, role, : len(some)] = [a.data.ptr for a in arrays]
        ends = np.cumsum([blocks(size, CHUNK) for size in sizes])
        lists["size"][0, : len(some)] = sizes
        lists["first_block"][0, 1 : len(some) + 1] = ends
        lists["count"] = len(some)
        yield lists, int(ends[-1])
