"""Convolution and its gradients on the register tile of `microkernel`.

All three are sums of products of the same numbers:

    forward          y[f, p]  = sum over k=(c, i, j) of w[f, k] * window of x[k, p]
    input gradient   gx[c, p] = sum over k=(f, i, j) of w[f, c, i, j] * window of gy[k, p]
    weight gradient  gw[f, k] = sum over p of gy[f, p] * window of x[k, p]

Three compiled loops serve them: `lanes_loops` and `panel_loops` the first two, `weight_loops` the
third. `convolution_plans` and its neighbours describe a problem to them in tables of offsets; this
file allocates and calls. Sums are of float32 or float64 numbers in that precision, in an order that
depends on the sizes and the number of threads alone. Windows of 3x3 and 5x5 go to `winograd` where
that is faster, and channels that are groups of their own to `depthwise_loops`.

Taps on padding are skipped or read as 0, which is the same unless the other factor is NaN or
infinite: 0 * NaN is NaN. The reference multiplies the weights by the zeros of the padding in the
forward, and by no zero in the input gradient. So weights that are not all finite are looked for
where the loops do otherwise (one pass over w), and left to the reference. Where the weight gradient
skips padding, it finds a gy that is not finite by its result, which then is not finite either.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import elementwise, winograd
from minicnn_kernels.numba_cpu.batch_norm import scale_and_shift
from minicnn_kernels.numba_cpu.compile import Array, flat, int64, kernel, uint64
from minicnn_kernels.numba_cpu.convolution_plans import (
    LanesPlan,
    PanelPlan,
    forward_plan,
    input_plans,
)
from minicnn_kernels.numba_cpu.depthwise_loops import correlate_planes, plane_weight_gradient
from minicnn_kernels.numba_cpu.depthwise_plans import (
    PlanePlan,
    forward_planes,
    input_planes,
    is_depthwise,
    weight_offsets,
)
from minicnn_kernels.numba_cpu.lanes_loops import correlate_lanes, pack_weights
from minicnn_kernels.numba_cpu.microkernel import ROWS, lanes
from minicnn_kernels.numba_cpu.panel_loops import Operands, correlate
from minicnn_kernels.numba_cpu.weight_loops import combine, weight_gradient
from minicnn_kernels.numba_cpu.weight_plans import weight_plan
from minicnn_kernels.numba_cpu.workspace import scratch as _scratch
from minicnn_kernels.reference import Kernels
from minicnn_kernels.threads import get_num_threads

_REFERENCE = Kernels(np)


def conv2d(x: Array, w: Array, b: Array | None, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d`."""
    return _forward(x, w, b, window, groups, relu=False)


def conv2d_affine(
    x: Array, w: Array, scale: Array | None, shift: Array | None, window: Window2d, groups: int,
    relu: bool,
) -> Array:  # fmt: skip
    """See `Kernels.conv2d_affine`; with a factor, the rest is one pass over the result."""
    if scale is None:
        return _forward(x, w, shift, window, groups, relu)
    y = _forward(x, w, None, window, groups, relu=False)
    zeros = np.zeros_like(scale)
    return scale_and_shift(y, scale, zeros if shift is None else shift, relu)


def _forward(
    x: Array, w: Array, b: Array | None, window: Window2d, groups: int, relu: bool
) -> Array:
    N, F = x.shape[0], w.shape[0]
    y = np.empty((N, F, window.oh, window.ow), x.dtype)
    if y.size == 0 or w.size == 0:
        y[...] = 0 if b is None else b.reshape(-1, 1, 1)
        return np.maximum(y, 0) if relu else y
    if winograd.is_used(window, (window.oh, window.ow), N, w.shape[1], F, groups, x.dtype):
        return winograd.conv2d(x, w, b, window, relu)
    if is_depthwise(w.shape[1], F, groups):
        _run_planes(forward_planes(window, F, groups, x.dtype), x, w, b, y, relu)
        return y
    plan = forward_plan(window, w.shape[1], F, N, groups, x.dtype, get_num_threads())
    if isinstance(plan, LanesPlan) and plan.skips_padding and not np.isfinite(w).all():
        with np.errstate(all="ignore"):
            return _REFERENCE.conv2d_affine(x, w, None, b, window, groups, relu)
    if relu and isinstance(plan, PanelPlan) and plan.blocking.adds_up:
        _run(plan, x, w, b, y, relu=False)
        return elementwise.relu(y)
    _run(plan, x, w, b, y, relu)
    return y


