"""Plain loops that several oracles share; nothing here comes from the library."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Taps = list[tuple[int, int, int, int]]


def each(function: Callable[[float], float]) -> Callable[..., np.ndarray]:
    """A function of a number as an oracle, element by element; keyword arguments are passed on."""

    def oracle(x: np.ndarray, **kwargs: Any) -> np.ndarray:
        return np.array([function(v, **kwargs) for v in x.ravel().tolist()]).reshape(x.shape)

    return oracle


def each_pair(function: Callable[[float, float], float]) -> Callable[..., np.ndarray]:
    """A function of two numbers as an oracle with broadcasting."""

    def oracle(x: Any, y: Any) -> np.ndarray:
        pairs = np.broadcast(x, y)
        return np.array([function(float(a), float(b)) for a, b in pairs]).reshape(pairs.shape)

    return oracle


def indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every index of an array, row-major."""
    return itertools.product(*(range(n) for n in shape))


def as_pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def starts(length: int, extent: int, s: int, before: int, after: int, ceil_mode: bool) -> list[int]:
    """First cells of the windows along one axis, by trying: cell 0 is the first of the input.

    A window must end inside the padded input. With ``ceil_mode`` one more may hang over its end,
    but every one must start before the end of the input.
    """
    found = [-before]
    while True:
        start = found[-1] + s
        fits = start + extent <= length + after
        uncovered = found[-1] + extent < length + after
        if not ((fits or uncovered) and start < length if ceil_mode else fits):
            return found
        found.append(start)


def padding_of(padding: Any, kernel: tuple[int, int], dilation: tuple[int, int]) -> list[Any]:
    """(before, after) for rows and for columns."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in as_pair(padding)]


def windows(
    size: tuple[int, ...],
    kernel_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> list[list[Taps]]:
    """For each output cell its taps (u, v, row, column); rows and columns may lie outside."""
    kernel, dilation = as_pair(kernel_size), as_pair(dilation)
    steps = as_pair(stride)
    axes = []
    for axis, (before, after) in enumerate(padding_of(padding, kernel, dilation)):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        axes.append(starts(size[axis], extent, steps[axis], before, after, ceil_mode))
    return [
        [
            [
                (u, v, top + u * dilation[0], left + v * dilation[1])
                for u in range(kernel[0])
                for v in range(kernel[1])
            ]
            for left in axes[1]
        ]
        for top in axes[0]
    ]


def inside(row: int, column: int, size: tuple[int, ...], margin: Any = 0) -> bool:
    """True for a cell of the map, or of the map with a margin of (rows, columns) around it."""
    rows, columns = as_pair(margin)
    return -rows <= row < size[0] + rows and -columns <= column < size[1] + columns


def pooled(x: np.ndarray, grid: list[list[Taps]], reduce: Callable[..., float]) -> np.ndarray:
    """reduce(map, taps) for each map and window."""
    N, C = x.shape[:2]
    y = np.empty((N, C, len(grid), len(grid[0])))
    for n, c in indices((N, C)):
        for i, row in enumerate(grid):
            for j, taps in enumerate(row):
                y[n, c, i, j] = reduce(x[n, c], taps)
    return y


def lines(x: np.ndarray, dim: int) -> tuple[np.ndarray, Callable[[list[Any]], np.ndarray]]:
    """The vectors along an axis as rows, and a function that puts new rows back."""
    moved = np.moveaxis(x, dim, -1)

    def restore(rows: list[Any]) -> np.ndarray:
        return np.moveaxis(np.array(rows).reshape(moved.shape), -1, dim)

    return moved.reshape(-1, moved.shape[-1]), restore


def random_bits(key: int, i: int) -> int:
    """Output i of SplitMix64 seeded with ``key`` (Steele, Lea & Flood 2014), in Python integers."""
    mask = 2**64 - 1
    z = (key + (i + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def mean_of(values: list[float]) -> float:
    return math.fsum(values) / len(values)
