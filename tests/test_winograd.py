"""Winograd's convolution against the reference in float64, and where it is used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_numba_convolution import OTHER_PROCESSORS

import minicnn
from minicnn.testing.tolerance import tolerance
from minicnn_kernels import algorithms
from minicnn_kernels.errors import ShapeError
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import convolution, winograd, winograd_plans
from minicnn_kernels.numba_cpu.winograd_transforms import B_T, matrices
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)
OPERATIONS = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight")
FLOAT32 = np.dtype(np.float32)

# name: N, C, F, size, padding
CASES = {
    "whole tiles": (2, 32, 48, (8, 8), 1),
    "a worker has several blocks": (5, 16, 16, (32, 28), 1),
    "a row of tiles beyond a block": (1, 4, 8, (9, 530), 1),
    "more filters than tiles": (2, 24, 160, (7, 7), 1),
    "more channels than a range": (1, 300, 70, (6, 9), 1),
    "channels for seven workers": (1, 128, 256, (3, 5), 1),
    "few of all": (1, 1, 1, (1, 1), 1),
    "no padding, odd sizes": (3, 17, 33, (11, 13), 0),
    "padding 2": (2, 20, 19, (6, 5), 2),
    "padding beyond the kernel": (2, 5, 7, (4, 6), 4),
    "two paddings": (2, 16, 18, (10, 10), (0, 2)),
    "one output": (3, 12, 10, (3, 3), 0),
}


def problem(N, C, F, size, padding, seed=0, taps=3):
    """The window and float64 numbers that float32 holds exactly."""
    window = Window2d.of(size, taps, padding=padding)
    rng = np.random.default_rng(seed)
    shapes = (N, C, *size), (F, C, taps, taps), (F,), (N, F, window.oh, window.ow)
    return window, *(rng.normal(size=s).astype(np.float32).astype(np.float64) for s in shapes)


def arguments_of(operation, window, x, w, b, gy):
    """The arguments of Winograd's function; `expected` adds what the reference wants."""
    return {
        "conv2d": (x, w, b, window, False),
        "conv2d_grad_input": (gy, w, window),
        "conv2d_grad_weight": (gy, x, window),
    }[operation]


def expected(operation, arguments):
    arguments = arguments[:4] if operation == "conv2d" else arguments
    return getattr(REFERENCE, operation)(*arguments, 1)


def mapped(arguments, change):
    return [change(a) if isinstance(a, np.ndarray) else a for a in arguments]


def single(arguments):
    return mapped(arguments, lambda a: a.astype(np.float32))


def allowed(operation, arguments, window):
    """`tolerance` for a sum of so many independent terms, times the documented error growth.

    The scale is the root of the sum of squares: the size of a result in which nothing cancels.
    """
    other = arguments[1].shape
    outputs = len(arguments[0]) * window.oh * window.ow
    terms = {
        "conv2d": window.taps * other[1] + 1,
        "conv2d_grad_input": window.taps * other[0],
    }.get(operation, outputs)
    scale = np.sqrt(expected(operation, mapped(arguments, np.square)).max())
    return winograd.ERROR_GROWTH[window.kh] * tolerance(np.float32, terms, float(scale))


def check(operation, window, *numbers):
    arguments = arguments_of(operation, window, *numbers)
    right = expected(operation, arguments)
    given_arguments = mapped(single(arguments), np.asfortranarray)
    before = mapped(given_arguments, np.copy)
    actual = getattr(winograd, operation)(*given_arguments)
    assert actual.dtype == np.float32
    assert actual.flags.c_contiguous
    assert actual.shape == right.shape
    for a, copy in zip(given_arguments, before, strict=True):
        np.testing.assert_array_equal(a, copy)
    assert np.abs(actual - right).max() <= allowed(operation, arguments, window)


# ---------------------------------------------------------------------- the algorithm


@pytest.mark.parametrize("taps", [3, 5])
def test_the_matrices_compute_a_correlation(taps):
    A_T, G = matrices(taps)
    rng = np.random.default_rng(0)
    g, d = rng.normal(size=(taps, taps)), rng.normal(size=(6, 6))
    y = A_T @ ((G @ g @ G.T) * (B_T @ d @ B_T.T)) @ A_T.T
    places = range(len(A_T))
    direct = [[(g * d[i : i + taps, j : j + taps]).sum() for j in places] for i in places]
    np.testing.assert_allclose(y, direct, rtol=0, atol=tolerance(np.float64, 25, 256))


