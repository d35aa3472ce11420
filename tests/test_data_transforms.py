"""Transforms: numbers worked by hand, laws of chance, and nobody else's pixels."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn.random
from minicnn.data import transforms as T
from minicnn.errors import ArgumentError, DataError, DTypeError, ShapeError

Z = 6  # standard deviations: a correct law fails about once in 10^9 seeds

RANDOM = [
    T.RandomHorizontalFlip(),
    T.RandomCrop(5, padding=2),
    T.RandomCrop((4, 6), padding=(1, 2), padding_mode="reflect"),
    T.ColorJitter(0.4, 0.4, 0.4),
    T.PCALighting(),
    T.RandomErasing(p=0.7),
    T.RandomErasing(value="random"),
    T.Compose([T.RandomHorizontalFlip(), T.RandomErasing()]),
]
FIXED = [T.ToFloat(), T.Normalize(0.5, 0.2), T.CenterCrop(3)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def random_images(N: int = 16, C: int = 3, H: int = 6, W: int = 7, seed: int = 1) -> np.ndarray:
    return rng(seed).random((N, C, H, W), dtype=np.float32)


class Scripted:
    """A stand-in for a generator that gives chosen normal numbers."""

    def __init__(self, numbers):
        self.numbers = np.array(numbers)

    def normal(self, mean, std, size):
        assert (mean, size) == (0.0, self.numbers.shape)
        return std * self.numbers


@pytest.mark.parametrize("transform", RANDOM + FIXED, ids=repr)
class TestEvery:
    def test_leaves_its_input_alone(self, transform):
        images = random_images()
        before = images.copy()
        images.flags.writeable = False
        transform(images, rng())
        np.testing.assert_array_equal(images, before)

    def test_keeps_float32_and_the_batch(self, transform):
        y = transform(random_images(), rng())
        assert y.dtype == np.float32
        assert y.shape[:2] == (16, 3)

    def test_accepts_an_empty_batch(self, transform):
        assert len(transform(random_images(N=0), rng())) == 0

    def test_an_image_does_not_depend_on_its_neighbours(self, transform):
        images = random_images()
        others = random_images(seed=2)
        others[5] = images[5]
        np.testing.assert_array_equal(transform(images, rng())[5], transform(others, rng())[5])

    def test_the_same_generator_gives_the_same_batch(self, transform):
        images = random_images()
        np.testing.assert_array_equal(transform(images, rng(3)), transform(images, rng(3)))

    def test_refuses_one_image(self, transform):
        with pytest.raises(
            ShapeError, match=r"are \(3, 6, 7\) and must be an array \(N, C, H, W\)"
        ):
            transform(random_images()[0], rng())

    def test_refuses_a_list(self, transform):
        with pytest.raises(ShapeError, match="images are list and must be an array"):
            transform([1.0], rng())


@pytest.mark.parametrize("transform", RANDOM, ids=repr)
class TestEveryRandom:
    def test_equal_images_are_treated_differently(self, transform):
        images = np.repeat(random_images(N=1), 16, axis=0)
        assert len(np.unique(transform(images, rng()).reshape(16, -1), axis=0)) > 1

    def test_without_a_generator_the_one_of_the_process_is_used(self, transform):
        images = random_images()
        state = minicnn.random.get_state()
        try:
            minicnn.random.seed(8)
            first = transform(images)
            second = transform(images)
            minicnn.random.seed(8)
            np.testing.assert_array_equal(transform(images), first)
            assert not np.array_equal(first, second)
        finally:
            minicnn.random.set_state(state)


def test_to_float():
    y = T.ToFloat()(np.array([[[[0, 51, 255]]]], dtype=np.uint8))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.ravel(), np.array([0, 0.2, 1], dtype=np.float32))


def test_to_float_of_floats_changes_only_the_dtype():
    images = np.array([[[[0.0, 51.0]]]])
    y = T.ToFloat()(images)
    assert y.dtype == np.float32
    assert y.ravel().tolist() == [0.0, 51.0]
    assert T.ToFloat()(y) is y


def test_to_float_refuses_other_integers():
    with pytest.raises(DTypeError, match="ToFloat: images have dtype int64; pass uint8"):
        T.ToFloat()(np.zeros((1, 1, 1, 1), dtype=np.int64))


def test_normalize_each_channel():
    images = np.array([[[[1.0]], [[4.0]]], [[[2.0]], [[0.0]]]], dtype=np.float32)
    y = T.Normalize((1.0, 2.0), (0.5, 4.0))(images)
    assert y.reshape(2, 2).tolist() == [[0.0, 0.5], [2.0, -0.5]]


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0, 0), (1,), "mean=(0, 0) and std=(1,) differ in length"),
        (0, 0, "std=0 must be positive"),
        ((0, 0), (1, -1), "std=(1, -1) must be positive"),
        (np.nan, 1, "mean=nan must be one finite number"),
        ((), (), "mean=() must be one finite number"),
        ("a", 1, "mean='a' is not numbers"),
    ],
)
def test_normalize_bad_settings(mean, std, message):
    with pytest.raises(ArgumentError) as caught:
        T.Normalize(mean, std)
    assert message in str(caught.value)


def test_normalize_bad_images():
    with pytest.raises(ShapeError, match=r"\(16, 3, 6, 7\) have C=3 but mean=\(0, 0\) has 2 ent"):
        T.Normalize((0, 0), (1, 1))(random_images())
    with pytest.raises(DTypeError, match=r"dtype uint8 and must be floats; put ToFloat\(\) before"):
        T.Normalize(0, 1)(np.zeros((1, 1, 2, 2), dtype=np.uint8))


def test_flip_by_hand():
    images = np.arange(12).reshape(1, 2, 2, 3)
    y = T.RandomHorizontalFlip(p=1)(images, rng())
    assert y.ravel().tolist() == [2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9]
    np.testing.assert_array_equal(T.RandomHorizontalFlip(p=0)(images, rng()), images)


def test_flip_frequency_and_independence_of_neighbours():
    N, p = 20_000, 0.3
    images = np.tile(np.array([0, 1], dtype=np.uint8), (N, 1, 1, 1))
    flipped = T.RandomHorizontalFlip(p)(images, rng())[:, 0, 0, 0] == 1
    assert abs(flipped.sum() - N * p) < Z * np.sqrt(N * p * (1 - p))
    both = (flipped[0::2] & flipped[1::2]).sum()
    pairs, q = N // 2, p * p
    assert abs(both - pairs * q) < Z * np.sqrt(pairs * q * (1 - q))


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan, "half", None])
@pytest.mark.parametrize("transform", [T.RandomHorizontalFlip, T.RandomErasing])
def test_bad_probability(transform, p):
    with pytest.raises(ArgumentError, match=r"p=.* must be a probability; pass a number from 0"):
        transform(p=p)


def test_crop_is_a_window_at_a_uniform_place():
    N, H, W, size = 12_000, 5, 6, 3
    image = np.arange(2 * H * W, dtype=np.uint8).reshape(2, H, W)
    y = T.RandomCrop(size)(np.tile(image, (N, 1, 1, 1)), rng())
    assert y.shape == (N, 2, size, size)
    counts = np.zeros((H - size + 1, W - size + 1))
    for top in range(H - size + 1):
        for left in range(W - size + 1):
            window = image[:, top : top + size, left : left + size]
            counts[top, left] = (y == window).all(axis=(1, 2, 3)).sum()
    assert counts.sum() == N
    p = 1 / counts.size
    assert np.abs(counts - N * p).max() < Z * np.sqrt(N * p * (1 - p))


def test_crop_padding_by_hand():
    image = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], dtype=np.float32)
    reflected = [
        [5, 4, 5, 6, 5],
        [2, 1, 2, 3, 2],
        [5, 4, 5, 6, 5],
        [8, 7, 8, 9, 8],
        [5, 4, 5, 6, 5],
    ]
    y = T.RandomCrop(5, padding=1, padding_mode="reflect")(image, rng())
    assert y[0, 0].tolist() == reflected
    y = T.RandomCrop((3, 5), padding=(0, 1))(image, rng())
    assert y[0, 0].tolist() == [[0, 1, 2, 3, 0], [0, 4, 5, 6, 0], [0, 7, 8, 9, 0]]


def test_crop_bad_settings():
    with pytest.raises(ArgumentError, match="size=0 must be an integer of at least 1"):
        T.RandomCrop(0)
    with pytest.raises(ArgumentError, match=r"size=\(1, 2, 3\) has 3 entries; pass one integer or"):
        T.RandomCrop((1, 2, 3))
    with pytest.raises(ArgumentError, match="padding=-1 must be an integer of at least 0"):
        T.RandomCrop(3, padding=-1)
    with pytest.raises(ArgumentError, match="'reflec' is unknown; did you mean 'reflect'"):
        T.RandomCrop(3, padding_mode="reflec")
    with pytest.raises(ShapeError, match="RandomCrop: size=9 is larger than the 8x9 images"):
        T.RandomCrop(9, padding=1)(random_images())
    with pytest.raises(ShapeError, match="padding=6 reflects more than the 6x7 images hold"):
        T.RandomCrop(3, padding=6, padding_mode="reflect")(random_images())


def test_center_crop_by_hand():
    image = np.arange(20).reshape(1, 1, 4, 5)
    assert T.CenterCrop(2)(image)[0, 0].tolist() == [[6, 7], [11, 12]]
    assert T.CenterCrop((1, 5))(image)[0, 0].tolist() == [[5, 6, 7, 8, 9]]
    np.testing.assert_array_equal(T.CenterCrop((4, 5))(image), image)
    with pytest.raises(ShapeError, match=r"CenterCrop: size=\(5, 1\) is larger than the 4x5"):
        T.CenterCrop((5, 1))(image)


def rgb(*colors) -> np.ndarray:
    """One image of width len(colors)."""
    return np.array(colors, dtype=np.float64).T.reshape(1, 3, 1, len(colors))


def close(a, b) -> None:
    b = np.asarray(b, dtype=np.float64)
    np.testing.assert_allclose(a, b, rtol=16 * np.finfo(np.float64).eps)


def test_jitter_by_hand():
    images = rgb((0.2, 0.4, 0.8), (1.0, 0.0, 0.5))
    # Brightness times 2, clipped.
    y = T.ColorJitter(brightness=(2, 2))(images, rng())
    close(y, rgb((0.4, 0.8, 1.0), (1.0, 0.0, 1.0)))
    # Gray values: .299 .2 + .587 .4 + .114 .8 = .3858 and .299 + .057 = .356; their mean is .3709.
    y = T.ColorJitter(contrast=(0.5, 0.5))(images, rng())
    close(y, rgb((0.28545, 0.38545, 0.58545), (0.68545, 0.18545, 0.43545)))
    y = T.ColorJitter(saturation=(0.5, 0.5))(images, rng())
    close(y, rgb((0.2929, 0.3929, 0.5929), (0.678, 0.178, 0.428)))
    y = T.ColorJitter(saturation=(0, 0))(images, rng())
    close(y, rgb((0.3858,) * 3, (0.356,) * 3))


def test_jitter_steps_come_in_order():
    # Brightness .5 gives .3 and .1; contrast 2 about their mean .2 gives .4 and 0.
    images = np.array([0.6, 0.2]).reshape(1, 1, 1, 2)
    close(T.ColorJitter((0.5, 0.5), (2, 2), (0, 0))(images, rng()).ravel(), [0.4, 0.0])


def test_jitter_without_settings_changes_nothing():
    images = random_images()
    unit = np.finfo(np.float32).eps  # of m + (x - m), both at most 1
    assert np.abs(T.ColorJitter()(images, rng()) - images).max() <= 2 * unit


def test_jitter_saturation_leaves_gray_images():
    images = random_images(C=1)
    only = T.ColorJitter(saturation=0.9)(images, rng())
    np.testing.assert_array_equal(only, T.ColorJitter()(images, rng()))


def test_jitter_factors_are_uniform():
    N, b = 20_000, 0.4
    images = np.full((N, 1, 1, 1), 0.5)
    factors = T.ColorJitter(brightness=b)(images, rng()).ravel() / 0.5
    assert factors.min() >= 1 - b
    assert factors.max() <= 1 + b
    variance = (2 * b) ** 2 / 12
    assert abs(factors.mean() - 1) < Z * np.sqrt(variance / N)
    # The variance of a squared deviation of a uniform number is 4/5 of its squared variance.
    assert abs(factors.var() - variance) < Z * variance * np.sqrt(0.8 / N) + variance / N


def test_jitter_factors_are_never_negative():
    images = np.tile([0.4, 0.6], (1000, 1, 1, 1))
    y = T.ColorJitter(contrast=5)(images, rng())
    assert (y[..., 0] <= y[..., 1]).all()


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, (0.5, 0.2), (-1, 1), (1, 2, 3), "a", None])
def test_jitter_bad_settings(value):
    with pytest.raises(ArgumentError, match="ColorJitter: contrast="):
        T.ColorJitter(contrast=value)


def test_jitter_bad_images():
    with pytest.raises(ShapeError, match=r"have C=2; pass gray .1. or RGB .3. images"):
        T.ColorJitter()(random_images(C=2))
    with pytest.raises(DataError, match=r"reach from -1 to 2 .* Normalize after it"):
        T.ColorJitter()(np.array([-1.0, 2.0]).reshape(1, 1, 1, 2))
    with pytest.raises(DataError, match="reach from nan to nan"):
        T.ColorJitter()(np.full((1, 1, 1, 1), np.nan))


def test_lighting_by_hand():
    images = np.zeros((2, 3, 1, 2))
    y = T.PCALighting(std=0.1)(images, Scripted([[10.0, 0.0, 0.0], [0.0, 0.0, -10.0]]))
    strongest = [-0.5675 * 0.2175, -0.5808 * 0.2175, -0.5836 * 0.2175]
    weakest = [-0.4009 * 0.0045, 0.8140 * 0.0045, -0.4203 * 0.0045]
    close(y[0, :, 0, 0], strongest)
    close(y[1, :, 0, 0], weakest)
    np.testing.assert_array_equal(y[..., 0], y[..., 1])


def test_lighting_vectors_are_orthonormal_to_their_digits():
    E = np.array(T.IMAGENET_EIGENVECTORS)
    rounding = 0.5e-4
    bound = 2 * rounding * np.abs(E).sum(axis=0).max() + 3 * rounding**2
    assert np.abs(E.T @ E - np.eye(3)).max() <= bound


def test_lighting_spread():
    N, std = 20_000, 0.1
    shifts = T.PCALighting(std)(np.zeros((N, 3, 1, 1)), rng()).reshape(N, 3)
    E = np.array(T.IMAGENET_EIGENVECTORS) * np.array(T.IMAGENET_EIGENVALUES)
    expected = std**2 * E @ E.T
    scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    # A sample covariance of normal numbers has variance (s_ii s_jj + s_ij^2) / N <= 2 scale^2 / N.
    assert (np.abs(np.cov(shifts.T) - expected) < Z * scale * np.sqrt(2 / N)).all()
    assert (np.abs(shifts.mean(axis=0)) < Z * np.sqrt(expected.diagonal() / N)).all()


def test_lighting_of_gray_images_with_own_vectors():
    y = T.PCALighting(1.0, [2.0], [[3.0]])(np.zeros((1, 1, 1, 1)), Scripted([[0.5]]))
    assert y.ravel().tolist() == [3.0]


def test_lighting_bad_settings():
    with pytest.raises(ArgumentError, match="std=-1 must be a number of 0 or more"):
        T.PCALighting(-1)
    with pytest.raises(
        ArgumentError, match=r"eigenvalues have shape \(2,\) and eigenvectors \(3, 3"
    ):
        T.PCALighting(eigenvalues=(1, 2))
    with pytest.raises(ShapeError, match="have C=1 but eigenvectors have 3 rows"):
        T.PCALighting()(random_images(C=1))


def covered_boxes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return height, width of each covered rectangle of images of ones; prove it is one."""
    hidden = y[:, 0] == 0
    height = hidden.any(axis=2).sum(axis=1)
    width = hidden.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(hidden.sum(axis=(1, 2)), height * width)
    rows = np.flatnonzero(hidden.any(axis=2)[height > 0][0])
    assert np.ptp(rows) == len(rows) - 1
    return hidden.any(axis=(1, 2)), height, width


