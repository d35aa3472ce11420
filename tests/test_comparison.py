"""Tensors compared element by element, as in PyTorch."""

import operator

import numpy as np
import pytest

from minicnn import Tensor, nn
from minicnn.errors import DeviceError, ShapeError

OPERATORS = [getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")]
A = np.array([[1.0, 2.0, np.nan], [-1.0, 0.0, np.inf]], np.float32)
OTHERS = [A.T.reshape(2, 3), A[:1], np.float32(1), 1, 0.0, True, np.array([1, 2, 3])]


@pytest.mark.parametrize("compare", OPERATORS)
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: f"{type(other).__name__}")
def test_each_operator_on_both_sides(compare, other):
    wanted, turned = compare(A, other), compare(other, A)
    for found in (compare(Tensor(A), other), compare(Tensor(A), Tensor(other))):
        assert (found.dtype, found.requires_grad) == (np.bool_, False)
        np.testing.assert_array_equal(found.array, wanted)
    np.testing.assert_array_equal(compare(other, Tensor(A)).array, turned)


def test_the_right_answers_are_counted():
    logits = Tensor(np.array([[0.1, 2.0], [3.0, 1.0], [0.0, 1.0]]), requires_grad=True)
    right = logits.argmax(1) == np.array([1, 0, 0])
    assert right.sum().item() == 2
    assert float(right.mean()) == pytest.approx(2 / 3)


def test_other_things_are_compared_by_pythons_rules():
    x = Tensor([1.0])
    assert (x == None) is False  # noqa: E711
    assert (x != "1.0") is True
    with pytest.raises(TypeError, match="'<' not supported"):
        x < "2"  # noqa: B015


def test_tensors_are_keys_by_identity():
    a, b = nn.Parameter(np.ones(1)), nn.Parameter(np.ones(1))
    assert len({a, b}) == 2
    assert {a: "a", b: "b"}[b] == "b"


def test_what_does_not_fit_is_named():
    with pytest.raises(ShapeError, match=r"eq: shapes \(2, 3\) and \(2,\) do not broadcast"):
        Tensor(A) == np.ones(2)  # noqa: B015

    class Foreign:
        dtype, shape, __array_priority__ = "float32", (2, 3), 1

    with pytest.raises(DeviceError, match="array of type Foreign; convert it"):
        Tensor(A) == Foreign()  # noqa: B015
