"""`Loader`: every image once an epoch, the same batches on every resume, no thread left behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicnn.data import (
    ArrayDataset,
    Compose,
    Loader,
    Normalize,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    ToFloat,
)
from minicnn.errors import ArgumentError, DataError, DTypeError, ShapeError

AUGMENT = Compose([RandomCrop(4, padding=1), RandomHorizontalFlip(), ToFloat(), RandomErasing()])


def numbered(N: int, dtype=np.uint8) -> ArrayDataset:
    """Image i and label i both tell i; the pixels of an image differ."""
    images = np.arange(N).reshape(N, 1, 1, 1) + np.arange(16).reshape(4, 4)
    return ArrayDataset(images.astype(dtype), np.arange(N), name="numbered")


def labels_of(batches) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


def assert_same(first, second) -> None:
    first, second = list(first), list(second)
    assert len(first) == len(second)
    for (a, x), (b, y) in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(x, y)


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "minicnn-prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert prefetch_threads() == []


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("transform", [None, AUGMENT], ids=["plain", "augmented"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shuffle", [False, True])
def test_what_a_batch_is(shuffle, dtype, transform, prefetch):
    loader = Loader(numbered(10, dtype), 4, shuffle, transform=transform, prefetch=prefetch)
    batches = list(loader)
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    for images, labels in batches:
        assert images.shape == (len(labels), 1, 4, 4)
        assert (images.dtype, labels.dtype) == (np.float32, np.int64)
        assert images.flags.c_contiguous
        assert labels.flags.c_contiguous


def test_images_stay_with_their_labels():
    for images, labels in Loader(numbered(30, np.float32), 7, shuffle=True):
        assert images[:, 0, 0, 0].tolist() == labels.tolist()


@given(
    N=st.integers(1, 40),
    batch_size=st.integers(1, 40),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    prefetch=st.integers(0, 3),
)
def test_every_image_once(N, batch_size, shuffle, drop_last, prefetch):
    batch_size = min(N, batch_size)
    loader = Loader(
        numbered(N), batch_size, shuffle, drop_last=drop_last, prefetch=prefetch, seed=N
    )
    batches = labels_of(loader)
    seen = [label for batch in batches for label in batch]
    assert len(batches) == len(loader)
    assert len(set(seen)) == len(seen) == (N - N % batch_size if drop_last else N)
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    if not shuffle:
        assert seen == list(range(len(seen)))


def test_pixels_become_0_to_1():
    dataset = ArrayDataset(np.array([0, 51, 255], dtype=np.uint8).reshape(3, 1, 1, 1), [0, 1, 2])
    ((images, _),) = Loader(dataset, 3)
    np.testing.assert_array_equal(images.ravel(), np.array([0, 0.2, 1], dtype=np.float32))
    ((images, _),) = Loader(dataset, 3, transform=ToFloat())
    np.testing.assert_array_equal(images.ravel(), np.array([0, 0.2, 1], dtype=np.float32))


def test_unshuffled_float_batches_are_views():
    dataset = numbered(10, np.float32)
    for images, labels in Loader(dataset, 4):
        assert np.shares_memory(images, dataset.images)
        assert np.shares_memory(labels, dataset.labels)


def test_the_transform_sees_views_of_the_data_set():
    dataset = numbered(10)
    seen = []

    def look(images, rng):
        seen.append(images)
        return images

    list(Loader(dataset, 5, transform=look))
    assert [np.shares_memory(images, dataset.images) for images in seen] == [True, True]


def test_the_order_depends_on_seed_and_epoch_only():
    loader = Loader(numbered(50), 10, shuffle=True, seed=1)
    orders = [labels_of(loader.iterate(epoch)) for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert labels_of(loader.iterate(0)) == orders[0]
    assert labels_of(Loader(numbered(50), 10, shuffle=True, seed=1).iterate(1)) == orders[1]
    assert labels_of(Loader(numbered(50), 10, shuffle=True, seed=2).iterate(0)) != orders[0]


def test_the_order_is_uniform():
    trials = 3000
    loader = Loader(numbered(4), 4, shuffle=True)
    counts = np.zeros((4, 4))
    for epoch in range(trials):
        counts[np.arange(4), labels_of(loader.iterate(epoch))[0]] += 1
    six_sigma = 6 * np.sqrt(trials * 0.25 * 0.75)
    assert np.abs(counts - trials / 4).max() < six_sigma


def test_augmentation_differs_between_seeds_epochs_and_batches():
    draws = []

    def draw(images, rng):
        draws.append(rng.integers(2**63))
        return images

    for seed in (0, 1):
        loader = Loader(numbered(4), 2, seed=seed, transform=draw)
        for epoch in (0, 1):
            list(loader.iterate(epoch))
    assert len(set(draws)) == 2 * 2 * 2


def test_order_and_augmentation_use_different_numbers():
    words = []

    def look(images, rng):
        words.append(rng.bit_generator.random_raw(8))
        return images

    loader = Loader(numbered(8), 8, shuffle=True, transform=look)
    (order,) = labels_of(loader)
    assert order != np.argsort(words[0]).tolist()


def test_numpy_and_process_generators_are_left_alone():
    import minicnn.random

    before = minicnn.random.get_state()
    list(Loader(numbered(8), 2, shuffle=True, transform=AUGMENT))
    assert minicnn.random.get_state() == before


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("shuffle", [False, True])
def test_resuming_gives_the_batches_that_would_have_come(shuffle, prefetch):
    def make() -> Loader:
        return Loader(numbered(23), 5, shuffle, 9, AUGMENT, prefetch=prefetch)

    whole = list(make().iterate(epoch=3))
    for start in range(len(make()) + 1):
        assert_same(make().iterate(epoch=3, start=start), whole[start:])


@pytest.mark.parametrize("prefetch", [1, 2, 100])
def test_prefetching_changes_nothing(prefetch):
    plain = Loader(numbered(40), 3, True, 5, AUGMENT)
    ahead = Loader(numbered(40), 3, True, 5, AUGMENT, prefetch=prefetch)
    for _ in range(3):
        assert_same(ahead, plain)


def test_epochs_advance():
    loader = Loader(numbered(20), 5, shuffle=True)
    first, second = labels_of(loader), labels_of(loader)
    assert loader.epoch == 2
    assert first != second
    loader.set_epoch(0)
    assert labels_of(loader) == first
    next(iter(loader))  # an epoch that is left early counts too
    assert loader.epoch == 2
    list(loader.iterate(epoch=7))  # iterate() does not
    assert loader.epoch == 2


def test_two_loops_at_once_do_not_disturb_each_other():
    loader = Loader(numbered(12), 4, True, transform=AUGMENT, prefetch=1)
    expected = list(loader.iterate(0))
    assert_same((pair[0] for pair in zip(loader.iterate(0), loader.iterate(1))), expected)  # noqa: B905


class TestThread:
    def test_it_runs_ahead_and_no_further(self):
        made = []
        ready = threading.Event()

        def transform(images, rng):
            made.append(len(made))
            if len(made) == 4:
                ready.set()
            return images

        batches = iter(Loader(numbered(20), 2, transform=transform, prefetch=2))
        next(batches)
        # One is taken, two wait in the queue, one is in the thread's hands.
        assert ready.wait(timeout=60)
        assert len(prefetch_threads()) == 1
        assert len(made) == 4
        batches.close()

    def test_no_thread_before_the_first_batch(self):
        batches = iter(Loader(numbered(4), 2, prefetch=1))
        assert prefetch_threads() == []
        batches.close()

    @pytest.mark.parametrize("prefetch", [1, 2, 5])
    @pytest.mark.parametrize("taken", [1, 2, 3])
    def test_leaving_early_ends_it(self, prefetch, taken):
        for count, _ in enumerate(Loader(numbered(20), 2, prefetch=prefetch), start=1):
            if count == taken:
                break
        assert prefetch_threads() == []

    def test_an_error_in_the_loop_ends_it(self):
        batches = iter(Loader(numbered(20), 2, prefetch=1))

        def train():
            for _ in batches:
                raise KeyError("the training step")

        with pytest.raises(KeyError):
            train()
        batches.close()
        assert prefetch_threads() == []

    @pytest.mark.parametrize("prefetch", [0, 1, 4])
    def test_an_exception_surfaces_in_its_place(self, prefetch):
        calls = []

        def fail_at_the_third(images, rng):
            calls.append(1)
            if len(calls) == 3:
                raise OSError("disk unplugged")
            return images

        loader = Loader(numbered(10), 2, transform=fail_at_the_third, prefetch=prefetch)
        seen = []
        batches = ((images, seen.append(labels.tolist())) for images, labels in loader.iterate(6))
        with pytest.raises(OSError, match="disk unplugged") as caught:
            list(batches)
        assert seen == [[0, 1], [2, 3]]
        assert caught.value.__notes__ == ["raised while preparing batch 2 of epoch 6"]
        assert prefetch_threads() == []

    def test_even_an_exit_surfaces(self):
        def leave(images, rng):
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            list(Loader(numbered(4), 2, transform=leave, prefetch=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "Loader: batch_size=0 must be an integer of at least 1"),
        ({"batch_size": 2.0}, "Loader: batch_size=2.0 must be an integer"),
        ({"batch_size": True}, "Loader: batch_size=True must be an integer"),
        ({"batch_size": 2, "seed": -1}, "Loader: seed=-1 must be an integer of at least 0"),
        ({"batch_size": 2, "prefetch": -1}, "Loader: prefetch=-1 must be an integer"),
        ({"batch_size": 2, "transform": 3}, "Loader: transform=3 is not a transform"),
        ({"batch_size": 2, "transform": ToFloat}, r"pass an object such as ToFloat\(\)"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ArgumentError, match=message):
        Loader(numbered(4), **settings)


def test_batch_larger_than_the_set():
    with pytest.raises(DataError, match=r"batch_size=5 .* has 4 images; pass batch_size=4 or less"):
        Loader(numbered(4), 5)
    assert len(Loader(numbered(4), 4)) == 1


def test_bad_epoch_and_start():
    loader = Loader(numbered(4), 2)
    with pytest.raises(ArgumentError, match="set_epoch: epoch=-1 must be an integer of at least 0"):
        loader.set_epoch(-1)
    with pytest.raises(ArgumentError, match="iterate: start=3 is past the 2 batches"):
        loader.iterate(0, start=3)
    with pytest.raises(ArgumentError, match=r"iterate: epoch=0.5 must be an integer"):
        loader.iterate(0.5)


def test_bad_transforms():
    with pytest.raises(DTypeError, match=r"put ToFloat\(\) before it"):
        next(iter(Loader(numbered(4), 2, transform=Normalize(0, 1))))
    for wrong, got in [
        (lambda images, rng: images[0], r"\(1, 4, 4\)"),
        (lambda images, rng: images[:1], r"\(1, 1, 4, 4\)"),
        (lambda images, rng: None, "NoneType"),
    ]:
        with pytest.raises(ShapeError, match=f"returned {got} for a batch of 2 images"):
            next(iter(Loader(numbered(4), 2, transform=wrong)))


def test_other_data_sets_need_only_length_and_batches():
    class Squares:
        def __len__(self):
            return 6

        def __getitem__(self, index):
            labels = np.arange(6)[index]
            return np.ones((len(labels), 1, 2, 2)) * labels.reshape(-1, 1, 1, 1) ** 2, labels

    for images, labels in Loader(Squares(), 4, shuffle=True):
        assert images[:, 0, 0, 0].tolist() == [label**2 for label in labels]


def test_repr_tells_everything():
    loader = Loader(numbered(4), 2, True, 7, ToFloat(), True, 3)
    assert repr(loader) == (
        "Loader(ArrayDataset('numbered', 4 images of shape (1, 4, 4) uint8, 4 classes), "
        "batch_size=2, shuffle=True, seed=7, transform=ToFloat(), drop_last=True, prefetch=3)"
    )
