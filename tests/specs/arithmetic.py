"""Arithmetic with broadcasting, elementary functions, the matrix product."""

from __future__ import annotations

import math

import numpy as np

import minicnn.functional as F
from minicnn.functional import arithmetic
from minicnn.testing import (
    Case,
    OpSpec,
    broken_attribute,
    broken_function,
    broken_kernel,
    distinct,
)
from specs._oracles import each, each_pair, indices


def pairs(low: float = -1.0, high: float = 1.0) -> list[Case]:
    def two(a, b):
        return lambda rng: (distinct(a, rng, low, high), distinct(b, rng, low, high))

    return [
        Case("equal shapes", two((2, 3), (2, 3)), batch=(0, 1)),
        Case("row", two((2, 3), (3,)), batch=(0,)),
        Case("column and row", two((2, 1, 3), (4, 1))),
        Case("channel of maps", two((1, 3, 1, 1), (2, 3, 2, 2)), batch=(1,)),
        Case("numbers", two((), ())),
        Case("one element and many", two((1, 1), (2, 2, 2))),
        Case("Python number", lambda rng: (distinct((2, 3), rng, low, high), 2.5), batch=(0,)),
        Case("number first", lambda rng: (2.5, distinct((4,), rng, low, high))),
        Case("whole number", lambda rng: (distinct((2, 3), rng, low, high), 3), batch=(0,)),
    ]


def _first_copy(right, op, i, k, g):
    """The gradient of one of the broadcast copies in the place of their sum."""
    shape = op.specs[i][0]
    g = g[(0,) * (g.ndim - len(shape))]
    return g[tuple(slice(0, n) for n in shape)].copy()


def _averaged(right, op, i, k, g):
    summed = right(op, i, k, g)
    return summed * (summed.size / g.size) if g.size else summed


BROADCAST_FAULTS = [
    broken_attribute("broadcast gradient not summed", arithmetic, "_fit", _first_copy),
    broken_attribute("broadcast gradient averaged", arithmetic, "_fit", _averaged),
]


def other_gradients(name: str, op: type, change) -> object:
    """The gradients (ga, gb) of an op run through ``change``."""

    def backward(right, self, k, gy):
        return change(*right(self, k, gy))

    return broken_attribute(name, op, "backward", backward)


def _minus(g):
    return None if g is None else -g


def _swap_if_equal(ga, gb):
    both = ga is not None and gb is not None
    return (gb, ga) if both and ga.shape == gb.shape else (ga, gb)


