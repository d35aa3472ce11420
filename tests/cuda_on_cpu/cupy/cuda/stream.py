"""Streams, which run at once, and events, which keep the time on the host."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cupy import _capture
from cupy.cuda.graph import Graph
from cupy.cuda.runtime import CUDARuntimeError


class Stream:
    """A queue of work, here without any length; `begin_capture` records instead."""

    null: Stream
    ptds: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False,
                 priority: int | None = None) -> None:  # fmt: skip
        self.is_null, self.is_non_blocking = null or ptds, non_blocking
        self.recording: _capture.Recording | None = None
        self.ptr = 0 if null else 2 if ptds else id(self)
        self.device_id, self.priority = 0, priority or 0

    def __enter__(self) -> Stream:
        _capture.enter(self)
        return self

    def __exit__(self, *error: object) -> None:
        _capture.leave()

    def use(self) -> Stream:
        _capture.use(self)
        return self

    @property
    def done(self) -> bool:
        return True

    def synchronize(self) -> None:
        if self.recording is not None:
            raise CUDARuntimeError(
                900, "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is "
                "capturing",
            )  # fmt: skip

    def begin_capture(self, mode: int | None = None) -> None:
        if self.is_null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.recording is not None:
            raise RuntimeError("the stream is already capturing")
        self.recording = _capture.Recording()

    def end_capture(self) -> Graph:
        if self.recording is None:
            raise RuntimeError("the stream is not capturing")
        graph, self.recording = Graph(self.recording.operations), None
        return graph

    def is_capturing(self) -> bool:
        return self.recording is not None

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Everything before has run."""

    def launch_host_func(self, callback: Callable[[Any], None], arg: Any) -> None:
        if self.recording is not None:
            self.recording.operations.append(lambda: callback(arg))
        else:
            callback(arg)

    def __repr__(self) -> str:
        return f"<Stream {self.ptr} (device 0)>"


Stream.null = Stream(null=True)
Stream.ptds = Stream(ptds=True)


class Event:
    """A moment."""

    def __init__(self, block: bool = False, disable_timing: bool = False,
                 interprocess: bool = False) -> None:  # fmt: skip
        self.time: float | None = None
        self.ptr = id(self)

    @property
    def done(self) -> bool:
        return True

    def record(self, stream: Stream | None = None) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        _capture.refuse_synchronisation()


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two events."""
    if start_event.time is None or end_event.time is None:
        raise CUDARuntimeError(400, "cudaErrorInvalidResourceHandle: an event was not recorded")
    return (end_event.time - start_event.time) * 1e3


def get_current_stream(device_id: int | None = None) -> Any:
    return _capture.current_stream() or Stream.null
