"""`ShardedLoader`: one process's part of every batch of a `Loader`.

Several processes that train one network divide each *batch* among them, not the data set. Batch i
of an epoch is then made of the same images, in the same order, as with one process, however many
there are; every image is seen once an epoch; and a run may be stopped with four processes and
continued with eight. Of N images, process r of n gets a run of neighbours: N // n of them, and one
more where r < N % n.

    batch of 10, 4 processes     0 1 2 | 3 4 5 | 6 7 | 8 9

Augmentation is random for each image. A process draws the numbers of the whole batch and keeps
those of its own images, which costs nothing beside the images themselves; so a picture is mirrored
or not whoever trains on it.

The last batch of an epoch may have fewer images than there are processes. Some have none then, but
must take part in the step all the same, because the others wait for their numbers. They get the
first image of the batch, and `ShardedLoader.count` says that it counts 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.data.loader import Loader
from minicnn.errors import ArgumentError

__all__ = ["ShardedLoader"]

# Where the methods of a generator that transforms call have the argument ``size``.
_SIZE_AT = {"random": 0, "standard_normal": 0, "integers": 2, "normal": 2, "uniform": 2}


class ShardedLoader(Loader):
    """The batches of ``loader`` as process ``rank`` of ``size`` sees them.

    ``batch_size`` and ``len`` stay those of the whole. Raises `ArgumentError` for a rank that is
    not among 0..size-1.

    >>> from minicnn.data import ArrayDataset
    >>> whole = Loader(ArrayDataset(np.zeros((5, 1, 1, 1), np.uint8), range(5)), batch_size=4)
    >>> for rank in (0, 1):
    ...     print([labels.tolist() for _, labels in ShardedLoader(whole, rank, 2)])
    [[0, 1], [4]]
    [[2, 3], [4]]
    >>> [ShardedLoader(whole, 1, 2).count(index) for index in (0, 1)]
    [2, 0]
    """

    def __init__(self, loader: Loader, rank: int, size: int) -> None:
        if not 0 <= rank < size:
            raise ArgumentError(
                f"ShardedLoader: rank is {rank} of {size} processes; give a number from 0 to "
                f"{size - 1}."
            )
        super().__init__(
            loader.dataset,
            loader.batch_size,
            shuffle=loader.shuffle,
            seed=loader.seed,
            transform=loader.transform,
            drop_last=loader.drop_last,
            prefetch=loader.prefetch,
        )
        self.rank = rank
        self.size = size

    def total(self, index: int) -> int:
        """How many images batch ``index`` has in all processes together."""
        first, last = super().bounds(index)
        return last - first

    def count(self, index: int) -> int:
        """How many images of batch ``index`` are this process's own."""
        share, rest = divmod(self.total(index), self.size)
        return share + (self.rank < rest)

    def bounds(self, index: int) -> tuple[int, int]:
        """Where the own images of a batch begin and end; the first of it where there are none."""
        start, _ = super().bounds(index)
        share, rest = divmod(self.total(index), self.size)
        count = self.count(index)
        first = start + self.rank * share + min(self.rank, rest) if count else start
        return first, first + max(count, 1)

    def generator(self, epoch: int, index: int) -> Any:
        """What draws for the own images what one process would draw for them."""
        start, _ = super().bounds(index)
        first, last = self.bounds(index)
        rng = super().generator(epoch, index)
        return _ShareOfDraws(rng, first - start, last - start, self.total(index))


class _ShareOfDraws:
    """A generator of random numbers for ``total`` images, of which one asks for some."""

    def __init__(self, rng: np.random.Generator, first: int, last: int, total: int) -> None:
        self._rng = rng
        self._own = slice(first, last)
        self._count = last - first
        self._total = total

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._rng, name)
        if name not in _SIZE_AT:
            return method

        def draw(*arguments: Any, **named: Any) -> Any:
            place = _SIZE_AT[name]
            if len(arguments) <= place:
                size, others = named.pop("size", None), arguments
            else:
                size, others = arguments[place], (*arguments[:place], *arguments[place + 1 :])
            shape = () if size is None else tuple(np.atleast_1d(size).tolist())
            if self._count not in shape:
                return method(*others, size=size, **named)
            axis = shape.index(self._count)  # of the images, which come first wherever they can
            whole = method(*others, size=(*shape[:axis], self._total, *shape[axis + 1 :]), **named)
            return whole[(slice(None),) * axis + (self._own,)]

        return draw
