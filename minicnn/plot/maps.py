"""Small maps side by side, with the numbers in their cells: an image, a filter, what came out.

All maps of a picture share one scale, so that equal colours are equal numbers: white is zero, one
colour is for numbers above it and another for those below, the stronger the further away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.errors import ArgumentError, ShapeError
from minicnn.plot.images import bare, numbers
from minicnn.plot.layout import text_width
from minicnn.plot.style import Theme, style
from minicnn.plot.words import limits, readable, span_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture

CELL, SMALL_CELL = 0.36, 0.1  # inches of a cell with a number, and without
MOST, READABLE = 64, 12  # cells a side; with numbers
STRONGEST = 0.55  # of a colour, so that numbers can be read on it
EDGE, SPACE, WORDS, HEAD = 0.2, 0.3, 0.3, 0.45


def maps(
    arrays: Mapping[str, Any], columns: int = 4, title: str = "", dark: bool = False
) -> Picture:
    """Draw maps (H, W) side by side, each with its name, and its numbers if it is small.

    arrays : the maps by name, 1 to 32 of them, up to 64 cells a side; up to 12 they have numbers
    columns : maps in a row

    Raises `ShapeError`, `ArgumentError`.

    >>> print(maps({"x": [[1, -1], [0, 2]], "filter": [[1]]}).alt)
    2 maps: x 2x2, numbers from -1 to 2; filter 1x1, numbers from 1 to 1.
    """
    found = {readable(name): _checked(name, array) for name, array in arrays.items()}
    title = readable(title)
    if not 1 <= len(found) <= 32:
        raise ArgumentError(f"plot.maps: arrays has {len(found)} maps; give 1 to 32 of them.")
    rows = _rows(list(found), columns)
    widths = [max(_wide(name, found[name]) for name in names) for names in _columns(rows)]
    top = HEAD if title else 0.1
    across = sum(widths) + SPACE * (len(widths) - 1)
    width = max(2 * EDGE + across, text_width(title, 12, bold=True) + 2 * EDGE, 2.5)
    height = top + sum(_tall(found, row) for row in rows) + EDGE - SPACE
    limit = max(max(map(abs, limits(array))) for array in found.values())
    with style(dark) as colors:
        from minicnn.plot.picture import headed, new

        picture = new(width, height, colors, title or "Maps", _described(found))
        if title:
            headed(picture)
        _fill(picture, found, rows, widths, top, limit, colors)
        return picture


def _checked(name: str, array: Any) -> np.ndarray:
    values = np.asarray(numbers(array), dtype=np.float64)
    if values.ndim != 2 or not values.size or max(values.shape) > MOST:
        raise ShapeError(
            f"plot.maps: {name!r} is {values.shape}; pass a map (H, W) of 1 to {MOST} cells a side."
        )
    return values


def _rows(names: list[str], columns: int) -> list[list[str]]:
    if columns < 1:
        raise ArgumentError(f"plot.maps: columns is {columns}; give 1 or more.")
    return [names[i : i + columns] for i in range(0, len(names), columns)]


def _columns(rows: list[list[str]]) -> list[list[str]]:
    return [[row[i] for row in rows if i < len(row)] for i in range(len(rows[0]))]


def _cell(array: np.ndarray) -> float:
    return CELL if max(array.shape) <= READABLE else SMALL_CELL


def _wide(name: str, array: np.ndarray) -> float:
    """Inches of a map or of its name, what is wider."""
    return max(array.shape[1] * _cell(array), text_width(name, 9))


def _tall(found: Mapping[str, np.ndarray], row: list[str]) -> float:
    """Inches of a row, with the names above and the space below."""
    return max(len(found[name]) * _cell(found[name]) for name in row) + WORDS + SPACE


def _fill(
    picture: Picture, found: Mapping[str, np.ndarray], rows: list[list[str]],
    widths: list[float], top: float, limit: float, colors: Theme,
) -> None:  # fmt: skip
    """Put every map into its place, row by row from the top."""
    from minicnn.plot.picture import inches

    y = picture.get_size_inches()[1] - top
    for row in rows:
        x = EDGE
        for name, step in zip(row, widths, strict=False):
            array = found[name]
            H, W = (n * _cell(array) for n in array.shape)
            place = inches(picture, x, y - WORDS - H, W, H)
            _draw(picture.add_axes(place), name, array, limit, colors)
            x += step + SPACE
        y -= _tall(found, row)


def _draw(axes: Axes, name: str, array: np.ndarray, limit: float, colors: Theme) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    low, zero, high = colors.diverging
    ends: list[Any] = [colors.tint(low, STRONGEST), zero, colors.tint(high, STRONGEST)]
    look = LinearSegmentedColormap.from_list("maps", ends)
    scale = limit or 1.0
    axes.imshow(array, cmap=look, vmin=-scale, vmax=scale, aspect="auto")
    axes.set_title(name, fontsize=9, pad=5)
    bare(axes, colors.faint)
    if _cell(array) != CELL:
        return
    H, W = array.shape
    axes.set_xticks(np.arange(W - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(H - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=colors.rule, linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    for (row, column), value in np.ndenumerate(array):
        axes.text(column, row, number(value), ha="center", va="center", fontsize=7.5)


def number(value: float) -> str:
    """A number in the few signs that a cell has room for.

    >>> number(-0.5556), number(4.5), number(253.0), number(0.004)
    ('−.56', '4.5', '253', '0')
    """
    text = f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    text = text.rstrip("0").rstrip(".").replace("-0.", "-.").replace("-", "−")
    return text[1:] if text.startswith("0.") else text


def _described(found: Mapping[str, np.ndarray]) -> str:
    parts = [f"{name} {a.shape[0]}x{a.shape[1]}, numbers {span_of(a)}" for name, a in found.items()]
    return f"{len(found)} map{'s' if len(found) > 1 else ''}: {'; '.join(parts)}."
