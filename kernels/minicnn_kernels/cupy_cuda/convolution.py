"""Convolution and its gradients on the GPU: which kernel a call gets, with what numbers.

Three kernels: convolution.cu (forward, and the gradient by the input), convolution_weight.cu, and
depthwise.cu for groups of one channel. What a launch needs beside its arrays depends on the
geometry alone, and is kept from the first call on: a step of training looks it up.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import cupy
import numpy as np

from minicnn_kernels.cupy_cuda import convolution_tables as tables
from minicnn_kernels.cupy_cuda import depthwise
from minicnn_kernels.cupy_cuda.modules import THREADS, launch
from minicnn_kernels.cupy_cuda.prepare import prepared, record
from minicnn_kernels.cupy_cuda.sums import add_slices, channel_sums
from minicnn_kernels.cupy_cuda.tiles import (
    STRICT,
    STRICT_WEIGHT,
    TENSOR,
    TENSOR_WEIGHT,
    Tile,
    ceil,
    choose,
    choose_sliced,
    slices,
)
from minicnn_kernels.errors import BackendError
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.precision import tf32_allowed

Array = Any

MOST = 2**31 - 1  # positions of a batch, and numbers of an image: kernels count them in int32
LEAST_SLICE = 256  # positions
WIDE = 16  # bytes


class _Sizes(NamedTuple):
    """The struct of convolution.cu."""

    images: int
    rows: int
    in_image: int
    in_group: int
    out_image: int
    out_plane: int
    groups: int
    group_weights: int
    h: int
    w: int
    paired: bool
    relu: bool


class _WeightSizes(NamedTuple):
    """The struct of convolution_weight.cu."""

    groups: int
    rows: int
    columns: int
    plane: int
    depth: int
    chunk: int
    in_image: int
    in_group: int
    out_image: int
    h: int
    w: int


class Shape(NamedTuple):
    """The sizes of one convolution and what the addresses of its arrays allow."""

    window: Window2d
    images: int
    channels: int
    filters: int
    groups: int
    tf32: bool
    wide_maps: bool  # x (or gy) may be read 16 bytes at a time
    wide_weights: bool
    device: int


class Plan(NamedTuple):
    """One launch: the kernel, its grid, and every argument that is not an array of the caller."""

    function: Any
    grid: tuple[int, int, int]
    threads: int
    shared: int
    tables: tables.Tables
    sizes: Any


def conv2d(x: Array, w: Array, b: Array | None, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d`."""
    return conv2d_affine(x, w, None, b, window, groups, False)


def conv2d_affine(
    x: Array, w: Array, scale: Array | None, shift: Array | None, window: Window2d, groups: int,
    relu: bool, tile: Tile | None = None,
) -> Array:  # fmt: skip
    """See `Kernels.conv2d_affine`: one launch, scale, shift and ReLU before y leaves registers."""
    if depthwise.serves(w.shape[1], w.shape[0], groups, window) and tile is None:
        return depthwise.forward(x, w, scale, shift, window, relu)
    y = cupy.empty((x.shape[0], w.shape[0], window.oh, window.ow), np.float32)
    if y.size:
        plan = _forward(_shape(x, w, window, x.shape[1], groups), bool(relu), tile)
        _launch(plan, x, w, scale, shift, y)
    return y


def conv2d_grad_input(
    gy: Array, w: Array, window: Window2d, groups: int, tile: Tile | None = None
) -> Array:
    """See `Kernels.conv2d_grad_input`: turn the weights, then convolve gy with them."""
    channels = w.shape[1] * groups
    if depthwise.serves(w.shape[1], w.shape[0], groups, window) and tile is None:
        return depthwise.grad_input(gy, w, window, groups)
    gx = cupy.empty((gy.shape[0], channels, window.h, window.w), np.float32)
    if gx.size:
        plan = _backward(_shape(gy, w, window, channels, groups), tile)
        turned = _turned(w, plan.tables, groups, window)
        _launch(plan, gy, turned, None, None, gx)
    return gx


def conv2d_grad_weight(
    gy: Array, x: Array, window: Window2d, groups: int, tile: Tile | None = None
) -> Array:
    """See `Kernels.conv2d_grad_weight`: slices of the sum over positions, then their sum."""
    channels, filters = x.shape[1] // groups, gy.shape[1]
    if depthwise.serves(channels, filters, groups, window) and tile is None:
        return depthwise.grad_weight(gy, x, window)
    gw = cupy.empty((filters, channels, window.kh, window.kw), np.float32)
    if not x.size:
        gw.fill(0)
        return gw
    shape = _shape(gy, x, window, x.shape[1], groups)._replace(filters=filters)
    plan, count = _weight(shape, tile)
    sums = gw if count == 1 else cupy.empty((count, gw.size), np.float32)
    launch(
        plan.function, plan.grid, plan.threads, gy, x, sums, plan.tables.positions,
        plan.tables.taps, plan.sizes, shared=plan.shared,
    )  # fmt: skip
    return add_slices(sums, gw) if count > 1 else gw


def conv2d_grad_bias(gy: Array) -> Array:
    """See `Kernels.conv2d_grad_bias`."""
    return channel_sums(gy)


def _launch(plan: Plan, x: Array, w: Array, scale: Array, shift: Array, y: Array) -> None:
    launch(
        plan.function, plan.grid, plan.threads, x, w, scale, shift, y, plan.tables.positions,
        plan.tables.taps, plan.tables.classes, plan.sizes, shared=plan.shared,
    )  # fmt: skip


