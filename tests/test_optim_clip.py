"""Clipping gradients."""

import math

import numpy as np
import pytest

from minicnn import nn, optim
from minicnn.errors import ArgumentError, NonFiniteError

SHAPES = ((40, 30), (7,), ())


def with_gradients(dtype, scale=1.0):
    rng = np.random.default_rng(0)
    params = [nn.Parameter(np.zeros(shape, dtype)) for shape in (*SHAPES, (3,))]
    for p, shape in zip(params, SHAPES, strict=False):  # the last one has none
        p.grad = np.asarray(scale * rng.normal(size=shape), dtype)
    return params


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("share", [0.5, 2.0])
def test_norms_equal_torch(dtype, norm_type, share):
    torch = pytest.importorskip("torch")
    ours = with_gradients(dtype)
    theirs = [torch.nn.Parameter(torch.zeros(p.shape, dtype=torch.float64)) for p in ours]
    for p, q in zip(ours, theirs, strict=True):
        q.grad = None if p.grad is None else torch.from_numpy(p.grad.astype(np.float64))
    max_norm = share * np.linalg.norm(
        np.concatenate([p.grad.ravel() for p in ours if p.grad is not None]), norm_type
    )
    total = optim.clip_grad_norm_(ours, float(max_norm), norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, float(max_norm), norm_type).item()
    terms = sum(p.size for p in ours)
    assert isinstance(total, float)
    assert abs(total - expected) <= 8 * np.finfo(np.float64).eps * terms * expected
    for p, q in zip(ours, theirs, strict=True):
        if p.grad is None:
            continue
        assert p.grad.dtype == dtype
        # two roundings to dtype: of the scaled gradient, and of the factor on its way
        atol = 8 * np.finfo(dtype).eps * np.abs(p.grad).max()
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=0, atol=atol)


def test_gradients_below_the_limit_stay_as_they_are():
    params = with_gradients(np.float32)
    before = [p.grad.copy() for p in params[:3]]
    held = [p.grad for p in params[:3]]
    optim.clip_grad_norm_(iter(params), 1e6)
    for p, b, h in zip(params, before, held, strict=False):
        np.testing.assert_array_equal(p.grad, b)
        assert p.grad is h
    optim.clip_grad_norm_(params, 0.5)
    assert all(p.grad is h for p, h in zip(params, held, strict=False))
    assert (params[0].grad != before[0]).any()


def test_an_infinite_limit_only_measures():
    params = with_gradients(np.float64)
    before = [p.grad.copy() for p in params[:3]]
    total = optim.clip_grad_norm_(params, math.inf)
    expected = np.linalg.norm(np.concatenate([b.ravel() for b in before]))
    assert total == pytest.approx(expected, rel=8 * np.finfo(np.float64).eps * params[0].size)
    for p, b in zip(params, before, strict=False):
        np.testing.assert_array_equal(p.grad, b)


def test_the_norm_is_added_up_in_float64():
    p = nn.Parameter(np.zeros(2, np.float32))
    p.grad = np.full(2, 1e30, np.float32)
    total = optim.clip_grad_norm_(p, 1.0)
    # the gradient itself is rounded to float32
    assert total == pytest.approx(math.sqrt(2) * 1e30, rel=float(np.finfo(np.float32).eps))
    assert np.isfinite(p.grad).all()


def test_without_gradients_the_norm_is_zero():
    params = [nn.Parameter([1.0])]
    assert optim.clip_grad_norm_(params, 1.0) == 0.0
    assert optim.clip_grad_norm_(params, 1.0, math.inf) == 0.0
    optim.clip_grad_value_(params, 1.0)
    assert params[0].grad is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("norm_type", [2.0, math.inf])
def test_a_norm_that_is_not_finite(bad, norm_type):
    params = with_gradients(np.float64)
    params[1].grad[0] = bad
    before = params[0].grad.copy()
    with pytest.raises(
        NonFiniteError, match=r"the norm of the gradients is (nan|inf); lower the lea"
    ):
        optim.clip_grad_norm_(params, 1.0, norm_type, error_if_nonfinite=True)
    np.testing.assert_array_equal(params[0].grad, before)
    with np.errstate(invalid="ignore"):
        total = optim.clip_grad_norm_(params, 1.0, norm_type)
    assert math.isnan(total) if math.isnan(bad) else total == math.inf
    assert np.isnan(params[1].grad[0])
    assert np.isnan(params[0].grad).all() if math.isnan(bad) else not params[0].grad.any()


def test_values_are_limited_in_place():
    params = with_gradients(np.float32)
    before = [p.grad.copy() for p in params[:3]]
    held = params[0].grad
    optim.clip_grad_value_(params, 0.5)
    assert params[0].grad is held
    for p, b in zip(params, before, strict=False):
        np.testing.assert_array_equal(p.grad, np.minimum(np.maximum(b, -0.5), 0.5))
    assert abs(held).max() == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: optim.clip_grad_norm_(p, -1),
            "clip_grad_norm_: max_norm is -1; give a number >= 0",
        ),
        (
            lambda p: optim.clip_grad_norm_(nn.Linear(1, 1), 1.0),
            r"clip_grad_norm_: parameters is a Linear; pass model.parameters\(\)",
        ),
        (
            lambda p: optim.clip_grad_value_(nn.Sequential(nn.Linear(1, 1)), 1.0),
            r"clip_grad_value_: parameters is a Sequential; pass model.parameters\(\)",
        ),
        (
            lambda p: optim.clip_grad_norm_(p, 1, 0),
            "clip_grad_norm_: norm_type is 0; give a number >",
        ),
        (
            lambda p: optim.clip_grad_value_(p, math.nan),
            "clip_grad_value_: clip_value is nan; give",
        ),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(with_gradients(np.float32))
