"""Faults planted in the kernels of products and convolutions, one at a time: each must show.

A fault is a text replaced in a copy of the kernels' folder. The stand-in runs what is compiled from
it; a fault shows as a wrong number, as NaN where a copy had not arrived, or as a refusal. Bounds
that only keep a copy from reading what is multiplied by 0 or not stored are for the sanitizer.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from product_cases import DEPTHWISE, PLAIN, REFERENCE, STRIDED, Case, run

from minicnn.testing.tolerance import to_host
from minicnn_kernels import registry
from minicnn_kernels.precision import allow_tf32

REASON = registry.availability()["cupy_cuda"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
if REASON is None:
    import cupy

    from minicnn_kernels.cupy_cuda import convolution, depthwise, gemm, modules, prepare, tiles

    if not getattr(cupy, "IS_STAND_IN", False):
        pytestmark.append(pytest.mark.skip(reason="a fault may bring down a real device"))

# Seven steps along k, which go round the stages twice.
DEEP = Case("seven steps", 2, 12, 9, (5, 7), 3, 1, 1)
LARGE = Case("a large kernel", 1, 1, 2, (18, 17), 16, 1, 3)
SLICED = Case("slices", 3, 1, 2, (17, 18), 3, 1, 1)

# file, text, what it becomes, the convolution that shows it, and whether in TF32
CONVOLUTIONS = (
    ("tile.cuh", "cp_async_wait<STAGES - 2>();", "", DEEP, True),
    ("tile.cuh", "cp_async_wait<STAGES - 2>();", "cp_async_wait<STAGES - 1>();", DEEP, True),
    ("tile.cuh", "        __syncthreads();\n        if (s + STAGES", "        if (s + STAGES", DEEP,
     True),
    ("tile.cuh", "next = STAGES - 1;", "next = STAGES - 2;", DEEP, True),
    ("tile.cuh", "if (s + STAGES - 1 < steps)", "if (s + STAGES < steps)", DEEP, True),
    ("tile.cuh", "k + j / 2 * 4)", "k + j % 2 * 4)", PLAIN, True),
    ("tile.cuh", "g + j % 2 * 8", "g + j / 2 * 8", PLAIN, True),
    ("tile.cuh", "2 * t + e % 2", "t + e % 2 * 4", PLAIN, True),
    ("tile.cuh", "left + i * 8 + g, k + j * 4", "left + i * 8 + g, k + j", PLAIN, True),
    ("tile.cuh", "g + e % 4 / 2 * 8", "g + e % 4 / 2", DEEP, True),
    ("tile.cuh", "4 * (first + STEP * (i / 4)) + i % 4", "4 * first + STEP * i", PLAIN, False),
    ("tile.cuh", "lane % 8;", "lane / 4;", PLAIN, False),
    ("tile.cuh", "r * STRIDE + k : k * STRIDE + r", "r * STRIDE + k : k * BK + r", PLAIN, False),
    ("window.cuh", "return (mask & need) == need;", "return (mask & need) != 0;", PLAIN, True),
    ("window.cuh", "row >= 0 && row < h", "row >= 0 && row <= h", LARGE, True),
    ("window.cuh", "column < w", "column < h", LARGE, True),
    ("convolution.cu", "(m0 + m) * c.depth", "(m0 + m) * s.rows", PLAIN, True),
    ("convolution.cu", "static_cast<long long>(group) * s.in_group", "0", STRIDED, True),
    ("convolution.cu", "group * s.rows + m;", "m;", STRIDED, True),
    ("convolution.cu", "if (m >= s.rows) continue;", "if (m > s.rows) continue;", PLAIN, True),
    ("convolution.cu", ": -1;", ": 0;", PLAIN, True),
    ("convolution.cu", "if (s.paired && to >= 0)", "if (to >= 0)", STRIDED, True),
    ("convolution.cu", "relu && value < 0.0f", "relu && value > 0.0f", PLAIN, True),
    ("turn_weights.cu", "source + channel * taps", "source + channel", PLAIN, True),
    ("convolution_weight.cu", "(m) * s.columns + n]", "(m) * s.rows + n]", PLAIN, True),
    ("convolution_weight.cu", "m < s.rows && n < s.columns", "m < s.rows", PLAIN, True),
    ("sums.cu", "s < count; s += 8", "s < count - 1; s += 8", SLICED, True),
    ("sums.cu", "row = 1; row < 8", "row = 1; row < 3", SLICED, True),
    ("sums.cu", "half > 0; half /= 2", "half > 1; half /= 2", PLAIN, True),
    ("depthwise.cu", "column >= 0 && column < s.w", "column >= 0", DEPTHWISE, True),
    ("depthwise.cu", "oy / STRIDE_H >= s.oh", "oy / STRIDE_H > s.oh", DEPTHWISE, True),
    ("depthwise.cu", "own[t];\n        __syncthreads();", "own[t];", DEPTHWISE, True),
)  # fmt: skip
# The same of plain products; the sum of WARPS_K groups is theirs too.
PRODUCTS = (
    ("tile.cuh", "if (group > 0) return false;", "", True),
    ("tile.cuh", "other < WARPS_K - 1", "other < WARPS_K - 2", True),
    (
        "tile.cuh",
        "    __syncthreads();\n    if (group > 0) return",
        "    if (group > 0) return",
        True,
    ),
    ("tile.cuh", "threadIdx.x / GROUP * DEPTH;", "0;", False),
    ("gemm.cu", "r0 + r < rows && k0 + k < depth", "r0 + r < rows", True),
    ("gemm.cu", "(r0 + r) * stride + k0 + k", "(r0 + r) * depth + k0 + k", True),
    ("gemm.cu", "if (m >= s.m || n >= s.n) continue;", "if (m >= s.m) continue;", True),
    ("gemm.cu", "(m) * s.n + n;", "(m) * s.m + n;", True),
    ("gemm.cu", "if (bias) value += bias[n];", "if (bias) value += bias[m];", True),
    ("gemm.cu", "s.alpha * tile.sums[e]", "tile.sums[e]", True),
    ("gemm.cu", "static_cast<long long>(slice) * s.m * s.n", "0", True),
)


@pytest.fixture
def plant(monkeypatch, tmp_path):
    """Put a copy of the kernels with one text replaced in the place of the kernels."""

    def forget():
        for name in ("_module", "_function"):
            if hasattr(modules, name):
                getattr(modules, name).cache_clear()
        for function in (
            prepare._prepared, convolution._forward, convolution._backward, convolution._weight,
            gemm._plan,
        ):  # fmt: skip
            function.cache_clear()

    def put(file, text, replacement):
        folder = tmp_path / "kernels"
        shutil.copytree(modules.FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__*"))
        source = (folder / file).read_text()
        assert text in source, f"{file} does not hold {text!r}"
        (folder / file).write_text(source.replace(text, replacement))
        monkeypatch.setattr(modules, "FOLDER", folder)
        forget()

    forget()
    yield put
    monkeypatch.undo()
    forget()


def is_seen(check):
    """Whether a check fails in one of the first orders of threads, or is refused."""
    try:
        return not check()
    except (RuntimeError, MemoryError):
        return True


def check_convolution(case, tf32):
    data = case.draw()
    device = {name: cupy.asarray(array) for name, array in data.items()}
    small = {"forward": tiles.TENSOR[-1], "weight": tiles.TENSOR_WEIGHT[-1]}
    if not tf32:
        small = {"forward": tiles.STRICT[3], "weight": tiles.STRICT_WEIGHT[3]}
    is_depthwise = depthwise.serves(
        case.channels // case.groups, case.filters, case.groups, case.window
    )
    expected = run(REFERENCE, case, data)
    with allow_tf32(tf32):
        actual = run(convolution, case, device, **({} if is_depthwise else small))
    return all(np.array_equal(to_host(actual[k]), expected[k]) for k in expected)


def check_product():
    rng = np.random.default_rng(0)
    for sizes, turned in (((5, 6, 300), False), ((33, 7, 21), False), ((7, 34, 9), True)):
        p = gemm.Product(*sizes, transpose_b=turned)
        a, b, bias = (
            rng.integers(-4, 5, shape).astype(np.float32)
            for shape in ((p.m, p.k), (p.n, p.k) if turned else (p.k, p.n), (p.n,))
        )
        c = gemm.gemm(cupy.asarray(a), cupy.asarray(b), p, cupy.asarray(bias), 2.0)
        if not np.array_equal(to_host(c), 2 * a @ (b.T if turned else b) + bias):
            return False
    return True


def in_every_order(check, monkeypatch):
    for order in range(4):
        monkeypatch.setenv("MINICNN_CUDA_ORDER", str(order))
        if is_seen(check):
            return True
    return False


@pytest.mark.sampled(0.35)
@pytest.mark.parametrize(
    ("file", "text", "replacement", "case", "tf32"),
    [pytest.param(*fault, id=f"{i}-{fault[0]}") for i, fault in enumerate(CONVOLUTIONS)],
)
def test_a_fault_in_a_convolution_is_caught(
    plant, monkeypatch, file, text, replacement, case, tf32
):
    plant(file, text, replacement)
    assert in_every_order(lambda: check_convolution(case, tf32), monkeypatch)


@pytest.mark.sampled(0.35)
@pytest.mark.parametrize(
    ("file", "text", "replacement", "tf32"),
    [pytest.param(*fault, id=f"{i}-{fault[0]}") for i, fault in enumerate(PRODUCTS)],
)
def test_a_fault_in_a_product_is_caught(plant, monkeypatch, file, text, replacement, tf32):
    plant(file, text, replacement)
    with allow_tf32(tf32):
        assert in_every_order(check_product, monkeypatch)


@pytest.mark.parametrize("tf32", [True, False], ids=["tf32", "float32"])
def test_without_a_fault_nothing_is_seen(plant, monkeypatch, tf32):
    plant("tile.cuh", "#pragma once", "#pragma once")
    for case in (DEEP, LARGE, SLICED, STRIDED, PLAIN, DEPTHWISE):
        assert not in_every_order(lambda case=case: check_convolution(case, tf32), monkeypatch)
    with allow_tf32(tf32):
        assert not in_every_order(check_product, monkeypatch)
