"""Tables as data, shown in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_LEFT, _RIGHT = "left", "right"


@dataclass(frozen=True)
class Sheet:
    """A table of texts: headings, rows, total rows under a line, and notes below.

    ``left`` is the number of columns that hold words; the others hold numbers.
    """

    title: str
    headings: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    totals: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    left: int = 1

    def _sides(self) -> list[str]:
        return [_LEFT if i < self.left else _RIGHT for i in range(len(self.headings))]

    def rich(self) -> Any:
        """As a table of the rich library."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(self.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False,
            caption=Text("\n".join(self.notes)), caption_justify="left", padding=(0, 1),
        )  # fmt: skip
        for heading, side in zip(self.headings, self._sides(), strict=True):
            if side == _LEFT:  # words may be broken, numbers not
                table.add_column(heading, overflow="fold")
            else:
                table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*map(Text, row))
        if self.totals:
            table.add_section()
        for row in self.totals:
            table.add_row(*map(Text, row))
        return table

    def text(self, width: int = 130) -> str:
        """As plain text."""
        from rich.console import Console

        console = Console(width=width, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(self.rich())
        return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())

    def html(self) -> str:
        """As an HTML table."""
        head = "".join(map(self._cell, self.headings, self._sides(), ["th"] * len(self.headings)))
        body = "".join(self._line(row) for row in self.rows)
        foot = "".join(self._line(row) for row in self.totals)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return (
            f'<table><caption style="text-align:left">{escape(self.title)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
            f'<tfoot style="border-top:1px solid">{foot}</tfoot></table>{notes}'
        )

    def _line(self, row: Sequence[str]) -> str:
        return f"<tr>{''.join(map(self._cell, row, self._sides()))}</tr>"

    @staticmethod
    def _cell(text: str, side: str, tag: str = "td") -> str:
        return f'<{tag} style="text-align:{side}">{escape(text)}</{tag}>'


class Shown:
    """What has a `sheet` prints as a table, and is one in a notebook."""

    def sheet(self) -> Sheet:
        """The table as texts; to be overridden."""
        raise NotImplementedError

    def table(self) -> Any:
        """The table as one of the rich library."""
        return self.sheet().rich()

    def __str__(self) -> str:
        return self.sheet().text()

    def _repr_html_(self) -> str:
        return self.sheet().html()


def count(number: float) -> str:
    """A number with commas; nothing for 0."""
    return f"{number:,}" if number else ""


def form(shape: Sequence[int]) -> str:
    """A shape such as 3x224x224."""
    return "x".join(map(str, shape))
