"""Compiled batch norm, alone and fused, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import NumbaKernels
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)
COMPILED = NumbaKernels(np, strict=True)
SHAPES = [(3, 5, 7, 6), (16, 3), (4, 3, 9), (2, 3, 1, 1)]
EPS = 1e-5


def normal(seed, *shape, dtype=np.float64):
    """Normal numbers; those of an odd seed are not contiguous in memory."""
    x = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    return np.asfortranarray(x) if seed % 2 and x.ndim > 1 else x


class Drawn:
    """Arguments of one call, and by how much intermediate numbers can exceed 1."""

    def __init__(self, shape, affine=True, seed=9, dtype=np.float64):
        C = shape[1]
        self.x, self.gy, self.skip = (normal(seed + i, *shape, dtype=dtype) for i in range(3))
        self.w, self.b = (normal(seed + i, C, dtype=dtype) if affine else None for i in (3, 4))
        self.mean, self.var = (
            normal(seed + 5, C, dtype=dtype),
            normal(seed + 6, C, dtype=dtype) ** 2,
        )
        self.count = self.x.size // C
        largest = np.abs(self.x).max() + np.abs(self.mean).max()
        slope = (1 if self.w is None else np.abs(self.w).max()) / np.sqrt(self.var.min() + EPS)
        self.scale = largest * slope + 1
        xhat = largest / np.sqrt(self.var.min() + EPS)
        self.gradient_scale = np.abs(self.gy).sum() * (1 + xhat) ** 2 * max(1, slope)

    @property
    def statistics(self):
        return self.mean, self.var, EPS


def check(primitive, *args, terms, scale):
    """The compiled results must be as near to the reference as ``terms`` roundings allow."""
    before = [np.copy(a) if isinstance(a, np.ndarray) else a for a in args]
    actual, expected = (getattr(k, primitive)(*args) for k in (COMPILED, REFERENCE))
    for argument, copy in zip(args, before, strict=True):
        if isinstance(argument, np.ndarray):
            np.testing.assert_array_equal(argument, copy)
    actual, expected = (r if isinstance(r, tuple) else (r,) for r in (actual, expected))
    for a, e in zip(actual, expected, strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        if a.dtype.kind == "f":
            bound = 4 * (terms + 4) * np.finfo(a.dtype).eps * scale
            np.testing.assert_allclose(a, e, rtol=0, atol=bound)
        else:
            np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_alone_and_with_relu(shape, affine, dtype):
    for seed in (9, 10):
        d = Drawn(shape, affine, seed, dtype)
        x_scale = float(np.abs(d.x).max()) ** 2 + 1
        check("batch_norm_statistics", d.x, terms=d.count, scale=x_scale)
        forward = {"terms": 3, "scale": d.scale}
        check("batch_norm_eval", d.x, d.w, d.b, *d.statistics, **forward)
        check("batch_norm_relu", d.x, d.w, d.b, *d.statistics, None, **forward)
        check("batch_norm_relu", d.x, d.w, d.b, *d.statistics, d.skip, **forward)
        backward = {"terms": d.count, "scale": d.gradient_scale}
        check("batch_norm_grad", d.gy, d.x, d.w, *d.statistics, **backward)
        check("batch_norm_eval_grad", d.gy, d.x, d.w, *d.statistics, **backward)
        check("batch_norm_relu_grad", d.gy, d.x, d.w, d.b, *d.statistics, **backward)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    window=st.sampled_from([(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 1), (2, 1, 0, 1), (2, 3, 0, 1)]),
    affine=st.booleans(),
    seed=st.integers(0, 99),
)
def test_with_pooling(size, window, affine, seed):
    kernel, stride, padding, dilation = window
    if min(size) + 2 * padding < kernel:
        return
    d = Drawn((2, 3, *size), affine, seed)
    pool = Window2d.of(size, kernel, stride, padding, dilation)
    args = d.x, d.w, d.b, *d.statistics, pool
    check("batch_norm_relu_max_pool2d", *args, terms=3, scale=d.scale)
    _, best, tap = REFERENCE.batch_norm_relu_max_pool2d(*args)
    gy = normal(seed + 7, *best.shape)
    args = gy, best, tap, *args
    scale = d.gradient_scale * (1 + np.abs(gy).sum()) * kernel**2
    check("batch_norm_relu_max_pool2d_grad", *args, terms=d.count, scale=scale)


def test_variance_does_not_cancel():
    x = (1e4 + np.random.default_rng(12).normal(size=(8, 2, 9, 9))).astype(np.float32)
    x[0, 0, 0, 0] = -1e4  # the number about which the first plane is summed
    mean, var = COMPILED.batch_norm_statistics(x)
    exact = x.astype(np.float64)
    bound = 2 * np.finfo(np.float32).eps
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=bound)
    np.testing.assert_allclose(var, exact.var(axis=(0, 2, 3)), rtol=bound)


def test_an_empty_batch():
    x, c = np.ones((0, 3, 2, 2)), np.ones(3)
    with np.errstate(all="ignore"):
        for primitive, args in {
            "batch_norm_eval": (x, c, c, c, c, EPS),
            "batch_norm_relu": (x, c, c, c, c, EPS, x),
            "batch_norm_eval_grad": (x, x, c, c, c, EPS),
            "batch_norm_grad": (x, x, c, c, c, EPS),
            "batch_norm_relu_grad": (x, x, c, c, c, c, EPS),
        }.items():
            check(primitive, *args, terms=1, scale=1)


@pytest.mark.parametrize("place", [0, 7, 41])
def test_nan_and_infinity_stay_visible(place):
    d = Drawn((2, 3, 6, 7), seed=10)
    for value in (np.nan, np.inf):
        d.x.flat[place] = value
        args = d.x, d.w, d.b, *d.statistics
        assert not np.isfinite(COMPILED.batch_norm_eval(*args).flat[place])
        assert np.isnan(COMPILED.batch_norm_statistics(d.x)[1][0])
        with np.errstate(all="ignore"):
            check("batch_norm_relu", *args, d.skip, terms=3, scale=d.scale)
