"""Every exception of minicnn, in one place.

All derive from `MiniCNNError` and from the built-in exception that describes the mistake best, so
that both ``except MiniCNNError`` and ``except ValueError`` do what one expects. The command line
prints a `MiniCNNError` as one sentence and exits with code 2.

>>> issubclass(ShapeError, MiniCNNError) and issubclass(ShapeError, ValueError)
True
"""

from __future__ import annotations

from minicnn_kernels.errors import (
    BackendError,
    DeviceError,
    DTypeError,
    EmptyMapError,
    MiniCNNError,
    OutOfMemoryError,
    ShapeError,
    nearest,
)

__all__ = [
    "ArgumentError",
    "BackendError",
    "CaptureError",
    "CheckpointError",
    "ConfigError",
    "DTypeError",
    "DataError",
    "DeviceError",
    "EmptyMapError",
    "GraphError",
    "MiniCNNError",
    "MissingPackageError",
    "NonFiniteError",
    "OutOfMemoryError",
    "OutOfRangeError",
    "ShapeError",
    "StateDictError",
    "nearest",
]


class ArgumentError(MiniCNNError, ValueError):
    """A value outside the range that a function documents."""


class GraphError(MiniCNNError, RuntimeError):
    """A use of the autograd graph that cannot work: backward twice, or from a non-scalar."""


class CaptureError(MiniCNNError, RuntimeError):
    """A training step that cannot be captured as a CUDA graph."""


class StateDictError(MiniCNNError, KeyError):
    """A state dict that does not fit a module; the message lists every mismatch at once."""

    def __str__(self) -> str:  # KeyError shows the repr of its argument
        return str(self.args[0]) if self.args else ""


class DataError(MiniCNNError, ValueError):
    """A data file or array that cannot be used: corrupt, truncated, out of range, missing."""


class CheckpointError(MiniCNNError, RuntimeError):
    """A checkpoint or a file of weights that cannot be written or read."""


class ConfigError(MiniCNNError, ValueError):
    """A setting that is unknown or has a value that cannot be used."""


class OutOfRangeError(MiniCNNError, IndexError):
    """An index beyond the end of an axis."""


class NonFiniteError(MiniCNNError, ArithmeticError):
    """A loss that became NaN or infinite."""


class MissingPackageError(MiniCNNError, ImportError):
    """A package of an extra that a function needs is not installed."""
