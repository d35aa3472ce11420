"""Names of points in a plot, placed so that none lies upon another.

A name stands beside its point where one of six places there is free. Where points crowd, it moves
away and a thin line leads back: of all places on rings around the point, each a little wider than
the last, it takes the one with the smallest cost, which is the distance and something for every
point and every other line that its line would pass over, and much for a name under it. Names that
have room beside their points come first, because they cannot move; then those that have the fewest
free places near by.

Everything is in points of type, 72 to the inch: a box is (left, bottom, right, top), and the boxes
to keep clear of are the rows of one array, so that places are compared with all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

SIZE = 7  # of the letters, in points
_SIDES = np.array([(6, 0), (-6, 0), (0, 5), (0, -5), (4, 4), (-4, -4)], float)  # in points
_MARKER = 4.0  # half of a marker's width, in points
_NEAREST, _RING = 13.0, 4.0  # the first ring and the way to the next, in points
_NEAR = 45.0  # rings up to here tell how crowded a point is, in points
_ANGLES = (np.arange(32) + 0.5) * (2 * np.pi / 32)  # none along the lines of the grid
# what a line costs for each thing that it passes over, in points of distance
_POINT, _LINE, _NAME = 12.0, 60.0, 240.0


def name_points(axes: Axes, names: Sequence[str], points: Floats, line: str) -> list[str]:
    """Write the name of each point (N, 2) beside it, or farther away at a line of that colour.

    Returns the names for which the plot has no room.
    """
    figure = axes.get_figure()
    assert figure is not None
    figure.canvas.draw()
    scale = figure.dpi / 72
    places = axes.transData.transform(points) / scale
    frame = np.array(axes.get_window_extent().extents) / scale
    sizes = np.array([_size(axes, name) for name in names]).reshape(-1, 2) / scale
    plan = planned(places, sizes, frame)
    for i, (center, has_line) in plan.items():
        arrow = {"arrowstyle": "-", "color": line, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2.5}
        axes.annotate(
            names[i], tuple(points[i]), fontsize=SIZE, xytext=tuple(center - places[i]),
            textcoords="offset points", ha="center", va="center", parse_math=False,
            arrowprops=arrow if has_line else None,
        )  # fmt: skip
    return [name for i, name in enumerate(names) if i not in plan]


def planned(places: Floats, sizes: Floats, frame: Floats) -> dict[int, tuple[Floats, bool]]:
    """The middle of each name, and whether a line leads to it; what has no room is left out.

    places : (N, 2), where the points are
    sizes : (N, 2), width and height of the names
    frame : (left, bottom, right, top)

    >>> one = planned(np.array([[50.0, 50.0]]), np.array([[20.0, 8.0]]), np.array([0.0, 0, 99, 99]))
    >>> one
    {0: (array([66., 50.]), False)}
    """
    sheet = _Sheet(places, sizes, frame)
    crowded = [i for i in range(len(places)) if not sheet.write_beside(i)]
    for i in sorted(crowded, key=sheet.room):
        sheet.write_away(i)
    return sheet.found


def _size(axes: Axes, name: str) -> tuple[float, float]:
    words = axes.annotate(name, (0.5, 0.5), xycoords="axes fraction", fontsize=SIZE,
                          parse_math=False)  # fmt: skip
    box = words.get_window_extent()
    words.remove()
    return box.width, box.height


class _Sheet:
    """The places taken so far, in points of type."""

    def __init__(self, places: Floats, sizes: Floats, frame: Floats) -> None:
        self.places, self.sizes, self.frame = places, sizes, frame
        self.markers = np.hstack([places - _MARKER, places + _MARKER])
        self.written = np.empty((0, 4))
        self.lines = np.empty((0, 4))
        self.found: dict[int, tuple[Floats, bool]] = {}

    def room(self, i: int) -> int:
        """How many places near a point are free for its name."""
        return int(self._free(i, self._around(i, _NEAR)[0]).sum())

    def write_beside(self, i: int) -> bool:
        """Take the first free place at a point; False if there is none."""
        centers = self.places[i] + _SIDES + np.sign(_SIDES) * self.sizes[i] / 2
        free = np.flatnonzero(self._free(i, centers))
        if free.size:
            self._take(i, centers[free[0]], False)
        return bool(free.size)

    def write_away(self, i: int) -> None:
        """Take the cheapest of the free places on the rings around a point, if there is any."""
        centers, rings = self._around(i, float(np.hypot(*(self.frame[2:] - self.frame[:2]))))
        best, least = None, np.inf
        for j in np.flatnonzero(self._free(i, centers)):
            if rings[j] >= least:
                break
            cost = float(rings[j]) + self._passed(i, centers[j])
            if cost < least:
                best, least = centers[j], cost
        if best is not None:
            self.lines = np.vstack([self.lines, [*self.places[i], *best]])
            self._take(i, best, True)

    def _around(self, i: int, far: float) -> tuple[Floats, Floats]:
        """The places on the rings around a point, and their distances, the nearest first."""
        rings = np.repeat(np.arange(_NEAREST, far, _RING), len(_ANGLES))
        ways = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
        ways = np.tile(ways, (len(rings) // len(_ANGLES), 1))
        return self.places[i] + ways * (rings[:, None] + self.sizes[i] / 2), rings

    def _passed(self, i: int, center: Floats) -> float:
        """What the line to a name at that place passes over, and the lines under the name."""
        line = np.concatenate([self.places[i], center])
        box = self._boxes(i, center[None])
        under = sum(int(_through(other, box).any()) for other in self.lines)
        return float(
            (_through(line, self.markers).sum() - 1) * _POINT
            + _cross(line, self.lines).sum() * _LINE
            + (_through(line, self.written).sum() + under) * _NAME
        )

    def _boxes(self, i: int, centers: Floats) -> Floats:
        return np.hstack([centers - self.sizes[i] / 2, centers + self.sizes[i] / 2])

    def _free(self, i: int, centers: Floats) -> npt.NDArray[np.bool_]:
        """Which places are inside the frame and upon nothing."""
        boxes = self._boxes(i, centers)
        inside = (boxes[:, :2] >= self.frame[:2]) & (boxes[:, 2:] <= self.frame[2:])
        taken = np.vstack([self.markers, self.written])
        return np.asarray(inside.all(axis=1) & ~_overlap(boxes, taken).any(axis=1))

    def _take(self, i: int, center: Floats, has_line: bool) -> None:
        self.written = np.vstack([self.written, self._boxes(i, center[None])])
        self.found[i] = center, has_line


def _overlap(boxes: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """Which boxes (N, 4) share more than an edge with which of the others (M, 4)."""
    one = boxes[:, None]
    starts = (others[:, :2] < one[..., 2:]).all(axis=-1)
    return np.asarray(starts & (one[..., :2] < others[:, 2:]).all(axis=-1))


def _through(line: Floats, boxes: Floats) -> npt.NDArray[np.bool_]:
    """Which boxes a line from (x, y) to (x, y) meets: where it is inside along both axes at once.

    >>> _through(np.array([0.0, 0.0, 4.0, 4.0]), np.array([[1.0, 1, 2, 2], [3, 0, 4, 1]]))
    array([ True, False])
    """
    start, way = line[:2], line[2:] - line[:2]
    way = np.where(way == 0, 1e-9, way)
    one, other = (boxes[:, :2] - start) / way, (boxes[:, 2:] - start) / way
    enters = np.minimum(one, other).max(axis=1, initial=0)
    leaves = np.maximum(one, other).min(axis=1, initial=1)
    return np.asarray(enters <= leaves)


def _cross(line: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """Which lines cross one: the ends of each lie on different sides of the other.

    >>> _cross(np.array([0.0, 0, 2, 2]), np.array([[0.0, 2, 2, 0], [3, 0, 4, 0]]))
    array([ True, False])
    """
    a, b, c, d = line[:2], line[2:], others[:, :2], others[:, 2:]
    apart = _side(a, b, c) * _side(a, b, d) < 0
    return np.asarray(apart & (_side(c, d, a) * _side(c, d, b) < 0))


def _side(a: Floats, b: Floats, point: Floats) -> Floats:
    """On which side of the line from a to b a point lies, by the sign."""
    way, to = b - a, point - a
    return np.asarray(way[..., 0] * to[..., 1] - way[..., 1] * to[..., 0])
