"""What convolutions cost, before any network is built: calculators of sizes, weights and products.

A convolution of F filters of KH x KW over C channels has F * C * KH * KW weights, and each of them
is used once at each of the OH x OW positions. Four consequences shaped the architectures, and each
has a function here:

- small filters: n layers of 3x3 see as much as one of (2n + 1) x (2n + 1) and have 9n weights for
  each pair of channels where that has (2n + 1)^2: 27 C^2 against 49 C^2 (VGG);
- factorised filters: kx1 and 1xk have 2k where k x k has k^2 (Inception v3);
- bottlenecks: a 1x1 convolution in front leaves the large filter fewer channels to read;
- parallel branches: without bottlenecks the modules of GoogLeNet would not be affordable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from minicnn.errors import ArgumentError
from minicnn.inspect._sheet import Sheet, Shown, count, form
from minicnn_kernels.geometry import Window2d, check_pool_padding


@dataclass(frozen=True)
class OutputSize:
    """The size of a map behind a window, with the way there; prints as the formula."""

    size: int
    kernel_size: int
    stride: int
    padding: int
    ceil_mode: bool
    output: int

    @property
    def quotient(self) -> Fraction:
        """(W - F + 2P) / S + 1, before it is rounded."""
        return Fraction(self.size - self.kernel_size + 2 * self.padding, self.stride) + 1

    @property
    def is_exact(self) -> bool:
        """Whether the windows end with the map, so that nothing is rounded."""
        return self.quotient == self.output

    def __str__(self) -> str:
        quotient = float(self.quotient)
        formula = (
            f"({self.size} - {self.kernel_size} + 2*{self.padding}) / {self.stride} + 1 = "
            f"{quotient:g}"
        )
        return formula if self.is_exact else f"{formula}, rounded to {self.output}"


def output_size(
    size: int, kernel_size: int, stride: int = 1, padding: int = 0, ceil_mode: bool = False
) -> OutputSize:
    """Compute (W - F + 2P) / S + 1, the size of a map behind a convolution or pooling.

    It is rounded down, with ``ceil_mode`` up (pooling only). Raises `ShapeError`.

    >>> print(output_size(227, 11, stride=4))
    (227 - 11 + 2*0) / 4 + 1 = 55
    >>> print(output_size(224, 11, stride=4))
    (224 - 11 + 2*0) / 4 + 1 = 54.25, rounded to 54
    >>> output_size(112, 3, stride=2, ceil_mode=True).output
    56
    """
    window = Window2d.of(
        (size, size), kernel_size, stride, padding, ceil_mode=ceil_mode, caller="output_size"
    )
    if ceil_mode:
        check_pool_padding(window, "output_size")
    return OutputSize(size, kernel_size, stride, padding, ceil_mode, window.oh)


@dataclass(frozen=True)
class ConvCost:
    """One convolution that gives a map of ``size`` (height, width); biases are not counted."""

    name: str
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    size: tuple[int, int]

    @property
    def weights(self) -> int:
        """Numbers in the filters."""
        return self.in_channels * self.out_channels * math.prod(self.kernel_size)

    @property
    def multiply_adds(self) -> int:
        """Each weight is used at each position."""
        return self.weights * math.prod(self.size)

    @property
    def formula(self) -> str:
        """The multiply-adds as a product: output x filter x channels read."""
        kernel, size = form(self.kernel_size), form(self.size)
        return f"{size} x {self.out_channels} x {kernel} x {self.in_channels}"


@dataclass(frozen=True)
class Costs(Shown):
    """Convolutions that make up a part of a network; a table in terminal and notebook."""

    title: str
    terms: tuple[ConvCost, ...]
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """Sum over the convolutions."""
        return sum(term.weights for term in self.terms)

    @property
    def multiply_adds(self) -> int:
        """Sum over the convolutions."""
        return sum(term.multiply_adds for term in self.terms)

    def sheet(self) -> Sheet:
        """The table as texts."""
        rows = [(t.name, t.formula, count(t.weights), count(t.multiply_adds)) for t in self.terms]
        total = ("total", "", count(self.weights), count(self.multiply_adds))
        headings = ("convolution", "output x filter x input", "weights", "multiply-adds")
        return Sheet(self.title, headings, rows, [total], self.notes, left=2)


@dataclass(frozen=True)
class Comparison(Shown):
    """A direct way and a cheaper one to the same map; a table in terminal and notebook."""

    title: str
    direct: Costs
    cheaper: Costs
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times the multiply-adds of the cheaper way the direct way has."""
        return self.direct.multiply_adds / self.cheaper.multiply_adds

    def sheet(self) -> Sheet:
        """The table as texts."""
        ways = [self.direct.sheet(), self.cheaper.sheet()]
        rows: list[tuple[str, ...]] = []
        for costs, way in zip((self.direct, self.cheaper), ways, strict=True):
            rows += [*map(tuple, way.rows)]
            rows.append((costs.title, "", count(costs.weights), count(costs.multiply_adds)))
        ratios = (self.direct.weights / self.cheaper.weights, self.ratio)
        total = ("times as many", "", *(f"{ratio:.3f}" for ratio in ratios))
        return Sheet(self.title, ways[0].headings, rows, [total], self.notes, left=2)


def inception_costs(
    in_channels: int, conv1: int, conv3: int, conv5: int,
    reduce3: int | None = None, reduce5: int | None = None, pool: int | None = None,
    size: int = 28,
) -> Costs:  # fmt: skip
    """Count an inception module: branches of 1x1, 3x3, 5x5 and pooling, joined by channels.

    conv1, conv3, conv5 : filters of the branches
    reduce3, reduce5, pool : filters of the 1x1 convolutions in front of 3x3 and 5x5 and behind the
        pooling; None for the naive module, which has none

    Source: Szegedy et al. 2015, "Going Deeper with Convolutions", Figure 2.

    >>> naive = inception_costs(256, 128, 192, 96)
    >>> reduced = inception_costs(256, 128, 192, 96, 64, 64, 64)
    >>> naive.multiply_adds, reduced.multiply_adds
    (854196224, 271351808)
    """
    terms = [_conv("1x1", in_channels, conv1, 1, size)]
    for k, filters, reduce in ((3, conv3, reduce3), (5, conv5, reduce5)):
        if reduce is not None:
            terms.append(_conv(f"1x1 before {k}x{k}", in_channels, reduce, 1, size))
        read = in_channels if reduce is None else reduce
        terms.append(_conv(f"{k}x{k}", read, filters, k, size))
    if pool is not None:
        terms.append(_conv("1x1 behind pooling", in_channels, pool, 1, size))
    channels = conv1 + conv3 + conv5 + (in_channels if pool is None else pool)
    kind = "naive" if reduce3 is reduce5 is pool is None else "reduced"
    return Costs(
        f"{kind} inception module, {form((in_channels, size, size))} in",
        tuple(terms),
        (f"output {form((channels, size, size))}, {channels * size * size:,} values",),
    )


def bottleneck_costs(
    in_channels: int, middle: int, out_channels: int, kernel_size: int = 5, size: int = 28
) -> Comparison:
    """Compare a convolution with one that reads ``middle`` channels, which a 1x1 makes.

    >>> found = bottleneck_costs(192, 16, 32)
    >>> found.direct.multiply_adds, found.cheaper.multiply_adds
    (120422400, 12443648)
    """
    k = kernel_size
    direct = Costs("direct", (_conv(f"{k}x{k}", in_channels, out_channels, k, size),))
    terms = (
        _conv("1x1", in_channels, middle, 1, size),
        _conv(f"{k}x{k}", middle, out_channels, k, size),
    )
    title = f"{k}x{k} from {in_channels} to {out_channels} channels"
    return Comparison(title, direct, Costs(f"through {middle} channels", terms))


def stacked_costs(kernel_size: int = 7, channels: int = 64, size: int = 1) -> Comparison:
    """Compare a large filter with the stack of 3x3 filters that sees as much.

    Source: Simonyan and Zisserman 2015, section 2.3.

    >>> found = stacked_costs(7, channels=64)
    >>> found.direct.weights == 49 * 64**2, found.cheaper.weights == 27 * 64**2
    (True, True)
    """
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ArgumentError(
            f"stacked_costs: kernel_size is {kernel_size}; give an odd number from 3 up, the field "
            "of a stack of 3x3 filters."
        )
    k, layers = kernel_size, kernel_size // 2
    direct = Costs("one layer", (_conv(f"{k}x{k}", channels, channels, k, size),))
    stack = (_conv("3x3", channels, channels, 3, size),) * layers
    title = f"a field of {k}x{k} with {channels} channels: {k * k} C^2 and {9 * layers} C^2 weights"
    return Comparison(title, direct, Costs(f"{layers} layers", stack))


def factorised_costs(kernel_size: int = 3, channels: int = 64, size: int = 1) -> Comparison:
    """Compare a k x k filter with a k x 1 and a 1 x k behind each other, which see as much.

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 3.2.

    >>> found = factorised_costs(3, channels=64)
    >>> found.direct.weights, found.cheaper.weights
    (36864, 24576)
    """
    k = kernel_size
    direct = Costs("one layer", (_conv(f"{k}x{k}", channels, channels, k, size),))
    pair = tuple(
        ConvCost(form(kernel), channels, channels, kernel, (size, size))
        for kernel in ((k, 1), (1, k))
    )
    title = f"a field of {k}x{k} with {channels} channels: {k * k} C^2 and {2 * k} C^2 weights"
    return Comparison(title, direct, Costs("2 layers", pair))


def _conv(name: str, inputs: int, outputs: int, kernel: int, size: int) -> ConvCost:
    return ConvCost(name, inputs, outputs, (kernel, kernel), (size, size))
