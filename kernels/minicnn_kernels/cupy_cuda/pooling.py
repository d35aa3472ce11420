"""Pooling over windows: the launches of pooling.cu."""

from __future__ import annotations

import functools
from typing import Any

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda.modules import divider, kernel, launch, walkers
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.reference import tap_dtype

Array = Any

_WINDOW = np.dtype([("sizes", np.int32, 12), ("by_sh", np.uint32, 2), ("by_sw", np.uint32, 2)])
_TWO_BY_TWO = (2, 2, 2, 2, 0, 0, 0, 0, 1, 1)  # kernel, stride, padding on all sides, dilation


def max_pool2d(x: Array, window: Window2d) -> tuple[Array, Array]:
    """See `Kernels.max_pool2d`."""
    return _select(x, window, 1.0)


def min_pool2d(x: Array, window: Window2d) -> tuple[Array, Array]:
    """See `Kernels.min_pool2d`."""
    return _select(x, window, -1.0)


def max_pool2d_grad(gy: Array, tap: Array, window: Window2d) -> Array:
    """See `Kernels.max_pool2d_grad`."""
    gx = cupy.empty((*gy.shape[:2], window.h, window.w), gy.dtype)
    gather = kernel("pooling", "select_pool2d_grad", WIDE_TAPS=wide_taps(window))
    launch(gather, walkers(gx.size), 256, gy, tap, gx, packed(window), planes(gx))
    return gx


def weighted_pool2d(x: Array, taps: Array, scale: Array, window: Window2d) -> Array:
    """See `Kernels.weighted_pool2d`."""
    y = cupy.empty((*x.shape[:2], window.oh, window.ow), x.dtype)
    weigh = kernel("pooling", "weighted_pool2d", WIDE_TAPS=0)
    weights = _on_device(taps), _on_device(scale)
    launch(weigh, walkers(y.size), 256, x, *weights, y, packed(window), planes(y))
    return y


def weighted_pool2d_grad(gy: Array, taps: Array, scale: Array, window: Window2d) -> Array:
    """See `Kernels.weighted_pool2d_grad`."""
    gx = cupy.empty((*gy.shape[:2], window.h, window.w), gy.dtype)
    gather = kernel("pooling", "weighted_pool2d_grad", WIDE_TAPS=0)
    weights = _on_device(taps), _on_device(scale)
    launch(gather, walkers(gx.size), 256, gy, *weights, gx, packed(window), planes(gx))
    return gx


def _select(x: Array, window: Window2d, sign: float) -> tuple[Array, Array]:
    y = cupy.empty((*x.shape[:2], window.oh, window.ow), x.dtype)
    tap = cupy.empty(y.shape, tap_dtype(window))
    select = kernel("pooling", "select_pool2d", WIDE_TAPS=wide_taps(window))
    four = is_two_by_two(x, window)
    launch(select, walkers(y.size), 256, x, y, tap, packed(window), planes(x), sign, four)
    return y, tap


@functools.lru_cache(maxsize=256)
def packed(window: Window2d) -> Any:
    """The struct ``Window`` of pooling.cuh."""
    struct = np.zeros(1, _WINDOW)
    h, w, kh, kw, sh, sw, ph, pw, _, _, dh, dw, oh, ow = window
    struct["sizes"] = h, w, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow
    struct["by_sh"], struct["by_sw"] = divider(sh), divider(sw)
    return struct


def planes(x: Array) -> int:
    """Maps of x (N, C, H, W)."""
    return int(x.shape[0] * x.shape[1])


def wide_taps(window: Window2d) -> int:
    """1 where a tap does not fit a byte: the switch WIDE_TAPS of pooling.cuh."""
    return int(tap_dtype(window) is np.int32)


def is_two_by_two(x: Array, window: Window2d) -> bool:
    """Whether the kernels for 2x2 cells that share none can read x: pairs at even addresses."""
    is_inside = 2 * window.oh <= window.h and 2 * window.ow <= window.w
    is_even = window.w % 2 == 0 and x.data.ptr % 8 == 0
    return window[2:12] == _TWO_BY_TWO and is_inside and is_even


def _on_device(values: np.ndarray) -> Array:
    """A copy of a layer's constant numbers, made once.

    A captured graph cannot copy from the host, and reads this address at every replay: so what is
    kept here is never dropped.
    """
    values = np.ascontiguousarray(values, np.float32)
    return _copied(values.tobytes(), cupy.cuda.Device().id)


@functools.cache
def _copied(values: bytes, device: int) -> Array:
    return cupy.asarray(np.frombuffer(values, np.float32))
