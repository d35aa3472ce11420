"""Sums, means and other reductions over axes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from minicnn.autograd import Op, Tensor, apply, tensor_method
from minicnn.functional._checks import check_dim, check_not_empty
from minicnn.functional.shape import getitem, reshape
from minicnn_kernels import registry
from minicnn_kernels.reference import Array, Kernels

Dim = int | tuple[int, ...] | list[int] | None


class _Reduction(Op):
    """What reductions share: the reduced axes, and the way back to the full shape."""

    def __init__(self, axes: tuple[int, ...] | None, keepdim: bool) -> None:
        self.axes = axes
        self.keepdim = keepdim

    def spread(self, k: Kernels, g: Array) -> Array:
        """A read-only view of g repeated over the reduced axes."""
        spec = self.specs[0]
        assert spec is not None  # backward runs only where the argument needs a gradient
        shape = spec[0]
        axes = range(len(shape)) if self.axes is None else self.axes
        kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
        return k.xp.broadcast_to(g.reshape(kept), shape)


class Sum(_Reduction):
    """Sum over axes."""

    def forward(self, k: Kernels, x: Array) -> Array:
        """Nothing is saved."""
        return k.sum(x, self.axes, self.keepdim)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy, repeated."""
        return self.spread(k, gy)


class Mean(_Reduction):
    """Mean over axes."""

    def forward(self, k: Kernels, x: Array) -> Array:
        """The number of averaged values is kept."""
        axes = range(x.ndim) if self.axes is None else self.axes
        self.count = math.prod(x.shape[a] for a in axes)
        return k.divide(k.sum(x, self.axes, self.keepdim), self.count)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy / count, repeated."""
        return self.spread(k, k.divide(gy, self.count))


class Max(_Reduction):
    """Largest value over axes."""

    def forward(self, k: Kernels, x: Array) -> Array:
        """x and the maximum are saved."""
        y = k.max(x, self.axes, self.keepdim)
        self.save(x, y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy where x is the maximum, shared equally among equals."""
        x, y = self.saved
        hits = (x == self.spread(k, y)).astype(x.dtype)
        axes = tuple(range(x.ndim)) if self.axes is None else self.axes
        share = k.divide(hits, k.sum(hits, axes, True))
        return k.multiply(share, self.spread(k, gy))


@tensor_method("sum")
def sum(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Sum over ``dim``: an axis, several, or all (None).

    >>> sum(Tensor([[1.0, 2.0], [3.0, 4.0]]), dim=1).array
    array([3., 7.], dtype=float32)
    """
    return apply(Sum(_axes(x, dim, "sum"), keepdim), x)


@tensor_method("mean")
def mean(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Mean over ``dim``: an axis, several, or all (None).

    >>> mean(Tensor([[1.0, 2.0], [3.0, 4.0]])).item()
    2.5
    """
    return apply(Mean(_axes(x, dim, "mean"), keepdim), x)


@tensor_method("amax")
def amax(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Largest value over ``dim``; equal maxima share the gradient, as in ``torch.amax``.

    >>> amax(Tensor([[1.0, 5.0], [3.0, 4.0]]), dim=1).array
    array([5., 4.], dtype=float32)
    """
    axes = _axes(x, dim, "amax")
    check_not_empty(x, range(len(x.shape)) if axes is None else axes, "amax")
    return apply(Max(axes, keepdim), x)


@tensor_method("var")
def var(x: Tensor, dim: Dim = None, unbiased: bool = True, keepdim: bool = False) -> Tensor:
    """Variance over ``dim``: mean squared distance from the mean, over n - 1 if ``unbiased``.

    >>> var(Tensor([1.0, 2.0, 3.0])).item()
    1.0
    """
    distance = x - mean(x, dim, keepdim=True)
    total = sum(distance * distance, dim, keepdim)
    axes = _axes(x, dim, "var")
    count = math.prod(x.shape if axes is None else (x.shape[a] for a in axes))
    return total / (max(count - 1, 0) if unbiased else count)


@tensor_method("argmax")
def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Position of the largest value along ``dim`` (or in the flattened tensor); no gradient.

    >>> argmax(Tensor([[1.0, 5.0], [3.0, 4.0]]), dim=1).array
    array([1, 1])
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    axis = None if dim is None else check_dim(dim, x.ndim, "argmax")
    check_not_empty(x, range(x.ndim) if axis is None else (axis,), "argmax")
    return Tensor(x.array.argmax(axis=axis, keepdims=keepdim))


class Largest(NamedTuple):
    """What ``Tensor.max(dim)`` gives: the values, and their positions along the axis."""

    values: Tensor
    indices: Tensor


@tensor_method("max")
def _max(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | Largest:
    """The largest value; with ``dim`` values and positions along it, as ``torch.max``.

    Along an axis the gradient goes to the first of equal maxima, otherwise they share it.

    >>> values, indices = Tensor([[1.0, 5.0], [3.0, 4.0]]).max(1)
    >>> values.array, indices.array
    (array([5., 4.], dtype=float32), array([1, 1]))
    """
    if dim is None:
        return amax(x)
    axis = check_dim(dim, x.ndim, "max")
    indices = argmax(x, axis, keepdim=True)
    xp = registry.kernels_for("max", (x.array,)).xp
    index = [xp.arange(n).reshape(-1, *[1] * (x.ndim - a - 1)) for a, n in enumerate(x.shape)]
    index[axis] = indices.array
    values = getitem(x, tuple(index))
    if keepdim:
        return Largest(values, indices)
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    return Largest(reshape(values, shape), reshape(indices, shape))


def _axes(x: Tensor, dim: Dim, caller: str) -> tuple[int, ...] | None:
    if dim is None:
        return None
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    return tuple(sorted({check_dim(d, len(x.shape), caller) for d in dims}))