def _matmul(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x = np.broadcast_to(x, (*lead, *x.shape[-2:]))
    y = np.broadcast_to(y, (*lead, *y.shape[-2:]))
    z = np.empty((*lead, x.shape[-2], y.shape[-1]))
    for *n, i, j in indices(z.shape):
        z[(*n, i, j)] = math.fsum(x[(*n, i, m)] * y[(*n, m, j)] for m in range(x.shape[-1]))
    return z


def _untransposed(right, a, b):
    return right(a, b.swapaxes(-1, -2) if b.shape[-1] == b.shape[-2] else b)


def matrices(a: tuple[int, ...], b: tuple[int, ...]):
    return lambda rng: (distinct(a, rng), distinct(b, rng))


def powers() -> list[Case]:
    def values(low):
        return lambda rng: (distinct((2, 3, 2), rng, low, 2.0),)

    return [
        *(Case(f"exponent {e}", values(-2.0), {"exponent": e}, batch=(0,)) for e in (2, 3, 1, -1)),
        *(Case(f"exponent {e}", values(0.1), {"exponent": e}, batch=(0,)) for e in (0.5, -1.5)),
        Case("exponent 0", values(-2.0), {"exponent": 0}, batch=(0,), nan=False),
        Case("NumPy exponent", values(0.1), {"exponent": np.float64(2.5)}),
    ]


def positive() -> list[Case]:
    return [
        Case("maps", lambda rng: (distinct((2, 3, 2, 2), rng, 0.1, 3.0),), batch=(0,)),
        Case("number", lambda rng: (np.array(0.7),)),
    ]


def both_signs() -> list[Case]:
    return [
        Case("maps", lambda rng: (distinct((2, 3, 2, 2), rng, -3.0, 3.0),), batch=(0,)),
        Case("number", lambda rng: (np.array(-0.7),)),
    ]


SPECS = [
    OpSpec(
        "add",
        F.add,
        pairs(),
        oracle=each_pair(lambda a, b: a + b),
        faults=[
            *BROADCAST_FAULTS,
            broken_kernel("difference", "add", lambda right, a, b: right(a, -b)),
            other_gradients("second sign", arithmetic.Add, lambda ga, gb: (ga, _minus(gb))),
        ],
    ),
    OpSpec(
        "sub",
        F.sub,
        pairs(),
        oracle=each_pair(lambda a, b: a - b),
        faults=[
            *BROADCAST_FAULTS,
            broken_kernel("reversed", "subtract", lambda right, a, b: right(b, a)),
            other_gradients("second sign", arithmetic.Subtract, lambda ga, gb: (ga, _minus(gb))),
            other_gradients("swapped gradients", arithmetic.Subtract, _swap_if_equal),
        ],
    ),
    OpSpec(
        "mul",
        F.mul,
        pairs(),
        oracle=each_pair(lambda a, b: a * b),
        faults=[
            *BROADCAST_FAULTS,
            other_gradients("swapped gradients", arithmetic.Multiply, _swap_if_equal),
            broken_kernel("quotient", "multiply", lambda right, a, b: np.divide(a, b)),
        ],
    ),
    OpSpec(
        "div",
        F.div,
        pairs(0.5, 2.0),
        oracle=each_pair(lambda a, b: a / b),
        faults=[
            *BROADCAST_FAULTS,
            broken_kernel("reversed", "divide", lambda right, a, b: right(b, a)),
            other_gradients("second sign", arithmetic.Divide, lambda ga, gb: (ga, _minus(gb))),
            other_gradients("swapped gradients", arithmetic.Divide, _swap_if_equal),
        ],
    ),
    OpSpec(
        "matmul",
        F.matmul,
        [
            Case("matrices", matrices((2, 3), (3, 4)), batch=(0,)),
            Case("square", matrices((3, 3), (3, 3)), batch=(0,)),
            Case("batch of both", matrices((2, 2, 3), (2, 3, 2)), batch=(0, 1)),
            Case("batch of one", matrices((2, 2, 3), (3, 2)), batch=(0,)),
            Case("broadcast", matrices((2, 1, 2, 3), (3, 3, 2)), batch=(0,)),
            Case("vectors as matrices", matrices((1, 4), (4, 1)), batch=(0,)),
        ],
        oracle=_matmul,
        terms=lambda x, y: x.shape[-1],
        faults=[
            *BROADCAST_FAULTS,
            broken_kernel("a transposed factor", "matmul", _untransposed),
            broken_kernel(
                "last term dropped",
                "matmul",
                lambda r, a, b: r(a[..., :-1], b[..., :-1, :]) if a.shape[-1] > 1 else r(a, b),
            ),
            other_gradients("swapped gradients", arithmetic.Matmul, _swap_if_equal),
        ],
    ),
    OpSpec(
        "neg",
        F.neg,
        both_signs(),
        oracle=each(lambda v: -v),
        terms=0,
        faults=[broken_kernel("|x|", "multiply", lambda right, a, b: abs(right(a, b)))],
    ),
    OpSpec(
        "pow",
        lambda x, exponent: F.pow(x, exponent),
        powers(),
        oracle=lambda x, exponent: each(lambda v: math.pow(v, exponent))(x),
        terms=2,
        faults=[
            broken_kernel("exponent + 1", "power", lambda right, x, e: right(x, e + 1)),
            broken_attribute(
                "factor missing backward",
                arithmetic.Power,
                "backward",
                lambda right, self, k, gy: k.multiply(gy, k.power(*self.saved, self.exponent - 1)),
            ),
            broken_attribute(
                "exponent not lowered backward",
                arithmetic.Power,
                "backward",
                lambda right, self, k, gy: self.exponent * gy * k.power(*self.saved, self.exponent),
            ),
        ],
    ),
    OpSpec(
        "sqrt",
        F.sqrt,
        positive(),
        oracle=each(math.sqrt),
        faults=[
            broken_function("cube root", lambda x: F.pow(x, 1 / 3)),
            broken_kernel("factor missing backward", "multiply", lambda right, a, b: a * (b + 0.5)),
        ],
    ),
    OpSpec(
        "exp",
        F.exp,
        both_signs(),
        oracle=each(math.exp),
        terms=2,
        faults=[
            broken_kernel("2**x", "exp", lambda right, x: np.exp2(x)),
            broken_attribute(
                "gradient 1", arithmetic.Exp, "backward", lambda right, self, k, gy: gy * 1
            ),
        ],
    ),
    OpSpec(
        "log",
        F.log,
        positive(),
        oracle=each(math.log),
        terms=2,
        faults=[
            broken_kernel("log2", "log", lambda right, x: np.log2(x)),
            broken_attribute(
                "gradient x",
                arithmetic.Log,
                "backward",
                lambda right, self, k, gy: k.multiply(gy, *self.saved),
            ),
        ],
    ),
]
