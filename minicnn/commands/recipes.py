"""``minicnn recipes``: the papers' settings."""

from __future__ import annotations

import argparse

HELP = "list the papers' settings, or show one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="default: list all")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from minicnn.training import recipes

    if options.name is not None:
        print(recipes.text(options.name), end="")
        return 0
    for name in recipes.names():
        values = recipes.load(name)
        length = f"{values['steps']:,} steps" if "steps" in values else f"{values['epochs']} epochs"
        print(
            f"{name:18} {values['model']:27} {values['optimizer']:8} lr {values['lr']:<7g} "
            f"{values['schedule']:12} batch {values['batch_size']:<4} {length}"
        )
    return 0
