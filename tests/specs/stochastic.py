"""Dropout and stochastic depth, with given keys."""

from __future__ import annotations

import math

import numpy as np

import minicnn.functional as F
from minicnn.functional import stochastic
from minicnn.testing import (
    Case,
    OpSpec,
    broken_attribute,
    broken_function,
    broken_kernel,
    distinct,
)
from specs._oracles import random_bits

KEY = 0xC0FFEE123456789


def masked(x: np.ndarray, p: float, key: int, unit: int) -> np.ndarray:
    """Run number i of ``unit`` values survives where 32 random bits are at least p * 2**32."""
    y = np.zeros(x.size)
    for i, value in enumerate(x.ravel().tolist()):
        if p < 1 and random_bits(key, i // unit) >> 32 >= round(p * 2**32):
            y[i] = value / (1 - p)
    return y.reshape(x.shape)


def dropout(x, p=0.5, training=True, key=None):
    return masked(x, p, key, 1) if training else x


def stochastic_depth(x, p, mode="row", training=True, key=None):
    unit = math.prod(x.shape[1:]) if mode == "row" else x.size
    return masked(x, p, key, unit) if training else x


def case(name: str, shape: tuple[int, ...], view: bool = False, **kwargs) -> Case:
    settings = {"key": KEY, **kwargs}
    return Case(
        name,
        lambda rng: (distinct(shape, rng),),
        settings,
        batch=(0,),
        view=view,
        nan=False,  # a dropped NaN may become 0
    )


def _other_mask(right, self, k, gy):
    self.key += 1
    return right(self, k, gy)


def _unscaled(right, x, p, key, unit):
    return (right(x, p, key, unit) * (1 - p)).astype(x.dtype)


def _every_value(right, x, p, key, unit):
    return right(x, p, key, 1)


def _by_column(right, x, p, key, unit):
    """One mask for all samples."""
    row = right(np.ones((1, *x.shape[1:]), x.dtype), p, key, 1)
    return x * row


def _with_setting(function, **setting):
    return lambda x, **kwargs: function(x, **{**kwargs, **setting})


MASK_FAULTS = [
    broken_kernel("survivors not scaled", "dropout", _unscaled),
    broken_kernel(
        "p is the chance to survive", "dropout", lambda right, x, p, *rest: right(x, 1 - p, *rest)
    ),
    broken_kernel("key ignored", "dropout", lambda right, x, p, key, unit: right(x, p, 0, unit)),
    broken_attribute("another mask backward", stochastic.Dropout, "backward", _other_mask),
    broken_attribute(
        "no mask backward", stochastic.Dropout, "backward", lambda right, self, k, gy: gy
    ),
]

SPECS = [
    OpSpec(
        "dropout",
        F.dropout,
        [
            case("half", (3, 4, 2)),
            case("a fifth", (2, 3, 4, 4), p=0.2),
            case("nearly all", (5, 6), p=0.9),
            case("all", (2, 3), p=1.0),
            case("1x1 maps", (4, 2, 1, 1), p=0.4),
            case("none", (2, 3), view=True, p=0.0),
            case("not training", (2, 3), view=True, training=False),
        ],
        oracle=dropout,
        faults=[
            *MASK_FAULTS,
            broken_kernel("one mask for all samples", "dropout", _by_column),
            broken_function("drops outside training", _with_setting(F.dropout, training=True)),
        ],
    ),
    OpSpec(
        "stochastic_depth",
        F.stochastic_depth,
        [
            case("rows", (6, 2, 2), p=0.5),
            case("rows of maps", (5, 2, 2, 1), p=0.3, mode="row"),
            case("batch survives", (6, 2), p=0.5, mode="batch", key=1),
            case("batch dropped", (6, 2), p=0.5, mode="batch", key=2),
            case("rows of one", (7,), p=0.5),
            case("not training", (2, 3), view=True, p=0.5, training=False),
        ],
        oracle=stochastic_depth,
        faults=[
            *MASK_FAULTS,
            broken_kernel("single values", "dropout", _every_value),
            broken_function("rows always", _with_setting(F.stochastic_depth, mode="row")),
        ],
    ),
    OpSpec(
        "drop_path",
        F.drop_path,
        [
            case("rows", (6, 2, 2), p=0.5),
            case("rows of maps", (5, 2, 2, 1), p=0.3),
            case("not training", (2, 3), view=True, p=0.5, training=False),
        ],
        oracle=stochastic_depth,
        faults=[
            *MASK_FAULTS,
            broken_kernel("single values", "dropout", _every_value),
            broken_function(
                "whole batch", lambda x, p, **kw: F.stochastic_depth(x, p, mode="batch", **kw)
            ),
        ],
    ),
]
