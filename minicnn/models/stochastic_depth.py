"""Stochastic depth: a residual network that is short in training and long in use.

Gao Huang, Yu Sun, Zhuang Liu, Daniel Sedra, Kilian Weinberger 2016, "Deep Networks with Stochastic
Depth", arXiv 1603.09382. Section 3; details as in the authors' published code.

Deviations from the paper
  - None in the preset "cifar10". As in the authors' code, convolutions have biases, and where a
    shortcut halves the map it takes the mean of 2x2 pixels, while He et al. take every second one.
  - Preset "fashion-mnist": a width of 8 in place of 16.

For every mini-batch each block is dropped with a probability of its own: the shortcut alone carries
the signal, and the block runs neither forward nor backward. A gradient crosses fewer layers, a step
takes less time, and the full network is like a mean of the many shorter ones that were trained.

Block l of L survives with probability p(l) = 1 - l/L (1 - p(L)): the first ones, on whose maps all
others build, nearly always, the last with p(L) = 0.5. In ResNet-110, L = 54, the expected number of
blocks in a step is 54 - 0.5 * 55 / 2 = 40.25.

    training     relu(b f(x) + x), b drawn from {0, 1}        evaluation   relu(p f(x) + x)

Here the sum is scaled in evaluation and not in training. `nn.StochasticDepth` does the reverse, as
PyTorch's: its training divides by p. Expectations are equal, but not the weights that result, and
it zeroes a result that has been computed; so the block draws by itself, from `minicnn.random`.
"""

from __future__ import annotations

from functools import partial
from itertools import count

from minicnn import nn, random
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.models.cifar_resnet import blocks_of_depth, cifar_presets
from minicnn.models.registry import register
from minicnn.models.resnet import BasicBlock, ResNet, ZeroChannels


class StochasticBlock(BasicBlock):
    """A basic block that training drops with probability ``1 - survival``.

    ``is_active`` says whether the last training pass ran it.

    >>> block = StochasticBlock(1, 1, survival=0.0)
    >>> block(Tensor([[[[1.0, 2.0]]]])).array, block.is_active
    (array([[[[1., 2.]]]], dtype=float32), False)
    """

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        survival: float = 1.0,
        conv_bias: bool = True,
    ) -> None:
        super().__init__(in_channels, planes, stride, "A", conv_bias)
        if stride != 1:
            mean = nn.AvgPool2d(stride, ceil_mode=True)
            self.downsample = nn.Sequential(mean, ZeroChannels(planes - in_channels))
        self.survival = survival
        self.is_active = True

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, planes, OH, OW)."""
        if not self.training:
            return self.relu(nn.run_chain(self.body(), x) * self.survival + self.skip(x))
        self.is_active = bool(random.generator().random() < self.survival)
        return super().forward(x) if self.is_active else self.relu(self.skip(x))

    def extra_repr(self) -> str:
        """The probability of survival."""
        return f"survival={self.survival:.4g}"


class StochasticDepthResNet(ResNet):
    """The CIFAR network of 6n + 2 = ``depth`` layers whose last block survives with ``p_last``.

    >>> model = StochasticDepthResNet(depth=110, width=1)
    >>> round(sum(block.survival for block in model.blocks()), 9)
    40.25
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: int = 110,
        p_last: float = 0.5,
        width: int = 16,
        conv_bias: bool = True,
    ) -> None:
        if not 0.0 <= p_last <= 1.0:
            raise ArgumentError(
                f"StochasticDepthResNet: p_last is {p_last!r}; give a probability from 0 to 1."
            )
        layers = blocks_of_depth(depth, 6, "StochasticDepthResNet")
        numbers = count(1)

        def block(in_channels: int, planes: int, stride: int) -> StochasticBlock:
            survival = 1 - next(numbers) / sum(layers) * (1 - p_last)
            return StochasticBlock(in_channels, planes, stride, survival, conv_bias)

        super().__init__(
            *(block, StochasticBlock.expansion, layers, num_classes, in_channels),
            *(width, "3x3"),
            conv_bias=conv_bias,
        )

    def blocks(self) -> list[StochasticBlock]:
        """The blocks that can be dropped, the first one first."""
        return [part for part in self.modules() if isinstance(part, StochasticBlock)]


register("stochastic_depth_resnet110", cifar_presets(width=8))(
    partial(StochasticDepthResNet, depth=110)
)
