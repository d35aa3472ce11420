"""`Picture`: a figure of matplotlib that describes itself and can be saved or shown as it is.

A figure made with ``matplotlib.figure.Figure`` is an ordinary object: nothing keeps it alive but
the one who holds it, no window opens, and no other figure becomes "the current one". That is what a
library should return. A picture adds what a reader who cannot see it needs: a title and a sentence
or two that say what is on it, written into the PNG's and the SVG's own fields.
"""

from __future__ import annotations

import base64
import io
import os
import zlib
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from minicnn.errors import ArgumentError
from minicnn.plot.style import DOTS_PER_INCH, Theme

FORMATS = ("png", "svg", "pdf")


class Picture(Figure):
    """A matplotlib figure with ``title`` and ``alt``, the description for who cannot see it.

    Its texts are drawn letter by letter, also those that you add: there are no formulas in "$".

    >>> from minicnn import plot
    >>> plot.window((4, 4), kernel_size=2, stride=2).title
    'A 2x2 window over a 4x4 map'
    """

    title: str = ""
    alt: str = ""

    def draw(self, renderer: RendererBase) -> None:
        """Draw with every text as it is: the "$" of a class's name opens no formula."""
        powers: set[int] = set()  # what matplotlib itself writes as formulas
        for axes in self.axes:
            for axis in (axes.xaxis, axes.yaxis):
                axis.get_ticklabels(which="both")  # makes the labels of all ticks
                if axis.get_scale() == "log":
                    powers.update(id(t) for t in axis.findobj(Text) if t is not axis.label)
        for text in self.findobj(Text):
            if isinstance(text, Text):
                text.set_parse_math(id(text) in powers)
        super().draw(renderer)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a file, by its ending a .png, .svg or .pdf; returns its path.

        The same picture gives the same bytes. Raises `ArgumentError` for another ending.

        >>> import tempfile
        >>> from minicnn import plot
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot.window((4, 4), 2).save(Path(folder, "window.svg")).name
        'window.svg'
        """
        path = Path(path)
        kind = path.suffix.lower().lstrip(".")
        if kind not in FORMATS:
            raise ArgumentError(
                f"Picture.save: {path.name!r} ends in {path.suffix!r}; choose a name that ends in "
                f"{', '.join('.' + k for k in FORMATS)}."
            )
        path.write_bytes(self.as_bytes(kind))
        return path

    def as_bytes(self, kind: str = "png") -> bytes:
        """The file as bytes: "png", "svg" or "pdf"."""
        buffer = io.BytesIO()
        undated: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
        about = "Subject" if kind == "pdf" else "Description"
        fields = {"Title": self.title, about: self.alt, **undated.get(kind, {})}
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "minicnn"}):
            self.savefig(
                buffer, format=kind, dpi=DOTS_PER_INCH, metadata=fields,
                facecolor=self.get_facecolor(), bbox_inches=None,
            )  # fmt: skip
        return self._described(buffer.getvalue()) if kind == "svg" else buffer.getvalue()

    def _described(self, svg: bytes) -> bytes:
        """Title and description where browsers and screen readers look for them."""
        title, alt = escape(self.title), escape(self.alt)
        text = svg.decode().replace(f"<title>{title}</title>", "", 1)  # where matplotlib writes one
        start = text.index("<svg ")
        end = text.index(">", start)
        mark = f"{zlib.crc32((title + alt).encode()):08x}"  # for pages with several pictures
        words = f'<title id="title-{mark}">{title}</title><desc id="desc-{mark}">{alt}</desc>'
        names = f'role="img" aria-labelledby="title-{mark} desc-{mark}"'
        return f"{text[:start]}{text[start:end]} {names}>\n {words}{text[end + 1 :]}".encode()

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.as_bytes("png")).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{escape(self.alt)}">'


def new(width: float, height: float, colors: Theme, title: str, alt: str, **layout: Any) -> Picture:
    """An empty picture of so many inches, with its title on it; call it inside `style`."""
    picture = Picture(figsize=(width, height), facecolor=colors.page, **layout)
    FigureCanvasAgg(picture)
    picture.title, picture.alt = title, alt
    return picture


def headed(picture: Picture, note: str = "") -> Picture:
    """Write the title at the upper left corner, and a note in smaller letters below it."""
    width, height = picture.get_size_inches()
    color = picture.texts[0].get_color() if picture.texts else matplotlib.rcParams["text.color"]
    picture.text(0.12 / width, 1 - 0.12 / height, picture.title, ha="left", va="top",
                 fontsize=12, fontweight="bold", color=color)  # fmt: skip
    if note:
        picture.text(0.12 / width, 1 - 0.36 / height, note, ha="left", va="top", fontsize=8.5,
                     color=matplotlib.rcParams["xtick.labelcolor"])  # fmt: skip
    return picture


def inches(
    picture: Picture, left: float, bottom: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """A rectangle of a picture in inches, as the shares that `add_axes` takes."""
    across, up = picture.get_size_inches()
    return left / across, bottom / up, width / across, height / up


def margins(
    picture: Picture, left: float, right: float, bottom: float, top: float
) -> dict[str, float]:
    """Margins in inches, as the shares that a grid of axes takes."""
    across, up = picture.get_size_inches()
    return {
        "left": left / across, "right": 1 - right / across,
        "bottom": bottom / up, "top": 1 - top / up,
    }  # fmt: skip
