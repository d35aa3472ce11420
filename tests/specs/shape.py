"""Reshaping, indexing, joining, padding."""

from __future__ import annotations

import functools
import math

import numpy as np

import minicnn.functional as F
from minicnn.functional import shape
from minicnn.testing import (
    Case,
    OpSpec,
    broken_attribute,
    broken_function,
    broken_kernel,
    distinct,
)
from specs._oracles import indices

ViewCase = functools.partial(Case, view=True)


def values(*shapes: tuple[int, ...]):
    return lambda rng: [distinct(s, rng) for s in shapes]


def reshaped(x: np.ndarray, target: tuple[int, ...]) -> np.ndarray:
    """Values written in row-major order into another form."""
    if -1 in target:
        known = math.prod(n for n in target if n != -1)
        target = tuple(x.size // known if n == -1 else n for n in target)
    y = np.empty(target)
    for source, place in zip(indices(x.shape), indices(target), strict=True):
        y[place] = x[source]
    return y


def flattened(x, start_dim=0, end_dim=-1):
    if x.ndim == 0:
        return reshaped(x, (1,))
    first, last = start_dim % x.ndim, end_dim % x.ndim
    merged = math.prod(x.shape[first : last + 1])
    return reshaped(x, (*x.shape[:first], merged, *x.shape[last + 1 :]))


def permuted(x, dims):
    y = np.empty([x.shape[d] for d in dims])
    for place in indices(y.shape):
        source = [0] * x.ndim
        for axis, i in zip(dims, place, strict=True):
            source[axis] = i
        y[place] = x[tuple(source)]
    return y


def transposed(x, dim0, dim1):
    dims = list(range(x.ndim))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permuted(x, [d % x.ndim for d in dims])


def joined(*parts, dim=0):
    axis = dim % parts[0].ndim
    y = np.empty([sum(p.shape[a] for p in parts) if a == axis else n
                  for a, n in enumerate(parts[0].shape)])  # fmt: skip
    start = 0
    for part in parts:
        for place in indices(part.shape):
            y[tuple(i + start if a == axis else i for a, i in enumerate(place))] = part[place]
        start += part.shape[axis]
    return y


def stacked(*parts, dim=0):
    axis = dim % (parts[0].ndim + 1)
    y = np.empty((*parts[0].shape[:axis], len(parts), *parts[0].shape[axis:]))
    for i, part in enumerate(parts):
        for place in indices(part.shape):
            y[(*place[:axis], i, *place[axis:])] = part[place]
    return y


def padded(x, pad, value=0.0):
    before = [0] * x.ndim
    shape = list(x.shape)
    for i in range(len(pad) // 2):
        axis = x.ndim - 1 - i
        before[axis] = pad[2 * i]
        shape[axis] += pad[2 * i] + pad[2 * i + 1]
    y = np.full(shape, value)
    for place in indices(x.shape):
        y[tuple(i + b for i, b in zip(place, before, strict=True))] = x[place]
    return y


def _index_cases() -> list[Case]:
    rows = np.array([2, 0, 2, 2])
    mask = np.array([True, False, True])
    chosen = {
        "number": 1,
        "numbers": (2, -1),
        "slices": (slice(1, None), slice(None, None, 2)),
        "backward": slice(None, None, -1),
        "ellipsis": (..., 1),
        "new axis": (slice(None), None, 1),
        "rows twice": (rows,),
        "pairs twice": (rows, np.array([1, 1, 1, 0])),
        "array and slice": (slice(None, 2), [0, 0, 3]),
        "mask": (mask,),
        "one element": (1, 2, 1),
    }
    return [
        ViewCase(name, values((3, 4, 2)), {"index": index}, nan=False)
        for name, index in chosen.items()
    ]


def _assigned(right, gy, index, shape):
    gx = np.zeros(shape, gy.dtype)
    gx[index] = gy
    return gx


def _parts_shifted(right, self, k, gy):
    return right(self, k, k.xp.roll(gy, 1, axis=self.axis))


def _parts_reversed(right, self, k, gy):
    parts = right(self, k, gy)
    return parts[::-1] if len({p.shape for p in parts}) == 1 else parts


def _column_major(right, self, k, x):
    right(self, k, x)
    return x.reshape(self.shape, order="F")


def _dims_not_inverted(right, self, k, gy):
    back = [sorted(range(gy.ndim), key=self.dims.__getitem__)[d] for d in range(gy.ndim)]
    wrong = gy.transpose(self.dims)
    return wrong if wrong.shape == gy.transpose(back).shape else gy.transpose(back)


def _inside_shifted(right, self, k, gy):
    return right(self, k, k.xp.roll(gy, 1, axis=-1))


def _cat(*tensors, dim=0):
    return F.cat(tensors, dim)


def _stack(*tensors, dim=0):
    return F.stack(tensors, dim)


def _pad(x, pad, value=0.0):
    return F.pad(x, pad, value=value)


SPECS = [
    OpSpec(
        "reshape",
        lambda x, shape: F.reshape(x, shape),
        [
            ViewCase("other form", values((2, 6)), {"shape": (3, 4)}),
            ViewCase("one free", values((2, 3, 4)), {"shape": (2, -1)}, batch=()),
            ViewCase("maps to rows", values((2, 3, 2, 2)), {"shape": (-1, 12)}, batch=(0,)),
            ViewCase("to a number", values((1, 1)), {"shape": ()}),
        ],
        oracle=lambda x, shape: reshaped(x, shape),
        terms=0,
        faults=[
            broken_attribute("column-major", shape.Reshape, "forward", _column_major),
            broken_attribute(
                "column-major backward",
                shape.Reshape,
                "backward",
                lambda right, self, k, gy: gy.reshape(self.old, order="F"),
            ),
        ],
    ),
    OpSpec(
        "flatten",
        F.flatten,
        [
            ViewCase("all", values((2, 3))),
            ViewCase("maps", values((2, 3, 2, 2)), {"start_dim": 1}, batch=(0,)),
            ViewCase("middle", values((2, 3, 2, 2)), {"start_dim": 1, "end_dim": 2}, batch=(0,)),
            ViewCase("number", values(())),
        ],
        oracle=flattened,
        terms=0,
        faults=[
            broken_attribute("column-major", shape.Reshape, "forward", _column_major),
            broken_function("start_dim ignored", lambda x, **kwargs: F.flatten(x)),
            broken_function(
                "to the end", lambda x, start_dim=0, end_dim=-1: F.flatten(x, start_dim)
            ),
        ],
    ),
    OpSpec(
        "permute",
        lambda x, dims: F.permute(x, dims),
        [
            ViewCase("three-cycle", values((2, 3, 4)), {"dims": (2, 0, 1)}),
            ViewCase("three-cycle of equal axes", values((3, 3, 3)), {"dims": (1, 2, 0)}),
            ViewCase("maps", values((2, 3, 2, 4)), {"dims": (0, 2, 3, 1)}, batch=(0,)),
            ViewCase("from the end", values((2, 3)), {"dims": (-1, 0)}),
        ],
        oracle=lambda x, dims: permuted(x, [d % x.ndim for d in dims]),
        terms=0,
        faults=[
            broken_attribute(
                "order not inverted backward", shape.Permute, "backward", _dims_not_inverted
            ),
            broken_function("axes reversed", lambda x, dims: F.permute(x, *range(x.ndim)[::-1])),
        ],
    ),
    OpSpec(
        "transpose",
        F.transpose,
        [
            ViewCase("matrix", values((2, 3)), {"dim0": 0, "dim1": 1}),
            ViewCase("square", values((3, 3)), {"dim0": 1, "dim1": 0}),
            ViewCase("maps", values((2, 3, 2, 2)), {"dim0": 1, "dim1": -1}, batch=(0,)),
        ],
        oracle=transposed,
        terms=0,
        faults=[
            broken_function("nothing swapped", lambda x, dim0, dim1: x),
            broken_function("first two swapped", lambda x, dim0, dim1: F.transpose(x, 0, 1)),
            broken_attribute(
                "not undone backward",
                shape.Permute,
                "backward",
                lambda r, self, k, gy: gy if gy.shape == r(self, k, gy).shape else r(self, k, gy),
            ),
        ],
    ),
    OpSpec(
        "getitem",
        F.getitem,
        _index_cases(),
        oracle=lambda x, index: x[index],  # NumPy's indexing is the definition
        terms=0,
        faults=[
            broken_kernel("= for += where a cell is taken twice", "getitem_grad", _assigned),
            broken_kernel(
                "gradient of the whole", "getitem_grad", lambda r, gy, i, s: r(gy, i, s) + gy.sum()
            ),
            broken_function(
                "next position", lambda x, index: F.getitem(F.cat([x[1:], x[:1]]), index)
            ),
        ],
    ),
    OpSpec(
        "cat",
        _cat,
        [
            Case("rows", values((2, 3), (1, 3), (3, 3))),
            Case("columns", values((2, 3), (2, 1)), {"dim": 1}, batch=(0, 1)),
            Case("channels", values((2, 1, 2, 2), (2, 3, 2, 2)), {"dim": 1}, batch=(0, 1)),
            Case("equal parts", values((2, 2), (2, 2)), {"dim": -1}, batch=(0, 1)),
            Case("one part", values((2, 3))),
        ],
        oracle=joined,
        terms=0,
        also=("concat",),
        faults=[
            broken_attribute("slices shifted", shape.Concat, "backward", _parts_shifted),
            broken_attribute("parts in reverse", shape.Concat, "backward", _parts_reversed),
            broken_function("joined in reverse", lambda *t, dim=0: F.cat(t[::-1], dim)),
            broken_function(
                "dim ignored",
                lambda *t, dim=0: F.cat(t, 0 if len({p.shape[1:] for p in t}) == 1 else dim),
            ),
        ],
    ),
    OpSpec(
        "stack",
        _stack,
        [
            Case("first", values((2, 3), (2, 3))),
            Case("middle", values((2, 3), (2, 3), (2, 3)), {"dim": 1}, batch=(0, 1, 2)),
            Case("last", values((2, 3), (2, 3)), {"dim": -1}, batch=(0, 1)),
            Case("numbers", values((), ())),
        ],
        oracle=stacked,
        terms=0,
        faults=[
            broken_attribute("slices shifted", shape.Concat, "backward", _parts_shifted),
            broken_attribute("parts in reverse", shape.Concat, "backward", _parts_reversed),
            broken_function("stacked in front", lambda *tensors, dim=0: F.stack(tensors, 0)),
        ],
    ),
    OpSpec(
        "pad",
        _pad,
        [
            Case("map", values((2, 1, 2, 3)), {"pad": (1, 2, 3, 0)}, batch=(0,)),
            Case("columns", values((2, 3)), {"pad": (0, 2), "value": -1.5}, batch=(0,)),
            Case("channels", values((2, 2, 2, 2)), {"pad": (0, 0, 0, 0, 1, 1)}, batch=(0,)),
            Case("nothing", values((2, 3)), {"pad": ()}, batch=(0,)),
        ],
        oracle=padded,
        terms=0,
        faults=[
            broken_function("value ignored", lambda x, pad, value=0.0: F.pad(x, pad)),
            broken_function(
                "first axis first", lambda x, pad, value=0.0: F.pad(x, pad[::-1], value=value)
            ),
            broken_function(
                "before and after swapped",
                lambda x, pad, value=0.0: F.pad(
                    x, [n for i in range(0, len(pad), 2) for n in (pad[i + 1], pad[i])], value=value
                ),
            ),
            broken_attribute("inside shifted backward", shape.Pad, "backward", _inside_shifted),
            broken_kernel(
                "x itself where nothing is added",
                "pad",
                lambda right, x, widths, value: right(x, widths, value) if np.any(widths) else x,
            ),
        ],
    ),
]
