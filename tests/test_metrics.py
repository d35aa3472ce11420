from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicnn.errors import ArgumentError, DTypeError, ShapeError
from minicnn.training.metrics import (
    ConfusionMatrix,
    RunningMean,
    accuracy,
    classification_report,
    topk_error,
)

LABELS = (0, 0, 0, 1, 1, 2)
PREDICTED = (0, 0, 1, 1, 2, 2)

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


def counted(predicted=PREDICTED, labels=LABELS, classes=3):
    counts = ConfusionMatrix(classes)
    counts.update(predicted, labels)
    return counts


# Accuracy and top-k error ------------------------------------------------------------------------


def test_accuracy_golden():
    assert accuracy(PREDICTED, LABELS) == 4 / 6


def test_accuracy_of_scores_takes_the_first_largest():
    scores = np.array([[0, 1, 1], [2, 1, 0], [0, 0, 0]], dtype=np.float32)
    assert accuracy(scores, [1, 0, 0]) == 1.0
    assert accuracy(scores, [2, 1, 2]) == 0.0


def test_metrics_take_tensors():
    class Tensor:
        def __init__(self, array):
            self.array = np.asarray(array)

        def detach(self):
            return self

        def numpy(self):
            return self.array

    assert accuracy(Tensor([[0.0, 1.0]]), Tensor([1])) == 1.0


def test_topk_error_counts_rows_whose_label_ranks_below_k():
    scores = np.array([[5.0, 4, 3, 2, 1]] * 5)
    errors = [topk_error(scores, np.arange(5), k) for k in range(1, 6)]
    assert errors == [4 / 5, 3 / 5, 2 / 5, 1 / 5, 0.0]


def test_topk_error_defaults_to_five():
    scores = np.arange(10.0)[None]
    assert topk_error(scores, [5]) == 0.0
    assert topk_error(scores, [4]) == 1.0


def test_equal_scores_do_not_make_every_label_right():
    scores = np.zeros((10, 10))
    assert topk_error(scores, np.arange(10), k=3) == 7 / 10
    assert accuracy(scores, np.arange(10)) == 1 / 10


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_with_nan_is_wrong(place):
    scores = np.array([[3.0, 2.0, 1.0]])
    scores[0, place] = np.nan
    for label in range(3):
        assert accuracy(scores, [label]) == 0.0
        assert topk_error(scores, [label], k=3) == 1.0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1), st.data())
def test_topk_error_agrees_with_a_stable_sort(rows, data):
    scores = np.array(rows)
    labels = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    )
    k = data.draw(st.integers(1, 4))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    wrong = sum(label not in row for label, row in zip(labels, best, strict=True))
    assert topk_error(scores, labels, k) == wrong / len(rows)
    assert accuracy(scores, labels) == np.mean(scores.argmax(axis=1) == labels)


@pytest.mark.parametrize("k", [0, 4, -1, 1.0, True])
def test_topk_error_rejects_k(k):
    with pytest.raises(ArgumentError, match=f"topk_error: k must be .* from 1 to 3, .* is {k}"):
        topk_error(np.zeros((2, 3)), [0, 1], k)


@pytest.mark.parametrize("bad", [-1, 3, 255])
def test_labels_out_of_range(bad):
    with pytest.raises(ArgumentError, match=rf"labels\[1\] is {bad}, but with 3 classes .* 0 to 2"):
        topk_error(np.zeros((2, 3)), [0, bad], k=1)
    with pytest.raises(ArgumentError, match=rf"accuracy: labels\[1\] is {bad}"):
        accuracy(np.zeros((2, 3)), [0, bad])
    counts = ConfusionMatrix(3)
    with pytest.raises(ArgumentError, match=rf"update: labels\[1\] is {bad}.*\(1 of 2"):
        counts.update([0, 0], [0, bad])
    with pytest.raises(ArgumentError, match=rf"update: predicted\[0\] is {bad}"):
        counts.update([bad, 0], [0, 0])
    assert not counts.matrix.any()


def test_shapes_that_differ():
    with pytest.raises(ShapeError, match="accuracy: predictions has 3 rows but labels has 2"):
        accuracy([0, 1, 1], [0, 1])
    with pytest.raises(ShapeError, match="topk_error: scores has 3 rows but labels has 2"):
        topk_error(np.zeros((3, 9)), [0, 1])
    with pytest.raises(ShapeError, match="predicted has 1 rows but labels has 2"):
        ConfusionMatrix(2).update([0], [0, 1])
    with pytest.raises(ShapeError, match=r"topk_error: scores must be \(N, classes\).*\(3,\)"):
        topk_error(np.zeros(3), [0, 1, 2], k=1)
    with pytest.raises(ShapeError, match=r"labels must be class indices .* \(2, 1\)"):
        accuracy([0, 1], [[0], [1]])


def test_scores_and_floats_are_not_class_indices():
    with pytest.raises(ShapeError, match=r"predicted must be class indices .* \.argmax\(axis=1\)"):
        ConfusionMatrix(2).update(np.zeros((2, 2)), [0, 1])
    with pytest.raises(DTypeError, match="labels must be integers, but it is float64"):
        accuracy([0, 1], [0.0, 1.0])


def test_nothing_to_score():
    with pytest.raises(ArgumentError, match="accuracy: there is nothing to score"):
        accuracy([], [])
    with pytest.raises(ArgumentError, match="topk_error: there is nothing to score"):
        topk_error(np.zeros((0, 5)), [])


# Confusion matrix --------------------------------------------------------------------------------


