"""Lines in one frame: functions beside each other, or a measure against depth, steps or size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.errors import ArgumentError, ShapeError
from minicnn.plot.images import numbers
from minicnn.plot.style import DASHES, MARKERS, style
from minicnn.plot.words import legend_label, readable, span_of

if TYPE_CHECKING:
    from minicnn.plot.picture import Picture

MOST = 8  # lines that can be told apart, by colour and dashes
FEW = 40  # points that get a marker each


def lines(
    x: Any,
    series: Mapping[str, Any],
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    log: bool = False,
    dark: bool = False,
) -> Picture:
    """Draw lines over the same x, one for each name, with a legend if there are several.

    x : numbers (N,); integers get ticks at whole numbers only
    series : numbers (N,) by name, 1 to 8 of them; what is not finite is a gap
    log : powers of ten at equal distances upwards; numbers of 0 and below are left out

    Raises `ShapeError`, `ArgumentError`.

    >>> print(lines([0, 1, 2], {"square": [0, 1, 4]}, "Squares").alt)
    Squares. Over 0 to 2: square from 0 to 4.
    """
    counted = np.asarray(numbers(x)).dtype.kind in "iu"
    across = np.asarray(numbers(x), np.float64)
    found = {readable(name): np.asarray(numbers(y), np.float64) for name, y in series.items()}
    title, xlabel, ylabel = map(readable, (title, xlabel, ylabel))
    if not 1 <= len(found) <= MOST:
        raise ArgumentError(f"plot.lines: series has {len(found)} lines; give 1 to {MOST}.")
    for name, y in found.items():
        if across.ndim != 1 or not len(across) or y.shape != across.shape:
            raise ShapeError(
                f"plot.lines: {name!r} is {y.shape}, but x is {across.shape}; pass as many numbers "
                "as x has, and at least one."
            )
    spans = [f"{name} {span_of(y)}" for name, y in found.items()]
    alt = f"{title or 'Lines'}. Over {across[0]:.4g} to {across[-1]:.4g}: {'; '.join(spans)}."
    with style(dark) as colors:
        from minicnn.plot.picture import headed, margins, new

        picture = new(5.6, 3.5, colors, title or "Lines", alt)
        axes = picture.add_subplot()
        picture.subplots_adjust(**margins(picture, 0.75, 0.25, 0.6, 0.5))
        for i, (name, y) in enumerate(found.items()):
            count = len(colors.series)
            marker = MARKERS[i] if len(across) <= FEW else ""
            axes.plot(across, np.where(y > 0, y, np.nan) if log else y, label=legend_label(name),
                      marker=marker, markersize=3.5, color=colors.series[i % count],
                      linestyle=DASHES[(i // count + i) % len(DASHES)])  # fmt: skip
        axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
        if counted:  # there is no epoch 2.5
            axes.locator_params(axis="x", integer=True)
        if len(found) > 1:
            axes.legend(handlelength=3.2)
        return headed(picture)