def conv2d_grad_input(gy: Array, w: Array, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d_grad_input`."""
    N, F = gy.shape[:2]
    C = w.shape[1] * groups
    if gy.size == 0 or w.size == 0:
        return np.zeros((N, C, window.h, window.w), gy.dtype)
    if winograd.is_used(window, (window.h, window.w), N, C, F, groups, gy.dtype):
        return winograd.conv2d_grad_input(gy, w, window)
    if not window.is_pointwise and not np.isfinite(w).all():
        with np.errstate(all="ignore"):
            return _REFERENCE.conv2d_grad_input(gy, w, window, groups)
    if is_depthwise(w.shape[1], F, groups):
        gx = np.empty((N, C, window.h, window.w), gy.dtype)
        _run_planes(input_planes(window, F, groups, gy.dtype), gy, w, None, gx, False)
        return gx
    plans = input_plans(window, w.shape[1], F, N, groups, gy.dtype, get_num_threads())
    covered = len(plans) == min(window.sh, window.h) * min(window.sw, window.w)
    gx = (np.empty if covered else np.zeros)((N, C, window.h, window.w), gy.dtype)
    for plan in plans:
        _run(plan, gy, w, None, gx, False)
    return gx


def conv2d_grad_weight(gy: Array, x: Array, window: Window2d, groups: int) -> Array:
    """See `Kernels.conv2d_grad_weight`."""
    N, F = gy.shape[:2]
    C = x.shape[1] // groups
    gw = np.zeros((F, C, window.kh, window.kw), x.dtype)
    if gw.size == 0 or gy.size == 0:
        return gw
    if winograd.is_used(window, (window.oh, window.ow), N, C, F, groups, x.dtype):
        return winograd.conv2d_grad_weight(gy, x, window)
    if is_depthwise(C, F, groups):
        _planes_grad_weight(forward_planes(window, F, groups, x.dtype), gy, x, gw)
        return gw
    plan = weight_plan(window, C, F, N, groups, x.dtype, get_num_threads())
    sums = (np.empty if plan.complete else np.zeros)(plan.sums, x.dtype)
    weight_gradient(
        np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(gy).reshape(-1), sums,
        plan.shape, plan.target, plan.tasks, plan.offsets, plan.cut, plan.columns, plan.taps,
        _scratch(len(plan.tasks), plan.workers, plan.reserved, x.dtype),
    )  # fmt: skip
    combine(sums, plan.rows, gw.reshape(groups, F // groups, -1))
    if plan.cut.skips_padding and not np.isfinite(gw).all() and not np.isfinite(gy).all():
        with np.errstate(all="ignore"):
            return _REFERENCE.conv2d_grad_weight(gy, x, window, groups)
    return gw


def conv2d_grad_bias(gy: Array) -> Array:
    """See `Kernels.conv2d_grad_bias`."""
    N, F = gy.shape[:2]
    totals = np.empty((N, F))
    _plane_totals(flat(gy, gy.size), totals.reshape(-1))
    return totals.sum(axis=0).astype(gy.dtype)


def _run(
    plan: PanelPlan | LanesPlan, x: Array, w: Array, b: Array | None, y: Array, relu: bool
) -> None:
    bias = np.zeros(y.shape[1] + 2 * ROWS, x.dtype)  # rows of zeros for what lies beyond
    if b is not None:
        bias[: y.shape[1]] = b
    x, w = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(w).reshape(-1)
    scratch = _scratch(len(plan.tasks), plan.workers, plan.reserved, x.dtype)
    if isinstance(plan, LanesPlan):
        G, outer, _, _, used = plan.weights
        packed = np.empty(G * plan.blocking.vectors * lanes(x.dtype) * outer * used, x.dtype)
        pack_weights(w, plan.weights, plan.places, plan.tiles, packed)
        correlate_lanes(
            x, packed, bias, y.reshape(-1), plan.shape, plan.target,
            plan.blocking._replace(relu=relu), plan.tasks, plan.classes, plan.spans, plan.steps,
            plan.tiles, scratch,
        )  # fmt: skip
    else:
        operands = Operands(x, w, bias, y.reshape(-1), plan.offsets, plan.steps, plan.rows_of_a)
        how = plan.blocking._replace(relu=relu)
        correlate(operands, plan.shape, plan.target, how, plan.tasks, scratch)


def _run_planes(plan: PlanePlan, x: Array, w: Array, b: Array | None, y: Array, relu: bool) -> None:
    bias = np.zeros(y.shape[1], x.dtype) if b is None else np.ascontiguousarray(b)
    workers = get_num_threads()
    correlate_planes(
        np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(w).reshape(-1), bias,
        y.reshape(-1), plan.sizes, plan.copies, plan.entries, plan.spans, plan.steps, relu,
        _scratch(workers, workers, plan.reserved, x.dtype),
    )  # fmt: skip


def _planes_grad_weight(plan: PlanePlan, gy: Array, x: Array, gw: Array) -> None:
    entries, offsets = weight_offsets(plan)
    workers = get_num_threads()
    plane_weight_gradient(
        np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(gy).reshape(-1),
        gw.reshape(-1), plan.sizes, plan.copies, entries, offsets,
        _scratch(workers, workers, plan.reserved, x.dtype),
    )  # fmt: skip


@kernel
def _plane_totals(gy: Array, totals: Array) -> None:
    for plane in prange(len(totals)):
        cells = len(gy) // len(totals)
        start, total = uint64(int64(plane) * cells), 0.0
        for o in range(uint64(cells)):
            total += gy[start + o]
        totals[plane] = total
