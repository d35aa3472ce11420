"""Batch norm and local response norm."""

from __future__ import annotations

import math

import numpy as np

import minicnn.functional as F
from minicnn.functional import normalization
from minicnn.testing import (
    Case,
    OpSpec,
    broken_attribute,
    broken_function,
    broken_kernel,
    distinct,
)
from specs._oracles import indices, mean_of

FAR = (
    30.0  # the mean of a channel, in standard deviations of about 1: statistics must be subtracted
)


def batch_norm(x, mean, var, weight=None, bias=None, **kwargs):
    """F.batch_norm with its running statistics as the tensors that the checks pass."""
    arrays = (None, None) if mean is None else (mean.array, var.array)
    return F.batch_norm(x, *arrays, weight, bias, **kwargs)


def batch_norm_oracle(
    x, mean, var, weight, bias, training=False, momentum=0.1, eps=1e-5
) -> np.ndarray | tuple[np.ndarray, ...]:
    y = np.empty(x.shape)
    new_mean, new_var = (None, None) if mean is None else (mean.copy(), var.copy())
    for c in range(x.shape[1]):
        values = x[:, c].ravel().tolist()
        if training or mean is None:
            m = mean_of(values)
            v = mean_of([(value - m) ** 2 for value in values])
        else:
            m, v = mean[c], var[c]
        w = 1.0 if weight is None else weight[c]
        b = 0.0 if bias is None else bias[c]
        y[:, c] = (x[:, c] - m) / math.sqrt(v + eps) * w + b
        if training and mean is not None:
            unbiased = v * len(values) / (len(values) - 1)
            new_mean[c] = (1 - momentum) * mean[c] + momentum * m
            new_var[c] = (1 - momentum) * var[c] + momentum * unbiased
    return (y, new_mean, new_var) if training and mean is not None else y


def channels(shape: tuple[int, ...], affine: bool = True, running: bool = True):
    C = shape[1]

    def draw(rng):
        scale = 1 + np.arange(C).reshape(C, *(1,) * (len(shape) - 2))
        x = FAR * scale + scale * 2 * distinct(shape, rng)
        statistics = [FAR + distinct((C,), rng), 2 + distinct((C,), rng)] if running else [None] * 2
        return (
            x,
            *statistics,
            *([distinct((C,), rng) + 2, distinct((C,), rng)] if affine else [None] * 2),
        )

    return draw


def training(name: str, shape: tuple[int, ...], affine: bool = True, **kwargs) -> Case:
    wanted = (0, 3, 4) if affine else (0,)
    settings = {"training": True, **kwargs}
    return Case(name, channels(shape, affine), settings, wanted, updates=(1, 2))


def evaluation(name: str, shape: tuple[int, ...], affine: bool = True, **kwargs) -> Case:
    wanted = (0, 3, 4) if affine else (0,)
    return Case(name, channels(shape, affine), kwargs, wanted, batch=(0,))


def distance(x, *rest, **kwargs) -> float:
    """Values far from 0 in the place of values of size 1: what subtracting the mean loses."""
    return float(np.abs(x).max() / x.std(axis=(0, *range(2, x.ndim))).min())


def _unbiased(right, x):
    n = x.size // x.shape[1]
    mean, var = right(x)
    return mean, var * (n / (n - 1))


def _per(v, x):
    return v.reshape(1, -1, *(1,) * (x.ndim - 2))


def normalised(x, mean, var, w, b, eps):
    y = (x - _per(mean, x)) / np.sqrt(_per(var, x) + eps)
    y = y if w is None else y * _per(w, x)
    return y if b is None else y + _per(b, x)


def _eps_outside(right, x, w, b, mean, var, eps):
    return normalised(x, mean, (np.sqrt(var) + eps) ** 2, w, b, 0.0)


def _one_mean(right, x):
    mean, var = right(x)
    return 0 * mean + x.mean() if x.size else mean, var


def _without_mean_term(right, gy, x, w, mean, var, eps):
    gx, gw, gb = right(gy, x, w, mean, var, eps)
    scale = (var + eps) ** -0.5 * (1 if w is None else w)
    return gx + _per(scale * gb * x.shape[1] / x.size, x).astype(x.dtype), gw, gb


def _without_variance_term(right, gy, x, w, mean, var, eps):
    gx, gw, gb = right(gy, x, w, mean, var, eps)
    inv = (var + eps) ** -0.5
    scale = inv * (1 if w is None else w)
    xhat = (x - _per(mean, x)) * _per(inv, x)
    return gx + (xhat * _per(scale * gw * x.shape[1] / x.size, x)).astype(x.dtype), gw, gb


