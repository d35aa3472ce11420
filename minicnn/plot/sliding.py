"""A window that slides over a map: padding, stride, and which cell of the result it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.errors import ArgumentError, ShapeError
from minicnn.inspect import output_size
from minicnn.plot.images import numbers
from minicnn.plot.style import Theme, style
from minicnn.plot.words import limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture

CELL, MOST = 0.36, 24


def window(
    x: Any,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    output: Any = None,
    at: tuple[int, int] = (0, 0),
    dark: bool = False,
) -> Picture:
    """Draw a map with its padding, a window at one place, and the cell of the result it makes.

    x : a map (H, W) whose numbers are written into the cells, or its size
    output : the result (OH, OW), whose numbers are written down too
    at : row and column of the cell of the result

    Raises `ShapeError`, `ArgumentError`.

    >>> print(window((6, 6), kernel_size=3).alt)
    A 3x3 window with stride 1 over a 6x6 map without padding gives 4x4. It stands on rows 0 to 2
    and columns 0 to 2 and makes cell (0, 0).
    """
    values, (H, W) = _values(x)
    OH, OW = (output_size(n, kernel_size, stride, padding).output for n in (H, W))
    result = None if output is None else numbers(output)
    if result is not None and result.shape != (OH, OW):
        raise ShapeError(f"plot.window: output is {result.shape}; the window gives {OH}x{OW}.")
    if not (0 <= at[0] < OH and 0 <= at[1] < OW):
        raise ArgumentError(
            f"plot.window: at is {at}, but the result is {OH}x{OW}; choose rows 0 to {OH - 1} and "
            f"columns 0 to {OW - 1}."
        )
    top, left = (i * stride - padding for i in at)
    border = f"with padding {padding}" if padding else "without padding"
    alt = (
        f"A {kernel_size}x{kernel_size} window with stride {stride} over a {H}x{W} map {border} "
        f"gives {OH}x{OW}. It stands on rows {top} to {top + kernel_size - 1} and columns {left} "
        f"to {left + kernel_size - 1} and makes cell {at}."
    )
    place = _Place(kernel_size, stride, padding, at, (H, W), (OH, OW))
    with style(dark) as colors:
        return _drawn(place, values, result, alt, colors)


@dataclass(frozen=True)
class _Place:
    kernel_size: int
    stride: int
    padding: int
    at: tuple[int, int]
    size: tuple[int, int]
    output: tuple[int, int]


def _drawn(
    place: _Place, values: np.ndarray | None, result: np.ndarray | None, alt: str, colors: Theme
) -> Picture:
    from minicnn.plot.picture import headed, new

    (H, W), (OH, OW), pad, k = place.size, place.output, place.padding, place.kernel_size
    rows, columns = H + 2 * pad, W + 2 * pad
    height = CELL * max(rows, OH) + 1.25
    title = f"A {k}x{k} window over a {H}x{W} map"
    picture = new(max(CELL * (columns + OW) + 1.3, 3.9), height, colors, title, alt)
    headed(
        picture,
        f"stride {place.stride}, padding {pad}: ({H} − {k} + 2·{pad}) / {place.stride} + 1 → {OH}",
    )
    axes = picture.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.2, picture.get_figwidth() - 0.2)
    axes.set_ylim(height - 0.95, -0.95)
    axes.set_axis_off()
    _cells(axes, (pad * CELL, pad * CELL), place.size, values, colors)
    _cells(axes, (0, 0), (rows, columns), None, colors, dashed=True)
    row, column = place.at
    step = place.stride * CELL
    _mark(axes, column * step, row * step, k * CELL, colors)
    x0 = columns * CELL + 0.7
    _cells(axes, (x0, 0), place.output, result, colors)
    _mark(axes, x0 + column * CELL, row * CELL, CELL, colors)
    middle = CELL * min(rows, OH) / 2
    axes.annotate("", (x0 - 0.12, middle), (columns * CELL + 0.12, middle),
                  arrowprops={"arrowstyle": "-|>", "color": colors.faint})  # fmt: skip
    return picture


def _values(x: Any) -> tuple[np.ndarray | None, tuple[int, int]]:
    array = numbers(x)
    if array.ndim == 1 and array.shape == (2,) and array.dtype.kind in "iu":
        values, size = None, (int(array[0]), int(array[1]))
    elif array.ndim == 2:
        values, size = array, (array.shape[0], array.shape[1])
    else:
        raise ShapeError(f"plot.window: x has shape {array.shape}; pass a map (H, W) or its size.")
    if not 1 <= min(size) <= max(size) <= MOST:
        raise ArgumentError(
            f"plot.window: the map is {size[0]}x{size[1]}; pass one of 1 to {MOST} cells a side, "
            "larger ones cannot be read."
        )
    return values, size


def _cells(
    axes: Axes, corner: tuple[float, float], size: tuple[int, int], values: np.ndarray | None,
    colors: Theme, dashed: bool = False,
) -> None:  # fmt: skip
    """A grid of cells, with numbers; the darker, the larger the number is."""
    from matplotlib.patches import Rectangle

    x0, y0 = corner
    low = high = 0.0
    if values is not None:
        low, high = limits(values)
    for row, column in np.ndindex(size):
        share = 0.08
        if values is not None and high > low and np.isfinite(values[row, column]):
            share = 0.08 + 0.4 * (float(values[row, column]) - low) / (high - low)
        axes.add_patch(Rectangle((x0 + column * CELL, y0 + row * CELL), CELL, CELL,
                                 facecolor="none" if dashed else colors.tint(
                                     colors.series[0], share),
                                 edgecolor=colors.faint, linestyle=":" if dashed else "-",
                                 linewidth=0.8, zorder=1 if dashed else 2))  # fmt: skip
        if values is not None:
            axes.text(x0 + (column + 0.5) * CELL, y0 + (row + 0.5) * CELL,
                      _number(values[row, column]), ha="center", va="center", fontsize=7.5,
                      zorder=4)  # fmt: skip


def _number(value: Any) -> str:
    text = f"{float(value):.2f}".rstrip("0").rstrip(".").replace("-", "−")
    return text.replace("0.", ".", 1) if text.lstrip("−").startswith("0.") else text


def _mark(axes: Axes, x: float, y: float, side: float, colors: Theme) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=colors.bad, linewidth=2.4,
                             zorder=5))  # fmt: skip
