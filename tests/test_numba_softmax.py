"""The compiled loops of softmax and its relatives, and the exponential that they use."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from minicnn.testing.tolerance import assert_close
from minicnn_kernels.numba_cpu import NumbaKernels, kernels, softmax
from minicnn_kernels.numba_cpu.compile import FAST_MATH
from minicnn_kernels.numba_cpu.exponential import exponential, larger
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)
ROWS, CLASSES = 7, 37


@pytest.fixture(scope="module")
def compiled():
    return NumbaKernels(np, strict=True)


@pytest.fixture(autouse=True)
def _loops_for_every_size(monkeypatch):
    monkeypatch.setattr(kernels, "SMALL", 0)


@numba.njit(fastmath=FAST_MATH)
def _exponentials(x, y):
    for i in range(len(x)):
        y[i] = exponential(x[i])


@numba.njit(fastmath=FAST_MATH)
def _largest(x, start):
    largest = start
    for i in range(len(x)):
        largest = larger(largest, x[i])
    return largest


def exponentials(x):
    y = np.empty_like(x)
    _exponentials(x, y)
    return y


# ------------------------------------------------------------------ the exponential


@pytest.mark.parametrize(("dtype", "least", "most"), [("f4", -86.6, 88.3), ("f8", -707.0, 709.0)])
def test_the_exponential_is_exact_to_the_last_place(dtype, least, most):
    x = np.linspace(least, most, 100_001).astype(dtype)
    exact = np.exp(x.astype(np.longdouble))
    assert (abs(exponentials(x) - exact) / exact).max() < np.finfo(dtype).eps
    x *= np.finfo(dtype).eps  # around 0
    assert abs(exponentials(x) - np.exp(x.astype(np.longdouble))).max() < np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_exponential_at_the_ends(dtype):
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 710, -710], dtype)
    np.testing.assert_array_equal(exponentials(x), [1, 1, np.inf, 0, np.nan, np.inf, 0, np.inf, 0])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_larger_of_two_numbers_is_nan_if_one_is(dtype):
    x = np.random.default_rng(0).normal(size=99).astype(dtype)
    start = x.dtype.type(-np.inf)
    assert _largest(x, start) == x.max()
    x[50] = np.nan
    assert np.isnan(_largest(x, start))
    assert _largest(x[:0], start) == -np.inf


# ------------------------------------------------------------------ the primitives


def problem(dtype, shape=(ROWS, CLASSES), scale=1.0):
    """Arguments of every primitive."""
    rng = np.random.default_rng(0)
    x, gy = (scale * rng.normal(size=shape) for _ in range(2))
    q = REFERENCE.softmax(rng.normal(size=shape), -1) * rng.choice([0, 1], size=shape)
    p, gloss = REFERENCE.softmax(x, -1), rng.normal(size=shape[0])
    x, gy, q, p, gloss = (a.astype(dtype) for a in (x, gy, q, p, gloss))
    return {
        "softmax": (x, -1),
        "softmax_grad": (gy, p, -1),
        "log_softmax": (x, -1),
        "log_softmax_grad": (gy, REFERENCE.log_softmax(x, -1), -1),
        "softmax_cross_entropy": (x, q),
        "softmax_cross_entropy_grad": (gloss, p, q),
    }


PRIMITIVES = sorted(problem("f8"))
ALONG_AXIS = [name for name in PRIMITIVES if "entropy" not in name]


def both(compiled, primitive, arguments):
    """Compiled results, and those of the reference in float64, as tuples."""
    exact = [a.astype("f8") if isinstance(a, np.ndarray) else a for a in arguments]
    actual = getattr(compiled, primitive)(*arguments)
    with np.errstate(all="ignore"):
        expected = getattr(REFERENCE, primitive)(*exact)
    as_tuple = (lambda r: r) if isinstance(actual, tuple) else (lambda r: (r,))
    return as_tuple(actual), as_tuple(expected)


def check(compiled, primitive, arguments, condition=1.0):
    for actual, expected in zip(*both(compiled, primitive, arguments), strict=True):
        assert actual.dtype == arguments[0].dtype
        assert_close(actual, expected, terms=CLASSES, condition=condition)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_against_the_reference(compiled, primitive, dtype):
    check(compiled, primitive, problem(dtype)[primitive])


@pytest.mark.parametrize("primitive", ALONG_AXIS)
def test_more_than_two_axes(compiled, primitive):
    check(compiled, primitive, problem("f4", (2, 3, 4, CLASSES))[primitive])


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_arrays_that_are_not_contiguous(compiled, primitive):
    arguments = problem("f4")[primitive]
    turned = [np.asfortranarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
    check(compiled, primitive, turned)


@pytest.mark.parametrize("primitive", ["softmax", "log_softmax", "softmax_cross_entropy"])
def test_large_logits_do_not_overflow(compiled, primitive):
    arguments = problem("f4", scale=1e4)[primitive]
    check(compiled, primitive, arguments)
    assert all(np.isfinite(r).all() for r in both(compiled, primitive, arguments)[0])


@pytest.mark.parametrize("primitive", ["softmax", "log_softmax", "softmax_cross_entropy"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_shift_of_the_logits_loses_no_digits(compiled, primitive, dtype):
    x, *others = problem("f4")[primitive]
    arguments = np.round(256 * x).astype(dtype) / 256 + 1000, *others
    arguments = [a.astype(dtype) if isinstance(a, np.ndarray) else a for a in arguments]
    check(compiled, primitive, arguments)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_nan_and_infinity_show_where_they_show_in_the_reference(compiled, primitive, value):
    arguments = problem("f8")[primitive]
    arguments[0].flat[[2, 5]] = value
    for actual, expected in zip(*both(compiled, primitive, arguments), strict=True):
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
        infinite = np.isinf(expected)
        np.testing.assert_array_equal(actual[infinite], expected[infinite])
        np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))


def test_a_class_of_weight_0_adds_nothing_to_the_loss(compiled):
    x, q = np.array([[0.0, -np.inf, 0.0]]), np.array([[0.5, 0.0, 0.5]])
    loss, p = compiled.softmax_cross_entropy(x, q)
    np.testing.assert_allclose(loss, [np.log(2)], rtol=4e-16)
    np.testing.assert_array_equal(p, [[p[0, 0], 0.0, p[0, 0]]])
    loss, _ = compiled.softmax_cross_entropy(x, q[:, ::-1] + [[0, 1e-300, 0]])
    np.testing.assert_array_equal(loss, [np.inf])


def test_a_row_of_minus_infinity_is_nan(compiled):
    assert np.isnan(compiled.softmax(np.full((1, 9), -np.inf), 1)).all()


@pytest.mark.parametrize("primitive", ALONG_AXIS)
def test_other_axes_and_short_arrays_are_left_to_the_reference(compiled, monkeypatch, primitive):
    monkeypatch.setattr(softmax, "_along_rows", None)
    *arrays, _ = problem("f8")[primitive]
    expected = getattr(REFERENCE, primitive)(*arrays, 0)
    np.testing.assert_array_equal(getattr(compiled, primitive)(*arrays, 0), expected)
    for axis in (1, -1):
        with pytest.raises(TypeError, match="not callable"):
            getattr(compiled, primitive)(*arrays, axis)
    monkeypatch.setattr(kernels, "SMALL", ROWS * CLASSES + 1)
    getattr(compiled, primitive)(*arrays, 1)