def _weight_forgotten(right, gy, x, w, mean, var, eps):
    _, gw, gb = right(gy, x, w, mean, var, eps)
    return right(gy, x, None, mean, var, eps)[0], gw, gb


def training_gradient(right, self, k, gy, x, weight):
    """The fault of a norm in evaluation whose gradient takes the statistics for those of x."""
    if gy.size == 0:
        return right(self, k, gy, x, weight)
    return k.batch_norm_grad(gy, x, weight, self.mean, self.var, self.eps)


def swapped(right, *args):
    gx, gw, gb = right(*args)
    return gx, gb, gw


def _running(change):
    """Running statistics updated in another way: change(running, batch, momentum, count)."""

    def function(x, mean, var, weight=None, bias=None, **kwargs):
        if mean is None or not kwargs.get("training"):
            return batch_norm(x, mean, var, weight, bias, **kwargs)
        momentum, n = kwargs.get("momentum", 0.1), x.size // x.shape[1]
        axes = (0, *range(2, x.ndim))
        y = F.batch_norm(x, None, None, weight, bias, **kwargs)
        mean.array[...], var.array[...] = change(
            (mean.array, var.array), (x.array.mean(axis=axes), x.array.var(axis=axes)), momentum, n
        )
        return y

    return function


def _moved(old, new, momentum, n, correction):
    m = momentum
    return (1 - m) * old[0] + m * new[0], (1 - m) * old[1] + m * new[1] * correction


