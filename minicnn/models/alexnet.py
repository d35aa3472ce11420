"""AlexNet, in the form of the paper, of the lecture notes, and of torchvision.

A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet classification with deep convolutional neural
networks", NIPS 2012. The form that torchvision has: A. Krizhevsky, "One weird trick for
parallelizing convolutional neural networks", arXiv 1404.5997 (2014).

Where the networks here differ from the papers:

- Images are 227x227. The paper prints 224, but (224 - 11) / 4 is not whole, and its 55x55 map
  needs 227.
- ``alexnet_2012`` keeps the two halves that ran on two GPUs as convolutions of two groups; the
  response normalisation reaches across the border between the halves, as in Caffe.
- ``alexnet_notes`` is the lecture notes' single tower: no groups, and the order convolution, pool,
  norm (that of CaffeNet), where the paper normalises first.
- ``alexnet`` is torchvision's reading of the later paper, and takes its weights: no response
  normalisation, dropout in front of the first two linear layers, layers initialised by default.
- Dropout scales by 1 / (1 - p) in training, where the paper halves the outputs in evaluation.

The preset "fashion-mnist" (and "cifar10" for 3x32x32) has half as many filters, a first
convolution of 3x3 with stride 1 in place of 11x11 with stride 4, 512 hidden units in place of
4096, and, because the others suit large layers, He's initial values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.network import Network
from minicnn.models.parts import checked, draw_weights, fully_connected, last_map_size, scaled
from minicnn.models.registry import Preset, register

WIDTHS = (96, 256, 384, 384, 256)  # filters of the five convolutions
ONE_WEIRD_TRICK = (64, 192, 384, 256, 256)
Geometry = tuple[int, int, int]  # kernel size, stride and padding of a convolution
REST = ((5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))  # of the second to the fifth
TWO_GPU = (1, 2, 1, 2, 2)  # groups: only conv3 sees the maps of both GPUs
LRN_ORDERS = ("conv-relu-norm-pool", "conv-relu-pool-norm")

_SMALL = {"width": 0.5, "stem": (3, 1, 1), "hidden": 512, "init": "kaiming"}
_PRESETS_2012 = {
    "imagenet": Preset((3, 227, 227), 1000),
    "cifar10": Preset((3, 32, 32), 10, _SMALL),
    "fashion-mnist": Preset((1, 28, 28), 10, _SMALL),
}


@register("alexnet_2012", _PRESETS_2012)
class AlexNet2012(Network):
    """AlexNet with response normalisation, in groups as on two GPUs or as one tower.

    groups : 2 as in the paper (60,965,224 parameters, 724,406,816 multiply-adds), or 1 (62,378,344
        and 1,135,256,096)
    lrn_order : one of `LRN_ORDERS`; the paper's is the first
    init : "paper" draws weights from N(0, 0.01**2) and sets the biases of conv2, conv4, conv5 and
        the two hidden layers to 1, the others to 0; "caffe" draws the two hidden layers from
        N(0, 0.005**2) and has 0.1 in place of 1; "kaiming" is He's, all biases 0
    width : factor of the numbers of filters; hidden : units of the two hidden layers
    stem : kernel size, stride and padding of the first convolution

    The normalisation has the paper's constants k = 2, n = 5, alpha = 1e-4 and beta = 0.75, with
    alpha not divided by n, as the paper's formula has it.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int = 227,
        groups: int = 2,
        lrn_order: str = LRN_ORDERS[0],
        init: str = "paper",
        width: float = 1.0,
        stem: Geometry = (11, 4, 0),
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        checked("alexnet_2012", "groups", groups, (1, 2))
        checked("alexnet_2012", "lrn_order", lrn_order, LRN_ORDERS)
        checked("alexnet_2012", "init", init, INITIAL)
        widths = [scaled(filters // 2, width) * 2 for filters in WIDTHS]  # even, for two groups
        self.features = nn.Sequential()
        split = TWO_GPU if groups == 2 else (1,) * 5
        for number, geometry in enumerate((stem, *REST)):
            conv = nn.Conv2d(in_channels, widths[number], *geometry, groups=split[number])
            self._add_stage(number + 1, conv, lrn_order)
            in_channels = widths[number]
        size = last_map_size(self.features, image_size, "alexnet_2012")
        self.flatten = nn.Flatten()
        self.classifier = fully_connected(in_channels * size**2, hidden, num_classes, dropout)
        INITIAL[init](self)

    def _add_stage(self, number: int, conv: nn.Conv2d, lrn_order: str) -> None:
        """Append convolution ``number``, counted from 1, and what follows it."""
        add = self.features.add_module
        add(f"conv{number}", conv)
        add(f"relu{number}", nn.ReLU())
        for kind in lrn_order.split("-")[2:]:
            if kind == "norm" and number in (1, 2):
                add(f"norm{number}", nn.LocalResponseNorm(5, k=2.0, divide_alpha_by_n=False))
            if kind == "pool" and number in (1, 2, 5):
                add(f"pool{number}", nn.MaxPool2d(3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.classifier(self.flatten(self.features(x)))


def _initialise_small(model: AlexNet2012, hidden_std: float, bias: float) -> None:
    """Normal weights of standard deviation 0.01; positive biases let every ReLU start alive."""
    conv, fc = model.features, model.classifier
    draw_weights(model, lambda weight: nn.init.normal_(weight, std=0.01))
    for number in (2, 4, 5):
        nn.init.constant_(conv.get_submodule(f"conv{number}").bias, bias)
    for layer in (fc[0], fc[3]):
        draw_weights(layer, lambda weight: nn.init.normal_(weight, std=hidden_std), bias)


def _initialise_kaiming(model: Network) -> None:
    draw_weights(model, lambda weight: nn.init.kaiming_normal_(weight))


INITIAL: dict[str, Callable[[AlexNet2012], None]] = {
    "paper": functools.partial(_initialise_small, hidden_std=0.01, bias=1.0),
    "caffe": functools.partial(_initialise_small, hidden_std=0.005, bias=0.1),
    "kaiming": _initialise_kaiming,
}
register("alexnet_notes", _PRESETS_2012)(
    functools.partial(AlexNet2012, groups=1, lrn_order=LRN_ORDERS[1])
)


@register(
    "alexnet",
    {
        "imagenet": Preset((3, 224, 224), 1000),
        "cifar10": Preset((3, 32, 32), 10, {**_SMALL, "map_size": 3}),
        "fashion-mnist": Preset((1, 28, 28), 10, {**_SMALL, "map_size": 2}),
    },
)
class AlexNet(Network):
    """torchvision's AlexNet: 61,100,840 parameters, 714,188,480 multiply-adds.

    width, hidden, stem : as of `AlexNet2012`
    map_size : the size to which the last map is averaged, whatever size the images have
    init : "default" leaves the layers as they are, "kaiming" is He's
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: float = 1.0,
        stem: Geometry = (11, 4, 2),
        hidden: int = 4096,
        map_size: int = 6,
        init: str = "default",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        checked("alexnet", "init", init, ("default", "kaiming"))
        self.features = nn.Sequential()
        for number, geometry in enumerate((stem, *REST)):
            filters = scaled(ONE_WEIRD_TRICK[number], width)
            self.features.append(nn.Conv2d(in_channels, filters, *geometry))
            self.features.append(nn.ReLU())
            if number in (0, 1, 4):
                self.features.append(nn.MaxPool2d(3, stride=2))
            in_channels = filters
        self.avgpool = nn.AdaptiveAvgPool2d(map_size)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(in_channels * map_size**2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )
        if init == "kaiming":
            _initialise_kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.classifier(self.flatten(self.avgpool(self.features(x))))
