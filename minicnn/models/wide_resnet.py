"""Wide ResNet: fewer layers, more filters in each.

Sergey Zagoruyko, Nikos Komodakis 2016, "Wide Residual Networks", arXiv 1605.07146. Table 1 for
CIFAR, section 3.3 for ImageNet.

Deviations from the paper
  - ``dropout`` is 0 unless asked for; the paper uses 0.3 for CIFAR and 0.4 for SVHN, in some runs.
  - The ImageNet networks wide_resnet50_2 and wide_resnet101_2 are post-activation bottlenecks with
    a 3x3 of twice the width, as in the authors' code and in PyTorch; 101 is PyTorch's addition.
  - Preset "fashion-mnist": the first convolution has fewer than 16 filters, as the table says, and
    the groups shrink with it; depth and factor k stay.

    3x3, 16 maps -> n blocks of 16k maps -> n of 32k, half the map -> n of 64k -> BN, ReLU, mean, fc

WRN-d-k has d = 6n + 4 layers: the paper counts the three 1x1 convolutions of the shortcuts too.
Its blocks are those of `preact_resnet`. Dropout stands between the two convolutions of a block,
where it cannot cut the shortcut. With 28 layers, WRN-28-10 has a lower error on CIFAR-10 than a
thin network of 1001 layers: depth is not what makes residual networks good, and a few large
convolutions keep a processor busy where many small ones in sequence do not.

Convolutions start from N(0, 2 / fan_in), biases from zero.
"""

from __future__ import annotations

from functools import partial

from minicnn.errors import ArgumentError
from minicnn.models.cifar_resnet import cifar_presets
from minicnn.models.preact_resnet import PreActBasic, PreActResNet
from minicnn.models.registry import register
from minicnn.models.resnet import bottleneck_resnet, presets

# Depth, factor k, and the width of the "fashion-mnist" preset (16 in the other).
CIFAR = ((16, 4, 6), (16, 8, 3), (28, 10, 2), (40, 1, 16), (40, 2, 8), (40, 4, 4))
# Blocks in each stage, and the width of the "fashion-mnist" preset (64 in all others).
BOTTLENECK = {"wide_resnet50_2": ((3, 4, 6, 3), 8), "wide_resnet101_2": ((3, 4, 23, 3), 6)}


class WideResNet(PreActResNet):
    """WRN-depth-k: ``depth`` = 6n + 4 layers, ``k`` times as wide as a ResNet for CIFAR.

    ``width`` is that of the first convolution, 16 in the paper; ``dropout`` the probability of
    zeroing a value between the two convolutions of a block.

    >>> WideResNet(depth=10, k=2).num_parameters()
    303706
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: int = 28,
        k: int = 10,
        dropout: float = 0.0,
        width: int = 16,
    ) -> None:
        count = (depth - 4) // 6
        if count < 1 or depth != 6 * count + 4:
            lower = 6 * max(count, 1) + 4
            raise ArgumentError(
                f"WideResNet: depth is {depth}, but it must be 6n + 4; use {lower} or {lower + 6}."
            )
        planes = [width * k * 2**i for i in range(3)]
        block = partial(PreActBasic, dropout=dropout)
        super().__init__(
            *(block, PreActBasic.expansion, (count,) * 3, planes, num_classes, in_channels),
            *(width, "bare", "fan_in"),
        )


for _depth, _k, _width in CIFAR:
    register(f"wrn{_depth}_{_k}", cifar_presets(width=_width))(
        partial(WideResNet, depth=_depth, k=_k)
    )
for _name, (_layers, _width) in BOTTLENECK.items():
    register(_name, presets(width=_width))(
        partial(bottleneck_resnet, layers=_layers, width_per_group=128)
    )
