"""Cross-entropy and squared error."""

from __future__ import annotations

import math

import numpy as np

import minicnn.functional as F
from minicnn.functional import loss
from minicnn.testing import (
    Case,
    OpSpec,
    broken_attribute,
    broken_function,
    broken_kernel,
    distinct,
)

CLASS_WEIGHTS = np.array([0.2, 3.0, 1.0, 0.5])


def _reduced(losses: list[float], reduction: str, divisor: float):
    if reduction == "none":
        return losses
    return math.fsum(losses) / (divisor if reduction == "mean" else 1)


def cross_entropy_oracle(
    x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
):
    N, K = x.shape
    w = [1.0] * K if weight is None else list(weight)
    losses, divisor = [], 0.0
    for n in range(N):
        if target.ndim == 1 and target[n] == ignore_index:
            losses.append(0.0)
            continue
        share = target[n] if target.ndim == 2 else [float(c == target[n]) for c in range(K)]
        smoothed = [(1 - label_smoothing) * q + label_smoothing / K for q in share]
        minus_log_p = [math.log(math.fsum(math.exp(v - x[n, c]) for v in x[n])) for c in range(K)]
        losses.append(math.fsum(w[c] * smoothed[c] * minus_log_p[c] for c in range(K)))
        divisor += 1.0 if target.ndim == 2 else w[target[n]]
    return _reduced(losses, reduction, divisor)


def _labels(rng):
    return 3 * distinct((5, 4), rng), np.array([0, 3, 1, 1, 2])


def _some_labels(rng):
    return 3 * distinct((5, 4), rng), np.array([0, -100, 1, -100, 2])


def _shares(rng):
    shares = rng.random((3, 4))
    return distinct((3, 4), rng), shares / shares.sum(axis=1, keepdims=True)


def _mse(x, target, reduction="mean"):
    squares = [(a - b) ** 2 for a, b in zip(x.ravel(), target.ravel(), strict=True)]
    reduced = _reduced(squares, reduction, x.size)
    return np.reshape(reduced, x.shape) if reduction == "none" else reduced


def _two_maps(rng):
    return distinct((2, 3, 2), rng), distinct((2, 3, 2), rng)


def smoothing_over_others(x, target, weight=None, *, label_smoothing=0.0, **settings):
    """Spread the smoothing over the K - 1 wrong classes only."""
    K = x.shape[1]
    return F.cross_entropy(
        x, target, weight, label_smoothing=label_smoothing * K / (K - 1), **settings
    )


def _mean_without_weights(x, target, weight=None, *, reduction="mean", **settings):
    losses = F.cross_entropy(x, target, weight, reduction="none", **settings)
    return {"mean": F.mean, "sum": F.sum, "none": lambda t: t}[reduction](losses)


@np.errstate(all="ignore")
def _unshifted(right, x, q):
    e = np.exp(x)
    p = e / e.sum(axis=1, keepdims=True)
    return -(q * np.log(p)).sum(axis=1), p


def _off_by_one(right, xp, logits, *target):
    q, *labels = right(xp, logits, *target)
    return xp.roll(q, 1, axis=1), *labels


def _smoothed_all_the_same(right, xp, logits, target, ignore_index):
    """An ignored label is no class, but the row stays."""
    q, labels, counted = right(xp, logits, target, ignore_index)
    return (q, labels, None) if counted is None else (q * counted[:, None], labels, None)


def with_defaults(**changed):
    """cross_entropy with some arguments fixed whatever the caller says."""
    return lambda x, target, **kwargs: F.cross_entropy(x, target, **{**kwargs, **changed})


SPECS = [
    OpSpec(
        "cross_entropy",
        F.cross_entropy,
        [
            Case("labels", _labels),
            Case("sum", _labels, {"reduction": "sum"}),
            Case("each row", _labels, {"reduction": "none"}),
            Case("smoothing", _labels, {"label_smoothing": 0.1}),
            Case("all smoothing", _labels, {"label_smoothing": 1.0}),
            Case("weights", _labels, {"weight": CLASS_WEIGHTS}),
            Case("weights, sum", _labels, {"weight": CLASS_WEIGHTS, "reduction": "sum"}),
            Case("weights, smoothing", _labels, {"weight": CLASS_WEIGHTS, "label_smoothing": 0.2}),
            Case("ignored labels", _some_labels),
            Case("ignored, sum", _some_labels, {"reduction": "sum"}),
            Case("ignored, each row", _some_labels, {"reduction": "none"}),
            Case("ignored class", _labels, {"ignore_index": 1, "label_smoothing": 0.2}),
            Case(
                "ignored class, weights, smoothing",
                _some_labels,
                {"weight": CLASS_WEIGHTS, "label_smoothing": 0.2},
            ),
            Case("shares", _shares, differentiable=(0,)),
            Case("shares, weights", _shares, {"weight": CLASS_WEIGHTS}, differentiable=(0,)),
            Case("far from 0", lambda rng: (1000 + 3 * distinct((2, 3), rng), np.array([2, 0]))),
            Case("one sample, two classes", lambda rng: (distinct((1, 2), rng), np.array([1]))),
        ],
        oracle=cross_entropy_oracle,
        terms=lambda x, target, **kwargs: 2 * x.size,
        faults=[
            broken_function("smoothing over K-1 classes", smoothing_over_others),
            broken_function("smoothing ignored", with_defaults(label_smoothing=0.0)),
            broken_function("weights ignored", with_defaults(weight=None)),
            broken_function("sum for mean", with_defaults(reduction="sum")),
            broken_function("mean over rows despite weights", _mean_without_weights),
            broken_kernel("overflow", "softmax_cross_entropy", _unshifted),
            broken_attribute("labels off by one", loss, "_target_distribution", _off_by_one),
            broken_attribute(
                "ignored labels count", loss, "_target_distribution", _smoothed_all_the_same
            ),
            broken_kernel(
                "p - q whatever the sum of q",
                "softmax_cross_entropy_grad",
                lambda right, gloss, p, q: gloss[:, None] * (p - q),
            ),
            broken_kernel(
                "upstream ignored backward",
                "softmax_cross_entropy_grad",
                lambda right, gloss, p, q: right(np.full_like(gloss, 1 / len(gloss)), p, q),
            ),
            broken_kernel(
                "softmax over the batch backward",
                "softmax_cross_entropy_grad",
                lambda right, gloss, p, q: right(gloss, p / p.sum(axis=0), q),
            ),
        ],
    ),
    OpSpec(
        "mse_loss",
        F.mse_loss,
        [
            Case("mean", _two_maps),
            Case("sum", _two_maps, {"reduction": "sum"}),
            Case("each", _two_maps, {"reduction": "none"}, batch=(0, 1)),
        ],
        oracle=_mse,
        terms=lambda x, target, **kwargs: x.size,
        faults=[
            broken_function(
                "sum for mean", lambda x, t, **kwargs: F.mse_loss(x, t, reduction="sum")
            ),
            broken_function(
                "half the square", lambda x, t, **kwargs: F.mse_loss(x, t, **kwargs) * 0.5
            ),
            broken_function(
                "mean over the batch only",
                lambda x, t, reduction="mean": F.mse_loss(x, t, reduction="sum") / len(x),
            ),
            broken_function(
                "target without gradient",
                lambda x, t, **kwargs: F.mse_loss(x, t.detach(), **kwargs),
            ),
        ],
    ),
]
