"""The sheet of an architecture diagram: a card for each stage, in columns, read like a newspaper.

A card has the shape of the stage's result as its heading, with a square that shows how large its
maps are beside the image, and the units of the stage below each other. All axes of a column are one
line. The cards follow each other down a column and then at the top of the next; how many columns
there are, and which cards each has, is chosen so that the columns are about equally long and the
sheet has the proportions of a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from minicnn.plot import labels
from minicnn.plot.layout import (
    GAP,
    PAD,
    SMALL,
    TITLE,
    WORDS,
    Drawing,
    Line,
    Point,
    Repeats,
    Room,
    text_width,
)
from minicnn.plot.structure import Stage, Unit

MARGIN, HEADER, FOOTER = 0.3, 0.84, 0.46  # of the sheet
CARD, HEAD, BETWEEN_CARDS, BETWEEN_COLUMNS = 0.14, 0.31, 0.26, 0.42  # of the cards
ICON = 0.26  # the square of a heading, and the space behind it
FRAME_HEAD, SHADOW = 0.31, 0.055  # of the frames around blocks
PROPORTION = 1.5  # width to height
MOST_COLUMNS = 7


@dataclass(frozen=True)
class Card:
    """A stage: its place, the words at both ends of its first line; ``share`` is that of the
    image's height that its maps have.
    """

    x: float
    y: float
    width: float
    height: float
    heading: str
    note: str
    share: float


@dataclass(frozen=True)
class Frame:
    """A block: its place and heading; ``stacked`` where it stands for several."""

    x: float
    y: float
    width: float
    height: float
    heading: str
    note: str
    stacked: bool


@dataclass
class Sheet:
    """All that is on the sheet; inches, y downwards."""

    width: float = 0.0
    height: float = 0.0
    cards: list[Card] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    drawing: Drawing = field(default_factory=Drawing)


def sheet(stages: Sequence[Stage], input_shape: tuple[int, ...], header: float = 0.0) -> Sheet:
    """Lay out the stages of a network; ``header`` is the width of the words above.

    >>> from minicnn import models
    >>> from minicnn.plot.structure import stages
    >>> from minicnn.plot.trace import trace
    >>> model = models.create("notes_cnn")
    >>> found = sheet(stages(model, trace(model, (1, 28, 28))), (1, 28, 28))
    >>> [card.heading for card in found.cards]
    ['1 × 28 × 28', '16 × 28 × 28', '32 × 14 × 14', '32 × 7 × 7', '10 values']
    """
    height = input_shape[1]
    planned = [_Planned.of_input(input_shape), *(_Planned.of(s, height) for s in stages)]
    columns = _columns(planned)
    found = Sheet()
    x = MARGIN
    ports: list[tuple[Point, Point]] = []
    for column in columns:
        width, left = _measures(column)
        y = HEADER
        for card in column:
            ports.append(_place(found, card, x, y, width, x + left))
            y += card.room.height + BETWEEN_CARDS
        found.height = max(found.height, y - BETWEEN_CARDS)
        x += width + BETWEEN_COLUMNS
    _connect(found, ports)
    found.width = max(x - BETWEEN_COLUMNS + MARGIN, header + 2 * MARGIN)
    found.height += FOOTER
    return found


@dataclass(frozen=True)
class _Planned:
    """A card before it has a place: what its units need on both sides of its axis."""

    heading: str
    note: str
    share: float
    units: tuple[Unit, ...]
    rooms: tuple[Room, ...]
    room: Room

    @classmethod
    def of(cls, stage: Stage, image_height: int) -> _Planned:
        """The card of a stage."""
        note = f"{labels.short(stage.parameters)} param." if stage.parameters else "no param."
        share = stage.shape[-1] / image_height if len(stage.shape) == 3 else 0.0
        return cls._of(labels.size(stage.shape), note, share, tuple(stage.units))

    @classmethod
    def of_input(cls, shape: tuple[int, ...]) -> _Planned:
        """The card of the image."""
        return cls._of(labels.size(shape), "input", 1.0, ())

    @classmethod
    def _of(cls, heading: str, note: str, share: float, units: tuple[Unit, ...]) -> _Planned:
        rooms = tuple(map(_unit_room, units))
        height = HEAD + sum(room.height for room in rooms) + GAP * max(len(rooms) - 1, 0)
        left, right = (max((room[i] for room in rooms), default=0.0) + CARD for i in (0, 1))
        room = Room(left, right, height + (CARD if rooms else 0.0))
        return cls(heading, note, share, units, rooms, room)

    @property
    def words(self) -> float:
        """The width of the heading."""
        heading = text_width(self.heading, TITLE, bold=True) + text_width(self.note, SMALL)
        return heading + ICON + 0.16 + 2 * CARD


def _measures(column: Sequence[_Planned]) -> tuple[float, float]:
    """Of a column: its width, and how far its axis is from the left."""
    left, right = (max(card.room[i] for card in column) for i in (0, 1))
    spare = max(max(card.words for card in column) - left - right, 0.0)
    return left + right + spare, left + spare / 2


def _unit_room(unit: Unit) -> Room:
    room = Repeats().room(unit.repeats)
    if not unit.name:
        return room
    head = text_width(labels.unit_label(unit), WORDS, bold=True)
    words = max(head, text_width(labels.unit_paths(unit), SMALL)) + 0.12
    spare = max(words - room.left - room.right, 0.0) / 2
    sides = 2 * PAD / 2 + spare
    height = FRAME_HEAD + room.height + 2 * PAD + SHADOW
    return Room(room.left + sides, room.right + sides + SHADOW, height)


def _place(
    found: Sheet, card: _Planned, x: float, y: float, width: float, axis: float
) -> tuple[Point, Point]:
    """Put a card on the sheet; -> where the data come in, and where they leave."""
    height = card.room.height
    found.cards.append(Card(x, y, width, height, card.heading, card.note, card.share))
    place = y + HEAD
    for i, (unit, room) in enumerate(zip(card.units, card.rooms, strict=True)):
        if i:
            found.drawing.lines.append(Line((Point(axis, place), Point(axis, place + GAP))))
            place += GAP
        place = _place_unit(found, unit, room, axis, place)
    return Point(axis, y), Point(axis, y + height)


def _place_unit(found: Sheet, unit: Unit, room: Room, axis: float, y: float) -> float:
    inside = Repeats(found.drawing)
    if not unit.name:
        return inside.place(unit.repeats, axis, y)
    stacked = len(unit.repeats) > 1
    width, height = room.left + room.right - SHADOW, room.height - SHADOW
    found.frames.append(
        Frame(axis - room.left, y, width, height, labels.unit_label(unit),
              labels.unit_paths(unit), stacked)
    )  # fmt: skip
    start = y + FRAME_HEAD
    end = inside.place(unit.repeats, axis, start + PAD)
    found.drawing.lines.append(Line((Point(axis, start), Point(axis, start + PAD)), plain=True))
    found.drawing.lines.append(Line((Point(axis, end), Point(axis, y + height)), plain=True))
    return y + height + (SHADOW if stacked else 0.0)


def _connect(found: Sheet, ports: Sequence[tuple[Point, Point]]) -> None:
    """Arrows from card to card: straight down, or from the foot of a column to the next top."""
    for (_, leave), (enter, _) in pairwise(ports):
        if enter.y > leave.y:
            path: tuple[Point, ...] = (leave, enter)
        else:
            right = max(card.x + card.width for card in found.cards if card.x <= leave.x)
            low, high = leave.y + 0.12, enter.y - 0.14
            gutter = right + BETWEEN_COLUMNS / 2
            path = (leave, Point(leave.x, low), Point(gutter, low), Point(gutter, high),
                    Point(enter.x, high), enter)  # fmt: skip
        found.drawing.lines.append(Line(path))


def _columns(cards: Sequence[_Planned]) -> list[list[_Planned]]:
    """The division into columns whose sheet comes nearest to the proportions of a page."""
    best: tuple[float, list[list[_Planned]]] | None = None
    for count in range(1, min(len(cards), MOST_COLUMNS) + 1):
        for cuts in combinations(range(2, len(cards)), count - 1):  # the input is not alone
            ends = (0, *cuts, len(cards))
            columns = [list(cards[a:b]) for a, b in pairwise(ends)]
            score = _badness(columns)
            if best is None or score < best[0]:
                best = score, columns
    assert best is not None
    return best[1]


def _badness(columns: Sequence[Sequence[_Planned]]) -> float:
    """Area of the sheet, and how far its proportions are from those of a page."""
    width = sum(_measures(column)[0] + BETWEEN_COLUMNS for column in columns)
    heights = [sum(c.room.height + BETWEEN_CARDS for c in column) for column in columns]
    height = max(heights) + HEADER
    return math.log(width * height) + 1.2 * abs(math.log(width / height / PROPORTION))
