"""Captured operations, to be replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cupy import _capture


class Graph:
    """What a stream captured; each launch repeats it with the same addresses and numbers."""

    def __init__(self, operations: list[Callable[[], object]]) -> None:
        self._operations = operations

    def launch(self, stream: Any = None) -> None:
        recording = _capture.recording() if stream is None else stream.recording
        if recording is not None:
            recording.operations.extend(self._operations)
            return
        for operation in self._operations:
            operation()

    def upload(self, stream: Any = None) -> None:
        """There is nothing to prepare."""

    def debug_dot_str(self, flags: Any = None) -> str:
        return f"digraph {{ /* {len(self._operations)} nodes */ }}"
