"""Moving arrays to and from a device, with a stand-in for CuPy where there is no GPU."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minicnn import nn
from minicnn.nn import _arrays
from minicnn_kernels import registry


class DeviceArray:
    """As much of a CuPy array as moving needs; it cannot be used as a NumPy array."""

    __array_priority__ = 100
    __array__ = None

    def __init__(self, values):
        self.hidden = np.array(values)
        self.dtype, self.shape, self.ndim = self.hidden.dtype, self.hidden.shape, self.hidden.ndim
        self.size = self.hidden.size

    def get(self):
        return self.hidden.copy()

    def set(self, values):
        assert values.dtype == self.dtype
        assert values.flags.c_contiguous
        self.hidden[...] = values

    def copy(self):
        return DeviceArray(self.hidden)

    def astype(self, dtype):
        return DeviceArray(self.hidden.astype(dtype))


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ndarray=DeviceArray))
    kernels = SimpleNamespace(xp=SimpleNamespace(asarray=DeviceArray))
    monkeypatch.setattr(registry, "kernels", lambda name: kernels)


def test_a_module_moves_there_and_back():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = net.state_dict()
    parameters = list(net.parameters())
    parameters[0].grad = np.ones((2, 3), np.float32)
    assert net.to("cuda") is net
    assert all(isinstance(p.array, DeviceArray) for p in parameters)
    assert all(isinstance(b, DeviceArray) for b in net.buffers())
    assert parameters[0].grad is None
    held = [p.array for p in parameters]
    assert all(isinstance(array, np.ndarray) for array in net.state_dict().values())
    net.load_state_dict({name: array + 1 for name, array in before.items()})
    assert all(p.array is array for p, array in zip(parameters, held, strict=True))
    net.to("cpu")
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name] + 1)


def test_initial_values_are_cast_and_written_there():
    weight = nn.Parameter(DeviceArray(np.zeros((4, 6), np.float32)))
    array = weight.array
    nn.init.uniform_(weight, 1.0, 2.0)
    assert weight.array is array
    assert (array.hidden >= 1).all()


def test_a_strided_source_is_made_contiguous():
    target = DeviceArray(np.zeros((3, 2), np.float32))
    _arrays.write(target, np.arange(6.0).reshape(2, 3).T)
    assert target.hidden.tolist() == [[0, 3], [1, 4], [2, 5]]
