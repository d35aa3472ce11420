"""One look for every picture: colours, type, sizes, and the light and the dark page.

About one man in twelve sees red and green as the same. So the colours are those of Okabe and Ito
("Color Universal Design", 2008), which stay apart for every kind of colour vision; only those are
used for lines that stand out from the page by a contrast of 3 to 1, which WCAG 2.1 asks of
graphics. And a colour is never the only sign: lines have dashes and markers too, boxes have words,
wrong answers have a cross in front.

Values on a scale get one of three maps, all of which grow steadily in lightness, so that they are
right in grey too: "cividis" for amounts, "gray" for pictures, and one with the page's colour in the
middle for what can be negative. A picture is drawn inside `style`, which pins everything that the
look depends on, and leaves the settings of the program that called as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minicnn.errors import MiniCNNError

OKABE_ITO = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
}
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DOTS_PER_INCH = 120
# Settings that choose windows and files; to set the backend would import pyplot.
_NOT_LOOKS = ("backend", "date.epoch", "docstring", "interactive", "savefig.directory", "timezone",
              "tk.", "toolbar", "webagg")  # fmt: skip


class MissingExtraError(MiniCNNError, ImportError):
    """A picture was asked for where matplotlib is not installed."""


@dataclass(frozen=True)
class Theme:
    """The colours of a page: ``series`` for lines in order, ``kinds`` for boxes of diagrams."""

    page: str
    text: str
    faint: str
    rule: str
    card: str
    series: tuple[str, ...]
    diverging: tuple[str, str, str]

    @property
    def good(self) -> str:
        """For what is right."""
        return self.series[0]

    @property
    def bad(self) -> str:
        """For what is wrong."""
        return self.series[1]

    def tint(self, color: str, share: float = 0.24) -> tuple[float, float, float]:
        """A colour thinned with that of the page, light enough (or dark) to write on."""
        pairs = zip(rgb(color), rgb(self.page), strict=True)
        red, green, blue = (share * c + (1 - share) * p for c, p in pairs)
        return red, green, blue


LIGHT = Theme(
    page="#ffffff", text="#1b1f24", faint="#59636e", rule="#d3d8de", card="#f5f6f8",
    series=tuple(OKABE_ITO[c] for c in ("blue", "vermilion", "green", "purple")),
    diverging=("#D55E00", "#ffffff", "#0072B2"),
)  # fmt: skip
DARK = Theme(
    page="#14171c", text="#e9ecef", faint="#a3adb8", rule="#3a424c", card="#1c2128",
    series=tuple(OKABE_ITO[c] for c in ("sky", "orange", "green", "purple", "yellow", "vermilion")),
    diverging=("#E69F00", "#14171c", "#56B4E9"),
)  # fmt: skip


def theme(dark: bool = False) -> Theme:
    """The colours of the light page, or of the dark one.

    >>> theme().page, theme(dark=True).page
    ('#ffffff', '#14171c')
    """
    return DARK if dark else LIGHT


@contextmanager
def style(dark: bool = False) -> Iterator[Theme]:
    """Draw in the look of these pictures inside the ``with`` block; yields the colours.

    For pictures of your own; the functions of `minicnn.plot` do it themselves.
    Raises `MissingExtraError` where matplotlib is not installed.

    >>> from matplotlib.figure import Figure
    >>> with style(dark=True) as colors:
    ...     axes = Figure().add_subplot()
    >>> axes.get_facecolor() == (*rgb(colors.page), 1.0)
    True
    """
    matplotlib = needed()
    colors = theme(dark)
    defaults = {
        name: value for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(_NOT_LOOKS)
    }  # fmt: skip
    with matplotlib.rc_context({**defaults, **_settings(matplotlib, colors)}):
        yield colors


def needed() -> Any:
    """The matplotlib package, or `MissingExtraError` with the way to get it."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError(
            'minicnn.plot: pictures need matplotlib; install it with: pip install "minicnn[plot]"'
        ) from error
    return matplotlib


def rgb(color: str) -> tuple[float, float, float]:
    """A colour such as "#0072B2" as three numbers of 0 to 1.

    >>> rgb("#ff0033")
    (1.0, 0.0, 0.2)
    """
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """How far two colours are apart in lightness, 1 to 21, as WCAG 2.1 defines it.

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _settings(matplotlib: Any, colors: Theme) -> dict[str, Any]:
    lines = {f"{part}.edgecolor": colors.rule for part in ("axes", "legend", "patch")}
    words = {f"{part}.color": colors.text for part in ("text", "axes.label", "xtick", "ytick")} | {
        "axes.labelcolor": colors.text,
        "axes.titlecolor": colors.text,
    }
    words = {key: value for key, value in words.items() if key in matplotlib.rcParamsDefault}
    pages = {f"{part}.facecolor": colors.page for part in ("figure", "axes", "savefig", "legend")}
    sizes = {"axes.labelsize": 9, "axes.titlesize": 9.5, "xtick.labelsize": 8,
             "ytick.labelsize": 8, "legend.fontsize": 8.5, "figure.titlesize": 12,
             "font.size": 9}  # fmt: skip
    rest = {
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "axes.axisbelow": True, "grid.color": colors.rule, "grid.linewidth": 0.6,
        "axes.titlelocation": "left", "axes.titlepad": 8, "figure.dpi": DOTS_PER_INCH,
        "legend.frameon": False, "lines.linewidth": 1.8, "savefig.dpi": DOTS_PER_INCH,
        "xtick.color": colors.rule, "ytick.color": colors.rule,
        "xtick.labelcolor": colors.faint, "ytick.labelcolor": colors.faint,
        "image.interpolation": "nearest", "svg.fonttype": "none", "svg.hashsalt": "minicnn",
        "axes.prop_cycle": matplotlib.cycler(color=colors.series),
    }  # fmt: skip
    return {**lines, **words, **pages, **sizes, **rest}
