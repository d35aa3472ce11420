"""``minicnn export``: the network of a run as an ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write the network of a run as an ONNX file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("file", type=Path, metavar="FILE", help="such as model.onnx")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from minicnn.interop.onnx_export import export_run

    print(export_run(options.folder, options.file))
    return 0