@pytest.mark.parametrize("taps", [3, 5])
def test_the_error_growth_is_that_of_the_matrices(taps):
    """By experiment: the size of the numbers that are added up, without any cancelling."""
    A_T, G = matrices(taps)
    rng = np.random.default_rng(1)
    growths = []
    for first, last in ((G, A_T), (A_T.T, G.T)):  # y, and the weight gradient
        terms = first.shape[1]
        g, d = rng.normal(size=(terms, 100_000)), rng.normal(size=(6, 100_000))
        growths.append((last**2 @ ((first @ g) * (B_T @ d)) ** 2).mean(axis=1).max() / terms)
    assert max(growths) == pytest.approx(winograd.ERROR_GROWTH[taps], rel=0.05)


# ---------------------------------------------------------------------- results


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_layers(name, operation):
    check(operation, *problem(*CASES[name]))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if min(case[3]) >= 3])
def test_layers_of_5x5_windows(name, operation):
    N, C, F, size, padding = CASES[name]
    padding = (padding, padding) if isinstance(padding, int) else padding
    check(operation, *problem(N, C, F, size, tuple(p + 1 for p in padding), taps=5))


@st.composite
def problems(draw):
    number = st.integers
    size = draw(st.tuples(number(1, 20), number(1, 20)))
    padding = draw(st.tuples(number(0, 3), number(0, 3)))
    channels = number(1, 40)
    try:
        return problem(
            draw(number(1, 4)), draw(channels), draw(channels), size, padding,
            draw(number(0, 2**32)), draw(st.sampled_from([3, 5])),
        )  # fmt: skip
    except ShapeError:
        assume(False)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(drawn=problems())
def test_drawn_problems(drawn):
    for operation in OPERATIONS:
        check(operation, *drawn)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_any_number_of_workers(name, operation, workers, monkeypatch):
    monkeypatch.setattr(winograd, "get_num_threads", lambda: workers)
    check(operation, *problem(*CASES[name]))


def test_the_cases_take_every_way_of_sharing_out():
    tiles, gradients = [], []
    for N, C, F, size, padding in CASES.values():
        window = Window2d.of(size, 3, padding=padding)
        for workers in (1, 2):
            sizes = window, C, F, N, FLOAT32, workers
            tiles.append((workers, winograd_plans.forward_plan(*sizes)))
            gradients.append(winograd_plans.weight_plan(*sizes))
    splits = {w for w, plan in tiles if len({tuple(task[4:]) for task in plan.tasks}) > 1}
    assert splits == {2}, "panels are split for two workers, and only then"
    assert any(plan.tasks[:, 2].any() for _, plan in tiles), "a row of tiles in parts"
    assert any(len(plan.tasks) > workers for workers, plan in tiles), "several blocks"
    assert {plan.in_parts for plan in gradients} == {True, False}
    assert any(plan.tasks[:, 4].any() for plan in gradients), "several ranges of channels"
    assert any(plan.tasks[:, 9].any() for plan in gradients), "sums that are continued"


def test_no_worker_is_idle_for_long_and_sums_stay_small():
    """Many workers share the channels out, as parts of all sums would be 36 * C * F each."""
    window = Window2d.of((14, 14), 3, padding=1)
    for workers in range(1, 40):
        plan = winograd_plans.weight_plan(window, 512, 512, 8, FLOAT32, workers)
        assert not plan.in_parts
        assert len(plan.tasks) % workers == 0
        ranges = {tuple(task) for task in plan.tasks[:, 4:8].tolist()} - {(0, 0, 0, 0)}
        assert sum((c1 - c0) * (f1 - f0) for c0, c1, f0, f1 in ranges) == 512 * 512
        assert len(ranges) >= winograd_plans.BUSY * -(-len(ranges) // workers) * workers
        assert plan.sums[0] * plan.sums[1] <= workers * 36 * (winograd_plans.CHANNELS + 16) ** 2


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_in_every_run(name, operation):
    numbers = single(arguments_of(operation, *problem(*CASES[name])))
    first = getattr(winograd, operation)(*numbers)
    for _ in range(3):
        np.testing.assert_array_equal(getattr(winograd, operation)(*numbers), first)


@pytest.mark.parametrize("operation", OPERATIONS[:2])
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_for_every_number_of_workers(name, operation, monkeypatch):
    numbers = single(arguments_of(operation, *problem(*CASES[name])))
    results = []
    for workers in (1, 2, 5):
        monkeypatch.setattr(winograd, "get_num_threads", lambda count=workers: count)
        results.append(getattr(winograd, operation)(*numbers))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("name", CASES)
def test_bias_and_relu_at_the_end(name):
    window, x, w, b, _ = single(problem(*CASES[name]))
    bare = winograd.conv2d(x, w, None, window, False)
    plain = winograd.conv2d(x, w, b, window, False)
    np.testing.assert_array_equal(plain, bare + b[:, None, None])
    rectified = winograd.conv2d(x, w, b, window, True)
    np.testing.assert_array_equal(rectified, np.maximum(plain, 0))


@pytest.mark.parametrize("name", CASES)
def test_each_gradient_is_the_transpose_of_the_forward_pass(name):
    """<gy, conv(x, w)> = <gx, x> = <gw, w>, without any reference."""
    window, x, w, _, gy = problem(*CASES[name])
    forward = arguments_of("conv2d", window, x, w, None, gy)
    y = winograd.conv2d(*single(forward))
    gx = winograd.conv2d_grad_input(*single((gy, w, window)))
    gw = winograd.conv2d_grad_weight(*single((gy, x, window)))
    products = [
        (a * b.astype(np.float64)) for a, b in ((gy, y), (x, gx), (w, gw))
    ]  # the error of each sum: that of a result, times a random walk over the other factor
    errors = [
        allowed(name, arguments_of(name, window, x, w, np.zeros(len(w)), gy), window)
        * np.linalg.norm(other)
        for name, other in zip(OPERATIONS, (gy, x, w), strict=True)
    ]
    sums = [p.sum() for p in products]
    assert abs(sums[0] - sums[1]) <= errors[0] + errors[1]
    assert abs(sums[0] - sums[2]) <= errors[0] + errors[2]


# ---------------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_nan_and_infinity_are_never_lost(name, operation, value):
    window, x, w, b, gy = single(problem(*CASES[name]))
    for array in (x, gy):
        array[0, 0, array.shape[2] // 2, array.shape[3] // 2] = value
        array[tuple(np.random.default_rng(2).integers(array.shape))] = value
    arguments = arguments_of(operation, window, x, w, b, gy)
    with np.errstate(invalid="ignore"):
        shows = ~np.isfinite(expected(operation, arguments))
    actual = getattr(winograd, operation)(*arguments)
    assert shows.any()
    assert not np.isfinite(actual[shows]).any()


def test_nan_stays_in_its_tile():
    window, x, w, b, _ = single(problem(2, 16, 16, (12, 12), 1))
    whole = winograd.conv2d(x, w, b, window, False)
    x[1, 3, 5, 5] = np.nan  # a window of each tile but those at the edges right and below has it
    y = winograd.conv2d(x, w, b, window, False)
    assert np.isnan(y[1, :, 4:8, 4:8]).all()
    np.testing.assert_array_equal(y[0], whole[0])
    np.testing.assert_array_equal(y[1, :, 8:, 8:], whole[1, :, 8:, 8:])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_in_the_weights(value):
    window, x, w, b, _ = single(problem(*CASES["whole tiles"]))
    whole = winograd.conv2d(x, w, b, window, False)
    w[5, 3, 1, 2] = value
    y = winograd.conv2d(x, w, b, window, False)
    assert not np.isfinite(y[:, 5]).any()
    np.testing.assert_array_equal(np.delete(y, 5, axis=1), np.delete(whole, 5, axis=1))


@pytest.mark.parametrize("sign", [1, -1])
def test_relu_does_not_hide_infinity_that_is_positive(sign):
    """A wrong sign would: infinity comes out with the right one, or as NaN."""
    window, x, w, b, _ = single(problem(2, 16, 32, (9, 10), 1))
    x[0, 4, 4, 5] = sign * np.inf
    with np.errstate(invalid="ignore"):
        right = REFERENCE.conv2d(x, w, b, window, 1)
    rectified = winograd.conv2d(x, w, b, window, True)
    assert (right == np.inf).any()
    assert not np.isfinite(rectified[right == np.inf]).any()


# ---------------------------------------------------------------------- where it is used


@pytest.fixture
def calls(monkeypatch):
    """The names of Winograd's functions that run."""
    names = []

    def recorded(name, right):
        def run(*arguments):
            names.append(name)
            return right(*arguments)

        return run

    for name in OPERATIONS:
        monkeypatch.setattr(winograd, name, recorded(name, getattr(winograd, name)))
    return names


def run_all(window, x, w, b, gy, groups=1):
    return [
        convolution.conv2d(x, w, b, window, groups),
        convolution.conv2d_affine(x, w, None, b, window, groups, True),
        convolution.conv2d_grad_input(gy, w, window, groups),
        convolution.conv2d_grad_weight(gy, x, window, groups),
    ]


ALL_FOUR = ["conv2d", "conv2d", "conv2d_grad_input", "conv2d_grad_weight"]
LARGE = 4, 32, 48, (14, 14), 1


@pytest.mark.parametrize("taps", [3, 5])
def test_it_is_used_where_it_is_faster(calls, taps):
    run_all(*single(problem(*LARGE, taps=taps)))
    assert calls == ALL_FOUR


def test_float64_is_direct(calls):
    run_all(*problem(*LARGE))
    assert calls == []


OTHERS = {
    "7x7": ((7,), {"padding": 3}, 1),
    "3x5": (((3, 5),), {"padding": (1, 2)}, 1),
    "stride": ((3,), {"stride": 2, "padding": 1}, 1),
    "dilation": ((3,), {"padding": 2, "dilation": 2}, 1),
    "groups": ((3,), {"padding": 1}, 2),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_windows_are_direct(name, calls):
    sizes, keywords, groups = OTHERS[name]
    window = Window2d.of((14, 14), *sizes, **keywords)
    rng = np.random.default_rng(3)
    shapes = (4, 32, 14, 14), (32, 32 // groups, window.kh, window.kw), (32,)
    numbers = [rng.normal(size=s) for s in (*shapes, (4, 32, window.oh, window.ow))]
    run_all(window, *single(numbers), groups)
    assert calls == []


# name: N, C, F, size, padding; whether the forward pass (and the weight gradient) and the input
# gradient use it
CHOICES = {
    "VGG": ((4, 64, 64, (224, 224), 1), (True, True)),
    "VGG's first layer": ((4, 3, 64, (224, 224), 1), (False, False)),
    "ResNet's last layers": ((8, 512, 512, (7, 7), 1), (True, True)),
    "one image of 4 tiles": ((1, 512, 512, (7, 7), 1), (True, True)),
    "one tile": ((1, 64, 64, (4, 4), 1), (False, False)),
    "tiles half empty": ((64, 64, 64, (5, 5), 1), (False, False)),
    "8 channels": ((64, 8, 8, (32, 32), 1), (False, False)),
    "8 channels to 16": ((64, 8, 16, (32, 32), 1), (True, True)),
    "the size of the result counts": ((64, 64, 64, (7, 7), 0), (False, True)),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_choice(name):
    (N, C, F, size, padding), choices = CHOICES[name]
    window = Window2d.of(size, 3, padding=padding)
    y, x = (window.oh, window.ow), (window.h, window.w)
    for out, choice in zip((y, x), choices, strict=True):
        assert winograd.is_used(window, out, N, C, F, 1, FLOAT32) == choice


# ---------------------------------------------------------------------- the switch


def test_direct_convolution_is_bit_for_bit_what_the_direct_loops_compute(calls, monkeypatch):
    numbers = single(problem(*LARGE))
    with minicnn.direct_convolution() as setting:
        assert algorithms.is_direct()
        assert isinstance(setting, minicnn.direct_convolution)
        direct = run_all(*numbers)
    assert calls == []
    assert not algorithms.is_direct()
    run_all(*numbers)
    assert calls == ALL_FOUR
    monkeypatch.setattr(winograd, "is_used", lambda *arguments: False)
    for a, b in zip(direct, run_all(*numbers), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_setting_holds_without_a_block_and_blocks_nest():
    minicnn.direct_convolution()
    assert algorithms.is_direct()
    with minicnn.direct_convolution(False):
        assert not algorithms.is_direct()
        with pytest.raises(KeyError), minicnn.direct_convolution():
            raise KeyError
        assert not algorithms.is_direct()
    assert algorithms.is_direct()
    minicnn.direct_convolution(False)


@pytest.mark.parametrize(("value", "direct"), [("0", True), ("1", False), ("", False)])
def test_the_environment_variable(value, direct):
    code = "from minicnn_kernels import algorithms; print(algorithms.is_direct())"
    environment = {**os.environ, algorithms.ENVIRONMENT_VARIABLE: value}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(direct)


def test_both_give_a_layer_the_same_gradient_up_to_rounding():
    changes = []
    for direct in (False, True):
        minicnn.seed(0)
        with minicnn.direct_convolution(direct):
            layer = minicnn.nn.Conv2d(16, 32, 3, padding=1)
            x = np.random.default_rng(4).normal(size=(2, 16, 16, 16)).astype(np.float32)
            y = layer(minicnn.Tensor(x))
            (y * y).sum().backward()
            changes.append(layer.weight.grad)
    terms = 2 * 16 * 16 * 16 * 9
    limit = winograd.ERROR_GROWTH[3] * tolerance(np.float32, terms, np.abs(changes[1]).max())
    assert 0 < np.abs(changes[0] - changes[1]).max() <= limit


# ---------------------------------------------------------------------- other processors


@pytest.mark.slow  # compiles everything anew
@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="code for x86")
@pytest.mark.parametrize(
    "processor", ["haswell", pytest.param("x86-64", marks=pytest.mark.sampled(0))]
)
def test_narrower_vectors(processor, tmp_path):
    names = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": OTHER_PROCESSORS[processor]}
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path), **names)
    tests = [f"{__file__}::{test}" for test in ("test_layers", "test_bias_and_relu_at_the_end")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
