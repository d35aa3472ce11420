"""The class that puts the CUDA C++ kernels in the place of CuPy's array code."""

from __future__ import annotations

from minicnn_kernels.cupy_set import CupyKernels


class CudaKernels(CupyKernels):
    """Primitives as CUDA C++, the rest as CuPy array code."""

    name = "cupy_cuda"
    capture_fault = ""
