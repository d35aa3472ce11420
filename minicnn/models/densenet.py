"""DenseNet: every layer reads the maps of all layers before it.

Huang, Liu, van der Maaten, Weinberger 2017, "Densely Connected Convolutional Networks",
https://arxiv.org/abs/1608.06993

Deviations from the paper: none in the layers; names and shapes of parameters are torchvision's, for
the CIFAR networks too. The paper's first convolution has 16 filters in the networks without
bottleneck; the authors' code has twice the growth rate everywhere: ``num_init_features`` chooses.
DenseNet-264 is in the paper's table, not in torchvision. With ``drop_rate`` there is dropout behind
each convolution but the first, as in the paper; torchvision has it at the end of a layer alone.
Weights start as He et al. 2015 have it, N(0, 2 / fan_in); biases of the classifier at 0.

A layer adds k maps, the *growth rate*, to what it got: its input is the concatenation of the
block's input and of the k maps of each layer before it, so a block of L layers has L (L + 1) / 2
direct connections, and each layer is one step away from the loss. Because nothing has to be passed
on by copying, k can be as small as 12.

    layer              BN - ReLU - conv 3x3 to k maps
    with bottleneck    BN - ReLU - conv 1x1 to 4k maps - BN - ReLU - conv 3x3 to k maps
    transition         BN - ReLU - conv 1x1 - average pooling 2x2, between two blocks

"BC" networks have bottlenecks, and transitions that compress: they leave half of the maps.

The presets for small images have the stem of the CIFAR networks, a 3x3 convolution with stride 1
and no pooling. So that an epoch does not take long, most have a smaller growth rate than the full
network, and those of the deep CIFAR networks for 28x28 images a first convolution with stride 2:
`SMALL_GROWTH`, `FASHION`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from minicnn import functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.network import Network
from minicnn.models.registry import Preset, register
from minicnn.nn import init

IMAGENET = {  # layers in the four blocks, growth rate
    "densenet121": ((6, 12, 24, 16), 32),
    "densenet161": ((6, 12, 36, 24), 48),
    "densenet169": ((6, 12, 32, 32), 32),
    "densenet201": ((6, 12, 48, 32), 32),
    "densenet264": ((6, 12, 64, 48), 32),
}
CIFAR = {  # depth, growth rate, whether bottlenecks and compression
    "densenet40": (40, 12, False),
    "densenet100": (100, 12, False),
    "densenet_bc40": (40, 12, True),
    "densenet_bc100": (100, 12, True),
    "densenet_bc190": (190, 40, True),
    "densenet_bc250": (250, 24, True),
}
SMALL_GROWTH = {  # growth rates of the presets for small images
    "densenet121": 8,
    "densenet161": 6,
    "densenet169": 6,
    "densenet201": 5,
    "densenet264": 4,
}
FASHION = {  # growth rate, and stride of the first convolution, of the presets for 28x28
    "densenet40": (6, 1),
    "densenet100": (3, 2),
    "densenet_bc40": (12, 1),
    "densenet_bc100": (12, 2),
    "densenet_bc190": (5, 2),
    "densenet_bc250": (4, 2),
}
_WITHOUT_BC: dict[str, Any] = {"num_init_features": 16, "bottleneck_factor": 0, "compression": 1.0}


class DenseLayer(nn.Module):
    """One layer: maps of all layers before it in, ``growth_rate`` new maps out.

    bottleneck : filters of the 1x1 convolution in front, 0 for none
    """

    def __init__(
        self, in_channels: int, growth_rate: int, bottleneck: int, drop_rate: float
    ) -> None:
        super().__init__()
        first = bottleneck or growth_rate
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        size, padding = (1, 0) if bottleneck else (3, 1)
        self.conv1 = nn.Conv2d(in_channels, first, size, padding=padding, bias=False)
        if drop_rate:
            self.drop1 = nn.Dropout(drop_rate)
        if bottleneck:
            self.norm2 = nn.BatchNorm2d(bottleneck)
            self.relu2 = nn.ReLU()
            self.conv2 = nn.Conv2d(bottleneck, growth_rate, 3, padding=1, bias=False)
            if drop_rate:
                self.drop2 = nn.Dropout(drop_rate)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Join the maps and run the layers."""
        x = features[0] if len(features) == 1 else F.cat(features, dim=1)
        return nn.run_chain(list(self.children()), x)


