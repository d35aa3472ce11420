"""GoogLeNet, the first Inception network: nine modules of four branches, and two auxiliary heads.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich 2015, "Going Deeper with
Convolutions", https://arxiv.org/abs/1409.4842

Deviations from the paper: the default, ``form="torchvision"``, is the network whose weights are
published with torchvision. Each convolution has a batch norm in place of its bias, and there is no
local response normalisation; the filters that the paper has as 5x5 are 3x3, a mistake of the port
that its weights rely on; the fourth pooling is 2x2, the heads bring every map to 4x4 with adaptive
pooling, and dropout before the classifier is 0.2. The other forms:

- ``"paper"``: biases, local response normalisation (constants of the authors' Caffe model), 5x5
  filters, 3x3 pooling, dropout 0.4. The heads pool 5x5 with stride 3 where that gives 4x4, which is
  so for images of 224, and adaptively elsewhere;
- ``"batch_norm"``: the paper's with batch norms in place of biases and response normalisation;
- ``"naive"``: the paper's without the 1x1 convolutions of the modules (its figure 2a). As the
  pooling branch keeps all channels, each module is wider than the one before: 97.5 million
  parameters in place of 7.0. A demonstration of why the bottleneck exists.

The paper's figures of parameters do not all follow from the widths that it prints; the numbers of
parameters here do.

A module is ``concat(1x1 | 1x1 -> 3x3 | 1x1 -> 5x5 | pool 3x3 -> 1x1)``. Pooling rounds up.
Weights start as torchvision's, from a normal distribution with deviation 0.01; without batch norm,
where that would let the signal die, as the Caffe model's: U(-b, b) with b = sqrt(3 / fan_in), and
bias 0.2, 0 in the classifiers.

The presets for small images change the stem: its first convolution is 3x3 with stride 1 instead of
7x7 with stride 2, and no pooling follows; and all layers have a quarter of the channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from minicnn import functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.auxiliary import AuxiliaryNetwork
from minicnn.models.inception_block import basic_conv, renormalized, truncated_normal_
from minicnn.models.parts import checked, scaled
from minicnn.models.registry import Preset, register
from minicnn.nn import init

MODULES = {  # 1x1, reduction before 3x3, 3x3, reduction before 5x5, 5x5, projection after pooling
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
HEADS = {"inception4a": "aux1", "inception4d": "aux2"}


@dataclass(frozen=True)
class Form:
    """What the forms of the network differ in."""

    norm: bool
    large_filter: int = 5
    pool4: int = 3
    dropout: float = 0.4
    adaptive_heads: bool = False
    naive: bool = False


FORMS = {
    "torchvision": Form(norm=True, large_filter=3, pool4=2, dropout=0.2, adaptive_heads=True),
    "paper": Form(norm=False),
    "batch_norm": Form(norm=True),
    "naive": Form(norm=False, naive=True),
}


class GoogLeNetOutputs(NamedTuple):
    """The logits in training: those of the network, of the head on 4d, and of the head on 4a."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor


