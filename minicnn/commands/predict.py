"""``minicnn predict``: name what is on pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from minicnn.commands.backend import add_backend

HELP = "name what is on pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture file")
    parser.add_argument(
        "--run", type=Path, metavar="RUN", dest="folder", help="default: the newest"
    )
    add_backend(parser, "the fastest of the CPU")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="classes shown (default 3)")
    parser.add_argument(
        "--invert", action="store_true", help="for dark things on a light background"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from minicnn.training.evaluation import predict
    from minicnn.training.run import load_model, newest_run, prepared_images

    model, checkpoint = load_model(options.folder or newest_run(), options.backend)
    images = prepared_images(options.images, checkpoint.meta, options.invert)
    classes = checkpoint.meta["classes"]
    for path, row in zip(options.images, predict(model, images), strict=True):
        best = row.argsort()[::-1][: max(options.top, 1)]
        print(f"{path}: " + ", ".join(f"{classes[i]} {row[i]:.1%}" for i in best))
    return 0