def test_erasing_covers_one_rectangle_of_the_right_size():
    N, H, W, p = 5000, 32, 40, 0.6
    transform = T.RandomErasing(p, scale=(0.05, 0.2), ratio=(0.5, 2.0))
    touched, height, width = covered_boxes(transform(np.ones((N, 1, H, W)), rng()))
    assert abs(touched.sum() - N * p) < Z * np.sqrt(N * p * (1 - p))
    height, width = height[touched], width[touched]
    # Each side was rounded by at most one half.
    assert ((height + 0.5) * (width + 0.5) >= 0.05 * H * W).all()
    assert ((height - 0.5) * (width - 0.5) <= 0.2 * H * W).all()
    assert ((height + 0.5) / (width - 0.5) >= 0.5).all()
    assert ((height - 0.5) / (width + 0.5) <= 2.0).all()
    share = height * width / (H * W)
    spread = (0.2 - 0.05) / np.sqrt(12)
    rounding = 0.5 * (height + width).mean() / (H * W)
    assert abs(share.mean() - 0.125) < Z * spread / np.sqrt(len(share)) + rounding


def test_erasing_by_hand():
    # Area .25 * 4 * 4 = 4, ratio 4: 4 rows, 1 column; every column is as likely.
    N = 8000
    transform = T.RandomErasing(1.0, scale=(0.25, 0.25), ratio=(4.0, 4.0), value=7)
    y = transform(np.ones((N, 2, 4, 4), dtype=np.float32), rng())
    np.testing.assert_array_equal(y[:, 0], y[:, 1])
    assert (y == y[:, :, :1]).all()
    columns = (y[:, 0, 0] == 7).sum(axis=0)
    assert columns.sum() == N
    assert np.abs(columns - N / 4).max() < Z * np.sqrt(N * 0.25 * 0.75)


