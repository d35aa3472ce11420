"""The Numba CUDA kernels without a GPU: run in Numba's simulator, and compiled to PTX.

`simulator`, `stand_in` and `ptx` each run in a process of their own, because Numba decides when it
is imported whether it simulates, and print what they found as JSON for the test that started them.
"""
