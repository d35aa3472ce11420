"""Device memory in the memory of the CPU: pools, red zones, poison.

Every allocation lies between two red zones that hold a pattern; `Block.check` says where it was
written over. Memory is filled with ones (NaN, -1, 255) when it is made and whenever it is given
back, so that whoever reads what is not written, or no longer theirs, computes with NaN.

A block belongs to the pool that made it. `Memory` stands for a block in use; when the last array
on it dies the block goes back to its pool and is the first to be handed out again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

UNIT = 512  # sizes are multiples of it, as in CuPy
ZONE = 1024
POISON = 0xFF
PATTERN = 0xC3
DEVICE_BYTES = 4 * 2**30
SANITIZE = bool(int(os.environ.get("MINICNN_CUDA_SANITIZE", "0")))


class OutOfMemoryError(MemoryError):
    """The pool's limit, or the device, is too small for a request."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(text + (f", limit set to: {limit:,} bytes)." if limit else ")."))


class Block:
    """``size`` bytes between two red zones; the second begins behind what was asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.requested = -1
        self.whole = np.empty(size + 2 * ZONE + UNIT, np.uint8)
        address = self.whole.ctypes.data
        self.start = -(address + ZONE) % UNIT + ZONE
        self.ptr = address + self.start
        self.bytes = self.whole[self.start : self.start + size]
        self.whole[...] = PATTERN

    def _zones(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each red zone with the byte, counted from the start of the block, at which it begins."""
        for first, last in ((-ZONE, 0), (self.requested, self.size + ZONE)):
            yield first, self.whole[self.start + first : self.start + last]

    def reserve(self, requested: int) -> None:
        """Hand out the first ``requested`` bytes, poisoned."""
        if requested != self.requested:
            self.requested = requested
            self.bytes[...] = POISON
            self.bytes[requested:] = PATTERN
        if SANITIZE:
            _mark(self.ptr, requested, allowed=True)
            for first, zone in self._zones():
                _mark(self.ptr + first, zone.size, allowed=False)

    def give_back(self) -> None:
        """Poison what was handed out."""
        self.bytes[: self.requested] = POISON
        if SANITIZE:
            _mark(self.ptr, self.size, allowed=False)

    def outside(self, size: int) -> list[np.ndarray]:
        """A copy of what surrounds an array of ``size`` bytes in this block, red zones included."""
        return [zone.copy() for _, zone in self._around(size)]

    def changed(self, size: int, before: list[np.ndarray]) -> int | None:
        """The byte, counted from the start, around the array that was written over, or None."""
        found = None
        for (first, zone), old in zip(self._around(size), before, strict=True):
            if not np.array_equal(zone, old):
                where = np.flatnonzero(zone != old)
                found = first + int(where[-1] if first < 0 else where[0])
                zone[...] = old
        return found

    def _around(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        for first, last in ((-ZONE, 0), (size, self.size + ZONE)):
            yield first, self.whole[self.start + first : self.start + last]


def _mark(address: int, size: int, *, allowed: bool) -> None:
    """Tell the address sanitizer which memory kernels may touch."""
    if size:
        library = ctypes.CDLL(None)
        name = "__asan_unpoison_memory_region" if allowed else "__asan_poison_memory_region"
        mark = getattr(library, name)
        mark.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        mark(address, size)


class Memory:
    """A block in use; gives it back to its pool when nothing refers to it any more."""

    def __init__(self, block: Block, pool: MemoryPool) -> None:
        self.block, self.pool, self.size, self.ptr = block, pool, block.size, block.ptr
        self.device_id = 0

    def __del__(self) -> None:
        self.pool._take_back(self.block)


class MemoryPointer:
    """An address inside a `Memory`."""

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset
        self.device_id = 0

    def __int__(self) -> int:
        return self.ptr


class MemoryPool:
    """Blocks made and kept for reuse; counts bytes as CuPy's pool does."""

    def __init__(self, allocator: Any = None) -> None:
        self._free: dict[int, list[Block]] = {}
        self._used = self._total = self._limit = 0
        self._lock = threading.RLock()

    def malloc(self, size: int) -> MemoryPointer:
        rounded = max(1, -(-size // UNIT)) * UNIT
        with self._lock:
            kept = self._free.get(rounded)
            block = kept.pop() if kept else self._make(rounded)
            self._used += rounded
        block.reserve(size)
        return MemoryPointer(Memory(block, self), 0)

    def _make(self, size: int) -> Block:
        limit = self._limit or DEVICE_BYTES
        if self._total + size > limit:
            self.free_all_blocks()
        if self._total + size > limit:
            raise OutOfMemoryError(size, self._total, self._limit)
        self._total += size
        return Block(size)

    def _take_back(self, block: Block) -> None:
        with self._lock:
            block.give_back()
            self._used -= block.size
            self._free.setdefault(block.size, []).append(block)

    def free_all_blocks(self, stream: Any = None) -> None:
        with self._lock:
            self._total -= self.free_bytes()
            self._free.clear()

    free_all_free = free_all_blocks

    def n_free_blocks(self) -> int:
        return sum(map(len, self._free.values()))

    def used_bytes(self) -> int:
        return self._used

    def free_bytes(self) -> int:
        return sum(size * len(blocks) for size, blocks in self._free.items())

    def total_bytes(self) -> int:
        return self._total

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        self._limit = int(DEVICE_BYTES * fraction) if fraction is not None else int(size or 0)

    def get_limit(self) -> int:
        return self._limit


class PinnedMemoryPool:
    """Pinned memory is ordinary memory here; nothing is kept."""

    def n_free_blocks(self) -> int:
        return 0

    def free_all_blocks(self) -> None:
        """There is nothing to free."""


Allocator = Callable[[int], MemoryPointer]

default_pool = MemoryPool()
default_pinned_pool = PinnedMemoryPool()
_allocator: list[Allocator] = [default_pool.malloc]


def alloc(size: int) -> MemoryPointer:
    return _allocator[-1](size)


def set_allocator(allocator: Allocator | None = None) -> None:
    _allocator[0] = allocator or MemoryPool().malloc


def get_allocator() -> Allocator:
    return _allocator[-1]


@contextlib.contextmanager
def using_allocator(allocator: Allocator | None = None) -> Iterator[None]:
    """Take memory from ``allocator`` until the block ends."""
    _allocator.append(allocator or MemoryPool().malloc)
    try:
        yield
    finally:
        _allocator.pop()
