"""``minicnn report``: one run on a page, or several side by side; and the report of a training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minicnn.training.run import Run

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
    parser.add_argument(
        "--backend", metavar="NAME",
        help="kernel set that measures one run (default: the fastest of the CPU)",
    )  # fmt: skip


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


def fit(training: Run) -> None:
    """Train, and write a report of what there is when that ends before its time."""
    from minicnn.report import writing

    writing.begin(training)
    try:
        training.fit()
    except KeyboardInterrupt:
        writing.finish(training, "The training was interrupted; minicnn train --resume goes on.")
        raise
    except Exception as error:
        writing.finish(training, f"The training ended with an error: {error}")
        raise


def finish(training: Run, epoch: int) -> None:
    """Write the report of a run that was trained and tested; the weights are of that epoch."""
    from minicnn.report import writing

    path = writing.finish(training, epoch=epoch)
    if path is not None:
        print(f"report: {path}")
