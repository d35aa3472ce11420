"""Tables on the terminal."""

from __future__ import annotations

import sys
from typing import Any


def show(found: Any) -> None:
    """Print a table; wide where nobody looks at it, such as in a file."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 130
    Console(highlight=False, width=width).print(found.table())
