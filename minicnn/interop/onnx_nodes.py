"""What each ONNX operator becomes: one function an operator, in the table `READERS`.

A function takes the `Builder` and a `Node` and adds a layer or a function. What a layer of
`minicnn.nn` does as a whole becomes that layer, so that the network prints, trains and is measured
like one written by hand. `Unsupported` says why a node cannot be read; the caller lists them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from minicnn import functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.interop import onnx_windows
from minicnn.interop.onnx_build import Builder, Node, Unsupported

Reader = Callable[[Builder, Node], None]


# -- layers with weights


def _gemm(b: Builder, n: Node) -> None:
    plain = (
        n.real("alpha", 1.0) == 1.0 and n.real("beta", 1.0) == 1.0 and not n.integer("transA", 0)
    )
    weight = b.constant(n.input(1), "weight")
    if not plain or weight.ndim != 2 or len(b.shape(n.input(0))) != 2:
        raise Unsupported("it is no plain x @ W + b")
    _linear(b, n, n.input(1), n.input(2), transposed=not n.integer("transB", 0))


def _matmul(b: Builder, n: Node) -> None:
    if n.input(1) in b.constants and b.constants[n.input(1)].ndim == 2 and n.input(0) in b.tensors:
        _linear(b, n, n.input(1), "", transposed=True)
    else:
        b.add_function(n, F.matmul, n.inputs[:2])


def _linear(b: Builder, n: Node, weight: str, bias: str, transposed: bool) -> None:
    shape = b.constant(weight, "weight").shape
    K, out = shape if transposed else shape[::-1]
    if bias and b.constant(bias, "bias").shape != (out,):
        raise Unsupported(f"its bias is {b.constants[bias].shape}, not ({out},)")

    def make() -> nn.Module:
        with nn.without_weights():
            layer = nn.Linear(K, out, bias=bool(bias))
        layer.weight = b.parameter(weight, transposed)
        if bias:
            layer.bias = b.parameter(bias)
        return layer

    b.add_layer(n, make, n.input(0), (weight, bias))


def _batch_normalization(b: Builder, n: Node) -> None:
    if n.integer("training_mode", 0) or any(n.outputs[1:]):
        raise Unsupported("it is in training mode")
    arrays = [b.constant(name, "statistic") for name in n.inputs[1:5]]
    shape = b.shape(n.input(0))
    if len(arrays) != 4 or len(shape) < 2 or any(a.shape != shape[1:2] for a in arrays):
        raise Unsupported(f"its x is {shape}, and its arrays {[a.shape for a in arrays]!s:.60}")
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d

    def make() -> nn.Module:
        layer = kind(shape[1], n.real("epsilon", 1e-5), 1 - n.real("momentum", 0.9))
        layer.weight, layer.bias = b.parameter(n.input(1)), b.parameter(n.input(2))
        layer.running_mean, layer.running_var = arrays[2], arrays[3]
        return layer

    b.add_layer(n, make, n.input(0), tuple(n.inputs[1:5]))


# -- element by element


def _layer(make: Callable[[], nn.Module]) -> Reader:
    """A layer without settings."""
    return lambda b, n: b.add_layer(n, make, n.input(0))


def _function(function: Callable[..., Tensor]) -> Reader:
    """A function of one value."""
    return lambda b, n: b.add_function(n, function, n.inputs[:1])


def _leaky_relu(b: Builder, n: Node) -> None:
    b.add_layer(n, partial(nn.LeakyReLU, n.real("alpha", 0.01)), n.input(0))


def _lrn(b: Builder, n: Node) -> None:
    size = n.integer("size", 0)
    if size % 2 == 0:
        raise Unsupported(f"its size is {size}; windows of an odd number of channels are")
    settings = (n.real("alpha", 1e-4), n.real("beta", 0.75), n.real("bias", 1.0))
    b.add_layer(n, partial(nn.LocalResponseNorm, size, *settings), n.input(0))


def _dropout(b: Builder, n: Node) -> None:
    ratio = b.number(n.input(1), "ratio") if n.input(1) else n.real("ratio", 0.5)
    if any(n.outputs[1:]):
        raise Unsupported("its mask is read")
    b.add_layer(n, partial(nn.Dropout, ratio), n.input(0))


def _along_axis(kind: Callable[[int], nn.Module]) -> Reader:
    """Softmax and its logarithm; before opset 13 they merged the axes from theirs on."""

    def read(b: Builder, n: Node) -> None:
        ndim = len(b.shape(n.input(0)))
        axis = n.integer("axis", -1 if b.opset >= 13 else 1)
        if b.opset < 13 and axis % max(ndim, 1) != ndim - 1:
            raise Unsupported(f"before opset 13, along axis {axis} of {ndim}")
        b.add_layer(n, partial(kind, axis), n.input(0))

    return read


def _clip(b: Builder, n: Node) -> None:
    if b.opset < 11:
        low, high = n.real("min", -math.inf), n.real("max", math.inf)
    else:
        low = b.number(n.input(1), "minimum") if n.input(1) else -math.inf
        high = b.number(n.input(2), "maximum") if n.input(2) else math.inf
    if not math.isfinite(low) or not low <= high:
        raise Unsupported(f"it clips to {low:g} ... {high:g}")
    if (low, high) == (0.0, math.inf):
        b.add_layer(n, nn.ReLU, n.input(0))
    else:
        b.add_function(n, _clipped, n.inputs[:1], low=low, high=high)


def _clipped(x: Tensor, low: float, high: float) -> Tensor:
    """The part of x above ``low``, less its part above ``high``."""
    above = F.relu(x - low)
    return low + (above if math.isinf(high) else above - F.relu(x - high))


def _arithmetic(function: Callable[..., Tensor]) -> Reader:
    """Two values with broadcasting; a constant of one number is a number."""

    def read(b: Builder, n: Node) -> None:
        number: dict[str, Any] = {}
        names = n.inputs[:2]
        for side, name in zip(("left", "right"), names, strict=False):
            array = b.constants.get(name)
            if array is not None and array.size == 1:
                number = {side: array.item()}
        if len(number) == 1 and names[0 if "right" in number else 1] in b.tensors:
            value = names[0 if "right" in number else 1]
            b.add_function(n, _with_number, [value], operation=function, **number)
        elif any(name in b.tensors for name in names):
            b.add_function(n, function, names)
        else:
            raise Unsupported("it computes with constants alone")

    return read


def _with_number(
    x: Tensor, operation: Callable[..., Tensor], left: Any = None, right: Any = None
) -> Tensor:
    return operation(x, right) if left is None else operation(left, x)


def _power(b: Builder, n: Node) -> None:
    b.add_function(n, F.pow, n.inputs[:1], exponent=b.number(n.input(1), "exponent"))


# -- shapes


def _identity(b: Builder, n: Node) -> None:
    """Of a constant it is that constant under another name, which PyTorch writes for equal ones."""
    if n.input(0) in b.constants:
        b.constants[n.outputs[0]] = b.constants[n.input(0)]
        b.trained.update({n.outputs[0]} if n.input(0) in b.trained else ())
    else:
        b.add_layer(n, nn.Identity, n.input(0))


def _flatten(b: Builder, n: Node) -> None:
    axis = n.integer("axis", 1)
    if axis != 1 or len(b.shape(n.input(0))) < 2:
        raise Unsupported(f"axis {axis} of {b.shape(n.input(0))}; axis 1 is")
    b.add_layer(n, nn.Flatten, n.input(0))


def _reshape(b: Builder, n: Node) -> None:
    """To numbers that are stored; the batch stays what it is, whatever the file says it is."""
    shape = b.shape(n.input(0))
    target = b.ints(n.input(1), "shape")
    empty = 0 in target and n.integer("allowzero", 0)
    if empty or len(target) > 8 or any(t < -1 for t in target):
        raise Unsupported(f"its shape is {target}")
    lengths = [shape[i] if t == 0 and i < len(shape) else t for i, t in enumerate(target)]
    size = math.prod(shape)
    if -1 in lengths:
        known = math.prod(t for t in lengths if t != -1)
        lengths = [size // max(known, 1) if t == -1 else t for t in lengths]
    if math.prod(lengths) != size or not lengths:
        raise Unsupported(f"{shape} does not fit {target}")
    if lengths == [b.batch, size // max(b.batch, 1)] and shape[0] == b.batch:
        b.add_layer(n, nn.Flatten, n.input(0))
        return
    _to_shape(b, n, lengths)


def _to_shape(b: Builder, n: Node, lengths: list[int]) -> None:
    if b.shape(n.input(0))[:1] != (b.batch,) or lengths[:1] != [b.batch]:
        raise Unsupported(f"{b.shape(n.input(0))} to {lengths} does not keep the batch")
    b.add_function(n, _reshaped, n.inputs[:1], shape=(-1, *lengths[1:]))


def _reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return F.reshape(x, shape)


def _axes(b: Builder, n: Node, as_input_since: int) -> list[int]:
    """Axes, an attribute at first and an input later; without the batch, from 0 up."""
    if b.opset >= as_input_since:
        axes = b.ints(n.input(1), "axes") if n.input(1) else None
    else:
        axes = n.integers("axes")
    ndim = len(b.shape(n.input(0)))
    if axes is None or not axes or any(not -16 <= a < 16 for a in axes):
        raise Unsupported(f"its axes are {axes}")
    return sorted({a % ndim if ndim else a for a in axes})


def _squeeze(b: Builder, n: Node) -> None:
    axes, shape = _axes(b, n, 13), b.shape(n.input(0))
    if any(a >= len(shape) or shape[a] != 1 for a in axes):
        raise Unsupported(f"axes {axes} of {shape}")
    _to_shape(b, n, [m for a, m in enumerate(shape) if a not in axes])


def _unsqueeze(b: Builder, n: Node) -> None:
    axes = b.ints(n.input(1), "axes") if b.opset >= 13 else n.integers("axes", [])
    lengths = list(b.shape(n.input(0)))
    ndim = len(lengths) + len(axes or ())
    if ndim > 8 or any(not -ndim <= a < ndim for a in axes or ()):
        raise Unsupported(f"axes {axes!s:.40} of {lengths}")
    for axis in sorted(a % ndim for a in axes or ()):
        lengths.insert(axis, 1)
    _to_shape(b, n, lengths)


def _transpose(b: Builder, n: Node) -> None:
    ndim = len(b.shape(n.input(0)))
    perm = n.integers("perm", list(range(ndim))[::-1]) or []
    b.add_function(n, _permuted, n.inputs[:1], dims=tuple(perm))


def _permuted(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return F.permute(x, *dims)


def _concat(b: Builder, n: Node) -> None:
    b.add_function(n, _concatenated, n.inputs, axis=n.integer("axis", 1))


def _concatenated(*tensors: Tensor, axis: int) -> Tensor:
    return F.cat(tensors, axis)


def _slice(b: Builder, n: Node) -> None:
    if b.opset < 10:
        starts, ends, axes = (n.integers(name, []) for name in ("starts", "ends", "axes"))
        steps: list[int] | None = None
    else:
        starts, ends = b.ints(n.input(1), "starts"), b.ints(n.input(2), "ends")
        axes = b.ints(n.input(3), "axes") if n.input(3) else []
        steps = b.ints(n.input(4), "steps") if n.input(4) else None
    starts, ends = starts or [], ends or []
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    ndim = len(b.shape(n.input(0)))
    index = [slice(None)] * ndim
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Unsupported("its starts, ends, axes and steps are not as many, or a step is 0")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -ndim <= axis < ndim:
            raise Unsupported(f"axis {axis} of {ndim}")
        over = step < 0 and end <= -b.shape(n.input(0))[axis] - 1  # beyond the first cell
        index[axis] = slice(start, None if over else end, step)
    b.add_function(n, F.getitem, n.inputs[:1], index=tuple(index))


# -- reductions


def _reduced(function: Callable[..., Tensor], layer: Any, as_input_since: int) -> Reader:
    """A sum, mean or maximum over axes; the mean of whole maps is a layer."""

    def read(b: Builder, n: Node) -> None:
        axes, keep = _axes(b, n, as_input_since), bool(n.integer("keepdims", 1))
        if 0 in axes:
            raise Unsupported("it mixes the images of a batch")
        if layer is not None and axes == [2, 3] and len(b.shape(n.input(0))) == 4:
            b.add_layer(n, partial(nn.AdaptiveAvgPool2d, 1) if keep else layer, n.input(0))
        else:
            b.add_function(n, function, n.inputs[:1], dim=tuple(axes), keepdim=keep)

    return read


READERS: dict[str, Reader] = {
    "Add": _arithmetic(F.add),
    "AveragePool": onnx_windows.average_pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": onnx_windows.conv,
    "Div": _arithmetic(F.div),
    "Dropout": _dropout,
    "Exp": _function(F.exp),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _layer(partial(nn.AdaptiveAvgPool2d, 1)),
    "GlobalMaxPool": _layer(partial(nn.AdaptiveMaxPool2d, 1)),
    "Identity": _identity,
    "LRN": _lrn,
    "LeakyRelu": _leaky_relu,
    "Log": _function(F.log),
    "LogSoftmax": _along_axis(nn.LogSoftmax),
    "MatMul": _matmul,
    "MaxPool": onnx_windows.max_pool,
    "Mul": _arithmetic(F.mul),
    "Neg": _function(F.neg),
    "Pad": onnx_windows.pad,
    "Pow": _power,
    "ReduceMax": _reduced(F.amax, None, 18),
    "ReduceMean": _reduced(F.mean, nn.GlobalAvgPool2d, 18),
    "ReduceSum": _reduced(F.sum, None, 13),
    "Relu": _layer(nn.ReLU),
    "Reshape": _reshape,
    "Sigmoid": _layer(nn.Sigmoid),
    "Slice": _slice,
    "Softmax": _along_axis(nn.Softmax),
    "Sqrt": _function(F.sqrt),
    "Squeeze": _squeeze,
    "Sub": _arithmetic(F.sub),
    "Tanh": _layer(nn.Tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
