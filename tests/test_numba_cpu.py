"""The compiled CPU set against the reference, primitive by primitive."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minicnn_kernels import registry, threads
from minicnn_kernels.errors import BackendError, ShapeError
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import (
    NumbaKernels,
    arithmetic,
    batch_norm,
    columns,
    convolution,
    elementwise,
    kernels,
    linear,
    lrn,
    pooling,
    softmax,
)
from minicnn_kernels.reference import PRIMITIVES, Kernels

REFERENCE = Kernels(np)
MODULES = (
    arithmetic,
    columns,
    convolution,
    linear,
    pooling,
    batch_norm,
    lrn,
    elementwise,
    softmax,
)
PLANES = (3, 5, 7, 6)  # N C H W of the tests without a window

drawn = settings(max_examples=30, deadline=None, derandomize=True)


@pytest.fixture(scope="module", autouse=True)
def _compile_small_arrays():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "SMALL", 0)
        yield


@pytest.fixture(scope="module")
def compiled():
    return NumbaKernels(np, strict=True)


@st.composite
def windows(draw, most_padding=3):
    number = st.integers
    size = draw(st.tuples(number(1, 9), number(1, 9)))
    kernel = draw(st.tuples(number(1, 4), number(1, 4)))
    stride = draw(st.tuples(number(1, 3), number(1, 3)))
    padding = draw(st.tuples(number(0, most_padding), number(0, most_padding)))
    dilation = draw(st.tuples(number(1, 3), number(1, 2)))
    try:
        return Window2d.of(size, kernel, stride, padding, dilation, draw(st.booleans()))
    except ShapeError:
        assume(False)


batches = st.integers(0, 3)
seeds = st.integers(0, 2**32)


def normal(seed, *shape, dtype=np.float64):
    """Normal numbers; those of an odd seed are not contiguous in memory."""
    x = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    return np.asfortranarray(x) if seed % 2 and x.ndim > 1 else x


def both(compiled, primitive, *args):
    """Results of the compiled and the reference primitive, after checking the contract."""
    before = [np.copy(a) if isinstance(a, np.ndarray) else a for a in args]
    actual = getattr(compiled, primitive)(*args)
    with np.errstate(all="ignore"):
        expected = getattr(REFERENCE, primitive)(*args)
    for argument, copy in zip(args, before, strict=True):
        if isinstance(argument, np.ndarray):
            np.testing.assert_array_equal(argument, copy, err_msg="an input was changed")
    actual = actual if isinstance(actual, tuple) else (actual,)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        assert a.dtype == e.dtype
        assert a.flags.c_contiguous
        assert not any(np.shares_memory(a, b) for b in args if isinstance(b, np.ndarray))
    return actual, expected


def check_equal(compiled, primitive, *args):
    for a, e in zip(*both(compiled, primitive, *args), strict=True):
        np.testing.assert_array_equal(a, e)


def check_close(compiled, primitive, *args, terms, scale):
    """Compare within the rounding of ``terms`` additions whose sum may reach ``scale``."""
    for a, e in zip(*both(compiled, primitive, *args), strict=True):
        bound = 8 * np.finfo(e.dtype).eps * np.sqrt(terms) * scale
        np.testing.assert_allclose(a, e, rtol=0, atol=bound)


def reach(primitive, *args):
    """Largest result of the reference for the absolute values: what its sums could reach."""
    args = [abs(a) if isinstance(a, np.ndarray) else a for a in args]
    return np.max(getattr(REFERENCE, primitive)(*args), initial=0.0)


# ---------------------------------------------------------------------- the set as a whole


ARRAY_CODE = {"batch_norm_move", "squared_norm", "scale_by"}


@pytest.mark.parametrize("primitive", sorted(NumbaKernels.overridden() - ARRAY_CODE))
def test_signature_is_that_of_the_reference(primitive):
    functions = [getattr(m, primitive) for m in MODULES if hasattr(m, primitive)]
    reference = inspect.signature(getattr(Kernels, primitive))
    without_self = reference.replace(parameters=list(reference.parameters.values())[1:])
    assert [inspect.signature(f) for f in functions] == [without_self]
    assert inspect.signature(getattr(NumbaKernels, primitive)) == reference


def test_describe_lists_what_is_compiled_and_what_is_not():
    lines = registry.describe().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("numba (cpu)"))
    own = NumbaKernels.overridden()
    assert lines[start + 1] == f"  own ({len(own)}): {', '.join(sorted(own))}"
    assert f"from the reference ({len(PRIMITIVES - own)}): " in lines[start + 2]
    assert "max_pool2d" in lines[start + 1]
    assert "tanh" in lines[start + 2]


def test_strict_mode_refuses_a_primitive_without_loops(compiled):
    with pytest.raises(BackendError, match=r"tanh: the 'numba' kernels do not implement it"):
        compiled.tanh(np.ones(3))


def test_unsupported_dtypes_fall_back_and_strict_mode_refuses_them(compiled):
    half, mixed = np.float16([-1, 2]), (np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 1, 1)))
    relaxed = NumbaKernels(np)
    np.testing.assert_array_equal(relaxed.relu(half), np.float16([0, 2]))
    with pytest.raises(BackendError, match=r"relu: .*float32 or float64 throughout, not float16"):
        compiled.relu(half)
    window = Window2d.of((2, 2), 1)
    with pytest.raises(BackendError, match=r"conv2d: .* not float32 and float64"):
        compiled.conv2d(*mixed, None, window, 1)


def test_keyword_arguments_reach_the_loops(compiled):
    x = normal(0, *PLANES)
    expected = REFERENCE.leaky_relu(x, 0.1)
    np.testing.assert_array_equal(compiled.leaky_relu(negative_slope=0.1, x=x), expected)


def test_small_arrays_take_array_code_even_in_strict_mode(compiled, monkeypatch):
    monkeypatch.setattr(kernels, "SMALL", 4)
    monkeypatch.setattr(elementwise, "_relu", None)
    np.testing.assert_array_equal(compiled.relu(np.array([-1.0, 0.0, 1.0])), [0, 0, 1])
    with pytest.raises(TypeError, match="not callable"):
        compiled.relu(np.ones(4))


# ---------------------------------------------------------------------- convolution


@drawn
@given(window=windows(), N=batches, C=st.integers(1, 3), seed=seeds)
def test_columns(compiled, window, N, C, seed):
    check_equal(compiled, "im2col", normal(seed, N, C, window.h, window.w), window)
    col = normal(seed, N, C, window.kh, window.kw, window.oh, window.ow)
    scale = reach("col2im", col, window)
    check_close(compiled, "col2im", col, window, terms=window.taps, scale=scale)


def check_conv2d(compiled, window, N, C, F, groups, bias, seed, dtype=np.float64):
    x = normal(seed, N, C * groups, window.h, window.w, dtype=dtype)
    w = normal(seed + 1, F * groups, C, window.kh, window.kw, dtype=dtype)
    gy = normal(seed + 2, N, F * groups, window.oh, window.ow, dtype=dtype)
    b = normal(seed + 3, F * groups, dtype=dtype) if bias else None
    for primitive, args, terms in (
        ("conv2d", (x, w, b, window, groups), C * window.taps + 1),
        ("conv2d_grad_input", (gy, w, window, groups), F * window.taps),
        ("conv2d_grad_weight", (gy, x, window, groups), N * window.oh * window.ow),
        ("conv2d_grad_bias", (gy,), N * window.oh * window.ow),
    ):
        check_close(compiled, primitive, *args, terms=terms, scale=reach(primitive, *args))


@drawn
@given(
    window=windows(),
    N=batches,
    C=st.integers(1, 3),
    F=st.integers(1, 3),
    groups=st.integers(1, 3),
    bias=st.booleans(),
    seed=seeds,
)
def test_conv2d(compiled, window, N, C, F, groups, bias, seed):
    check_conv2d(compiled, window, N, C, F, groups, bias, seed)


@pytest.mark.parametrize("stride", [1, 2])
def test_conv2d_in_float32(compiled, stride):
    window = Window2d.of((13, 11), 3, stride=stride, padding=1)
    check_conv2d(compiled, window, 4, 6, 8, 1, True, 5, np.float32)


# ---------------------------------------------------------------------- pooling


def check_pool2d(compiled, window, N, C, seed, dtype=np.float64):
    x = normal(seed, N, C, window.h, window.w, dtype=dtype)
    gy = normal(seed + 1, N, C, window.oh, window.ow, dtype=dtype)
    for primitive in ("max_pool2d", "min_pool2d"):
        check_equal(compiled, primitive, x, window)
        args = gy, REFERENCE.max_pool2d(x, window)[1], window
        scale = window.taps * abs(gy).max(initial=0)
        check_close(compiled, "max_pool2d_grad", *args, terms=window.taps, scale=scale)
    taps, scales = normal(seed + 2, window.kh, window.kw), normal(seed + 3, window.oh, window.ow)
    for primitive, array in (("weighted_pool2d", x), ("weighted_pool2d_grad", gy)):
        args = array, taps, scales, window
        check_close(compiled, primitive, *args, terms=window.taps, scale=reach(primitive, *args))


@drawn
@given(window=windows(), N=batches, C=st.integers(1, 3), seed=seeds)
def test_pool2d(compiled, window, N, C, seed):
    check_pool2d(compiled, window, N, C, seed)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_pool2d_in_float32(compiled, kernel, stride, padding):
    window = Window2d.of((37, 35), kernel, stride, padding, ceil_mode=True)
    check_pool2d(compiled, window, 2, 3, 6, np.float32)


def test_max_pool2d_with_more_taps_than_a_byte_holds(compiled):
    check_pool2d(compiled, Window2d.of((20, 19), (18, 16)), 1, 2, 7)


@pytest.mark.parametrize("stride", [1, 2])
def test_pool2d_of_equal_values_nan_and_infinity(compiled, stride):
    values = np.array([-np.inf, np.inf, np.nan, -1.0, 0.0, 0.0, 2.0])
    x = np.random.default_rng(8).choice(values, size=(2, 3, 20, 21))
    x[0, 0] = -np.inf  # no value of such a window beats the padding
    window = Window2d.of((20, 21), 3, stride=stride, padding=1)
    check_equal(compiled, "max_pool2d", x, window)
    check_equal(compiled, "min_pool2d", x, window)
    tap = REFERENCE.max_pool2d(x, window)[1]
    check_equal(compiled, "max_pool2d_grad", np.ones(tap.shape), tap, window)


@drawn
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    bins=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    N=batches,
    seed=seeds,
)
def test_adaptive_pool2d(compiled, size, bins, N, seed):
    x, gy = normal(seed, N, 2, *size), normal(seed + 1, N, 2, *bins)
    terms = size[0] * size[1]
    scale = abs(x).max(initial=0)
    check_close(compiled, "adaptive_avg_pool2d", x, bins, terms=terms, scale=scale)
    scale = reach("adaptive_avg_pool2d_grad", gy, size)
    check_close(compiled, "adaptive_avg_pool2d_grad", gy, size, terms=terms, scale=scale)
    check_equal(compiled, "adaptive_max_pool2d", x, bins)
    check_equal(compiled, "adaptive_max_pool2d", np.round(x), bins)  # many equal values
    position = REFERENCE.adaptive_max_pool2d(x, bins)[1]
    check_close(
        compiled, "adaptive_max_pool2d_grad", gy, position, size, terms=terms, scale=abs(gy).sum()
    )


def test_adaptive_max_pool2d_of_equal_values_nan_and_infinity(compiled):
    values = np.array([-np.inf, np.inf, np.nan, -1.0, 0.0, 0.0, 2.0])
    x = np.random.default_rng(8).choice(values, size=(4, 3, 11, 9))
    check_equal(compiled, "adaptive_max_pool2d", x, (4, 5))


# ---------------------------------------------------------------------- normalisation


@drawn
@given(
    C=st.integers(1, 6),
    size=st.integers(1, 7),
    beta=st.sampled_from([0.75, 0.5, 1.0]),
    cells=st.sampled_from([(), (3, 4), (9, 15)]),
    N=batches,
    seed=seeds,
)
def test_local_response_norm(compiled, C, size, beta, cells, N, seed):
    x, gy = normal(seed, N, C, *cells), normal(seed + 1, N, C, *cells)
    alpha, k = 0.5, 1.0
    largest = max(1.0, abs(x).max(initial=0))
    args = x, size, alpha, beta, k
    check_close(compiled, "local_response_norm", *args, terms=size, scale=size * largest**2)
    s = REFERENCE.local_response_norm(*args)[1]
    scale = abs(gy).max(initial=0) * (1 + 2 * alpha * beta * size * largest**2)
    args = gy, x, s, size, alpha, beta
    check_close(compiled, "local_response_norm_grad", *args, terms=size, scale=scale)


# ---------------------------------------------------------------------- elementwise


@pytest.mark.parametrize("shape", [(0,), (), (1, 1), (7, 1000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations(compiled, shape, dtype):
    x, gy = normal(13, *shape, dtype=dtype), normal(14, *shape, dtype=dtype)
    check_equal(compiled, "relu", x)
    check_equal(compiled, "relu_grad", gy, np.maximum(x, 0))
    check_equal(compiled, "leaky_relu", x, 0.1)
    check_equal(compiled, "leaky_relu_grad", gy, x, 0.1)
    largest = max(1, abs(gy).max(initial=0)) * max(1, abs(x).max(initial=0)) ** 2
    check_close(compiled, "sigmoid", 9 * x, terms=1, scale=1)
    check_close(compiled, "sigmoid_grad", gy, x, terms=2, scale=largest)
    check_close(compiled, "tanh_grad", gy, x, terms=2, scale=largest)


def test_sigmoid_does_not_overflow(compiled):
    x = np.array([-np.inf, -1e4, -800, 0, 800, 1e4, np.inf, np.nan])
    check_equal(compiled, "sigmoid", x)


@pytest.mark.parametrize("primitive", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arithmetic(compiled, primitive, dtype):
    a, b = (np.ascontiguousarray(normal(seed, 30, 41, dtype=dtype)) for seed in (32, 34))
    check_equal(compiled, primitive, a, b)
    b[3] = 0
    check_equal(compiled, primitive, a, b)


def test_arithmetic_leaves_numbers_broadcasting_and_views_to_array_code(compiled, monkeypatch):
    monkeypatch.setattr(arithmetic, "_elementwise", None)
    x = np.ones((4, 6))
    for a, b in ((x, 2.0), (2.0, x), (x, x[:1]), (x[:, ::2], x[:, ::2])):
        np.testing.assert_array_equal(compiled.add(a, b), a + b)
    with pytest.raises(TypeError, match="not callable"):
        compiled.add(x, x)
    monkeypatch.setattr(kernels, "SMALL", 4)
    compiled.add(x, x)


@drawn
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    before=st.sampled_from([(), (3,), (2, 3)]),
    after=st.sampled_from([(), (4,), (5, 7), (20000,)]),
    dtype=st.sampled_from([np.float32, np.float64, np.uint8]),
    from_the_end=st.booleans(),
)
def test_concat(compiled, lengths, before, after, dtype, from_the_end):
    rng, axis = np.random.default_rng(0), len(before)
    arrays = [rng.integers(0, 99, (*before, n, *after)).astype(dtype) for n in lengths]
    axis -= arrays[0].ndim if from_the_end else 0
    check_equal(compiled, "concat", arrays, axis)
    assert not any(np.shares_memory(compiled.concat(arrays, axis), a) for a in arrays)


def test_concat_leaves_small_arrays_views_and_mixed_dtypes_to_array_code(compiled, monkeypatch):
    monkeypatch.setattr(arithmetic, "_copy_runs", None)
    x = np.ones((4, 6))
    for arrays in ([x, x[:, ::2]], [x, x.astype(np.float32)]):
        np.testing.assert_array_equal(compiled.concat(arrays, 1), np.concatenate(arrays, 1))
    with pytest.raises(TypeError, match="not callable"):
        compiled.concat([x, x], 1)
    monkeypatch.setattr(kernels, "SMALL", 7)
    compiled.concat([x, x], 1)


@drawn
@given(
    units=st.integers(0, 50),
    unit=st.sampled_from([1, 2, 7, 5000]),
    p=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    key=st.integers(0, 2**64 - 1),
)
def test_dropout_draws_the_mask_of_the_reference(compiled, units, unit, p, key):
    x = normal(key, units * unit)
    check_equal(compiled, "dropout", x, p, key, unit)
    check_equal(compiled, "random_keep", x.size, p, key)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [None, 0.9])
def test_sgd_step(compiled, dtype, weight_decay, nesterov, momentum):
    def stepped(kernel_set):
        p, g, v = (normal(seed, 9, 11, dtype=dtype) for seed in (16, 15, 18))
        lists = [p], [g], None if momentum is None else [v]
        for _ in range(3):
            kernel_set.sgd_step(*lists, 0.1, momentum or 0, 0.2, weight_decay, nesterov)
        return p, v

    for a, e in zip(stepped(compiled), stepped(REFERENCE), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=8 * np.finfo(dtype).eps * abs(e).max() * 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_step(compiled, dtype, weight_decay, decoupled):
    def stepped(kernel_set):
        p, g, m, v = (normal(seed, 9, 11, dtype=dtype) for seed in (20, 19, 22, 24))
        v *= v
        rates = 0.1, (0.9, 0.99), 1e-8, weight_decay, decoupled
        for step in (1, 2, 3):
            kernel_set.adam_step([p], [g], [m], [v], step, *rates)
        return p, m, v

    for a, e in zip(stepped(compiled), stepped(REFERENCE), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=8 * np.finfo(dtype).eps * abs(e).max() * 3)


def test_steps_on_arrays_that_are_not_contiguous_update_them_in_place(compiled):
    p, whole = np.ones((2, 6)), np.ones((2, 6))
    with pytest.raises(BackendError, match=r"sgd_step: .*to update in place is not contiguous"):
        compiled.sgd_step([p[:, ::2]], [np.ones((2, 3))], None, 0.5, 0.0, 0.0, 0.0, False)
    strided = [whole[:, ::2]], [np.ones((2, 3))], None
    NumbaKernels(np).sgd_step(*strided, 0.5, 0.0, 0.0, 0.0, False)
    np.testing.assert_array_equal(whole, np.tile([0.5, 1.0], (2, 3)))


# ---------------------------------------------------------------------- NaN, threads, compilation


def cases(dtype):
    """Arguments of every primitive whose result must not depend on the number of threads."""
    shape = 4, 6, 13, 11
    H, W = shape[2:]
    x, gy = normal(25, *shape, dtype=dtype), normal(27, *shape, dtype=dtype)
    window = Window2d.of((H, W), 3, stride=1, padding=1)
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    col, s = REFERENCE.im2col(x, window), 1 + x * x
    tap, ones = REFERENCE.max_pool2d(x, window)[1], np.ones((H, W))
    contiguous, other = np.ascontiguousarray(x), np.ascontiguousarray(gy)
    position = REFERENCE.adaptive_max_pool2d(x, (5, 4))[1]
    return {
        "im2col": (x, window),
        "col2im": (col, window),
        "conv2d_grad_bias": (gy,),
        "max_pool2d": (x, window),
        "min_pool2d": (x, window),
        "max_pool2d_grad": (gy, tap, window),
        "weighted_pool2d": (x, ones[:3, :3], ones, window),
        "weighted_pool2d_grad": (gy, ones[:3, :3], ones, window),
        "adaptive_avg_pool2d": (x, (5, 4)),
        "adaptive_avg_pool2d_grad": (gy[:, :, :5, :4], (H, W)),
        "batch_norm_statistics": (x,),
        "batch_norm_grad": (gy, x, var, mean, var, 1e-5),
        "batch_norm_eval": (x, mean, var, mean, var, 1e-5),
        "batch_norm_eval_grad": (gy, x, var, mean, var, 1e-5),
        "batch_norm_relu": (x, mean, var, mean, var, 1e-5, gy),
        "batch_norm_relu_grad": (gy, x, var, mean, mean, var, 1e-5),
        "batch_norm_relu_max_pool2d": (x, mean, var, mean, var, 1e-5, window),
        "batch_norm_relu_max_pool2d_grad": (gy, x, tap, x, var, mean, mean, var, 1e-5, window),
        "local_response_norm": (x, 5, 0.1, 0.75, 2.0),
        "local_response_norm_grad": (gy, x, s, 5, 0.1, 0.75),
        "relu": (x,),
        "relu_grad": (gy, x),
        "leaky_relu": (x, 0.1),
        "leaky_relu_grad": (gy, x, 0.1),
        "sigmoid": (x,),
        "sigmoid_grad": (gy, x),
        "tanh_grad": (gy, x),
        "softmax": (x, 3),
        "softmax_grad": (gy, x, 3),
        "log_softmax": (x, 3),
        "log_softmax_grad": (gy, x, 3),
        "softmax_cross_entropy": (x[:, 0, 0], abs(gy[:, 0, 0])),
        "softmax_cross_entropy_grad": (x[:, 0, 0, 0], gy[:, 0, 0], x[:, 1, 1]),
        "add": (contiguous, other),
        "subtract": (contiguous, other),
        "multiply": (contiguous, other),
        "divide": (contiguous, abs(other)),
        "concat": ([contiguous, other], 1),
        "adaptive_max_pool2d": (x, (5, 4)),
        "adaptive_max_pool2d_grad": (gy[:, :, :5, :4], position, (H, W)),
        "dropout": (x, 0.5, 26, 1),
        "random_keep": (x.size, 0.5, 26),
        "squared_norm": ([contiguous, other],),
    }


CASES = cases(np.float64)
CONVOLUTION = {"conv2d", "conv2d_affine", "conv2d_grad_input", "conv2d_grad_weight"}
LINEAR = {"linear", "linear_grad_input", "linear_grad_weight", "linear_grad_bias"}
IN_PLACE = {"sgd_step", "adam_step", "batch_norm_move", "scale_by"}


def test_every_primitive_is_in_the_cases():
    assert set(CASES) | CONVOLUTION | LINEAR | IN_PLACE == NumbaKernels.overridden()


@pytest.fixture
def restore_threads():
    before = threads._chosen
    yield
    threads._chosen = before
    threads.apply_num_threads()


@pytest.mark.parametrize("primitive", sorted(CASES))
def test_result_depends_neither_on_the_run_nor_on_the_number_of_threads(
    compiled, primitive, restore_threads
):
    results = []
    for count in (1, min(2, threads.usable_cores()), 1):
        threads.set_num_threads(count)
        result = getattr(compiled, primitive)(*CASES[primitive])
        results.append(result if isinstance(result, tuple) else (result,))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "primitive", sorted(set(CASES) - {"random_keep", "concat", "squared_norm"})
)
def test_nan_and_infinity_show_where_they_show_in_the_reference(compiled, primitive, value):
    args = list(CASES[primitive])
    args[0] = np.array(args[0])
    args[0].flat[[i for i in (0, 5, 300) if i < args[0].size]] = value
    for a, e in zip(*both(compiled, primitive, *args), strict=True):
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(e))
        np.testing.assert_array_equal(a[~np.isfinite(e)], e[~np.isfinite(e)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_pass_through_convolution(compiled, value):
    window = Window2d.of((6, 6), 3, padding=1)
    x, w = normal(28, 2, 2, 6, 6), normal(30, 3, 2, 3, 3)
    x[1, 0, 2, 2] = value
    (a,), (e,) = both(compiled, "conv2d", x, w, None, window, 1)
    np.testing.assert_array_equal(np.isfinite(a), np.isfinite(e))


def test_two_python_threads_may_run_kernels_at_once(compiled):
    x, expected, wrong = CASES["relu"][0], REFERENCE.relu(CASES["relu"][0]), []

    def work():
        wrong.extend(i for i in range(200) if not np.array_equal(compiled.relu(x), expected))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def run_relu(**environment):
    """Run one kernel in a fresh process; its output and its error output."""
    code = (
        "import os, numpy as np; from minicnn_kernels import registry;"
        "y = registry.load('numba').relu(np.full(2**14, -1, np.float32));"
        "y = registry.load('numba').relu_grad(y, y + 1);"
        "print(y.sum(), os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {**os.environ, **environment}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout.strip(), ran.stderr.strip()


def test_compiling_is_announced_once_and_not_when_the_cache_serves(tmp_path):
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_WAIT_POLICY": "passive"}
    line = "minicnn: compiling kernels (first use, cached afterwards) ..."
    assert run_relu(**environment) == ("0.0 passive", line)
    assert run_relu(**environment) == ("0.0 passive", "")


def test_kernels_work_where_no_cache_directory_can_be_written(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    nowhere = "ZipCacheLocator"  # finds no directory for a module outside an archive
    output, _ = run_relu(NUMBA_CACHE_LOCATOR_CLASSES=nowhere)
    assert output == "0.0 passive"