def lrn_oracle(x, size, alpha=1e-4, beta=0.75, k=1.0, divide_alpha_by_n=True) -> np.ndarray:
    y = np.empty(x.shape)
    s = alpha / size if divide_alpha_by_n else alpha
    C = x.shape[1]
    for n, c, *place in indices(x.shape):
        window = range(max(0, c - size // 2), min(C, c + (size - 1) // 2 + 1))
        total = math.fsum(x[(n, j, *place)] ** 2 for j in window)
        y[(n, c, *place)] = x[(n, c, *place)] / (k + s * total) ** beta
    return y


def lrn(name: str, shape: tuple[int, ...], size: int, **kwargs) -> Case:
    """alpha = 1 makes every term of the sum visible."""
    settings = {"size": size, "alpha": 1.0, **kwargs}
    return Case(name, lambda rng: (2 * distinct(shape, rng),), settings, batch=(0,))


def _other_window(right, x, before, after):
    return right(x, before, after - 1 if after else 0)


def _swapped_window(right, x, before, after):
    return right(x, after, before)


def _lrn_without_cross_term(right, gy, x, s, size, alpha, beta):
    own = (1 - 2 * alpha * beta * x * x / s) * s**-beta
    return gy * own


SPECS = [
    OpSpec(
        "batch_norm",
        batch_norm,
        [
            training("training maps", (3, 2, 2, 3)),
            training("training rows", (5, 3)),
            training("training sequences", (3, 2, 4), momentum=0.3),
            training("training 1x1 maps", (5, 3, 1, 1), eps=0.1),
            training("training without affine", (4, 2, 2, 2), affine=False),
            Case(
                "training without running statistics",
                channels((3, 2, 2, 2), running=False),
                {"training": True},
                (0, 3, 4),
            ),
            evaluation("evaluation maps", (3, 2, 2, 3)),
            evaluation("evaluation rows", (4, 3), eps=0.1),
            evaluation("evaluation without affine", (2, 2, 3, 2), affine=False),
            evaluation("evaluation of one value", (1, 2, 1, 1), affine=False, eps=0.0),
            Case(
                "evaluation without running statistics",
                channels((3, 2, 2, 2), running=False),
                {"training": False},
                (0, 3, 4),
            ),
        ],
        oracle=batch_norm_oracle,
        terms=lambda x, *rest, **kwargs: x.size // x.shape[1] + 3,
        condition=lambda x, *rest, **kwargs: distance(x) if x.shape[0] > 1 else FAR,
        faults=[
            broken_kernel("unbiased variance", "batch_norm_statistics", _unbiased),
            broken_kernel("eps outside the root", "batch_norm_eval", _eps_outside),
            broken_kernel("one mean for all channels", "batch_norm_statistics", _one_mean),
            broken_kernel("mean term missing", "batch_norm_grad", _without_mean_term),
            broken_kernel("variance term missing", "batch_norm_grad", _without_variance_term),
            broken_kernel("weight forgotten backward", "batch_norm_grad", _weight_forgotten),
            broken_kernel("weight and bias gradient swapped", "batch_norm_grad", swapped),
            broken_kernel(
                "weight forgotten backward in evaluation", "batch_norm_eval_grad", _weight_forgotten
            ),
            broken_kernel(
                "weight and bias gradient swapped in evaluation", "batch_norm_eval_grad", swapped
            ),
            broken_attribute(
                "training gradient in evaluation",
                normalization.BatchNorm,
                "gradients",
                training_gradient,
            ),
            broken_attribute(
                "evaluation gradient in training",
                normalization.BatchNorm,
                "gradients",
                lambda right, self, k, gy, x, weight: k.batch_norm_eval_grad(
                    gy, x, weight, self.mean, self.var, self.eps
                ),
            ),
            broken_function(
                "batch statistics in evaluation",
                lambda x, mean, var, w=None, b=None, **kwargs: (
                    batch_norm(
                        x,
                        *((mean, var) if kwargs.get("training") else (None, None)),
                        w,
                        b,
                        **kwargs,
                    )
                    if x.size
                    else batch_norm(x, mean, var, w, b, **kwargs)
                ),
            ),
            broken_function("stale running statistics", _running(lambda old, new, m, n: old)),
            broken_function(
                "biased running variance",
                _running(lambda old, new, m, n: _moved(old, new, m, n, 1.0)),
            ),
            broken_function(
                "momentum of the old statistics",
                _running(lambda old, new, m, n: _moved(old, new, 1 - m, n, n / (n - 1))),
            ),
            broken_function(
                "running mean not updated",
                _running(lambda old, new, m, n: (old[0], _moved(old, new, m, n, n / (n - 1))[1])),
            ),
        ],
    ),
    OpSpec(
        "local_response_norm",
        F.local_response_norm,
        [
            lrn("size 5", (2, 7, 2, 2), 5, k=2.0, divide_alpha_by_n=False),
            lrn("size 3, divided", (2, 4, 2, 1), 3),
            lrn("even size", (2, 6, 1, 2), 4, k=2.0),
            lrn("size 2", (1, 4, 2, 2), 2, beta=0.5),
            lrn("size 1", (2, 3, 1, 1), 1),
            lrn("wider than the map", (2, 3, 2, 2), 9),
            lrn("rows", (3, 5), 3, beta=1.0),
            lrn("one channel", (2, 1, 2, 2), 5),
        ],
        oracle=lrn_oracle,
        terms=lambda x, size, **kwargs: min(size, x.shape[1]) + 3,
        faults=[
            broken_function(
                "alpha never divided",
                lambda x, **kwargs: F.local_response_norm(
                    x, **{**kwargs, "divide_alpha_by_n": False}
                ),
            ),
            broken_function(
                "alpha always divided",
                lambda x, **kwargs: F.local_response_norm(
                    x, **{**kwargs, "divide_alpha_by_n": True}
                ),
            ),
            broken_function(
                "k ignored", lambda x, **kwargs: F.local_response_norm(x, **{**kwargs, "k": 1.0})
            ),
            broken_function(
                "beta ignored",
                lambda x, **kwargs: F.local_response_norm(x, **{**kwargs, "beta": 0.75}),
            ),
            broken_function(
                "window off by one",
                lambda x, size, **kwargs: F.local_response_norm(x, size + 1, **kwargs),
            ),
            broken_kernel(
                "last channel of the window missing", "_channel_window_sum", _other_window
            ),
            broken_kernel("window mirrored", "_channel_window_sum", _swapped_window),
            broken_kernel(
                "window not mirrored backward",
                "local_response_norm_grad",
                lambda right, gy, x, s, size, alpha, beta: right(
                    gy[:, ::-1], x[:, ::-1], s[:, ::-1], size, alpha, beta
                )[:, ::-1].copy(),
            ),
            broken_kernel(
                "neighbours ignored backward", "local_response_norm_grad", _lrn_without_cross_term
            ),
            broken_kernel(
                "no factor 2 backward",
                "local_response_norm_grad",
                lambda right, gy, x, s, size, alpha, beta: (
                    (right(gy, x, s, size, alpha, beta) + gy * s**-beta) / 2
                ),
            ),
        ],
    ),
]
