"""The convolutions in CUDA C++ against the reference, exactly where numbers are whole."""

from __future__ import annotations

import numpy as np
import pytest
from product_cases import (
    CASES,
    DEPTHWISE,
    PLAIN,
    POINTWISE,
    REFERENCE,
    STRIDED,
    Case,
    run,
    terms,
    tf32_bound,
)

from minicnn.testing.tolerance import assert_close, to_host
from minicnn_kernels import registry
from minicnn_kernels.errors import BackendError
from minicnn_kernels.precision import allow_tf32
from minicnn_kernels.reference import Kernels

REASON = registry.availability()["cupy_cuda"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
if REASON is None:
    import cupy

    from minicnn_kernels.cupy_cuda import convolution, convolution_tables, tiles

    TILES = [
        pytest.param(tf32, forward, weight, id=f"{name}-{forward[:3]}-{weight[:3]}")
        for name, tf32, forwards, weights in (
            ("tf32", True, tiles.TENSOR, tiles.TENSOR_WEIGHT),
            ("float32", False, tiles.STRICT, tiles.STRICT_WEIGHT),
        )
        for forward, weight in zip(forwards, weights, strict=True)
    ]
else:
    TILES = []

PRECISIONS = pytest.mark.parametrize("tf32", [True, False], ids=["tf32", "float32"])


@pytest.fixture
def kernels():
    return registry.load("cupy_cuda", strict=True)


def on_device(data):
    return {name: cupy.asarray(array) for name, array in data.items()}


def assert_equal(actual, expected, what):
    for name, array in expected.items():
        np.testing.assert_array_equal(to_host(actual[name]), array, err_msg=f"{name} of {what}")


@PRECISIONS
@pytest.mark.parametrize("case", CASES, ids=str)
def test_whole_numbers_are_exact(kernels, case, tf32):
    data = case.draw()
    with allow_tf32(tf32):
        assert_equal(run(kernels, case, on_device(data)), run(REFERENCE, case, data), case)


@pytest.mark.parametrize("case", [PLAIN, STRIDED], ids=str)
def test_bias_alone_and_nothing_at_all(kernels, case):
    data = case.draw()
    device = on_device(data)
    for b in ("b", None):
        args = (case.window, case.groups)
        y = kernels.conv2d(device["x"], device["w"], device.get(b), *args)
        expected = REFERENCE.conv2d(data["x"], data["w"], data.get(b), *args)
        np.testing.assert_array_equal(to_host(y), expected)


# Every tile sees both widths of copies, its edges, and more than its number of steps.
OFF_EDGES = Case("more rows than a tile", 3, 5, 131, (6, 7), 3, 1, 1)
FOURS = Case("1x1, many channels", 9, 72, 36, (4, 4), 1)


@pytest.mark.parametrize(("tf32", "forward", "weight"), TILES)
def test_every_tile(tf32, forward, weight):
    with allow_tf32(tf32):
        for case in (OFF_EDGES, FOURS, STRIDED):
            data = case.draw()
            actual = run(convolution, case, on_device(data), forward=forward, weight=weight)
            assert_equal(actual, run(REFERENCE, case, data), case)


@PRECISIONS
@pytest.mark.parametrize("case", [PLAIN, POINTWISE, STRIDED, DEPTHWISE], ids=str)
def test_rounding_is_what_the_precision_allows(kernels, case, tf32):
    data = case.draw(whole=False)
    wide = {name: array.astype(np.float64) for name, array in data.items()}
    with allow_tf32(tf32):
        actual = run(kernels, case, on_device(data))
    expected = run(REFERENCE, case, wide)
    magnitudes = run(REFERENCE, case, {name: np.abs(array) for name, array in wide.items()})
    for name, count in terms(case).items():
        if tf32 and name != "gb":
            error = np.abs(to_host(actual[name]) - expected[name])
            assert (error <= tf32_bound(magnitudes[name], count)).all(), name
        else:
            condition = float(magnitudes[name].max() / np.abs(expected[name]).max())
            assert_close(actual[name], expected[name], terms=count, condition=condition, what=name)


def test_tf32_rounds_and_float32_does_not(kernels):
    """1 + 2^-11 is no TF32 number: rounded away from zero its square is too large."""
    x, w = (cupy.full((1, 1, 1, 1), 1 + 2.0**-11, np.float32) for _ in range(2))
    window = Case("", 1, 1, 1, (1, 1), 1).window
    with allow_tf32(True):
        assert float(kernels.conv2d(x, w, None, window, 1)[0, 0, 0, 0]) == (1 + 2.0**-10) ** 2
    with allow_tf32(False):
        exact = (1 + 2.0**-11) ** 2
        assert float(kernels.conv2d(x, w, None, window, 1)[0, 0, 0, 0]) == np.float32(exact)


@PRECISIONS
def test_nan_and_infinity_pass_through(kernels, tf32):
    data = PLAIN.draw()
    data["x"][0, 1, 2, 3], data["x"][2, 0, 0, 0] = np.nan, np.inf
    data["gy"][1, 2, 3, 4], data["gy"][2, 1, 0, 5] = np.nan, -np.inf
    data["w"][data["w"] == 0] = 1
    with allow_tf32(tf32), np.errstate(invalid="ignore"):
        assert_equal(run(kernels, PLAIN, on_device(data)), run(REFERENCE, PLAIN, data), PLAIN)


@PRECISIONS
@pytest.mark.parametrize("case", [PLAIN, POINTWISE, DEPTHWISE], ids=str)
def test_every_order_of_threads_gives_the_same_bits(kernels, case, tf32, monkeypatch):
    device = on_device(case.draw(whole=False))
    seen = {name: set() for name in terms(case)}
    with allow_tf32(tf32):
        for order in range(5):
            monkeypatch.setenv("MINICNN_CUDA_ORDER", str(order))
            for name, array in run(kernels, case, device).items():
                seen[name].add(to_host(array).tobytes())
    assert {name: len(bits) for name, bits in seen.items()} == dict.fromkeys(seen, 1)


def test_slices_of_a_long_sum_add_up(kernels):
    case = Case("many positions", 5, 2, 3, (17, 16), 3, 1, 1)
    assert case.images * 17 * 16 > 4 * convolution.LEAST_SLICE
    data = case.draw()
    assert_equal(run(kernels, case, on_device(data)), run(REFERENCE, case, data), case)


@pytest.mark.parametrize("case", [PLAIN, POINTWISE, DEPTHWISE], ids=str)
def test_arrays_may_start_at_an_odd_address_and_be_views(kernels, case):
    data = case.draw()
    odd, strided = {}, {}
    for name, array in data.items():
        room = cupy.empty(array.size + 1, np.float32)
        odd[name] = room[1:].reshape(array.shape)
        odd[name][...] = cupy.asarray(array)
        strided[name] = cupy.asarray(np.ascontiguousarray(array.T)).T
    expected = run(REFERENCE, case, data)
    assert_equal(run(kernels, case, odd), expected, "odd addresses")
    assert_equal(run(kernels, case, strided), expected, "views")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_columns_and_back(kernels, case):
    x = case.draw()["x"]
    col = REFERENCE.im2col(x, case.window)
    np.testing.assert_array_equal(to_host(kernels.im2col(cupy.asarray(x), case.window)), col)
    back = kernels.col2im(cupy.asarray(col), case.window)
    np.testing.assert_array_equal(to_host(back), REFERENCE.col2im(col, case.window))


def test_an_empty_batch(kernels):
    data = {k: v[:0] if k in ("x", "gy") else v for k, v in PLAIN.draw().items()}
    for case in (PLAIN,):
        assert_equal(run(kernels, case, on_device(data)), run(REFERENCE, case, data), case)


def test_float64_goes_to_the_reference(kernels):
    x, w = (PLAIN.draw()[name].astype(np.float64) for name in "xw")
    with pytest.raises(BackendError, match="take float32"):
        kernels.conv2d(cupy.asarray(x), cupy.asarray(w), None, PLAIN.window, 1)


def test_what_cannot_be_counted_is_refused(kernels, monkeypatch):
    monkeypatch.setattr(convolution, "MOST", 100)
    device = on_device(PLAIN.draw())
    with pytest.raises(BackendError, match="use a smaller batch"):
        kernels.conv2d(device["x"], device["w"], None, PLAIN.window, 1)


@PRECISIONS
def test_a_captured_convolution_follows_its_input(kernels, tf32):
    data = PLAIN.draw()
    device = on_device(data)
    with allow_tf32(tf32):
        run(kernels, PLAIN, device)  # compiled, and the tables made
        stream = cupy.cuda.Stream(non_blocking=True)
        pool = cupy.cuda.MemoryPool()
        with cupy.cuda.using_allocator(pool.malloc), stream:
            stream.begin_capture()
            results = run(kernels, PLAIN, device)
            graph = stream.end_capture()
    for step in range(2):
        changed = {name: array + step for name, array in data.items()}
        for name, array in device.items():
            array[...] = cupy.asarray(changed[name])
        graph.launch(stream)
        stream.synchronize()
        assert_equal(results, run(REFERENCE, PLAIN, changed), f"replay {step}")


def test_every_class_of_pixels_is_written_once():
    for case in CASES:
        s = case.window
        tables = convolution_tables.backward_tables(s, case.channels // case.groups, 1)
        assert sorted(tables.positions[:, 2].tolist()) == list(range(s.h * s.w)), case


def test_the_reference_is_not_what_is_tested(kernels):
    assert type(kernels).conv2d is not Kernels.conv2d
    assert type(kernels).conv2d_grad_weight is not Kernels.conv2d_grad_weight