class DenseBlock(nn.ModuleDict):
    """Layers of which each reads the block's input and what all layers before it made."""

    def __init__(
        self,
        num_layers: int,
        in_channels: int,
        growth_rate: int,
        bottleneck: int,
        drop_rate: float,
    ) -> None:
        layers = {}
        for i in range(num_layers):
            layers[f"denselayer{i + 1}"] = DenseLayer(
                in_channels + i * growth_rate, growth_rate, bottleneck, drop_rate
            )
        super().__init__(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + num_layers * growth_rate, H, W)."""
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return F.cat(features, dim=1)


class DenseNet(Network):
    """Dense blocks with transitions between them, for ImageNet or for small images.

    block_config : layers in each block; growth_rate : maps that each layer adds
    num_init_features : filters of the first convolution, twice the growth rate if None
    bottleneck_factor : filters of the 1x1 convolutions for each map of the growth rate, 0 for none
    compression : share of the maps that a transition leaves
    drop_rate : dropout behind each convolution but the first
    small_images : stem of the CIFAR networks, a 3x3 convolution with ``stem_stride``

    Input (N, in_channels, H, W), output (N, num_classes) logits.

    >>> with nn.without_weights():
    ...     DenseNet(block_config=(6, 12, 24, 16)).num_parameters()
    7978856
    """

    def __init__(
        self,
        block_config: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        growth_rate: int = 32,
        num_init_features: int | None = None,
        bottleneck_factor: int = 4,
        compression: float = 0.5,
        drop_rate: float = 0.0,
        small_images: bool = False,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        C = 2 * growth_rate if num_init_features is None else num_init_features
        stem = _small_stem(in_channels, C, stem_stride) if small_images else _stem(in_channels, C)
        self.features = nn.Sequential(stem)
        for i, num_layers in enumerate(block_config, start=1):
            block = DenseBlock(
                num_layers, C, growth_rate, bottleneck_factor * growth_rate, drop_rate
            )
            self.features.add_module(f"denseblock{i}", block)
            C += num_layers * growth_rate
            if i < len(block_config):
                left = int(C * compression)
                self.features.add_module(f"transition{i}", _transition(C, left, drop_rate))
                C = left
        self.features.add_module(f"norm{len(block_config) + 1}", nn.BatchNorm2d(C))
        self.relu = nn.ReLU()
        self.avgpool = nn.GlobalAvgPool2d()
        self.classifier = nn.Linear(C, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.classifier(self.avgpool(self.relu(self.features(x))))


def _small_stem(in_channels: int, width: int, stride: int) -> dict[str, nn.Module]:
    return {"conv0": nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)}


def _stem(in_channels: int, width: int) -> dict[str, nn.Module]:
    return {
        "conv0": nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
        "norm0": nn.BatchNorm2d(width),
        "relu0": nn.ReLU(),
        "pool0": nn.MaxPool2d(3, stride=2, padding=1),
    }


def _transition(in_channels: int, out_channels: int, drop_rate: float) -> nn.Sequential:
    layers: dict[str, nn.Module] = {
        "norm": nn.BatchNorm2d(in_channels),
        "relu": nn.ReLU(),
        "conv": nn.Conv2d(in_channels, out_channels, 1, bias=False),
    }
    if drop_rate:
        layers["drop"] = nn.Dropout(drop_rate)
    return nn.Sequential({**layers, "pool": nn.AvgPool2d(2)})


for _name, (_four_blocks, _growth) in IMAGENET.items():
    _small = {"growth_rate": SMALL_GROWTH[_name], "small_images": True}
    register(
        _name,
        {
            "imagenet": Preset((3, 224, 224), 1000),
            "fashion-mnist": Preset((1, 28, 28), 10, _small),
            "cifar10": Preset((3, 32, 32), 10, _small),
        },
    )(partial(DenseNet, _four_blocks, growth_rate=_growth))

for _name, (_depth, _growth, _is_bc) in CIFAR.items():
    # 4 layers are the first convolution, two transitions and the classifier
    _three_blocks = ((_depth - 4) // (6 if _is_bc else 3),) * 3
    _plain: dict[str, Any] = {} if _is_bc else _WITHOUT_BC
    _small = dict(zip(("growth_rate", "stem_stride"), FASHION[_name], strict=True))
    register(
        _name,
        {
            "cifar10": Preset((3, 32, 32), 10),
            "fashion-mnist": Preset((1, 28, 28), 10, _small),
        },
    )(partial(DenseNet, _three_blocks, growth_rate=_growth, small_images=True, **_plain))
