"""The results of versus.py as lines and as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from report import markdown_table
from timed_networks import NETWORKS

RSS_ERROR = 2**18  # bytes by which Linux's counters of resident memory may be behind
ALLOCATOR = {
    "keep": "All processes keep freed memory (glibc's thresholds at 1 GiB).",
    "default": "minicnn keeps freed memory; the others run with the C library's defaults.",
}


def show(row: dict[str, Any]) -> str:
    """A row as a line of text."""
    low, high = row["quartiles_ms"]
    text = f"{row['network']:14} {row['mode']:13} batch {row['batch']:3}  {row['library']:9}"
    text += f"{row['milliseconds']:9.2f} ms ({low:.2f}-{high:.2f})"
    if row["step_bytes"] is not None:
        text += f"  {megabytes(row['step_bytes'])} MB of {megabytes(row['peak_bytes'])}"
    return text if row["library"] == "minicnn" else f"{text}  ratio {row['ratio']:.2f}"


def page(results: dict[str, Any]) -> str:
    """The whole page."""
    parts = ["# Whole steps beside other libraries", _about(results)]
    for mode in dict.fromkeys(row["mode"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["mode"] == mode]
        parts += [f"## {mode}", _times(rows), _memory(rows)]
    if results["left_out"]:
        lines = (f"- {e['library']}, {e['what']}: {e['reason']}" for e in results["left_out"])
        parts += ["## Left out", "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def megabytes(count: int) -> str:
    """Bytes in units of 10^6.

    >>> megabytes(1_234_567)
    '1.2'
    """
    return f"{count / 1e6:.1f}"


def _about(results: dict[str, Any]) -> str:
    names = (
        f"{library} ({', '.join(f'{name} {number}' for name, number in versions.items())})"
        for library, versions in results["versions"].items()
    )
    return (
        f"{results['date']}, {results['processor']}, {results['threads']} threads each, medians of "
        f"{results['rounds']} interleaved rounds. {ALLOCATOR[results['allocator']]}\n\n"
        f"Versions: {'; '.join(names)}.\n\n"
        "Times are of one step in milliseconds, the mean of a turn; in brackets that time divided "
        "by minicnn's, so that above 1 minicnn is faster. Memory is what the process held at most "
        "while it stepped, less what it held before, in 10^6 bytes; in brackets the whole process "
        "at its most."
    )


def _networks(rows: list[dict[str, Any]]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The first cells of a line of a table, and the rows of its libraries."""
    for network in dict.fromkeys(row["network"] for row in rows):
        own = {row["library"]: row for row in rows if row["network"] == network}
        image = "x".join(map(str, NETWORKS[network].image))
        yield [f"{network}, {image}", str(own["minicnn"]["batch"])], own


def _times(rows: list[dict[str, Any]]) -> str:
    libraries = list(dict.fromkeys(row["library"] for row in rows))

    def cell(row: dict[str, Any] | None) -> str:
        if row is None:
            return ""
        time = f"{row['milliseconds']:.2f}"
        return time if row["library"] == "minicnn" else f"{time} ({row['ratio']:.2f})"

    lines = (
        [*first, *(cell(own.get(name)) for name in libraries)] for first, own in _networks(rows)
    )
    return markdown_table(["network, input", "batch", *libraries], lines)


def _memory(rows: list[dict[str, Any]]) -> str:
    if any(row["step_bytes"] is None for row in rows):
        return "Memory: this system does not tell."
    libraries = list(dict.fromkeys(row["library"] for row in rows))

    def cell(row: dict[str, Any] | None) -> str:
        return f"{megabytes(row['step_bytes'])} ({megabytes(row['peak_bytes'])})" if row else ""

    def verdict(own: dict[str, Any]) -> list[str]:
        if "torch" not in libraries:
            return []
        if "torch" not in own:
            return [""]
        needed, allowed = (own[name]["step_bytes"] for name in ("minicnn", "torch"))
        return ["yes" if needed <= allowed + RSS_ERROR else "no"]

    lines = (
        [*first, *(cell(own.get(name)) for name in libraries), *verdict(own)]
        for first, own in _networks(rows)
    )
    last = ["minicnn <= torch"] if "torch" in libraries else []
    return markdown_table(["memory of a step", "batch", *libraries, *last], lines)