class Inception(nn.Module):
    """A module: the branches of one row of `MODULES`, joined; ``out_channels`` come out."""

    def __init__(self, in_channels: int, widths: tuple[int, ...], form: Form) -> None:
        super().__init__()
        C, norm, large = in_channels, form.norm, form.large_filter
        one, reduce3, three, reduce5, five, projection = widths
        pool = nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True)

        def conv(channels: int, filters: int, size: int) -> nn.Sequential:
            return basic_conv(channels, filters, size, 1, size // 2, not norm, norm)

        self.branch1 = conv(C, one, 1)
        self.branch2: nn.Module
        self.branch3: nn.Module
        self.branch4: nn.Module
        if form.naive:
            self.branch2, self.branch3, self.branch4 = conv(C, three, 3), conv(C, five, large), pool
            self.out_channels = one + three + five + C
        else:
            self.branch2 = nn.Sequential(conv(C, reduce3, 1), conv(reduce3, three, 3))
            self.branch3 = nn.Sequential(conv(C, reduce5, 1), conv(reduce5, five, large))
            self.branch4 = nn.Sequential(pool, conv(C, projection, 1))
            self.out_channels = one + three + five + projection

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        return F.cat([branch(x) for branch in self.children()], dim=1)


class AuxiliaryHead(nn.Module):
    """A classifier on a map in the middle: pooling to 4x4, 1x1 convolution, two linear layers."""

    def __init__(self, in_channels: int, num_classes: int, width: float, form: Form) -> None:
        super().__init__()
        channels, features = scaled(128, width), scaled(1024, width)
        self._adaptive = form.adaptive_heads
        self.conv = basic_conv(in_channels, channels, 1, bias=not form.norm, norm=form.norm)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(channels * 16, features)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """A map of any size in, logits out."""
        windows_fit = all(14 <= side <= 16 for side in x.shape[2:])
        if windows_fit and not self._adaptive:
            x = F.avg_pool2d(x, 5, stride=3)
        else:
            x = F.adaptive_avg_pool2d(x, 4)
        x = self.relu(self.fc1(self.flatten(self.conv(x))))
        return self.fc2(self.dropout(x))


SMALL = {"small_images": True, "width": 0.25}


@register(
    "googlenet",
    {
        "imagenet": Preset((3, 224, 224), 1000),
        "fashion-mnist": Preset((1, 28, 28), 10, SMALL),
        "cifar10": Preset((3, 32, 32), 10, SMALL),
    },
)
class GoogLeNet(AuxiliaryNetwork):
    """GoogLeNet, 22 layers deep: 6,624,904 parameters, and 6,379,984 more in the two heads.

    form : "torchvision", "paper", "batch_norm" or "naive"; see the module's text
    aux_logits : whether there are heads; then training gives `GoogLeNetOutputs`
    small_images, width : for maps of 28x28 or 32x32, and the factor for the channels
    transform_input : images come with ImageNet's statistics, weights expect 0.5; three channels

    Input (N, in_channels, H, W), output (N, num_classes) logits.

    >>> with nn.without_weights():
    ...     GoogLeNet(form="paper", aux_logits=False).num_parameters()
    6998552
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        form: str = "torchvision",
        aux_logits: bool = True,
        small_images: bool = False,
        width: float = 1.0,
        transform_input: bool = False,
    ) -> None:
        super().__init__()
        chosen = FORMS[checked("googlenet", "form", form, FORMS)]
        self.transform_input = transform_input
        channels = self._add_stem(in_channels, small_images, width, chosen)
        heads = {}
        for name, widths in MODULES.items():
            block = Inception(channels, tuple(scaled(c, width) for c in widths), chosen)
            self.add_module(f"inception{name}", block)
            heads[name] = channels = block.out_channels
            if name == "3b":
                self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            elif name == "4e":
                self.maxpool4 = nn.MaxPool2d(chosen.pool4, stride=2, ceil_mode=True)
        self._trunk = [name for name, _ in self.named_children()]
        if aux_logits:
            self.aux1 = AuxiliaryHead(heads["4a"], num_classes, width, chosen)
            self.aux2 = AuxiliaryHead(heads["4d"], num_classes, width, chosen)
            self.auxiliary_weights = (0.3, 0.3)
        self.avgpool = nn.GlobalAvgPool2d()
        self.dropout = nn.Dropout(chosen.dropout)
        self.fc = nn.Linear(channels, num_classes)
        self._initialize(chosen)

    def _add_stem(self, in_channels: int, small_images: bool, width: float, form: Form) -> int:
        """Convolutions, response normalisation and pooling up to 3a; how many channels come out."""
        norm = {"bias": not form.norm, "norm": form.norm}
        first, second = scaled(64, width), scaled(192, width)
        if small_images:
            self.conv1 = basic_conv(in_channels, first, 3, padding=1, **norm)
        else:
            self.conv1 = basic_conv(in_channels, first, 7, stride=2, padding=3, **norm)
            self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        if not form.norm:
            self.lrn1 = nn.LocalResponseNorm(5)
        self.conv2 = basic_conv(first, first, 1, **norm)
        self.conv3 = basic_conv(first, second, 3, padding=1, **norm)
        if not form.norm:
            self.lrn2 = nn.LocalResponseNorm(5)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        return second

    def _initialize(self, form: Form) -> None:
        if form.norm:
            truncated_normal_(self, std=0.01)
            return
        for name, module in self.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                init.kaiming_uniform_(module.weight, nonlinearity="linear")
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                init.constant_(module.bias, 0.0 if name.endswith(("fc", "fc2")) else 0.2)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        """Images in, logits out; in training with heads, `GoogLeNetOutputs`."""
        if self.transform_input:
            x = renormalized(x)
        with_heads = self.training and self.auxiliary_weights
        heads: list[Tensor] = []
        for name in self._trunk:
            x = getattr(self, name)(x)
            if with_heads and name in HEADS:
                heads.append(getattr(self, HEADS[name])(x))
        logits = self.fc(self.dropout(self.avgpool(x)))
        return GoogLeNetOutputs(logits, heads[1], heads[0]) if with_heads else logits
