"""The reference contract on a GPU: `Kernels` with CuPy in the place of NumPy."""

from __future__ import annotations

from minicnn_kernels.cupy_probe import usable_cupy
from minicnn_kernels.reference import Kernels


class CupyKernels(Kernels):
    """Every primitive as CuPy array code on the current CUDA device.

    Raises ImportError where CuPy is missing and `BackendError` where it finds no device.
    """

    name = "cupy"
    device = "cuda"
    capture_fault = "its matrix products call cuBLAS through CuPy, which refuses that in a capture."

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(usable_cupy(self.name), strict=strict)
