"""ResNet: blocks that learn what to add to their input, instead of what to make of it.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun 2016, "Deep Residual Learning for Image
Recognition", arXiv 1512.03385. Figure 3 and table 1.

Deviations from the paper
  - A bottleneck halves the map in its 3x3 convolution, as PyTorch's weights expect; the paper does
    it in the first 1x1, which throws three quarters of the map away unseen: ``stride_in="1x1"``.
  - The first pooling is padded by 1 and rounds down; the authors' Caffe models round up instead.
    Both give 56x56, with other windows at the border.
  - Option C of the shortcuts, which the paper tries with 34 layers, is there for every depth.
  - Preset "cifar10": the stem is one 3x3 convolution of stride 1 without pooling, because 7x7 and
    pooling would leave 8x8 of 32x32. "fashion-mnist": the same, and narrower, as the table says.

A plain network of more layers has a larger error on its *training* images than one of fewer: not
overfitting, but an optimisation that does not find the solution that exists, the shallow network
followed by layers that change nothing. A residual block computes relu(x + f(x)); now changing
nothing is f = 0, which weights near zero give. The gradient of x + f(x) is 1 + f'(x): the path
through the sums carries it to the first layer whatever the f' are.

    basic       3x3 -> BN -> ReLU -> 3x3 -> BN -> + x -> ReLU                  18 and 34 layers
    bottleneck  1x1 narrow -> 3x3 -> 1x1 four times as wide, BN behind each    50, 101, 152

The first block of a stage changes the shape: half the map, twice the channels. What is added then?
Option A takes every second pixel and fills the new channels with zeros, without parameters. B, the
default, is a 1x1 convolution with batch norm in those blocks alone; C is one in all blocks.

Convolutions start from N(0, 2 / fan_out) (He et al. 2015) and biases from zero, as in the authors'
later code; the last layer's weights are PyTorch's default. ``zero_init_residual`` starts the last
batch norm of every block from weight 0, so that every block begins as the identity (Goyal et al.
2017, arXiv 1706.02677, section 5.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import minicnn.functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.models.network import Network
from minicnn.models.parts import checked
from minicnn.models.registry import Preset, register

SHORTCUTS = ("A", "B", "C", "none")

# Blocks in each stage, and the width of the "fashion-mnist" preset (64 in all others).
BASIC = {"resnet18": ((2, 2, 2, 2), 16), "resnet34": ((3, 4, 6, 3), 16)}
PLAIN = {"plain18": ((2, 2, 2, 2), 16), "plain34": ((3, 4, 6, 3), 16)}
BOTTLENECK = {
    "resnet50": ((3, 4, 6, 3), 12),
    "resnet101": ((3, 4, 23, 3), 8),
    "resnet152": ((3, 8, 36, 3), 8),
}


class Subsample(nn.Module):
    """Take every ``stride``-th pixel of every ``stride``-th row: (N, C, H, W), H and W smaller."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """The pixels at the middles of a 3x3 convolution of that stride and padding 1."""
        return x[:, :, :: self.stride, :: self.stride]

    def extra_repr(self) -> str:
        """The stride."""
        return str(self.stride)


class ZeroChannels(nn.Module):
    """Append ``count`` maps of zeros: (N, C, H, W) -> (N, C + count, H, W)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """The maps of x, then zeros."""
        return F.pad(x, (0, 0, 0, 0, 0, self.count))

    def extra_repr(self) -> str:
        """The number of maps."""
        return str(self.count)


