"""Parameters: tensors that own their memory."""

import copy
import pickle

import numpy as np
import pytest

from minicnn import nn
from minicnn.errors import DTypeError


def test_a_parameter_owns_its_memory():
    values = np.arange(3, dtype=np.float32)
    parameter = nn.Parameter(values)
    values[0] = 7
    assert parameter.array[0] == 0
    assert parameter.requires_grad


def test_a_parameter_of_numbers_is_float32_and_of_integers_an_error():
    assert nn.Parameter([1.0, 2.0]).dtype == np.float32
    assert nn.Parameter(np.zeros(2)).dtype == np.float64
    with pytest.raises(DTypeError, match=r"Parameter: needs floating-point values, not int64"):
        nn.Parameter([1, 2], requires_grad=False)


def test_a_parameter_copies_and_pickles_without_its_gradient():
    parameter = nn.Parameter(np.ones(2), requires_grad=False)
    parameter.grad = np.ones(2)
    for twin in (copy.deepcopy(parameter), pickle.loads(pickle.dumps(parameter))):
        assert isinstance(twin, nn.Parameter)
        assert twin.array.tolist() == [1, 1]
        assert twin.dtype == np.float64
        assert not twin.requires_grad
        assert twin.grad is None
