"""The reference contract on a GPU: `Kernels` with CuPy in the place of NumPy."""

from __future__ import annotations

from minicnn_kernels.errors import BackendError
from minicnn_kernels.reference import Kernels


class CupyKernels(Kernels):
    """Every primitive as CuPy array code on the current CUDA device.

    Raises ImportError where CuPy is missing and `BackendError` where it finds no device.
    """

    name = "cupy"
    device = "cuda"

    def __init__(self, *, strict: bool = False) -> None:
        try:
            import cupy
        except ImportError as error:
            raise ImportError(
                'CuPy is not installed; install minicnn with the extra "gpu"'
            ) from error
        if not cupy.is_available():
            raise BackendError(
                "use_backend: 'cupy' cannot be used here: CuPy is installed but finds no CUDA "
                "device or driver; check nvidia-smi."
            )
        super().__init__(cupy, strict=strict)
