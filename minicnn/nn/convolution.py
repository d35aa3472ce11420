"""The convolution layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import minicnn.functional as F
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.nn import init
from minicnn.nn._settings import checked_padding, positive_int, settings
from minicnn.nn.module import Module
from minicnn.nn.parameter import Parameter
from minicnn_kernels.geometry import IntPair, Padding, pair
from minicnn_kernels.shapes import blank


class Conv2d(Module):
    """Convolve maps with trained filters: see `minicnn.functional.conv2d`.

    in_channels, out_channels : channels of the input, and number of filters
    kernel_size, stride, dilation : a number, or (height, width)
    padding : a number, a pair, "valid" (none) or "same" (as large as the input; stride 1 only)
    groups : independent parts into which channels and filters are split; must divide both
    bias : whether a trained number is added to each output map

    Parameters: ``weight`` (out_channels, in_channels / groups, KH, KW) and ``bias``
    (out_channels,), both drawn from U(-b, b) with b = 1 / sqrt(fan_in), PyTorch's default:
    `init.kaiming_uniform_` with a = sqrt(5). Raises `ArgumentError`, `ShapeError`.

    >>> layer = Conv2d(1, 6, kernel_size=5, padding=2)
    >>> layer
    Conv2d(1, 6, kernel_size=5, padding=2)
    >>> layer.weight.shape
    (6, 1, 5, 5)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: Padding = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = positive_int(in_channels, "in_channels", "Conv2d")
        self.out_channels = positive_int(out_channels, "out_channels", "Conv2d")
        self.kernel_size = pair(kernel_size, "kernel_size", "Conv2d")
        self.stride = pair(stride, "stride", "Conv2d")
        self.padding = checked_padding(padding, self.stride, "Conv2d")
        self.dilation = pair(dilation, "dilation", "Conv2d")
        self.groups = positive_int(groups, "groups", "Conv2d")
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ArgumentError(
                    f"Conv2d: {name}={getattr(self, name)} is not divisible by "
                    f"groups={self.groups}; the groups split the channels into equal parts."
                )
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(blank(shape, np.float32))
        self.register_parameter(
            "bias", Parameter(blank((self.out_channels,), np.float32)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        init.bias_uniform_(self.bias, self.weight)

    def forward(self, x: Tensor, relu: bool = False, norm: Any = None) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, OH, OW).

        ``relu`` ends with max(y, 0), and before that the `BatchNorm2d` ``norm`` in evaluation works
        where given: see `minicnn.nn.fusion`.
        """
        geometry = self.stride, self.padding, self.dilation, self.groups
        if norm is not None:
            statistics = norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps
            return F.conv2d_batch_norm(x, self.weight, self.bias, *statistics, *geometry, relu)
        function = F.conv2d_relu if relu else F.conv2d
        return function(x, self.weight, self.bias, *geometry)

    def extra_repr(self) -> str:
        """Settings that differ from the defaults."""
        required = ("in_channels", "out_channels", "kernel_size=")
        return settings(self, *required, stride=1, padding=0, dilation=1, groups=1, bias=True)