def shortcut_path(
    kind: str, in_channels: int, out_channels: int, stride: int, norm: bool = True
) -> nn.Sequential | None:
    """What lies on the shortcut of a block: None where x itself is added, or nothing is.

    ``norm=False`` leaves the batch norm out, as pre-activation blocks do.
    """
    checked("resnet", "shortcut", kind, SHORTCUTS)
    changes = stride != 1 or in_channels != out_channels
    if kind == "C" or (kind == "B" and changes):
        path = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
        return path.append(nn.BatchNorm2d(out_channels)) if norm else path
    if kind == "A" and changes:
        if in_channels > out_channels:
            raise ArgumentError(
                f"shortcut 'A' adds channels of zeros, but the block goes from {in_channels} to "
                f"{out_channels} channels; use shortcut='B'."
            )
        return nn.Sequential(Subsample(stride), ZeroChannels(out_channels - in_channels))
    return None


class Block(nn.Module):
    """``relu(f(x) + shortcut(x))``, or with shortcut "none" the plain ``relu(f(x))``.

    Heirs define f as the list of layers `body`, ending with a batch norm, and call `_close`.
    """

    relu: nn.ReLU
    downsample: nn.Sequential | None

    def _close(self, shortcut: str, in_channels: int, out_channels: int, stride: int) -> None:
        self.relu = nn.ReLU()
        self.is_plain = shortcut == "none"
        self.downsample = shortcut_path(shortcut, in_channels, out_channels, stride)

    def body(self) -> list[nn.Module]:
        """The layers of f."""
        raise NotImplementedError

    def skip(self, x: Tensor) -> Tensor:
        """What is added to f(x)."""
        return x if self.downsample is None else self.downsample(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, OH, OW)."""
        if self.is_plain:
            return nn.run_chain([*self.body(), self.relu], x)
        return nn.residual(self.body(), x, self.skip(x), self.relu)


class BasicBlock(Block):
    """Two 3x3 convolutions, the first with the stride: ``planes`` channels come out.

    >>> BasicBlock(64, 128, stride=2, shortcut="A").num_parameters()
    221696
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        shortcut: str = "B",
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride, padding=1, bias=conv_bias)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=conv_bias)
        self.bn2 = nn.BatchNorm2d(planes)
        self._close(shortcut, in_channels, planes, stride)

    def body(self) -> list[nn.Module]:
        """3x3, 3x3."""
        return [self.conv1, self.bn1, self.relu, self.conv2, self.bn2]


class Bottleneck(Block):
    """1x1 to the inner width, 3x3, 1x1 to ``4 * planes`` channels.

    The inner width is ``groups * floor(planes * width_per_group / 64)``: ``planes`` in a ResNet,
    twice as many in a wide ResNet (width_per_group=128), and a 3x3 of many groups in a ResNeXt.
    ``stride_in`` is the convolution that has the stride, "3x3" or "1x1".

    >>> Bottleneck(256, 64, groups=32, width_per_group=4).conv2.weight.shape
    (128, 4, 3, 3)
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        shortcut: str = "B",
        stride_in: str = "3x3",
        groups: int = 1,
        width_per_group: int = 64,
    ) -> None:
        super().__init__()
        checked("Bottleneck", "stride_in", stride_in, ("3x3", "1x1"))
        width = planes * width_per_group // 64 * groups
        if width < 1:
            raise ArgumentError(
                f"Bottleneck: width_per_group={width_per_group} of {planes} planes leaves less "
                f"than one channel a group; give at least {-(-64 // planes)}."
            )
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        out_channels = self.expansion * planes
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self._close(shortcut, in_channels, out_channels, stride)

    def body(self) -> list[nn.Module]:
        """1x1, 3x3, 1x1."""
        narrow = [self.conv1, self.bn1, self.relu, self.conv2, self.bn2, self.relu]
        return [*narrow, self.conv3, self.bn3]


class ResNet(Network):
    """Stem, stages of residual blocks, mean of each map, one linear layer.

    block : makes a block from (in_channels, planes, stride)
    expansion : channels that a block returns, divided by its planes
    layers : number of blocks in each stage; each stage has twice the planes of the one before it
    width : planes of the first stage, and channels of the stem
    stem : "7x7" with stride 2 and pooling, or "3x3" with neither
    """

    def __init__(
        self,
        block: Callable[[int, int, int], Block],
        expansion: int,
        layers: Sequence[int],
        num_classes: int,
        in_channels: int,
        width: int = 64,
        stem: str = "7x7",
        zero_init_residual: bool = False,
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        large = checked("resnet", "stem", stem, ("7x7", "3x3")) == "7x7"
        size, stride, padding = (7, 2, 3) if large else (3, 1, 1)
        self.conv1 = nn.Conv2d(in_channels, width, size, stride, padding, bias=conv_bias)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if large else None
        self.stages = len(layers)
        channels = width
        for i, count in enumerate(layers):
            planes = width * 2**i
            inputs = [channels] + [expansion * planes] * (count - 1)
            strides = [2 if i else 1] + [1] * (count - 1)
            blocks = map(block, inputs, [planes] * count, strides)
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            channels = expansion * planes
        self.avgpool = nn.GlobalAvgPool2d()
        self.fc = nn.Linear(channels, num_classes)
        he_initialisation(self)
        if zero_init_residual:
            start_as_identity(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        pool = [] if self.maxpool is None else [self.maxpool]
        x = nn.run_chain([self.conv1, self.bn1, self.relu, *pool], x)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(self.avgpool(x))


def he_initialisation(model: nn.Module, mode: str = "fan_out") -> None:
    """Draw the weights of convolutions from N(0, 2 / fan) and set all biases to 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def start_as_identity(model: nn.Module) -> None:
    """Set the weight of the last batch norm of every block to 0: f is 0 at first."""
    for block in model.modules():
        if isinstance(block, Block):
            last: Any = block.body()[-1]
            nn.init.zeros_(last.weight)


