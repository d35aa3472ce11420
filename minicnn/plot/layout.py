"""Where the boxes of a diagram go, in inches, before anything is drawn.

Every part says first how much room it takes on each side of its axis, the vertical line on which
the data come in and leave; then it is placed. A layer is a box; a chain stacks its parts; branches
stand side by side between two bars; a shortcut is an arc around the body on its right. Boxes are as
wide as their words, measured with the font itself, so that nothing overlaps whatever the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from minicnn.plot import labels
from minicnn.plot.structure import Chain, Layer, Parallel, Part

TITLE, WORDS, SMALL = 8.0, 7.4, 6.3  # sizes of type, in points
GAP, PAD, BETWEEN, ARC = 0.17, 0.09, 0.14, 0.16  # between boxes, in them, branches, to an arc
LINE = 0.235  # the height of a box of one line; a second one adds SECOND
SECOND = 0.125
FORK, JOIN = 0.06, 0.12  # from where data come in to the bar of the branches; from bar to join


class Point(NamedTuple):
    """A place; y grows downwards."""

    x: float
    y: float


@dataclass(frozen=True)
class Box:
    """A rectangle with up to two lines of words; ``dashed`` where only the first repeat has it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    text: str
    note: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Line:
    """A line through points, with an arrow head at its end unless ``plain``."""

    points: tuple[Point, ...]
    plain: bool = False
    dashed: bool = False
    arc: bool = False


@dataclass
class Drawing:
    """Boxes and lines."""

    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


class Room(NamedTuple):
    """What a part needs to the left and right of its axis, and downwards."""

    left: float
    right: float
    height: float


