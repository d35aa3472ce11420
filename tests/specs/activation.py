"""Activations and softmax."""

from __future__ import annotations

import math

import numpy as np

import minicnn.functional as F
from minicnn.functional import activation
from minicnn.testing import (
    Case,
    OpSpec,
    broken_attribute,
    broken_function,
    broken_kernel,
    distinct,
)
from specs._oracles import each, lines


def maps(low: float = -1.0, high: float = 1.0) -> list[Case]:
    return [
        Case("maps", lambda rng: (distinct((2, 3, 4, 5), rng, low, high),), batch=(0,)),
        Case("1x1 maps", lambda rng: (distinct((4, 2, 1, 1), rng, low, high),), batch=(0,)),
        Case("vector", lambda rng: (distinct((7,), rng, low, high),)),
        Case("number", lambda rng: (np.array(0.5 * high),)),
    ]


def _softmax(x: np.ndarray, dim: int = -1) -> np.ndarray:
    rows, restore = lines(x, dim)
    return restore([[1 / math.fsum(math.exp(b - a) for b in row) for a in row] for row in rows])


def _log_softmax(x: np.ndarray, dim: int = -1) -> np.ndarray:
    rows, restore = lines(x, dim)
    return restore([[-_log_sum(row - a) for a in row] for row in rows])


def _log_sum(row: np.ndarray) -> float:
    top = max(row)
    return top + math.log(math.fsum(math.exp(v - top) for v in row))


def _line_length(x: np.ndarray, dim: int = -1) -> int:
    return x.shape[dim]


def scores() -> list[Case]:
    return [
        Case("scores", lambda rng: (3 * distinct((4, 5), rng),), batch=(0,)),
        Case("channels", lambda rng: (3 * distinct((2, 3, 2, 3), rng),), {"dim": 1}, batch=(0,)),
        Case("first axis", lambda rng: (distinct((3, 4), rng),), {"dim": 0}),
        Case("vector", lambda rng: (distinct((5,), rng),), {"dim": -1}),
        Case("far from 0", lambda rng: (1000 + 3 * distinct((3, 4), rng),), batch=(0,)),
        Case("one class", lambda rng: (distinct((3, 1), rng),), batch=(0,)),
    ]


@np.errstate(all="ignore")
def _unshifted_softmax(right, x, axis):
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


@np.errstate(all="ignore")
def _unshifted_log_softmax(right, x, axis):
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


@np.errstate(all="ignore")
def _overflowing_sigmoid(right, x):
    return np.exp(x) / (1 + np.exp(x))


def _unsigned_tanh_grad(right, gy, y):
    return gy * (1 + y * y)


