"""`ArrayDataset`: what it accepts, what it refuses and with which words, how it splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicnn.data import ArrayDataset
from minicnn.data._order import choose_per_class, permutation
from minicnn.errors import ArgumentError, DataError


def pixels(N: int, C: int = 1, H: int = 2, W: int = 3) -> np.ndarray:
    return np.arange(N * C * H * W).reshape(N, C, H, W).astype(np.uint8)


def numbered(labels) -> ArrayDataset:
    """A data set whose images tell their own index."""
    N = len(labels)
    images = np.arange(N, dtype=np.float32).reshape(N, 1, 1, 1)
    return ArrayDataset(images, labels, name="numbered")


def indices_of(dataset: ArrayDataset) -> list[int]:
    return dataset.images.ravel().astype(int).tolist()


def test_what_it_holds():
    images = pixels(4, C=3)
    dataset = ArrayDataset(images, [0, 2, 2, 1], ["a", "b", "c", "d"], "letters")
    assert len(dataset) == 4
    assert dataset.images is images
    assert dataset.labels.dtype == np.int64
    assert dataset.classes == ("a", "b", "c", "d")
    assert dataset.image_shape == (3, 2, 3)
    assert dataset.class_counts().tolist() == [1, 1, 2, 0]
    assert dataset.name == "letters"
    assert (dataset.source, dataset.note) == ("array", "")


def test_unnamed_classes_are_numbered():
    assert ArrayDataset(pixels(2), [3, 0]).classes == ("0", "1", "2", "3")


def test_one_image():
    dataset = ArrayDataset(pixels(3), np.array([5, 6, 7], dtype=np.uint8))
    image, label = dataset[-1]
    np.testing.assert_array_equal(image, pixels(3)[2])
    assert label == 7
    assert type(label) is int
    assert np.shares_memory(image, dataset.images)


def test_batches():
    dataset = numbered([4, 3, 2, 1])
    images, labels = dataset[1:3]
    assert labels.tolist() == [3, 2]
    assert np.shares_memory(images, dataset.images)
    images, labels = dataset[[3, -4]]
    assert images.ravel().tolist() == [3, 0]
    assert labels.tolist() == [1, 4]


def test_iteration_ends():
    assert [label for _, label in numbered([1, 0, 1])] == [1, 0, 1]


@pytest.mark.parametrize("index", [3, -4])
def test_index_outside(index):
    with pytest.raises(IndexError, match=f"numbered: index {index} is outside the 3 images"):
        numbered([0, 1, 2])[index]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 9], r"index 9 \(at position 1\) is outside the 3 images; use 0 to 2"),
        ([-4], r"index -4 \(at position 0\)"),
        ([0.5], "indices are float64 of shape"),
        (np.array([True, False, True]), r"np.flatnonzero\(mask\)"),
        ([[0]], r"of shape \(1, 1\)"),
        ("0", "indices are <U1"),
    ],
)
def test_bad_indices(indices, message):
    with pytest.raises(DataError, match=message):
        numbered([0, 1, 2])[indices]
    with pytest.raises(DataError, match=message):
        numbered([0, 1, 2]).subset(indices)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (pixels(4), [0, 1, 2], None, "pets: 4 images but 3 labels; pass one label for each"),
        (pixels(3), [0, 1, -1], None, r"labels\[2\] is -1 but labels start at 0"),
        (pixels(3), [0, 2, 1], "ab", "is one string; pass a list of names"),
        (pixels(3), [0, 2, 3], ["a", "b"], r"labels\[1\] is 2 but .* the classes are 2; renumber"),
        (pixels(2), [0, 10**9], None, r"labels\[1\] is 1000000000 but .* at most 100,000"),
        (pixels(2), [0, 1], ["a", "a"], "class 'a' is named twice"),
        (pixels(2), [0.0, 1.0], None, "labels have dtype float64; pass class indices"),
        (pixels(2), np.eye(2), None, r"one-hot labels pass labels.argmax\(axis=1\)"),
        (pixels(2)[:, 0], [0, 1], None, r"images\[:, np.newaxis\] adds the channel"),
        (pixels(2).ravel(), [0, 1], None, r"images have shape \(12,\), 1 dimensions"),
        (pixels(2).astype(int), [0, 1], None, "images have dtype int64; pass uint8 pixels"),
        (pixels(0), [], None, r"shape \(0, 1, 2, 3\), which holds no pixel"),
    ],
)
def test_bad_input(images, labels, classes, message):
    with pytest.raises(DataError, match=message):
        ArrayDataset(images, labels, classes, name="pets")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [(0, 0, 0, 0), (2999, 1, 31, 5), (1500, 2, 0, 31)])
def test_not_finite_images_are_found_in_any_chunk(where, value):
    images = np.zeros((3000, 3, 32, 32), dtype=np.float16)
    images[where] = value
    place = r"images\[{}, {}, {}, {}\] is {}".format(*where, value)
    with pytest.raises(DataError, match=place):
        ArrayDataset(images, np.zeros(3000, dtype=int))


def test_subset_keeps_order_classes_and_origin():
    dataset = ArrayDataset(pixels(4), [0, 1, 0, 1], ["a", "b", "c"], "x", "sample", "a note")
    part = dataset.subset([3, 0])
    np.testing.assert_array_equal(part.images, dataset.images[[3, 0]])
    assert part.labels.tolist() == [1, 0]
    assert part.classes == ("a", "b", "c")
    assert (part.name, part.source, part.note) == ("x", "sample", "a note")
    assert dataset.subset(slice(1, 3)).labels.tolist() == [1, 0]


def test_empty_subset():
    with pytest.raises(DataError, match=r"subset\(\) got no indices; pass at least one"):
        numbered([0, 1]).subset([])


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(lambda c: sum(c) >= 2),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**40),
)
def test_split_is_stratified_and_complete(counts, fraction, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    dataset = numbered(labels)
    wanted = round(fraction * len(dataset))
    if not 0 < wanted < len(dataset):
        with pytest.raises(DataError, match="choose a fraction that leaves both parts an image"):
            dataset.split(fraction, seed)
        return
    first, second = dataset.split(fraction, seed)
    assert len(first) == wanted
    assert sorted(indices_of(first) + indices_of(second)) == list(range(len(dataset)))
    assert indices_of(first) == sorted(indices_of(first))
    assert indices_of(second) == sorted(indices_of(second))
    shares = first.class_counts()
    exact = fraction * dataset.class_counts()
    assert (shares >= np.floor(exact)).all()
    assert (shares <= np.floor(exact) + 1).all()
    np.testing.assert_array_equal(first.labels, labels[indices_of(first)])


def test_split_depends_on_the_seed_only():
    dataset = numbered([0, 1] * 50)
    same = [indices_of(dataset.split(0.5, seed=3)[0]) for _ in range(2)]
    assert same[0] == same[1]
    assert same[0] != indices_of(dataset.split(0.5, seed=4)[0])


def test_split_of_equal_classes_is_exact():
    train, validation = numbered(np.arange(1000) % 10).split(0.29)
    assert train.class_counts().tolist() == [29] * 10
    assert validation.class_counts().tolist() == [71] * 10


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.1, np.nan, "0.5", None])
def test_bad_fraction(fraction):
    with pytest.raises(ArgumentError, match=r"split: fraction=.* must lie between 0 and 1"):
        numbered([0, 1]).split(fraction)


def test_bad_seed():
    with pytest.raises(ArgumentError, match="split: seed=-1 must be an integer of at least 0"):
        numbered([0, 1]).split(0.5, seed=-1)


def test_orders_never_change():
    # Raw words of PCG64 are promised to stay; so are these, or runs could not be resumed.
    assert permutation(8, 0, 1, 2).tolist() == [0, 7, 6, 1, 2, 4, 3, 5]


def test_choice_is_uniform_within_a_class():
    labels = np.array([0, 1, 0, 1, 0, 0])
    trials = 4000
    chosen = np.zeros(6)
    for seed in range(trials):
        chosen[choose_per_class(labels, np.array([1, 2]), seed)] += 1
    assert chosen[[1, 3]].tolist() == [trials, trials]
    p = 1 / 4
    six_sigma = 6 * np.sqrt(trials * p * (1 - p))
    assert np.abs(chosen[[0, 2, 4, 5]] - trials * p).max() < six_sigma
