"""Batch norm together with what follows it: the specs of the fused functions."""

from __future__ import annotations

import numpy as np

import minicnn
import minicnn.functional as F
from minicnn.functional import normalization
from minicnn.testing import Case, OpSpec, broken_attribute, broken_kernel, distinct
from specs.convolution import conv2d_oracle, filters
from specs.normalization import (
    FAR,
    batch_norm_oracle,
    channels,
    distance,
    normalised,
    swapped,
    training_gradient,
)
from specs.pooling import selecting


def batch_norm_relu(x, mean, var, weight=None, bias=None, skip=None, **kwargs):
    """The function with its running statistics as the tensors that the checks pass."""
    arrays = (None, None) if mean is None else (mean.array, var.array)
    return F.batch_norm_relu(x, *arrays, weight, bias, skip=skip, **kwargs)


def batch_norm_relu_oracle(x, mean, var, w=None, b=None, skip=None, **kwargs):
    result = batch_norm_oracle(x, mean, var, w, b, **kwargs)
    y, *statistics = result if isinstance(result, tuple) else (result,)
    y = np.maximum(y if skip is None else y + skip, 0)
    return (y, *statistics) if statistics else y


def batch_norm_relu_max_pool2d(x, mean, var, weight=None, bias=None, *pool, training=False):
    """The function with its running statistics as tensors; pool: the window's settings."""
    arrays = (None, None) if mean is None else (mean.array, var.array)
    settings = training, 0.1, 1e-5
    return F.batch_norm_relu_max_pool2d(x, *arrays, weight, bias, *settings, *pool)


def batch_norm_relu_max_pool2d_oracle(x, mean, var, w=None, b=None, *pool, training=False):
    result = batch_norm_relu_oracle(x, mean, var, w, b, training=training)
    y, *statistics = result if isinstance(result, tuple) else (result,)
    y = selecting(max)(y, *pool)
    return (y, *statistics) if statistics else y


def with_skip(shape):
    def draw(rng):
        return *channels(shape)(rng), 2 * distinct(shape, rng)

    return draw


def with_window(shape, *pool, negative=False):
    """Inputs for pooling; with ``negative``, the factor of the first channel is."""

    def draw(rng):
        x, mean, var, weight, bias = channels(shape)(rng)
        if negative:
            weight[0] *= -1
        return x, mean, var, weight, bias, *pool

    return draw


def pooled(name, shape, *pool, **kwargs):
    inputs = with_window(shape, *pool, negative=kwargs.pop("negative", False))
    return Case(name, inputs, {"training": True}, (0, 3, 4), updates=(1, 2))


def _passes_everywhere(right, gy, x, w, b, mean, var, eps):
    return right(gy, x, w, np.full_like(mean, 1e6), mean, var, eps)


def _not_rectified(right, x, w, b, mean, var, eps, skip):
    y = normalised(x, mean, var, w, b, eps)
    return y if skip is None else y + skip


def _order_kept(right, x, w, b, mean, var, eps, window):
    _, best, tap = right(x, None, b, mean, var, eps, window)
    return np.maximum(normalised(best, mean, var, w, b, eps), 0), best, tap


def _loser_wins(right, gy, best, tap, *rest):
    return right(gy, best, (tap + 1) % np.asarray(4, tap.dtype), *rest)


NORM = {
    "terms": lambda x, *rest, **kwargs: x.size // x.shape[1] + 4,
    "condition": lambda x, *rest, **kwargs: distance(x) if x.shape[0] > 1 else FAR,
}


@minicnn.no_grad()
def conv2d_batch_norm(x, w, b, mean, var, norm_w=None, norm_b=None, **kwargs):
    """The function with its running statistics as the tensors that the checks pass."""
    return F.conv2d_batch_norm(x, w, b, mean.array, var.array, norm_w, norm_b, **kwargs)


def conv2d_batch_norm_oracle(
    x, w, b, mean, var, norm_w=None, norm_b=None, eps=1e-5, relu=False, **kwargs
):
    y = batch_norm_oracle(conv2d_oracle(x, w, b, **kwargs), mean, var, norm_w, norm_b, eps=eps)
    return np.maximum(y, 0) if relu else y


def filters_and_norm(name, x, w, bias=True, affine=True, **kwargs):
    """Inputs of a convolution and of the norm behind it, whose factors have both signs."""
    F_ = w[0]

    def draw(rng):
        norm = [2 * distinct((F_,), rng), distinct((F_,), rng)] if affine else []
        statistics = distinct((F_,), rng), 1.5 + distinct((F_,), rng)
        return *filters(x, w, bias)(rng), *statistics, *norm

    return Case(name, draw, kwargs, (), batch=(0,))