@lru_cache(maxsize=4096)
def text_width(text: str, points: float, bold: bool = False) -> float:
    """The width of words in inches.

    >>> text_width("ReLU", 8) < text_width("ReLU", 8, bold=True) < 0.5
    True
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(family="DejaVu Sans", size=points, weight="bold" if bold else "normal")
    with warnings.catch_warnings():  # of glyphs that are missing: who draws the words says so
        warnings.simplefilter("ignore", UserWarning)
        width, _, _ = TextToPath().get_text_width_height_descent(text, font, False)
    return 1.05 * float(width) / 72  # on screens letters stand on whole pixels and take more


class Repeats:
    """Places a chain as it is in all repeats of a block; the last of them gives the form."""

    def __init__(self, drawing: Drawing | None = None) -> None:
        self._drawing = drawing or Drawing()

    def room(self, chains: Sequence[Chain]) -> Room:
        """What a chain needs."""
        rooms = [self._part_room(parts) for parts in zip(*chains, strict=True)]
        if not rooms:
            return Room(0.06, 0.06, 0.0)
        height = sum(room.height for room in rooms) + GAP * (len(rooms) - 1)
        return Room(max(r.left for r in rooms), max(r.right for r in rooms), height)

    def place(self, chains: Sequence[Chain], x: float, y: float) -> float:
        """Draw a chain with its axis at x from y on; returns where it ends."""
        for place, parts in enumerate(zip(*chains, strict=True)):
            if place:
                points = Point(x, y), Point(x, y + GAP)
                self._drawing.lines.append(Line(points, plain=isinstance(parts[0], Parallel)))
                y += GAP
            y = self._place_part(parts, x, y)
        return y

    def _part_room(self, parts: Sequence[Part]) -> Room:
        if isinstance(parts[-1], Layer):
            width, height = _box_size(*labels.layer_label(_layers(parts)))
            return Room(width / 2, width / 2, height)
        parallels = _parallels(parts)
        if parallels[-1].shortcut is not None:
            return self._residual_room(parallels)
        rooms = [self.room(branch) for branch in _branches(parallels)]
        widths = sum(r.left + r.right for r in rooms) + BETWEEN * (len(rooms) - 1)
        join = _box_size(labels.join_label(parallels), "") if parallels[-1].join else (0.0, 0.0)
        half = max(widths, join[0]) / 2
        gather = JOIN if join[1] else 0.0
        return Room(half, half, max(r.height for r in rooms) + 2 * GAP + FORK + gather + join[1])

    def _residual_room(self, parallels: Sequence[Parallel]) -> Room:
        body = self.room([p.branches[0] for p in parallels])
        join = _box_size(labels.join_label(parallels), "")
        side = self._shortcut_room(parallels)
        right = max(body.right, join[0] / 2) + ARC + side.left + side.right
        height = max(body.height, side.height) + 2 * GAP + FORK + join[1]
        return Room(max(body.left, join[0] / 2), right, height)

    def _shortcut_room(self, parallels: Sequence[Parallel]) -> Room:
        chain = _fullest(parallels)
        if not chain:
            return Room(0.0, 0.06, 0.0)
        return self.room([chain])

    def _place_part(self, parts: Sequence[Part], x: float, y: float) -> float:
        if isinstance(parts[-1], Layer):
            layers = _layers(parts)
            text, note = labels.layer_label(layers)
            return self._box(x, y, labels.kind(layers[-1]), text, note)
        parallels = _parallels(parts)
        if parallels[-1].shortcut is not None:
            return self._place_residual(parallels, x, y)
        return self._place_branches(parallels, x, y)

    def _place_branches(self, parallels: Sequence[Parallel], x: float, y: float) -> float:
        branches = _branches(parallels)
        rooms = [self.room(branch) for branch in branches]
        tallest = max(room.height for room in rooms)
        left = x - (sum(r.left + r.right for r in rooms) + BETWEEN * (len(rooms) - 1)) / 2
        fork, bottom = y + FORK, y + FORK + 2 * GAP + tallest
        self._line(x, y, x, fork)
        axes = []
        for branch, room in zip(branches, rooms, strict=True):
            axis = left + room.left
            axes.append(axis)
            left += room.left + room.right + BETWEEN
            if not branch[0]:
                self._line(axis, fork, axis, bottom)
                continue
            self._arrow(axis, fork, fork + GAP)
            end = self.place(branch, axis, fork + GAP)
            self._line(axis, end, axis, bottom)
        for level in (fork, bottom):
            self._line(min(axes[0], x), level, max(axes[-1], x), level)
        if parallels[-1].join is None:
            return bottom
        self._arrow(x, bottom, bottom + JOIN)
        return self._box(x, bottom + JOIN, "join", labels.join_label(parallels))

    def _place_residual(self, parallels: Sequence[Parallel], x: float, y: float) -> float:
        chain = _fullest(parallels)
        dashed = any(not p.shortcut for p in parallels) and bool(chain)
        body = self.room([p.branches[0] for p in parallels])
        side = self._shortcut_room(parallels)
        width = _box_size(labels.join_label(parallels), "")[0]
        axis = x + max(body.right, width / 2) + ARC + side.left
        fork = y + FORK
        self._line(x, y, x, fork)
        self._arrow(x, fork, fork + GAP)
        height = max(body.height, side.height)
        end = self.place([p.branches[0] for p in parallels], x, fork + GAP)
        join = fork + 2 * GAP + height
        self._arrow(x, end, join)
        bottom = self._box(x, join, "join", labels.join_label(parallels))
        middle = (join + bottom) / 2
        entry, exit = Point(x, fork), Point(x + width / 2, middle)
        if not chain:
            around = (entry, Point(axis, fork), Point(axis, middle), exit)
            self._drawing.lines.append(Line(around, arc=True))
            return bottom
        top = fork + GAP + (height - side.height) / 2
        path = (entry, Point(axis, fork), Point(axis, top))
        self._drawing.lines.append(Line(path, dashed=dashed, arc=True))
        first = len(self._drawing.boxes)
        end = self.place([chain], axis, top)
        if dashed:
            found = self._drawing.boxes[first:]
            self._drawing.boxes[first:] = [_dashed(box) for box in found]
        back = (Point(axis, end), Point(axis, middle), exit)
        self._drawing.lines.append(Line(back, dashed=dashed, arc=True))
        return bottom

    def _box(self, x: float, y: float, kind: str, text: str, note: str = "") -> float:
        width, height = _box_size(text, note)
        self._drawing.boxes.append(Box(x - width / 2, y, width, height, kind, text, note))
        return y + height

    def _arrow(self, x: float, top: float, bottom: float) -> None:
        self._drawing.lines.append(Line((Point(x, top), Point(x, bottom))))

    def _line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self._drawing.lines.append(Line((Point(x0, y0), Point(x1, y1)), plain=True))


def _box_size(text: str, note: str) -> tuple[float, float]:
    width = max(text_width(text, WORDS, bold=True), text_width(note, SMALL)) + 2 * PAD
    return width, LINE + (SECOND if note else 0.0)


def _dashed(box: Box) -> Box:
    return Box(box.x, box.y, box.width, box.height, box.kind, box.text, box.note, True)


def _layers(parts: Sequence[Part]) -> list[Layer]:
    return [part for part in parts if isinstance(part, Layer)]


def _parallels(parts: Sequence[Part]) -> list[Parallel]:
    return [part for part in parts if isinstance(part, Parallel)]


def _branches(parallels: Sequence[Parallel]) -> list[list[Chain]]:
    """For each branch the chains of all repeats."""
    return [list(chains) for chains in zip(*(p.branches for p in parallels), strict=True)]


def _fullest(parallels: Sequence[Parallel]) -> Chain:
    """The shortcut of the first repeat that has layers on it, or an empty one."""
    return next((p.shortcut for p in parallels if p.shortcut), [])
