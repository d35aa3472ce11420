"""Products of matrices in CUDA C++ against NumPy, exactly on whole numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from product_cases import REFERENCE, tf32_bound

from minicnn.testing.tolerance import assert_close, to_host
from minicnn_kernels import registry
from minicnn_kernels.precision import allow_tf32

REASON = registry.availability()["cupy_cuda"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
if REASON is None:
    import cupy

    from minicnn_kernels.cupy_cuda import gemm, tiles
    from minicnn_kernels.cupy_cuda.gemm import Product

    TILES = [
        pytest.param(name == "tf32", tile, id=f"{name}-{tile[:3]}")
        for name, every in (("tf32", tiles.TENSOR), ("float32", tiles.STRICT))
        for tile in every
    ]
else:
    TILES = []

PRECISIONS = pytest.mark.parametrize("tf32", [True, False], ids=["tf32", "float32"])
TRANSPOSES = list(itertools.product([False, True], [False, True]))


@pytest.fixture
def kernels():
    return registry.load("cupy_cuda", strict=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def whole(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def operands(rng, p, draw=whole):
    """Both factors as stored, and their product in float64."""
    lead = () if p.batch == 1 else (p.batch,)
    a = draw(rng, *lead, *((p.k, p.m) if p.transpose_a else (p.m, p.k)))
    lead = lead if p.batch_b else ()
    b = draw(rng, *lead, *((p.n, p.k) if p.transpose_b else (p.k, p.n)))
    left = a.swapaxes(-1, -2) if p.transpose_a else a
    right = b.swapaxes(-1, -2) if p.transpose_b else b
    return a, b, left.astype(np.float64) @ right.astype(np.float64)


def check(rng, p, tile=None, bias=False, alpha=1.0, accumulate=False):
    a, b, expected = operands(rng, p)
    expected = alpha * expected
    extra = whole(rng, p.n) if bias else None
    out = whole(rng, *expected.shape) if accumulate else None
    expected = expected + (0 if extra is None else extra) + (0 if out is None else out)
    actual = gemm.gemm(
        cupy.asarray(a), cupy.asarray(b), p, None if extra is None else cupy.asarray(extra), alpha,
        None if out is None else cupy.asarray(out), tile,
    )  # fmt: skip
    np.testing.assert_array_equal(to_host(actual), expected, err_msg=str(p))


def batched(m, n, k, a, b, count, shared=False):
    return Product(m, n, k, a, b, count, m * k, 0 if shared else k * n)


@PRECISIONS
@pytest.mark.parametrize("transposes", TRANSPOSES)
def test_every_way_to_transpose(rng, tf32, transposes):
    with allow_tf32(tf32):
        check(rng, Product(9, 11, 37, *transposes), bias=True)
        check(rng, Product(20, 36, 8, *transposes), accumulate=True, alpha=2.0)
        check(rng, Product(5, 6, 300, *transposes), bias=True, accumulate=True, alpha=0.5)
        check(rng, batched(5, 8, 12, *transposes, 3))
        check(rng, batched(4, 6, 7, *transposes, 2, shared=True))


@pytest.mark.parametrize(("tf32", "tile"), TILES)
def test_every_tile(rng, tf32, tile):
    with allow_tf32(tf32):
        for transposes in (False, True), (True, False):
            check(rng, Product(131, 132, 68, *transposes), tile)
        check(rng, Product(tile.bm, tile.bn, 5 * tile.bk, False, True), tile)
        check(rng, Product(3, 4, 900, True, False), tile, bias=True)


@PRECISIONS
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 300, 5), (300, 1, 5), (7, 5, 0), (4, 8, 129)])
def test_sizes_at_the_edge(rng, tf32, sizes):
    with allow_tf32(tf32):
        check(rng, Product(*sizes), bias=True)


@PRECISIONS
def test_rounding_is_what_the_precision_allows(rng, tf32):
    p = Product(33, 17, 200)
    a, b, expected = operands(rng, p, lambda r, *s: r.standard_normal(s).astype(np.float32))
    magnitude = np.abs(a).astype(np.float64) @ np.abs(b)
    with allow_tf32(tf32):
        actual = to_host(gemm.gemm(cupy.asarray(a), cupy.asarray(b), p))
    if tf32:
        assert (np.abs(actual - expected) <= tf32_bound(magnitude, p.k)).all()
    else:
        assert_close(actual, expected, terms=p.k)


@pytest.mark.parametrize("lead", [(), (4,), (3, 4)])
def test_fully_connected(kernels, rng, lead):
    x, w, b, gy = whole(rng, *lead, 5), whole(rng, 6, 5), whole(rng, 6), whole(rng, *lead, 6)
    for name, args in (
        ("linear", (x, w, b)),
        ("linear", (x, w, None)),
        ("linear_grad_input", (gy, w)),
        ("linear_grad_weight", (gy, x)),
        ("linear_grad_bias", (gy,)),
    ):
        device = [None if a is None else cupy.asarray(a) for a in args]
        actual = getattr(kernels, name)(*device)
        expected = getattr(REFERENCE, name)(*args)
        np.testing.assert_array_equal(to_host(actual), expected, err_msg=name)


@pytest.mark.parametrize("rows", [1, 300, 5000])
def test_a_sum_over_many_rows(kernels, rng, rows):
    gy = whole(rng, rows, 33)
    np.testing.assert_array_equal(to_host(kernels.linear_grad_bias(cupy.asarray(gy))), gy.sum(0))


@pytest.mark.parametrize(
    ("left", "right"),
    [((4, 5), (5, 6)), ((3, 4, 5), (3, 5, 6)), ((3, 4, 5), (5, 6)), ((2, 3, 4, 5), (2, 3, 5, 6))],
)
def test_products_with_leading_axes_and_of_views(kernels, rng, left, right):
    for turn_a, turn_b in TRANSPOSES:
        a, b = whole(rng, *left), whole(rng, *right)
        views = [
            cupy.asarray(np.ascontiguousarray(x.swapaxes(-1, -2))).swapaxes(-1, -2)
            if turn
            else cupy.asarray(x)
            for x, turn in ((a, turn_a), (b, turn_b))
        ]
        np.testing.assert_array_equal(to_host(kernels.matmul(*views)), a @ b)


def test_other_products_are_array_code(kernels, rng):
    for left, right in (((5,), (5, 6)), ((1, 4, 5), (3, 5, 6)), ((0, 4, 5), (0, 5, 6))):
        a, b = whole(rng, *left), whole(rng, *right)
        actual = kernels.matmul(cupy.asarray(a), cupy.asarray(b))
        np.testing.assert_array_equal(to_host(actual), a @ b)


@PRECISIONS
def test_every_order_of_threads_gives_the_same_bits(rng, tf32, monkeypatch):
    a, b = (cupy.asarray(rng.standard_normal(s).astype(np.float32)) for s in ((5, 300), (300, 7)))
    bits = set()
    with allow_tf32(tf32):
        for order in range(5):
            monkeypatch.setenv("MINICNN_CUDA_ORDER", str(order))
            bits.add(to_host(gemm.gemm(a, b, Product(5, 7, 300))).tobytes())
    assert len(bits) == 1
