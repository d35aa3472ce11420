"""Initial values: distributions within computed bounds, reproducible, and written in place."""

import math

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.errors import ArgumentError, ShapeError
from minicnn.nn import init

SIGMAS = 6  # of the estimate: a false alarm once in 10**9 seeds


@pytest.fixture(autouse=True)
def seeded():
    minicnn.seed(0)
    with minicnn.use_backend("numpy"):
        yield


def weight(*shape, dtype=np.float64):
    return nn.Parameter(np.zeros(shape, dtype))


def assert_uniform(values, bound, mean=0.0):
    n, variance = values.size, bound**2 / 3
    assert abs(values.mean() - mean) < SIGMAS * math.sqrt(variance / n)
    # the variance of x**2 for U(-b, b) is b**4 * (1/5 - 1/9)
    assert abs(values.var() - variance) < SIGMAS * math.sqrt(bound**4 * (1 / 5 - 1 / 9) / n)
    assert abs(values - mean).max() <= bound


def assert_normal(values, std, mean=0.0):
    n = values.size
    assert abs(values.mean() - mean) < SIGMAS * std / math.sqrt(n)
    # the variance of x**2 for N(0, s**2) is 2 * s**4
    assert abs(values.var() - std**2) < SIGMAS * math.sqrt(2 / n) * std**2
    assert abs(values - mean).max() > 3 * std


def fans(shape):
    """The number of inputs of an output, and of outputs of an input, by counting."""
    taps = int(np.prod(shape[2:]))
    return shape[1] * taps, shape[0] * taps


SHAPES = [(80, 60), (40, 10, 3, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_xavier(shape, gain):
    fan_in, fan_out = fans(shape)
    uniform = init.xavier_uniform_(weight(*shape), gain)
    assert_uniform(uniform.array, gain * math.sqrt(6 / (fan_in + fan_out)))
    normal = init.xavier_normal_(weight(*shape), gain)
    assert_normal(normal.array, gain * math.sqrt(2 / (fan_in + fan_out)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize(
    ("a", "nonlinearity", "gain"),
    [(0, "leaky_relu", math.sqrt(2)), (1, "leaky_relu", 1.0), (0, "tanh", 5 / 3)],
)
def test_kaiming(shape, mode, a, nonlinearity, gain):
    fan = fans(shape)[mode == "fan_out"]
    normal = init.kaiming_normal_(weight(*shape), a, mode, nonlinearity)
    assert_normal(normal.array, gain / math.sqrt(fan))
    uniform = init.kaiming_uniform_(weight(*shape), a, mode, nonlinearity)
    assert_uniform(uniform.array, gain * math.sqrt(3 / fan))


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu"])
def test_gains_equal_torch(name):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_plain_distributions():
    assert_normal(init.normal_(weight(100, 100), 3.0, 0.5).array, 0.5, mean=3.0)
    assert_uniform(init.uniform_(weight(10000), 1.0, 5.0).array, 2.0, mean=3.0)
    assert (init.constant_(weight(3), 0.25).array == 0.25).all()
    assert (init.ones_(weight(3)).array == 1).all()
    assert not init.zeros_(init.ones_(weight(3))).array.any()
    assert init.ones_(weight()).array.shape == ()


def test_truncated_normal():
    """Against the mean and the variance of the truncated normal distribution."""
    mean, std, a, b = 0.5, 2.0, -1.0, 3.5
    values = init.trunc_normal_(weight(200, 200), mean, std, a, b).array
    assert values.min() >= a
    assert values.max() <= b
    low, high = (a - mean) / std, (b - mean) / std
    inside = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    density = [math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) for z in (low, high)]
    shift = (density[0] - density[1]) / inside
    variance = std**2 * (1 + (low * density[0] - high * density[1]) / inside - shift**2)
    n = values.size
    assert abs(values.mean() - mean - std * shift) < SIGMAS * math.sqrt(variance / n)
    # a bounded value's square varies at most as much as one that jumps between the bounds
    spread = ((b - a) ** 2 / 4) / math.sqrt(n)
    assert abs(values.var() - variance) < SIGMAS * spread
    assert (init.trunc_normal_(weight(3), 1.0, 0.0).array == 1).all()


def test_layers_start_as_in_torch():
    conv, linear = nn.Conv2d(16, 40, 5, groups=2), nn.Linear(300, 200)
    for layer, fan_in in ((conv, 8 * 25), (linear, 300)):
        bound = 1 / math.sqrt(fan_in)
        assert_uniform(layer.weight.array.astype(np.float64), bound)
        assert abs(layer.bias.array).max() <= bound
        assert len(np.unique(layer.bias.array)) > 1
        assert layer.weight.dtype == layer.bias.dtype == np.float32
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(300, 200).weight.detach().numpy().astype(np.float64)
    assert_uniform(theirs, 1 / math.sqrt(300))


def test_one_seed_gives_one_network_in_every_precision():
    draws = []
    for dtype in (np.float32, np.float64, np.float32):
        minicnn.seed(5)
        draws.append(init.kaiming_normal_(weight(20, 30, dtype=dtype)).array)
    np.testing.assert_array_equal(draws[0], draws[2])
    np.testing.assert_array_equal(draws[0], draws[1].astype(np.float32))
    assert draws[0].dtype == np.float32


def test_values_are_written_in_place_and_the_tensor_returned():
    w = weight(4, 4)
    array = w.array
    for function in (init.xavier_normal_, init.uniform_, init.ones_, init.trunc_normal_):
        assert function(w) is w
    assert w.array is array
    assert init.bias_uniform_(None, w) is None


def test_a_broadcast_tensor_can_be_initialised():
    base = minicnn.tensor(np.zeros((4, 4)))
    init.ones_(minicnn.Tensor(base.array[:, ::2]))
    assert base.array.sum() == 8


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: init.calculate_gain("rleu"),
            ArgumentError,
            r"calculate_gain: nonlinearity is 'rleu'; did you mean 'relu'\? use one of linear, con",
        ),
        (
            lambda: init.kaiming_normal_(weight(2, 2), mode="fan"),
            ArgumentError,
            r"kaiming_normal_: mode is 'fan'; use 'fan_in' or 'fan_out'",
        ),
        (
            lambda: init.xavier_uniform_(weight(2)),
            ShapeError,
            r"xavier_uniform_: the tensor is \(2,\); fans exist for weights",
        ),
        (
            lambda: init.kaiming_uniform_(weight(2, 0)),
            ShapeError,
            r"kaiming_uniform_: the tensor is \(2, 0\); fans exist",
        ),
        (lambda: init.normal_(weight(2), 0, -1), ArgumentError, r"normal_: std is -1; give a numb"),
        (
            lambda: init.uniform_(weight(2), 2, 1),
            ArgumentError,
            r"uniform_: a is 2 and b is 1; giv",
        ),
        (
            lambda: init.trunc_normal_(weight(2), 0.0, 1.0, 3.0, 4.0),
            ArgumentError,
            r"trunc_normal_: less than 1 % .* between a=3.0 and b=4.0; move a and b around",
        ),
        (
            lambda: init.trunc_normal_(weight(2), 0.0, 1.0, 1.0, -1.0),
            ArgumentError,
            r"trunc_normal_: less than 1 %",
        ),
        (lambda: init.trunc_normal_(weight(2), std=-1), ArgumentError, r"trunc_normal_: std is -1"),
    ],
)
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call()
