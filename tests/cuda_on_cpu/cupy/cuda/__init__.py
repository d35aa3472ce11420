"""Devices, streams, graphs, events and memory."""

from __future__ import annotations

from cupy import _build as compiler
from cupy._memory import (
    Memory,
    MemoryPointer,
    MemoryPool,
    PinnedMemoryPool,
    alloc,
    get_allocator,
    set_allocator,
    using_allocator,
)
from cupy.cuda import driver, graph, memory, runtime, stream
from cupy.cuda.device import Device
from cupy.cuda.graph import Graph
from cupy.cuda.pinned_memory import PinnedMemoryPointer, alloc_pinned_memory
from cupy.cuda.stream import Event, Stream, get_current_stream, get_elapsed_time

__all__ = [
    "Device",
    "Event",
    "Graph",
    "Memory",
    "MemoryPointer",
    "MemoryPool",
    "PinnedMemoryPointer",
    "PinnedMemoryPool",
    "Stream",
    "alloc",
    "alloc_pinned_memory",
    "compiler",
    "driver",
    "get_allocator",
    "get_current_stream",
    "get_elapsed_time",
    "get_local_runtime_version",
    "graph",
    "is_available",
    "memory",
    "runtime",
    "set_allocator",
    "stream",
    "using_allocator",
]


def is_available() -> bool:
    return True


def get_local_runtime_version() -> int:
    return runtime.runtimeGetVersion()
