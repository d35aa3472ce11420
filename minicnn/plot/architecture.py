"""Block diagrams of networks, read off the model object.

How a model becomes a diagram is told by three modules, one after the other: `minicnn.plot.trace`
finds the graph of its operations, `minicnn.plot.structure` the chains, branches, blocks and stages
in it, and `minicnn.plot.layout` and `minicnn.plot.sheet` the place of each box. Here it is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minicnn import models, nn
from minicnn.errors import ArgumentError
from minicnn.inspect import Summary, summary
from minicnn.nn import Module
from minicnn.plot import labels
from minicnn.plot.layout import SMALL, TITLE, WORDS, Box, Line, Point, text_width
from minicnn.plot.sheet import (
    FRAME_HEAD,
    HEAD,
    ICON,
    MARGIN,
    SHADOW,
    Card,
    Frame,
    Sheet,
    sheet,
)
from minicnn.plot.structure import Stage, stages
from minicnn.plot.style import OKABE_ITO, Theme, style
from minicnn.plot.trace import trace
from minicnn.plot.words import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture

KINDS = {"conv": "blue", "pool": "vermilion", "fc": "green", "join": "orange", "other": "purple"}
HEADLINE, SUBLINE = 13.0, 8.5


def architecture(
    model: Module | str,
    input_shape: tuple[int, ...] | None = None,
    preset: str | None = None,
    dark: bool = False,
) -> Picture:
    """Draw the blocks of a network: layers, branches, shortcuts, shapes and parameters.

    model : a network, or the name of one in `minicnn.models`, of which no weights are made
    input_shape : one image, (C, H, W); by default the one that the network was built for
    preset : for which images a network is built that is given by name

    Equal blocks that follow each other are drawn once, "x 6". What only training uses, such as
    auxiliary heads, is not drawn. Raises `ArgumentError`.

    >>> picture = architecture("resnet18")
    >>> print(picture.alt)
    Block diagram of resnet18, from top to bottom. Input 3 × 224 × 224. Stage 64 × 112 × 112: ...
    """
    name, network, shape = _network(model, input_shape, preset)
    table = summary(network, shape)
    found = stages(network, trace(network, shape))
    note = _note(table)
    header = max(text_width(name, HEADLINE, bold=True), text_width(note, SUBLINE))
    with style(dark) as colors:
        plan = sheet(found, shape, header)
        return _drawn(plan, colors, name, note, _described(name, found, shape))


def _network(
    model: Module | str, input_shape: tuple[int, ...] | None, preset: str | None
) -> tuple[str, Module, tuple[int, ...]]:
    if isinstance(model, str):
        size = {}
        if input_shape is not None:
            preset = preset or models.nearest_preset(model, input_shape[1])
            size = {"in_channels": input_shape[0], "image_size": input_shape[1]}
        with nn.without_weights():
            model = models.create(model, preset=preset, **size)
    shape = input_shape or getattr(model, "input_shape", None)
    if shape is None or len(shape) != 3:
        raise ArgumentError(
            f"plot.architecture: input_shape is {input_shape!r}, and {type(model).__name__} does "
            "not say which images it takes; pass input_shape=(C, H, W), such as (3, 224, 224)."
        )
    name = readable(getattr(model, "architecture", "") or type(model).__name__)
    return name, model, tuple(shape)


def _note(table: Summary) -> str:
    used = table.parameters - table.unused_parameters
    parts = [f"{used:,} parameters", f"{table.multiply_adds:,} multiply-adds for one image"]
    if table.unused_parameters:
        parts.append(f"auxiliary heads, {table.unused_parameters:,} parameters, not drawn")
    return " · ".join(parts)


def _described(name: str, found: list[Stage], shape: tuple[int, ...]) -> str:
    """The diagram in words, for who cannot see it."""
    parts = [
        f"Block diagram of {name}, from top to bottom.",
        f"Input {labels.size(shape)}.",
    ]
    for stage in found:
        inside = ", ".join(
            labels.unit_label(unit) if unit.name else _plain_words(unit.repeats[0])
            for unit in stage.units
        )
        parts.append(f"Stage {labels.size(stage.shape)}: {inside}.")
    return " ".join(parts)


def _plain_words(chain: Any) -> str:
    from minicnn.plot.structure import Layer

    return ", ".join(
        labels.layer_label([part])[0] if isinstance(part, Layer) else labels.join_label([part])
        for part in chain
    )


def _drawn(plan: Sheet, colors: Theme, name: str, note: str, alt: str) -> Picture:
    from minicnn.plot.picture import new

    picture = new(plan.width, plan.height, colors, name, alt)
    axes = picture.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, plan.width)
    axes.set_ylim(plan.height, 0)
    axes.set_axis_off()
    axes.text(MARGIN, 0.26, name, fontsize=HEADLINE, fontweight="bold", va="center")
    axes.text(MARGIN, 0.49, note, fontsize=SUBLINE, color=colors.faint, va="center")
    for card in plan.cards:
        _card(axes, card, colors)
    for frame in plan.frames:
        _frame(axes, frame, colors)
    for line in plan.drawing.lines:
        _line(axes, line, colors)
    for box in plan.drawing.boxes:
        _box(axes, box, colors)
    _key(axes, plan, colors)
    return picture


def _rectangle(axes: Axes, x: float, y: float, width: float, height: float, **look: Any) -> None:
    from matplotlib.patches import FancyBboxPatch

    rounding = f"round,pad=0,rounding_size={look.pop('rounding', 0.05)}"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=rounding, **look))


def _card(axes: Axes, card: Card, colors: Theme) -> None:
    _rectangle(axes, card.x, card.y, card.width, card.height, rounding=0.07, zorder=1,
               facecolor=colors.card, edgecolor=colors.rule, linewidth=0.8)  # fmt: skip
    middle, left = card.y + HEAD / 2 + 0.015, card.x + 0.12
    _size_icon(axes, left, middle, card.share, colors)
    axes.text(left + ICON, middle, card.heading, fontsize=TITLE, fontweight="bold",
              va="center", zorder=5)  # fmt: skip
    axes.text(card.x + card.width - 0.12, middle, card.note, fontsize=SMALL, color=colors.faint,
              ha="right", va="center", zorder=5)  # fmt: skip


def _size_icon(axes: Axes, x: float, middle: float, share: float, colors: Theme) -> None:
    """A square for the image, and in it one whose area has the maps' share of the height.

    Lengths in proportion would be points: from 224 pixels to 7 the side shrinks 32 times.
    """
    from matplotlib.patches import Rectangle

    side = ICON - 0.1
    small = side * share**0.5
    axes.add_patch(Rectangle((x, middle - side / 2), side, side, facecolor=colors.page, zorder=5,
                             edgecolor=colors.faint, linewidth=0.7))  # fmt: skip
    axes.add_patch(Rectangle((x, middle + side / 2 - small), small, small, linewidth=0, zorder=5,
                             facecolor=colors.faint))  # fmt: skip


def _frame(axes: Axes, frame: Frame, colors: Theme) -> None:
    look = {"facecolor": colors.page, "edgecolor": colors.faint, "linewidth": 0.8}
    for shift in (SHADOW, 0.0) if frame.stacked else (0.0,):
        _rectangle(axes, frame.x + shift, frame.y + shift, frame.width, frame.height,
                   zorder=2 - shift, **look)  # fmt: skip
    axes.text(frame.x + 0.07, frame.y + 0.105, frame.heading, fontsize=WORDS, fontweight="bold",
              va="center", zorder=5)  # fmt: skip
    axes.text(frame.x + 0.07, frame.y + FRAME_HEAD - 0.08, frame.note, fontsize=SMALL,
              color=colors.faint, va="center", zorder=5)  # fmt: skip


def _line(axes: Axes, line: Line, colors: Theme) -> None:
    from matplotlib.patches import PathPatch, Polygon

    color = colors.text if line.arc else colors.faint
    path = _rounded(line.points, 0.09 if len(line.points) > 2 else 0.0)
    axes.add_patch(
        PathPatch(path, facecolor="none", edgecolor=color, linewidth=1.2 if line.arc else 0.9,
                  linestyle=(0, (3, 1.6)) if line.dashed else "-", capstyle="butt", zorder=3)
    )  # fmt: skip
    if not line.plain:
        head = _arrow_head(line.points[-2], line.points[-1])
        axes.add_patch(Polygon(head, facecolor=color, linewidth=0, zorder=3.5))


def _arrow_head(start: Point, end: Point) -> list[tuple[float, float]]:
    """A triangle that points to the end."""
    length, half = 0.065, 0.035
    x, y = _towards(end, start, length)
    dx, dy = (end.x - x) / length * half, (end.y - y) / length * half
    return [end, (x - dy, y + dx), (x + dy, y - dx)]


def _rounded(points: tuple[Point, ...], radius: float) -> Any:
    """A path through points with its corners rounded."""
    from matplotlib.path import Path

    spots: list[tuple[float, float]] = [points[0]]
    codes = [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        spots += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*spots, points[-1]], [*codes, Path.LINETO])


def _towards(start: Point, goal: Point, distance: float) -> tuple[float, float]:
    dx, dy = goal.x - start.x, goal.y - start.y
    share = min(distance / max((dx * dx + dy * dy) ** 0.5, 1e-9), 0.5)
    return start.x + share * dx, start.y + share * dy


def _box(axes: Axes, box: Box, colors: Theme) -> None:
    color = OKABE_ITO[KINDS[box.kind]]
    _rectangle(axes, box.x, box.y, box.width, box.height, facecolor=colors.tint(color), zorder=4,
               edgecolor=color, linewidth=1.0, linestyle=(0, (3, 1.6)) if box.dashed else "-",
               rounding=0.11 if box.kind == "join" else 0.035)  # fmt: skip
    middle, x = box.y + box.height / 2, box.x + box.width / 2
    axes.text(x, middle - (0.055 if box.note else 0), box.text, fontsize=WORDS, ha="center",
              va="center_baseline", fontweight="bold", zorder=5)  # fmt: skip
    if box.note:
        axes.text(x, middle + 0.085, box.note, fontsize=SMALL, ha="center",
                  va="center_baseline", zorder=5)  # fmt: skip


def _key(axes: Axes, plan: Sheet, colors: Theme) -> None:
    """What the short forms mean, as far as the sheet has them."""
    words = " ".join(f"{box.text} {box.note}" for box in plan.drawing.boxes)
    parts = ["C × H × W", "/2 stride 2"] if "/2" in words else ["C × H × W"]
    for sign, meaning in (("BN", "BN batch norm"), ("LRN", "LRN local response norm"),
                          ("× p", "× p survival probability")):  # fmt: skip
        parts += [meaning] if sign in words else []
    if any(box.dashed for box in plan.drawing.boxes):
        parts.append("dashed: in the first block only, the others add their input as it is")
    axes.text(MARGIN, plan.height - 0.15, " · ".join(parts), fontsize=SMALL,
              color=colors.faint, va="center")  # fmt: skip
