"""Pinned host memory: ordinary memory here."""

from __future__ import annotations

import numpy as np


class PinnedMemoryPointer(np.ndarray):
    """Host memory with the buffer protocol, and the address as ``ptr``."""

    @property
    def ptr(self) -> int:
        return self.ctypes.data


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    return np.zeros(max(size, 1), np.uint8).view(PinnedMemoryPointer)
