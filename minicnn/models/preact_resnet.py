"""Pre-activation ResNet: batch norm and ReLU before each convolution, nothing after the sum.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun 2016, "Identity Mappings in Deep Residual
Networks", arXiv 1603.05027. Figure 4(e) and the appendix; layouts as in the authors' published
code, which the paper leaves open.

Deviations from the paper
  - Bottlenecks for ImageNet have the stride in their 3x3 convolution, those for CIFAR in the first
    1x1: ``stride_in`` changes it.
  - The paper has 152 and 200 layers for ImageNet and 110, 164 and 1001 for CIFAR; the networks of
    other depths are built by the same rules.
  - Preset "cifar10" of an ImageNet network: a 3x3 stem without pooling. Presets "fashion-mnist":
    narrower too, as the tables say.

In the ResNet of 2015 a ReLU follows each sum, so that nothing crosses the network unchanged. Here

    x' = x + f(x)   with   f = BN -> ReLU -> conv -> BN -> ReLU -> conv

and the output of the last block is the input of the first plus all the f between: signals and
gradients pass hundreds of blocks untouched, and networks of 1001 layers train. One batch norm and
ReLU end the network, because the last sum has none.

A block that changes the shape cannot add x itself. It normalises x once, and both the convolutions
and the shortcut, a bare 1x1 convolution or zeros (`resnet`), start from that. In the ImageNet
networks BN, ReLU and pooling follow the stem, and the first block does without its own.

Convolutions start from N(0, 2 / fan_out), biases from zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.cifar_resnet import blocks_of_depth, cifar_presets
from minicnn.models.network import Network
from minicnn.models.parts import checked
from minicnn.models.registry import register
from minicnn.models.resnet import (
    BASIC,
    BOTTLENECK,
    he_initialisation,
    presets,
    shortcut_path,
)

# Blocks in each stage, and the width of the "fashion-mnist" preset (64 in all others).
DEEP = {**BOTTLENECK, "resnet200": ((3, 24, 36, 3), 8)}
# Depth, and the width of the "fashion-mnist" preset (16 in the other).
CIFAR_BASIC = {20: 8, 56: 8, 110: 8}
CIFAR_BOTTLENECK = {164: 8, 1001: 3}


class PreActBlock(nn.Module):
    """``x + f(x)``, or where the shape changes ``a = relu(bn1(x)); shortcut(a) + g(a)``.

    Heirs define g, all of f but its first BN and ReLU, as the list of layers `body`.
    ``starts_bare`` leaves those two out of a block whose input has passed a ReLU already.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: str, starts_bare: bool
    ) -> None:
        super().__init__()
        self.bn1 = None if starts_bare else nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.downsample = shortcut_path(shortcut, in_channels, out_channels, stride, norm=False)

    def body(self) -> list[nn.Module]:
        """The layers of g."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, OH, OW)."""
        activation = [] if self.bn1 is None else [self.bn1, self.relu]
        if self.downsample is None:
            return nn.run_chain([*activation, *self.body()], x) + x
        a = nn.run_chain(activation, x)
        return nn.run_chain(self.body(), a) + self.downsample(a)


class PreActBasic(PreActBlock):
    """Two 3x3 convolutions, the first with the stride; ``dropout`` is that of a wide ResNet.

    >>> PreActBasic(16, 16).num_parameters()
    4672
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        starts_bare: bool = False,
        shortcut: str = "B",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_channels, planes, stride, shortcut, starts_bare)
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)

    def body(self) -> list[nn.Module]:
        """3x3, 3x3."""
        dropout = [] if self.dropout is None else [self.dropout]
        return [self.conv1, self.bn2, self.relu, *dropout, self.conv2]


class PreActBottleneck(PreActBlock):
    """1x1 to ``planes`` channels, 3x3, 1x1 to ``4 * planes`` channels.

    >>> PreActBottleneck(64, 16).num_parameters()
    4544
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        starts_bare: bool = False,
        shortcut: str = "B",
        stride_in: str = "3x3",
    ) -> None:
        out_channels = self.expansion * planes
        super().__init__(in_channels, out_channels, stride, shortcut, starts_bare)
        checked("PreActBottleneck", "stride_in", stride_in, ("3x3", "1x1"))
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, planes, 1, first, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, second, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)

    def body(self) -> list[nn.Module]:
        """1x1, 3x3, 1x1."""
        narrow = [self.conv1, self.bn2, self.relu, self.conv2, self.bn3, self.relu]
        return [*narrow, self.conv3]


