"""cuBLAS through ctypes, for products so large that the vendor's kernels are worth the detour.

CuPy has a binding of its own, but its `matmul` cannot be captured into a graph and knows neither
TF32 for batches nor adding to what C held. Here a handle of our own, one for each device, calls the
library directly. Three things make that safe under capture and repeatable:

- the handle and its workspace of 32 MiB are made at the first call, which a warm-up does before any
  capture. The workspace is ours, because cuBLAS would otherwise allocate during the capture;
- ``cublasSetStream`` puts the library's own workspace back, so ours is set again after each;
- one workspace serves one stream at a time, in which order the products run.

cuBLAS counts columns first (Fortran order). A row-major C (m, n) is to it the transpose, (n, m),
and ``C^T = B^T @ A^T``: so the factors change places, each keeps its own transposition, and the
numbers from one stored row to the next become leading dimensions.

Without the library, or where it cannot start, `unavailable` says why and our own kernel runs.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cupy

from minicnn_kernels.errors import BackendError
from minicnn_kernels.precision import tf32_allowed

if TYPE_CHECKING:
    from minicnn_kernels.cupy_cuda.gemm import Product

Array = Any

NAMES = ("libcublas.so.13", "libcublas.so.12")
WORKSPACE = 32 * 2**20  # bytes; what NVIDIA recommends for Hopper
LEAST_PRODUCTS = 2**26  # multiply-adds; an estimate: below it a launch costs more than the product
FLOAT32 = 0  # CUDA_R_32F
STRICT, TENSOR = 68, 77  # CUBLAS_COMPUTE_32F and _32F_FAST_TF32
DEFAULT = -1  # CUBLAS_GEMM_DEFAULT
ENVIRONMENT_VARIABLE = "MINICNN_CUBLAS"


def serves(product: Product) -> bool:
    """Whether a product is large enough for cuBLAS, and cuBLAS is there."""
    p = product
    return p.batch * p.m * p.n * p.k >= LEAST_PRODUCTS and unavailable() is None


@functools.cache
def unavailable() -> str | None:
    """Why cuBLAS cannot be used in this process, or None where it can."""
    if os.environ.get(ENVIRONMENT_VARIABLE, "").strip() == "0":
        return f"{ENVIRONMENT_VARIABLE}=0 switches cuBLAS off"
    try:
        _handle(cupy.cuda.Device().id)
    except (BackendError, OSError, AttributeError) as error:
        return str(error)
    return None


def gemm(a: Array, b: Array, c: Array, product: Product, alpha: float, accumulate: bool) -> Array:
    """c = alpha * A @ B, or added to c; see `gemm.gemm` for the arguments."""
    p = product
    _handle(cupy.cuda.Device().id).gemm(
        (p.n, p.m, p.k),
        (b, p.transpose_b, p.k if p.transpose_b else p.n, p.batch_b),
        (a, p.transpose_a, p.m if p.transpose_a else p.k, p.batch_a),
        (c, p.n, p.m * p.n),
        (p.batch, alpha, float(accumulate)),
    )
    return c


@functools.cache
def _handle(device: int) -> Handle:
    return Handle(library())


@functools.cache
def library() -> Any:
    """The shared library, from the system or from a package of NVIDIA's."""
    tried = []
    for candidate in candidates():
        try:
            return ctypes.CDLL(candidate)
        except OSError as error:
            tried.append(str(error))
    raise BackendError(f"cuBLAS cannot be loaded: {'; '.join(tried)}.")


def candidates() -> Iterator[str]:
    """Names and paths under which cuBLAS may be found, best first."""
    yield from NAMES
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for name in NAMES:
            yield from map(str, sorted(Path(folder).glob(f"*/lib/{name}")))


class Handle:
    """cuBLAS on the current device, with a workspace of its own."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self._handle = ctypes.c_void_p()
        self._stream: int | None = None
        self._check("cublasCreate", lib.cublasCreate_v2(ctypes.byref(self._handle)))
        self._workspace = cupy.empty(WORKSPACE, "uint8")

    def gemm(
        self, sizes: tuple[int, int, int], first: tuple[Any, ...], second: tuple[Any, ...],
        result: tuple[Any, ...], numbers: tuple[int, float, float],
    ) -> None:  # fmt: skip
        """The call in cuBLAS's own order, column-major.

        sizes : rows and columns of the result, and the length of the sums
        first, second : array, whether transposed, leading dimension, distance in a batch
        result : array, leading dimension, distance in a batch
        numbers : how many products, alpha, beta
        """
        self._use_current_stream()
        count, alpha, beta = numbers
        status = self._lib.cublasGemmStridedBatchedEx(
            self._handle, int(first[1]), int(second[1]), *sizes,
            ctypes.byref(ctypes.c_float(alpha)), *_factor(first), *_factor(second),
            ctypes.byref(ctypes.c_float(beta)), *_operand(*result), count,
            TENSOR if tf32_allowed() else STRICT, DEFAULT,
        )  # fmt: skip
        self._check("cublasGemmStridedBatchedEx", status)

    def _use_current_stream(self) -> None:
        stream = int(cupy.cuda.get_current_stream().ptr)
        if stream == self._stream:
            return
        lib, workspace = self._lib, self._workspace
        self._check(
            "cublasSetStream", lib.cublasSetStream_v2(self._handle, ctypes.c_void_p(stream))
        )
        self._check(
            "cublasSetWorkspace",
            lib.cublasSetWorkspace_v2(
                self._handle, ctypes.c_void_p(workspace.data.ptr), ctypes.c_size_t(WORKSPACE)
            ),
        )
        self._stream = stream

    @staticmethod
    def _check(what: str, status: int) -> None:
        if status:
            raise BackendError(
                f"{what} failed with status {status}; MINICNN_CUBLAS=0 does without."
            )


def _factor(factor: tuple[Any, ...]) -> tuple[Any, ...]:
    array, _, leading, distance = factor
    return _operand(array, leading, distance)


def _operand(array: Array, leading: int, distance: int) -> tuple[Any, ...]:
    return ctypes.c_void_p(array.data.ptr), FLOAT32, leading, ctypes.c_longlong(distance)