def test_erasing_with_noise_changes_the_rectangle_only():
    images = np.full((500, 3, 8, 8), 2.0, dtype=np.float32)
    y = T.RandomErasing(1.0, scale=(0.25, 0.25), ratio=(1, 1), value="random")(images, rng())
    changed = y != 2.0
    np.testing.assert_array_equal(changed.sum(axis=(1, 2, 3)), 3 * 16)
    noise = y[changed]
    assert noise.min() >= 0
    assert noise.max() < 1
    assert abs(noise.mean() - 0.5) < Z * np.sqrt(1 / 12 / noise.size)


def test_erasing_draws_again_until_it_fits():
    # Shares up to 1 with ratios up to 4 often do not fit; 20 draws nearly always find one.
    transform = T.RandomErasing(1.0, scale=(0.1, 1.0), ratio=(0.25, 4.0))
    touched, _, _ = covered_boxes(transform(np.ones((1000, 1, 16, 16)), rng()))
    assert touched.all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0.5, 0.2)}, "scale=(0.5, 0.2) must be (low, high)"),
        ({"scale": (0.5, 1.2)}, "both at least 0 and at most 1"),
        ({"scale": 0.5}, "scale=0.5 must be (low, high)"),
        ({"ratio": (0, 1)}, "ratio=(0, 1) must be above 0"),
        ({"ratio": (1, np.inf)}, "ratio=(1, inf) must be"),
        ({"value": "noise"}, "value='noise' must be a finite number or 'random'"),
        ({"value": np.nan}, "value=nan must be a finite number"),
    ],
)
def test_erasing_bad_settings(settings, message):
    with pytest.raises(ArgumentError) as caught:
        T.RandomErasing(**settings)
    assert message in str(caught.value)


