"""CUDA C++ kernels, compiled on first use by the compiler that CuPy brings, called over CuPy."""

from minicnn_kernels.cupy_cuda.kernels import CudaKernels

__all__ = ["CudaKernels"]
