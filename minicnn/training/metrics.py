"""What a classifier gets right: accuracy, top-k error, the confusion matrix and its scores.

Everything here takes NumPy arrays (or tensors, which are detached first) and returns Python floats
or NumPy arrays. Where a score is 0/0, it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from minicnn.errors import ArgumentError, DTypeError, ShapeError

__all__ = ["ConfusionMatrix", "RunningMean", "accuracy", "classification_report", "topk_error"]


def accuracy(predictions_or_scores: Any, labels: Any) -> float:
    """Return the share of predictions that are right.

    ``mean(prediction == label)``, where the prediction of a row of scores is its largest entry (the
    first of equal ones). A row that holds a NaN predicts nothing and counts as wrong.

    Parameters
    ----------
    predictions_or_scores : (N,) class indices, or (N, C) scores
    labels : (N,) class indices

    Raises
    ------
    ShapeError, DTypeError : shapes that differ; predictions or labels that are no integers.
    ArgumentError : no predictions at all, or a label outside 0..C-1.

    >>> accuracy([0, 0, 1, 1], [0, 1, 1, 1])
    0.75
    >>> accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    0.5
    """
    given = _array(predictions_or_scores)
    if given.ndim == 2:
        wrong = _outside_top("accuracy", given, labels, 1)
        return int(np.count_nonzero(~wrong)) / len(wrong)
    predicted = _indices("accuracy", "predictions", given)
    truth = _indices("accuracy", "labels", _array(labels))
    _check_pairs("accuracy", "predictions", len(predicted), truth)
    return int(np.count_nonzero(predicted == truth)) / len(truth)


def topk_error(scores: Any, labels: Any, k: int = 5) -> float:
    """Return the share of rows whose label is not among the ``k`` largest scores.

    Of equal scores the lower class index ranks first, so that ``k=1`` is exactly one minus the
    accuracy. A row that holds a NaN ranks nothing and counts as wrong.

    Parameters
    ----------
    scores : (N, C)
    labels : (N,) class indices
    k : from 1 to C

    Raises
    ------
    ShapeError, DTypeError : shapes that do not fit; labels that are no integers.
    ArgumentError : ``k`` or a label out of range, or no rows at all.

    >>> topk_error([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], [1, 2], k=2)
    0.5
    """
    wrong = _outside_top("topk_error", _array(scores), labels, k)
    return int(np.count_nonzero(wrong)) / len(wrong)


class ConfusionMatrix:
    """Counts of (true class, predicted class), and the scores that follow from them.

    Parameters
    ----------
    num_classes : C

    Attributes
    ----------
    matrix : (C, C) int64; ``matrix[t, p]`` counts examples of class ``t`` predicted as ``p``.

    With TP the diagonal, FP the rest of a column, FN the rest of a row: precision TP/(TP+FP),
    recall TP/(TP+FN), F1 2 TP/(2 TP+FP+FN). A score whose denominator is 0 is 0.

    >>> counts = ConfusionMatrix(3)
    >>> counts.update([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2])
    >>> counts.matrix
    array([[2, 1, 0],
           [0, 1, 1],
           [0, 0, 1]])
    >>> counts.precision
    array([1. , 0.5, 0.5])
    """

    def __init__(self, num_classes: int) -> None:
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ArgumentError(
                f"ConfusionMatrix: num_classes must be a positive integer, not {num_classes!r}."
            )
        self.num_classes = num_classes
        self.matrix = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, predicted: Any, labels: Any) -> None:
        """Count a batch.

        Parameters
        ----------
        predicted : (N,) class indices
        labels : (N,) class indices

        Raises
        ------
        ShapeError, DTypeError : shapes that differ; scores where class indices are wanted.
        ArgumentError : a class outside 0..C-1; nothing of the batch is counted.

        >>> counts = ConfusionMatrix(2)
        >>> counts.update([1], [0])
        >>> int(counts.matrix[0, 1])
        1
        """
        function, C = "ConfusionMatrix.update", self.num_classes
        guess = _indices(function, "predicted", _array(predicted))
        truth = _indices(function, "labels", _array(labels))
        if guess.shape != truth.shape:
            raise ShapeError(_lengths_differ(function, "predicted", len(guess), len(truth)))
        _check_range(function, "predicted", guess, C)
        _check_range(function, "labels", truth, C)
        self.matrix += np.bincount(truth * C + guess, minlength=C * C).reshape(C, C)

    @property
    def accuracy(self) -> float:
        """The share of all examples on the diagonal."""
        return float(_ratio(np.trace(self.matrix), self.matrix.sum()))

    @property
    def precision(self) -> np.ndarray:
        """Of what was predicted as a class, the share that is of it; (C,) float64."""
        return _ratio(np.diagonal(self.matrix), self.matrix.sum(axis=0))

    @property
    def recall(self) -> np.ndarray:
        """Of what is of a class, the share that was predicted as it; (C,) float64."""
        return _ratio(np.diagonal(self.matrix), self.matrix.sum(axis=1))

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall; (C,) float64."""
        either = self.matrix.sum(axis=0) + self.matrix.sum(axis=1)
        return _ratio(2 * np.diagonal(self.matrix), either)

    @property
    def macro_f1(self) -> float:
        """The plain mean of F1 over all classes, those without examples included."""
        return float(self.f1.mean())


