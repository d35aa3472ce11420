"""The Numba CPU set: parallel compiled loops for the primitives that array code does slowly."""

from minicnn_kernels.numba_cpu.kernels import NumbaKernels

__all__ = ["NumbaKernels"]