def test_erasing_bad_images():
    with pytest.raises(ShapeError, match=r"fits in 4x8 images; .* ratio nearer to 0.5"):
        T.RandomErasing(scale=(0.9, 1), ratio=(3, 4))(np.ones((1, 1, 4, 8)))
    with pytest.raises(DTypeError, match="dtype uint8 and must be floats"):
        T.RandomErasing()(np.ones((1, 1, 4, 8), dtype=np.uint8))


def test_compose_runs_in_order_with_one_generator():
    seen = []

    def double(images, generator):
        seen.append(generator)
        return images * 2

    def add(images, generator):
        seen.append(generator)
        return images + 1

    generator = rng()
    y = T.Compose([double, add])(np.ones((1, 1, 1, 1)), generator)
    assert y.item() == 3
    assert seen == [generator, generator]


def test_compose_bad_entries():
    with pytest.raises(ArgumentError, match=r"transforms\[1\] is <class .*ToFloat'>"):
        T.Compose([T.ToFloat(), T.ToFloat])
    with pytest.raises(ArgumentError, match="transforms is a ToFloat; pass a list"):
        T.Compose(T.ToFloat())


@pytest.mark.parametrize(
    "text",
    [
        "RandomCrop(size=28, padding=2, padding_mode='constant')",
        "RandomErasing(p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0.0)",
        "ColorJitter(brightness=0.4, contrast=(0.5, 2.0), saturation=0.0)",
        "Compose([ToFloat(), Normalize(mean=(0.5,), std=(0.5,)), RandomHorizontalFlip(p=0.5)])",
    ],
)
def test_repr_is_the_call(text):
    assert repr(eval(text, vars(T))) == text


