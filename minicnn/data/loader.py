"""`Loader`: batches of a data set, shuffled, transformed, prefetched, and the same when repeated.

Nothing here remembers a random state. The order of an epoch depends on (seed, epoch) alone, and the
generator of a batch's augmentation on (seed, epoch, batch index) alone. So a run that was
interrupted continues with the very batches that it would have seen, and prefetching changes none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from minicnn.data import _check
from minicnn.data._order import permutation
from minicnn.data._prefetch import prefetch as run_ahead
from minicnn.data.transforms import ToFloat, Transform
from minicnn.errors import ArgumentError, DataError, ShapeError

__all__ = ["Loader"]

ORDER, _AUGMENTATION = 0, 1  # keys that keep the two uses of a seed apart

_to_float = ToFloat()

Batch = tuple[np.ndarray, np.ndarray]


class BatchDataset(Protocol):
    """What `Loader` needs: a length, and ``dataset[slice or indices]`` -> (images, labels)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> tuple[Any, Any]: ...


class Loader:
    """Batches of a data set: each is (images float32 (N, C, H, W), labels int64 (N,)).

    dataset : an `ArrayDataset`, or anything that gives (images, labels) for a slice or for indices
    batch_size : images in a batch; the last batch holds the rest
    shuffle : a new order in every epoch
    seed : of the orders and of the augmentation; integer, 0 or more
    transform : called as ``transform(images, rng)`` with the images as the data set holds them;
        images that are still uint8 after it are scaled to 0..1
    drop_last : leave out a last batch that is smaller than the others
    prefetch : how many batches one background thread prepares ahead; 0 prepares them when asked

    ``for images, labels in loader`` runs through epoch ``loader.epoch`` and sets it to the next
    one. Arrays are contiguous. Unshuffled float32 images without a transform are views of the data
    set: do not write into them.

    Raises `ArgumentError` for bad settings, `DataError` if the data set has fewer images than a
    batch, `ShapeError` if the transform does not return a batch.

    >>> from minicnn.data import ArrayDataset
    >>> pixels = np.full((5, 1, 2, 2), 255, dtype=np.uint8)
    >>> loader = Loader(ArrayDataset(pixels, [0, 1, 2, 3, 4]), batch_size=2)
    >>> for images, labels in loader:
    ...     print(images.shape, images.dtype, images.max(), labels)
    (2, 1, 2, 2) float32 1.0 [0 1]
    (2, 1, 2, 2) float32 1.0 [2 3]
    (1, 1, 2, 2) float32 1.0 [4]
    """

    def __init__(
        self,
        dataset: BatchDataset,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        transform: Transform | Callable[..., np.ndarray] | None = None,
        drop_last: bool = False,
        prefetch: int = 0,
    ) -> None:
        self.dataset = dataset
        self.batch_size = _check.integer("Loader", "batch_size", batch_size, at_least=1)
        self.shuffle = shuffle
        self.seed = _check.integer("Loader", "seed", seed)
        self.transform = transform
        self.drop_last = drop_last
        self.prefetch = _check.integer("Loader", "prefetch", prefetch)
        self.epoch = 0
        if self.batch_size > len(dataset):
            raise DataError(
                f"Loader: batch_size={self.batch_size:,} is larger than the data set, which has "
                f"{len(dataset):,} images; pass batch_size={len(dataset)} or less."
            )
        if transform is not None and (not callable(transform) or isinstance(transform, type)):
            raise ArgumentError(
                f"Loader: transform={transform!r} is not a transform; pass an object such as "
                "ToFloat(), or Compose([...]) for several."
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        self.epoch += 1
        return self.iterate(epoch)

    def __repr__(self) -> str:
        return (
            f"Loader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"seed={self.seed}, transform={self.transform!r}, drop_last={self.drop_last}, "
            f"prefetch={self.prefetch})"
        )

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` (0 or more) the one that the next loop runs through."""
        self.epoch = _check.integer("set_epoch", "epoch", epoch)

    def iterate(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch from batch `start` on, whatever was read before.

        epoch : 0 or more
        start : index of the first batch, 0 to ``len(loader)``; the last one gives no batch

        Raises `ArgumentError` for an epoch or a start outside these.

        >>> from minicnn.data import ArrayDataset
        >>> dataset = ArrayDataset(np.zeros((6, 1, 1, 1), dtype=np.uint8), range(6))
        >>> loader = Loader(dataset, batch_size=2, shuffle=True, seed=3)
        >>> whole = [labels.tolist() for _, labels in loader.iterate(epoch=7)]
        >>> rest = [labels.tolist() for _, labels in loader.iterate(epoch=7, start=1)]
        >>> rest == whole[1:]
        True
        """
        self.check_span(epoch, start)
        batches = self._batches(epoch, start)
        return run_ahead(batches, self.prefetch) if self.prefetch else batches

    def check_span(self, epoch: int, start: int) -> None:
        """Raise `ArgumentError` unless `iterate` can begin there."""
        _check.integer("iterate", "epoch", epoch)
        if _check.integer("iterate", "start", start) > len(self):
            raise ArgumentError(
                f"iterate: start={start} is past the {len(self)} batches of an epoch; "
                f"pass 0 to {len(self)}."
            )

    def bounds(self, index: int) -> tuple[int, int]:
        """Where batch ``index`` begins and ends in the order of an epoch."""
        first = index * self.batch_size
        return first, min(first + self.batch_size, len(self.dataset))

    def generator(self, epoch: int, index: int) -> np.random.Generator:
        """The generator of one batch's augmentation."""
        key = np.random.SeedSequence(self.seed, spawn_key=(_AUGMENTATION, epoch, index))
        return np.random.default_rng(key)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        order = permutation(len(self.dataset), self.seed, ORDER, epoch) if self.shuffle else None
        for index in range(start, len(self)):
            try:
                batch = self._batch(order, epoch, index)
            except Exception as error:
                error.add_note(f"raised while preparing batch {index} of epoch {epoch}")
                raise
            yield batch

    def _batch(self, order: np.ndarray | None, epoch: int, index: int) -> Batch:
        span = slice(*self.bounds(index))
        images, labels = self.dataset[span if order is None else order[span]]
        N = len(labels)
        if self.transform is not None:
            images = self.transform(images, self.generator(epoch, index))
            if not isinstance(images, np.ndarray) or images.ndim != 4 or len(images) != N:
                got = images.shape if isinstance(images, np.ndarray) else type(images).__name__
                raise ShapeError(
                    f"Loader: the transform returned {got} for a batch of {N} images; "
                    "make it return an array (N, C, H, W)."
                )
        images = np.ascontiguousarray(_to_float(images))
        return images, np.ascontiguousarray(labels, dtype=np.int64)
