"""BN-Inception, also called Inception v2: GoogLeNet with batch normalisation, and without 5x5.

Ioffe & Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
Covariate Shift", https://arxiv.org/abs/1502.03167, section 4.2 and figure 5.

Deviations from the paper: its table gives 128 channels to the pooling branches of 4c and 4d, but
576 to what comes out of them, which the sum of their branches is only with 96. 96 is the default,
as in the authors' later release; ``pool_projection=128`` makes 608 channels. The stem is a plain
7x7 convolution; ``separable_stem=True`` is the later release's: 8 filters of 7x7 for each channel
of the image, then a 1x1 convolution. ``bias=True`` gives each convolution a bias, as the Caffe
models have, although the batch norm behind it subtracts it again. The max-pooling of the modules
that halve the map is padded like the convolutions beside it, so that maps of odd height fit too.

Against GoogLeNet: each 5x5 filter is two of 3x3, average pooling takes the place of max-pooling in
most modules, 3c and 4e halve the map themselves, and there is no response normalisation. Dropout is
0.2 (the authors' release), there are no auxiliary heads. Weights start from a normal distribution
with deviation 0.1, as torchvision's Inception v3; the paper does not say.

The presets for small images change the stem: its first convolution is 3x3 with stride 1, and no
pooling follows; and all layers have a quarter of the channels.
"""

from __future__ import annotations

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.inception_block import (
    EPS,
    Branches,
    Conv,
    Step,
    basic_conv,
    truncated_normal_,
)
from minicnn.models.network import Network
from minicnn.models.parts import scaled
from minicnn.models.registry import Preset, register

# 1x1, (reduction, 3x3), (reduction, 3x3, 3x3), pooling, projection behind the pooling.
# Without 1x1 and projection the module halves the map.
MODULES = {
    "3a": (64, (64, 64), (64, 96, 96), "average", 32),
    "3b": (64, (64, 96), (64, 96, 96), "average", 64),
    "3c": (0, (128, 160), (64, 96, 96), "max", 0),
    "4a": (224, (64, 96), (96, 128, 128), "average", 128),
    "4b": (192, (96, 128), (96, 128, 128), "average", 128),
    "4c": (160, (128, 160), (128, 160, 160), "average", 96),
    "4d": (96, (128, 192), (160, 192, 192), "average", 96),
    "4e": (0, (128, 192), (192, 256, 256), "max", 0),
    "5a": (352, (192, 320), (160, 224, 224), "average", 128),
    "5b": (352, (192, 320), (192, 224, 224), "max", 128),
}
AMBIGUOUS = ("4c", "4d")  # whose projection the paper gives two widths
SMALL = {"small_images": True, "width": 0.25}


def branches(name: str, pool_projection: int) -> list[list[Step]]:
    """The branches of a module of `MODULES`."""
    one, (reduce3, three), (reduce_twice, inner, outer), pooling, projection = MODULES[name]
    stride = 1 if one else 2
    pool = nn.AvgPool2d if pooling == "average" else nn.MaxPool2d
    result: list[list[Step]] = [
        [Conv("branch3x3_1", reduce3), Conv("branch3x3_2", three, 3, stride, 1)],
        [
            Conv("branch3x3dbl_1", reduce_twice),
            Conv("branch3x3dbl_2", inner, 3),
            Conv("branch3x3dbl_3", outer, 3, stride, 1),
        ],
        [pool(3, stride=stride, padding=1)],
    ]
    if one:
        result.insert(0, [Conv("branch1x1", one)])
        projection = pool_projection if name in AMBIGUOUS else projection
        result[-1].append(Conv("branch_pool", projection))
    return result


@register(
    "inception_v2",
    {
        "imagenet": Preset((3, 224, 224), 1000),
        "fashion-mnist": Preset((1, 28, 28), 10, SMALL),
        "cifar10": Preset((3, 32, 32), 10, SMALL),
    },
)
class InceptionV2(Network):
    """BN-Inception: 11,194,984 parameters.

    pool_projection : channels behind the pooling of 4c and 4d, 96 or 128
    bias : whether convolutions have one; separable_stem : see the module's text
    small_images, width : for maps of 28x28 or 32x32, and the factor for the channels

    Input (N, in_channels, H, W), output (N, num_classes) logits.

    >>> with nn.without_weights():
    ...     InceptionV2().num_parameters()
    11194984
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        pool_projection: int = 96,
        bias: bool = False,
        separable_stem: bool = False,
        small_images: bool = False,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        first, channels = scaled(64, width), scaled(192, width)
        self.features = nn.Sequential()
        if separable_stem:
            self.features.add_module("conv1", separable_conv(in_channels, first, small_images))
        elif small_images:
            self.features.add_module("conv1", basic_conv(in_channels, first, 3, 1, 1, bias))
        else:
            self.features.add_module("conv1", basic_conv(in_channels, first, 7, 2, 3, bias))
        if not small_images:
            self.features.add_module("pool1", nn.MaxPool2d(3, stride=2, ceil_mode=True))
        self.features.add_module("conv2", basic_conv(first, first, 1, bias=bias))
        self.features.add_module("conv3", basic_conv(first, channels, 3, padding=1, bias=bias))
        self.features.add_module("pool2", nn.MaxPool2d(3, stride=2, ceil_mode=True))
        for name in MODULES:
            block = Branches(channels, branches(name, pool_projection), width, bias=bias)
            self.features.add_module(f"inception{name}", block)
            channels = block.out_channels
        self.avgpool = nn.GlobalAvgPool2d()
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(channels, num_classes)
        truncated_normal_(self, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.fc(self.dropout(self.avgpool(self.features(x))))


def separable_conv(in_channels: int, out_channels: int, small_images: bool) -> nn.Sequential:
    """8 filters for each channel of the image alone, then a 1x1 convolution of them all.

    >>> sum(p.size for p in separable_conv(3, 64, small_images=False).parameters())
    2840
    """
    size, stride, filters = (3, 1, 8) if small_images else (7, 2, 8)
    inner = filters * in_channels
    return nn.Sequential(
        {
            "depthwise": nn.Conv2d(
                in_channels, inner, size, stride, size // 2, groups=in_channels, bias=False
            ),
            "pointwise": nn.Conv2d(inner, out_channels, 1, bias=False),
            "bn": nn.BatchNorm2d(out_channels, eps=EPS),
            "relu": nn.ReLU(),
        }
    )
