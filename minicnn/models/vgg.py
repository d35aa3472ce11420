"""VGG: the network of 3x3 convolutions, in the paper's six configurations.

K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition",
ICLR 2015, arXiv 1409.1556, table 1.

Where the networks here differ from the paper:

- They are torchvision's where it has them (A, B, D, E), with its weights' names: the last map is
  averaged to 7x7, which changes nothing for 224x224 images and lets others in; weights of
  convolutions are drawn from He's distribution by fan-out and those of linear layers from
  N(0, 0.01**2), where the paper starts the deep networks from the trained configuration A.
- ``*_bn`` puts a batch normalisation behind every convolution; the paper is older than it.
- The response normalisation of A-LRN has AlexNet's constants.

Two 3x3 convolutions see 5x5 pixels and three see 7x7, with fewer weights (27 C**2 against 49 C**2
for C channels) and more ReLUs between. All networks have five blocks of convolutions of one width,
each ended by a 2x2 max-pool, and three linear layers.

The preset "fashion-mnist" (and "cifar10" for 3x32x32) keeps all layers. It has 24 to 192 filters in
place of 64 to 512, pools that round up (28, 14, 7, 4, 2, 1), the 1x1 map that is left in place of
7x7, 256 hidden units in place of 4096, and, because N(0, 0.01**2) suits large layers, He's initial
values everywhere.
"""

from __future__ import annotations

import functools

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.network import Network
from minicnn.models.parts import checked, draw_weights, fully_connected, scaled
from minicnn.models.registry import Preset, register

WIDTHS = (64, 128, 256, 512, 512)  # filters of the five blocks
CONFIGURATIONS = {  # kernel sizes of the convolutions of each block
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}


class VGG(Network):
    """One of `CONFIGURATIONS`.

    norm : "batch" behind every convolution, "response" behind the first, or "" for none
    width : factor of the numbers of filters; hidden : units of the two hidden layers
    ceil_mode : whether pools round up
    map_size : the size to which the last map is averaged
    init : of the linear layers, "normal" for N(0, 0.01**2) or "kaiming" for He's

    >>> with nn.without_weights():
    ...     VGG("D").num_parameters()
    138357544
    """

    def __init__(
        self,
        configuration: str,
        norm: str = "",
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        hidden: int = 4096,
        map_size: int = 7,
        ceil_mode: bool = False,
        dropout: float = 0.5,
        init: str = "normal",
    ) -> None:
        super().__init__()
        checked("vgg", "init", init, ("normal", "kaiming"))
        self.features = nn.Sequential()
        for filters, kernels in zip(WIDTHS, CONFIGURATIONS[configuration], strict=True):
            filters = scaled(filters, width)
            for kernel in kernels:
                self._add_convolution(in_channels, filters, kernel, norm)
                in_channels = filters
            self.features.append(nn.MaxPool2d(2, ceil_mode=ceil_mode))
        self.avgpool = nn.AdaptiveAvgPool2d(map_size)
        self.flatten = nn.Flatten()
        self.classifier = fully_connected(in_channels * map_size**2, hidden, num_classes, dropout)
        draw_weights(self.features, lambda w: nn.init.kaiming_normal_(w, mode="fan_out"))
        if init == "kaiming":
            draw_weights(self.classifier, lambda w: nn.init.kaiming_normal_(w))
        else:
            draw_weights(self.classifier, lambda w: nn.init.normal_(w, std=0.01))

    def _add_convolution(self, in_channels: int, filters: int, kernel: int, norm: str) -> None:
        is_first = len(self.features) == 0
        self.features.append(nn.Conv2d(in_channels, filters, kernel, padding=kernel // 2))
        if norm == "batch":
            self.features.append(nn.BatchNorm2d(filters))
        self.features.append(nn.ReLU())
        if norm == "response" and is_first:
            self.features.append(nn.LocalResponseNorm(5, k=2.0, divide_alpha_by_n=False))

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.classifier(self.flatten(self.avgpool(self.features(x))))


_SMALL = {"width": 0.375, "hidden": 256, "map_size": 1, "ceil_mode": True, "init": "kaiming"}
_PRESETS = {
    "imagenet": Preset((3, 224, 224), 1000),
    "cifar10": Preset((3, 32, 32), 10, _SMALL),
    "fashion-mnist": Preset((1, 28, 28), 10, _SMALL),
}
NAMES = {
    "vgg11": ("A", ""),
    "vgg11_lrn": ("A", "response"),
    "vgg11_bn": ("A", "batch"),
    "vgg13": ("B", ""),
    "vgg13_bn": ("B", "batch"),
    "vgg16_c": ("C", ""),
    "vgg16_c_bn": ("C", "batch"),
    "vgg16": ("D", ""),
    "vgg16_bn": ("D", "batch"),
    "vgg19": ("E", ""),
    "vgg19_bn": ("E", "batch"),
}
for _name, (_configuration, _norm) in NAMES.items():
    register(_name, _PRESETS)(functools.partial(VGG, _configuration, _norm))
