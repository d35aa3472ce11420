"""LeNet-5, in the form of 1998, in the form of today, and in Caffe's.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998, section II.B.

Where the networks here differ from the paper:

- Pictures may be 28x28: then C1 pads them by 2, as the paper does when it draws the digits into
  32x32. ``padding=0`` with ``image_size=32`` is the paper's own input; the counts are the same.
- `LeNet5` is what the name means today: C3 sees all maps of S2, subsampling is a plain mean with
  nothing to train, and the end is a linear layer of scores.
- `LeNet5Original` returns scores: the negative distances of its output units. Trained by
  cross-entropy they give the paper's equation 9 but for the constant j of a class "rubbish".
- The output codes of the digits are pictures of our own on the paper's grid of 7x12 pixels (its
  figure 3 has all of ASCII). Classes beyond the tenth get fixed random codes of +1 and -1, an
  alternative that the paper names.
- `LeNetCaffe` is the network of Caffe's MNIST example, with wider layers, max-pooling and ReLU.

The ideas that stayed: filters that are shared over the picture, and a smaller map with more
channels after every subsampling::

    1x28x28 -> C1 6@5x5 -> S2 2x2 -> 6x14x14 -> C3 16@5x5 -> S4 2x2 -> 16x5x5
            -> C5 120 -> F6 84 -> 10

The ideas that went: in 1998 each C3 filter saw only some of the maps (table I), which saved 900 of
2,416 numbers and forced the filters to differ; subsampling had a gain and an offset for each map;
and a class was a fixed code of 84 numbers, the one nearest to F6 winning.
"""

from __future__ import annotations

import math

import numpy as np

import minicnn.functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.network import Network
from minicnn.models.parts import checked, draw_weights, last_map_size
from minicnn.models.registry import Preset, register

