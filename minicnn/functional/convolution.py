"""Two-dimensional convolution: strided, padded, dilated, grouped."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Op, Tensor, apply
from minicnn.errors import ArgumentError, GraphError, ShapeError
from minicnn.functional._checks import check_map, is_whole
from minicnn_kernels.geometry import IntPair, Padding, Window2d
from minicnn_kernels.reference import Array, Kernels


class Conv2d(Op):
    """Cross-correlation with a bank of filters."""

    def __init__(self, window: Window2d, groups: int) -> None:
        self.window = window
        self.groups = groups

    def forward(self, k: Kernels, x: Array, weight: Array, bias: Array | None) -> Array:
        """x is saved for the weight's gradient, the weight for x's; no columns are kept."""
        self.save(x if self.needs[1] else None, weight if self.needs[0] else None)
        return k.conv2d(x, weight, bias, self.window, self.groups)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx: gy correlated with the flipped filters; gw: x correlated with gy; gb: sum of gy."""
        x, w = self.saved
        gx = k.conv2d_grad_input(gy, w, self.window, self.groups) if self.needs[0] else None
        gw = k.conv2d_grad_weight(gy, x, self.window, self.groups) if self.needs[1] else None
        gb = k.conv2d_grad_bias(gy) if self.needs[2] else None
        return gx, gw, gb


