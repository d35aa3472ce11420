"""Pooling in ONNX, which has maximum and mean: the others are put together from what it has.

A weighted mean of each window is a convolution of every map with the weights, times a factor for
each window (it differs where a window hangs over the edge of the map and fewer cells count). The
minimum is the maximum of the negative. Adaptive pooling with bins of unequal length is a product
with a matrix of shares for the mean, and a slice for each bin for the maximum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.functional.pooling import _mean_scale
from minicnn.interop.onnx_graph import GraphWriter
from minicnn.interop.onnx_trace import Step
from minicnn_kernels.geometry import Window2d, adaptive_bins


def max_pool2d(g: GraphWriter, s: Step) -> None:
    """MaxPool."""
    _max_pool(g, s, s.inputs[0], last=True)


def min_pool2d(g: GraphWriter, s: Step) -> None:
    """Neg, MaxPool, Neg."""
    turned = g.node(s, "Neg", [s.inputs[0]], last=False)
    g.node(s, "Neg", [_max_pool(g, s, turned, last=False)])


def weighted_pool2d(g: GraphWriter, s: Step) -> None:
    """AveragePool where it is a plain mean, otherwise a convolution and a factor."""
    op: Any = s.op
    window: Window2d = op.window
    plain = bool((op.taps == 1).all()) and _end_pads(window) == (window.ph_end, window.pw_end)
    for counted in (True, False) if plain else ():
        if np.array_equal(op.scale, _mean_scale(window, None, counted)):
            g.node(
                s, "AveragePool", [s.inputs[0]], count_include_pad=int(counted), **_shape(window)
            )
            return
    summed = _window_sums(g, s, s.inputs[0])
    factors = g.array(f"{s.output.name}.scale", op.scale.astype(np.float32))
    g.node(s, "Mul", [summed, factors])


def l2_pool2d(g: GraphWriter, s: Step) -> None:
    """The root of the sums of squares: LpPool exists, but not every reader pads it alike."""
    square = g.node(s, "Mul", [s.inputs[0], s.inputs[0]], last=False)
    g.node(s, "Sqrt", [_window_sums(g, s, square)])


def adaptive_avg_pool2d(g: GraphWriter, s: Step) -> None:
    """GlobalAveragePool, AveragePool for bins of one length, or two matrix products."""
    x, (H, W), (OH, OW) = s.inputs[0], _size(s), _bins(s)
    if (OH, OW) == (1, 1):
        g.node(s, "GlobalAveragePool", [x])
    elif H % OH == 0 and W % OW == 0:
        kernel = [H // OH, W // OW]
        g.node(s, "AveragePool", [x], kernel_shape=kernel, strides=kernel)
    else:
        rows = g.array(f"{s.output.name}.rows", _shares(H, OH))
        columns = g.array(f"{s.output.name}.columns", _shares(W, OW).T)
        g.node(s, "MatMul", [g.node(s, "MatMul", [rows, x], last=False), columns])


def adaptive_max_pool2d(g: GraphWriter, s: Step) -> None:
    """GlobalMaxPool, MaxPool for bins of one length, or the maximum of each bin by itself."""
    x, (H, W), (OH, OW) = s.inputs[0], _size(s), _bins(s)
    if (OH, OW) == (1, 1):
        g.node(s, "GlobalMaxPool", [x])
    elif H % OH == 0 and W % OW == 0:
        kernel = [H // OH, W // OW]
        g.node(s, "MaxPool", [x], kernel_shape=kernel, strides=kernel)
    else:
        rows = _bin_maxima(g, s, g.name(x, s), axis=2, bins=adaptive_bins(H, OH), last=False)
        _bin_maxima(g, s, rows, axis=3, bins=adaptive_bins(W, OW), last=True)


def _bin_maxima(g: GraphWriter, s: Step, x: str, axis: int, bins: list[slice], last: bool) -> str:
    parts = []
    axes = g.ints(s, f"axis{axis}", [axis])
    for b in bins:
        ends = [g.ints(s, "bin", [b.start]), g.ints(s, "bin", [b.stop])]
        part = g.node(s, "Slice", [x, *ends, axes], last=False)
        parts.append(g.node(s, "ReduceMax", [part], last=False, axes=[axis], keepdims=1))
    return g.node(s, "Concat", parts, last, axis=axis)


def _max_pool(g: GraphWriter, s: Step, x: Any, last: bool) -> str:
    window: Window2d = s.op.window
    dilations = {"dilations": [window.dh, window.dw]} if (window.dh, window.dw) != (1, 1) else {}
    return g.node(s, "MaxPool", [x], last, **_shape(window), **dilations)


def _window_sums(g: GraphWriter, s: Step, x: Any) -> str:
    """The weighted sum of each window: every map convolved by itself with the same taps."""
    op: Any = s.op
    C = s.output.shape[1]
    taps = np.broadcast_to(op.taps.astype(np.float32), (C, 1, *op.taps.shape))  # type: ignore[arg-type]
    weight = g.array(f"{s.output.name}.taps", taps)
    return g.node(s, "Conv", [x, weight], last=False, group=C, **_shape(op.window))


def _shape(window: Window2d) -> dict[str, Any]:
    pads = [window.ph, window.pw, *_end_pads(window)]
    return {
        "kernel_shape": [window.kh, window.kw],
        "strides": [window.sh, window.sw],
        "pads": pads,
    }


def _end_pads(window: Window2d) -> tuple[int, int]:
    """Padding after the last row and column, those under windows that hang over included."""
    rows, columns = window.reach
    return rows - window.ph - window.h, columns - window.pw - window.w


def _size(s: Step) -> tuple[int, int]:
    H, W = s.inputs[0].shape[2:]
    return H, W


def _bins(s: Step) -> tuple[int, int]:
    return s.op.output_size


def _shares(length: int, bins: int) -> np.ndarray:
    """(bins, length): what each cell counts for the mean of each bin."""
    shares = np.zeros((bins, length), np.float32)
    for row, b in zip(shares, adaptive_bins(length, bins), strict=True):
        row[b] = 1.0 / (b.stop - b.start)
    return shares
