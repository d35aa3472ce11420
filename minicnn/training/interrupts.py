"""Ctrl-C and its like during training: no step is cut in half, and what was trained is saved.

Ctrl-C raises KeyboardInterrupt wherever the program happens to be: between the update of one weight
and of the next, say. While training runs, the signal only sets an event; the loop looks at it after
each step, lets the callbacks save, and raises KeyboardInterrupt itself. Two other signals are taken
for Ctrl-C, unless the program has a handler of its own for them or ignores them: SIGTERM, which a
batch system, a container or ``kill`` sends before it becomes SIGKILL, and SIGHUP, which comes when
the terminal is closed or a connection breaks (``nohup`` ignores it). Whoever cannot wait for the
end of the step presses Ctrl-C a second time.

By default these two end a process without a word, so a command takes them for Ctrl-C from its start
to its end (`ending_signals`): what it has begun, such as an empty run folder, is tidied up.

A shell without job control, such as one that runs a script, starts what it puts into the background
with SIGINT ignored, so that a Ctrl-C meant for the script does not reach it. Python leaves an
ignored SIGINT ignored, and so does a training: SIGTERM stops it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


#: SIGHUP is unknown to Windows
_ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


@contextmanager
def ending_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise KeyboardInterrupt where they would end all."""
    taken: list[Any] = []
    if threading.current_thread() is threading.main_thread():
        taken = [number for number in _ENDINGS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def deferred_interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP set, unless ignored; a second Ctrl-C strikes."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals are a matter of the main thread alone
        return

    def note(number: int, frame: Any) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()

    # None is a handler that is not Python's, which could not be put back.
    taken = [signal.SIGINT] if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None) else []
    taken += [n for n in _ENDINGS if signal.getsignal(n) in (signal.SIG_DFL, _interrupt)]
    before = {number: signal.signal(number, note) for number in taken}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_if(interrupted: threading.Event) -> None:
    """Raise KeyboardInterrupt where the event is set."""
    if interrupted.is_set():
        raise KeyboardInterrupt


def until(interrupted: threading.Event, items: Iterable[Item]) -> Iterator[Item]:
    """The items, unless the event is set between two of them, or after the last."""
    for item in items:
        stop_if(interrupted)
        yield item
    stop_if(interrupted)
