"""The Numba CPU set: parallel compiled loops for the primitives that array code does slowly."""

from minicnn_kernels.numba_cpu.kernels import NumbaKernels
from minicnn_kernels.numba_cpu.memory import keep_freed_memory

keep_freed_memory()

__all__ = ["NumbaKernels"]
