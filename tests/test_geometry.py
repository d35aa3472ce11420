"""Window sizes against their definition, found by trying, and the messages for impossible ones."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from specs._oracles import windows
from specs.adaptive_pooling import bins

from minicnn.errors import MiniCNNError, ShapeError
from minicnn_kernels.geometry import Window2d, adaptive_bins, check_pool_padding, pair

sizes = st.integers(1, 12)
kernels = st.integers(1, 4)
strides = st.integers(1, 4)
dilations = st.integers(1, 3)
paddings = st.integers(0, 4)
two = st.tuples


@given(
    size=two(sizes, sizes),
    kernel=two(kernels, kernels),
    stride=two(strides, strides),
    padding=two(paddings, paddings),
    dilation=two(dilations, dilations),
    ceil_mode=st.booleans(),
)
def test_the_output_has_as_many_cells_as_windows_fit(
    size, kernel, stride, padding, dilation, ceil_mode
):
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if ceil_mode:  # only pooling rounds up, and it allows no more padding
        padding = tuple(min(p, e // 2) for p, e in zip(padding, extents, strict=True))
    hang = [s - 1 if ceil_mode else 0 for s in stride]
    sides = zip(extents, size, padding, hang, strict=True)
    if not all(e <= n + 2 * p + h for e, n, p, h in sides):
        with pytest.raises(ShapeError):
            Window2d.of(size, kernel, stride, padding, dilation, ceil_mode)
        return
    window = Window2d.of(size, kernel, stride, padding, dilation, ceil_mode)
    grid = windows(size, kernel, stride, padding, dilation, ceil_mode)
    assert (window.oh, window.ow) == (len(grid), len(grid[0]))
    assert window.extent == tuple(extents)
    assert window.taps == kernel[0] * kernel[1]
    _check_slices(window, grid)
    _check_reach_and_rest(window, grid)


def _check_slices(window, grid):
    """Tap (u, v) of output cell (i, j) lies where the slices of the padded map say."""
    for u in range(window.kh):
        for v in range(window.kw):
            rows, columns = window.tap_slices(u, v)
            rows = range(window.reach[0])[rows]
            columns = range(window.reach[1])[columns]
            assert [r - window.ph for r in rows] == [line[0][u * window.kw + v][2] for line in grid]
            assert [c - window.pw for c in columns] == [
                taps[u * window.kw + v][3] for taps in grid[0]
            ]


def _check_reach_and_rest(window, grid):
    last_row, last_column = grid[-1][-1][-1][2:]
    ends = (last_row + 1 + window.ph, last_column + 1 + window.pw)
    padded = (window.ph + window.h + window.ph_end, window.pw + window.w + window.pw_end)
    assert window.reach == tuple(max(end, whole) for end, whole in zip(ends, padded, strict=True))
    assert window.uncovered == tuple(
        max(whole - end, 0) for end, whole in zip(ends, padded, strict=True)
    )


@given(size=two(sizes, sizes), kernel=two(kernels, kernels), dilation=two(dilations, dilations))
def test_same_keeps_the_size_and_puts_the_odd_cell_last(size, kernel, dilation):
    window = Window2d.of(size, kernel, 1, "same", dilation)
    assert (window.oh, window.ow) == size
    assert 0 <= window.ph_end - window.ph <= 1
    assert 0 <= window.pw_end - window.pw <= 1
    valid = [n - d * (k - 1) for n, k, d in zip(size, kernel, dilation, strict=True)]
    if min(valid) >= 1:
        assert Window2d.of(size, kernel, 1, "valid", dilation)[-2:] == tuple(valid)


@given(length=sizes, k=kernels, s=strides, p=st.integers(0, 2))
def test_rounding_up_adds_at_most_a_window_and_that_starts_inside_the_input(length, k, s, p):
    assume(p <= k // 2 and k <= length + 2 * p)
    floor = Window2d.of((length, 1), (k, 1), (s, 1), (p, 0)).oh
    ceil = Window2d.of((length, 1), (k, 1), (s, 1), (p, 0), ceil_mode=True).oh
    assert floor <= ceil <= floor + 1
    assert (ceil - 1) * s - p < length
    if ceil > floor:
        assert (ceil - 1) * s - p + k > length + p


def test_the_ceil_rule_drops_a_window_of_padding_alone():
    """Caffe's and PyTorch's rule: one that would start at the end of the input or later."""
    assert Window2d.of((5, 5), 2, 3, 1, ceil_mode=True).oh == 2  # starts -1, 2; the next is at 5
    assert Window2d.of((6, 6), 2, 3, 1, ceil_mode=True).oh == 3  # starts -1, 2, 5
    assert Window2d.of((4, 4), 1, 2, 0, ceil_mode=True).oh == 2  # starts 0, 2; the next is at 4


def test_rounding_up_a_window_may_be_larger_than_the_input_by_less_than_a_stride():
    assert Window2d.of((1, 1), 2, 2, ceil_mode=True).oh == 1
    assert Window2d.of((2, 2), 3, 2, ceil_mode=True).oh == 1
    with pytest.raises(ShapeError, match="covers 3 rows, but the input has 1"):
        Window2d.of((1, 1), 3, 2, ceil_mode=True)


def test_numbers_stand_for_pairs():
    assert Window2d.of((7, 9), 3, 2, 1, 1) == Window2d.of((7, 9), (3, 3), (2, 2), (1, 1), (1, 1))
    window = Window2d.of((7, 9), (3, 2), (2, 1), (1, 0), (1, 2))
    assert (window.kh, window.kw, window.sh, window.sw) == (3, 2, 2, 1)
    assert (window.ph, window.pw, window.dh, window.dw) == (1, 0, 1, 2)
    assert (window.h, window.w) == (7, 9)


@pytest.mark.parametrize(
    ("arguments", "pointwise"),
    [((1,), True), ((1, 2), False), ((1, 1, 1), False), ((3, 1, 1), False), (((1, 3),), False)],
)
def test_pointwise_windows(arguments, pointwise):
    assert Window2d.of((5, 5), *arguments).is_pointwise is pointwise


def test_same_with_an_even_kernel_is_not_pointwise_and_dilated_1x1_is():
    assert not Window2d.of((5, 5), 2, 1, "same").is_pointwise
    assert Window2d.of((5, 5), 1, 1, "same", 3).is_pointwise


# ------------------------------------------------------------------ adaptive bins


@given(size=st.integers(1, 40), count=st.integers(1, 12))
def test_adaptive_bins_hold_the_cells_that_they_meet(size, count):
    found = adaptive_bins(size, count)
    assert [list(range(size)[b]) for b in found] == bins(size, count)
    assert all(b.stop > b.start for b in found)
    assert {cell for b in found for cell in range(size)[b]} == set(range(size))


# ------------------------------------------------------------------ messages

MESSAGES = {
    "too large": (
        dict(size=(4, 9), kernel_size=(5, 3), caller="conv2d"),
        "conv2d: kernel_size 5 (dilation 1) covers 5 rows, but the input has 4 with padding 0 + 0; "
        "use a smaller kernel, more padding or a larger input.",
    ),
    "too wide": (
        dict(size=(9, 4), kernel_size=3, dilation=(1, 3), padding=1, caller="max_pool2d"),
        "max_pool2d: kernel_size 3 (dilation 3) covers 7 columns, but the input has 4 with padding "
        "1 + 1; use a smaller kernel, more padding or a larger input.",
    ),
    "empty map": (
        dict(size=(0, 4), kernel_size=1, padding=1),
        "Window2d: kernel_size 1 (dilation 1) covers 1 rows, but the input has 0",
    ),
    "zero kernel": (
        dict(size=(4, 4), kernel_size=0, caller="conv2d"),
        "conv2d: kernel_size is 0; give a whole number >= 1, or a (height, width) pair of such.",
    ),
    "zero stride": (dict(size=(4, 4), kernel_size=2, stride=(1, 0)), "stride is (1, 0); give"),
    "negative padding": (
        dict(size=(4, 4), kernel_size=2, padding=-1),
        "padding is -1; give a whole number >= 0",
    ),
    "three numbers": (dict(size=(4, 4), kernel_size=(1, 2, 3)), "kernel_size is (1, 2, 3); give"),
    "a fraction": (dict(size=(4, 4), kernel_size=2.0), "kernel_size is 2.0; give a whole number"),
    "a truth value": (dict(size=(4, 4), kernel_size=True), "kernel_size is True; give a whole"),
    "zero dilation": (dict(size=(4, 4), kernel_size=2, dilation=0), "dilation is 0; give a whole"),
    "strided same": (
        dict(size=(4, 4), kernel_size=2, stride=2, padding="same", caller="conv2d"),
        "conv2d: padding='same' keeps the size of the map, which stride 2 cannot; give the padding "
        "as a number.",
    ),
    "unknown padding": (
        dict(size=(4, 4), kernel_size=2, padding="full"),
        "Window2d: padding is 'full'; use 'same', 'valid', a number or a pair of numbers.",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_name_the_caller_the_numbers_and_the_cure(name):
    arguments, text = MESSAGES[name]
    with pytest.raises(ShapeError) as raised:
        Window2d.of(**arguments)
    assert text in str(raised.value)
    assert isinstance(raised.value, MiniCNNError)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    ("kernel", "padding", "dilation", "allowed"),
    [(2, 1, 1, True), (3, 1, 1, True), (3, 2, 1, False), (2, (0, 2), 1, False), (2, 1, 2, True)],
)
def test_pool_padding_is_at_most_half_a_window(kernel, padding, dilation, allowed):
    window = Window2d.of((6, 6), kernel, 1, padding, dilation)
    if allowed:
        assert check_pool_padding(window, "max_pool2d") is window
    else:
        with pytest.raises(ShapeError, match="max_pool2d: padding 2 is more than half of the"):
            check_pool_padding(window, "max_pool2d")


def test_pair_accepts_whole_numbers_of_numpy():
    import numpy as np

    assert pair(np.int64(3), "stride", "conv2d") == (3, 3)
    assert all(type(n) is int for n in pair((np.int32(1), np.uint8(2)), "stride", "conv2d"))