@pytest.mark.parametrize(
    ("size", "crop", "inclusive", "views"),
    [
        (256, 224, False, 2048),
        (256, 224, True, 2178),
        (256, 227, False, 1682),
        (256, 227, True, 1800),
        (28, 28, True, 2),
        (29, 28, False, 2),
    ],
)
def test_crop_mirror_factor(size, crop, inclusive, views):
    assert T.crop_mirror_factor(size, crop, inclusive) == views


def test_crop_mirror_factor_is_the_number_of_views():
    size, crop = 5, 3
    image = np.arange(size * size).reshape(1, 1, size, size)
    transform = T.Compose([T.RandomCrop(crop), T.RandomHorizontalFlip()])
    views = {transform(image, rng(seed)).tobytes() for seed in range(500)}
    assert len(views) == T.crop_mirror_factor(size, crop, inclusive=True)


def test_crop_mirror_factor_bad_arguments():
    with pytest.raises(ArgumentError, match="crop=9 is larger than size=8; pass a smaller crop"):
        T.crop_mirror_factor(8, 9)
    with pytest.raises(ArgumentError, match=r"crop=8 equals size=8, .* pass inclusive=True"):
        T.crop_mirror_factor(8, 8)
    with pytest.raises(ArgumentError, match=r"size=2.5 must be an integer of at least 1"):
        T.crop_mirror_factor(2.5, 1)
