"""FractalNet: a very deep network without residuals, trained by dropping its paths.

Larsson, Maire, Shakhnarovich 2017, "FractalNet: Ultra-Deep Neural Networks without Residuals",
https://arxiv.org/abs/1605.07648

Deviations from the paper: where it leaves a choice, the authors' network generator decides: each
convolution has a bias, the batch norms have no trained scale and shift (``affine=True`` gives them
one, ``bias=False`` takes the other away), and the columns of a block are pooled one by one before
the last join. Global average pooling stands in front of the classifier, which changes nothing on
the 1x1 map of a 32x32 image, and lets the network take images of other sizes. Dropped paths are
not computed, so the running statistics of their batch norms stay where they are. Weights start as
the Caffe default of that generator, U(-b, b) with b = sqrt(3 / fan_in), biases at 0.

A block is a fractal: with one column it is a convolution (3x3, batch norm, ReLU); with one column
more it is twice the smaller block in a row, beside a single convolution, and the two are joined by
their mean:

    f_1(z) = conv(z)            f_C+1(z) = join(f_C(f_C(z)), conv(z))

Written out, column c (from 0) has 2^c convolutions, and wherever columns end at the same depth
they are joined together. For three columns, each step one convolution of the deepest:

    step      1      2      3      4
    column 2  conv   conv   conv   conv
    column 1         conv          conv     (each spans two steps)
    column 0                       conv     (spans all four)
    joins            2              3       inputs

So the network contains a plain network of each depth, its columns. *Drop-path* trains it so that
each of them works alone, and stops columns from leaning on each other (section 3.1). For each
mini-batch one of two kinds is drawn:

- local: every join drops each of its inputs with probability 0.15, but keeps one at least;
- global: one column, the same in all blocks, is the whole network.

In evaluation every join takes the mean of all its inputs; `FractalNet.column` gives a single column
as a network of its own. The preset for 28x28 images has four blocks instead of five, which bring
28 to 1, a quarter of the channels, and no dropout of single values.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from minicnn import nn, random
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.functional._checks import check_probability
from minicnn.models.network import Network
from minicnn.models.registry import Preset, register
from minicnn.nn import init

WIDTHS = (64, 128, 256, 512, 512)  # filters of the five blocks
THIN = (16, 32, 64, 128)


class Unit(nn.Module):
    """A convolution of the fractal: 3x3, dropout, batch norm, ReLU."""

    def __init__(
        self, in_channels: int, channels: int, dropout: float, bias: bool, affine: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm2d(channels, affine=affine)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H, W)."""
        noise = [self.dropout] if self.training and self.dropout.p else []
        return nn.run_chain([self.conv, *noise, self.norm, self.relu], x)


