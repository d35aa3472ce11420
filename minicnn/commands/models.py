"""``minicnn models``: the architectures that there are."""

from __future__ import annotations

import argparse

from minicnn.commands.tables import show
from minicnn.errors import nearest

HELP = "list the architectures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "word", nargs="?", default="", metavar="WORD", help="only names that contain it"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from minicnn.errors import ArgumentError
    from minicnn.inspect import catalogue
    from minicnn.models import names

    found = [name for name in names() if options.word in name]
    if not found:
        raise ArgumentError(
            f"no architecture's name contains {options.word!r}; "
            f"{nearest(options.word, names())}leave the word out to see all."
        )
    show(catalogue(found))
    return 0
