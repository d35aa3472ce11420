"""ResNet for small images, and the same networks without shortcuts.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun 2016, "Deep Residual Learning for Image
Recognition", arXiv 1512.03385, section 4.2; the blocks are those of `minicnn.models.resnet`.

Deviations from the paper
  - None in the presets "cifar10". ``shortcut="B"`` and ``conv_bias=True`` are variants of others.
  - Preset "fashion-mnist": a width of 8 in place of 16, up to depth 110, so that a deep network and
    a shallow one can be compared in minutes; 2 in depth 1202.

    3x3, 16 maps -> 2n layers of 16 maps, 32x32 -> 2n of 32, 16x16 -> 2n of 64, 8x8 -> mean -> fc

With the last layer these are 6n + 2 layers: 20, 32, 44, 56, 110 and 1202 in the paper. The
shortcuts are of option A, without parameters, so that the plain and the residual network of one
depth have the same parameters and differ in the sums alone. This is the experiment of figures 1 and
6: plain-56 trains worse than plain-20, ResNet-56 better than ResNet-20.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from minicnn.errors import ArgumentError
from minicnn.models.registry import Preset, register
from minicnn.models.resnet import BasicBlock, ResNet

# Depth, and the width of the "fashion-mnist" preset (16 in the other).
RESNETS = {20: 8, 32: 8, 44: 8, 56: 8, 110: 8, 1202: 2}
PLAINS = {20: 8, 32: 8, 44: 8, 56: 8, 110: 8}


def blocks_of_depth(depth: int, step: int, name: str) -> tuple[int, int, int]:
    """Blocks in each of three stages, where each block more in a stage adds ``step / 3`` layers.

    >>> blocks_of_depth(110, 6, "resnet")
    (18, 18, 18)
    """
    count = (depth - 2) // step
    if count < 1 or depth != step * count + 2:
        lower = step * max(count, 1) + 2
        raise ArgumentError(
            f"{name}: depth is {depth}, but it must be {step}n + 2; use {lower} or {lower + step}."
        )
    return count, count, count


class CifarResNet(ResNet):
    """The network of 6n + 2 = ``depth`` layers; ``shortcut="none"`` makes it plain.

    >>> CifarResNet(depth=20).num_parameters()
    269722
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: int = 20,
        shortcut: str = "A",
        width: int = 16,
        zero_init_residual: bool = False,
        conv_bias: bool = False,
    ) -> None:
        super().__init__(
            partial(BasicBlock, shortcut=shortcut, conv_bias=conv_bias),
            BasicBlock.expansion,
            blocks_of_depth(depth, 6, "CifarResNet"),
            *(num_classes, in_channels, width, "3x3", zero_init_residual, conv_bias),
        )


def cifar_presets(**narrow: Any) -> dict[str, Preset]:
    """Images of 32x32, and smaller ones; ``narrow`` are options of the latter."""
    return {
        "cifar10": Preset((3, 32, 32), 10),
        "fashion-mnist": Preset((1, 28, 28), 10, narrow),
    }


for _depth, _width in RESNETS.items():
    register(f"resnet{_depth}", cifar_presets(width=_width))(partial(CifarResNet, depth=_depth))
for _depth, _width in PLAINS.items():
    register(f"plain{_depth}", cifar_presets(width=_width))(
        partial(CifarResNet, depth=_depth, shortcut="none")
    )
