"""What is written on the boxes of a diagram: one line for the layer, one for what goes with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minicnn import nn
from minicnn.plot.structure import LIGHT, Layer, Parallel, Unit
from minicnn.plot.trace import Node

_POOLS: dict[str, str] = {
    "AvgPool2d": "mean pool", "MaxPool2d": "max pool", "MinPool2d": "min pool",
    "L2Pool2d": "L2 pool", "DistanceWeightedPool2d": "weighted pool", "Subsampling": "sum pool",
}  # fmt: skip
_WORDS = {
    "ScaledTanh": "scaled tanh", "Subsample": "every 2nd pixel", "ZeroChannels": "zero channels",
    "StochasticDepth": "drop block", "ZeroPad2d": "pad",
}  # fmt: skip


def span(numbers: Iterable[int]) -> str:
    """Equal numbers once, others from the least to the greatest.

    >>> span([64, 64]), span([96, 208, 128])
    ('64', '96–208')
    """
    low, high = min(found := list(numbers)), max(found)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def size(shape: Sequence[int]) -> str:
    """A shape as it is read: "64 × 56 × 56", "1,000 values".

    >>> size((64, 56, 56)), size((1000,))
    ('64 × 56 × 56', '1,000 values')
    """
    return " × ".join(f"{n:,}" for n in shape) + (" values" if len(shape) == 1 else "")


def short(number: int) -> str:
    """A large number in a few signs.

    >>> short(25_557_032), short(4_089_184_256), short(448)
    ('25.6 M', '4.09 G', '448')
    """
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)


def layer_label(layers: Sequence[Layer]) -> tuple[str, str]:
    """The two lines of one layer as it is in all repeats of a block, the first repeat first."""
    cores = [layer.core for layer in layers if layer.core is not None]
    before, behind = _words(layers[-1].before), _words(layers[-1].behind)
    if not cores:
        return " · ".join(before or behind) or "identity", ""
    front = f"{' · '.join(before)} →" if before else ""
    back = f"→ {' · '.join(behind)}" if behind else ""
    extra = _extra(cores)
    if front and back and not extra:
        extra = "layer"
    return _core(cores), "  ".join(filter(None, (front, extra, back)))


def join_label(parallels: Sequence[Parallel]) -> str:
    """The words on the place where branches meet."""
    joins = [parallel.join for parallel in parallels if parallel.join is not None]
    if not joins:
        return ""
    kind = joins[0].kind
    text = f"concat {span(join.shape[0] for join in joins)}" if kind == "concat" else kind
    if kind == "mean of maps":
        text = f"mean of {len(joins[0].inputs)}"
    return " · ".join([text, *_words(parallels[-1].behind)])


def unit_label(unit: Unit) -> str:
    """The heading of a block: "Bottleneck × 3"."""
    times = len(unit.repeats)
    return f"{unit.name} × {times}" if times > 1 else unit.name


def unit_paths(unit: Unit) -> str:
    """Where the blocks are in the model: "layer1.0 … 2"."""
    first, last = unit.paths[0], unit.paths[-1]
    if first == last:
        return first
    return f"{first} … {last.rpartition('.')[2]}"


def kind(layer: Layer) -> str:
    """What sort of layer, for the colour: conv, pool, fc or other."""
    core = layer.core
    if core is None:
        return "other"
    weight = getattr(core.layer, "weight", None)
    if core.kind == "conv2d":
        return "conv"
    if core.kind == "linear" or (weight is not None and weight.ndim == 2):
        return "fc"
    return "pool" if _is_pool(core) else "other"


def _is_pool(core: Node) -> bool:
    return "pool" in core.kind or core.kind in ("mean", "max") or (
        type(core.layer).__name__ in _POOLS
    )  # fmt: skip


def _core(cores: Sequence[Node]) -> str:
    layer = cores[-1].layer
    name = type(layer).__name__
    channels = span(core.shape[0] for core in cores)
    if cores[-1].kind == "conv2d":
        return f"{_window(cores)} conv, {channels}{_stride(cores)}"
    if cores[-1].kind == "linear":
        return f"fully connected, {channels}"
    if isinstance(layer, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
        what = "max" if isinstance(layer, nn.AdaptiveMaxPool2d) else "mean"
        return f"{what} pool to {'×'.join(map(str, cores[-1].shape[1:]))}"
    if isinstance(layer, nn.GlobalAvgPool2d):
        return "global mean pool"
    if name in _POOLS:
        return f"{_window(cores)} {_POOLS[name]}{_stride(cores)}"
    return f"{_WORDS.get(name, name if layer is not None else cores[-1].kind)}, {channels}"


def _window(cores: Sequence[Node]) -> str:
    kernel = getattr(cores[-1].layer, "kernel_size", None)
    return "×".join(map(str, _pair(kernel))) if kernel else ""


def _stride(cores: Sequence[Node]) -> str:
    strides = [max(_pair(getattr(core.layer, "stride", 1))) for core in cores]
    return f" /{strides[0]}" if len(set(strides)) == 1 and strides[0] > 1 else ""


def _extra(cores: Sequence[Node]) -> str:
    """Groups, and the stride where only the first of the repeats has one."""
    groups = getattr(cores[-1].layer, "groups", 1)
    strides = [max(_pair(getattr(core.layer, "stride", 1))) for core in cores]
    words = [f"{groups} groups"] if groups > 1 else []
    if len(set(strides)) > 1:
        words.append(f"first /{max(strides)}")
    return " · ".join(words)


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    assert isinstance(value, tuple), value
    return value[0], value[1]


def _words(nodes: Iterable[Node]) -> list[str]:
    """What light operations are called, and the dropout behind them."""
    words = []
    for node in nodes:
        name = type(node.layer).__name__
        word = _WORDS.get(name) or LIGHT[node.kind]
        words.append(word or ("× p" if node.kind == "multiply" else node.kind))
        words += [f"dropout {mark.p:g}" for mark in node.marks if isinstance(mark, nn.Dropout)]
    return words
