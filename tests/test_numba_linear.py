"""The compiled loops of fully connected layers against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.testing.tolerance import assert_close
from minicnn_kernels.errors import BackendError
from minicnn_kernels.numba_cpu import NumbaKernels, kernels
from minicnn_kernels.numba_cpu import linear as loops
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)

# name: shape of x without its last axis, K, F
CASES = {
    "one row": ((1,), 96, 40),
    "whole tiles": ((8,), 96, 48),
    "a tile of rows and one more": ((9,), 112, 41),
    "fewer rows than a tile": ((3,), 64, 3),
    "more terms than a block": ((5,), 48, 150),
    "more rows than a block": ((131,), 64, 9),
    "several ranges of columns": ((4,), 2 * 2048 + 80, 10),
    "two leading axes": ((2, 7), 80, 20),
}
GRADIENTS = ("linear_grad_input", "linear_grad_weight")


@pytest.fixture(scope="module")
def compiled():
    return NumbaKernels(np, strict=True)


@pytest.fixture(autouse=True)
def _loops_for_every_size(monkeypatch):
    monkeypatch.setattr(kernels, "SMALL", 0)


def problem(leading, K, F, dtype=np.float64, seed=0):
    """Arguments of every primitive, of numbers that float32 holds exactly."""
    rng = np.random.default_rng(seed)
    shapes = (*leading, K), (F, K), (F,), (*leading, F)
    x, w, b, gy = (rng.normal(size=s).astype(np.float32).astype(dtype) for s in shapes)
    return {
        "linear": (x, w, b),
        "linear_grad_input": (gy, w),
        "linear_grad_weight": (gy, x),
        "linear_grad_bias": (gy,),
    }


def terms(primitive, leading, K, F):
    rows = int(np.prod(leading))
    return {"linear": K + 1, "linear_grad_input": F}.get(primitive, rows)


def check(compiled, primitive, arguments, count):
    """Against the reference in float64, within the rounding of ``count`` terms."""
    actual = getattr(compiled, primitive)(*arguments)
    exact = [None if a is None else a.astype(np.float64) for a in arguments]
    expected = getattr(REFERENCE, primitive)(*exact)
    assert actual.dtype == arguments[0].dtype
    assert actual.flags.c_contiguous
    assert_close(actual, expected, terms=count)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("primitive", problem((1,), 1, 1))
@pytest.mark.parametrize("case", CASES)
def test_against_the_reference(compiled, case, primitive, dtype):
    arguments = problem(*CASES[case], dtype)[primitive]
    check(compiled, primitive, arguments, terms(primitive, *CASES[case]))


def test_without_bias(compiled):
    x, w, _ = problem((5,), 33, 7)["linear"]
    check(compiled, "linear", (x, w, None), 33)


@pytest.mark.parametrize("primitive", problem((1,), 1, 1))
def test_arrays_that_are_not_contiguous(compiled, primitive):
    arguments = problem((6,), 64, 24)[primitive]
    check(compiled, primitive, [np.asfortranarray(a) for a in arguments], 64)


@pytest.mark.parametrize("primitive", problem((1,), 1, 1))
def test_an_empty_batch(compiled, primitive):
    check(compiled, primitive, problem((0,), 16, 3)[primitive], 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("primitive", problem((1,), 1, 1))
def test_nan_and_infinity_show_where_they_show_in_the_reference(compiled, primitive, value):
    arguments = problem((9,), 64, 20)[primitive]
    arguments[0][4, 7] = value
    actual = getattr(compiled, primitive)(*arguments)
    with np.errstate(all="ignore"):
        expected = getattr(REFERENCE, primitive)(*arguments)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))


@pytest.mark.parametrize("primitive", problem((1,), 1, 1))
def test_neither_the_run_nor_the_number_of_threads_changes_a_bit(compiled, primitive, monkeypatch):
    arguments = problem((5,), 4992, 100, np.float32)[primitive]
    results = []
    for count in (1, 2, 3, 1):
        monkeypatch.setattr(loops, "get_num_threads", lambda count=count: count)
        results.append(getattr(compiled, primitive)(*arguments))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other, strict=True)


def calls_of_loops(monkeypatch, compiled, primitive, arguments):
    """Whether the primitive ran its loop, which is replaced by a mark."""
    called = []
    for name in ("_dot_products", "_sums_of_rows", "_column_sums"):
        monkeypatch.setattr(loops, name, lambda *args: called.append(True))
    getattr(compiled, primitive)(*arguments)
    return bool(called)


@pytest.mark.parametrize(("primitive", "rows"), [("linear", 2), *((g, 8) for g in GRADIENTS)])
def test_small_products_are_left_to_blas(compiled, monkeypatch, primitive, rows):
    monkeypatch.setattr(kernels, "SMALL", 2)  # 128 multiply-adds, 512 of a gradient
    small, large = (problem((n,), 16, 4)[primitive] for n in (rows, rows + 1))
    assert not calls_of_loops(monkeypatch, compiled, primitive, small)
    assert calls_of_loops(monkeypatch, compiled, primitive, large)


def test_gradients_that_do_not_fill_vectors_are_left_to_blas(compiled, monkeypatch):
    for primitive in GRADIENTS:
        arguments = problem((3,), 33, 5)[primitive]
        check(compiled, primitive, arguments, 5)
        assert not calls_of_loops(monkeypatch, compiled, primitive, arguments)
    assert calls_of_loops(monkeypatch, compiled, "linear", problem((3,), 33, 5)["linear"])


def test_the_input_gradient_of_one_row_is_left_to_blas(compiled, monkeypatch):
    one, two = (problem((n,), 64, 20)["linear_grad_input"] for n in (1, 2))
    assert not calls_of_loops(monkeypatch, compiled, "linear_grad_input", one)
    assert calls_of_loops(monkeypatch, compiled, "linear_grad_input", two)


def test_mixed_dtypes_are_refused_in_strict_mode(compiled):
    x, w, b = problem((3,), 16, 5)["linear"]
    with pytest.raises(BackendError, match=r"linear: .* not float32 and float64"):
        compiled.linear(x.astype(np.float32), w, b)


@pytest.mark.parametrize("columns", [48, 2048, 9216])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_column_of_the_input_gradient_is_in_one_task(monkeypatch, columns, count):
    monkeypatch.setattr(loops, "get_num_threads", lambda: count)
    tasks = loops._column_tasks(5, columns, 16)
    covered = np.concatenate([np.arange(first, end) for _, _, first, end in tasks])
    np.testing.assert_array_equal(covered, np.arange(columns))
    assert {(m0, m1) for m0, m1, _, _ in tasks} == {(0, 5)}
    assert (tasks[:, 3] - tasks[:, 2]).max() <= 2048 + 3 * 16
