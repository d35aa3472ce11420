"""What all benchmarks write: the machine they ran on, a JSON file and a Markdown page beside it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def machine(threads: int) -> dict[str, Any]:
    """Date, processor and threads: the head of every result."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "system": platform.platform(),
        "threads": threads,
    }


def processor() -> str:
    """The name that the maker gave it, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first ``left`` columns stand left and the others, numbers, right.

    >>> print(markdown_table(["layer", "ms"], [["conv|1", "2.5"]]))
    | layer | ms |
    |---|---:|
    | conv\\|1 | 2.5 |
    """
    rule = ["---" if i < left else "---:" for i in range(len(headings))]
    lines = [f"| {' | '.join(map(_escaped, headings))} |", f"|{'|'.join(rule)}|"]
    lines += [f"| {' | '.join(map(_escaped, row))} |" for row in rows]
    return "\n".join(lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def write(folder: Path, name: str, results: dict[str, Any], page: str) -> None:
    """Write ``name-DATE.json`` and ``name-DATE.md`` into the folder, and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{name}-{results['date']}"
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(page, encoding="utf-8")
    print(f"written: {stem}.json and {stem.name}.md")
