"""``minicnn summary``: the layers of a network."""

from __future__ import annotations

import argparse
from contextlib import nullcontext

from minicnn.commands.tables import show

HELP = "list the layers of a network"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("model", metavar="NAME", help="name of the architecture")
    parser.add_argument("--preset", metavar="PRESET", help="default: the paper's")
    parser.add_argument("--input", metavar="CxHxW", help="size of one image, like 3x224x224")
    parser.add_argument("--classes", type=int, metavar="K", help="default: the preset's")
    parser.add_argument("--memory", action="store_true", help="what a training step holds instead")
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="for --memory (default 1)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from minicnn.inspect import memory, summary
    from minicnn.models import create, find, nearest_preset
    from minicnn.nn import without_weights

    shape = _image_shape(options.input) if options.input else None
    preset = options.preset
    if shape and not preset:
        preset = nearest_preset(options.model, shape[1])
    shape = shape or find(options.model).preset(preset).input_shape
    channels, height, _ = shape
    with nullcontext() if options.memory else without_weights():
        model = create(options.model, options.classes, channels, preset, height)
    show(memory(model, shape, options.batch_size) if options.memory else summary(model, shape))
    return 0


def _image_shape(text: str) -> tuple[int, ...]:
    from minicnn.errors import ArgumentError

    parts = text.lower().split("x")
    if len(parts) != 3 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise ArgumentError(
            f"--input is {text!r}; write channels x height x width, like 3x224x224."
        )
    return tuple(int(p) for p in parts)
