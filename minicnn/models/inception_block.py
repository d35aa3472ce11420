"""What the Inception networks are made of: branches side by side, joined along the channels.

A convolution with filters of one size sees one scale. An Inception module has branches of several
scales that all read the same map, and concatenates what they find. Convolutions of 1x1 in front of
the expensive filters, and behind the pooling, reduce the number of channels first; without them a
module would only ever add channels (see ``form="naive"`` of `minicnn.models.googlenet`).
All branches must give maps of one height and width; joining others raises `ShapeError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from minicnn import functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.parts import scaled
from minicnn.nn import init
from minicnn_kernels.geometry import IntPair, Padding

EPS = 1e-3  # added to the variance by the batch norms of all Inception networks


class Conv(NamedTuple):
    """A convolution of a table: its name in the module, its filters, and its window."""

    name: str
    channels: int
    kernel_size: IntPair = 1
    stride: int = 1
    padding: Padding = "same"

    @property
    def window(self) -> tuple[IntPair, int, Padding]:
        """Its settings in the order of `basic_conv`."""
        return self.kernel_size, self.stride, self.padding


Step = Conv | nn.Module | tuple[Conv, ...]  # a tuple: several convolutions of the same map, joined


def basic_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: IntPair,
    stride: int = 1,
    padding: Padding = 0,
    bias: bool = False,
    norm: bool = True,
) -> nn.Sequential:
    """A convolution, batch normalisation where ``norm`` is true, and a ReLU.

    >>> [name for name, _ in basic_conv(3, 8, 1).named_parameters()]
    ['conv.weight', 'bn.weight', 'bn.bias']
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
    bn = {"bn": nn.BatchNorm2d(out_channels, eps=EPS)} if norm else {}
    return nn.Sequential({"conv": conv, **bn, "relu": nn.ReLU()})


class Branches(nn.Module):
    """Chains of layers that read the same map; their outputs are concatenated.

    branches : chains of `Conv`, of a tuple of `Conv` (a fork: all read the same map and are
        joined), or of a pooling layer; at most one pooling layer in all
    width, bias : factor for the channels of the table; whether convolutions have biases

    Each convolution is a part under its own name; the number of channels that come out is
    ``out_channels``. Input (N, in_channels, H, W), output (N, out_channels, OH, OW).

    >>> block = Branches(8, [[Conv("one", 4)], [Conv("reduce", 2), Conv("three", 6, 3)]])
    >>> block.out_channels, [name for name, _ in block.named_children()]
    (10, ['one', 'reduce', 'three'])
    """

    def __init__(
        self,
        in_channels: int,
        branches: Sequence[Sequence[Step]],
        width: float = 1.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self._routes: list[list[tuple[str, ...]]] = []
        self.out_channels = 0
        for branch in branches:
            self.out_channels += self._add_branch(in_channels, branch, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Run the branches and join them."""
        return F.cat([self._follow(route, x) for route in self._routes], dim=1)

    def _follow(self, route: list[tuple[str, ...]], x: Tensor) -> Tensor:
        for names in route:
            outputs = [getattr(self, name)(x) for name in names]
            x = outputs[0] if len(outputs) == 1 else F.cat(outputs, dim=1)
        return x

    def _add_branch(self, channels: int, branch: Sequence[Step], width: float, bias: bool) -> int:
        """Make the layers of a branch; the number of channels at its end."""
        route: list[tuple[str, ...]] = []
        for step in branch:
            if isinstance(step, nn.Module):
                self.pool = step
                route.append(("pool",))
                continue
            fork = (step,) if isinstance(step, Conv) else step
            route.append(tuple(conv.name for conv in fork))
            for conv in fork:
                layers = basic_conv(channels, scaled(conv.channels, width), *conv.window, bias=bias)
                self.add_module(conv.name, layers)
            channels = sum(scaled(conv.channels, width) for conv in fork)
        self._routes.append(route)
        return channels


def truncated_normal_(model: nn.Module, std: float) -> None:
    """Draw all convolutions and fully connected layers anew from a normal distribution, in [-2, 2].

    Biases stay as the layers made them. Source: the initialisation of torchvision's two Inception
    networks.

    >>> layer = nn.Linear(4, 4)
    >>> truncated_normal_(layer, std=0.0)
    >>> layer.weight.array.any()
    np.False_
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.trunc_normal_(module.weight, std=std)


def renormalized(x: Tensor) -> Tensor:
    """Images normalised by ImageNet's statistics, as if by the mean 0.5 and the deviation 0.5.

    The weights that Google published expect the latter; torchvision calls it ``transform_input``.
    x is (N, 3, H, W).

    >>> import numpy as np
    >>> renormalized(Tensor(np.zeros((1, 3, 1, 1), np.float32))).array.ravel().round(3)
    array([-0.03 , -0.088, -0.188], dtype=float32)
    """
    statistics = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
    channels = [
        x[:, c : c + 1] * (std / 0.5) + (mean - 0.5) / 0.5
        for c, (mean, std) in enumerate(statistics)
    ]
    return F.cat(channels, dim=1)
