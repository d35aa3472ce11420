"""`ArrayDataset`: images and labels in memory, checked once, when the data set is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from minicnn.data import _check
from minicnn.data._order import choose_per_class
from minicnn.errors import ArgumentError, DataError

__all__ = ["ArrayDataset"]

_FINITE_CHUNK = 1 << 20  # numbers looked at in one go, so that the check needs no second copy
_MOST_UNNAMED_CLASSES = 100_000  # ImageNet-21k has 21,841


class ArrayDataset:
    """Labelled images in memory: ``dataset[i]`` is image i and its label.

    images : uint8 (pixels 0..255) or float (N, C, H, W), kept without a copy
    labels : int (N,), each from 0 to one less than the number of classes; stored as int64
    classes : the names of the classes; without them they are called "0", "1", ...
    name : what messages and tables call the data set
    source, note : where the data came from, one word and one sentence

    An integer index gives (image (C, H, W), label); a slice or an array of indices gives a batch,
    (images (M, C, H, W), labels (M,)). Slices are views.

    Raises `DataError` if shapes, dtypes or lengths do not fit, a label is out of range, or a float
    image holds NaN or infinity.

    >>> pixels = np.arange(4 * 9, dtype=np.uint8).reshape(4, 1, 3, 3)
    >>> dataset = ArrayDataset(pixels, [0, 1, 1, 0], classes=["cat", "dog"], name="pets")
    >>> dataset
    ArrayDataset('pets', 4 images of shape (1, 3, 3) uint8, 2 classes)
    >>> image, label = dataset[2]
    >>> image.shape, dataset.classes[label]
    ((1, 3, 3), 'dog')
    """

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        classes: Sequence[str] | None = None,
        name: str = "dataset",
        source: str = "array",
        note: str = "",
    ) -> None:
        self.images = _checked_images(np.asarray(images), name)
        self.labels = _checked_labels(np.asarray(labels), len(self.images), name)
        self.classes = _checked_classes(classes, self.labels, name)
        self.name = name
        self.source = source
        self.note = note

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of every image."""
        _, C, H, W = self.images.shape
        return C, H, W

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int | np.integer) -> tuple[np.ndarray, int]: ...

    @overload
    def __getitem__(
        self, index: slice | Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def __getitem__(
        self, index: int | np.integer | slice | Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, int | np.ndarray]:
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(
                    f"{self.name}: index {index} is outside the {len(self):,} images; "
                    f"use 0 to {len(self) - 1:,}."
                )
            return self.images[index], int(self.labels[index])
        select = index if isinstance(index, slice) else self._checked_indices(index)
        return self.images[select], self.labels[select]

    def __repr__(self) -> str:
        return (
            f"ArrayDataset({self.name!r}, {len(self):,} images of shape {self.image_shape} "
            f"{self.images.dtype}, {len(self.classes)} classes)"
        )

    def class_counts(self) -> np.ndarray:
        """Return how many images each class has, int64 (K,), in the order of `classes`.

        >>> ArrayDataset(np.zeros((3, 1, 2, 2)), [0, 2, 2]).class_counts()
        array([1, 0, 2])
        """
        return np.bincount(self.labels, minlength=len(self.classes))

    def subset(self, indices: Sequence[int] | np.ndarray | slice) -> ArrayDataset:
        """Return the data set of the images at `indices`, in that order, with the same classes.

        Raises `DataError` if there are no indices or one lies outside the data set.

        >>> ArrayDataset(np.zeros((3, 1, 2, 2)), [0, 2, 2]).subset([2, 0]).labels
        array([2, 0])
        """
        images, labels = self[indices if isinstance(indices, slice) else np.asarray(indices)]
        if len(labels) == 0:
            raise DataError(f"{self.name}: subset() got no indices; pass at least one.")
        return ArrayDataset(images, labels, self.classes, self.name, self.source, self.note)

    def split(self, fraction: float, seed: int = 0) -> tuple[ArrayDataset, ArrayDataset]:
        """Split into two data sets; the first gets `fraction` of every class.

        Each class is divided as evenly as whole images allow, and the first part has
        ``round(fraction * N)`` images. The same seed gives the same split. Both parts keep the
        order of the images.

        fraction : strictly between 0 and 1
        seed : integer, 0 or more

        Raises `ArgumentError` for a bad fraction or seed, `DataError` if a part would be empty.

        >>> dataset = ArrayDataset(np.zeros((10, 1, 2, 2)), [0, 1] * 5)
        >>> train, validation = dataset.split(0.8, seed=1)
        >>> train.class_counts(), validation.class_counts()
        (array([4, 4]), array([1, 1]))
        """
        is_number = isinstance(fraction, int | float | np.integer | np.floating)
        if not is_number or not 0 < fraction < 1:
            raise ArgumentError(
                f"split: fraction={fraction!r} must lie between 0 and 1; "
                "pass the share of the first part, such as 0.9."
            )
        seed = _check.integer("split", "seed", seed)
        wanted = divide(self.class_counts(), float(fraction))
        if not 0 < wanted.sum() < len(self):
            raise DataError(
                f"split: fraction={fraction} of {len(self)} images gives {wanted.sum()} and "
                f"{len(self) - wanted.sum()}; choose a fraction that leaves both parts an image."
            )
        first = choose_per_class(self.labels, wanted, seed)
        second = np.setdiff1d(np.arange(len(self)), first, assume_unique=True)
        return self.subset(first), self.subset(second)

    def _checked_indices(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        if indices.size == 0:
            return indices.reshape(-1).astype(np.intp)
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            raise DataError(
                f"{self.name}: indices are {indices.dtype} of shape {indices.shape}; pass whole "
                "numbers in one dimension (for a mask, np.flatnonzero(mask))."
            )
        outside = np.flatnonzero((indices < -len(self)) | (indices >= len(self)))
        if outside.size:
            raise DataError(
                f"{self.name}: index {indices[outside[0]]} (at position {outside[0]}) is outside "
                f"the {len(self):,} images; use 0 to {len(self) - 1:,}."
            )
        return indices


def _checked_images(images: np.ndarray, name: str) -> np.ndarray:
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"{name}: images have dtype {images.dtype}; pass uint8 pixels (0..255) or floats."
        )
    if images.ndim != 4:
        cure = "images[:, np.newaxis] adds the channel" if images.ndim == 3 else "reshape them"
        raise DataError(
            f"{name}: images have shape {images.shape}, {images.ndim} dimensions; "
            f"they must be (N, C, H, W): {cure}."
        )
    if images.size == 0:
        raise DataError(
            f"{name}: images have shape {images.shape}, which holds no pixel; "
            "pass at least one image."
        )
    if images.dtype != np.uint8:
        _check_finite(images, name)
    return images


def _check_finite(images: np.ndarray, name: str) -> None:
    step = max(1, _FINITE_CHUNK // images[0].size)
    for start in range(0, len(images), step):
        finite = np.isfinite(images[start : start + step])
        if not finite.all():
            n, c, h, w = (int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"{name}: images[{start + n}, {c}, {h}, {w}] is {images[start + n, c, h, w]}; "
                "remove or repair that image, for example with np.nan_to_num."
            )


def _checked_labels(labels: np.ndarray, N: int, name: str) -> np.ndarray:
    if labels.ndim != 1:
        cure = "; for one-hot labels pass labels.argmax(axis=1)" if labels.ndim == 2 else ""
        raise DataError(
            f"{name}: labels have shape {labels.shape}; they must be (N,), one class index for "
            f"each image{cure}."
        )
    if len(labels) != N:
        raise DataError(
            f"{name}: {N:,} images but {len(labels):,} labels; pass one label for each image."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{name}: labels have dtype {labels.dtype}; "
            "pass class indices as integers, with labels.astype(np.int64) if they are whole."
        )
    return labels.astype(np.int64, copy=False)


def _checked_classes(
    classes: Sequence[str] | None, labels: np.ndarray, name: str
) -> tuple[str, ...]:
    if classes is None:
        _check_range(labels, _MOST_UNNAMED_CLASSES, name, "unnamed classes may be at most")
        return tuple(str(label) for label in range(int(labels.max()) + 1))
    if isinstance(classes, str):
        raise DataError(f"{name}: classes={classes!r} is one string; pass a list of names.")
    names = tuple(str(entry) for entry in classes)
    if len(set(names)) < len(names):
        twice = next(entry for i, entry in enumerate(names) if entry in names[:i])
        raise DataError(f"{name}: class {twice!r} is named twice; give each class its own name.")
    _check_range(labels, len(names), name, "the classes are")
    return names


def _check_range(labels: np.ndarray, limit: int, name: str, count: str) -> None:
    outside = np.flatnonzero((labels < 0) | (labels >= limit))
    if outside.size:
        n = outside[0]
        raise DataError(
            f"{name}: labels[{n}] is {labels[n]} but labels start at 0 and {count} {limit:,}; "
            "renumber the labels, or pass the full list of classes."
        )


def divide(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Return the share of every class, by largest remainder; the total is the rounded share."""
    exact = counts * fraction
    shares = np.floor(exact).astype(np.int64)
    missing = round(fraction * int(counts.sum())) - int(shares.sum())
    by_remainder = np.argsort(shares - exact, kind="stable")
    shares[by_remainder[: max(missing, 0)]] += 1
    return shares
