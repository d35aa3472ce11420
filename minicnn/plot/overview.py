"""The field at a glance: the ImageNet errors of the years, and what the networks cost."""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn import models
from minicnn.errors import ArgumentError
from minicnn.inspect import Catalogue, catalogue
from minicnn.plot.style import MARKERS, Theme, style
from minicnn.plot.words import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture


@dataclass(frozen=True)
class Result:
    """A top-5 error in the ImageNet challenge, per cent; ``entry`` is what was measured."""

    year: int
    name: str
    error: float
    entry: str
    source: str


TIMELINE = (
    Result(2012, "AlexNet", 16.4, "5 networks, validation",
           "Krizhevsky, Sutskever, Hinton, NIPS 2012, table 2"),
    Result(2013, "Clarifai", 11.7, "winning entry, built on ZFNet", "ILSVRC 2013 results"),
    Result(2014, "VGG", 7.3, "7 networks, test", "Simonyan, Zisserman, ICLR 2015, table 7"),
    Result(2014, "GoogLeNet", 6.7, "7 networks × 144 crops, test",
           "Szegedy et al., CVPR 2015, table 2"),
    Result(2015, "ResNet", 3.57, "6 networks, test", "He et al., CVPR 2016, table 5"),
)  # fmt: skip


def error_timeline(results: Sequence[Result] = TIMELINE, dark: bool = False) -> Picture:
    """Draw the top-5 errors of the ImageNet challenge from 2012 to 2015, with what was measured.

    The known numbers are not of single networks: each bar says of how many it is. AlexNet alone
    had 18.2, and 15.3 with seven networks, two of them trained on more data.

    >>> print(error_timeline().alt)
    Top-5 error on ImageNet. 2012 AlexNet 16.4 %, 2013 Clarifai 11.7 %, 2014 VGG 7.3 %, ...
    """
    if not results:
        raise ArgumentError("plot.error_timeline: results is empty; leave it out for 2012 to 2015.")
    words = ", ".join(f"{r.year} {r.name} {r.error:g} %" for r in results)
    alt = f"Top-5 error on ImageNet. {words}."
    with style(dark) as colors:
        from minicnn.plot.picture import headed, margins, new

        picture = new(7.4, 0.52 * len(results) + 1.75, colors, "Top-5 error on ImageNet", alt)
        headed(picture, "share of images whose class is not among the five best answers")
        axes = picture.subplots(gridspec_kw=margins(picture, 1.0, 0.35, 0.95, 0.78))
        places = range(len(results))
        axes.barh(places, [r.error for r in results], height=0.62, color=colors.tint(
            colors.series[0], 0.55), edgecolor=colors.series[0])  # fmt: skip
        axes.set_yticks(places, [f"{r.name}\n{r.year}" for r in results])
        axes.invert_yaxis()
        most = max(r.error for r in results)
        for y, result in enumerate(results):
            axes.text(result.error + most * 0.012, y, f"{result.error:g} %", va="center",
                      fontweight="bold")  # fmt: skip
            inside = result.error > most * 0.6
            x = most * 0.015 if inside else result.error + most * 0.13
            axes.text(x, y, result.entry, va="center", fontsize=8, color=colors.text)
        axes.set_xlim(0, most * 1.12)
        axes.set_xlabel("top-5 error (%)")
        axes.grid(visible=False, axis="y")
        sources = "; ".join(dict.fromkeys(r.source for r in results))
        picture.text(0.12 / 7.4, 0.1 / picture.get_figheight(), fontsize=6.6, va="bottom",
                     s=_wrapped(f"Sources: {sources}", 118), color=colors.faint)  # fmt: skip
        return picture


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))


@dataclass(frozen=True)
class Spot:
    """A network in the scatter: numbers in full, accuracy as a share or None."""

    name: str
    group: str
    parameters: int
    multiply_adds: int
    accuracy: float | None


def zoo_scatter(
    rows: Catalogue | Iterable[Mapping[str, Any]] | str | os.PathLike[str] | None = None,
    dark: bool = False,
) -> Picture:
    """Draw networks by parameters and multiply-adds; or accuracy by both, where it is known.

    rows : a `Catalogue`; or rows with ``model``, ``parameters`` and ``multiply_adds`` and, if it
        was measured, ``accuracy``, or a JSON file of these, such as the league table's; by default
        all architectures with ImageNet's 1,000 classes

    Every network is named in each panel, where points crowd at the end of a line; a note lists
    those for which there is no room.

    Raises `ArgumentError`.

    >>> from minicnn.inspect import catalogue
    >>> print(zoo_scatter(catalogue(["alexnet", "vgg16"])).alt)
    2 networks by parameters and multiply-adds: from alexnet with 61.1 M and 714 M to vgg16 with
    138 M and 15.5 G.
    """
    spots = _spots(rows)
    measured = all(spot.accuracy is not None for spot in spots)
    with style(dark) as colors:
        from minicnn.plot.picture import headed, margins, new

        picture = new(9.6 if measured else 7.6, 5.2, colors,
                      "Accuracy and cost" if measured else "Parameters and arithmetic",
                      _described(spots, measured))  # fmt: skip
        panels = (("multiply_adds", "accuracy"), ("parameters", "accuracy")) if measured else (
            ("parameters", "multiply_adds"),)  # fmt: skip
        where = margins(picture, 0.75, 0.2, 0.95, 0.55)
        axes = picture.subplots(
            1, len(panels), squeeze=False, sharey=True, gridspec_kw={**where, "wspace": 0.08}
        )[0]
        unnamed: dict[str, None] = {}
        for one, (x, y) in zip(axes, panels, strict=True):
            unnamed |= dict.fromkeys(_scatter(one, spots, x, y, colors))
        if unnamed:
            note = textwrap.shorten(f"no room for {', '.join(unnamed)}", 110, placeholder=" …")
        headed(picture, note if unnamed else "")
        axes[0].set_ylabel(_AXES[panels[0][1]])
        handles, names = axes[0].get_legend_handles_labels()
        picture.legend(handles, names, loc="lower left", ncols=min(len(names), 6),
                       bbox_to_anchor=(0.01, 0.0), fontsize=7.5)  # fmt: skip
        return picture


