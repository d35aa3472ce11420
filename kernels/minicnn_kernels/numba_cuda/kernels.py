"""The class that puts the Numba CUDA kernels in the place of CuPy's array code."""

from __future__ import annotations

from minicnn_kernels.cupy_set import CupyKernels


class NumbaCudaKernels(CupyKernels):
    """Primitives in Numba CUDA, the rest as CuPy array code."""

    name = "numba_cuda"
    capture_fault = ""
