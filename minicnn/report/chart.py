"""Line charts as numbers for a template: where the lines, dots, grid and words of an SVG go.

The page needs charts that follow it: from a phone's width to a wide screen, from light to dark, in
print, and where matplotlib is not installed. An SVG inside the page does all of that when its
colours are the page's own CSS variables; so no picture is embedded here, a chart is drawn by
`templates/chart.html` from the coordinates computed below.

A chart has a fixed size in units of its own, and the browser scales it. The grid lies at round
numbers: of the steps 1, 2 and 5 times a power of ten, the smallest that needs no more than so many
lines (Heckbert, "Nice Numbers for Graph Labels", Graphics Gems 1990). A value that is not finite
ends its line, and the next finite one begins it anew: a gap is what happened.

A loss may start at 20 and end at 0.4, or fall from 1 to 0.001: on an even scale all that matters
would lie on one line. Where the largest value is 20 times the least or more, a chart that may do so
has a logarithmic scale, on which equal factors are equal distances, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 440.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 14.0, 14.0, 42.0
MOST_POINTS = 400  # of a line: more than its pixels on a phone
WIDE = 20.0  # from this ratio of largest to least on, a logarithmic scale
MOST_DOTS = 60  # up to so many points each has a dot, whose tooltip says its value

Place = Callable[[tuple[float, float]], tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A named line: ``points`` are (x, y); ``best`` is "min" or "max" where a ring marks it."""

    name: str
    points: Sequence[tuple[float, float]]
    series: int = 0
    best: str = ""

    @property
    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(x, y) for x, y in self.points if math.isfinite(y)]


@dataclass(frozen=True)
class Tick:
    """A line of the grid: where it is, and the number beside it."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A point of a line, with what it says."""

    x: float
    y: float
    text: str
    ring: bool = False


@dataclass(frozen=True)
class Drawn:
    """A line in the chart's units: SVG paths, and dots."""

    name: str
    series: int
    paths: list[str]
    dots: list[Dot]


@dataclass(frozen=True)
class Chart:
    """What the template draws."""

    name: str
    title: str
    unit: str
    across: str
    alt: str
    lines: list[Drawn]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    log: bool = False
    width: float = WIDTH
    height: float = HEIGHT
    box: tuple[float, float, float, float] = field(
        default=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    )


