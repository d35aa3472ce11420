"""The rows of a stage: printed as they come, kept as JSON, and shown as tables at the end.

A row is a dict whose "section" names its table. So a stage only yields what it finds, and one that
is cut short leaves what it had.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from report import markdown_table

Row = dict[str, Any]


def cell(value: Any) -> str:
    """A value as text: numbers with four digits.

    >>> cell(1234.5678), cell(0.00012345), cell(None), cell(7), cell(True)
    ('1235', '0.0001234', '', '7', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)


def line(row: Row) -> str:
    """A row as a line of text.

    >>> line({"section": "copy", "size": 7, "GB/s": 3.25})
    'copy: size 7, GB/s 3.25'
    """
    pairs = (f"{k} {cell(v)}" for k, v in row.items() if k != "section" and v is not None)
    return f"{row['section']}: {', '.join(pairs)}"


def tables(rows: Iterable[Row]) -> Iterator[str]:
    """A Markdown table for each section, its columns in the order in which they first appear."""
    rows = list(rows)
    for section in dict.fromkeys(row["section"] for row in rows):
        own = [row for row in rows if row["section"] == section]
        columns = [c for c in dict.fromkeys(key for row in own for key in row) if c != "section"]
        texts = [c for c in columns if any(isinstance(row.get(c), str) for row in own)]
        columns.sort(key=lambda c: c not in texts)
        body = ([cell(row.get(c)) for c in columns] for row in own)
        yield f"## {section}\n\n{markdown_table(columns, body, left=len(texts))}"


def slug(name: str) -> str:
    """A device's name as part of a file name.

    >>> slug("NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def attempt(section: str, name: str, measure: Any) -> Row:
    """The row of a measurement, or what went wrong with it."""
    try:
        found = measure()
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        return {"section": section, "what": name, "error": f"{type(error).__name__}: {text[0]}"}
    return {"section": section, "what": name, **found}
