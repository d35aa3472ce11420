"""Sums, means, maxima, variances."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

import minicnn.functional as F
from minicnn.functional import reduction
from minicnn.testing import (
    Case,
    OpSpec,
    broken_attribute,
    broken_function,
    broken_kernel,
    distinct,
)
from specs._oracles import indices, mean_of


def over(reduce):
    """The oracle of a reduction: gather the values of each result, then reduce the list."""

    def oracle(x, dim=None, keepdim=False, **kwargs):
        dims = range(x.ndim) if dim is None else dim if isinstance(dim, tuple) else (dim,)
        reduced = {d % x.ndim for d in dims}
        kept = tuple(1 if a in reduced else n for a, n in enumerate(x.shape))
        values: dict[tuple[int, ...], list[float]] = {place: [] for place in indices(kept)}
        for place in indices(x.shape):
            values[tuple(0 if a in reduced else i for a, i in enumerate(place))].append(x[place])
        y = np.array([reduce(v, **kwargs) for v in values.values()]).reshape(kept)
        return y if keepdim else y.reshape([n for a, n in enumerate(kept) if a not in reduced])

    return oracle


def axes(shift: float = 0.0, name: str = "", **kwargs) -> list[Case]:
    def values(shape):
        return lambda rng: (distinct(shape, rng) + shift,)

    cases = [
        Case("all", values((2, 3, 4))),
        Case("last", values((2, 3, 4)), {"dim": -1}, batch=(0,)),
        Case("first", values((2, 3)), {"dim": 0}),
        Case("several", values((2, 3, 2, 2)), {"dim": (1, -1)}, batch=(0,)),
        Case("kept", values((2, 3, 2)), {"dim": (1,), "keepdim": True}, batch=(0,)),
        Case("all kept", values((3, 2)), {"keepdim": True}),
    ]
    return [
        dataclasses.replace(case, name=f"{case.name}{name}", kwargs={**case.kwargs, **kwargs})
        for case in cases
    ]


def _count(x, dim=None, **kwargs) -> int:
    dims = range(x.ndim) if dim is None else dim if isinstance(dim, tuple) else (dim,)
    return math.prod(x.shape[d] for d in dims)


def _variance(values, unbiased=True):
    mean = mean_of(values)
    return math.fsum((v - mean) ** 2 for v in values) / (len(values) - unbiased)


def _argmax(x, dim=None):
    if dim is None:
        return max(range(x.size), key=x.ravel().__getitem__)
    moved = np.moveaxis(x, dim, -1)
    y = np.empty(moved.shape[:-1], int)
    for place in indices(y.shape):
        y[place] = max(range(moved.shape[-1]), key=moved[place].__getitem__)
    return y


def _other_axes(right, x, dim, caller):
    found = right(x, dim, caller)
    return found if found is None else tuple(x.ndim - 1 - a for a in found)


def _fewer(right, self, k, x):
    y = right(self, k, x)
    return y * (self.count / (self.count - 1))


AXES_FAULT = broken_attribute("axes counted from the other end", reduction, "_axes", _other_axes)
KEEPDIM_FAULT = broken_attribute(
    "keepdim ignored",
    reduction._Reduction,
    "__init__",
    lambda r, self, axes, keepdim: r(self, axes, False),
)

SPECS = [
    OpSpec(
        "sum",
        F.sum,
        axes(),
        oracle=over(math.fsum),
        terms=_count,
        faults=[
            AXES_FAULT,
            KEEPDIM_FAULT,
            broken_kernel(
                "mean",
                "sum",
                lambda right, x, axis, keepdims: np.asarray(
                    right(x, axis, keepdims) * (right(x, axis, keepdims).size / max(x.size, 1)),
                    x.dtype,
                ),
            ),
            broken_attribute(
                "gradient divided by the count",
                reduction.Sum,
                "backward",
                lambda right, self, k, gy: right(self, k, gy) * 0.5,
            ),
        ],
    ),
    OpSpec(
        "mean",
        F.mean,
        axes(),
        oracle=over(mean_of),
        terms=_count,
        faults=[
            AXES_FAULT,
            KEEPDIM_FAULT,
            broken_function("sum", F.sum),
            broken_attribute("divided by n - 1", reduction.Mean, "forward", _fewer),
            broken_attribute(
                "gradient not divided",
                reduction.Mean,
                "backward",
                lambda right, self, k, gy: self.spread(k, gy),
            ),
        ],
    ),
    OpSpec(
        "amax",
        F.amax,
        [*axes(), *axes(-2.0, ", negative")],
        oracle=over(max),
        terms=0,
        faults=[
            AXES_FAULT,
            KEEPDIM_FAULT,
            broken_kernel("smallest", "max", lambda right, x, *rest: -right(-x, *rest)),
            broken_kernel("magnitude", "max", lambda right, x, *rest: right(abs(x), *rest)),
            broken_attribute(
                "gradient to all",
                reduction.Max,
                "backward",
                lambda right, self, k, gy: self.spread(k, gy),
            ),
        ],
    ),
    OpSpec(
        "var",
        F.var,
        [*axes(3.0), *axes(3.0, ", biased", unbiased=False)],
        oracle=over(_variance),
        terms=_count,
        condition=lambda x, *rest, **kwargs: float(
            abs(x).max() / x.std(axis=kwargs.get("dim")).min()
        ),
        faults=[
            AXES_FAULT,
            broken_function(
                "biased", lambda x, **kwargs: F.var(x, **{**kwargs, "unbiased": False})
            ),
            broken_function(
                "unbiased", lambda x, **kwargs: F.var(x, **{**kwargs, "unbiased": True})
            ),
            broken_function("standard deviation", lambda x, **kwargs: F.sqrt(F.var(x, **kwargs))),
            broken_attribute(
                "mean not subtracted",
                reduction,
                "mean",
                lambda right, x, *rest, **kw: right(x, *rest, **kw) * 0.0,
            ),
        ],
    ),
    OpSpec(
        "argmax",
        F.argmax,
        [
            dataclasses.replace(c, differentiable=(), nan=False)
            for c in (
                Case("all", lambda rng: (distinct((2, 3, 4), rng),)),
                Case("classes", lambda rng: (distinct((4, 5), rng),), {"dim": 1}, batch=(0,)),
                Case("channels", lambda rng: (distinct((2, 3, 2), rng),), {"dim": -2}, batch=(0,)),
                Case(
                    "equal values",
                    lambda rng: (np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]),),
                    {"dim": 1},
                ),
            )
        ],
        oracle=_argmax,
        terms=0,
        integer=True,
        faults=[
            broken_function("smallest", lambda x, **kwargs: F.argmax(F.neg(x), **kwargs)),
            broken_function("flattened", lambda x, dim=None: F.argmax(x)),
            broken_function("magnitude", lambda x, **kwargs: F.argmax(F.mul(x, x), **kwargs)),
            broken_function(
                "last of equals",
                lambda x, dim=None: (
                    F.argmax(x)
                    if dim is None
                    else F.sub(
                        x.shape[dim] - 1,
                        F.argmax(
                            x[
                                (
                                    ...,
                                    *(
                                        slice(None, None, -1 if a == dim % x.ndim else 1)
                                        for a in range(x.ndim)
                                    ),
                                )
                            ],
                            dim,
                        ),
                    )
                ),
            ),
        ],
    ),
]
