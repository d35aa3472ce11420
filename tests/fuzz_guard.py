"""What every reader must keep to, whatever the file: a guard around one call.

- It returns, or raises a `MiniCNNError` of one readable message; any other exception is a mistake.
- Python allocates no more than `MEMORY` for it, and the process grows by no more than `GROWTH`
  (this one also sees what C libraries take).
- It ends: an alarm strikes after `SECONDS`, a thousand times what a case takes.
- It runs nothing and touches nothing: Python's audit hooks report every command, connection,
  pickled global, and file that is opened to write, renamed or removed. What unpacks archives may
  write, within one folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from minicnn.errors import MiniCNNError

MEMORY = 256 * 2**20
GROWTH = 512 * 2**20
SECONDS = 20
LONGEST_MESSAGE = 20_000
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.fork", "os.link",
    "os.symlink", "os.chown", "subprocess.Popen", "socket.connect", "socket.getaddrinfo",
    "pickle.find_class",
)  # fmt: skip
CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "shutil.rmtree",
    "shutil.copyfile", "shutil.move",
)  # fmt: skip
WRITING = 0o3  # O_WRONLY | O_RDWR

_watching = False
_within: str | None = None
_seen: list[str] = []


class Misbehaved(AssertionError):
    """What a reader did that none may do."""


def outcome(read: Callable[[], Any], within: str | None = None) -> tuple[Any, MiniCNNError | None]:
    """Call a reader under guard: what it returned, or its error. Raises `Misbehaved`.

    within : the folder in which it may change files
    """
    try:
        with _bounded(), _watched(within):
            return read(), None
    except MiniCNNError as error:
        if not 10 <= len(str(error)) <= LONGEST_MESSAGE:
            raise Misbehaved(f"a message of {len(str(error))} characters") from error
        return None, error
    except Misbehaved:
        raise
    except Exception as error:
        raise Misbehaved(f"{type(error).__name__} instead of a MiniCNNError: {error}") from error


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Raise where a block takes too much memory or does not end."""
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before, size = tracemalloc.get_traced_memory()[0], _peak_size()
    handler = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        taken = tracemalloc.get_traced_memory()[1] - before
        if started:
            tracemalloc.stop()
        if taken > MEMORY or _peak_size() - size > GROWTH:
            raise Misbehaved(f"{taken:,} bytes taken, the process grew by {_peak_size() - size:,}")


def _too_long(number: int, frame: Any) -> None:
    raise Misbehaved(f"no answer in {SECONDS} seconds")


def _peak_size() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def _watched(within: str | None) -> Iterator[None]:
    global _watching, _within
    _install()
    _seen.clear()
    _watching, _within = True, within and os.path.realpath(within)
    try:
        yield
    finally:
        _watching = False
        if _seen:
            raise Misbehaved(f"did what no reader may do: {'; '.join(_seen)}")


_installed = False


def _install() -> None:
    """An audit hook stays for the life of the process; outside a guard it does nothing."""
    global _installed
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
    changes = writes or event.startswith(CHANGES)
    if event.startswith(FORBIDDEN) or (changes and not _is_allowed(event, arguments)):
        _seen.append(f"{event}{arguments!r:.200}")


def _is_allowed(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether all that is changed lies within the one folder where that is allowed."""
    paths = [os.fsdecode(a) for a in arguments[:2] if isinstance(a, str | bytes | os.PathLike)]
    if event == "open":
        paths = paths[:1]  # the second is the mode
    opened = arguments[-1]  # the number of the folder that a path is relative to, or -1
    base = ""
    if event != "open" and isinstance(opened, int) and opened >= 0:
        base = os.readlink(f"/proc/self/fd/{opened}")
    places = [os.path.realpath(os.path.join(base, path)) for path in paths]
    return _within is not None and all(
        place == _within or place.startswith(_within + os.sep) for place in places
    )
