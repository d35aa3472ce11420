"""Receptive fields: the kernel set that finds out which pixels of the image a cell can see.

A cell of a map is computed from a window of the map before it, each cell of which comes from a
window of the map before that, and so on down to the image. Along one axis four numbers describe
what the cells of a map see, and `Axis` holds them:

    first   the pixel at which the field of cell 0 begins (negative where that is padding)
    size    how many pixels a cell sees, the receptive field
    jump    by how many pixels the fields of neighbouring cells are shifted
    cells   how many cells there are

A pixel of the image sees itself: first 0, size 1, jump 1. A window of k cells with dilation d,
stride s and padding p spans (k - 1) * d + 1 cells; its outermost cells are (k - 1) * d jumps apart:

    size <- size + (k - 1) * d * jump          first <- first - p * jump          jump <- s * jump

So a kernel adds the more pixels, the more the strides before it have shrunk the map: three 3x3
convolutions see 7 pixels, but one behind a pooling of 2 adds 4. Where branches meet (a sum, a
concatenation) the field reaches from the first pixel of any branch to the last of any; branches
that are centred on each other, as in every residual and inception block, give the largest. What
works on each cell by itself (ReLU, batch norm) changes nothing. A fully connected layer on a
flattened map is a window as large as the map, and so is global pooling.

This is the field of the definition, which padding counts into: at the border of an image, and
where it is larger than the image, the cell sees that much less. The arithmetic is that of Araujo,
Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.

The set below runs a network on `Seen` arrays: they have a shape and no numbers (`shapes`), and
carry the `Field` of their cells from one primitive to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from minicnn_kernels.geometry import Window2d, adaptive_bins
from minicnn_kernels.reference import PRIMITIVES
from minicnn_kernels.shapes import ShapeKernels, blank


class Axis(NamedTuple):
    """What the cells of a map see along one axis of the image; see the module's docstring.

    >>> image = Axis.of_image(28)
    >>> image.windowed(taps=5, dilation=1, stride=1, padding=2, cells=28)
    Axis(first=-2, size=5, jump=1, cells=28)
    """

    first: Fraction | int
    size: Fraction | int
    jump: Fraction | int
    cells: int

    @classmethod
    def of_image(cls, length: int) -> Axis:
        """Each pixel sees itself."""
        return cls(0, 1, 1, length)

    def windowed(self, taps: int, dilation: int, stride: int, padding: int, cells: int) -> Axis:
        """The field behind a sliding window that gives ``cells`` cells."""
        size = self.size + (taps - 1) * dilation * self.jump
        return Axis(self.first - padding * self.jump, size, self.jump * stride, cells)

    def whole(self) -> Axis:
        """One cell that sees what all cells see: a window as large as the map."""
        return self.windowed(self.cells, 1, self.cells, 0, 1)

    def binned(self, bins: int) -> Axis:
        """The field behind adaptive pooling; bins of unequal length count as the longest.

        The jump is then such that the last bin ends with the map.
        """
        if bins == 1:
            return self.whole()
        longest = max(b.stop - b.start for b in adaptive_bins(self.cells, bins))
        step = Fraction(self.cells - longest, bins - 1)
        return Axis(
            self.first, self.size + (longest - 1) * self.jump, _plain(step * self.jump), bins
        )

    def sliced(self, index: slice) -> Axis:
        """The field of ``x[index]``."""
        start, stop, step = index.indices(self.cells)
        cells = len(range(start, stop, step))
        return Axis(self.first + start * self.jump, self.size, self.jump * step, cells)

    def joined(self, other: Axis) -> Axis:
        """The field of a sum or concatenation; a map of one cell is there for all cells."""
        first = min(self.first, other.first)
        last = max(self.first + self.size, other.first + other.size)
        cells = max(self.cells, other.cells)
        jump = max(axis.jump for axis in (self, other) if axis.cells == cells)
        return Axis(first, last - first, jump, cells)


class Field(NamedTuple):
    """What the cells of a map see, along the rows and along the columns of the image."""

    rows: Axis
    columns: Axis

    @classmethod
    def of_image(cls, size: tuple[int, ...]) -> Field:
        """The field of the pixels of an image of (height, width)."""
        return cls(*map(Axis.of_image, size))

    @property
    def size(self) -> tuple[Fraction | int, Fraction | int]:
        """Pixels that a cell sees: (height, width)."""
        return self.rows.size, self.columns.size

    @property
    def jump(self) -> tuple[Fraction | int, Fraction | int]:
        """Pixels between the fields of neighbouring cells: (down, to the right)."""
        return self.rows.jump, self.columns.jump

    def through(self, window: Window2d) -> Field:
        """The field behind a convolution or pooling."""
        w = window
        return Field(
            self.rows.windowed(w.kh, w.dh, w.sh, w.ph, w.oh),
            self.columns.windowed(w.kw, w.dw, w.sw, w.pw, w.ow),
        )

    def whole(self) -> Field:
        """The field behind a fully connected layer or global pooling."""
        return Field(self.rows.whole(), self.columns.whole())

    def joined(self, other: Field) -> Field:
        """The field where two branches meet."""
        return Field(self.rows.joined(other.rows), self.columns.joined(other.columns))


class Seen(np.ndarray):
    """A `blank` array that carries the field of its cells along, through views and slices too."""

    field: Field | None = None

    def __array_finalize__(self, parent: Any) -> None:
        self.field = getattr(parent, "field", None)

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        of_slices = isinstance(index, tuple) and all(isinstance(i, slice) for i in index)
        if self.field and self.ndim == 4 and of_slices:
            of_map = (*index, slice(None), slice(None), slice(None))[2:4]
            part.field = Field(*map(Axis.sliced, self.field, of_map))
        return part


def image(shape: tuple[int, ...], dtype: Any) -> Any:
    """Images (N, C, H, W) without numbers, or another array, for a run with `FieldKernels`.

    >>> image((1, 3, 224, 224), np.float32).field.size
    (1, 1)
    """
    return _seen(blank(shape, dtype), Field.of_image(shape[2:]) if len(shape) == 4 else None)


def field_of(array: Any) -> Field | None:
    """What the cells of an array see, where it is known."""
    return getattr(array, "field", None)


class FieldKernels(ShapeKernels):
    """Shapes and receptive fields of the forward pass; nothing is computed.

    >>> k = FieldKernels()
    >>> window = Window2d.of((28, 28), kernel_size=5, padding=2)
    >>> weight = blank((16, 1, 5, 5), np.float32)
    >>> field_of(k.conv2d(image((1, 1, 28, 28), np.float32), weight, None, window, 1)).size
    (5, 5)
    """

    name = "fields"

    def __init__(self) -> None:
        super().__init__()
        for primitive in PRIMITIVES:
            rule = _RULES.get(primitive, _cell_by_cell)
            setattr(self, primitive, _carrying(getattr(self, primitive), rule))


_Rule = Callable[[Field, tuple[Any, ...]], Field]


def _carrying(shapes: Callable[..., Any], rule: _Rule) -> Callable[..., Any]:
    """A primitive whose results see, by the rule, what its arguments see together."""

    def run(*arguments: Any) -> Any:
        results = shapes(*arguments)
        fields = list(_fields(arguments))
        if not fields or results is None:
            return results
        field = rule(reduce(Field.joined, fields), arguments)
        if isinstance(results, tuple):
            return tuple(_seen(result, field) for result in results)
        return _seen(results, field)

    return run


def _fields(arguments: Iterable[Any]) -> Iterator[Field]:
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            yield from _fields(argument)
        elif (field := field_of(argument)) is not None:
            yield field


def _seen(array: Any, field: Field | None) -> Any:
    seen = array.view(Seen)
    seen.field = field
    return seen


def _plain(number: Fraction) -> Fraction | int:
    return number.numerator if number.denominator == 1 else number


def _cell_by_cell(field: Field, arguments: tuple[Any, ...]) -> Field:
    """A window among the arguments moves over the map; without one each cell is alone."""
    window = next((a for a in arguments if isinstance(a, Window2d)), None)
    return field if window is None else field.through(window)


def _all_cells(field: Field, arguments: tuple[Any, ...]) -> Field:
    return field.whole()


def _adaptive(field: Field, arguments: tuple[Any, ...]) -> Field:
    return Field(*map(Axis.binned, field, arguments[1]))


def _reduced(field: Field, arguments: tuple[Any, ...]) -> Field:
    """Rows are axis 2 and columns axis 3 of a map; (N, C, H * W) has both in axis 2."""
    x, axis, _ = arguments
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in axis]
    rows, columns = field
    last = 3 if x.ndim == 4 else 2
    return Field(rows.whole() if 2 in axes else rows, columns.whole() if last in axes else columns)


def _padded(field: Field, arguments: tuple[Any, ...]) -> Field:
    x, widths = arguments[:2]
    if x.ndim != 4:
        return field
    (top, bottom), (left, right) = widths[2:]
    rows, columns = field
    return Field(
        rows.windowed(1, 1, 1, top, rows.cells + top + bottom),
        columns.windowed(1, 1, 1, left, columns.cells + left + right),
    )


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("linear", "matmul"), _all_cells),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), _adaptive),
    **dict.fromkeys(("sum", "max"), _reduced),
    "pad": _padded,
}
