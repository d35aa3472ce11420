"""The primitives in Numba CUDA: the C++ kernels' readable twins."""

from minicnn_kernels.numba_cuda.kernels import NumbaCudaKernels

__all__ = ["NumbaCudaKernels"]
