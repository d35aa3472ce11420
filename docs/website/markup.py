"""Small pieces of reStructuredText that the generated pages are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def title(text: str, line: str = "=") -> list[str]:
    """A heading; the line below it tells its depth: = then - then ~.

    >>> title("zoo")
    ['zoo', '===', '']
    """
    return [text, line * len(text), ""]


def indented(lines: Iterable[str], by: int = 4) -> list[str]:
    """The lines as the content of a directive; empty ones stay empty."""
    return [" " * by + line if line else "" for line in lines]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> list[str]:
    """A table whose cells may hold markup; it scrolls sideways where the screen is narrow.

    >>> print("\\n".join(table(["a", "b"], [["1", "2"]])))
    .. list-table::
        :header-rows: 1
    <BLANKLINE>
        * - a
          - b
        * - 1
          - 2
    <BLANKLINE>
    """
    lines = [".. list-table::", "    :header-rows: 1"]
    lines += [f"    :class: {kind}"] if kind else []
    lines.append("")
    for row in (headings, *rows):
        marks = ("* -", *["  -"] * (len(row) - 1))
        lines += [f"    {mark} {cell}".rstrip() for mark, cell in zip(marks, row, strict=True)]
    return [*lines, ""]


def contents(pages: Iterable[str], caption: str = "", hidden: bool = False) -> list[str]:
    """The list of pages below this one, in this order."""
    lines = [".. toctree::", "    :maxdepth: 1"]
    lines += [f"    :caption: {caption}"] if caption else []
    lines += ["    :hidden:"] if hidden else []
    return [*lines, "", *indented(pages), ""]


def code(lines: Iterable[str], language: str) -> list[str]:
    """A block of code."""
    return [f".. code-block:: {language}", "", *indented(lines), ""]


def joined(lines: Iterable[str]) -> str:
    """The text of a page."""
    return "\n".join(lines).rstrip() + "\n"
