"""Errors of the driver."""

from __future__ import annotations


class CUDADriverError(RuntimeError):
    """What the driver answers where a kernel is not found."""
