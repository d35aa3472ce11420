"""Convolution with one channel a group: see depthwise.cu."""

from __future__ import annotations

from typing import Any, NamedTuple

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import blocks, launch
from minicnn_kernels.cupy_cuda.prepare import prepared, record
from minicnn_kernels.cupy_cuda.sums import add_slices
from minicnn_kernels.cupy_cuda.tiles import PROCESSORS, ceil
from minicnn_kernels.geometry import Window2d

Array = Any

TAPS = 49  # more would not stay in registers
PREPARED_WEIGHTS = 12 * 1024  # numbers that 48 KiB of shared memory hold
THREADS = 256
WEIGHT_THREADS = 128
PER_BLOCK = 2048  # positions that make a block of the weights' gradient worth its start
MOST_BLOCKS = 65535  # along y


class _Sizes(NamedTuple):
    images: int
    channels: int
    filters: int
    multiplier: int
    h: int
    w: int
    oh: int
    ow: int
    ph: int
    pw: int
    dh: int
    dw: int
    relu: bool


def serves(channels: int, filters: int, groups: int, window: Window2d) -> bool:
    """Whether groups of so many channels are depthwise, with a window that the loops unroll.

    A single group of one channel is not: its filters share what they read of it.
    """
    return (
        channels == 1
        and groups > 1
        and window.taps <= TAPS
        and filters // groups * window.taps <= PREPARED_WEIGHTS
        and filters <= MOST_BLOCKS
    )


def forward(
    x: Array, w: Array, scale: Array | None, shift: Array | None, window: Window2d, relu: bool
) -> Array:
    """y, with the scale, shift and ReLU of `conv2d_affine`."""
    y = cupy.empty((x.shape[0], w.shape[0], window.oh, window.ow), np.float32)
    sizes = _sizes(x.shape[0], x.shape[1], w.shape[0], window, relu)
    positions = x.shape[0] * window.oh * window.ow
    grid = (blocks(positions, THREADS), w.shape[0])
    launch(_kernel("depthwise", window), grid, THREADS, x, w, scale, shift, y, sizes)
    return y


def grad_input(gy: Array, w: Array, window: Window2d, groups: int) -> Array:
    """The gradient by x, whose channels are the groups."""
    gx = cupy.empty((gy.shape[0], groups, window.h, window.w), np.float32)
    sizes = _sizes(gy.shape[0], groups, w.shape[0], window, False)
    shared = 4 * w.size // groups
    grid = (blocks(gy.shape[0] * window.h * window.w, THREADS), groups)
    launch(_kernel("depthwise_input", window), grid, THREADS, gy, w, gx, sizes, shared=shared)
    return gx


def grad_weight(gy: Array, x: Array, window: Window2d) -> Array:
    """The gradient by w: sums over slices of the batch, then their sum."""
    N, F = gy.shape[:2]
    gw = cupy.empty((F, 1, window.kh, window.kw), np.float32)
    work = ceil(N * window.oh * window.ow, PER_BLOCK)
    count = max(min(ceil(8 * PROCESSORS, F), work, N), 1)
    sums = gw if count == 1 else cupy.empty((count, gw.size), np.float32)
    sizes = _sizes(N, x.shape[1], F, window, False)
    launch(_kernel("depthwise_weight", window), (F, count), WEIGHT_THREADS, gy, x, sums, sizes)
    return add_slices(sums, gw) if count > 1 else gw


def _sizes(images: int, channels: int, filters: int, s: Window2d, relu: bool) -> Any:
    several = filters // channels
    numbers = (images, channels, filters, several, s.h, s.w, s.oh, s.ow, s.ph, s.pw, s.dh, s.dw)
    return record(_Sizes(*numbers, relu))


def _kernel(name: str, s: Window2d) -> Any:
    return prepared("depthwise", name, STRIDE_H=s.sh, STRIDE_W=s.sw, TAPS_H=s.kh, TAPS_W=s.kw)
