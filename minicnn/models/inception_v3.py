"""Inception v3: convolutions split into smaller ones, in five kinds of modules.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, "Rethinking the Inception Architecture for Computer
Vision", https://arxiv.org/abs/1512.00567

Deviations from the paper: its table 1 does not print the widths of all modules. They are those of
the authors' released network, as in torchvision, whose names and shapes of parameters these are.
Average pooling counts padding as zeros (torchvision; the released network leaves it out). Dropout
before the classifier is torchvision's 0.5.

A 5x5 filter costs 25 multiplications a position, two 3x3 filters on top of each other 18, and they
see the same 5x5 pixels with a ReLU in between; n x n splits further into 1 x n and n x 1, which is
good on maps of medium size (kind C, 7x7). Kind E, on the smallest maps, puts 1x3 and 3x1 side by
side instead. Kinds B and D halve the map by convolutions and pooling side by side, so that neither
costs much nor throws away much before it is looked at (the paper's section 5).

All convolutions have a batch norm behind them and no bias. The auxiliary head stands on the last
17x17 map; its pooling 5x5 with stride 3 needs that map (images of about 299), and smaller maps are
brought to 5x5 by adaptive pooling. Weights start as torchvision's, from a normal distribution with
deviation 0.1, the classifier of the head with 0.001.

The presets for small images change the stem: its convolutions have stride 1 and padding, and its
second pooling is left out (28x28 becomes 13x13, 6x6, 2x2); all layers have a quarter of the
channels.
"""

from __future__ import annotations

from typing import NamedTuple

from minicnn import functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.auxiliary import AuxiliaryNetwork
from minicnn.models.inception_block import (
    Branches,
    Conv,
    Step,
    basic_conv,
    renormalized,
    truncated_normal_,
)
from minicnn.models.parts import scaled
from minicnn.models.registry import Preset, register
from minicnn.nn import init

STEM = (  # the poolings, 3x3 with stride 2, have no name in torchvision's state
    Conv("Conv2d_1a_3x3", 32, 3, stride=2, padding=0),
    Conv("Conv2d_2a_3x3", 32, 3, padding=0),
    Conv("Conv2d_2b_3x3", 64, 3, padding=1),
    "maxpool1",
    Conv("Conv2d_3b_1x1", 80, 1, padding=0),
    Conv("Conv2d_4a_3x3", 192, 3, padding=0),
    "maxpool2",
)


class InceptionOutputs(NamedTuple):
    """The logits in training: those of the network, and of the auxiliary head."""

    logits: Tensor
    aux_logits: Tensor


Kind = list[list[Step]]


def _average() -> nn.Module:
    return nn.AvgPool2d(3, stride=1, padding=1)


def kind_a(pool_features: int) -> Kind:
    """5x5 filters, and two 3x3 in a row, for maps of 35x35."""
    return [
        [Conv("branch1x1", 64)],
        [Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, 5)],
        [
            Conv("branch3x3dbl_1", 64),
            Conv("branch3x3dbl_2", 96, 3),
            Conv("branch3x3dbl_3", 96, 3),
        ],
        [_average(), Conv("branch_pool", pool_features)],
    ]


def kind_b() -> Kind:
    """From 35x35 to 17x17."""
    return [
        [Conv("branch3x3", 384, 3, 2, 0)],
        [
            Conv("branch3x3dbl_1", 64),
            Conv("branch3x3dbl_2", 96, 3),
            Conv("branch3x3dbl_3", 96, 3, 2, 0),
        ],
        [nn.MaxPool2d(3, stride=2)],
    ]


def kind_c(channels: int) -> Kind:
    """7x7 filters as 1x7 and 7x1, once and twice, for maps of 17x17; ``channels`` inside."""
    return [
        [Conv("branch1x1", 192)],
        [
            Conv("branch7x7_1", channels),
            Conv("branch7x7_2", channels, (1, 7)),
            Conv("branch7x7_3", 192, (7, 1)),
        ],
        [
            Conv("branch7x7dbl_1", channels),
            Conv("branch7x7dbl_2", channels, (7, 1)),
            Conv("branch7x7dbl_3", channels, (1, 7)),
            Conv("branch7x7dbl_4", channels, (7, 1)),
            Conv("branch7x7dbl_5", 192, (1, 7)),
        ],
        [_average(), Conv("branch_pool", 192)],
    ]


def kind_d() -> Kind:
    """From 17x17 to 8x8."""
    return [
        [Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, 3, 2, 0)],
        [
            Conv("branch7x7x3_1", 192),
            Conv("branch7x7x3_2", 192, (1, 7)),
            Conv("branch7x7x3_3", 192, (7, 1)),
            Conv("branch7x7x3_4", 192, 3, 2, 0),
        ],
        [nn.MaxPool2d(3, stride=2)],
    ]


