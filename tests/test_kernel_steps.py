"""Primitives that change arrays in place, and those that take numbers from the device."""

import numpy as np
import pytest

from minicnn_kernels import registry

SHAPES = (3, 5), (20_000,), (0,), ()  # the second is long enough for compiled loops
SGD = 0.9, 0.1, 0.01, False  # momentum, dampening, weight decay, nesterov
ADAM = (0.9, 0.99), 1e-8, 0.1

REASONS = registry.availability()


@pytest.fixture(
    params=[name for name, reason in REASONS.items() if reason is None and "cu" not in name]
)
def k(request):
    return registry.load(request.param)


def lists(count, dtype=np.float32):
    rng = np.random.default_rng(7)
    return [[np.asarray(rng.random(shape), dtype) for shape in SHAPES] for _ in range(count)]


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


STEPS = {
    "sgd": lambda k, lists, lr, step: k.sgd_step(*lists[:3], lr, *SGD),
    "sgd without velocities": lambda k, lists, lr, step: k.sgd_step(*lists[:2], None, lr, *SGD),
    "adam": lambda k, lists, lr, step: k.adam_step(*lists, step, lr, *ADAM, False),
    "adamw": lambda k, lists, lr, step: k.adam_step(*lists, step, lr, *ADAM, True),
    "rmsprop": lambda k, lists, lr, step: k.rmsprop_step(*lists, lr, 0.9, 1e-8, 0.1, 0.9),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_on_lists_is_a_step_on_each_array(k, name):
    together, alone = lists(4), lists(4)
    STEPS[name](k, together, 0.1, 3.0)
    for i in range(len(SHAPES)):
        STEPS[name](k, [[column[i]] for column in alone], 0.1, 3.0)
    for ours, theirs, before in zip(together, alone, lists(4), strict=True):
        same(ours, theirs)
        if ours is together[0]:
            assert (ours[1] != before[1]).all()
    same(together[1], lists(4)[1])  # gradients stay


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", STEPS)
def test_numbers_may_be_arrays_of_no_dimensions(k, name, dtype):
    of_numbers, of_arrays = lists(4, dtype), lists(4, dtype)
    STEPS[name](k, of_numbers, 0.1, 3.0)
    STEPS[name](k, of_arrays, np.array(0.1), np.array(3.0))
    for ours, theirs in zip(of_numbers, of_arrays, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            # Python and NumPy may round a power, which Adam takes, to different sides.
            rounding = 64 * np.finfo(np.float64).eps if "adam" in name else 0
            np.testing.assert_allclose(a, b, rtol=rounding, atol=rounding, strict=True)


def test_a_list_of_another_length_is_refused(k):
    params, grads, *_ = lists(2)
    with pytest.raises(ValueError, match="zip"):
        k.sgd_step(params, grads[:-1], None, 0.1, *SGD)


def test_the_key_of_a_mask_may_be_an_array_of_no_dimensions(k):
    x, key = np.ones(20_000, np.float32), 2**63 + 12345
    same([k.dropout(x, 0.5, key, 1)], [k.dropout(x, 0.5, np.array(key, np.uint64), 1)])
    same([k.random_keep(x.size, 0.5, key)], [k.random_keep(x.size, 0.5, np.array(key, np.uint64))])
    assert 0 < k.random_keep(x.size, 0.5, key).sum() < x.size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_running_statistics_are_those_of_the_batches_with_the_unbiased_variance(k, dtype):
    x = np.random.default_rng(3).random((4, 3, 2, 2)).astype(dtype)
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    running_mean, running_var = np.full(3, 2.0, dtype), np.full(3, 4.0, dtype)
    k.batch_norm_move(running_mean, running_var, mean, var, 0.25, 16)
    unbiased = x.astype(np.float64).var(axis=(0, 2, 3), ddof=1)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(running_mean, 1.5 + 0.25 * mean, rtol=16 * eps)
    np.testing.assert_allclose(running_var, 3.0 + 0.25 * unbiased, rtol=16 * eps)


def test_the_squared_norm_is_added_up_in_float64(k):
    arrays = [
        np.full(2, 1e30, np.float32),
        np.zeros((0, 3), np.float32),
        np.float32(1e30).reshape(()),
    ]
    total = k.squared_norm(arrays)
    assert total.dtype == np.float64
    assert total.shape == ()
    assert float(total) == pytest.approx(3 * float(np.float32(1e30)) ** 2, rel=1e-15)
    assert float(k.squared_norm([])) == 0.0
    assert np.isnan(k.squared_norm([np.array([1.0, np.nan], np.float32)]))


@pytest.mark.parametrize("factor", [0.3, np.array(0.3)])
def test_scaling_is_in_place_and_in_the_dtype_of_the_arrays(k, factor):
    for dtype in (np.float32, np.float64):
        (arrays,), (before,) = lists(1, dtype), lists(1, dtype)
        k.scale_by(arrays, factor)
        same(arrays, [np.asarray(b * dtype(0.3)) for b in before])