_AXES = {
    "parameters": "parameters (log scale)",
    "multiply_adds": "multiply-adds for one image (log scale)",
    "accuracy": "accuracy (share of images)",
}  # fmt: skip
_GROUPS = ("alexnet", "zfnet", "vgg", "nin", "googlenet", "inception", "plain", "preact", "resnext",
           "wide_resnet", "wrn", "stochastic", "resnet", "fractalnet", "densenet", "squeezenet",
           "lenet", "notes")  # fmt: skip
_FAMILIES = {
    "alexnet": "AlexNet, ZFNet", "zfnet": "AlexNet, ZFNet", "vgg": "VGG", "nin": "small",
    "googlenet": "Inception", "inception": "Inception", "plain": "plain", "preact": "ResNet",
    "resnext": "ResNeXt, wide", "wide_resnet": "ResNeXt, wide", "wrn": "ResNeXt, wide",
    "stochastic": "ResNet", "resnet": "ResNet", "fractalnet": "DenseNet, FractalNet",
    "densenet": "DenseNet, FractalNet", "squeezenet": "small", "lenet": "small", "notes": "small",
}  # fmt: skip


def _family(name: str) -> str:
    return next((_FAMILIES[g] for g in _GROUPS if name.startswith(g)), "other")


def _spots(rows: Any) -> list[Spot]:
    if rows is None:
        large = [n for n in models.names() if models.find(n).preset(None).num_classes == 1000]
        rows = catalogue(large)
    if isinstance(rows, (str, os.PathLike)):
        rows = _read(Path(rows))
    if isinstance(rows, Catalogue):
        rows = [{"model": e.name, "parameters": e.parameters, "multiply_adds": e.multiply_adds}
                for e in rows.entries]  # fmt: skip
    spots = [_spot(i, row) for i, row in enumerate(rows)]
    if not spots:
        raise ArgumentError("plot.zoo_scatter: rows is empty; give one network at least.")
    return spots


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"plot.zoo_scatter: rows is the file {path}, which cannot be read as JSON ({error}); "
            "give a file that examples/league_table.py wrote."
        ) from error
    rows = found.get("rows", []) if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ArgumentError(
            f"plot.zoo_scatter: rows is the file {path}, which has no list of rows; give a file "
            "that examples/league_table.py wrote."
        )
    return [row for row in rows if "error" not in row]  # the table keeps what failed


def _spot(number: int, row: Mapping[str, Any]) -> Spot:
    name = readable(row.get("model", row.get("name", "")))
    try:
        sizes = int(row["parameters"]), int(row["multiply_adds"])
        accuracy = row.get("accuracy", row.get("test_accuracy"))
        known = None if accuracy is None else float(accuracy)
    except (KeyError, TypeError, ValueError):
        raise ArgumentError(
            f"plot.zoo_scatter: row {number} has the fields {sorted(map(str, row))}; it needs "
            "model, parameters and multiply_adds, and all but model must be numbers."
        ) from None
    if min(sizes) < 1:
        raise ArgumentError(
            f"plot.zoo_scatter: row {number} has {sizes[0]} parameters and {sizes[1]} "
            "multiply-adds; on scales of powers both must be 1 at least."
        )
    return Spot(name, _family(name), *sizes, known)


def _scatter(axes: Axes, spots: Sequence[Spot], x: str, y: str, colors: Theme) -> list[str]:
    """Draw the points and their names; returns the names for which there is no room."""
    from minicnn.plot.naming import name_points

    groups = list(dict.fromkeys(spot.group for spot in spots))
    for i, group in enumerate(groups):
        chosen = [spot for spot in spots if spot.group == group]
        axes.plot([getattr(s, x) for s in chosen], [getattr(s, y) for s in chosen],
                  linestyle="none", marker=MARKERS[i % len(MARKERS)], markersize=8, label=group,
                  markeredgewidth=0.5,
                  markeredgecolor=colors.page,
                  color=colors.series[i % len(colors.series)])  # fmt: skip
    axes.set_xscale("log")
    if y != "accuracy":
        axes.set_yscale("log")
    axes.margins(0.1)
    axes.set_xlabel(_AXES[x])
    points = np.array([(getattr(s, x), getattr(s, y)) for s in spots], float)
    return name_points(axes, [s.name for s in spots], points, colors.faint)


def _described(spots: Sequence[Spot], measured: bool) -> str:
    from minicnn.plot.labels import short

    by_cost = sorted(spots, key=lambda s: (s.multiply_adds, s.parameters))
    words = [f"{s.name} with {short(s.parameters)} and {short(s.multiply_adds)}"
             for s in (by_cost[0], by_cost[-1])]  # fmt: skip
    text = f"{len(spots)} networks by parameters and multiply-adds: from {words[0]} to {words[1]}."
    if measured:
        best = max(spots, key=lambda s: s.accuracy or -math.inf)
        text += f" The most accurate is {best.name} with {best.accuracy:.4f}."
    return text
