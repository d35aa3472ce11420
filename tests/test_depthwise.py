"""Depthwise convolution: each channel by itself, against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minicnn.testing.tolerance import tolerance
from minicnn_kernels.errors import ShapeError
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import convolution, depthwise_plans
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)
OPERATIONS = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight")

# name: N, channels, maps for each, size, kernel, stride, padding, dilation
CASES = {
    "one vector a row": (3, 5, 1, (14, 14), 3, 1, 1, 1),
    "many rows in a vector": (9, 6, 1, (7, 7), 3, 1, 1, 1),
    "several vectors a row": (2, 3, 1, (9, 50), 3, 1, 1, 1),
    "stride 2": (2, 4, 1, (15, 39), 3, 2, 1, 1),
    "stride 2, even size": (2, 4, 1, (16, 40), 3, 2, 1, 1),
    "stride 3": (2, 4, 1, (22, 52), 5, 3, 2, 1),
    "stride beyond the kernel": (2, 4, 1, (13, 41), 1, 2, 0, 1),
    "stride 4, kernel 2": (2, 3, 1, (20, 70), 2, 4, 1, 1),
    "rows by 3, columns by 2": (2, 3, 1, (20, 21), 3, (3, 2), (2, 1), 1),
    "5x5": (2, 3, 1, (12, 17), 5, 1, 2, 1),
    "7x7": (2, 3, 1, (12, 17), 7, 1, 3, 1),
    "dilated": (2, 3, 1, (20, 20), 3, 1, 4, 4),
    "dilated, stride 2": (2, 3, 1, (20, 21), 3, 2, 3, 3),
    "padding beyond the kernel": (2, 3, 1, (8, 8), 3, 1, 5, 1),
    "padding beyond, stride 3": (2, 3, 1, (1, 9), 1, 3, 1, 1),
    "two maps a channel": (2, 5, 2, (11, 18), 3, 1, 1, 1),
    "three maps a channel, stride 2": (2, 5, 3, (11, 18), 3, 2, 1, 1),
    "1x1 map": (3, 20, 1, (1, 1), 3, 1, 1, 1),
}


def problem(N, channels, maps, size, kernel, stride, padding, dilation, seed=0):
    """The window and float64 numbers that float32 holds exactly."""
    window = Window2d.of(size, kernel, stride, padding, dilation)
    rng = np.random.default_rng(seed)
    F = channels * maps
    shapes = (N, channels, *size), (F, 1, window.kh, window.kw), (F,), (N, F, window.oh, window.ow)
    x, w, b, gy = (rng.normal(size=s).astype(np.float32).astype(np.float64) for s in shapes)
    return window, {
        "conv2d": (x, w, b, window, channels),
        "conv2d_grad_input": (gy, w, window, channels),
        "conv2d_grad_weight": (gy, x, window, channels),
    }


def mapped(arguments, change):
    return [change(a) if isinstance(a, np.ndarray) else a for a in arguments]


def check(operation, arguments, dtype, window):
    """The result in ``dtype`` against the reference in float64."""
    expected = getattr(REFERENCE, operation)(*arguments)
    reach = getattr(REFERENCE, operation)(*mapped(arguments, np.abs))
    actual = getattr(convolution, operation)(*mapped(arguments, lambda a: a.astype(dtype)))
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    terms = arguments[0].shape[0] * window.oh * window.ow
    if operation != "conv2d_grad_weight":
        terms = arguments[1].size // arguments[-1] + 1
    allowed = tolerance(dtype, max(terms, 1), float(reach.max(initial=0.0)))
    assert np.abs(actual - expected).max(initial=0.0) <= allowed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_layers(name, operation, dtype):
    window, arguments = problem(*CASES[name])
    assert depthwise_plans.is_depthwise(1, arguments["conv2d"][1].shape[0], CASES[name][1])
    check(operation, arguments[operation], dtype, window)


PAIRS = ((1, 40), (1, 5), (1, 4), (0, 4), (1, 3))  # size, kernel, stride, padding, dilation


@st.composite
def problems(draw):
    number = st.integers
    pairs = [draw(st.tuples(number(low, high), number(low, high))) for low, high in PAIRS]
    counts = draw(number(0, 5)), draw(number(2, 9)), draw(number(1, 3))
    try:
        return problem(*counts, *pairs, draw(number(0, 2**32)))
    except ShapeError:
        assume(False)


@settings(max_examples=100)
@given(drawn=problems())
def test_drawn_windows(drawn):
    window, arguments = drawn
    for operation in OPERATIONS:
        check(operation, arguments[operation], np.float32, window)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_for_every_number_of_workers(name, operation, monkeypatch):
    _, arguments = problem(*CASES[name])
    numbers = mapped(arguments[operation], lambda a: a.astype(np.float32))
    results = []
    for workers in (1, 1, 2, 3, 7):
        monkeypatch.setattr(convolution, "get_num_threads", lambda count=workers: count)
        results.append(getattr(convolution, operation)(*numbers))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("name", CASES)
def test_relu_at_the_end(name):
    _, arguments = problem(*CASES[name])
    x, w, b, window, groups = mapped(arguments["conv2d"], lambda a: a.astype(np.float32))
    plain = convolution.conv2d(x, w, b, window, groups)
    rectified = convolution.conv2d_affine(x, w, None, b, window, groups, True)
    np.testing.assert_array_equal(rectified, np.maximum(plain, 0))
    assert (plain < 0).any()


def test_a_channel_sees_only_itself():
    x, w = np.zeros((2, 8, 9, 9), np.float32), np.ones((8, 1, 3, 3), np.float32)
    x[1, 5] = np.nan
    y = convolution.conv2d(x, w, None, Window2d.of((9, 9), 3, padding=1), 8)
    assert np.isnan(y[1, 5]).all()
    y[1, 5] = 0
    assert not y.any()
