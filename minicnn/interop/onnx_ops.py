"""What each op is called in ONNX: one function an op class, in the table `WRITERS`.

A function takes the graph and a step of the trace and appends nodes, the last of which makes the
step's output. Windows are written with the padding of all four sides in numbers: a window that
hangs over the edge, as ``ceil_mode`` allows, is one more row or column of padding after the last,
so that no reader needs to agree on how sizes are rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.autograd import Op
from minicnn.errors import ArgumentError
from minicnn.functional import (
    activation,
    arithmetic,
    convolution,
    normalization,
    pooling,
    reduction,
    shape,
)
from minicnn.functional.linear import Linear
from minicnn.interop import onnx_pools
from minicnn.interop.onnx_graph import GraphWriter
from minicnn.interop.onnx_trace import Constant, Step
from minicnn.nn._arrays import to_numpy

Writer = Callable[[GraphWriter, Step], Any]


def write_step(graph: GraphWriter, step: Step) -> None:
    """Append the nodes of one step; raises `ArgumentError` for what ONNX has no form for."""
    writer = WRITERS.get(type(step.op))
    if writer is None:
        raise ArgumentError(
            f"export_onnx: {step} ({type(step.op).__name__}) has no ONNX form; leave the layer "
            "out, or compute the same with other functions."
        )
    writer(graph, step)


def refused(step: Step, why: str) -> ArgumentError:
    """An error that names layer and op."""
    return ArgumentError(f"export_onnx: {step} has no ONNX form: {why}.")


def _plain(kind: str) -> Writer:
    """An op that is one operator with the same arguments."""
    return lambda g, s: g.node(s, kind, list(s.inputs))


def _power(g: GraphWriter, s: Step) -> None:
    exponent = s.op.exponent
    if exponent == 0.5:
        g.node(s, "Sqrt", [s.inputs[0]])
    else:
        g.node(s, "Pow", [s.inputs[0], exponent])


def _leaky_relu(g: GraphWriter, s: Step) -> None:
    g.node(s, "LeakyRelu", [s.inputs[0]], alpha=s.op.negative_slope)


def _along_axis(kind: str) -> Writer:
    """Softmax, LogSoftmax, Concat: all arguments, along one axis."""
    return lambda g, s: g.node(s, kind, list(s.inputs), axis=s.op.axis)


# -- layers with weights


def _conv2d(g: GraphWriter, s: Step, last: bool = True) -> str:
    op: Any = s.op
    w = op.window
    return g.node(
        s, "Conv", list(s.inputs[:3]), last,
        kernel_shape=[w.kh, w.kw], strides=[w.sh, w.sw], dilations=[w.dh, w.dw],
        pads=[w.ph, w.pw, w.ph_end, w.pw_end], group=op.groups,
    )  # fmt: skip


def _conv2d_relu(g: GraphWriter, s: Step) -> None:
    g.node(s, "Relu", [_conv2d(g, s, last=False)])


def _conv2d_batch_norm(g: GraphWriter, s: Step) -> None:
    op: Any = s.op
    y = _normalised(g, s, _conv2d(g, s, last=False), s.inputs[3:], op.statistics, not op.relu)
    if op.relu:
        g.node(s, "Relu", [y])


def _linear(g: GraphWriter, s: Step) -> None:
    x, weight, bias = s.inputs
    if len(s.output.shape) == 2:
        g.node(s, "Gemm", [x, weight, bias], transB=1)
        return
    turned = g.node(s, "Transpose", [weight], last=False, perm=[1, 0])
    product = g.node(s, "MatMul", [x, turned], last=bias is None)
    if bias is not None:
        g.node(s, "Add", [product, bias])


def _batch_norm(g: GraphWriter, s: Step) -> None:
    _normalised(g, s, s.inputs[0], s.inputs[1:3], _statistics(s), True)


def _batch_norm_add_relu(g: GraphWriter, s: Step) -> None:
    skip = s.inputs[3] if len(s.inputs) > 3 else None
    y = _normalised(g, s, s.inputs[0], s.inputs[1:3], _statistics(s), False)
    if skip is not None:
        y = g.node(s, "Add", [y, skip], last=False)
    g.node(s, "Relu", [y])


def _statistics(s: Step) -> tuple[Any, Any, float]:
    op: Any = s.op
    if not op.is_constant:
        raise refused(
            s, "it normalises by the statistics of the batch; build the layer with "
            "track_running_stats=True"
        )  # fmt: skip
    return op.mean, op.var, op.eps


def _normalised(
    g: GraphWriter, s: Step, x: Any, affine: Any, statistics: tuple[Any, Any, float], last: bool
) -> str:
    mean, var, eps = to_numpy(statistics[0]), to_numpy(statistics[1]), statistics[2]
    prefix = f"{s.layer}." if s.layer else ""
    ones = Constant(f"{prefix}weight", np.ones(mean.shape, mean.dtype))
    zeros = Constant(f"{prefix}bias", np.zeros(mean.shape, mean.dtype))
    weight, bias = (*affine, None, None)[:2]
    inputs = [
        *(x, ones if weight is None else weight, zeros if bias is None else bias),
        *(g.array(f"{prefix}running_mean", mean), g.array(f"{prefix}running_var", var)),
    ]
    return g.node(s, "BatchNormalization", inputs, last, epsilon=eps)


def _local_response_norm(g: GraphWriter, s: Step) -> None:
    """ONNX centres its window to the other side where the size is even; see `Kernels`."""
    op: Any = s.op
    if len(s.output.shape) != 4:
        raise refused(s, f"it is known for maps (N, C, H, W) alone, and x is {s.output.shape}")
    if op.size % 2:
        settings = {"size": op.size, "alpha": op.alpha * op.size, "beta": op.beta}
        g.node(s, "LRN", [s.inputs[0]], bias=op.offset, **settings)
        return
    C = int(s.output.shape[1] or 0)
    offset: np.ndarray = (
        np.arange(C)[None, :] - np.arange(C)[:, None]
    )  # of channel (column) from filter (row)
    near = (offset >= -(op.size // 2)) & (offset <= (op.size - 1) // 2)
    band = g.array(f"{s.output.name}.band", (op.alpha * near).astype(np.float32)[:, :, None, None])
    k = g.array(f"{s.output.name}.k", np.full(C, op.offset, np.float32))
    square = g.node(s, "Mul", [s.inputs[0], s.inputs[0]], last=False)
    total = g.node(s, "Conv", [square, band, k], last=False, kernel_shape=[1, 1])
    g.node(s, "Div", [s.inputs[0], g.node(s, "Pow", [total, op.beta], last=False)])


# -- shapes


def _reshape(g: GraphWriter, s: Step) -> None:
    lengths = s.output.shape
    if lengths.count(None) > 1:
        raise refused(s, f"more than one axis of {lengths} grows with the batch")
    target = [-1 if n is None else n for n in lengths]
    g.node(s, "Reshape", [s.inputs[0], g.ints(s, "shape", target)])


def _permute(g: GraphWriter, s: Step) -> None:
    g.node(s, "Transpose", [s.inputs[0]], perm=list(s.op.dims))


def _pad(g: GraphWriter, s: Step) -> None:
    op: Any = s.op
    widths = [before for before, _ in op.widths] + [after for _, after in op.widths]
    g.node(s, "Pad", [s.inputs[0], g.ints(s, "pads", widths), op.value], mode="constant")


def _getitem(g: GraphWriter, s: Step) -> None:
    """Slices first, then the axes that a number takes away, then those that None adds."""
    x = s.inputs[0]
    index = _without_ellipsis(s, x)
    slices: list[tuple[int, ...]] = []
    taken, added, axis, place = [], [], 0, 0
    for part in index:
        if part is None:
            added.append(place)
            place += 1
            continue
        if isinstance(part, slice):
            slices += _sliced(part, axis)
            place += 1
        elif isinstance(part, (int, np.integer)):
            end = int(part) + 1 or np.iinfo(np.int64).max
            slices.append((int(part), end, axis, 1))
            taken.append(axis)
        else:
            raise refused(s, "it takes places by an array; use slices and numbers")
        axis += 1
    jobs: list[tuple[str, list[Any]]] = []
    if slices:
        columns = zip(("starts", "ends", "axes", "steps"), zip(*slices, strict=True), strict=True)
        jobs.append(("Slice", [g.ints(s, *column) for column in columns]))
    jobs += [("Squeeze", [g.ints(s, "squeezed", taken)])] if taken else []
    jobs += [("Unsqueeze", [g.ints(s, "unsqueezed", added)])] if added else []
    for i, (kind, more) in enumerate(jobs or [("Identity", [])]):
        x = g.node(s, kind, [x, *more], last=i >= len(jobs) - 1)


def _without_ellipsis(s: Step, x: Any) -> list[Any]:
    index = list(s.op.index)
    if any(part is Ellipsis for part in index):
        at = next(i for i, part in enumerate(index) if part is Ellipsis)
        missing = len(x.shape) - sum(p is not None and p is not Ellipsis for p in index)
        index[at : at + 1] = [slice(None)] * missing
    return index


def _sliced(part: slice, axis: int) -> list[tuple[int, ...]]:
    """(start, end, axis, step), or nothing for the whole axis; far ends are clamped by readers."""
    if part == slice(None):
        return []
    step = 1 if part.step is None else int(part.step)
    far = np.iinfo(np.int64)
    first, last = (0, far.max) if step > 0 else (far.max, far.min)
    start = first if part.start is None else int(part.start)
    return [(start, last if part.stop is None else int(part.stop), axis, step)]


# -- reductions


def _axes(s: Step) -> list[int]:
    op: Any = s.op
    return list(range(len(s.inputs[0].shape)) if op.axes is None else op.axes)


def _sum(g: GraphWriter, s: Step) -> None:
    keep = int(s.op.keepdim)
    g.node(s, "ReduceSum", [s.inputs[0], g.ints(s, "axes", _axes(s))], keepdims=keep)


def _reduced(kind: str, of_maps: str) -> Writer:
    """Mean and maximum; over whole maps they are the operator of global pooling."""

    def write(g: GraphWriter, s: Step) -> None:
        keep = s.op.keepdim
        if _axes(s) == [2, 3] and len(s.inputs[0].shape) == 4:
            y = g.node(s, of_maps, [s.inputs[0]], last=keep)
            if not keep:
                g.node(s, "Flatten", [y], axis=1)
        else:
            g.node(s, kind, [s.inputs[0]], axes=_axes(s), keepdims=int(keep))

    return write


WRITERS: dict[type[Op], Writer] = {
    arithmetic.Add: _plain("Add"),
    arithmetic.Subtract: _plain("Sub"),
    arithmetic.Multiply: _plain("Mul"),
    arithmetic.Divide: _plain("Div"),
    arithmetic.Power: _power,
    arithmetic.Exp: _plain("Exp"),
    arithmetic.Log: _plain("Log"),
    arithmetic.Matmul: _plain("MatMul"),
    activation.Relu: _plain("Relu"),
    activation.LeakyRelu: _leaky_relu,
    activation.Sigmoid: _plain("Sigmoid"),
    activation.Tanh: _plain("Tanh"),
    activation.Softmax: _along_axis("Softmax"),
    activation.LogSoftmax: _along_axis("LogSoftmax"),
    convolution.Conv2d: _conv2d,
    convolution.Conv2dRelu: _conv2d_relu,
    convolution.Conv2dBatchNorm: _conv2d_batch_norm,
    Linear: _linear,
    normalization.BatchNorm: _batch_norm,
    normalization.BatchNormAddRelu: _batch_norm_add_relu,
    normalization.LocalResponseNorm: _local_response_norm,
    pooling.MaxPool2d: onnx_pools.max_pool2d,
    pooling.MinPool2d: onnx_pools.min_pool2d,
    pooling.WeightedPool2d: onnx_pools.weighted_pool2d,
    pooling.L2Pool2d: onnx_pools.l2_pool2d,
    pooling.AdaptiveAvgPool2d: onnx_pools.adaptive_avg_pool2d,
    pooling.AdaptiveMaxPool2d: onnx_pools.adaptive_max_pool2d,
    shape.Reshape: _reshape,
    shape.Permute: _permute,
    shape.Getitem: _getitem,
    shape.Concat: _along_axis("Concat"),
    shape.Pad: _pad,
    reduction.Sum: _sum,
    reduction.Mean: _reduced("ReduceMean", "GlobalAveragePool"),
    reduction.Max: _reduced("ReduceMax", "GlobalMaxPool"),
}
