"""Dropout: random numbers without a generator.

A usual generator makes each number from the one before, a chain that ten thousand threads cannot
share. Here element i has a random number of its own: a hash of the key and of i. Every thread
computes its own, in any order, and whoever asks again with the same key gets the same answer: the
gradient draws the forward pass's mask anew and nothing is stored. (Such generators are called
counter-based: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". This hash is
SplitMix64, of Steele, Lea and Flood 2014, and all kernel sets share it.)

The key is read from memory, not passed as a number. A captured graph repeats its launches with the
arguments of the capture, and a number among them would drop the same elements in every step.

The arithmetic is in uint64, where products wrap around, and every constant is written as one: Numba
makes a float64 of uint64 + int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, uint64

from minicnn_kernels.numba_cuda.device import (
    ZERO,
    Array,
    device_function,
    empty,
    flat,
    launch_for,
    library,
)
from minicnn_kernels.numba_cuda.device import key as on_device
from minicnn_kernels.reference import Key


def dropout(x: Array, p: float, key: Key, unit: int) -> Array:
    """See `Kernels.dropout`."""
    if p >= 1.0:
        return library(x).zeros(x.shape, x.dtype)
    y = empty(x.shape, x)
    arguments = _threshold(p), on_device(key, x), unit, 1.0 / (1.0 - p)
    launch_for(x.size, _dropout, flat(x), *arguments, flat(y))
    return y


def keep(mask: Array, p: float, key: Key) -> Array:
    """Fill ``mask`` as `Kernels.random_keep` says."""
    launch_for(mask.size, _random_keep, _threshold(p), on_device(key, mask), mask)
    return mask


def _threshold(p: float) -> np.uint64:
    return np.uint64(round(p * 2**32))


@device_function
def _is_kept(i: int, threshold: int, key: int) -> Any:
    """Whether run number i survives."""
    z = (uint64(i) + uint64(1)) * uint64(0x9E3779B97F4A7C15) + key
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return ((z ^ (z >> uint64(31))) >> uint64(32)) >= threshold


@cuda.jit
def _random_keep(threshold: int, key: Array, mask: Array) -> None:
    for i in range(cuda.grid(1), mask.size, cuda.gridsize(1)):
        mask[i] = _is_kept(i, threshold, key[0])


@cuda.jit
def _dropout(x: Array, threshold: int, key: Array, unit: int, scale: float, y: Array) -> None:
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * (scale if _is_kept(i // unit, threshold, key[0]) else ZERO)