def kind_e() -> Kind:
    """1x3 and 3x1 side by side, for maps of 8x8: the widest modules."""
    return [
        [Conv("branch1x1", 320)],
        [
            Conv("branch3x3_1", 384),
            (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1))),
        ],
        [
            Conv("branch3x3dbl_1", 448),
            Conv("branch3x3dbl_2", 384, 3),
            (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1))),
        ],
        [_average(), Conv("branch_pool", 192)],
    ]


def kinds() -> dict[str, Kind]:
    """The modules of the network in order, by name."""
    return {
        "Mixed_5b": kind_a(32),
        "Mixed_5c": kind_a(64),
        "Mixed_5d": kind_a(64),
        "Mixed_6a": kind_b(),
        "Mixed_6b": kind_c(128),
        "Mixed_6c": kind_c(160),
        "Mixed_6d": kind_c(160),
        "Mixed_6e": kind_c(192),
        "Mixed_7a": kind_d(),
        "Mixed_7b": kind_e(),
        "Mixed_7c": kind_e(),
    }


HEAD_AFTER = "Mixed_6e"


class AuxiliaryHead(nn.Module):
    """A classifier on the last map of 17x17: pooling to 5x5, and two convolutions down to 1x1."""

    def __init__(self, in_channels: int, num_classes: int, width: float) -> None:
        super().__init__()
        reduced, features = scaled(128, width), scaled(768, width)
        self.conv0 = basic_conv(in_channels, reduced, 1)
        self.conv1 = basic_conv(reduced, features, 5)
        self.pool = nn.GlobalAvgPool2d()
        self.fc = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """A map of any size in, logits out."""
        windows_fit = min(x.shape[2:]) >= 17
        x = F.avg_pool2d(x, 5, stride=3) if windows_fit else F.adaptive_avg_pool2d(x, 5)
        return self.fc(self.pool(self.conv1(self.conv0(x))))


SMALL = {"small_images": True, "width": 0.25}


@register(
    "inception_v3",
    {
        "imagenet": Preset((3, 299, 299), 1000),
        "fashion-mnist": Preset((1, 28, 28), 10, SMALL),
        "cifar10": Preset((3, 32, 32), 10, SMALL),
    },
)
class InceptionV3(AuxiliaryNetwork):
    """Inception v3: 23,834,568 parameters, and 3,326,696 more in the auxiliary head.

    aux_logits : whether there is a head; then training gives `InceptionOutputs`
    small_images, width : for maps of 28x28 or 32x32, and the factor for the channels
    transform_input : images come with ImageNet's statistics, weights expect 0.5; three channels

    Input (N, in_channels, H, W), 75x75 or more unless ``small_images``; output (N, num_classes)
    logits.

    >>> with nn.without_weights():
    ...     InceptionV3(aux_logits=False).num_parameters()
    23834568
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        aux_logits: bool = True,
        small_images: bool = False,
        width: float = 1.0,
        transform_input: bool = False,
    ) -> None:
        super().__init__()
        self.transform_input = transform_input
        channels = self._add_stem(in_channels, small_images, width)
        head_channels = channels
        for name, branches in kinds().items():
            block = Branches(channels, branches, width)
            self.add_module(name, block)
            channels = block.out_channels
            if name == HEAD_AFTER:
                head_channels = channels
        self._trunk = [name for name, _ in self.named_children()]
        if aux_logits:
            self.AuxLogits = AuxiliaryHead(head_channels, num_classes, width)
            self.auxiliary_weights = (0.4,)
        self.avgpool = nn.GlobalAvgPool2d()
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(channels, num_classes)
        truncated_normal_(self, std=0.1)
        if aux_logits:
            init.trunc_normal_(self.AuxLogits.fc.weight, std=0.001)

    def _add_stem(self, in_channels: int, small_images: bool, width: float) -> int:
        """Convolutions and pooling up to 5b; how many channels come out."""
        for layer in STEM:
            if isinstance(layer, str):
                if layer == "maxpool1" or not small_images:
                    self.add_module(layer, nn.MaxPool2d(3, stride=2))
                continue
            if small_images:
                layer = layer._replace(stride=1, padding="same")
            channels = scaled(layer.channels, width)
            self.add_module(layer.name, basic_conv(in_channels, channels, *layer.window))
            in_channels = channels
        return in_channels

    def forward(self, x: Tensor) -> Tensor | InceptionOutputs:
        """Images in, logits out; in training with a head, `InceptionOutputs`."""
        if self.transform_input:
            x = renormalized(x)
        with_head = self.training and self.auxiliary_weights
        auxiliary = x
        for name in self._trunk:
            x = getattr(self, name)(x)
            if with_head and name == HEAD_AFTER:
                auxiliary = self.AuxLogits(x)
        logits = self.fc(self.dropout(self.avgpool(x)))
        return InceptionOutputs(logits, auxiliary) if with_head else logits
