"""Changing the form of a tensor: reshape, flatten, transpose, slice, concatenate, pad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minicnn.autograd import Op, Tensor, apply, tensor_method
from minicnn.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from minicnn.functional._checks import check_dim
from minicnn_kernels.reference import Array, Kernels


class Reshape(Op):
    """The same values in another form."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, k: Kernels, x: Array) -> Array:
        """The old shape is kept; the result shares memory with x where it can."""
        self.old = x.shape
        return x.reshape(self.shape)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy in the old form."""
        return gy.reshape(self.old)


class Permute(Op):
    """The axes in another order."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        self.dims = dims

    def forward(self, k: Kernels, x: Array) -> Array:
        """Nothing is saved; the result is a view."""
        return x.transpose(self.dims)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy with the axes put back."""
        back = sorted(range(len(self.dims)), key=self.dims.__getitem__)
        return gy.transpose(back)


class Getitem(Op):
    """x[index]."""

    def __init__(self, index: Any) -> None:
        self.index = index

    def forward(self, k: Kernels, x: Array) -> Array:
        """The shape of x is kept; a result of slices is a view."""
        self.old = x.shape
        return k.xp.asanyarray(x[self.index])

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx is gy at the index and 0 elsewhere; a cell taken twice gets both gradients."""
        return k.getitem_grad(gy, self.index, self.old)


class Concat(Op):
    """Arrays joined along an axis."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, k: Kernels, *arrays: Array) -> Array:
        """The lengths of the parts are kept."""
        self.lengths = [a.shape[self.axis] for a in arrays]
        return k.concat(arrays, self.axis)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """Each part gets its slice of gy."""
        parts, start = [], 0
        for length in self.lengths:
            index = (slice(None),) * self.axis + (slice(start, start + length),)
            parts.append(gy[index])
            start += length
        return tuple(parts)


class Pad(Op):
    """x surrounded by a constant."""

    def __init__(self, widths: list[tuple[int, int]], value: float) -> None:
        self.widths = widths
        self.value = value

    def forward(self, k: Kernels, x: Array) -> Array:
        """The shape of x is kept."""
        self.old = x.shape
        return k.pad(x, self.widths, self.value)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx is the inside of gy."""
        inside = tuple(slice(b, b + n) for n, (b, _) in zip(self.old, self.widths, strict=True))
        return gy[inside]


@tensor_method("reshape", "view")
def reshape(x: Tensor, *shape: int | tuple[int, ...]) -> Tensor:
    """The same values, in row-major order, in another form; one length may be -1.

    Raises `ShapeError` where the number of values differs.

    >>> Tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, -1).array
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    target = _numbers(shape, "reshape")
    free = [i for i, n in enumerate(target) if n == -1]
    known = math.prod(n for n in target if n != -1)
    fits = len(free) <= 1 and min(target, default=0) >= -1
    fits = fits and (known > 0 and x.size % known == 0 if free else known == x.size)
    if not fits:
        raise ShapeError(
            f"reshape: {x.size} values of shape {x.shape} do not fit shape {target}; "
            "the products must be equal, with at most one -1."
        )
    return apply(Reshape(target), x)


@tensor_method("flatten")
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the axes from ``start_dim`` to ``end_dim``, row-major: (N, C, H, W) -> (N, C*H*W).

    >>> flatten(Tensor([[[1.0, 2.0], [3.0, 4.0]]]), 1).shape
    (1, 4)
    """
    if x.ndim == 0:
        return reshape(x, 1)
    first = check_dim(start_dim, x.ndim, "flatten")
    last = check_dim(end_dim, x.ndim, "flatten")
    if first > last:
        raise ShapeError(
            f"flatten: start_dim {start_dim} comes after end_dim {end_dim}; swap them."
        )
    merged = math.prod(x.shape[first : last + 1])
    return reshape(x, *x.shape[:first], merged, *x.shape[last + 1 :])


@tensor_method("permute")
def permute(x: Tensor, *dims: int | tuple[int, ...]) -> Tensor:
    """Put the axes in the order ``dims``.

    >>> permute(Tensor([[[1.0, 2.0, 3.0]]]), 2, 0, 1).shape
    (3, 1, 1)
    """
    numbers = _numbers(dims, "permute")
    order = tuple(check_dim(d, x.ndim, "permute") for d in numbers)
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(
            f"permute: dims {numbers} must name each of the {x.ndim} axes of shape {x.shape} once."
        )
    return apply(Permute(order), x)