SPECS = [
    OpSpec(
        "relu",
        F.relu,
        maps(),
        oracle=each(lambda v: v if v > 0 else 0.0),
        terms=0,
        faults=[
            broken_kernel("|x|", "relu", lambda right, x: abs(x)),
            broken_kernel("capped at 1/2", "relu", lambda right, x: np.minimum(right(x), 0.5)),
            broken_kernel("gradient below 0", "relu_grad", lambda right, gy, y: gy * (y >= 0)),
            broken_kernel("gradient of y", "relu_grad", lambda right, gy, y: gy * y),
        ],
    ),
    OpSpec(
        "leaky_relu",
        F.leaky_relu,
        [
            *maps(),
            Case("slope", lambda rng: (distinct((2, 5), rng),), {"negative_slope": 0.3}),
        ],
        oracle=each(lambda v, negative_slope=0.01: v if v > 0 else negative_slope * v),
        faults=[
            broken_function("other default", lambda x, negative_slope=0.1: F.leaky_relu(x, 0.1)),
            broken_kernel("no slope", "leaky_relu", lambda right, x, slope: right(x, 0.0)),
            broken_kernel("slope on both sides", "leaky_relu", lambda right, x, slope: slope * x),
            broken_kernel(
                "slope of 0 backward", "leaky_relu_grad", lambda right, gy, x, slope: gy * (x > 0)
            ),
            broken_kernel(
                "sides swapped backward",
                "leaky_relu_grad",
                lambda right, gy, x, slope: right(gy, -x, slope),
            ),
        ],
    ),
    OpSpec(
        "sigmoid",
        F.sigmoid,
        [*maps(-3, 3), Case("far out", lambda rng: (np.sign(distinct((9,), rng)) * 800,))],
        oracle=each(lambda v: 0.5 * (1 + math.tanh(v / 2))),
        terms=2,
        faults=[
            broken_kernel("overflow", "sigmoid", _overflowing_sigmoid),
            broken_kernel("tanh", "sigmoid", lambda right, x: np.tanh(x)),
            broken_kernel("y(1+y)", "sigmoid_grad", lambda right, gy, y: gy * y * (1 + y)),
            broken_kernel("1-y only", "sigmoid_grad", lambda right, gy, y: gy * (1 - y)),
        ],
    ),
    OpSpec(
        "tanh",
        F.tanh,
        [*maps(-3, 3), Case("far out", lambda rng: (np.sign(distinct((9,), rng)) * 800,))],
        oracle=each(lambda v: 1 - 2 / (1 + math.exp(min(2 * v, 700)))),
        terms=2,
        faults=[
            broken_kernel("sigmoid", "tanh", lambda right, x: 0.5 * (1 + right(0.5 * x))),
            broken_kernel("1+y^2", "tanh_grad", _unsigned_tanh_grad),
            broken_kernel("1-y", "tanh_grad", lambda right, gy, y: gy * (1 - y)),
        ],
    ),
    OpSpec(
        "softmax",
        F.softmax,
        scores(),
        oracle=_softmax,
        terms=_line_length,
        faults=[
            broken_kernel("overflow", "softmax", _unshifted_softmax),
            broken_kernel("axis 0", "softmax", lambda right, x, axis: right(x, 0)),
            broken_kernel("last axis", "softmax", lambda right, x, axis: right(x, x.ndim - 1)),
            broken_kernel(
                "exp over maximum",
                "softmax",
                lambda right, x, axis: np.exp(x - x.max(axis=axis, keepdims=True)),
            ),
            broken_kernel(
                "no sum backward", "softmax_grad", lambda right, gy, y, axis: gy * y * (1 - y)
            ),
            broken_kernel(
                "sum of gy backward",
                "softmax_grad",
                lambda right, gy, y, axis: y * (gy - gy.sum(axis=axis, keepdims=True)),
            ),
            broken_kernel(
                "axis 0 backward", "softmax_grad", lambda right, gy, y, axis: right(gy, y, 0)
            ),
            broken_attribute(
                "the default is axis 1", activation, "check_dim", lambda right, dim, n, who: 1 % n
            ),
        ],
    ),
    OpSpec(
        "log_softmax",
        F.log_softmax,
        scores(),
        oracle=_log_softmax,
        terms=_line_length,
        faults=[
            broken_kernel("overflow", "log_softmax", _unshifted_log_softmax),
            broken_kernel("axis 0", "log_softmax", lambda right, x, axis: right(x, 0)),
            broken_kernel("softmax", "log_softmax", lambda right, x, axis: np.exp(right(x, axis))),
            broken_kernel(
                "y for exp(y) backward",
                "log_softmax_grad",
                lambda right, gy, y, axis: gy - y * gy.sum(axis=axis, keepdims=True),
            ),
            broken_kernel(
                "sum of gy*y backward",
                "log_softmax_grad",
                lambda right, gy, y, axis: (
                    gy - np.exp(y) * (gy * np.exp(y)).sum(axis=axis, keepdims=True)
                ),
            ),
            broken_kernel(
                "axis 0 backward", "log_softmax_grad", lambda right, gy, y, axis: right(gy, y, 0)
            ),
        ],
    ),
]