SPECS = [
    OpSpec(
        "conv2d_batch_norm",
        conv2d_batch_norm,
        [
            filters_and_norm("3x3", (2, 2, 5, 6), (3, 2, 3, 3), padding=1),
            filters_and_norm("with ReLU", (2, 2, 5, 6), (3, 2, 3, 3), relu=True, stride=2),
            filters_and_norm("plain", (2, 4, 4, 4), (6, 2, 1, 1), False, False, groups=2),
            filters_and_norm(
                "plain, with ReLU", (1, 2, 4, 4), (2, 2, 2, 2), False, False, relu=True
            ),
        ],
        oracle=conv2d_batch_norm_oracle,
        terms=lambda x, w, *rest, **kwargs: w[0].size + 4,
        condition=4.0,
        faults=[
            broken_kernel(
                "factor forgotten",
                "conv2d_affine",
                lambda right, x, w, scale, *rest: right(x, w, None, *rest),
            ),
            broken_kernel(
                "nothing added",
                "conv2d_affine",
                lambda right, x, w, scale, shift, *rest: right(x, w, scale, None, *rest),
            ),
            broken_kernel(
                "never rectified",
                "conv2d_affine",
                lambda right, *args: right(*args[:-1], False),
            ),
        ],
    ),
    OpSpec(
        "batch_norm_relu",
        batch_norm_relu,
        [
            Case("maps", channels((3, 2, 2, 3)), {"training": True}, (0, 3, 4), updates=(1, 2)),
            Case("rows", channels((5, 3)), {"training": True}, (0, 3, 4), updates=(1, 2)),
            Case(
                "without affine",
                channels((4, 2, 2, 2), affine=False),
                {"training": True},
                (0,),
                updates=(1, 2),
            ),
            Case(
                "a map to add",
                with_skip((3, 2, 2, 3)),
                {"training": True},
                (0, 3, 4, 5),
                updates=(1, 2),
            ),
            Case(
                "without running statistics",
                channels((3, 2, 2, 2), running=False),
                {"training": True},
                (0, 3, 4),
            ),
            Case("evaluation", channels((3, 2, 2, 3)), {}, (0, 3, 4), batch=(0,)),
            Case(
                "evaluation and a map to add",
                with_skip((3, 2, 2, 3)),
                {},
                (0, 3, 4, 5),
                batch=(0, 5),
            ),
        ],
        oracle=batch_norm_relu_oracle,
        **NORM,
        faults=[
            broken_kernel("gradient where ReLU stops", "batch_norm_relu_grad", _passes_everywhere),
            broken_kernel("weight and bias gradient swapped", "batch_norm_relu_grad", swapped),
            broken_kernel(
                "nothing added", "batch_norm_relu", lambda right, *args: right(*args[:-1], None)
            ),
            broken_kernel("not rectified", "batch_norm_relu", _not_rectified),
            broken_attribute(
                "gradient of the added map not stopped by ReLU",
                normalization.BatchNormAddRelu,
                "backward",
                lambda right, self, k, gy: (*right(self, k, gy)[:3], gy.copy()),
            ),
            broken_attribute(
                "training gradient in evaluation",
                normalization.BatchNorm,
                "gradients",
                training_gradient,
            ),
        ],
    ),
    OpSpec(
        "batch_norm_relu_max_pool2d",
        batch_norm_relu_max_pool2d,
        [
            pooled("2x2", (3, 2, 4, 6), 2),
            pooled("2x2, a negative factor", (3, 2, 4, 4), 2, negative=True),
            pooled("2x2 that leaves a row", (2, 2, 5, 4), 2),
            pooled("overlapping and padded", (2, 2, 5, 5), 3, 2, 1, negative=True),
            Case(
                "without running statistics",
                lambda rng: (*channels((3, 2, 4, 4), running=False)(rng), 2),
                {"training": True},
                (0, 3, 4),
            ),
            Case("evaluation", with_window((2, 2, 4, 4), 2), {}, (0, 3, 4), batch=(0,)),
        ],
        oracle=batch_norm_relu_max_pool2d_oracle,
        **NORM,
        faults=[
            broken_kernel(
                "order kept by a negative factor", "batch_norm_relu_max_pool2d", _order_kept
            ),
            broken_kernel("gradient to a loser", "batch_norm_relu_max_pool2d_grad", _loser_wins),
            broken_kernel(
                "weight and bias gradient swapped", "batch_norm_relu_max_pool2d_grad", swapped
            ),
        ],
    ),
]
