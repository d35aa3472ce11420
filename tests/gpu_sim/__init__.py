"""The Numba CUDA kernels without a GPU: run in Numba's simulator, and compiled to PTX.

Each of `simulator` and `ptx` runs in a process of its own, because Numba decides when it is
imported whether it simulates, and prints what it found as JSON for the tests that started it.
"""