class Conv2dRelu(Conv2d):
    """Cross-correlation followed by max(y, 0), in one pass over the result."""

    def forward(self, k: Kernels, x: Array, weight: Array, bias: Array | None) -> Array:
        """The result is saved too: it is positive where the gradient passes."""
        y = k.conv2d_affine(x, weight, None, bias, self.window, self.groups, True)
        self.save(x if self.needs[1] else None, weight if self.needs[0] else None, y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """Those of `Conv2d`, with gy where y > 0."""
        x, weight, y = self.saved
        self.saved = x, weight
        return super().backward(k, k.relu_grad(gy, y))


class Conv2dBatchNorm(Conv2d):
    """Cross-correlation, batch norm by given statistics and ReLU where asked; no gradients."""

    def __init__(
        self, window: Window2d, groups: int, statistics: tuple[Array, Array, float], relu: bool
    ) -> None:
        super().__init__(window, groups)
        self.statistics = statistics
        self.relu = relu

    def forward(
        self, k: Kernels, x: Array, weight: Array, bias: Array | None,
        norm_weight: Array | None = None, norm_bias: Array | None = None,
    ) -> Array:  # fmt: skip
        """The norm is one factor and one number to add for each filter."""
        mean, var, eps = self.statistics
        scale = (var + eps) ** -0.5
        scale = scale if norm_weight is None else scale * norm_weight
        shift = -mean * scale if bias is None else (bias - mean) * scale
        shift = shift if norm_bias is None else shift + norm_bias
        return k.conv2d_affine(x, weight, scale, shift, self.window, self.groups, self.relu)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve maps with filters (cross-correlation: the filters are not flipped).

    ::

        y[n, f, i, j] = bias[f] + sum over c, u, v of
                        weight[f, c, u, v] * x[n, g*C/G + c, i*SH - PH + u*DH, j*SW - PW + v*DW]

    with g the group of filter f, and 0 outside the map. The output map has
    ``OH = floor((H + 2*PH - DH*(KH-1) - 1) / SH) + 1`` rows, and OW columns likewise.

    x : Tensor (N, C, H, W)
    weight : Tensor (F, C / groups, KH, KW)
    bias : Tensor (F,) or None
    stride, dilation : a number, or (height, width)
    padding : a number, a pair, "valid" (none) or "same" (OH, OW = H, W; stride 1 only)
    groups : split channels and filters into this many independent parts (AlexNet's two GPUs)

    Returns a Tensor (N, F, OH, OW). Saved for backward: x and weight. Raises `ShapeError`,
    `DTypeError` where x holds integers.
    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", II.A.

    >>> x = Tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    >>> conv2d(x, Tensor([[[[1.0, 0.0], [0.0, -1.0]]]])).array
    array([[[[-4., -4.],
             [-4., -4.]]]], dtype=float32)
    """
    window = _window(x, weight, bias, stride, padding, dilation, groups)
    return apply(Conv2d(window, groups), x, weight, bias)


def conv2d_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve and rectify in one pass: ``relu(conv2d(...))``, which see for the arguments.

    `nn.Sequential` uses it for a convolution that a ReLU follows. The value before the ReLU is
    never written to memory.

    >>> x = Tensor([[[[1.0, -2.0]]]])
    >>> conv2d_relu(x, Tensor([[[[3.0]]]])).array
    array([[[[3., 0.]]]], dtype=float32)
    """
    window = _window(x, weight, bias, stride, padding, dilation, groups)
    return apply(Conv2dRelu(window, groups), x, weight, bias)


def conv2d_batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Array,
    running_var: Array,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    eps: float = 1e-5,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    relu: bool = False,
) -> Tensor:
    """Convolve and normalise by given statistics in one pass, for inference.

    ``batch_norm(conv2d(x, ...), running_mean, running_var, norm_weight, norm_bias)``, then ReLU if
    asked. The norm is a factor and a number to add for each filter, applied before the result is
    written. `nn.Sequential` uses it in evaluation where no gradients are recorded.

    Arguments as in `conv2d` and `batch_norm`. Raises `ShapeError`; where a gradient would be
    recorded `GraphError`.

    >>> x, weight = Tensor([[[[1.0, 3.0]]]]), Tensor([[[[2.0]]]])
    >>> mean, var = Tensor([4.0]).array, Tensor([0.25]).array
    >>> conv2d_batch_norm(x, weight, None, mean, var, eps=0.0).array
    array([[[[-4.,  4.]]]], dtype=float32)
    """
    window = _window(x, weight, bias, stride, padding, dilation, groups)
    shapes = [v.shape for v in (running_mean, running_var, norm_weight, norm_bias) if v is not None]
    if any(shape != weight.shape[:1] for shape in shapes):
        raise ShapeError(
            f"conv2d_batch_norm: weight has {weight.shape[0]} filters, but the statistics, weight "
            f"and bias of the norm are {', '.join(map(str, shapes))}; each must be "
            f"({weight.shape[0]},)."
        )
    op = Conv2dBatchNorm(window, groups, (running_mean, running_var, eps), relu)
    y = apply(op, x, weight, bias, norm_weight, norm_bias)
    if y.requires_grad:
        raise GraphError(
            "conv2d_batch_norm: it has no gradient; call it inside no_grad(), or conv2d and "
            "batch_norm one after the other."
        )
    return y


def _window(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: int,
) -> Window2d:
    check_map(x, "conv2d")
    _check_filters(x, weight, bias, groups)
    return Window2d.of(x.shape[2:], weight.shape[2:], stride, padding, dilation, caller="conv2d")


def _check_filters(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    if len(weight.shape) != 4:
        raise ShapeError(
            f"conv2d: weight must be (F, C/groups, KH, KW), but has shape {weight.shape}."
        )
    C, F = x.shape[1], weight.shape[0]
    if not is_whole(groups):
        raise ArgumentError(f"conv2d: groups is {groups!r}; give a whole number >= 1.")
    if groups < 1 or F % groups or C % groups:
        raise ShapeError(
            f"conv2d: groups={groups} must divide both the {C} channels of x and the {F} filters "
            "of weight."
        )
    expected = weight.shape[1] * groups
    if expected != C:
        raise ShapeError(
            f"conv2d: x has {C} channels (x is {x.shape}) but weight expects {expected} (weight is "
            f"{weight.shape}, groups={groups}). Build the layer with in_channels={C}, or pass "
            f"input of {expected} channels."
        )
    if bias is not None and bias.shape != (F,):
        raise ShapeError(
            f"conv2d: bias is {bias.shape} but weight has {F} filters; bias must be ({F},)."
        )
