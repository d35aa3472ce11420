"""Pooling: max, min, average, L2 norm, distance-weighted; adaptive and global."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from minicnn.autograd import Op, Tensor, apply
from minicnn.errors import ArgumentError, ShapeError
from minicnn.functional._checks import check_map
from minicnn.functional.reduction import mean
from minicnn_kernels.geometry import IntPair, Padding, Window2d, check_pool_padding, pair
from minicnn_kernels.reference import Array, Kernels


class MaxPool2d(Op):
    """Largest value of each window."""

    def __init__(self, window: Window2d) -> None:
        self.window = window

    def forward(self, k: Kernels, x: Array) -> Array:
        """The winning tap of each window is saved, one byte for windows up to 256 cells."""
        y, tap = k.max_pool2d(x, self.window)
        self.save(tap)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gy goes to the winners, added up where windows overlap."""
        (tap,) = self.saved
        return k.max_pool2d_grad(gy, tap, self.window)


class MinPool2d(MaxPool2d):
    """Smallest value of each window."""

    def forward(self, k: Kernels, x: Array) -> Array:
        """The winning tap of each window is saved."""
        y, tap = k.min_pool2d(x, self.window)
        self.save(tap)
        return y


class WeightedPool2d(Op):
    """Weighted sum of each window: average and distance-weighted pooling."""

    def __init__(self, window: Window2d, taps: np.ndarray, scale: np.ndarray) -> None:
        self.window = window
        self.taps = taps
        self.scale = scale

    def forward(self, k: Kernels, x: Array) -> Array:
        """Nothing is saved."""
        return k.weighted_pool2d(x, self.taps, self.scale, self.window)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gy, scaled and weighted, back to each cell of the window."""
        return k.weighted_pool2d_grad(gy, self.taps, self.scale, self.window)


class L2Pool2d(Op):
    """Square root of the sum of squares of each window."""

    def __init__(self, window: Window2d) -> None:
        self.window = window
        self.taps = np.ones((window.kh, window.kw))
        self.scale = np.ones((window.oh, window.ow))

    def forward(self, k: Kernels, x: Array) -> Array:
        """x and y are saved."""
        y = k.power(k.weighted_pool2d(k.multiply(x, x), self.taps, self.scale, self.window), 0.5)
        self.save(x, y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = x * sum over the windows that hold it of gy / y; 0 for windows of zeros."""
        x, y = self.saved
        ratio = k.divide(gy, k.xp.where(y == 0, 1, y)) * (y != 0)
        return k.multiply(x, k.weighted_pool2d_grad(ratio, self.taps, self.scale, self.window))


class AdaptiveAvgPool2d(Op):
    """Mean over bins of nearly equal size."""

    def __init__(self, output_size: tuple[int, int]) -> None:
        self.output_size = output_size

    def forward(self, k: Kernels, x: Array) -> Array:
        """The size of the map is kept."""
        self.size = x.shape[2:]
        return k.adaptive_avg_pool2d(x, self.output_size)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gy / cells, back to each cell of the bin."""
        return k.adaptive_avg_pool2d_grad(gy, self.size)


class AdaptiveMaxPool2d(Op):
    """Largest value of bins of nearly equal size."""

    def __init__(self, output_size: tuple[int, int]) -> None:
        self.output_size = output_size

    def forward(self, k: Kernels, x: Array) -> Array:
        """The position of each winner is saved."""
        self.size = x.shape[2:]
        y, position = k.adaptive_max_pool2d(x, self.output_size)
        self.save(position)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gy goes to the winners."""
        (position,) = self.saved
        return k.adaptive_max_pool2d_grad(gy, position, self.size)