def _shape(maps: Array, other: Array, window: Window2d, channels: int, groups: int) -> Shape:
    images, plane = maps.shape[0], window.oh * window.ow
    filters = other.shape[0]
    per_image = max(filters * plane, channels * window.h * window.w)
    if max(images * plane, images * window.h * window.w, per_image) > MOST:
        raise BackendError(
            f"conv2d: {images} images of {plane} positions are more than the kernels can count "
            f"({MOST}); use a smaller batch."
        )
    return Shape(
        window, images, channels, filters, groups, tf32_allowed(), maps.data.ptr % WIDE == 0,
        other.data.ptr % WIDE == 0, cupy.cuda.Device().id,
    )  # fmt: skip


def _turned(w: Array, of: tables.Tables, groups: int, window: Window2d) -> Array:
    """The weights of each class of pixels, (G, weights): see turn_weights.cu."""
    turned = cupy.empty((groups, of.weights), np.float32)
    grid = (ceil(max(of.weights // len(of.classes), 1), 1024), len(of.classes), groups)
    launch(
        prepared("turn_weights", "turn_weights"), grid, THREADS, w, turned, of.sources,
        of.classes, w.shape[1], window.taps, w.size // groups, of.weights,
    )  # fmt: skip
    return turned


@functools.cache
def _forward(s: Shape, relu: bool, tile: Tile | None) -> Plan:
    window, channels, rows = s.window, s.channels // s.groups, s.filters // s.groups
    plane = window.oh * window.ow
    of = tables.forward(window, channels, s.device)
    wide_a = s.wide_weights and channels * window.taps % 4 == 0
    wide_b = s.wide_maps and window.is_pointwise and plane % 4 == 0
    sizes = _Sizes(
        images=s.images, rows=rows, groups=s.groups, h=window.h, w=window.w,
        in_image=s.channels * window.h * window.w, in_group=channels * window.h * window.w,
        out_image=s.filters * plane, out_plane=plane,
        group_weights=rows * channels * window.taps,
        paired=plane % 2 == 0, relu=relu,
    )  # fmt: skip
    return _plan(s, of, rows, sizes, (wide_a, wide_b), tile)


@functools.cache
def _backward(s: Shape, tile: Tile | None) -> Plan:
    window, channels, filters = s.window, s.channels // s.groups, s.filters // s.groups
    plane, size = window.oh * window.ow, window.h * window.w
    of = tables.backward(window, channels, filters, s.device)
    wide_b = s.wide_maps and window.is_pointwise and plane % 4 == 0
    sizes = _Sizes(
        images=s.images, rows=channels, groups=s.groups, h=window.oh, w=window.ow,
        in_image=s.filters * plane, in_group=filters * plane,
        out_image=s.channels * size, out_plane=size, group_weights=of.weights,
        paired=size % 2 == 0 and window.sh == window.sw == 1, relu=False,
    )  # fmt: skip
    return _plan(s, of, channels, sizes, (True, wide_b), tile)


def _plan(
    s: Shape, of: tables.Tables, rows: int, sizes: _Sizes, wide: tuple[bool, bool],
    tile: Tile | None,
) -> Plan:  # fmt: skip
    batch, columns = len(of.classes) * s.groups, s.images * of.most
    tile = tile or choose(TENSOR if s.tf32 else STRICT, rows, columns, batch)
    shared = tile.shared(True, False)
    function = _compiled("convolution", tile, s, wide, shared, False)
    grid = (ceil(columns, tile.bn), ceil(rows, tile.bm), batch)
    return Plan(function, grid, tile.threads, shared, of, record(sizes))


@functools.cache
def _weight(s: Shape, tile: Tile | None) -> tuple[Plan, int]:
    window, channels, rows = s.window, s.channels // s.groups, s.filters // s.groups
    plane, columns = window.oh * window.ow, channels * window.taps
    of = tables.forward(window, channels, s.device)
    wide_a = s.wide_maps and plane % 4 == 0
    wide_b = s.wide_weights and window.is_pointwise and plane % 4 == 0
    tile = tile or choose_sliced(TENSOR_WEIGHT if s.tf32 else STRICT_WEIGHT, rows, columns)
    across, down = ceil(columns, tile.bn), ceil(rows, tile.bm)
    count, chunk = slices(tile, across * down * s.groups, s.images * plane, LEAST_SLICE)
    sizes = _WeightSizes(
        groups=s.groups, rows=rows, columns=columns, plane=plane,
        depth=s.images * plane, chunk=chunk, in_image=s.channels * window.h * window.w,
        in_group=channels * window.h * window.w, out_image=s.filters * plane,
        h=window.h, w=window.w,
    )  # fmt: skip
    shared = tile.shared(True, True)
    function = _compiled("convolution_weight", tile, s, (wide_a, wide_b), shared, True)
    grid = (across, down, s.groups * count)
    plan = Plan(function, grid, tile.threads, shared, of, record(sizes))
    return plan, count


def _compiled(
    file: str, tile: Tile, s: Shape, wide: tuple[bool, bool], shared: int, b_by_rows: bool
) -> Any:
    defines = tile.defines(s.tf32, True, b_by_rows)
    defines["VEC_A"], defines["VEC_B"] = (4 if is_wide else 1 for is_wide in wide)
    defines["LARGE"] = int(tables.is_large(s.window))
    return prepared(file, file, shared, **defines)
