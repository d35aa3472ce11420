"""What the simulator can show beside right results: refusals, layouts, numbers in memory, views."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minicnn_kernels.errors import BackendError
from minicnn_kernels.reference import Kernels

CHECKS: dict[str, Callable[[Any], None]] = {}


def check(function: Callable[[Any], None]) -> Callable[[Any], None]:
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


@check
def another_type_is_refused_in_strict_mode(kernels: Any) -> None:
    with pytest.raises(BackendError, match=r"relu: .*its kernels take float32, not float64"):
        kernels.relu(np.ones(3))
    with pytest.raises(BackendError, match="not float32 and float64"):
        kernels.sgd_step([np.ones(3)], [np.ones(3, np.float32)], None, 0.1, 0.0, 0.0, 0.0, False)


@check
def another_type_goes_to_array_code_otherwise(kernels: Any) -> None:
    kernels.strict = False
    try:
        np.testing.assert_array_equal(kernels.relu(np.array([-1.0, 2.0])), [0.0, 2.0])
        assert kernels.relu(np.ones(2)).dtype == np.float64
    finally:
        kernels.strict = True


@check
def arrays_to_update_must_be_contiguous(kernels: Any) -> None:
    p = np.ones((4, 4), np.float32)[:, ::2]
    with pytest.raises(BackendError, match=r"scale_by: .* in place is not contiguous"):
        kernels.scale_by([p], 2.0)
    kernels.sgd_step([np.ones((4, 2), np.float32)], [p], None, 0.1, 0.0, 0.0, 0.0, False)


@check
def other_layouts_are_understood(kernels: Any) -> None:
    x = np.asfortranarray(np.arange(-12, 12, dtype=np.float32).reshape(4, 6))[:, ::2]
    np.testing.assert_array_equal(kernels.relu(x), np.maximum(x, 0))
    np.testing.assert_array_equal(kernels.relu(x=x.T), np.maximum(x.T, 0))


@check
def empty_batches_give_empty_results(kernels: Any) -> None:
    x, c = np.ones((0, 3, 2, 2), np.float32), np.ones(3, np.float32)
    assert kernels.relu(x).shape == x.shape
    assert kernels.batch_norm_eval(x, c, c, c, c, 1e-5).shape == x.shape
    for gradient in kernels.batch_norm_grad(x, x, c, c, c, 1e-5)[1:]:
        np.testing.assert_array_equal(gradient, 0)
    assert kernels.linear(np.ones((0, 4), np.float32), np.ones((2, 4), np.float32), None).size == 0
    assert kernels.squared_norm([]) == 0
    assert all(np.isnan(s).all() for s in kernels.batch_norm_statistics(x))


@check
def numbers_stay_where_they_are(kernels: Any) -> None:
    from minicnn_kernels.numba_cuda import device

    lr, key = np.array(0.5), np.array(7, np.uint64)
    as_number, as_key = device.number(lr, lr), device.key(key, key)
    lr[...], key[...] = 0.25, 8  # as the next step of a captured graph would find them
    assert (as_number[0], as_key[0]) == (0.25, 8)
    with pytest.raises(BackendError, match="float64 of no dimensions, but is float32"):
        device.number(np.array(0.5, np.float32), lr)
    with pytest.raises(BackendError, match=r"uint64 of no dimensions, but is uint64 \(2,\)"):
        device.key(np.zeros(2, np.uint64), lr)


@check
def an_array_of_another_library_is_seen_by_its_address(kernels: Any) -> None:
    from minicnn_kernels.numba_cuda import device

    memory = np.arange(12, dtype=np.float32).reshape(3, 4)
    part = memory[::2, 1:]
    other = types.SimpleNamespace(
        data=types.SimpleNamespace(ptr=part.ctypes.data),
        shape=part.shape, strides=part.strides, dtype=part.dtype,
    )  # fmt: skip
    seen = device.view(other)
    np.testing.assert_array_equal(seen, part)
    seen[...] = -1
    np.testing.assert_array_equal(memory[::2, 1:], -1)
    assert memory[1, 1] == 5


@check
def the_same_sum_has_the_same_bits(kernels: Any) -> None:
    x = np.random.default_rng(3).normal(size=(2, 1, 5, 7)).astype(np.float32)
    first, again = (kernels.batch_norm_statistics(x) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@check
def a_large_mean_does_not_spoil_the_variance(kernels: Any) -> None:
    x = (1e4 + np.random.default_rng(12).normal(size=(2, 2, 5, 5))).astype(np.float32)
    mean, var = kernels.batch_norm_statistics(x)
    exact_mean, exact_var = Kernels(np).batch_norm_statistics(x.astype(np.float64))
    bound = 8 * np.finfo(np.float32).eps
    np.testing.assert_allclose(mean, exact_mean, rtol=bound)
    np.testing.assert_allclose(var, exact_var, rtol=bound * np.sqrt(50))