def max_pool2d(
    x: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Take the largest value of each window. Padding counts as -inf, a NaN as the largest.

    x : Tensor (N, C, H, W)
    stride : step of the window, ``kernel_size`` if None; a smaller one makes windows overlap
    ceil_mode : round the output size up, letting the last window hang over the edge

    Returns a Tensor (N, C, OH, OW); sizes as in `conv2d`. The first of equal values gets the whole
    gradient. Saved for backward: one byte per output. Raises `ShapeError`.

    >>> x = Tensor([[[[5.0, 1, 3, 4], [8, 2, 9, 2], [1, 3, 0, 1], [2, 2, 2, 0]]]])
    >>> max_pool2d(x, 2).array[0, 0]
    array([[8., 9.],
           [3., 2.]], dtype=float32)
    """
    window = pool_window(x, kernel_size, stride, padding, dilation, ceil_mode, "max_pool2d")
    return apply(MaxPool2d(window), x)


def min_pool2d(
    x: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Take the smallest value of each window; padding counts as +inf. See `max_pool2d`.

    >>> min_pool2d(Tensor([[[[5.0, 1.0], [8.0, 2.0]]]]), 2).item()
    1.0
    """
    window = pool_window(x, kernel_size, stride, padding, dilation, ceil_mode, "min_pool2d")
    return apply(MinPool2d(window), x)


def avg_pool2d(
    x: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Take the mean of each window.

    ``count_include_pad`` divides by all cells of the window inside the padded map (the rule of
    Caffe and PyTorch); without it, by those inside the map (TensorFlow's). Cells that hang over the
    edge with ``ceil_mode`` never count. Shapes as in `max_pool2d`; nothing is saved for backward.

    >>> avg_pool2d(Tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 2).item()
    2.5
    """
    window = pool_window(x, kernel_size, stride, padding, 1, ceil_mode, "avg_pool2d")
    scale = _mean_scale(window, None, count_include_pad)
    return apply(WeightedPool2d(window, np.ones((window.kh, window.kw)), scale), x)


def distance_weighted_pool2d(
    x: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    falloff: str = "inverse",
) -> Tensor:
    """Take a mean of each window in which cells near its centre weigh more.

    With d the distance of a cell from the centre of the window, in cells, its weight is 1 / (1 + d)
    for ``falloff="inverse"`` and exp(-d**2 / 2) for "gaussian"; the weights of the counted cells
    are scaled to sum to 1. A 2x2 window is the plain average. Counting as in `avg_pool2d`. The
    lecture notes name this pooling without a formula; the two here are this library's choice.

    >>> spot = np.zeros((1, 1, 3, 3), np.float32); spot[0, 0, 1, 1] = 1
    >>> round(distance_weighted_pool2d(Tensor(spot), 3).item(), 6)
    0.214737
    """
    window = pool_window(x, kernel_size, stride, padding, 1, ceil_mode, "distance_weighted_pool2d")
    taps = _distance_taps(window.kh, window.kw, falloff)
    scale = _mean_scale(window, falloff, count_include_pad)
    return apply(WeightedPool2d(window, taps, scale), x)


def l2_pool2d(
    x: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """Take the Euclidean norm of each window: sqrt(sum of x**2), not divided by the window's size.

    Padding counts as 0. The gradient of a window of zeros is 0. Shapes as in `max_pool2d`.

    >>> l2_pool2d(Tensor([[[[3.0, 0.0], [0.0, 4.0]]]]), 2).item()
    5.0
    """
    window = pool_window(x, kernel_size, stride, padding, 1, ceil_mode, "l2_pool2d")
    return apply(L2Pool2d(window), x)


def adaptive_avg_pool2d(x: Tensor, output_size: IntPair) -> Tensor:
    """Take means so that the output map has ``output_size`` whatever the input's.

    Bin i of o over a length L is [floor(i*L/o), ceil((i+1)*L/o)); neighbouring bins may overlap.
    x is (N, C, H, W), the result (N, C, OH, OW). Raises `ShapeError` for an empty map.

    >>> adaptive_avg_pool2d(Tensor([[[[0.0, 1.0, 2.0, 3.0]]]]), (1, 2)).array.ravel()
    array([0.5, 2.5], dtype=float32)
    """
    return apply(AdaptiveAvgPool2d(_output_size(x, output_size, "adaptive_avg_pool2d")), x)


def adaptive_max_pool2d(x: Tensor, output_size: IntPair) -> Tensor:
    """Take the largest values so that the output map has ``output_size`` whatever the input's.

    Bins as in `adaptive_avg_pool2d`.

    >>> adaptive_max_pool2d(Tensor([[[[0.0, 1.0, 2.0, 3.0]]]]), (1, 2)).array.ravel()
    array([1., 3.], dtype=float32)
    """
    return apply(AdaptiveMaxPool2d(_output_size(x, output_size, "adaptive_max_pool2d")), x)


def global_avg_pool2d(x: Tensor) -> Tensor:
    """Take the mean of every map: (N, C, H, W) -> (N, C) (Lin et al. 2014, section 3.2).

    >>> global_avg_pool2d(Tensor([[[[1.0, 2.0], [3.0, 6.0]]]])).array
    array([[3.]], dtype=float32)
    """
    _output_size(x, 1, "global_avg_pool2d")
    return mean(x, (2, 3))


def pool_window(
    x: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    dilation: IntPair,
    ceil_mode: bool,
    caller: str,
) -> Window2d:
    """The checked window of a pooling layer on the maps of x."""
    check_map(x, caller)
    stride = kernel_size if stride is None else stride
    window = Window2d.of(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode, caller)
    return check_pool_padding(window, caller)


def _output_size(x: Tensor, output_size: IntPair, caller: str) -> tuple[int, int]:
    _, _, H, W = check_map(x, caller)
    if H < 1 or W < 1:
        raise ShapeError(
            f"{caller}: x has an empty map, shape {x.shape}; it needs a cell at least."
        )
    return pair(output_size, "output_size", caller)


@functools.lru_cache(maxsize=256)
def _distance_taps(kh: int, kw: int, falloff: str) -> np.ndarray:
    """(KH, KW) weights by distance from the centre."""
    rows = np.arange(kh) - (kh - 1) / 2
    columns = np.arange(kw) - (kw - 1) / 2
    distance = np.hypot(rows[:, None], columns[None, :])
    if falloff == "inverse":
        return 1 / (1 + distance)
    if falloff == "gaussian":
        return np.exp(-(distance**2) / 2)
    raise ArgumentError(
        f"distance_weighted_pool2d: falloff is {falloff!r}; use 'inverse' or 'gaussian'."
    )


@functools.lru_cache(maxsize=256)
def _mean_scale(window: Window2d, falloff: str | None, count_include_pad: bool) -> np.ndarray:
    """(OH, OW) factors 1 / (sum of the weights of the counted cells)."""
    KH, KW = window.kh, window.kw
    taps = np.ones((KH, KW)) if falloff is None else _distance_taps(KH, KW, falloff)
    padding = (window.ph, window.ph_end, window.pw, window.pw_end)
    top, bottom, left, right = padding if count_include_pad else (0, 0, 0, 0)
    rows = np.arange(window.oh)[:, None] * window.sh + np.arange(KH) * window.dh - window.ph
    columns = np.arange(window.ow)[:, None] * window.sw + np.arange(KW) * window.dw - window.pw
    row_counts = ((rows >= -top) & (rows < window.h + bottom)).astype(float)  # (OH, KH)
    column_counts = ((columns >= -left) & (columns < window.w + right)).astype(float)  # (OW, KW)
    total = row_counts @ taps @ column_counts.T
    return 1.0 / total
