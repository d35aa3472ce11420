"""Convolution and pooling nodes, whose padding a file may give in ways that a layer has none for.

``auto_pad`` asks for an output of ceil(length / stride) cells; which padding that takes depends on
the length, known here. Padding that differs before and after becomes a layer of its own before the
window: zeros for a convolution, minus infinity for a maximum.
"""

from __future__ import annotations

import math
from functools import partial

from minicnn import functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.errors import MiniCNNError
from minicnn.interop.onnx_build import LARGEST_SETTING, Builder, Node, Unsupported
from minicnn_kernels.geometry import Window2d

Pair = tuple[int, int]


def conv(b: Builder, n: Node) -> None:
    """Conv, of maps with two axes."""
    weight, bias = n.input(1), n.input(2)
    filters = b.constant(weight, "weight").shape
    x = b.shape(n.input(0))
    groups = n.integer("group", 1)
    if len(x) != 4 or len(filters) != 4:
        raise Unsupported(f"x is {x} and its weight {filters}; two-dimensional convolution is")
    if n.pair("kernel_shape", filters[2:]) != filters[2:] or not 1 <= groups <= filters[0]:
        raise Unsupported(f"its settings do not fit its weight, which is {filters}")
    if bias and b.constant(bias, "bias").shape != filters[:1]:
        raise Unsupported(f"its bias is {b.constants[bias].shape}, not {filters[:1]}")
    stride, dilation = n.pair("strides", (1, 1)), n.pair("dilations", (1, 1))
    pads = _pads(b, n, filters[2:], stride, dilation)
    source, padding = _padded(b, n, pads, 0.0)
    F_, C = filters[0], filters[1] * groups

    def make() -> nn.Module:
        with nn.without_weights():
            layer = nn.Conv2d(
                C, F_, filters[2:], stride, padding, dilation, groups, bias=bool(bias)
            )
        layer.weight = b.parameter(weight)
        if bias:
            layer.bias = b.parameter(bias)
        return layer

    b.add_layer(n, make, source, (weight, bias))


def max_pool(b: Builder, n: Node) -> None:
    """MaxPool; padding after the last cell may be what ``ceil_mode`` makes of it."""
    if any(n.outputs[1:]):
        raise Unsupported("the places of its maxima are read")
    kernel, stride, dilation = _window(b, n)
    pads = _pads(b, n, kernel, stride, dilation)
    ceil = bool(n.integer("ceil_mode", 0))
    if not ceil and _is_ceil(b.shape(n.input(0)), kernel, stride, dilation, pads):
        ceil, pads = True, (pads[0], pads[1], pads[0], pads[1])
    elif ceil and pads[:2] != pads[2:]:
        raise Unsupported(f"ceil_mode with pads {pads}")
    source, padding = _padded(b, n, pads, -math.inf)
    b.add_layer(n, partial(nn.MaxPool2d, kernel, stride, padding, dilation, ceil_mode=ceil), source)


def average_pool(b: Builder, n: Node) -> None:
    """AveragePool."""
    kernel, stride, dilation = _window(b, n)
    pads = _pads(b, n, kernel, stride, dilation)
    ceil, counted = bool(n.integer("ceil_mode", 0)), bool(n.integer("count_include_pad", 0))
    if dilation != (1, 1) or (pads[:2] != pads[2:] and (ceil or not counted)):
        raise Unsupported(f"pads {pads}, dilations {dilation}, ceil_mode {ceil} together")
    source, padding = _padded(b, n, pads, 0.0)
    b.add_layer(n, partial(nn.AvgPool2d, kernel, stride, padding, ceil, counted), source)


def pad(b: Builder, n: Node) -> None:
    """Pad, with a constant."""
    mode, x = n.text("mode", "constant"), b.shape(n.input(0))
    value = 0.0
    if b.opset < 11:
        widths, value = n.integers("pads", []) or [], n.real("value", 0.0)
    else:
        widths = b.ints(n.input(1), "pads")
        value = b.number(n.input(2), "value") if n.input(2) else 0.0
    axes = list(range(len(x)))
    if n.input(3):
        axes = [a % len(x) if x else a for a in b.ints(n.input(3), "axes")]
    fits = len(widths) == 2 * len(axes) and all(0 <= w <= LARGEST_SETTING for w in widths)
    if mode != "constant" or not fits or not set(axes) <= set(range(len(x))):
        raise Unsupported(f"mode {mode:.20}, pads {widths!s:.60} of {x}")
    before = dict(zip(axes, widths[: len(axes)], strict=True))
    after = dict(zip(axes, widths[len(axes) :], strict=True))
    if before.get(0) or after.get(0):
        raise Unsupported("it adds to the batch")
    sides = [w for a in reversed(range(1, len(x))) for w in (before.get(a, 0), after.get(a, 0))]
    b.add_function(n, _surrounded, n.inputs[:1], sides=tuple(sides), value=value)


def _surrounded(x: Tensor, sides: tuple[int, ...], value: float) -> Tensor:
    return F.pad(x, sides, value=value)


def _window(b: Builder, n: Node) -> tuple[Pair, Pair, Pair]:
    if not n.has("kernel_shape") or len(b.shape(n.input(0))) != 4:
        raise Unsupported(f"x is {b.shape(n.input(0))}; windows of two axes are")
    kernel = n.pair("kernel_shape", (0, 0))
    return kernel, n.pair("strides", (1, 1)), n.pair("dilations", (1, 1))


def _pads(
    b: Builder, n: Node, kernel: Pair, stride: Pair, dilation: Pair
) -> tuple[int, int, int, int]:
    """Padding (top, left, bottom, right)."""
    mode = n.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = n.integers("pads", [0, 0, 0, 0]) or []
        if len(pads) != 4 or not all(0 <= p <= LARGEST_SETTING for p in pads):
            raise Unsupported(f"its pads are {pads!s:.60}")
        return pads[0], pads[1], pads[2], pads[3]
    if mode == "VALID":
        return 0, 0, 0, 0
    if mode not in ("SAME_UPPER", "SAME_LOWER") or 0 in stride:
        raise Unsupported(f"its auto_pad is {mode:.40}")
    before, after = [], []
    for length, k, s, d in zip(b.shape(n.input(0))[2:], kernel, stride, dilation, strict=True):
        total = max((-(-length // s) - 1) * s + d * (k - 1) + 1 - length, 0)
        less, more = total // 2, total - total // 2
        before.append(less if mode == "SAME_UPPER" else more)
        after.append(more if mode == "SAME_UPPER" else less)
    return before[0], before[1], after[0], after[1]


def _padded(b: Builder, n: Node, pads: tuple[int, int, int, int], value: float) -> tuple[str, Pair]:
    """The padding that the layer does itself, if all sides allow, or a step that does it before."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return n.input(0), (top, left)
    sides = (left, right, top, bottom)
    return b.before(n, _surrounded, sides=sides, value=value), (0, 0)


def _is_ceil(
    x: tuple[int, ...], kernel: Pair, stride: Pair, dilation: Pair, pads: tuple[int, int, int, int]
) -> bool:
    """Whether padding more after the last cell gives the windows that ``ceil_mode`` gives."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return False
    try:
        window = Window2d.of(x[2:], kernel, stride, (top, left), dilation, ceil_mode=True)
        rows, columns = window.reach
    except MiniCNNError:
        return False
    ends = rows - top - window.h, columns - left - window.w
    return (
        ends == (bottom, right) and top <= window.extent[0] // 2 and left <= window.extent[1] // 2
    )
