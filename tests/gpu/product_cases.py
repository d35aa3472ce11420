"""Convolutions and products to be checked, and how: exactly on whole numbers.

Products and sums of small whole numbers are exact in TF32 and in float32 alike, whatever the order;
so a wrong address, bound or layout shows as a different number, and no tolerance hides it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn_kernels.geometry import IntPair, Window2d
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)
TF32_ROUNDING = 2.0**-11  # of a number with 10 mantissa bits, to nearest


@dataclass(frozen=True)
class Case:
    """A convolution: sizes of x and w, and the window."""

    what: str
    images: int
    channels: int
    filters: int
    size: tuple[int, int]
    kernel: IntPair
    stride: IntPair = 1
    padding: IntPair = 0
    dilation: IntPair = 1
    groups: int = 1

    def __str__(self) -> str:
        return self.what

    @property
    def window(self) -> Window2d:
        return Window2d.of(self.size, self.kernel, self.stride, self.padding, self.dilation)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        s = self.window
        return {
            "x": (self.images, self.channels, s.h, s.w),
            "w": (self.filters, self.channels // self.groups, s.kh, s.kw),
            "gy": (self.images, self.filters, s.oh, s.ow),
            "b": (self.filters,),
            "scale": (self.filters,),
        }

    def draw(self, whole: bool = True) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(len(self.what))
        return {
            name: rng.integers(-4, 5, shape).astype(np.float32)
            if whole
            else rng.standard_normal(shape).astype(np.float32)
            for name, shape in self.shapes().items()
        }


PLAIN = Case("3x3, off every edge", 3, 3, 5, (7, 6), 3, 1, 1)
POINTWISE = Case("1x1, maps of four", 2, 8, 5, (4, 4), 1)
STRIDED = Case("asymmetric, stride 2, groups", 2, 4, 6, (9, 8), (3, 2), 2, 1, 1, 2)
DEPTHWISE = Case("depthwise", 2, 4, 4, (6, 6), 3, 1, 1, 1, 4)
CASES = (
    PLAIN,
    POINTWISE,
    STRIDED,
    DEPTHWISE,
    Case("5x5, stride 3, dilation 2", 2, 2, 3, (8, 8), 5, 3, 2, 2),
    Case("one of everything", 1, 1, 1, (5, 5), 1),
    Case("1x1, odd maps", 3, 8, 5, (3, 3), 1),
    Case("1x1, stride 2, groups", 2, 4, 8, (5, 5), 1, 2, 0, 1, 2),
    Case("7x7, stride 2", 2, 3, 4, (15, 15), 7, 2, 3),
    Case("more padding than needed", 2, 1, 6, (7, 7), 5, 1, 4),
    Case("stride beyond the kernel", 2, 2, 2, (6, 6), 2, 3),
    Case("stride beyond the map", 2, 2, 2, (2, 3), 2, (5, 4)),
    Case("one filter, rows and columns unlike", 2, 3, 1, (6, 9), (1, 3), (1, 2), (0, 1), (1, 2)),
    Case("a kernel of more than 15", 1, 1, 2, (20, 18), 17, 1, 3),
    Case("a large kernel with stride", 2, 1, 2, (9, 40), (2, 18), (2, 3), (1, 9)),
    Case("depthwise, stride 2, two each", 2, 3, 6, (7, 7), 3, 2, 1, 1, 3),
    Case("depthwise, dilation 2", 2, 3, 3, (7, 5), (3, 2), 1, 2, 2, 3),
)


def run(module: Any, case: Case, data: dict[str, Any], **tile: Any) -> dict[str, Any]:
    """Forward with everything after it, and the gradients; ``tile`` for (forward, weight)."""
    forward = {"tile": tile["forward"]} if tile else {}
    weight = {"tile": tile["weight"]} if tile else {}
    window, groups = case.window, case.groups
    return {
        "y": module.conv2d_affine(
            data["x"], data["w"], data["scale"], data["b"], window, groups, True, **forward
        ),
        "gx": module.conv2d_grad_input(data["gy"], data["w"], window, groups, **forward),
        "gw": module.conv2d_grad_weight(data["gy"], data["x"], window, groups, **weight),
        "gb": module.conv2d_grad_bias(data["gy"]),
    }


def terms(case: Case) -> dict[str, int]:
    """How many products make one number of each result."""
    s = case.window
    return {
        "y": case.channels // case.groups * s.taps,
        "gx": case.filters // case.groups * s.taps,
        "gw": case.images * s.oh * s.ow,
        "gb": case.images * s.oh * s.ow,
    }


def tf32_bound(magnitude: np.ndarray, count: int) -> np.ndarray:
    """The most that TF32 can err, from ``magnitude``, the sum of the products' magnitudes.

    Both factors are rounded by at most 2^-11 of themselves. Each addition, which the hardware may
    cut off rather than round, costs at most 2^-23 of what has been added up.
    """
    return ((1 + TF32_ROUNDING) ** 2 - 1 + (count + 4) * 2.0**-23) * magnitude
