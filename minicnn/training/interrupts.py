"""Ctrl-C and SIGTERM during training: no step is cut in half, and what was trained is saved.

Ctrl-C raises KeyboardInterrupt wherever the program happens to be: between the update of one weight
and of the next, say. While training runs, the signal only sets an event; the loop looks at it after
each step, lets the callbacks save, and raises KeyboardInterrupt itself. SIGTERM, which a batch
system, a container or ``kill`` sends before it becomes SIGKILL, is taken for Ctrl-C, unless the
program has a handler of its own for it. Whoever cannot wait for the end of the step presses Ctrl-C
a second time.

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


@contextmanager
def deferred_interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, unless ignored; the second Ctrl-C strikes at once."""
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
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        taken.append(signal.SIGTERM)
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
