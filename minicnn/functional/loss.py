"""Losses: softmax cross-entropy and mean squared error."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.autograd import Op, Tensor, apply
from minicnn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from minicnn.functional._checks import check_float, check_reduction, is_whole, lies_between
from minicnn.functional.reduction import mean, sum
from minicnn_kernels import registry
from minicnn_kernels.reference import Array, Kernels


class SoftmaxCrossEntropy(Op):
    """-sum of q * log softmax(x), for each row."""

    def forward(self, k: Kernels, x: Array, q: Array) -> Array:
        """The softmax and q are saved."""
        loss, p = k.softmax_cross_entropy(x, q)
        self.save(p, q)
        return loss

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy * (softmax * sum(q) - q); q is a constant."""
        p, q = self.saved
        return k.softmax_cross_entropy_grad(gy, p, q), None


def cross_entropy(
    x: Tensor,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax followed by cross-entropy, as one stable operation on logits.

    With p = softmax(x) and K classes, the loss of row n is

        -sum over c of weight[c] * q[n, c] * log p[n, c]

    where q is the target distribution, mixed with the uniform one by ``label_smoothing`` e:
    (1 - e) * q + e / K. Its gradient by the logits is p - q.

    x : Tensor (N, K), logits: no softmax before this function
    target : integers (N,) from 0 to K - 1, or probabilities (N, K)
    weight : numbers (K,), the importance of each class; or None
    ignore_index : rows with this label have loss and gradient 0, and the mean is over the others:
        NaN where there is none (on a GPU its gradient too)
    reduction : "mean" (with ``weight`` and integers the weighted mean), "sum" or "none" -> (N,)

    Saved for backward: softmax and q. Raises `ShapeError`, `DTypeError`. A label out
    of range is an `ArgumentError`, or, where the logits are on a GPU, a loss of NaN. Source of the
    smoothing: Szegedy et al. 2016, section 7.

    >>> round(cross_entropy(Tensor([[2.0, 1.0, 0.1]]), [0]).item(), 6)
    0.41703
    """
    check_reduction(reduction, "cross_entropy")
    check_float(x, "cross_entropy")
    if len(x.shape) != 2 or 0 in x.shape:
        raise ShapeError(
            f"cross_entropy: x must hold logits (N, K), N and K at least 1, but is {x.shape}."
        )
    if isinstance(target, Tensor) and target.requires_grad:
        raise GraphError(
            "cross_entropy: no gradient flows to the target; pass target.detach() to say so."
        )
    if not lies_between(0, label_smoothing, 1):
        raise ArgumentError(
            f"cross_entropy: label_smoothing is {label_smoothing!r}; give a number from 0 to 1."
        )
    logits = x.array if isinstance(x, Tensor) else x
    xp = registry.kernels_for("cross_entropy", (logits,)).xp
    q, labels, counted = _target_distribution(
        xp, logits, target, checked_index(ignore_index, "cross_entropy")
    )
    if label_smoothing:
        q = (1.0 - label_smoothing) * q + label_smoothing / x.shape[1]
    if weight is not None:
        weight = _class_weights(xp, logits, weight)
        q = q * weight
    if counted is not None:
        q = xp.where(counted[:, None], q, 0)
    losses = apply(SoftmaxCrossEntropy(), x, q)
    if reduction == "mean" and labels is not None and (weight is not None or counted is not None):
        return _weighted_mean(losses, xp, labels, weight, counted)
    return {"mean": mean, "sum": sum, "none": lambda t: t}[reduction](losses)


def mse_loss(x: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """Squared error: the mean (or "sum", or "none") of (x - target)**2.

    ``target`` must have the shape of x: a broadcast here is nearly always a mistake.

    >>> mse_loss(Tensor([1.0, 2.0]), Tensor([1.0, 4.0])).item()
    2.0
    """
    check_reduction(reduction, "mse_loss")
    target = target if hasattr(target, "shape") else Tensor(target)
    if x.shape != target.shape:
        raise ShapeError(
            f"mse_loss: x is {x.shape} but target is {target.shape}; they must be equal."
        )
    error = x - target
    squared = error * error
    return {"mean": mean, "sum": sum, "none": lambda t: t}[reduction](squared)


def checked_index(ignore_index: Any, caller: str) -> int:
    """Return the label to ignore as an int, or raise `ArgumentError`."""
    if not is_whole(ignore_index):
        raise ArgumentError(
            f"{caller}: ignore_index is {ignore_index!r}; give a whole number, the label to ignore."
        )
    return int(ignore_index)


def _target_distribution(
    xp: Any, logits: Array, target: Any, ignore_index: int
) -> tuple[Array, Array | None, Array | None]:
    """The target as a distribution (N, K), and where it was given as integers also the labels.

    At last which rows count, None if all do; the labels of the others are 0.
    """
    N, K = logits.shape
    values = xp.asarray(target.array if isinstance(target, Tensor) else target)
    if values.dtype.kind == "f":
        if values.shape != (N, K):
            raise ShapeError(
                f"cross_entropy: target holds probabilities of shape {values.shape}, but x is "
                f"{logits.shape}; they must be equal (class numbers must be integers)."
            )
        if ignore_index >= 0:
            raise ArgumentError(
                f"cross_entropy: ignore_index={ignore_index} names a class number, but target "
                "holds probabilities; leave ignore_index out."
            )
        return values.astype(logits.dtype), None, None
    if values.dtype.kind not in "iu":
        raise DTypeError(
            f"cross_entropy: target is {values.dtype}; give class numbers as integers, for example "
            "target.astype(np.int64), or probabilities (N, K)."
        )
    if values.shape != (N,):
        raise ShapeError(
            f"cross_entropy: target holds {values.shape} class numbers, but x has {N} rows (x is "
            f"{logits.shape}); target must be ({N},)."
        )
    counted = _counted(xp, values, ignore_index)
    labels = values if counted is None else xp.where(counted, values, 0)
    if xp is not np:
        return _one_hot(xp, logits, labels), labels, counted
    wrong = (labels < 0) | (labels >= K)
    if wrong.any():
        row = int(wrong.argmax())
        raise ArgumentError(
            f"cross_entropy: target[{row}] is {int(values[row])}, but x has {K} classes; "
            f"labels must be 0 to {K - 1}, or ignore_index, {ignore_index}."
        )
    q = xp.zeros((N, K), logits.dtype)
    q[xp.arange(N), labels] = 1
    return q, labels, counted


def _counted(xp: Any, labels: Array, ignore_index: int) -> Array | None:
    """Which labels are not to be ignored (N,), or None where it is known that all are.

    On a GPU only the type of the labels says so: to look at them the CPU would have to wait.
    """
    known = np.iinfo(labels.dtype)
    if not known.min <= ignore_index <= known.max:
        return None
    counted = labels != ignore_index
    return None if xp is np and counted.all() else counted


def _weighted_mean(
    losses: Tensor, xp: Any, labels: Array, weight: Array | None, counted: Array | None
) -> Tensor:
    """The sum of the losses by the sum of the weights of the rows that count."""
    rows: Any = counted if weight is None else weight[labels]
    if weight is not None and counted is not None:
        rows = xp.where(counted, rows, 0)
    total = rows.sum(dtype=losses.dtype)
    if xp is not np:
        return sum(losses) / total
    # A batch without labels is no number, but its gradient is 0, as in PyTorch.
    return sum(losses) / total.item() if total else sum(losses) + np.nan


def _one_hot(xp: Any, logits: Array, labels: Array) -> Array:
    """Rows of zeros with a one; NaN for a label out of range.

    To raise an error the CPU would have to wait for the GPU in every step.
    """
    K = logits.shape[1]
    q = (labels[:, None] == xp.arange(K)).astype(logits.dtype)
    is_class = (labels >= 0) & (labels < K)
    return xp.where(is_class[:, None], q, np.nan)


def _class_weights(xp: Any, logits: Array, weight: Any) -> Array:
    weight = xp.asarray(weight.array if isinstance(weight, Tensor) else weight, logits.dtype)
    if weight.shape != (logits.shape[1],):
        raise ShapeError(
            f"cross_entropy: weight is {weight.shape}, but x has {logits.shape[1]} classes; "
            "give one number a class."
        )
    return weight
