"""The names under which CuPy keeps its memory classes."""

from __future__ import annotations

from cupy._memory import (
    Memory,
    MemoryPointer,
    MemoryPool,
    OutOfMemoryError,
    alloc,
    get_allocator,
    set_allocator,
)

__all__ = [
    "Memory",
    "MemoryPointer",
    "MemoryPool",
    "OutOfMemoryError",
    "alloc",
    "get_allocator",
    "set_allocator",
]