class PreActResNet(Network):
    """Stem, stages of pre-activation blocks, BN and ReLU, mean of each map, one linear layer.

    block : makes a block from (in_channels, planes, stride, starts_bare)
    expansion : channels that a block returns, divided by its planes
    layers : number of blocks in each stage
    planes : planes of each stage
    stem_channels, stem : channels after the first convolution, which is "7x7" with stride 2, BN,
        ReLU and pooling, "3x3" with BN and ReLU, or "bare", a 3x3 alone
    """

    def __init__(
        self,
        block: Callable[[int, int, int, bool], PreActBlock],
        expansion: int,
        layers: Sequence[int],
        planes: Sequence[int],
        num_classes: int,
        in_channels: int,
        stem_channels: int,
        stem: str,
        fan: str = "fan_out",
    ) -> None:
        super().__init__()
        large = checked("preact_resnet", "stem", stem, ("7x7", "3x3", "bare")) == "7x7"
        size, stride, padding = (7, 2, 3) if large else (3, 1, 1)
        self.conv1 = nn.Conv2d(in_channels, stem_channels, size, stride, padding, bias=False)
        self.bn1 = None if stem == "bare" else nn.BatchNorm2d(stem_channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if large else None
        self.stages = len(layers)
        channels = stem_channels
        for i, (count, width) in enumerate(zip(layers, planes, strict=True)):
            stage = nn.Sequential()
            for j in range(count):
                starts_bare = i == j == 0 and stem != "bare"
                stage.append(block(channels, width, 2 if i and not j else 1, starts_bare))
                channels = expansion * width
            self.add_module(f"layer{i + 1}", stage)
        self.norm = nn.BatchNorm2d(channels)
        self.avgpool = nn.GlobalAvgPool2d()
        self.fc = nn.Linear(channels, num_classes)
        he_initialisation(self, fan)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        norm = [] if self.bn1 is None else [self.bn1, self.relu]
        pool = [] if self.maxpool is None else [self.maxpool]
        x = nn.run_chain([self.conv1, *norm, *pool], x)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(nn.run_chain([self.norm, self.relu, self.avgpool], x))


def preact_resnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    layers: Sequence[int] = (2, 2, 2, 2),
    shortcut: str = "B",
    width: int = 64,
    stem: str = "7x7",
) -> PreActResNet:
    """Build an ImageNet network of basic blocks.

    >>> with nn.without_weights():
    ...     preact_resnet().num_parameters()
    11687720
    """
    planes = [width * 2**i for i in range(len(layers))]
    block = partial(PreActBasic, shortcut=shortcut)
    return PreActResNet(block, 1, layers, planes, num_classes, in_channels, width, stem)


def preact_bottleneck_resnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    layers: Sequence[int] = (3, 4, 6, 3),
    shortcut: str = "B",
    stride_in: str = "3x3",
    width: int = 64,
    stem: str = "7x7",
) -> PreActResNet:
    """Build an ImageNet network of bottlenecks.

    >>> with nn.without_weights():
    ...     preact_bottleneck_resnet().num_parameters()
    25549352
    """
    planes = [width * 2**i for i in range(len(layers))]
    block = partial(PreActBottleneck, shortcut=shortcut, stride_in=stride_in)
    return PreActResNet(block, 4, layers, planes, num_classes, in_channels, width, stem)


def cifar_preact_resnet(
    num_classes: int = 10,
    in_channels: int = 3,
    depth: int = 20,
    shortcut: str = "A",
    width: int = 16,
) -> PreActResNet:
    """Build the CIFAR network of ``depth`` = 6n + 2 layers in basic blocks.

    >>> cifar_preact_resnet(depth=20).num_parameters()
    269722
    """
    layers = blocks_of_depth(depth, 6, "cifar_preact_resnet")
    planes = (width, 2 * width, 4 * width)
    block = partial(PreActBasic, shortcut=shortcut)
    return PreActResNet(block, 1, layers, planes, num_classes, in_channels, width, "bare")


def cifar_preact_bottleneck_resnet(
    num_classes: int = 10,
    in_channels: int = 3,
    depth: int = 164,
    shortcut: str = "B",
    stride_in: str = "1x1",
    width: int = 16,
) -> PreActResNet:
    """Build the CIFAR network of ``depth`` = 9n + 2 layers in bottlenecks.

    >>> cifar_preact_bottleneck_resnet(depth=164).num_parameters()
    1703258
    """
    layers = blocks_of_depth(depth, 9, "cifar_preact_bottleneck_resnet")
    planes = (width, 2 * width, 4 * width)
    block = partial(PreActBottleneck, shortcut=shortcut, stride_in=stride_in)
    return PreActResNet(block, 4, layers, planes, num_classes, in_channels, width, "bare")


for _name, (_layers, _width) in BASIC.items():
    register(f"preact_{_name}", presets(width=_width))(partial(preact_resnet, layers=_layers))
for _name, (_layers, _width) in DEEP.items():
    register(f"preact_{_name}", presets(width=_width))(
        partial(preact_bottleneck_resnet, layers=_layers)
    )
for _depth, _width in CIFAR_BASIC.items():
    register(f"preact_resnet{_depth}", cifar_presets(width=_width))(
        partial(cifar_preact_resnet, depth=_depth)
    )
for _depth, _width in CIFAR_BOTTLENECK.items():
    register(f"preact_resnet{_depth}", cifar_presets(width=_width))(
        partial(cifar_preact_bottleneck_resnet, depth=_depth)
    )
