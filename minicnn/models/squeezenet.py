"""SqueezeNet: AlexNet's accuracy with one fiftieth of its weights.

F. Iandola, S. Han, M. Moskewicz, K. Ashraf, W. Dally, K. Keutzer, "SqueezeNet: AlexNet-level
accuracy with 50x fewer parameters and <0.5MB model size", arXiv 1602.07360 (2016), table 1 and
figure 2. Version 1.1 is the authors' later revision, with 2.4 times fewer multiply-adds by their
count.

Where the networks here differ from the paper:

- They are torchvision's, with its weights' names and its initial values: He's (uniform), in the
  last convolution N(0, 0.01**2). The paper prints none; the authors' files have Glorot's.
- Images of version 1.0 are 227x227. The paper prints 224, but its map of 111x111 needs 227.
- The last convolution is not padded (the authors' first file pads it by 1).

A "fire" module first squeezes its input to a few channels by 1x1 convolutions, and then expands
them by 1x1 and 3x3 convolutions side by side: the expensive 3x3 filters see few channels. Pooling
comes late, so that maps stay large, and the mean of a last map for each class is its score.

The bypasses of the paper's figure 2 add to the output of a fire module its input ("simple": around
every module with as many channels in as out) and, around the other modules, the input through a
1x1 convolution ("complex": both).

The preset "fashion-mnist" (and "cifar10" for 3x32x32) has a first convolution of 3x3 with stride 1
that keeps the size of the image, and no ReLU behind the last convolution. That ReLU can give a
class the score 0 for every image from the start, with no gradient to change it; of ten classes,
several never recover.
"""

from __future__ import annotations

import functools

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.functional import concat
from minicnn.models.network import Network
from minicnn.models.parts import checked, draw_weights, scaled
from minicnn.models.registry import Preset, register

# Filters and geometry (kernel size, stride, padding) of the first convolution, then pools ("M") and
# fire modules: channels of the squeeze, and of each expansion.
Fires = tuple[str | tuple[int, int], ...]
VERSIONS: dict[str, tuple[int, tuple[int, int, int], Fires]] = {
    "1.0": (
        96,
        (7, 2, 0),
        (
            *("M", (16, 64), (16, 64), (32, 128)),
            *("M", (32, 128), (48, 192), (48, 192), (64, 256)),
            *("M", (64, 256)),
        ),
    ),
    "1.1": (
        64,
        (3, 2, 0),
        (
            *("M", (16, 64), (16, 64)),
            *("M", (32, 128), (32, 128)),
            *("M", (48, 192), (48, 192), (64, 256), (64, 256)),
        ),
    ),
}
BYPASSES = ("none", "simple", "complex")


class Fire(nn.Module):
    """Squeeze to a few channels, then expand by 1x1 and 3x3 filters: (N, C, H, W) -> 2E channels.

    bypass : what is added to the result: nothing, the input, or the input through a 1x1 convolution
    """

    def __init__(
        self, in_channels: int, squeeze: int, expand: int, bypass: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()
        self.add_module("bypass", bypass)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 2 * expand, H, W)."""
        squeezed = nn.run_chain([self.squeeze, self.squeeze_activation], x)
        narrow = nn.run_chain([self.expand1x1, self.expand1x1_activation], squeezed)
        wide = nn.run_chain([self.expand3x3, self.expand3x3_activation], squeezed)
        y = concat([narrow, wide], 1)
        return y if self.bypass is None else y + self.bypass(x)


class SqueezeNet(Network):
    """SqueezeNet 1.0 (1,248,424 parameters) or 1.1 (1,235,496).

    bypass : "none", "simple" (which adds no parameters) or "complex"
    width : factor of the numbers of filters
    stem : kernel size, stride and padding of the first convolution, in place of the version's
    relu_scores : whether the scores of a place are rectified before their mean
    """

    def __init__(
        self,
        version: str,
        num_classes: int = 1000,
        in_channels: int = 3,
        bypass: str = "none",
        width: float = 1.0,
        stem: tuple[int, int, int] | None = None,
        relu_scores: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        checked("squeezenet", "bypass", bypass, BYPASSES)
        filters, geometry, rest = VERSIONS[version]
        geometry = stem or geometry
        channels = scaled(filters, width)
        self.features = nn.Sequential(nn.Conv2d(in_channels, channels, *geometry), nn.ReLU())
        for part in rest:
            if isinstance(part, str):
                self.features.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            else:
                squeeze, expand = (scaled(number, width) for number in part)
                around = _bypass(bypass, channels, 2 * expand)
                self.features.append(Fire(channels, squeeze, expand, around))
                channels = 2 * expand
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Conv2d(channels, num_classes, 1),
            nn.ReLU() if relu_scores else nn.Identity(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.flatten = nn.Flatten()
        draw_weights(self, nn.init.kaiming_uniform_)
        nn.init.normal_(self.classifier[1].weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.flatten(self.classifier(self.features(x)))


def _bypass(kind: str, in_channels: int, out_channels: int) -> nn.Module | None:
    """What runs around a fire module."""
    if kind != "none" and in_channels == out_channels:
        return nn.Identity()
    return nn.Conv2d(in_channels, out_channels, 1) if kind == "complex" else None


_SMALL = {"stem": (3, 1, 1), "relu_scores": False}


def _presets(size: int) -> dict[str, Preset]:
    return {
        "imagenet": Preset((3, size, size), 1000),
        "cifar10": Preset((3, 32, 32), 10, _SMALL),
        "fashion-mnist": Preset((1, 28, 28), 10, _SMALL),
    }


register("squeezenet1_0", _presets(227))(functools.partial(SqueezeNet, "1.0"))
register("squeezenet1_1", _presets(224))(functools.partial(SqueezeNet, "1.1"))
