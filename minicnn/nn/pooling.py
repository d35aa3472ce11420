"""Pooling layers; the functions of the same names define what they compute."""

from __future__ import annotations

from typing import Any

import minicnn.functional as F
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.nn._settings import checked_padding, settings
from minicnn.nn.module import Module
from minicnn_kernels.geometry import IntPair, Padding, pair


class _Pool2d(Module):
    """What pooling layers with a sliding window share: its checked settings."""

    def __init__(
        self, kernel_size: IntPair, stride: IntPair | None, padding: Padding, ceil_mode: bool
    ) -> None:
        super().__init__()
        caller = type(self).__name__
        self.kernel_size = pair(kernel_size, "kernel_size", caller)
        self.stride = self.kernel_size if stride is None else pair(stride, "stride", caller)
        self.padding = checked_padding(padding, self.stride, caller)
        self.ceil_mode = bool(ceil_mode)

    def extra_repr(self) -> str:
        """Settings that differ from the defaults."""
        stride = self.kernel_size[0] if len({*self.kernel_size}) == 1 else self.kernel_size
        return settings(
            self, "kernel_size=", stride=stride, padding=0, ceil_mode=False, **self._more_defaults()
        )

    def _more_defaults(self) -> dict[str, Any]:
        return {}


class _ExtremePool2d(_Pool2d):
    """The settings of max and min pooling, which may be dilated."""

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: Padding = 0,
        dilation: IntPair = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation = pair(dilation, "dilation", type(self).__name__)

    @property
    def window(self) -> tuple[IntPair, IntPair, Padding, IntPair, bool]:
        """The settings in the order of `functional.max_pool2d`."""
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode

    def _more_defaults(self) -> dict[str, Any]:
        return {"dilation": 1}


class MaxPool2d(_ExtremePool2d):
    """Take the largest value of each window: see `minicnn.functional.max_pool2d`.

    ``ceil_mode`` is given by name: PyTorch has another argument in its place.

    >>> MaxPool2d(3, stride=2)
    MaxPool2d(kernel_size=3, stride=2)
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, OH, OW)."""
        return F.max_pool2d(x, *self.window)


class MinPool2d(_ExtremePool2d):
    """Take the smallest value of each window: see `minicnn.functional.min_pool2d`.

    >>> MinPool2d(2)(Tensor([[[[5.0, 1.0], [8.0, 2.0]]]])).item()
    1.0
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, OH, OW)."""
        return F.min_pool2d(x, *self.window)


class AvgPool2d(_Pool2d):
    """Take the mean of each window: see `minicnn.functional.avg_pool2d`.

    >>> AvgPool2d(2)(Tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).item()
    2.5
    """

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, OH, OW)."""
        return F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def _more_defaults(self) -> dict[str, Any]:
        return {"count_include_pad": True}


class L2Pool2d(_Pool2d):
    """Take the Euclidean norm of each window: see `minicnn.functional.l2_pool2d`.

    >>> L2Pool2d(2)(Tensor([[[[3.0, 0.0], [0.0, 4.0]]]])).item()
    5.0
    """

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, OH, OW)."""
        return F.l2_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode)


class DistanceWeightedPool2d(_Pool2d):
    """Take a mean that favours the centre: see `minicnn.functional.distance_weighted_pool2d`.

    >>> DistanceWeightedPool2d(3, stride=2, falloff="gaussian")
    DistanceWeightedPool2d(kernel_size=3, stride=2, falloff='gaussian')
    """

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
        falloff: str = "inverse",
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        if falloff not in ("inverse", "gaussian"):
            raise ArgumentError(
                f"DistanceWeightedPool2d: falloff is {falloff!r}; use 'inverse' or 'gaussian'."
            )
        self.count_include_pad = bool(count_include_pad)
        self.falloff = falloff

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, OH, OW)."""
        return F.distance_weighted_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.falloff,
        )

    def _more_defaults(self) -> dict[str, Any]:
        return {"count_include_pad": False, "falloff": "inverse"}


class _AdaptivePool2d(Module):
    def __init__(self, output_size: IntPair) -> None:
        super().__init__()
        self.output_size = pair(output_size, "output_size", type(self).__name__)

    def extra_repr(self) -> str:
        """The size of the output."""
        return settings(self, "output_size=")


class AdaptiveAvgPool2d(_AdaptivePool2d):
    """Take means so that the map has ``output_size``, whatever the input has.

    See `minicnn.functional.adaptive_avg_pool2d`.

    >>> AdaptiveAvgPool2d((1, 1))(Tensor([[[[1.0, 2.0, 6.0]]]])).item()
    3.0
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, *output_size)."""
        return F.adaptive_avg_pool2d(x, self.output_size)


class AdaptiveMaxPool2d(_AdaptivePool2d):
    """Take the largest values so that the map has ``output_size``, whatever the input has.

    See `minicnn.functional.adaptive_max_pool2d`.

    >>> AdaptiveMaxPool2d(1)(Tensor([[[[1.0, 2.0, 6.0]]]])).item()
    6.0
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, *output_size)."""
        return F.adaptive_max_pool2d(x, self.output_size)


class GlobalAvgPool2d(Module):
    """Take the mean of every map: (N, C, H, W) -> (N, C).

    >>> GlobalAvgPool2d()(Tensor([[[[1.0, 2.0], [3.0, 6.0]]]])).array
    array([[3.]], dtype=float32)
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C)."""
        return F.global_avg_pool2d(x)
