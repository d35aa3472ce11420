"""The fully connected layer."""

from __future__ import annotations

import math

import numpy as np

import minicnn.functional as F
from minicnn.testing import Case, OpSpec, broken_kernel, distinct
from specs._oracles import indices


def _linear(x, w, b) -> np.ndarray:
    y = np.empty((*x.shape[:-1], w.shape[0]))
    for *n, f in indices(y.shape):
        y[(*n, f)] = math.fsum(x[(*n, i)] * w[f, i] for i in range(w.shape[1]))
        y[(*n, f)] += 0.0 if b is None else b[f]
    return y


def layer(x: tuple[int, ...], features: int, bias: bool = True):
    def draw(rng):
        b = distinct((features,), rng) if bias else None
        return distinct(x, rng), distinct((features, x[-1]), rng), b

    return draw


def _transposed(w):
    return w.T if w.shape[0] == w.shape[1] else w


SPECS = [
    OpSpec(
        "linear",
        F.linear,
        [
            Case("rows", layer((3, 4), 2), batch=(0,)),
            Case("square", layer((2, 3), 3), batch=(0,)),
            Case("no bias", layer((3, 2), 4, bias=False), batch=(0,)),
            Case("one feature", layer((4, 1), 1), batch=(0,)),
            Case("vector", layer((5,), 3)),
            Case("sequence", layer((2, 3, 4), 2), batch=(0,)),
        ],
        oracle=_linear,
        terms=lambda x, w, b: w.shape[1] + 1,
        faults=[
            broken_kernel(
                "weight transposed", "linear", lambda right, x, w, b: right(x, _transposed(w), b)
            ),
            broken_kernel("no bias", "linear", lambda right, x, w, b: right(x, w, None)),
            broken_kernel(
                "bias twice",
                "linear",
                lambda right, x, w, b: right(x, w, None if b is None else 2 * b),
            ),
            broken_kernel(
                "weight transposed backward",
                "linear_grad_input",
                lambda right, gy, w: right(gy, _transposed(w)),
            ),
            broken_kernel(
                "weight gradient transposed",
                "linear_grad_weight",
                lambda right, gy, x: _transposed(right(gy, x)).copy(),
            ),
            broken_kernel(
                "weight gradient of the last row",
                "linear_grad_weight",
                lambda right, gy, x: right(gy[-1:], x[-1:]),
            ),
            broken_kernel(
                "bias gradient of the last row",
                "linear_grad_bias",
                lambda right, gy: right(gy[-1:]),
            ),
            broken_kernel(
                "mean over the batch",
                "linear_grad_bias",
                lambda right, gy: right(gy) / max(len(gy), 1),
            ),
        ],
    ),
]
