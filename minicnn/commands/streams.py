"""The standard streams as a command meets them: of another alphabet, closed, full or cut off.

A name may hold characters that the output's encoding lacks, and a file name bytes that are no text
at all. Both are printed as escapes, because a picture that was recognised is worth more than the
spelling of its name. A stream that the caller has closed is None in Python and leads nowhere here.

What a training prints is not its result: that is in the run folder. So when the terminal is gone,
the reader of a pipe has left, or the disk of a log file is full, the training goes on in silence.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


def prepare() -> None:
    """Make stdout and stderr streams that any text can be printed to."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def silence(stream: TextIO) -> None:
    """Lead a stream nowhere, with what it still holds, so that the process can end in peace."""
    with contextlib.suppress(OSError):  # a stream that is no file
        number = stream.fileno()
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), number)


class _Lasting:
    """A stream that falls silent at the first error of the system, and says so to ``tell``."""

    def __init__(self, stream: TextIO, tell: Callable[[OSError], None]) -> None:
        self._stream, self._tell, self._broken = stream, tell, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write where that is possible."""
        self._tried(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush where that is possible."""
        self._tried(self._stream.flush)

    def _tried(self, act: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            act()
        except OSError as error:
            self._broken = True
            silence(self._stream)
            self._tell(error)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Within the block, nothing that is printed can fail for want of a place to go."""

    def told(error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):  # the reader, such as head, has seen enough
            reason = error.strerror or error
            print(f"what is printed goes nowhere from here on: {reason}", file=sys.stderr)

    out = cast(TextIO, _Lasting(sys.stdout, told))
    err = cast(TextIO, _Lasting(sys.stderr, lambda error: None))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield
