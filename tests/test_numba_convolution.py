"""The register-tile convolution against the reference in float64."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minicnn.testing.tolerance import tolerance
from minicnn_kernels.algorithms import direct_convolution
from minicnn_kernels.errors import ShapeError
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import convolution, convolution_plans, microkernel
from minicnn_kernels.numba_cpu.depthwise_plans import is_depthwise
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)
OPERATIONS = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight")

# name: N, C, F, size, kernel, stride, padding, dilation, groups
CASES = {
    "notes' first layer": (3, 1, 16, (28, 28), 5, 1, 2, 1, 1),
    "notes' second layer": (5, 16, 32, (14, 14), 5, 1, 2, 1, 1),
    "stem with stride": (2, 3, 64, (31, 29), 7, 2, 3, 1, 1),
    "first of AlexNet": (2, 3, 16, (39, 39), 11, 4, 2, 1, 1),
    "small map, many channels": (5, 72, 48, (7, 7), 3, 1, 1, 1, 1),
    "more numbers than a block": (2, 80, 24, (6, 5), 3, 1, 1, 1, 1),
    "large map, copied": (2, 16, 32, (60, 60), 3, 1, 1, 1, 1),
    "rows of one large image": (1, 64, 16, (70, 120), 3, 1, 1, 1, 1),
    "more pixels than a block": (9, 12, 16, (14, 14), 3, 1, 1, 1, 1),
    "stride 2": (4, 16, 32, (15, 14), 3, 2, 1, 1, 1),
    "stride beyond the kernel": (2, 4, 6, (9, 9), 1, 2, 0, 1, 1),
    "1x1": (3, 24, 40, (7, 9), 1, 1, 0, 1, 1),
    "1x1, padded": (2, 6, 5, (4, 4), 1, 1, 1, 1, 1),
    "1x7": (2, 16, 16, (17, 17), (1, 7), 1, (0, 3), 1, 1),
    "same, even kernel": (2, 4, 6, (9, 9), 2, 1, "same", 1, 1),
    "dilated": (2, 16, 16, (20, 20), 3, 1, 4, 4, 1),
    "padding beyond the kernel": (2, 3, 10, (8, 8), 3, 1, 5, 1, 1),
    "kernel as large as the map": (3, 4, 16, (6, 6), 6, 1, 0, 1, 1),
    "depthwise": (3, 20, 20, (12, 12), 3, 1, 1, 1, 20),
    "depthwise with stride": (3, 20, 20, (13, 12), 3, 2, 1, 1, 20),
    "groups": (2, 32, 48, (10, 13), 3, 1, 1, 1, 4),
    "1x1 map": (3, 40, 16, (1, 1), 3, 1, 1, 1, 1),
    "one image, one channel": (1, 1, 1, (5, 5), 3, 1, 1, 1, 1),
    "many weights, shared out": (2, 96, 320, (5, 5), 3, 1, 1, 1, 1),
}


@pytest.fixture(autouse=True)
def _without_winograd():
    with direct_convolution():
        yield


def problem(N, C, F, size, kernel, stride, padding, dilation, groups, seed=0):
    """The window and float64 numbers that float32 holds exactly."""
    window = Window2d.of(size, kernel, stride, padding, dilation)
    rng = np.random.default_rng(seed)
    shapes = (
        (N, C, *size),
        (F, C // groups, window.kh, window.kw),
        (F,),
        (N, F, window.oh, window.ow),
    )
    x, w, b, gy = (rng.normal(size=s).astype(np.float32).astype(np.float64) for s in shapes)
    return window, {
        "conv2d": (x, w, b, window, groups),
        "conv2d_grad_input": (gy, w, window, groups),
        "conv2d_grad_weight": (gy, x, window, groups),
    }


def terms(operation, arguments, window):
    """Numbers added up for one result, counted generously."""
    if operation == "conv2d_grad_weight":
        return max(arguments[0].shape[0] * window.oh * window.ow, 1)
    return arguments[1].size + 1


def mapped(arguments, change):
    return [change(a) if isinstance(a, np.ndarray) else a for a in arguments]


def check(operation, arguments, dtype, window):
    """The result in ``dtype`` against the reference in float64."""
    expected = getattr(REFERENCE, operation)(*arguments)
    reach = getattr(REFERENCE, operation)(*mapped(arguments, np.abs))  # nothing cancels in it
    given_arguments = mapped(arguments, lambda a: np.asfortranarray(a.astype(dtype)))
    before = mapped(given_arguments, np.copy)
    actual = getattr(convolution, operation)(*given_arguments)
    assert actual.dtype == dtype
    assert actual.flags.c_contiguous
    assert actual.shape == expected.shape
    for a, copy in zip(given_arguments, before, strict=True):
        np.testing.assert_array_equal(a, copy)
    allowed = tolerance(dtype, terms(operation, arguments, window), float(reach.max(initial=0.0)))
    assert np.abs(actual - expected).max(initial=0.0) <= allowed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_layers(name, operation, dtype):
    window, arguments = problem(*CASES[name])
    check(operation, arguments[operation], dtype, window)


@st.composite
def problems(draw):
    number = st.integers
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    pairs = [draw(st.tuples(number(low, high), number(low, high))) for low, high in BOUNDS]
    C, F = groups * draw(number(1, 20)), groups * draw(number(1, 20))
    try:
        return problem(draw(number(0, 5)), C, F, *pairs, groups, draw(number(0, 2**32)))
    except ShapeError:
        assume(False)


BOUNDS = ((1, 30), (1, 5), (1, 3), (0, 3), (1, 2))  # size, kernel, stride, padding, dilation


@settings(max_examples=60, deadline=None, derandomize=True)
@given(drawn=problems())
def test_drawn_windows(drawn):
    window, arguments = drawn
    for operation in OPERATIONS:
        check(operation, arguments[operation], np.float32, window)


def test_overhanging_windows():
    window = Window2d.of((8, 7), 3, stride=2, ceil_mode=True)
    rng = np.random.default_rng(1)
    x, w, gy = (rng.normal(size=s) for s in ((2, 5, 8, 7), (16, 5, 3, 3), (2, 16, 4, 3)))
    check("conv2d", (x, w, None, window, 1), np.float64, window)
    check("conv2d_grad_input", (gy, w, window, 1), np.float64, window)
    check("conv2d_grad_weight", (gy, x, window, 1), np.float64, window)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_any_number_of_workers(name, operation, workers, monkeypatch):
    monkeypatch.setattr(convolution, "get_num_threads", lambda: workers)
    window, arguments = problem(*CASES[name])
    check(operation, arguments[operation], np.float32, window)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_in_every_run(name, operation):
    _, arguments = problem(*CASES[name])
    numbers = mapped(arguments[operation], lambda a: a.astype(np.float32))
    first = getattr(convolution, operation)(*numbers)
    for _ in range(3):
        np.testing.assert_array_equal(getattr(convolution, operation)(*numbers), first)


@pytest.mark.parametrize("operation", OPERATIONS[:2])
@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_for_every_number_of_workers(name, operation, monkeypatch):
    _, arguments = problem(*CASES[name])
    numbers = mapped(arguments[operation], lambda a: a.astype(np.float32))
    results = []
    for workers in (1, 2, 5):
        monkeypatch.setattr(convolution, "get_num_threads", lambda count=workers: count)
        results.append(getattr(convolution, operation)(*numbers))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_images(dtype):
    window, arguments = problem(0, 4, 6, (5, 5), 3, 1, 1, 1, 1)
    for operation in OPERATIONS:
        check(operation, arguments[operation], dtype, window)


def test_no_channels():
    window, arguments = problem(2, 0, 6, (5, 5), 3, 1, 1, 1, 1)
    x, w, b, *_ = arguments["conv2d"]
    y = convolution.conv2d_affine(x, w, None, b, window, 1, True)
    np.testing.assert_array_equal(y, np.broadcast_to(np.maximum(b, 0)[:, None, None], y.shape))
    window, arguments = problem(2, 4, 0, (5, 5), 3, 1, 1, 1, 1)
    assert not convolution.conv2d_grad_input(*arguments["conv2d_grad_input"]).any()
    assert convolution.conv2d_grad_weight(*arguments["conv2d_grad_weight"]).shape == (0, 4, 3, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", CASES)
def test_nan_and_infinity_show_where_they_show_in_the_reference(name, operation, value):
    _, arguments = problem(*CASES[name])
    numbers = mapped(arguments[operation], lambda a: a.astype(np.float32))
    moving = numbers[1] if operation == "conv2d_grad_weight" else numbers[0]
    moving[0, 0, moving.shape[2] // 2, moving.shape[3] // 2] = value
    with np.errstate(invalid="ignore"):
        expected = getattr(REFERENCE, operation)(*numbers)
    actual = getattr(convolution, operation)(*numbers)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(actual), finite)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])


@pytest.mark.parametrize("name", CASES)
def test_relu_at_the_end(name):
    window, arguments = problem(*CASES[name])
    x, w, b, window, groups = mapped(arguments["conv2d"], lambda a: a.astype(np.float32))
    plain = convolution.conv2d(x, w, b, window, groups)
    rectified = convolution.conv2d_affine(x, w, None, b, window, groups, True)
    np.testing.assert_array_equal(rectified, np.maximum(plain, 0))
    x[...] = np.nan
    assert np.isnan(convolution.conv2d_affine(x, w, None, b, window, groups, True)).any()


def test_every_loop_is_taken_by_some_case():
    kinds = set()
    for N, C, F, size, kernel, stride, padding, dilation, groups in CASES.values():
        if is_depthwise(C // groups, F, groups):
            continue
        window = Window2d.of(size, kernel, stride, padding, dilation)
        sizes = window, C // groups, F, N, groups, np.dtype(np.float32), 2
        for plan in (
            convolution_plans.forward_plan(*sizes),
            *convolution_plans.input_plans(*sizes),
        ):
            if isinstance(plan, convolution_plans.LanesPlan):
                kinds.add(("lanes", plan.shape.in_place))
            else:
                rows = plan.blocking.rows == 1
                kinds.add(("direct" if plan.blocking.direct else "gathered", rows))
    in_place = {("lanes", True), ("lanes", False)}
    assert kinds >= {*in_place, ("direct", True), ("direct", False), ("gathered", False)}


def test_relu_waits_for_the_last_block_of_numbers():
    rng = np.random.default_rng(4)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, 1100, 5, 5), (9, 1100, 1, 1)))
    window = Window2d.of((5, 5), 1)
    y = convolution.conv2d(x, w, None, window, 1)
    rectified = convolution.conv2d_affine(x, w, None, None, window, 1, True)
    np.testing.assert_array_equal(rectified, np.maximum(y, 0))


def test_a_factor_and_a_shift_for_each_filter():
    rng = np.random.default_rng(5)
    x, w = (rng.standard_normal(s) for s in ((2, 3, 6, 5), (4, 3, 3, 3)))
    scale, shift = np.array([2.0, -1.0, 0.0, 0.5]), np.array([0.0, 3.0, -1.0, 1.0])
    window = Window2d.of((6, 5), 3, padding=1)
    y = convolution.conv2d(x, w, None, window, 1)
    expected = y * scale.reshape(1, 4, 1, 1) + shift.reshape(1, 4, 1, 1)
    allowed = tolerance(np.float64, 3, float(np.abs(expected).max()))
    for relu in (False, True):
        actual = convolution.conv2d_affine(x, w, scale, shift, window, 1, relu)
        exact = np.maximum(expected, 0) if relu else expected
        np.testing.assert_allclose(actual, exact, rtol=0, atol=allowed)


OTHER_PROCESSORS = {
    "haswell": "+sse,+sse2,+sse3,+sse4.1,+sse4.2,+avx,+avx2,+fma,+64bit,+cx8,+fxsr",
    "x86-64": "+sse,+sse2,+64bit,+cx8,+fxsr",
}


@pytest.mark.slow  # compiles everything anew
@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="code for x86")
@pytest.mark.parametrize(
    ("processor", "lanes"),
    [("haswell", 8), pytest.param("x86-64", 4, marks=pytest.mark.sampled(0))],
)
def test_narrower_vectors(processor, lanes, tmp_path):
    names = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": OTHER_PROCESSORS[processor]}
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path), LANES=str(lanes), **names)
    depthwise = Path(__file__).with_name("test_depthwise.py")
    tests = [f"{file}::test_layers" for file in (__file__, depthwise)]
    tests.append(f"{__file__}::test_lanes_of_the_processor")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_lanes_of_the_processor():
    lanes = microkernel.lanes(np.dtype(np.float32))
    assert lanes == int(os.environ.get("LANES", lanes))
    assert lanes in {4, 8, 16}
    assert microkernel.ROWS * microkernel.VECTORS in {12, 24}  # sums in 16 or 32 registers


CALL = """
import numpy as np
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import convolution
gy, x = np.ones((2, 3, 4, 4), np.float32), np.ones((2, 2, 4, 4), np.float32)
gw = convolution.conv2d_grad_weight(gy, x, Window2d.of((4, 4), 3, padding=1), 1)
print(gw[0, 0, 1, 1])
"""


def test_compiled_once_for_all_processes(tmp_path):
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))
    runs = [
        subprocess.run(
            [sys.executable, "-c", CALL],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        for _ in range(2)
    ]
    assert [run.stdout.strip() for run in runs] == ["32.0", "32.0"]
    assert "compiling" in runs[0].stderr
    assert runs[1].stderr == ""
