"""Convolutions and poolings whose sizes and settings hypothesis draws, for every kernel set."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernel_sets import each_backend, spec_of
from specs import adaptive_pooling, convolution, pooling
from specs._oracles import inside, windows

from minicnn.testing import Case, check_case

pytestmark = pytest.mark.usefixtures("loops_for_every_size")

small = st.integers(1, 3)
paddings = st.integers(0, 2)
two = st.tuples


@st.composite
def convolutions(draw):
    """Shapes and settings of a convolution that has an output."""
    groups = draw(st.integers(1, 2))
    channels, filters = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    size, kernel = draw(two(st.integers(1, 6), st.integers(1, 6))), draw(two(small, small))
    settings = {
        "stride": draw(two(small, small)),
        "padding": draw(two(paddings, paddings)),
        "dilation": draw(two(st.integers(1, 2), st.integers(1, 2))),
        "groups": groups,
    }
    if draw(st.booleans()):
        settings |= {"padding": "same", "stride": 1}
    else:
        for n, k, p, d in zip(size, kernel, settings["padding"], settings["dilation"], strict=True):
            assume(d * (k - 1) + 1 <= n + 2 * p)
    shapes = (draw(st.integers(1, 2)), channels, *size), (filters, channels // groups, *kernel)
    return shapes, draw(st.booleans()), settings


@st.composite
def poolings(draw, dilated):
    """Shape and settings of a pooling; windows may overlap, leave a rest or hang over."""
    kernel = draw(two(small, small))
    dilation = draw(two(st.integers(1, 2), st.integers(1, 2))) if dilated else (1, 1)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, min(2, e // 2))) for e in extent)
    settings = {
        "kernel_size": kernel,
        "stride": draw(st.none() | two(small, small)),
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
    }
    hang = [s - 1 if settings["ceil_mode"] else 0 for s in settings["stride"] or kernel]
    size = tuple(
        draw(st.integers(max(1, e - 2 * p - h), 6))
        for e, p, h in zip(extent, padding, hang, strict=True)
    )
    if dilated:
        settings["dilation"] = dilation
        assume(_every_window_has_a_cell(size, **settings))
    return (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *size), settings


def _every_window_has_a_cell(size, kernel_size, stride, **settings):
    """Dilated taps can fall on both sides of a small map."""
    grid = windows(size, kernel_size, kernel_size if stride is None else stride, **settings)
    return all(any(inside(r, c, size) for *_, r, c in taps) for row in grid for taps in row)


def drawn_case(shape, settings):
    """A window with gaps may miss the first element, so that a NaN there need not show."""
    return dataclasses.replace(pooling.case("drawn", shape, **settings), nan=False)


@each_backend
@given(drawn=convolutions())
def test_any_convolution(backend, drawn):
    (x, w), bias, settings = drawn
    case = Case("drawn", convolution.filters(x, w, bias), settings, batch=(0,), nan=False)
    for dtype in (np.float64, np.float32):
        check_case(spec_of("conv2d"), case, backend, dtype)


@each_backend
@pytest.mark.parametrize("name", ["max_pool2d", "min_pool2d"])
@given(drawn=poolings(dilated=True))
def test_any_selecting_pooling(backend, name, drawn):
    shape, settings = drawn
    for dtype in (np.float64, np.float32):
        check_case(spec_of(name), drawn_case(shape, settings), backend, dtype)


@each_backend
@pytest.mark.parametrize("name", ["avg_pool2d", "distance_weighted_pool2d", "l2_pool2d"])
@given(drawn=poolings(dilated=False), counted=st.booleans())
def test_any_weighing_pooling(backend, name, drawn, counted):
    shape, settings = drawn
    if name != "l2_pool2d":
        settings = {**settings, "count_include_pad": counted}
    for dtype in (np.float64, np.float32):
        check_case(spec_of(name), drawn_case(shape, settings), backend, dtype)


@each_backend
@pytest.mark.parametrize("name", ["adaptive_avg_pool2d", "adaptive_max_pool2d"])
@given(size=two(st.integers(1, 6), st.integers(1, 6)), output_size=two(small, small))
def test_any_adaptive_pooling(backend, name, size, output_size):
    shape = (2, 1, *size)
    case = Case("drawn", adaptive_pooling.maps(shape), {"output_size": output_size}, batch=(0,))
    for dtype in (np.float64, np.float32):
        check_case(spec_of(name), case, backend, dtype)
