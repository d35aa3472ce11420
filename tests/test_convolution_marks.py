"""NaN and infinity in any argument of a convolution mark the same results as in the reference.

The compiled loops skip products with padding, or put zeros in; the reference does it elsewhere. The
difference shows where the other factor is not finite.
"""

from __future__ import annotations

import numpy as np
import pytest

from minicnn_kernels.algorithms import direct_convolution
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import convolution
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)

# name: N, C, F, size, kernel, stride, padding, dilation, groups
CASES = {
    "lanes are channels": (2, 16, 32, (7, 7), 3, 1, 1, 1, 1),
    "lanes are channels, copied": (1, 16, 16, (50, 50), 3, 1, 1, 1, 1),
    "lanes are pixels": (2, 3, 5, (9, 8), 5, 1, 2, 1, 1),
    "stride 2": (2, 16, 16, (9, 9), 3, 2, 1, 1, 1),
    "stride 4": (1, 3, 16, (23, 23), 11, 4, 2, 1, 1),
    "dilated": (1, 16, 16, (9, 9), 3, 1, 3, 3, 1),
    "padding beyond the kernel": (1, 16, 16, (4, 4), 2, 1, 3, 1, 1),
    "1x1": (2, 16, 16, (5, 5), 1, 1, 0, 1, 1),
    "1x1, stride 2": (2, 16, 16, (5, 6), 1, 2, 0, 1, 1),
    "1x1, padded": (2, 16, 16, (5, 5), 1, 1, 1, 1, 1),
    "groups": (2, 32, 32, (7, 7), 3, 1, 1, 1, 2),
    "depthwise": (2, 4, 4, (9, 20), 3, 1, 1, 1, 4),
    "depthwise, stride 2": (2, 4, 8, (9, 20), 3, 2, 1, 1, 4),
    "depthwise, stride 3": (2, 4, 4, (9, 20), 2, 3, 1, 1, 4),
}
PLANTED = {  # operation: its arrays
    "conv2d": ("x", "w", "b"),
    "conv2d_grad_input": ("gy", "w"),
    "conv2d_grad_weight": ("gy", "x"),
}
PLACES = {"first": (0, 0), "last": (-1, -1), "other corner": (0, -1), "centre": (None, None)}


def plant(array, value, place):
    """Put ``value`` in the last map of ``array``, at ``place``."""
    if array.ndim == 1:
        array[-1] = value
        return
    row, column = (
        n // 2 if at is None else at for at, n in zip(place, array.shape[2:], strict=True)
    )
    array[-1, -1, row, column] = value


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operation", PLANTED)
@pytest.mark.parametrize("name", CASES)
def test_marks(name, operation, value):
    N, C, F, size, kernel, stride, padding, dilation, groups = CASES[name]
    window, rng = Window2d.of(size, kernel, stride, padding, dilation), np.random.default_rng(0)
    shapes = {
        "x": (N, C, *size),
        "w": (F, C // groups, window.kh, window.kw),
        "b": (F,),
        "gy": (N, F, window.oh, window.ow),
    }
    arrays = {key: rng.standard_normal(shape, np.float32) for key, shape in shapes.items()}
    for planted in PLANTED[operation]:
        for place in PLACES.values():
            numbers = {key: arrays[key].copy() for key in PLANTED[operation]}
            plant(numbers[planted], value, place)
            with np.errstate(invalid="ignore"):
                expected = getattr(REFERENCE, operation)(*numbers.values(), window, groups)
            with direct_convolution():
                actual = getattr(convolution, operation)(*numbers.values(), window, groups)
            finite = np.isfinite(expected)
            np.testing.assert_array_equal(np.isfinite(actual), finite, f"{planted} at {place}")
            np.testing.assert_array_equal(actual[~finite], expected[~finite])