@tensor_method("transpose")
def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two axes.

    >>> transpose(Tensor([[1.0, 2.0, 3.0]]), 0, 1).shape
    (3, 1)
    """
    order = list(range(x.ndim))
    a, b = check_dim(dim0, x.ndim, "transpose"), check_dim(dim1, x.ndim, "transpose")
    order[a], order[b] = b, a
    return apply(Permute(tuple(order)), x)


@tensor_method("__getitem__")
def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index]: slices, numbers, None, ..., and arrays of positions or booleans.

    >>> Tensor([[1.0, 2.0], [3.0, 4.0]])[:, 1].array
    array([2., 4.], dtype=float32)
    """
    parts = index if isinstance(index, tuple) else (index,)
    plain = tuple(part.array if isinstance(part, Tensor) else part for part in parts)
    try:
        return apply(Getitem(plain), x)
    except IndexError as error:
        raise OutOfRangeError(f"getitem: {error}; the tensor has shape {x.shape}.") from None


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors along an axis; all other axes must be equal. `concat` is the same.

    Raises `ShapeError` naming the tensors that do not fit: branches of unequal map sizes cannot be
    joined, they need padding="same".

    >>> cat([Tensor([[1.0]]), Tensor([[2.0]])], dim=1).array
    array([[1., 2.]], dtype=float32)
    """
    tensors = list(tensors)
    if not tensors:
        raise ArgumentError("cat: the list of tensors is empty; give at least one.")
    first = tensors[0].shape
    axis = check_dim(dim, len(first), "cat")
    for i, t in enumerate(tensors):
        if len(t.shape) != len(first) or any(
            a != axis and n != m for a, (n, m) in enumerate(zip(t.shape, first, strict=True))
        ):
            raise ShapeError(
                f"cat: tensor {i} is {t.shape}, but tensor 0 is {first}; all axes except dim={dim} "
                "must be equal. Give branches of a block padding='same' so that their maps agree."
            )
    if len({t.dtype for t in tensors}) > 1:
        listed = ", ".join(str(t.dtype) for t in tensors)
        raise DTypeError(f"cat: the tensors are {listed}; convert them to one dtype.")
    return apply(Concat(axis), *tensors)


concat = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis.

    >>> stack([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])]).shape
    (2, 2)
    """
    if not tensors:
        raise ArgumentError("stack: the list of tensors is empty; give at least one.")
    axis = check_dim(dim, tensors[0].ndim + 1, "stack")
    for i, t in enumerate(tensors):
        if t.shape != tensors[0].shape:
            raise ShapeError(
                f"stack: tensor {i} is {t.shape}, but tensor 0 is {tensors[0].shape}; all must "
                "have one shape."
            )
    return cat([reshape(t, *t.shape[:axis], 1, *t.shape[axis:]) for t in tensors], axis)


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Surround x with a constant.

    ``pad`` lists (before, after) from the last axis backward, as in PyTorch:
    ``(left, right, top, bottom)`` pads a map.

    >>> from minicnn.functional import pad
    >>> pad(Tensor([[1.0]]), (1, 0, 0, 1)).array
    array([[0., 1.],
           [0., 0.]], dtype=float32)
    """
    if mode != "constant":
        raise ArgumentError(f"pad: mode is {mode!r}; only 'constant' is offered.")
    numbers = list(pad)
    if len(numbers) % 2 or len(numbers) > 2 * x.ndim or any(n < 0 for n in numbers):
        raise ShapeError(
            f"pad: pad is {tuple(numbers)} for a tensor of {x.ndim} axes; give (before, after) "
            ">= 0 for each padded axis, the last axis first."
        )
    pairs = [(numbers[i], numbers[i + 1]) for i in range(0, len(numbers), 2)]
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    return apply(Pad(widths, value), x)


def _numbers(values: tuple[Any, ...], caller: str) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        values = tuple(values[0])
    if not all(hasattr(n, "__index__") for n in values):
        raise ArgumentError(f"{caller}: {values} holds something else than whole numbers (use //).")
    return tuple(int(n) for n in values)