def classification_report(matrix: ConfusionMatrix | np.ndarray, classes: Sequence[str]) -> str:
    """Return a plain-text table of precision, recall, F1 and the number of examples per class.

    Parameters
    ----------
    matrix : a `ConfusionMatrix`, or its (C, C) counts, rows the true class
    classes : C names

    Raises
    ------
    ShapeError : the matrix is not square, or the number of names differs from its size.
    DTypeError, ArgumentError : counts that are no integers, or negative.

    >>> print(classification_report(np.array([[3, 1], [0, 4]]), ["cat", "dog"]))
    class      precision  recall      f1  examples
    cat           1.0000  0.7500  0.8571         4
    dog           0.8000  1.0000  0.8889         4
    macro mean    0.9000  0.8750  0.8730         8
    accuracy      0.8750
    """
    counts = _counts(matrix, len(classes))
    names = [str(name) for name in classes]
    support = counts.matrix.sum(axis=1)
    columns = (counts.precision, counts.recall, counts.f1)
    rows = [
        (name, *scores, int(examples))
        for name, *scores, examples in zip(names, *columns, support, strict=True)
    ]
    rows.append(("macro mean", *(column.mean() for column in columns), int(support.sum())))
    width = max(len(row[0]) for row in rows)
    lines = [f"{'class':<{width}}  precision  recall      f1  examples"]
    lines += [f"{n:<{width}}  {p:9.4f}  {r:6.4f}  {f:6.4f}  {e:8d}" for n, p, r, f, e in rows]
    lines.append(f"{'accuracy':<{width}}  {counts.accuracy:9.4f}")
    return "\n".join(lines)


class RunningMean:
    """A weighted mean that is exact: rational arithmetic, rounded once when it is read.

    ``sum(weight * value) / sum(weight)``. The order of the updates does not matter, and a run that
    was stopped and resumed reports the same mean as one that was not. NaN and infinities stay
    visible: they enter the mean as they would in a plain sum.

    >>> mean = RunningMean()
    >>> mean.update(0.5, weight=3)
    >>> mean.update(1.0)
    >>> mean.value
    0.625
    """

    def __init__(self) -> None:
        self.reset()

    def update(self, value: float, weight: float = 1) -> None:
        """Add one value; ``weight`` is how many examples it stands for.

        Raises
        ------
        ArgumentError : a weight that is negative or not finite.

        >>> mean = RunningMean(); mean.update(2.0, weight=128); mean.weight
        128.0
        """
        if not (math.isfinite(weight) and weight >= 0):
            raise ArgumentError(
                f"RunningMean.update: weight must be finite and not negative, but it is {weight}."
            )
        number = float(value)
        if math.isfinite(number):
            self._total += Fraction(number) * Fraction(float(weight))
        elif weight > 0:
            self._non_finite += number
        self._weight += Fraction(float(weight))

    @property
    def value(self) -> float:
        """The mean so far; NaN before the first update."""
        if not self._weight:
            return math.nan
        return float(self._total / self._weight) + self._non_finite

    @property
    def weight(self) -> float:
        """The sum of the weights."""
        return float(self._weight)

    def reset(self) -> None:
        """Forget everything, as before an epoch.

        >>> mean = RunningMean(); mean.update(1.0); mean.reset(); mean.value
        nan
        """
        self._total = Fraction(0)
        self._weight = Fraction(0)
        self._non_finite = 0.0

    def state_dict(self) -> dict[str, str]:
        """Return the exact state in a form that strict JSON holds.

        >>> mean = RunningMean(); mean.update(0.75, weight=2); mean.state_dict()
        {'total': '3/2', 'weight': '2', 'non_finite': '0.0'}
        """
        return {
            "total": str(self._total),
            "weight": str(self._weight),
            "non_finite": str(self._non_finite),
        }

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        """Go on from what `state_dict` returned.

        Raises
        ------
        ArgumentError : an entry that is missing or no number.

        >>> mean = RunningMean()
        >>> mean.load_state_dict({"total": "3/2", "weight": "2", "non_finite": "0.0"})
        >>> mean.value
        0.75
        """
        try:
            total, weight = Fraction(state["total"]), Fraction(state["weight"])
            non_finite = float(state["non_finite"])
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ArgumentError(
                f"RunningMean.load_state_dict: {state!r} is not a state of a RunningMean; "
                "it needs total, weight and non_finite as state_dict() writes them."
            ) from error
        self._total, self._weight, self._non_finite = total, weight, non_finite


