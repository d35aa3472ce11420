"""``minicnn report``: one run on a page, or several side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from minicnn.commands.backend import add_backend

HELP = "write a run's report, or a page that compares several runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "folders", type=Path, nargs="*", metavar="RUN", help="run folders; default: the newest run"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE",
        help="default: report.html in the run's folder; of several runs comparison.html here",
    )  # fmt: skip
    add_backend(parser, "the fastest of the CPU; several runs are not measured again")


def run(options: argparse.Namespace) -> int:
    """Write the page and say where."""
    from minicnn import report
    from minicnn.training.run import newest_run

    folders = options.folders or [newest_run()]
    if len(folders) == 1:
        path = report.write(folders[0], options.output, options.backend)
    else:
        path = report.compare(folders, options.output or Path("comparison.html"))
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0
