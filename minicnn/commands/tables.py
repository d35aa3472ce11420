"""Tables on the terminal."""

from __future__ import annotations

import sys
from typing import Any


def show(found: Any) -> None:
    """Print a table; wide where nobody looks at it, such as in a file."""
    from rich.console import Console

    class Lasting(Console):
        def on_broken_pipe(self) -> None:
            raise  # to the command line's own end, where rich would exit with code 1

    width = None if sys.stdout.isatty() else 130
    Lasting(highlight=False, width=width).print(found.table())