def _outside_top(function: str, scores: np.ndarray, labels: Any, k: int) -> np.ndarray:
    """Return for each row whether its label is missing from the k largest scores; (N,) bool."""
    truth = _indices(function, "labels", _array(labels))
    if scores.ndim != 2:
        raise ShapeError(f"{function}: scores must be (N, classes), but they are {scores.shape}.")
    N, C = scores.shape
    _check_pairs(function, "scores", N, truth)
    _check_range(function, "labels", truth, C)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= C:
        raise ArgumentError(
            f"{function}: k must be an integer from 1 to {C}, the number of classes, but it is {k}."
        )
    own = scores[np.arange(N), truth][:, None]
    earlier = np.arange(C) < truth[:, None]
    rank = np.count_nonzero((scores > own) | ((scores == own) & earlier), axis=1)
    return (rank >= k) | np.isnan(scores).any(axis=1)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().numpy() if hasattr(values, "detach") else values)


def _indices(function: str, name: str, values: np.ndarray) -> np.ndarray:
    """Return class indices as (N,) int64, so that sums of small unsigned types cannot wrap."""
    if values.ndim != 1:
        raise ShapeError(
            f"{function}: {name} must be class indices of shape (N,), but it is {values.shape}."
            + (" Take .argmax(axis=1) of scores first." if values.ndim == 2 else "")
        )
    if values.dtype.kind not in "iub" and values.size:
        raise DTypeError(
            f"{function}: {name} must be integers, but it is {values.dtype}; "
            "class indices count from 0."
        )
    return values.astype(np.int64)


def _check_pairs(function: str, name: str, N: int, labels: np.ndarray) -> None:
    if len(labels) != N:
        raise ShapeError(_lengths_differ(function, name, N, len(labels)))
    if N == 0:
        raise ArgumentError(f"{function}: there is nothing to score; pass at least one example.")


def _lengths_differ(function: str, name: str, N: int, labels: int) -> str:
    return f"{function}: {name} has {N} rows but labels has {labels}; pass one label for each row."


def _check_range(function: str, name: str, indices: np.ndarray, C: int) -> None:
    bad = np.flatnonzero((indices < 0) | (indices >= C))
    if bad.size:
        raise ArgumentError(
            f"{function}: {name}[{bad[0]}] is {indices[bad[0]]}, but with {C} classes it must be "
            f"from 0 to {C - 1} ({bad.size} of {indices.size} are out of range)."
        )


def _counts(matrix: ConfusionMatrix | np.ndarray, C: int) -> ConfusionMatrix:
    array = matrix.matrix if isinstance(matrix, ConfusionMatrix) else np.asarray(matrix)
    if array.shape != (C, C) or C == 0:
        raise ShapeError(
            f"classification_report: matrix is {array.shape} but classes has {C} names; "
            f"pass a square matrix and one name for each of its rows."
        )
    if array.dtype.kind not in "iu":
        raise DTypeError(f"classification_report: matrix must hold counts, not {array.dtype}.")
    if (array < 0).any():
        raise ArgumentError(f"classification_report: matrix holds a negative count, {array.min()}.")
    counts = ConfusionMatrix(C)
    counts.matrix += array.astype(np.int64)
    return counts


def _ratio(part: Any, whole: Any) -> np.ndarray:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