# Table I of the paper: the maps of S2 that each of the 16 maps of C3 sees.
CONNECTIONS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
CODE = 12 * 7  # numbers of an output code, which is a picture
# The ten digits beside each other, 7 columns each and one between them.
DIGITS = """
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
.#####. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
##...## ..###.. ##...## ##...## ...###. ##..... .##.... .....## ##...## ##...##
##...## .#.##.. .....## .....## ..#.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. .....## .....## .#..##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##..##. ######. ######. ...##.. .#####. .######
##...## ...##.. ...##.. .....## ####### .....## ##...## ...##.. ##...## .....##
##...## ...##.. ..##... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. .##.... ##...## ....##. ##...## ##...## ..##... ##...## ....##.
.#####. .###### ####### .#####. ....##. .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


class PartialConv2d(nn.Module):
    """A convolution whose filters each see some of the input maps, with weights for these alone.

    ``connections`` lists for each filter the maps that it sees. Parameters: ``weight``
    (connections in all, KH, KW), in the order of that list, and ``bias``. It computes with filters
    that see all maps, with zeros where there is no connection, because one product of dense
    matrices is faster than many of small ones.
    """

    def __init__(
        self, in_channels: int, connections: tuple[tuple[int, ...], ...], kernel_size: int
    ) -> None:
        super().__init__()
        self.connections = connections
        self.kernel_size = (kernel_size, kernel_size)
        count = sum(map(len, connections))
        self.weight = nn.Parameter(np.zeros((count, kernel_size, kernel_size), np.float32))
        self.bias = nn.Parameter(np.zeros(len(connections), np.float32))
        self.places = np.full((len(connections), in_channels), count)  # `count` is the zero filter
        numbers = iter(range(count))
        for row, maps in zip(self.places, connections, strict=True):
            row[list(maps)] = [next(numbers) for _ in maps]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, those of each filter within the bounds for its own inputs."""
        start, taps = 0, math.prod(self.weight.shape[1:])
        for maps in self.connections:
            end = start + len(maps)
            _draw(Tensor(self.weight.array[start:end]), fan_in=len(maps) * taps)
            start = end

    def dense_weight(self) -> Tensor:
        """The filters with zeros for what is not connected: (F, C, KH, KW)."""
        return F.pad(self.weight, (0, 0, 0, 0, 0, 1))[self.places]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, F, OH, OW)."""
        return F.conv2d(x, self.dense_weight(), self.bias)


class Subsampling(nn.Module):
    """The sum of each 2x2 window times a trained gain plus a trained offset, one pair for a map."""

    kernel_size = stride = (2, 2)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.zeros(channels, np.float32))
        self.bias = nn.Parameter(np.zeros(channels, np.float32))
        _draw(self.weight, fan_in=4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2, W / 2)."""
        sums = F.avg_pool2d(x, self.kernel_size) * 4
        return sums * self.weight.reshape(-1, 1, 1) + self.bias.reshape(-1, 1, 1)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3), which maps +1 to +1 and -1 to -1 (the paper's appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.tanh(x * (2 / 3)) * 1.7159


class CodeDistance(nn.Module):
    """Minus the squared distance of x to the fixed code of each class; the nearest scores highest.

    The paper calls these radial basis function (RBF) units.
    """

    def __init__(self, codes: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("weight", codes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, K) -> (N, num_classes)."""
        difference = x.reshape(-1, 1, x.shape[1]) - Tensor(self.weight)
        return -(difference * difference).sum(2)


def output_codes(num_classes: int) -> np.ndarray:
    """The code of each class, (num_classes, 84) of +1 (ink) and -1."""
    rows = [line.split() for line in DIGITS.split("\n") if line]
    digits = ["".join(row[digit] for row in rows) for digit in range(10)]
    drawn = np.array([[1 if pixel == "#" else -1 for pixel in digit] for digit in digits])
    more = max(num_classes - len(digits), 0)
    others = np.random.default_rng(1998).choice((-1, 1), (more, CODE))
    return np.concatenate([drawn[:num_classes], others]).astype(np.float32)


def _draw(weight: Tensor, fan_in: int) -> None:
    """Draw from U(-2.4 / fan_in, 2.4 / fan_in), fan_in the inputs of a unit (appendix A)."""
    nn.init.uniform_(weight, -2.4 / fan_in, 2.4 / fan_in)


ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}
_PRESETS = {
    "mnist": Preset((1, 28, 28), 10),
    "fashion-mnist": Preset((1, 28, 28), 10),
    "cifar10": Preset((3, 32, 32), 10, {"padding": 0}),
}


@register("lenet5", _PRESETS)
class LeNet5(Network):
    """LeNet-5 as it is built today: 61,706 parameters, 416,520 multiply-adds for 28x28 pictures.

    activation : "tanh" (near the paper's), "relu" or "sigmoid"
    padding : of C1

    Initialised like the layers themselves.

    >>> LeNet5().num_parameters()
    61706
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        activation: str = "tanh",
        padding: int = 2,
    ) -> None:
        super().__init__()
        make = ACTIVATIONS[checked("lenet5", "activation", activation, ACTIVATIONS)]
        self.features = nn.Sequential(
            {
                "C1": nn.Conv2d(in_channels, 6, 5, padding=padding),
                "act1": make(),
                "S2": nn.AvgPool2d(2),
                "C3": nn.Conv2d(6, 16, 5),
                "act3": make(),
                "S4": nn.AvgPool2d(2),
            }
        )
        size = last_map_size(self.features, image_size, "lenet5")
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            {
                "C5": nn.Linear(16 * size**2, 120),
                "act5": make(),
                "F6": nn.Linear(120, 84),
                "act6": make(),
                "output": nn.Linear(84, num_classes),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.classifier(self.flatten(self.features(x)))


@register("lenet5_1998", _PRESETS)
class LeNet5Original(Network):
    """LeNet-5 as in the paper: 60,000 parameters, 326,520 multiply-adds for 28x28 pictures.

    ``padding`` is that of C1. Initialised as in the paper's appendix A. Distances are sums over 84
    numbers, so scores and gradients are large: steps of SGD have to be small.

    >>> LeNet5Original().num_parameters()
    60000
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28, padding: int = 2
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            {
                "C1": nn.Conv2d(in_channels, 6, 5, padding=padding),
                "act1": ScaledTanh(),
                "S2": Subsampling(6),
                "act2": ScaledTanh(),
                "C3": PartialConv2d(6, CONNECTIONS, 5),
                "act3": ScaledTanh(),
                "S4": Subsampling(16),
                "act4": ScaledTanh(),
            }
        )
        size = last_map_size(self.features, image_size, "lenet5_1998")
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            {
                "C5": nn.Linear(16 * size**2, 120),
                "act5": ScaledTanh(),
                "F6": nn.Linear(120, CODE),
                "act6": ScaledTanh(),
                "output": CodeDistance(output_codes(num_classes)),
            }
        )
        draw_weights(self, lambda weight: _draw(weight, math.prod(weight.shape[1:])))

    def forward(self, x: Tensor) -> Tensor:
        """Images in, minus the squared distances to the codes out."""
        return self.classifier(self.flatten(self.features(x)))


@register("lenet_caffe", _PRESETS)
class LeNetCaffe(Network):
    """The LeNet of Caffe's MNIST example: 431,080 parameters, 2,293,000 multiply-adds.

    No activation stands between its convolutions, only max-pooling; ``padding`` is that of both.
    Weights are drawn from U(-b, b) with b = sqrt(3 / fan_in), which Caffe calls "xavier"; biases
    are 0.

    >>> LeNetCaffe().num_parameters()
    431080
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28, padding: int = 0
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            {
                **{
                    "conv1": nn.Conv2d(in_channels, 20, 5, padding=padding),
                    "pool1": nn.MaxPool2d(2),
                },
                **{"conv2": nn.Conv2d(20, 50, 5, padding=padding), "pool2": nn.MaxPool2d(2)},
            }
        )
        size = last_map_size(self.features, image_size, "lenet_caffe")
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            {
                **{"ip1": nn.Linear(50 * size**2, 500), "relu1": nn.ReLU()},
                "ip2": nn.Linear(500, num_classes),
            }
        )
        draw_weights(self, lambda w: nn.init.kaiming_uniform_(w, nonlinearity="linear"))

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.classifier(self.flatten(self.features(x)))
