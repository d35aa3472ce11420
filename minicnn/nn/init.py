"""Initial values for parameters, written in place.

All are drawn in float64 from `minicnn.random.generator` on the CPU and then cast: one seed gives
one network on every device and, up to rounding, in every precision. Every function returns the
tensor that it was given.

The fans of a weight (F, C, KH, KW) are ``fan_in = C * KH * KW``, the inputs that one output adds
up, and ``fan_out = F * KH * KW``; those of a matrix (F, C) are C and F.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from minicnn import random
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError, ShapeError, nearest
from minicnn.nn._arrays import write
from minicnn.nn.parameter import has_weights

_T = TypeVar("_T", bound=Tensor)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which the activation shrinks the standard deviation of its input.

    1 for "linear", "conv2d" and "sigmoid", 5/3 for "tanh", sqrt(2) for "relu" and
    sqrt(2 / (1 + a**2)) for "leaky_relu" with the slope a = ``param`` (0.01 if None).

    >>> calculate_gain("leaky_relu", 1.0)
    1.0
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1.0 + slope**2))
    if nonlinearity not in _GAINS:
        known = [*_GAINS, "leaky_relu"]
        raise ArgumentError(
            f"calculate_gain: nonlinearity is {nonlinearity!r}; {nearest(str(nonlinearity), known)}"
            f"use one of {', '.join(known)}."
        )
    return _GAINS[nonlinearity]


def xavier_uniform_(tensor: _T, gain: float = 1.0) -> _T:
    """Draw from U(-b, b) with b = gain * sqrt(6 / (fan_in + fan_out)).

    The variance, 2 / (fan_in + fan_out), is a compromise between keeping that of the activations
    and that of the gradients. Source: Glorot & Bengio 2010, equation 16.

    >>> from minicnn.nn import Parameter
    >>> weight = xavier_uniform_(Parameter(np.zeros((2, 4), np.float32)))
    >>> bool(abs(weight.array).max() <= 1.0)
    True
    """
    bound = gain * math.sqrt(6.0 / sum(_fans(tensor, "xavier_uniform_")))
    return _uniform(tensor, -bound, bound)


def xavier_normal_(tensor: _T, gain: float = 1.0) -> _T:
    """Draw from N(0, s**2) with s = gain * sqrt(2 / (fan_in + fan_out)); see `xavier_uniform_`.

    >>> from minicnn.nn import Parameter
    >>> xavier_normal_(Parameter(np.zeros((2, 4), np.float32)), gain=0.0).array.any()
    np.False_
    """
    std = gain * math.sqrt(2.0 / sum(_fans(tensor, "xavier_normal_")))
    return _normal(tensor, 0.0, std)


def kaiming_uniform_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> _T:
    """Draw from U(-b, b) with b = gain * sqrt(3 / fan).

    ``mode`` "fan_in" keeps the variance of the activations from layer to layer, "fan_out" that of
    the gradients; ``a`` is the slope of a leaky ReLU, 0 for a ReLU. Source: He et al. 2015,
    equations 10 and 14.

    >>> from minicnn.nn import Parameter
    >>> weight = kaiming_uniform_(Parameter(np.zeros((2, 6), np.float32)))
    >>> bool(abs(weight.array).max() <= 1.0)
    True
    """
    std = _kaiming_std(tensor, a, mode, nonlinearity, "kaiming_uniform_")
    bound = math.sqrt(3.0) * std
    return _uniform(tensor, -bound, bound)


def kaiming_normal_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> _T:
    """Draw from N(0, s**2) with s = gain / sqrt(fan); see `kaiming_uniform_`.

    >>> from minicnn.nn import Parameter
    >>> kaiming_normal_(Parameter(np.zeros((2, 6), np.float32)), mode="fan_out").shape
    (2, 6)
    """
    return _normal(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity, "kaiming_normal_"))


def bias_uniform_(bias: Tensor | None, weight: Tensor) -> Tensor | None:
    """Draw a bias from U(-b, b) with b = 1 / sqrt(fan_in of the weight), PyTorch's default.

    None is let through, for layers without a bias.

    >>> from minicnn.nn import Parameter
    >>> bias = Parameter(np.zeros(3, np.float32))
    >>> bool(abs(bias_uniform_(bias, Parameter(np.zeros((3, 4)))).array).max() <= 0.5)
    True
    """
    if bias is None:
        return None
    bound = 1.0 / math.sqrt(_fans(weight, "bias_uniform_")[0])
    return _uniform(bias, -bound, bound)


def normal_(tensor: _T, mean: float = 0.0, std: float = 1.0) -> _T:
    """Draw from a normal distribution.

    >>> from minicnn.nn import Parameter
    >>> normal_(Parameter(np.zeros(2, np.float32)), mean=3.0, std=0.0).array
    array([3., 3.], dtype=float32)
    """
    return _normal(tensor, mean, _deviation(std, "normal_"))


def uniform_(tensor: _T, a: float = 0.0, b: float = 1.0) -> _T:
    """Draw from the interval [a, b).

    >>> from minicnn.nn import Parameter
    >>> uniform_(Parameter(np.zeros(2, np.float32)), 3.0, 3.0).array
    array([3., 3.], dtype=float32)
    """
    if not a <= b:
        raise ArgumentError(f"uniform_: a is {a!r} and b is {b!r}; give a <= b.")
    return _uniform(tensor, a, b)


def trunc_normal_(
    tensor: _T, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> _T:
    """Draw from a normal distribution; what falls outside [a, b] is drawn again.

    a and b are values, not multiples of ``std``. Raises `ArgumentError` where less than 1 % of the
    distribution lies between them.

    >>> from minicnn.nn import Parameter
    >>> weight = trunc_normal_(Parameter(np.zeros((10, 10), np.float32)), a=-0.5, b=1.0)
    >>> bool(weight.array.min() >= -0.5), bool(weight.array.max() <= 1.0)
    (True, True)
    """
    std = _deviation(std, "trunc_normal_")
    scale = math.sqrt(2.0) * std
    inside = a <= mean <= b if std == 0 else _erf_between((a - mean) / scale, (b - mean) / scale)
    if not a <= b or inside < 0.01:
        raise ArgumentError(
            f"trunc_normal_: less than 1 % of a normal distribution with mean {mean!r} and std "
            f"{std!r} lies between a={a!r} and b={b!r}; move a and b around the mean."
        )

    def drawn() -> Any:
        generator = random.generator()
        values = generator.normal(mean, std, tensor.size)
        while (outside := np.flatnonzero((values < a) | (values > b))).size:
            values[outside] = generator.normal(mean, std, outside.size)
        return values.reshape(tensor.shape)

    return _filled(tensor, drawn)


def constant_(tensor: _T, val: float) -> _T:
    """Set every value to ``val``.

    >>> from minicnn.nn import Parameter
    >>> constant_(Parameter(np.zeros(2, np.float32)), 0.5).array
    array([0.5, 0.5], dtype=float32)
    """
    return _filled(tensor, lambda: float(val))


def zeros_(tensor: _T) -> _T:
    """Set every value to 0.

    >>> from minicnn.nn import Parameter
    >>> zeros_(Parameter(np.ones(2, np.float32))).array
    array([0., 0.], dtype=float32)
    """
    return constant_(tensor, 0.0)


def ones_(tensor: _T) -> _T:
    """Set every value to 1.

    >>> from minicnn.nn import Parameter
    >>> ones_(Parameter(np.zeros(2, np.float32))).array
    array([1., 1.], dtype=float32)
    """
    return constant_(tensor, 1.0)


_GAINS = {"linear": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3.0, "relu": math.sqrt(2.0)}


def _fans(tensor: Tensor, caller: str) -> tuple[int, int]:
    if len(tensor.shape) < 2 or 0 in tensor.shape:
        raise ShapeError(
            f"{caller}: the tensor is {tensor.shape}; fans exist for weights (F, C) or "
            "(F, C, KH, KW), use another initialisation."
        )
    taps = math.prod(tensor.shape[2:])
    return tensor.shape[1] * taps, tensor.shape[0] * taps


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str, caller: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"{caller}: mode is {mode!r}; use 'fan_in' or 'fan_out'.")
    fan = _fans(tensor, caller)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _deviation(std: float, caller: str) -> float:
    if not std >= 0:
        raise ArgumentError(f"{caller}: std is {std!r}; give a number >= 0.")
    return std


def _erf_between(low: float, high: float) -> float:
    return (math.erf(high) - math.erf(low)) / 2


def _uniform(tensor: _T, low: float, high: float) -> _T:
    return _filled(tensor, lambda: random.generator().uniform(low, high, tensor.shape))


def _normal(tensor: _T, mean: float, std: float) -> _T:
    return _filled(tensor, lambda: random.generator().normal(mean, std, tensor.shape))


def _filled(tensor: _T, values: Callable[[], Any]) -> _T:
    if has_weights(tensor):
        write(tensor.array, np.asarray(values()))
    return tensor
