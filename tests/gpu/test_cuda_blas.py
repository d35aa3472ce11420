"""The binding to cuBLAS, on a library that records each call and computes it in column-major."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest

from minicnn.testing.tolerance import to_host
from minicnn_kernels import registry
from minicnn_kernels.errors import BackendError
from minicnn_kernels.precision import allow_tf32

REASON = registry.availability()["cupy_cuda"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
if REASON is None:
    import cupy

    from minicnn_kernels.cupy_cuda import blas, gemm
    from minicnn_kernels.cupy_cuda.gemm import Product

needs_stand_in = pytest.mark.skipif(
    REASON is not None or not getattr(cupy, "IS_STAND_IN", False),
    reason="reads device memory on the host, which only the stand-in allows",
)
CASES = [
    (transposes, batch, shared)
    for transposes in itertools.product([False, True], [False, True])
    for batch, shared in ((1, False), (3, False), (3, True))
]


class Library:
    """cuBLAS in NumPy, with its own rules: column-major, leading dimensions, distances."""

    def __init__(self):
        self.calls = []
        self.compute = None

    def cublasCreate_v2(self, handle):
        handle._obj.value = 7
        self.calls.append("create")
        return 0

    def cublasSetStream_v2(self, handle, stream):
        self.calls.append("stream")
        return 0

    def cublasSetWorkspace_v2(self, handle, address, size):
        assert handle.value == 7
        assert address.value
        assert size.value == 32 * 2**20
        self.calls.append("workspace")
        return 0

    def cublasGemmStridedBatchedEx(
        self, handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, step_a, b, type_b, ldb, step_b,
        beta, c, type_c, ldc, step_c, count, compute, algorithm,
    ):  # fmt: skip
        assert (type_a, type_b, type_c, algorithm) == (0, 0, 0, -1)
        self.compute = compute
        for i in range(count):
            left = self._matrix(a, i * step_a.value, *((k, m) if op_a else (m, k)), lda)
            right = self._matrix(b, i * step_b.value, *((n, k) if op_b else (k, n)), ldb)
            result = self._matrix(c, i * step_c.value, m, n, ldc)
            product = (left.T if op_a else left) @ (right.T if op_b else right)
            before = beta._obj.value * result if beta._obj.value else 0
            result[...] = alpha._obj.value * product + before
        self.calls.append("gemm")
        return 0

    @staticmethod
    def _matrix(address, start, rows, columns, leading):
        assert leading >= max(rows, 1), "cuBLAS refuses a leading dimension below the rows"
        numbers = ctypes.cast(address.value + 4 * start, ctypes.POINTER(ctypes.c_float))
        flat = np.ctypeslib.as_array(numbers, ((columns - 1) * leading + rows,))
        strides = (4, 4 * leading)
        return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)


@pytest.fixture
def fresh():
    """Nothing of an earlier library is remembered, nor of this one afterwards."""
    for function in (blas.unavailable, blas._handle, blas.library):
        function.cache_clear()
    yield
    for function in (blas.unavailable, blas._handle, blas.library):
        function.cache_clear()


@pytest.fixture
def library(fresh, monkeypatch):
    fake = Library()
    monkeypatch.delenv("MINICNN_CUBLAS", raising=False)
    monkeypatch.setattr(blas, "library", _cached(lambda: fake))
    monkeypatch.setattr(blas, "LEAST_PRODUCTS", 1)
    return fake


def _cached(function):
    function.cache_clear = lambda: None
    return function


@needs_stand_in
@pytest.mark.parametrize(("transposes", "batch", "shared"), CASES)
def test_row_major_products_through_a_column_major_library(library, transposes, batch, shared):
    rng = np.random.default_rng(0)
    m, n, k = 3, 5, 4
    turn_a, turn_b = transposes
    lead, lead_b = (batch,) if batch > 1 else (), (batch,) if batch > 1 and not shared else ()
    a = rng.integers(-4, 5, (*lead, *((k, m) if turn_a else (m, k)))).astype(np.float32)
    b = rng.integers(-4, 5, (*lead_b, *((n, k) if turn_b else (k, n)))).astype(np.float32)
    before = rng.integers(-4, 5, (*lead, m, n)).astype(np.float32)
    p = Product(m, n, k, *transposes, batch, m * k, k * n if lead_b else 0)
    plain = (a.swapaxes(-1, -2) if turn_a else a) @ (b.swapaxes(-1, -2) if turn_b else b)
    assert blas.serves(p)
    made = gemm.gemm(cupy.asarray(a), cupy.asarray(b), p, alpha=2.0)
    np.testing.assert_array_equal(to_host(made), 2 * plain)
    added = gemm.gemm(cupy.asarray(a), cupy.asarray(b), p, out=cupy.asarray(before))
    np.testing.assert_array_equal(to_host(added), before + plain)
    assert library.calls == ["create", "stream", "workspace", "gemm", "gemm"]


@needs_stand_in
def test_the_workspace_is_set_again_after_each_change_of_stream(library):
    a = cupy.ones((2, 2), np.float32)
    p = Product(2, 2, 2)
    gemm.gemm(a, a, p)
    with cupy.cuda.Stream(non_blocking=True):
        gemm.gemm(a, a, p)
        gemm.gemm(a, a, p)
    expected = ["create", "stream", "workspace", "gemm", "stream", "workspace", "gemm", "gemm"]
    assert library.calls == expected


@needs_stand_in
def test_the_precision_is_that_of_the_setting(library):
    a = cupy.ones((2, 2), np.float32)
    for allowed, compute in ((True, 77), (False, 68)):
        with allow_tf32(allowed):
            gemm.gemm(a, a, Product(2, 2, 2))
        assert library.compute == compute


@needs_stand_in
def test_a_bias_and_a_small_product_stay_with_our_own_kernel(library, monkeypatch):
    a = cupy.ones((2, 2), np.float32)
    gemm.gemm(a, a, Product(2, 2, 2), cupy.ones(2, np.float32))
    monkeypatch.setattr(blas, "LEAST_PRODUCTS", 9)
    gemm.gemm(a, a, Product(2, 2, 2))
    assert "gemm" not in library.calls


def test_without_the_library_it_says_why(fresh, monkeypatch):
    monkeypatch.delenv("MINICNN_CUBLAS", raising=False)
    monkeypatch.setattr(blas, "NAMES", ("libnothing.so.1",))
    assert "cuBLAS cannot be loaded" in blas.unavailable()
    assert "libnothing.so.1" in blas.unavailable()
    assert not blas.serves(Product(4096, 4096, 4096))


def test_it_can_be_switched_off(fresh, monkeypatch):
    monkeypatch.setenv("MINICNN_CUBLAS", "0")
    assert blas.unavailable() == "MINICNN_CUBLAS=0 switches cuBLAS off"


def test_a_package_of_nvidia_is_found(monkeypatch, tmp_path):
    path = tmp_path / "nvidia" / "cu13" / "lib" / "libcublas.so.13"
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert str(path) in list(blas.candidates())


def test_a_failing_call_names_itself(fresh, monkeypatch):
    class Failing:
        def cublasCreate_v2(self, handle):
            return 1

    with pytest.raises(BackendError, match="cublasCreate failed with status 1"):
        blas.Handle(Failing())
