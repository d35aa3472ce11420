"""Augmentation and preparation of images, a whole batch at a time, in NumPy.

A transform is called with a batch (N, C, H, W) and a generator, draws for every image on its own,
and returns a new batch; it never writes into the one it got. Without a generator it uses the
process's own (`minicnn.random`). `Loader` passes one that depends on its seed, the epoch and the
batch only.

>>> prepare = Compose([RandomCrop(28, padding=2), RandomHorizontalFlip(), ToFloat()])
>>> prepare(np.zeros((8, 1, 28, 28), dtype=np.uint8), np.random.default_rng(0)).shape
(8, 1, 28, 28)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from minicnn.data._area import RandomResizedCrop
from minicnn.data._color import (
    IMAGENET_EIGENVALUES,
    IMAGENET_EIGENVECTORS,
    ColorJitter,
    Normalize,
    PCALighting,
    ToFloat,
)
from minicnn.data._geometry import (
    CenterCrop,
    Pad,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    crop_mirror_factor,
    ten_crop,
)
from minicnn.data._transform import Transform
from minicnn.errors import ArgumentError

__all__ = [
    "IMAGENET_EIGENVALUES",
    "IMAGENET_EIGENVECTORS",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Normalize",
    "PCALighting",
    "Pad",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "ToFloat",
    "Transform",
    "crop_mirror_factor",
    "ten_crop",
]


class Compose:
    """One transform after another, all drawing from the same generator.

    transforms : anything callable with (images, rng)

    Raises `ArgumentError` if an entry cannot be called.

    >>> Compose([ToFloat(), Normalize(0.5, 0.5)])
    Compose([ToFloat(), Normalize(mean=0.5, std=0.5)])
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        if not isinstance(transforms, Iterable):
            raise ArgumentError(
                f"Compose: transforms is a {type(transforms).__name__}; pass a list of transforms."
            )
        self.transforms = tuple(transforms)
        for i, transform in enumerate(self.transforms):
            if not callable(transform) or isinstance(transform, type):
                raise ArgumentError(
                    f"Compose: transforms[{i}] is {transform!r}, which is not a transform; "
                    "pass objects such as ToFloat()."
                )

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the batch after all transforms."""
        for transform in self.transforms:
            images = transform(images, rng)
        return images

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"