def test_confusion_matrix_golden():
    counts = counted()
    assert counts.matrix.dtype == np.int64
    assert counts.matrix.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert counts.accuracy == 4 / 6
    assert counts.precision.tolist() == [1, 0.5, 0.5]
    assert counts.recall.tolist() == [2 / 3, 0.5, 1]
    assert counts.f1.tolist() == [0.8, 0.5, 2 / 3]
    assert counts.macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3, rel=4 * np.finfo(float).eps)


def test_rows_are_the_true_class():
    assert counted([1], [0], classes=2).matrix.tolist() == [[0, 1], [0, 0]]


def test_undefined_scores_are_zero():
    empty = ConfusionMatrix(2)
    assert (empty.accuracy, empty.macro_f1) == (0.0, 0.0)
    counts = counted([0, 0], [0, 1], classes=3)
    assert counts.precision.tolist() == [0.5, 0, 0]
    assert counts.recall.tolist() == [1, 0, 0]
    assert counts.f1.tolist() == [2 / 3, 0, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_small_integer_types_do_not_wrap(dtype):
    classes = np.arange(100).astype(dtype)
    counts = counted(classes, classes, classes=100)
    assert (counts.matrix == np.eye(100, dtype=np.int64)).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30), st.integers(0, 30))
def test_batches_add_up(pairs, cut):
    whole, parts, naive = ConfusionMatrix(4), ConfusionMatrix(4), np.zeros((4, 4), dtype=np.int64)
    pairs_array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    whole.update(pairs_array[:, 0], pairs_array[:, 1])
    for part in (pairs_array[:cut], pairs_array[cut:]):
        parts.update(part[:, 0], part[:, 1])
    for predicted, label in pairs:
        naive[label, predicted] += 1
    assert (whole.matrix == naive).all()
    assert (parts.matrix == naive).all()


@pytest.mark.parametrize("classes", [0, -1, 2.0, True, None])
def test_number_of_classes(classes):
    with pytest.raises(ArgumentError, match=r"num_classes must be a positive integer"):
        ConfusionMatrix(classes)


def test_report():
    report = classification_report(counted(), ["boot", "bag", "coat"])
    assert report.splitlines() == [
        "class       precision  recall      f1  examples",
        "boot           1.0000  0.6667  0.8000         3",
        "bag            0.5000  0.5000  0.5000         2",
        "coat           0.5000  1.0000  0.6667         1",
        "macro mean     0.6667  0.7222  0.6556         6",
        "accuracy       0.6667",
    ]
    assert classification_report(counted().matrix, ["boot", "bag", "coat"]) == report


def test_report_rejects_what_is_no_confusion_matrix():
    with pytest.raises(ShapeError, match=r"matrix is \(3, 3\) but classes has 2 names"):
        classification_report(counted(), ["a", "b"])
    with pytest.raises(DTypeError, match="must hold counts, not float64"):
        classification_report(np.eye(2), ["a", "b"])
    with pytest.raises(ArgumentError, match="negative count, -1"):
        classification_report(-np.eye(2, dtype=int), ["a", "b"])


# Running mean ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(finite, st.integers(1, 1000)), min_size=1, max_size=20), st.randoms())
def test_running_mean_is_exact_and_does_not_depend_on_the_order(pairs, random):
    expected = sum(Fraction(v) * w for v, w in pairs) / sum(w for _, w in pairs)
    random.shuffle(pairs)
    mean = RunningMean()
    for value, weight in pairs:
        mean.update(value, weight)
    assert mean.value == float(expected)
    assert mean.weight == sum(w for _, w in pairs)


def test_running_mean_where_a_float_sum_fails():
    mean = RunningMean()
    for value in (1e16, 1.0, -1e16):
        mean.update(value)
    assert mean.value == 1 / 3


def test_running_mean_takes_numpy_scalars_as_they_are():
    mean = RunningMean()
    mean.update(np.float32(0.1), np.int64(2))
    assert mean.value == float(np.float32(0.1))
    assert type(mean.value) is float


@settings(deadline=None)
@given(st.lists(st.tuples(finite, st.floats(0, 1e6)), max_size=10), st.integers(0, 10))
def test_running_mean_state_goes_through_json(pairs, cut):
    straight, first, second = RunningMean(), RunningMean(), RunningMean()
    for pair in pairs:
        straight.update(*pair)
    for pair in pairs[:cut]:
        first.update(*pair)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    for pair in pairs[cut:]:
        second.update(*pair)
    assert second.state_dict() == straight.state_dict()


def test_non_finite_values_stay_visible():
    mean = RunningMean()
    mean.update(1.0)
    mean.update(math.inf)
    assert mean.value == math.inf
    copy = RunningMean()
    copy.load_state_dict(json.loads(json.dumps(mean.state_dict(), allow_nan=False)))
    assert copy.value == math.inf
    mean.update(-math.inf)
    assert math.isnan(mean.value)
    mean.reset()
    assert math.isnan(mean.value)
    mean.update(2.0)
    mean.update(math.nan, weight=0)  # an empty batch says nothing
    assert mean.value == 2.0


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf])
def test_weights_that_cannot_be(weight):
    with pytest.raises(ArgumentError, match=f"weight must be finite .* is {weight}"):
        RunningMean().update(1.0, weight)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"total": "x", "weight": "1", "non_finite": "0"},
        {"total": "1/0", "weight": "1", "non_finite": "0"},
        {"total": "1", "weight": "1", "non_finite": None},
    ],
)
def test_a_state_that_is_none(state):
    mean = RunningMean()
    mean.update(3.0)
    with pytest.raises(ArgumentError, match="is not a state of a RunningMean"):
        mean.load_state_dict(state)
    assert mean.value == 3.0
