"""`DeviceLoader`: the batches of a `Loader`, made on the GPU from a data set that lies there.

A GPU trains a small network on a batch in less time than the CPU needs to cut out, mirror, scale
and send it. But what differs between a batch and the stored pixels is little: which images, where
the window of each lies, and whether it is mirrored. So the pixels are sent once, as bytes; at the
start of an epoch the CPU draws the order and the windows of all its batches, from the generators
that the loader itself would use, and sends them in two copies; and one kernel makes a batch
(`gather_images`, see cupy_cuda/batches.cu).

A window is described by three numbers for each image. Row i and column j of what the network sees
are row ``top + i`` and column ``start + step * j`` of the stored image; transforms change them:

    mirror                start <- start + step * (width - 1),  step <- -step
    pad by (PH, PW)       top <- top - PH,                      start <- start - step * PW
    crop at (t, l)        top <- top + t,                       start <- start + step * l

What follows them, scaling to 0..1 and `Normalize`, depends on the value and the channel of a pixel
alone. There are 256 values, so the loader's own transforms are applied to these, and the results
are a table that the kernel looks into. That makes every batch equal, bit for bit, to the loader's.

`fault` says in words why a loader cannot be had this way: other transforms, pixels that are no
bytes, or too little memory. Such a loader goes on working; its batches are sent one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from minicnn.data._order import permutation
from minicnn.data.dataset import ArrayDataset
from minicnn.data.loader import ORDER, Loader
from minicnn.data.transforms import (
    CenterCrop,
    Compose,
    Normalize,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    ToFloat,
)
from minicnn.errors import ArgumentError
from minicnn_kernels import registry

__all__ = ["DeviceLoader"]

SHARE = 0.5  # of the free memory that the pixels may take; the rest is for training

_MOVES = (RandomHorizontalFlip, Pad, RandomCrop, CenterCrop)


class DeviceLoader:
    """The batches of ``loader`` as arrays on the GPU; use it in the place of the loader.

    Raises `ArgumentError` where `fault` names a reason, and `OutOfMemoryError`.
    """

    def __init__(self, loader: Loader) -> None:
        if (reason := fault(loader)) is not None:
            raise ArgumentError(f"DeviceLoader: {reason}; use the Loader itself.")
        self.loader = loader
        self.dataset = cast(ArrayDataset, loader.dataset)
        self.batch_size = loader.batch_size
        self.moves, table = _parts(loader)
        xp = registry.kernels("cuda").xp
        try:
            self._images = xp.asarray(self.dataset.images)
            self._labels = xp.asarray(self.dataset.labels)
            self._table = xp.asarray(table)
        except MemoryError as error:
            registry.raise_out_of_memory("DeviceLoader", error)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        epoch = self.loader.epoch
        self.loader.epoch += 1
        return self.iterate(epoch)

    def __repr__(self) -> str:
        return f"DeviceLoader({self.loader!r})"

    def iterate(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """The batches of one epoch from batch ``start`` on, as `Loader.iterate` has them."""
        self.loader.check_span(epoch, start)
        return self._batches(epoch, start)

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[Any, Any]]:
        k = registry.kernels("cuda")
        count, size = len(self.dataset), self.batch_size
        first, last = start * size, min(len(self) * size, count)
        order = np.arange(count)
        if self.loader.shuffle:
            order = permutation(count, self.loader.seed, ORDER, epoch)
        windows = [self._windows(epoch, i) for i in range(start, len(self))]
        if not windows:
            return
        sent = k.xp.asarray(order[first:last].astype(np.int64))
        placements = k.xp.asarray(np.concatenate([window.placement for window in windows]))
        shape, reflect = windows[0].size, windows[0].reflect
        for at in range(0, last - first, size):
            index = sent[at : at + size]
            images = k.gather_images(
                self._images, index, placements[at : at + size], shape, reflect, self._table
            )
            yield images, self._labels[index]

    def _windows(self, epoch: int, index: int) -> _Windows:
        """The windows of the images of one batch, drawn as the loader's transforms draw."""
        N = min(self.batch_size, len(self.dataset) - index * self.batch_size)
        rng = self.loader.generator(epoch, index)
        windows = _Windows.whole(N, self.dataset.image_shape[1:])
        for move in self.moves:
            windows.apply(move, rng)
        return windows


