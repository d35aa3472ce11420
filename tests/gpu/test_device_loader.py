"""Batches made on a GPU equal the loader's to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from device_runs import REASON, SETS

from minicnn.data import (
    ArrayDataset,
    CenterCrop,
    ColorJitter,
    Compose,
    DeviceLoader,
    Loader,
    Normalize,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    ToFloat,
    device_loader,
)
from minicnn.errors import ArgumentError, ShapeError
from minicnn.testing.tolerance import to_host
from minicnn_kernels import registry
from minicnn_kernels.reference import Kernels

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

TRANSFORMS = {
    "none": None,
    "to float": ToFloat(),
    "mirror": Compose([RandomHorizontalFlip(), ToFloat()]),
    "mirror, crop": [RandomHorizontalFlip(), RandomCrop((8, 7), 2), Normalize],
    "crop, mirror": [RandomCrop(6, (1, 2)), RandomHorizontalFlip(), Normalize],
    "reflect": [RandomHorizontalFlip(), RandomCrop((8, 7), 3, "reflect"), Normalize],
    "pad, middle": [Pad(2, "reflect"), CenterCrop(5), RandomHorizontalFlip(), Normalize],
    "middle": Compose([CenterCrop(4), Compose([RandomHorizontalFlip(0.3), ToFloat()])]),
}


def dataset(C=3, count=23):
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (count, C, 8, 7)).astype(np.uint8)
    return ArrayDataset(pixels, rng.integers(0, 3, count), classes=["a", "b", "c"])


def loader(transform, C=3, **settings):
    if isinstance(transform, list):
        values = [ToFloat(), Normalize([0.4, 0.5, 0.6][:C], [0.2, 0.3, 0.1][:C])]
        transform = Compose([*transform[:-1], *values])
    return Loader(dataset(C), 4, seed=7, transform=transform, **{"shuffle": True, **settings})


@pytest.mark.parametrize("backend", SETS)
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("C", [1, 3])
def test_batches_equal_the_loaders(backend, name, C):
    with registry.use_backend(backend):
        ours = loader(TRANSFORMS[name], C)
        theirs = DeviceLoader(ours)
        assert len(theirs) == len(ours) == 6
        for epoch, start in ((0, 0), (3, 2), (1, 6)):
            pairs = zip(ours.iterate(epoch, start), theirs.iterate(epoch, start), strict=True)
            count = 0
            for (images, labels), (on_gpu, labels_on_gpu) in pairs:
                assert registry.device_of(on_gpu) == "cuda"
                np.testing.assert_array_equal(to_host(on_gpu), images, strict=True)
                np.testing.assert_array_equal(to_host(labels_on_gpu), labels, strict=True)
                count += 1
            assert count == 6 - start


@pytest.mark.parametrize("settings", [{"shuffle": False}, {"drop_last": True}])
def test_order_and_last_batch_are_the_loaders(settings):
    ours = loader(None, **settings)
    for epoch in range(2):
        batches = list(DeviceLoader(ours).iterate(epoch))
        assert len(batches) == len(ours)
        for (images, _), (on_gpu, _) in zip(ours.iterate(epoch), batches, strict=True):
            np.testing.assert_array_equal(to_host(on_gpu), images)


def test_loops_go_through_epochs():
    ours, theirs = loader(None), DeviceLoader(loader(None))
    for _ in range(2):
        for (_, labels), (_, on_gpu) in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(to_host(on_gpu), labels)
    with pytest.raises(ArgumentError, match="start=7 is past the 6 batches"):
        theirs.iterate(0, 7)


def test_every_part_of_the_placement_counts():
    """A kernel that ignored one of them, or doubled the border, would give another result."""
    k = Kernels(np)
    images = np.arange(2 * 9, dtype=np.uint8).reshape(2, 1, 3, 3)
    table = np.arange(256, dtype=np.float32)[None] * 2

    def gathered(top, start, step, reflect):
        placement = np.array([[top, start, step]], np.int32)
        return k.gather_images(images, np.array([1]), placement, (2, 4), reflect, table)[0, 0] / 2

    np.testing.assert_array_equal(gathered(-1, 0, 1, False), [[0] * 4, [9, 10, 11, 0]])
    np.testing.assert_array_equal(gathered(1, 2, -1, False), [[14, 13, 12, 0], [17, 16, 15, 0]])
    np.testing.assert_array_equal(gathered(-1, -1, 1, True), [[13, 12, 13, 14], [10, 9, 10, 11]])
    np.testing.assert_array_equal(gathered(2, 3, -1, True), [[16, 17, 16, 15], [13, 14, 13, 12]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: loader(ColorJitter(0.1)), "the transforms are ColorJitter"),
        (lambda: loader(Compose([ToFloat(), RandomHorizontalFlip()])), "ToFloat, RandomHoriz"),
        (lambda: loader(Compose([CenterCrop(4), Pad(1)])), "pads only once, before any cropping"),
        (lambda: Loader(ArrayDataset(np.zeros((4, 1, 2, 2)), [0] * 4), 2), "float64, not bytes"),
        (lambda: Loader([1, 2, 3], 2), "the data set is a list, not an ArrayDataset"),
    ],
)
def test_what_the_kernel_does_not_know_stays_with_the_loader(make, message):
    with pytest.raises(ArgumentError, match=message):
        DeviceLoader(make())


def test_images_that_do_not_fit_stay_with_the_loader(monkeypatch):
    monkeypatch.setattr(device_loader, "SHARE", 1e-12)
    with pytest.raises(ArgumentError, match=r"MiB of the GPU are free"):
        DeviceLoader(loader(None))


def test_a_window_that_is_too_large_is_the_transforms_error():
    with pytest.raises(ShapeError, match="size=9 is larger than the 8x7 images"):
        DeviceLoader(loader(Compose([RandomCrop(9), ToFloat()])))
