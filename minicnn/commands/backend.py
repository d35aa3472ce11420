"""The option that names the kernel set of a command."""

from __future__ import annotations

import argparse


def add_backend(parser: argparse.ArgumentParser, default: str) -> None:
    """``--backend``; ``default`` says in words what is taken without it."""
    parser.add_argument(
        "--backend", metavar="NAME", help=f"kernel set that computes (default: {default})"
    )
