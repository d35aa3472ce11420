"""Which modules are running now, so that an error can say where in the network it happened."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any


class RunningModules(threading.local):
    """The modules whose forward is running in this thread, the outermost first."""

    def __init__(self) -> None:
        self.stack: list[Any] = []

    def note(self, inputs: tuple[Any, ...]) -> str:
        """Where the innermost module is, seen from the outermost, and what it was given."""
        path = ".".join(_name_in(parent, child) for parent, child in pairwise(self.stack))
        module = self.stack[-1]
        what = type(module).__name__ if any(module.children()) else repr(module)
        shapes = ", ".join(str(getattr(x, "shape", type(x).__name__)) for x in inputs) or "none"
        return f"in {path} {what}: input {shapes}" if path else f"in {what}: input {shapes}"


def _name_in(parent: Any, child: Any) -> str:
    """Where the parent holds the child: a module knows no parent, because it can have several."""
    paths = (path for path, module in parent.named_modules() if module is child)
    return next(paths, "") or type(child).__name__


running = RunningModules()