@dataclass
class _Windows:
    """Where the windows of N images lie: see the module's docstring."""

    top: np.ndarray
    start: np.ndarray
    step: np.ndarray
    size: tuple[int, int]
    reflect: bool = False

    @classmethod
    def whole(cls, N: int, size: tuple[int, int]) -> _Windows:
        zeros = np.zeros(N, np.int64)
        return cls(zeros, zeros, np.ones(N, np.int64), size)

    @property
    def placement(self) -> np.ndarray:
        """int32 (N, 3): top, start and step of each image."""
        return np.stack([self.top, self.start, self.step], axis=1).astype(np.int32)

    def apply(self, move: Any, rng: np.random.Generator) -> None:
        if isinstance(move, RandomHorizontalFlip):
            mirrored = move.choose(len(self.top), rng)
            self.start = self.start + np.where(mirrored, self.step * (self.size[1] - 1), 0)
            self.step = np.where(mirrored, -self.step, self.step)
        if isinstance(move, (Pad, RandomCrop)):
            self._pad(*_pair(move.padding), move.padding_mode == "reflect")
        if isinstance(move, RandomCrop):
            size = _pair(move.size)
            self._crop(*move.choose(len(self.top), *self.size, rng), size)
        if isinstance(move, CenterCrop):
            (height, width), (H, W) = _pair(move.size), self.size
            self._crop((H - height) // 2, (W - width) // 2, (height, width))

    def _pad(self, rows: int, columns: int, reflect: bool) -> None:
        self.top = self.top - rows
        self.start = self.start - self.step * columns
        self.size = self.size[0] + 2 * rows, self.size[1] + 2 * columns
        self.reflect = reflect and bool(rows or columns)

    def _crop(self, top: Any, left: Any, size: tuple[int, int]) -> None:
        self.top = self.top + top
        self.start = self.start + self.step * left
        self.size = size


def fault(loader: Loader) -> str | None:
    """Why the batches of a loader cannot be made on the GPU, or None where they can.

    >>> fault(Loader(ArrayDataset(np.zeros((2, 1, 1, 1)), [0, 1]), 1))
    'the images are float64, not bytes (uint8)'
    """
    dataset = loader.dataset
    if not isinstance(dataset, ArrayDataset):
        return f"the data set is a {type(dataset).__name__}, not an ArrayDataset in memory"
    if dataset.images.dtype != np.uint8:
        return f"the images are {dataset.images.dtype}, not bytes (uint8)"
    steps = _steps(loader.transform)
    moves = [step for step in steps if type(step) in _MOVES]
    if [type(s) for s in steps] != [*map(type, moves), *map(type, _values(steps))]:
        names = ", ".join(type(step).__name__ for step in steps)
        return (
            "its kernel knows mirroring, padding and cropping, then ToFloat and Normalize, but the "
            f"transforms are {names}"
        )
    padded = [
        i for i, m in enumerate(moves) if isinstance(m, (Pad, RandomCrop)) and any(_pair(m.padding))
    ]
    cropped = [i for i, m in enumerate(moves) if isinstance(m, (CenterCrop, RandomCrop))]
    if len(padded) > 1 or (padded and any(i < padded[0] for i in cropped)):
        return "its kernel pads only once, before any cropping"
    return _memory_fault(dataset.images)


def _memory_fault(images: np.ndarray) -> str | None:
    xp = registry.kernels("cuda").xp
    free, _ = xp.cuda.runtime.memGetInfo()
    if images.nbytes <= SHARE * free:
        return None
    return (
        f"the images take {images.nbytes / 2**20:,.0f} MiB and {free / 2**20:,.0f} MiB of the GPU "
        f"are free, of which at most {SHARE:.0%} are for them"
    )


def _steps(transform: Any) -> list[Any]:
    if transform is None:
        return []
    if type(transform) is Compose:
        return [step for inner in transform.transforms for step in _steps(inner)]
    return [transform]


def _values(steps: list[Any]) -> list[Any]:
    return [step for step in steps if type(step) in (ToFloat, Normalize)]


def _parts(loader: Loader) -> tuple[list[Any], np.ndarray]:
    """The transforms that move pixels, and what the others make of each value: (C, 256)."""
    steps = _steps(loader.transform)
    images = cast(ArrayDataset, loader.dataset).images
    one, C = images[:1], images.shape[1]
    for step in steps:  # raises where a window does not fit
        one = step(one, loader.generator(0, 0))
    pixels: np.ndarray = np.tile(np.arange(256, dtype=np.uint8), (1, C, 1, 1)).reshape(1, C, 1, 256)
    for step in _values(steps):
        pixels = step(pixels)
    return [s for s in steps if type(s) in _MOVES], ToFloat()(pixels).reshape(C, 256)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
