"""``minicnn evaluate``: measure a run, or several together, on the test set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from minicnn.commands.backend import add_backend

HELP = "measure a run, or several together, on the test set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "folders", type=Path, nargs="*", metavar="RUN", help="run folders; default: the newest run"
    )
    add_backend(parser, "as in training")
    parser.add_argument("--source", choices=("auto", "full", "sample"), help="which data")
    parser.add_argument(
        "--crops",
        type=int,
        default=1,
        choices=(1, 10),
        metavar="N",
        help="1, or 10: corners and centre, and mirrored; the mean counts (default 1)",
    )
    parser.add_argument(
        "--crop-size", type=int, metavar="N", help="side of the ten crops (default: as in training)"
    )
    parser.add_argument(
        "--crop-padding", type=int, metavar="N", help="pixels added around a picture before"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from minicnn.training.ensemble import evaluate_runs
    from minicnn.training.metrics import classification_report
    from minicnn.training.run import newest_run

    folders = options.folders or [newest_run()]
    measured = evaluate_runs(
        folders,
        options.source,
        options.crops,
        options.crop_size,
        options.crop_padding,
        options.backend,
    )
    several = len(folders) > 1
    for folder, one, checkpoint in zip(folders, measured.each, measured.checkpoints, strict=True):
        alone = f": {_scores(one)}" if several else ""
        print(f"{folder}, weights of epoch {checkpoint.meta['epoch']}{alone}")
    print(classification_report(measured.together.confusion, measured.classes))
    name = f"mean of {len(folders)} networks: " if several else ""
    print(f"{name}{_scores(measured.together)}")
    return 0


def _scores(result: Any) -> str:
    top5 = "" if result.top5_error is None else f", top-5 error {result.top5_error:.4f}"
    return f"accuracy {result.accuracy:.4f}, loss {result.loss:.4f}{top5}"
