"""Numbers worked out by hand: of the lecture notes, of the papers, of small examples.

A printed number is compared to half a unit of its last digit.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

from minicnn import Tensor
from minicnn import functional as F
from minicnn.testing import assert_close
from minicnn_kernels.geometry import Window2d, adaptive_bins


def maps(rows, dtype=np.float64):
    """One map as a batch (1, 1, H, W)."""
    return Tensor(np.array(rows, dtype)[None, None], requires_grad=True)


def plain(y):
    """The only map of a batch, as lists."""
    return y.array[0, 0].tolist()


def printed(actual, expected, digits):
    """True where all numbers round to the printed ones."""
    half_a_unit = 0.5 * 10.0**-digits * (1 + np.finfo(np.float64).eps * 2**10)
    return np.abs(np.asarray(actual) - np.asarray(expected)).max() <= half_a_unit


# ------------------------------------------------------------------ local response normalisation

SIX = np.arange(1.0, 7.0).reshape(1, 6, 1, 1)
LRN = {
    "paper": (
        dict(alpha=1e-4, k=2, divide_alpha_by_n=False),
        [0.594292, 1.187871, 1.780140, 2.370419, 2.963466, 3.557354],
    ),
    "cuda-convnet": (
        dict(alpha=1e-4, k=2),
        [0.594541, 1.188940, 1.783075, 2.376810, 2.971102, 3.565562],
    ),
    "Caffe and PyTorch": (
        dict(alpha=1e-4, k=1),
        [0.999790, 1.999100, 2.997527, 3.994608, 4.993560, 5.993079],
    ),
    "paper, alpha 1": (
        dict(alpha=1.0, k=2, divide_alpha_by_n=False),
        [0.125000, 0.148651, 0.144616, 0.134654, 0.174024, 0.226428],
    ),
    "cuda-convnet, alpha 1": (
        dict(alpha=1.0, k=2),
        [0.308368, 0.420448, 0.438191, 0.422949, 0.545122, 0.704270],
    ),
}


@pytest.mark.parametrize("convention", LRN)
def test_local_response_norm_of_channels_1_to_6(convention):
    settings, expected = LRN[convention]
    y = F.local_response_norm(Tensor(SIX), 5, beta=0.75, **settings)
    assert printed(y.array.ravel(), expected, digits=6)


# ------------------------------------------------------------------ pooling


def test_pool_sizes_of_the_architectures():
    ceil = {"stride": 2, "ceil_mode": True}
    sizes = [112]
    for kernel in (3, 3, 3, 2):  # GoogLeNet
        sizes.append(Window2d.of((sizes[-1],) * 2, kernel, **ceil).oh)
    assert sizes == [112, 56, 28, 14, 7]
    assert [Window2d.of((n, n), 3, 2).oh for n in (55, 27, 13)] == [27, 13, 6]  # AlexNet, exact
    assert all(Window2d.of((n, n), 3, 2).uncovered == (0, 0) for n in (55, 27, 13))
    assert [Window2d.of((n, n), 2, 2).oh for n in (224, 112, 56, 28, 14)] == [112, 56, 28, 14, 7]
    assert Window2d.of((112, 112), 3, 2, 1).oh == 56  # ResNet and DenseNet: padding 1, floor
    assert Window2d.of((112, 112), 3, 2).oh == 55  # floor without padding misses a row
    assert all(Window2d.of((n, n), 3, 2).uncovered == (0, 0) for n in (147, 71, 35, 17))


def test_ceil_drops_the_window_that_would_start_beyond_the_map():
    assert Window2d.of((3, 3), 2, 2, 1, ceil_mode=True).oh == 2  # starts -1, 1; 3 is outside
    y = F.max_pool2d(maps([[-1, -2, -3], [-4, -5, -6], [-7, -8, -9]]), 2, 2, 1, ceil_mode=True)
    assert plain(y) == [[-1, -2], [-4, -5]]


def test_average_counts_padding_or_not():
    ones = maps(np.ones((3, 3)))
    include = F.avg_pool2d(ones, 3, 1, 1)
    corner, edge = Fraction(4, 9), Fraction(6, 9)
    expected = [[corner, edge, corner], [edge, 1, edge], [corner, edge, corner]]
    assert_close(include.array[0, 0], np.array(expected, float), terms=9)
    exclude = F.avg_pool2d(ones, 3, 1, 1, count_include_pad=False)
    assert_close(exclude.array[0, 0], np.ones((3, 3)), terms=9)


def test_average_never_counts_the_overhang():
    x = maps(np.arange(16.0).reshape(4, 4))
    for count_include_pad in (True, False):
        y = F.avg_pool2d(x, 3, 2, ceil_mode=True, count_include_pad=count_include_pad)
        assert_close(y.array[0, 0], np.array([[5, 6.5], [11, 12.5]]), terms=9)


def test_adaptive_bins():
    assert [(b.start, b.stop) for b in adaptive_bins(7, 3)] == [(0, 3), (2, 5), (4, 7)]
    y = F.adaptive_avg_pool2d(maps([np.arange(14.0)]), (1, 4))
    assert_close(y.array[0, 0, 0], np.array([1.5, 4.5, 8.5, 11.5]), terms=4)


def test_max_pool_padding_is_minus_infinity():
    assert plain(F.max_pool2d(maps([[-1.0]]), 3, 1, 1)) == [[-1.0]]
    assert plain(F.min_pool2d(maps([[1.0]]), 3, 1, 1)) == [[1.0]]


def test_max_pool_with_ceil():
    y = F.max_pool2d(maps(np.arange(36.0).reshape(6, 6)), 3, 2, ceil_mode=True)
    assert plain(y) == [[14, 16, 17], [26, 28, 29], [32, 34, 35]]


FOUR = [[5, 1, 3, 4], [8, 2, 9, 2], [1, 3, 0, 1], [2, 2, 2, 0]]


def test_the_notes_4x4_example():
    x = maps(FOUR)
    assert plain(F.max_pool2d(x, 2)) == [[8, 9], [3, 2]]
    assert plain(F.min_pool2d(x, 2)) == [[1, 2], [1, 0]]
    assert plain(F.avg_pool2d(x, 2)) == [[4, 4.5], [2, 0.75]]
    assert plain(F.max_pool2d(x, 2, stride=1)) == [[8, 9, 9], [8, 9, 9], [3, 3, 2]]


def test_l2_pool_is_the_norm_not_the_mean_square():
    y = F.l2_pool2d(maps(FOUR), 2)
    assert printed(y.array[0, 0], [[9.6954, 10.4881], [4.2426, 2.2361]], digits=4)
    squares = np.array([[94.0, 110.0], [18.0, 5.0]])
    assert_close(y.array[0, 0] ** 2, squares, terms=4)


@pytest.mark.parametrize(
    ("falloff", "corner", "edge", "centre"),
    [("inverse", 0.088947, 0.107369, 0.214737), ("gaussian", 0.075114, 0.123841, 0.204180)],
)
def test_distance_weights(falloff, corner, edge, centre):
    x = maps(np.zeros((3, 3)))
    F.distance_weighted_pool2d(x, 3, falloff=falloff).sum().backward()
    expected = [[corner, edge, corner], [edge, centre, edge], [corner, edge, corner]]
    assert printed(x.grad[0, 0], expected, digits=6)
    assert_close(x.grad.sum(), 1.0, terms=9)


@pytest.mark.parametrize("falloff", ["inverse", "gaussian"])
def test_distance_weights_of_2x2_windows_are_the_plain_average(falloff):
    y = F.distance_weighted_pool2d(maps(FOUR), 2, falloff=falloff)
    assert_close(y.array[0, 0], np.array([[4, 4.5], [2, 0.75]]), terms=4)


# ------------------------------------------------------------------ softmax and cross-entropy

LOGITS = [[2.0, 1.0, 0.1]]


def test_softmax_of_three_scores():
    y = F.softmax(Tensor(np.array(LOGITS)))
    assert printed(y.array[0], [0.659001, 0.242433, 0.098566], digits=6)


def test_cross_entropy_of_three_scores():
    x = Tensor(np.array(LOGITS), requires_grad=True)
    loss = F.cross_entropy(x, [0])
    loss.backward()
    assert printed(loss.item(), 0.417030, digits=6)
    assert printed(x.grad[0], [-0.340999, 0.242433, 0.098566], digits=6)
    assert printed(F.cross_entropy(x, [0], label_smoothing=0.1).item(), 0.513697, digits=6)


# ------------------------------------------------------------------ demonstrations of the notes

LOOP = [[1, 1, 1], [1, -1, 1], [1, 1, 1]]
NINE = [
    [-1, 1, 1, 1, -1],
    [-1, 1, -1, 1, -1],
    [-1, 1, 1, 1, -1],
    [-1, -1, -1, 1, -1],
    [-1, -1, -1, 1, -1],
    [-1, -1, 1, -1, -1],
    [-1, 1, -1, -1, -1],
]
SIX_DIGIT = [row[::-1] for row in NINE[::-1]]
TYPED_SIX = [
    [-1, -1, -1, 1, -1],
    [-1, -1, 1, -1, -1],
    [-1, 1, -1, -1, -1],
    [-1, 1, -1, -1, -1],
    *NINE[:3],
]
EIGHT = [NINE[0], NINE[1], NINE[2], NINE[1], NINE[0]]


def matched(image, pattern):
    """Valid cross-correlation divided by the nine cells of the pattern."""
    return F.conv2d(maps(image), maps(pattern)) / 9


def peaks(y):
    """Places of the largest value."""
    y = y.array[0, 0]
    return [tuple(place) for place in np.argwhere(y == y.max()).tolist()]


def test_the_loop_detector_on_a_nine():
    ninths = [[-1, 9, -1], [-5, 1, -3], [-3, 3, -3], [-5, -1, -5], [-3, -5, -3]]
    y = matched(NINE, LOOP)
    assert_close(y.array[0, 0], np.array(ninths) / 9, terms=9)
    assert printed(y.array[0, 0, 0], [-0.1111, 1, -0.1111], digits=4)
    rectified = F.relu(y)
    expected = np.zeros((5, 3))
    expected[:, 1] = [1, 1 / 9, 3 / 9, 0, 0]
    assert_close(rectified.array[0, 0], expected, terms=9)


def test_pooling_the_loop_map():
    y = F.relu(matched(NINE, LOOP))
    third = 3 / 9
    overlapping = np.array([[1, 1], [third, third], [third, third], [0, 0]])
    assert_close(F.max_pool2d(y, 2, stride=1).array[0, 0], overlapping, terms=9)
    assert_close(F.max_pool2d(y, 2).array[0, 0], np.array([[1], [third]]), terms=9)


@pytest.mark.parametrize(
    ("image", "places"),
    [
        (NINE, [(0, 1)]),
        (SIX_DIGIT, [(4, 1)]),
        (TYPED_SIX, [(4, 1)]),
        (EIGHT, [(0, 1), (2, 1)]),
        ([a + b for a, b in zip(NINE, SIX_DIGIT, strict=True)], [(0, 1), (4, 6)]),
    ],
    ids=["9", "6", "6 as typed", "8", "96"],
)
def test_the_loop_is_found_wherever_it_is(image, places):
    y = matched(image, LOOP)
    assert peaks(y) == places
    assert y.array.max() == 1


def _canonical_x():
    x = -np.ones((9, 9))
    for i in range(1, 8):
        x[i, i] = x[i, 8 - i] = 1
    return x


def _deformed_x():
    x = -np.ones((9, 9))
    cells = "16 21 25 32 33 35 44 53 55 56 63 67 72"
    for cell in cells.split():
        x[int(cell[0]), int(cell[1])] = 1
    return x


def test_comparing_pixels_fails_on_a_deformed_x():
    canonical, deformed = _canonical_x(), _deformed_x()
    assert int((canonical == deformed).sum()) == 65
    different = " ".join(f"{i}{j}" for i, j in np.argwhere(canonical != deformed).tolist())
    assert different == "11 16 17 21 22 25 26 32 56 62 63 66 67 71 72 77"


DIAGONAL = 2 * np.eye(3) - 1
SMALL_X = np.maximum(DIAGONAL, DIAGONAL[::-1])


@pytest.mark.parametrize(
    ("pattern", "on_deformed"),
    [(DIAGONAL, 7), (DIAGONAL[::-1], 7), (SMALL_X, 9)],
    ids=["diagonal", "anti-diagonal", "small x"],
)
def test_matching_features_survives_the_deformation(pattern, on_deformed):
    canonical = matched(_canonical_x(), pattern).array
    assert canonical.shape == (1, 1, 7, 7)
    assert canonical.max() == 1
    assert_close(matched(_deformed_x(), pattern).array.max(), on_deformed / 9, terms=9)


def test_the_diagonal_feature_map_of_the_x():
    y = matched(_canonical_x(), DIAGONAL)
    assert peaks(y) == [(1, 1), (2, 2), (4, 4), (5, 5)]
    assert_close(y.array[0, 0, 0, 0], 7 / 9, terms=9)
    assert_close(y.array[0, 0, 3, 3], 5 / 9, terms=9)
    assert peaks(matched(_canonical_x(), SMALL_X)) == [(3, 3)]


def test_sizes_of_the_notes():
    assert Window2d.of((6, 6), 3).oh == 4
    assert Window2d.of((6, 6), 2, 2).oh == 3
    assert Window2d.of((9, 9), 3, padding=1).oh == 9


def test_how_often_a_pixel_is_used():
    ones = maps(np.ones((3, 3)))
    used = maps(np.zeros((6, 6)))
    F.conv2d(used, ones).sum().backward()
    line = np.array([1, 2, 3, 3, 2, 1])
    assert used.grad[0, 0].tolist() == np.outer(line, line).tolist()
    used.grad = None
    F.conv2d(used, ones, padding=1).sum().backward()
    line = np.array([2, 3, 3, 3, 3, 2])
    assert used.grad[0, 0].tolist() == np.outer(line, line).tolist()


# ------------------------------------------------------------------ identity and gradient


def test_a_residual_block_of_zeros_is_the_identity():
    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(size=(2, 3, 4, 4)).astype(np.float32))
    first = Tensor(rng.normal(size=(3, 3, 3, 3)).astype(np.float32))
    last = Tensor(np.zeros((3, 3, 3, 3), np.float32))
    branch = F.conv2d(F.relu(F.conv2d(x, first, padding=1)), last, padding=1)
    assert np.array_equal((x + branch).array, x.array)


def test_a_matrix_times_the_identity():
    a = Tensor(np.random.default_rng(0).normal(size=(3, 4)))
    assert np.array_equal((a @ Tensor(np.eye(4))).array, a.array)


def test_the_gradient_of_a_residual_connection_is_1_plus_the_branch():
    x = Tensor(np.array([0.3, -1.2]), requires_grad=True)
    (x + F.tanh(x)).sum().backward()
    assert_close(x.grad, 2 - np.tanh(x.array) ** 2, terms=2)


@pytest.mark.parametrize("skip", [False, True])
def test_gradients_vanish_as_a_product_and_not_with_skips(skip):
    slope, depth = 0.5, 20
    x = Tensor(np.ones(1), requires_grad=True)
    y = x
    for _ in range(depth):
        y = y + y * slope if skip else y * slope
    y.backward(np.ones(1))
    expected = (1 + slope) ** depth if skip else slope**depth
    assert x.grad.tolist() == [expected]
    assert (x.grad[0] > 1) == skip


# ------------------------------------------------------------------ activations

HALF = 1 / (1 + math.exp(-0.5))
ACTIVATIONS = {
    "relu": (F.relu, [-2.0, 0.5, 3.0], [0, 0.5, 3], [0, 1, 1]),
    "leaky relu": (F.leaky_relu, [-2.0, 0.5, 3.0], [-0.02, 0.5, 3], [0.01, 1, 1]),
    "sigmoid": (F.sigmoid, [0.0, 0.5], [0.5, HALF], [0.25, HALF * (1 - HALF)]),
    "tanh": (F.tanh, [0.0, math.log(2)], [0, 0.6], [1, 0.64]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_derivatives(name):
    function, values, results, slopes = ACTIVATIONS[name]
    x = Tensor(np.array(values), requires_grad=True)
    y = function(x)
    y.sum().backward()
    assert_close(y, np.array(results), terms=2)
    assert_close(x.grad, np.array(slopes), terms=2)


def test_ranges_and_symmetries():
    x = np.arange(-200, 201) / 10
    sigmoid, tanh = F.sigmoid(Tensor(x)).array, F.tanh(Tensor(x)).array
    assert sigmoid.min() > 0
    assert sigmoid.max() < 1
    assert_close(sigmoid + sigmoid[::-1], np.ones(401), terms=2)
    assert np.abs(tanh).max() <= 1
    assert_close(tanh, -tanh[::-1], terms=1)
    assert_close(2 * F.sigmoid(Tensor(2 * x)).array - 1, tanh, terms=2)
    rows = F.softmax(Tensor(x.reshape(1, -1))).array
    assert_close(rows.sum(), 1.0, terms=401)
    assert rows.min() > 0


# ------------------------------------------------------------------ batch norm by hand


def test_batch_norm_of_four_numbers():
    """1, 2, 3, 6: mean 3, biased variance 3.5, unbiased 14/3."""
    x = Tensor(np.array([[1.0], [2.0], [3.0], [6.0]]))
    mean, var = np.array([10.0]), np.array([1.0])
    y = F.batch_norm(x, mean, var, training=True, momentum=0.1, eps=0.0)
    assert_close(y.array[:, 0], (x.array[:, 0] - 3) / math.sqrt(3.5), terms=4)
    assert_close(mean, np.array([0.9 * 10 + 0.1 * 3]), terms=4)
    assert_close(var, np.array([0.9 * 1 + 0.1 * 14 / 3]), terms=4)
    y = F.batch_norm(Tensor(np.array([[12.0]])), np.array([10.0]), np.array([4.0]), eps=0.0)
    assert y.item() == 1.0
