"""ResNeXt: many small transformations side by side in each block, added up.

Saining Xie, Ross Girshick, Piotr Dollár, Zhuowen Tu, Kaiming He 2017, "Aggregated Residual
Transformations for Deep Neural Networks", arXiv 1611.05431. Tables 1 and 2, section 5.3 for CIFAR.

Deviations from the paper
  - resnext101_32x8d is PyTorch's addition; the names and keys are PyTorch's.
  - Preset "cifar10" of an ImageNet network: a 3x3 stem without pooling. Presets "fashion-mnist":
    8 planes, or 16 for CIFAR's, in place of 64 in the first stage, and fewer or smaller groups.

    32 times in parallel: 1x1 to 4 maps -> 3x3 -> 1x1 to 256 maps; sum of all 32, + x, ReLU

The paper's "32x4d" counts the paths, the cardinality, and the maps in each. Two rewritings turn it
into an ordinary bottleneck. The 32 first convolutions read the same input: together they are one
1x1 to 128 maps. The sum of the 32 last ones is one 1x1 from all 128 maps. Only the middle keeps
the paths apart: a 3x3 convolution of 32 groups, each of which sees its own 4 maps. So the block is
`minicnn.models.resnet.Bottleneck` with ``groups=32, width_per_group=4`` (figure 3c).

At equal cost more groups have more maps: 1x64d, 2x40d, 4x24d, 8x14d and 32x4d are five settings of
resnext50_32x4d with about the same parameters, and the error falls from the first, which is a
ResNet-50, to the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from minicnn.models.cifar_resnet import cifar_presets
from minicnn.models.registry import register
from minicnn.models.resnet import Bottleneck, ResNet, presets

# Blocks in each stage, groups, maps of a group in the first stage; groups and ``width_per_group``
# of the "fashion-mnist" preset.
IMAGENET = {
    "resnext50_32x4d": ((3, 4, 6, 3), (32, 4), (8, 32)),
    "resnext101_32x4d": ((3, 4, 23, 3), (32, 4), (4, 32)),
    "resnext101_32x8d": ((3, 4, 23, 3), (32, 8), (2, 64)),
    "resnext101_64x4d": ((3, 4, 23, 3), (64, 4), (8, 16)),
}
# 29 layers: three stages of three blocks.
CIFAR = {"resnext29_8x64d": ((8, 64), (8, 16)), "resnext29_16x64d": ((16, 64), (16, 8))}


class ResNeXt(ResNet):
    """A `ResNet` of bottlenecks whose 3x3 has ``groups`` groups.

    In a stage of P planes each has ``floor(P * width_per_group / 64)`` maps.

    >>> model = ResNeXt(10, 1, layers=(1,), groups=8, width_per_group=4)
    >>> model.get_submodule("layer1.0.conv2").weight.shape
    (32, 4, 3, 3)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        layers: Sequence[int] = (3, 4, 6, 3),
        groups: int = 32,
        width_per_group: int = 4,
        shortcut: str = "B",
        width: int = 64,
        stem: str = "7x7",
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__(
            partial(Bottleneck, shortcut=shortcut, groups=groups, width_per_group=width_per_group),
            *(Bottleneck.expansion, layers, num_classes, in_channels),
            *(width, stem, zero_init_residual),
        )


def narrow(width: int, groups: int, width_per_group: int) -> dict[str, int]:
    """Options of a "fashion-mnist" preset."""
    return {"width": width, "groups": groups, "width_per_group": width_per_group}


for _name, (_layers, (_groups, _maps), _narrow) in IMAGENET.items():
    register(_name, presets(**narrow(8, *_narrow)))(
        partial(ResNeXt, layers=_layers, groups=_groups, width_per_group=_maps)
    )
for _name, ((_groups, _maps), _narrow) in CIFAR.items():
    register(_name, cifar_presets(**narrow(16, *_narrow)))(
        partial(ResNeXt, layers=(3, 3, 3), groups=_groups, width_per_group=_maps, stem="3x3")
    )