class FractalBlock(nn.Module):
    """Columns of 1, 2, 4, ... convolutions with joins between them, then pooling and a last join.

    Input (N, in_channels, H, W), output (N, channels, H // 2, W // 2).
    """

    def __init__(
        self,
        columns: int,
        in_channels: int,
        channels: int,
        dropout: float,
        bias: bool,
        affine: bool,
    ) -> None:
        super().__init__()
        self.steps = 2 ** (columns - 1)
        self.columns = nn.ModuleList()
        for c in range(columns):
            sizes = [in_channels] + [channels] * (2**c - 1)
            units = [Unit(C, channels, dropout, bias, affine) for C in sizes]
            self.columns.append(nn.Sequential(*units))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor, drop_path: float = 0.0) -> Tensor:
        """Run all columns; ``drop_path`` is the probability that a join drops an input."""
        inputs = [x] * len(self.columns)  # of the next convolution of each column
        for step in range(1, self.steps + 1):
            ending = [c for c in range(len(inputs)) if step % self._span(c) == 0]
            kept = survivors(len(ending), drop_path)
            joined = mean([self._run(c, step, inputs[c]) for c in compress(ending, kept)])
            for c in ending:
                inputs[c] = joined
        return joined

    def column(self, c: int) -> list[nn.Module]:
        """The layers of a single column, and the pooling."""
        return [*self.columns[c].children(), self.pool]

    def _span(self, c: int) -> int:
        """How many steps a convolution of column c takes."""
        return self.steps // 2**c

    def _run(self, c: int, step: int, x: Tensor) -> Tensor:
        units = list(self.columns[c].children())
        y = units[step // self._span(c) - 1](x)
        return self.pool(y) if step == self.steps else y


@register(
    "fractalnet",
    {
        "cifar10": Preset((3, 32, 32), 10),
        "fashion-mnist": Preset((1, 28, 28), 10, {"widths": THIN, "dropout": 0.0}),
    },
)
class FractalNet(Network):
    """FractalNet-20: five blocks of three columns, 33,714,314 parameters.

    columns : columns of a block, C; the deepest one makes the network blocks * 2**(C - 1) deep
    widths : filters of each block; every block halves the map
    dropout : of single values, from 0 in the first block in equal steps to this in the last
    bias, affine : whether convolutions have biases, batch norms a trained scale and shift
    drop_path : probability that a join drops an input, in mini-batches with local drop-path
    global_share : share of the mini-batches that train one column alone

    Drop-path draws from `minicnn.random`: a seed repeats it. Without any: ``drop_path=0`` and
    ``global_share=0``. Input (N, in_channels, H, W), output (N, num_classes) logits.

    >>> with nn.without_weights():
    ...     FractalNet().num_parameters(), FractalNet(columns=2).num_parameters()
    (33714314, 13320906)
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        columns: int = 3,
        widths: Sequence[int] = WIDTHS,
        dropout: float = 0.4,
        bias: bool = True,
        affine: bool = False,
        drop_path: float = 0.15,
        global_share: float = 0.5,
    ) -> None:
        super().__init__()
        if columns < 1 or not widths:
            raise ArgumentError(
                f"fractalnet: columns is {columns!r} and widths {tuple(widths)!r}; give one column "
                "or more, and the filters of one block or more."
            )
        self.columns = columns
        self.drop_path = check_probability(drop_path, "fractalnet")
        self.global_share = check_probability(global_share, "fractalnet")
        self.blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            rate = dropout * i / max(len(widths) - 1, 1)
            self.blocks.append(FractalBlock(columns, in_channels, width, rate, bias, affine))
            in_channels = width
        self.avgpool = nn.GlobalAvgPool2d()
        self.fc = nn.Linear(in_channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                init.kaiming_uniform_(module.weight, nonlinearity="linear")
                if module.bias is not None:
                    init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out; in training by paths that are drawn for each mini-batch."""
        if self.training and random.generator().random() < self.global_share:
            return self.column(int(random.generator().integers(self.columns)))(x)
        for block in self.blocks:
            x = block(x, self.drop_path if self.training else 0.0)
        return self.fc(self.avgpool(x))

    def column(self, c: int) -> nn.Sequential:
        """A single column as a plain network, with the same parameters, from 0 to columns - 1.

        Column c has 2**c convolutions in each block. Raises `ArgumentError`.

        >>> net = FractalNet(columns=3, widths=(4, 8)).eval()
        >>> sum(isinstance(m, nn.Conv2d) for m in net.column(2).modules())
        8
        """
        if not 0 <= c < self.columns:
            raise ArgumentError(
                f"FractalNet.column: c is {c!r}; choose from 0 to {self.columns - 1}, the deepest."
            )
        layers = [layer for block in self.blocks for layer in block.column(c)]
        network = nn.Sequential(*layers, self.avgpool, self.fc)
        network.training = self.training
        return network


def survivors(count: int, probability: float) -> list[bool]:
    """Draw which of the inputs of a join are kept: each is dropped with ``probability``.

    Where all would be dropped, one that is drawn is kept.

    >>> survivors(3, 0.0), sum(survivors(3, 1.0))
    ([True, True, True], 1)
    """
    if probability == 0.0:
        return [True] * count
    generator = random.generator()
    kept = generator.random(count) >= probability
    if not kept.any():
        kept[generator.integers(count)] = True
    return [bool(keep) for keep in kept]


def mean(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps of one shape, element by element.

    >>> mean([Tensor([1.0, 2.0]), Tensor([3.0, 6.0])]).array
    array([2., 4.], dtype=float32)
    """
    total = maps[0]
    for other in maps[1:]:
        total = total + other
    return total if len(maps) == 1 else total * (1.0 / len(maps))