def chart(
    name: str,
    title: str,
    unit: str,
    lines: Sequence[Line],
    across: str = "epoch",
    may_log: bool = False,
) -> Chart | None:
    """Lay out a chart of lines over whole numbers; None where there is no finite value.

    name : for ids in the page, unique there
    may_log : whether values that spread widely may get a logarithmic scale

    >>> loss = chart("loss", "Loss", "nats", [Line("training", [(1, 2.0), (2, 0.5)])])
    >>> [tick.text for tick in loss.y_ticks]
    ['0.5', '1', '1.5', '2']
    >>> loss.alt
    'Loss by epoch. training: 2 at first, 0.5 at last.'
    """
    drawn = [line for line in lines if line.finite]
    if not drawn:
        return None
    xs = [x for line in drawn for x, _ in line.finite]
    ys = [y for line in drawn for _, y in line.finite]
    log = may_log and min(ys) > 0 and max(ys) >= WIDE * min(ys)
    scale = math.log10 if log else float
    x_range = _span(min(xs), max(xs), 0.0)
    y_range = _span(scale(min(ys)), scale(max(ys)), 0.06)
    marks = _decades(*y_range) if log else ticks(*y_range, 6)

    place = _placing(x_range, y_range, scale)
    return Chart(
        name, title, unit, across, _described(title, across, drawn),
        [_drawn(line, place, across) for line in drawn],
        [Tick(place((v, ys[0]))[0], f"{v:g}") for v in ticks(*x_range, 6, whole=True)],
        [Tick(place((x_range[0], v))[1], f"{v:g}") for v in marks], log,
    )  # fmt: skip


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most`` of them.

    >>> ticks(0.07, 0.93, 6)
    [0.2, 0.4, 0.6, 0.8]
    >>> ticks(1, 3, 6, whole=True)
    [1, 2, 3]
    """
    power = math.floor(math.log10((high - low) / most))
    for exponent in (power, power + 1):
        for mantissa in (1, 2, 5):
            step = mantissa * 10.0**exponent
            if whole:
                step = max(round(step), 1)
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first + 1 <= most:
                return [round(i * step, 12) for i in range(first, last + 1)]
    return [low, high]


def _decades(low: float, high: float) -> list[float]:
    """Values between two powers of ten, the exponents given: 1, 2 and 5, or the powers alone."""
    exponents = range(math.floor(low), math.ceil(high) + 1)
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        found = [round(m * 10.0**e, 12) for e in exponents for m in mantissas]
        found = [value for value in found if low <= math.log10(value) <= high]
        if len(found) <= 7:
            break
    return found


def thinned(count: int, most: int, keep: Sequence[int] = ()) -> list[int]:
    """Which of ``count`` things to show where ``most`` have room: evenly, first and last too.

    >>> thinned(5, 9), thinned(11, 3), thinned(11, 3, keep=[4])
    ([0, 1, 2, 3, 4], [0, 5, 10], [0, 4, 5, 10])
    """
    if count <= most:
        return list(range(count))
    even = {round(i * (count - 1) / (most - 1)) for i in range(most)}
    return sorted(even | set(keep))


def _placing(
    x_range: tuple[float, float], y_range: tuple[float, float], scale: Callable[[float], float]
) -> Place:
    """The function from a point to its place in the chart."""

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - x_range[0]) / (x_range[1] - x_range[0])
        up = (scale(point[1]) - y_range[0]) / (y_range[1] - y_range[0])
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    return place


def _span(low: float, high: float, margin: float) -> tuple[float, float]:
    """A range that is not empty; loss and accuracy do not go below 0, nor does the axis."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        extra = 0.5 if margin == 0 else (0.1 * abs(low) or 0.5)
        return low - extra, high + extra
    more = margin * (high - low)
    return (max(low - more, 0.0) if low >= 0 else low - more), high + more


def _drawn(line: Line, place: Place, across: str) -> Drawn:
    points = [line.points[i] for i in thinned(len(line.points), MOST_POINTS)]
    paths, open_path = [], []
    for point in [*points, (0.0, math.nan)]:
        if math.isfinite(point[1]):
            x, y = place(point)
            open_path.append(f"{x:.1f} {y:.1f}")
        elif open_path:
            paths.append("M" + " L".join(open_path))
            open_path = []
    finite = [point for point in points if math.isfinite(point[1])]
    shown = finite if len(finite) <= MOST_DOTS else [finite[-1]]
    dots = [Dot(*place(p), _point(line, p, across)) for p in shown]
    if line.best:
        choose = min if line.best == "min" else max
        best = choose(line.finite, key=lambda point: point[1])
        dots.append(Dot(*place(best), f"best {_point(line, best, across)}", ring=True))
    return Drawn(line.name, line.series, paths, dots)


def _point(line: Line, point: tuple[float, float], across: str) -> str:
    return f"{line.name}, {across} {point[0]:g}: {point[1]:.5g}"


def _described(title: str, across: str, lines: Sequence[Line]) -> str:
    parts = [f"{title} by {across}."]
    for line in lines:
        first, last = line.finite[0], line.finite[-1]
        text = f"{line.name}: {first[1]:.4g} at first, {last[1]:.4g} at last"
        if line.best:
            choose = min if line.best == "min" else max
            best = choose(line.finite, key=lambda point: point[1])
            text += f", best {best[1]:.4g} at {across} {best[0]:g}"
        lost = len(line.points) - len(line.finite)
        parts.append(text + (f", {lost} values not finite." if lost else "."))
    return " ".join(parts)
