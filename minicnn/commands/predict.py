"""``minicnn predict``: name what is on pictures, on whole folders, or on a stream of paths."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minicnn.commands.backend import add_backend
from minicnn.commands.parser import EXIT_MISTAKE
from minicnn.errors import ArgumentError

if TYPE_CHECKING:
    from minicnn.training.inference import Prediction

HELP = "name what is on pictures"
EXIT_SOME_FAILED = 1
STDIN = Path("-")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="picture file; folder of pictures; or - for paths from the standard input, one a "
        "line. The first may be a run folder instead of --run",
    )
    parser.add_argument(
        "--run", type=Path, metavar="RUN", dest="folder", help="default: the newest"
    )
    add_backend(parser, "the fastest of the CPU")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="classes shown (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object a picture and line")
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="pictures at once (default 32)"
    )
    parser.add_argument(
        "--invert", action="store_true", help="for dark things on a light background"
    )
    parser.epilog = (
        "Pictures that cannot be read are named and do not stop the rest: the exit code is 1 where "
        "there were some, and 2 where there were no others."
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from minicnn.training.inference import predict_files
    from minicnn.training.run import load_model, newest_run

    folder, images = options.folder, options.images
    if folder is None and any(
        (images[0] / name).exists() for name in ("checkpoints", "config.toml")
    ):
        folder, *images = images
    if not images:
        raise ArgumentError(f"name pictures beside the run {folder}, a folder of them, or -.")
    if STDIN in images and sys.stdin is None:
        raise ArgumentError("- stands for paths on the standard input, which is closed.")
    if options.batch_size < 1:
        raise ArgumentError(f"--batch-size is {options.batch_size}; give a number of 1 or more.")
    model, checkpoint = load_model(folder or newest_run(), options.backend)
    read = failed = 0
    for found in predict_files(
        model,
        checkpoint.meta,
        _paths(images),
        invert=options.invert,
        batch_size=options.batch_size,
    ):
        failed += bool(found.error)
        read += not found.error
        _print(found, checkpoint.meta["classes"], max(options.top, 1), options.json)
    return 0 if not failed else EXIT_SOME_FAILED if read else EXIT_MISTAKE


def _paths(images: list[Path]) -> Iterator[Path]:
    from minicnn.training.inference import lines, pictures

    for path in images:
        yield from pictures(lines(sys.stdin.fileno()) if path == STDIN else [path])


def _print(found: Prediction, classes: list[str], top: int, as_json: bool) -> None:
    from minicnn.data._scan import one_line

    row = found.probabilities
    best: list[int] = [] if row is None else row.argsort()[::-1][:top].tolist()
    if as_json:
        record: dict[str, Any] = {"path": str(found.path)}
        if row is None:
            record["error"] = found.error
        else:
            record["top"] = [{"class": classes[i], "probability": float(row[i])} for i in best]
        print(json.dumps(record), flush=True)
    elif row is None:
        print(f"minicnn predict: {one_line(found.error)}", file=sys.stderr, flush=True)
    else:
        shown = ", ".join(f"{classes[i]} {row[i]:.1%}" for i in best)
        print(one_line(f"{found.path}: {shown}"), flush=True)