def basic_resnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    layers: Sequence[int] = (2, 2, 2, 2),
    shortcut: str = "B",
    width: int = 64,
    stem: str = "7x7",
    zero_init_residual: bool = False,
) -> ResNet:
    """Build a `ResNet` of basic blocks; ``shortcut="none"`` makes it plain.

    >>> with nn.without_weights():
    ...     basic_resnet().num_parameters()
    11689512
    """
    block = partial(BasicBlock, shortcut=shortcut)
    return ResNet(
        *(block, BasicBlock.expansion, layers, num_classes, in_channels),
        *(width, stem, zero_init_residual),
    )


def bottleneck_resnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    layers: Sequence[int] = (3, 4, 6, 3),
    shortcut: str = "B",
    stride_in: str = "3x3",
    groups: int = 1,
    width_per_group: int = 64,
    width: int = 64,
    stem: str = "7x7",
    zero_init_residual: bool = False,
) -> ResNet:
    """Build a `ResNet` of bottlenecks, or with groups a ResNeXt: see `Bottleneck`.

    >>> with nn.without_weights():
    ...     bottleneck_resnet().num_parameters()
    25557032
    """
    block = partial(
        Bottleneck,
        shortcut=shortcut,
        stride_in=stride_in,
        groups=groups,
        width_per_group=width_per_group,
    )
    return ResNet(
        *(block, Bottleneck.expansion, layers, num_classes, in_channels),
        *(width, stem, zero_init_residual),
    )


def presets(**narrow: Any) -> dict[str, Preset]:
    """The paper's images and smaller ones; ``narrow`` are options of the smallest."""
    return {
        "imagenet": Preset((3, 224, 224), 1000),
        "cifar10": Preset((3, 32, 32), 10, {"stem": "3x3"}),
        "fashion-mnist": Preset((1, 28, 28), 10, {"stem": "3x3", **narrow}),
    }


for _name, (_layers, _width) in BASIC.items():
    register(_name, presets(width=_width))(partial(basic_resnet, layers=_layers))
for _name, (_layers, _width) in PLAIN.items():
    register(_name, presets(width=_width))(partial(basic_resnet, layers=_layers, shortcut="none"))
for _name, (_layers, _width) in BOTTLENECK.items():
    register(_name, presets(width=_width))(partial(bottleneck_resnet, layers=_layers))
