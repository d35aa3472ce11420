"""Running an iterator ahead of its consumer, in one background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Message(Generic[T]):
    """One item, or the end: of its own accord, or by an exception."""

    item: T | None = None
    error: BaseException | None = None
    is_last: bool = False


def prefetch(items: Iterator[T], depth: int) -> Iterator[T]:
    """Yield `items` in order, computing up to `depth` of them ahead in a background thread.

    An exception of `items` is raised here, at the place of the item that failed. The thread has
    ended when this generator has: at the end, after an exception, or when it is closed early.

    >>> list(prefetch(iter(range(4)), depth=2))
    [0, 1, 2, 3]
    """
    ready: queue.Queue[_Message[T]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    thread = threading.Thread(
        target=_produce, args=(items, ready, stopped), name="minicnn-prefetch", daemon=True
    )
    thread.start()
    try:
        while not (message := ready.get()).is_last:
            yield message.item  # type: ignore[misc]
        if message.error is not None:
            raise message.error
    finally:
        stopped.set()
        _drain(ready)  # makes room for the one message that the thread may be waiting to hand over
        thread.join()


def _produce(items: Iterator[T], ready: queue.Queue[_Message[T]], stopped: threading.Event) -> None:
    try:
        for item in items:
            ready.put(_Message(item))
            if stopped.is_set():
                return
        last = _Message[T](is_last=True)
    except BaseException as error:  # every one belongs to the consumer
        last = _Message[T](error=error, is_last=True)
    if not stopped.is_set():
        ready.put(last)


def _drain(ready: queue.Queue[_Message[T]]) -> None:
    while True:
        try:
            ready.get_nowait()
        except queue.Empty:
            return
