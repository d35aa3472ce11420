"""`ImageFolder`: pictures in a folder, a sub-folder for each class, as a data set.

Every file is opened once when the data set is made: what cannot be decoded is left out and
reported, the SHA-256 of every other tells copies apart, and its pixels, scaled to the one size of
the data set, stay in memory while they fit into ``cache_bytes``. The others are decoded again when
a batch wants them, by several threads; Pillow's decoders leave other threads alone while they work.

Which pictures stay is decided once: the first that fit. In an epoch each picture is wanted once, in
a new order, so a cache that throws out the oldest would keep as many, and none more useful.

A split goes by content and seed. The pictures of a class are put in the order of a checksum of
(seed, content), and the first part takes from its beginning. So it is the same whatever the files
are called and however the system lists them, it moves few pictures when some are added, and copies
of a picture never stand on both sides.
"""

from __future__ import annotations

import copy
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from minicnn.data import _check
from minicnn.data._local import is_url, local_folder
from minicnn.data._scan import Candidate, IsValid, Skipped, one_line, scan
from minicnn.data.dataset import ArrayDataset, divide
from minicnn.data.picture import decode_picture
from minicnn.errors import ArgumentError, DataError
from minicnn_kernels.threads import get_num_threads

__all__ = ["ImageFolder", "Skipped"]

CACHE_BYTES = 2**30
_AT_ONCE = 256  # files read before their results are taken up: the rest must not pile up in memory
_SHOWN = 20

Decode = Callable[[bytes, int, int, int], np.ndarray]


@dataclass
class _Store:
    """All pictures of a folder: of the first ``len(cached)`` the pixels too."""

    shape: tuple[int, int, int]
    loader: Decode
    paths: list[Path]
    parts: list[str]
    digests: list[bytes]
    cached: np.ndarray
    warned: set[int]

    def pixels(self, index: int) -> np.ndarray | None:
        """The picture, or None, with a warning the first time, where it cannot be had any more."""
        if index < len(self.cached):
            return self.cached[index]
        try:
            return _decoded(self.loader, self.paths[index].read_bytes(), self.shape)
        except (DataError, OSError) as error:
            if index not in self.warned:
                self.warned.add(index)
                warnings.warn(
                    f"{self.paths[index]} could be read before and now cannot ({error}); the next "
                    "picture of its class stands in for it.",
                    stacklevel=2,
                )
            return None


class ImageFolder:
    """Labelled pictures of a folder: ``dataset[i]`` is picture i, uint8 (C, H, W), and its label.

    root : a folder with a sub-folder for each class, or with ``train``, ``val`` and ``test`` that
        have those; a .zip or .tar of one, which is unpacked into the cache; or a URL of an archive
    size : of every picture, an integer or (height, width): scaled to cover it, middle cut out
    channels : 3 for RGB, 1 for gray
    loader : called as ``loader(content, channels, height, width)`` with the bytes of a file;
        returns uint8 (C, H, W), or raises `DataError`; default: `picture.decode_picture`
    is_valid_file : called with a path; says whether it is a picture, in place of its ending
    allow_empty : keep classes without a picture
    cache_bytes : how much memory the pixels may take
    threads : that decode; 0: as many as `minicnn.get_num_threads` says

    ``root``, ``loader``, ``is_valid_file``, ``allow_empty`` and the attributes ``classes``,
    ``class_to_idx``, ``samples``, ``imgs`` and ``targets`` are named as torchvision's; transforms
    are given to a `Loader`, which applies them to whole batches. Indices give what those of an
    `ArrayDataset` give. ``skipped`` lists what was left out and why; `report` shows it.

    Raises `DataError` where there is no such folder, it cannot be listed, it has fewer than two
    classes, or a class has no picture.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("cats", "dogs"):
    ...         Path(root, name).mkdir()
    ...         Image.new("RGB", (40, 30), "gray").save(Path(root, name, "a.JPG"))
    ...     _ = Path(root, "cats", "b.jpg").write_text("no picture")
    ...     dataset = ImageFolder(root, size=32)
    >>> len(dataset), dataset.classes, dataset[1][0].shape, dataset[1][1]
    (2, ('cats', 'dogs'), (3, 32, 32), 1)
    >>> print(dataset.skipped[0])
    cats/b.jpg: is not a picture that can be read
    """

    source = "folder"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | tuple[int, int] = 224,
        channels: int = 3,
        loader: Decode = decode_picture,
        is_valid_file: IsValid | None = None,
        allow_empty: bool = False,
        cache_bytes: int = CACHE_BYTES,
        threads: int = 0,
    ) -> None:
        height, width = _check.pair("ImageFolder", "size", size, at_least=1)
        if channels not in (1, 3):
            raise ArgumentError(f"ImageFolder: channels={channels!r} must be 1 (gray) or 3 (RGB).")
        self.root = os.fspath(root)
        self.name = self.root if is_url(root) else Path(root).name or self.root
        self.image_shape = (channels, height, width)
        self.threads = _check.integer("ImageFolder", "threads", threads) or get_num_threads()
        cache_bytes = _check.integer("ImageFolder", "cache_bytes", cache_bytes)
        found = scan(local_folder(root), is_valid_file)
        self.classes = found.classes
        self.part_names = found.parts
        self._store = _Store(self.image_shape, loader, [], [], [], np.empty(0, np.uint8), set())
        skipped, kept = self._read(found.candidates, found.root, cache_bytes)
        self.skipped = tuple(sorted([*found.skipped, *skipped], key=lambda entry: entry.path))
        self.labels = np.array([candidate.label for candidate in kept], np.int64)
        self._index = np.arange(len(kept))
        self._check_classes(allow_empty)

    def _read(
        self, candidates: Sequence[Candidate], base: Path, cache_bytes: int
    ) -> tuple[list[Skipped], list[Candidate]]:
        """Fill the store; returns what is no picture, and the others."""
        store, in_memory = self._store, 0
        room = min(len(candidates), cache_bytes // int(np.prod(self.image_shape)))
        cached = np.empty((room, *self.image_shape), np.uint8)
        skipped, kept = [], []
        for candidate, result in zip(candidates, self._opened(candidates), strict=True):
            if isinstance(result, str):
                below = candidate.path.relative_to(base).as_posix()
                skipped.append(Skipped(below.encode("utf-8", "backslashreplace").decode(), result))
                continue
            if in_memory < room:
                cached[in_memory] = result[1]
                in_memory += 1
            kept.append(candidate)
            store.paths.append(candidate.path)
            store.parts.append(candidate.part)
            store.digests.append(result[0])
        store.cached = cached[:in_memory]
        return skipped, kept

    def _opened(self, candidates: Sequence[Candidate]) -> Iterator[tuple[bytes, np.ndarray] | str]:
        """The checksum and the pixels of each candidate, or why there are none."""

        def opened(candidate: Candidate) -> tuple[bytes, np.ndarray] | str:
            try:
                content = candidate.path.read_bytes()
                pixels = _decoded(self._store.loader, content, self.image_shape)
            except DataError as error:
                return str(error).partition(";")[0].rstrip(".")
            except OSError as error:
                return f"cannot be read: {error.strerror or error}"
            return hashlib.sha256(content).digest(), pixels

        with ThreadPoolExecutor(self.threads, "minicnn-pictures") as pool:
            for start in range(0, len(candidates), _AT_ONCE):
                yield from pool.map(opened, candidates[start : start + _AT_ONCE])

    def _check_classes(self, allow_empty: bool) -> None:
        trained = self.parts.get("train", self) if self.part_names else self
        counts = np.bincount(trained.labels, minlength=len(self.classes))
        empty = [name for name, count in zip(self.classes, counts, strict=True) if not count]
        if (empty and not allow_empty) or not len(trained):
            reasons = "".join(f"\n  {entry}" for entry in self.skipped[:_SHOWN])
            where = " to train on" if self.part_names else ""
            raise DataError(
                f"{self.root}: no picture of {', '.join(empty)}{where}; put some there, or remove "
                f"the folder. Skipped: {len(self.skipped)}{reasons}"
            )
        if len(self.classes) < 2:
            raise DataError(
                f"{self.root} has one class only, {self.classes[0]!r}; to tell classes apart it "
                "takes pictures of two, each in a folder of its own."
            )

    @property
    def parts(self) -> dict[str, ImageFolder]:
        """The pictures of "train", "validation" and "test" of a folder that is divided already.

        Empty for any other, and without the parts in which no picture was found.
        """
        own = np.array(self._store.parts)[self._index]
        places = {name: np.flatnonzero(own == name) for name in self.part_names}
        return {name: self.subset(found) for name, found in places.items() if len(found)}

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The label of each class."""
        return {name: label for label, name in enumerate(self.classes)}

    @property
    def samples(self) -> list[tuple[str, int]]:
        """The path and the label of every picture."""
        paths = self._store.paths
        labels = self.labels.tolist()
        return [(str(paths[i]), label) for i, label in zip(self._index, labels, strict=True)]

    imgs = samples

    @property
    def targets(self) -> list[int]:
        """The labels."""
        return self.labels.tolist()

    @property
    def images(self) -> np.ndarray:
        """All pictures at once, uint8 (N, C, H, W), in memory whatever ``cache_bytes`` says."""
        return self._batch(np.arange(len(self)))

    @property
    def is_cached(self) -> bool:
        """Whether every picture is in memory."""
        return bool(len(self._index)) and int(self._index.max()) < len(self._store.cached)

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        C, H, W = self.image_shape
        return (
            f"ImageFolder({self.name!r}, {len(self):,} pictures of shape ({C}, {H}, {W}), "
            f"{len(self.classes)} classes)"
        )

    @overload
    def __getitem__(self, index: int | np.integer) -> tuple[np.ndarray, int]: ...

    @overload
    def __getitem__(
        self, index: slice | Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def __getitem__(self, index: Any) -> tuple[np.ndarray, int | np.ndarray]:
        if isinstance(index, int | np.integer):
            images, labels = self[np.array([index])]
            return images[0], int(labels[0])
        places = np.arange(len(self))
        try:
            chosen = places[index] if isinstance(index, slice) else places[np.asarray(index, int)]
        except IndexError as error:
            raise DataError(f"{self.name}: {error}; use 0 to {len(self) - 1:,}.") from None
        return self._batch(chosen), self.labels[chosen]

    def _batch(self, places: np.ndarray) -> np.ndarray:
        store, index = self._store, self._index[places]
        y = np.empty((len(places), *self.image_shape), np.uint8)
        cached = index < len(store.cached)
        y[cached] = store.cached[index[cached]] if cached.any() else 0
        missing = np.flatnonzero(~cached)
        if len(missing):
            with ThreadPoolExecutor(self.threads, "minicnn-pictures") as pool:
                for at, pixels in zip(
                    missing, pool.map(store.pixels, index[missing].tolist()), strict=True
                ):
                    y[at] = self._stand_in(int(places[at])) if pixels is None else pixels
        return y

    def _stand_in(self, place: int) -> np.ndarray:
        """The next picture of the same class that can be read, going round."""
        same = np.flatnonzero(self.labels == self.labels[place])
        following = np.roll(same, -1 - int(np.searchsorted(same, place)))[:-1]
        for other in following:
            if (pixels := self._store.pixels(int(self._index[other]))) is not None:
                return pixels
        raise DataError(
            f"{self.root}: no picture of {self.classes[self.labels[place]]!r} can be read any "
            "more; look whether the folder is still there."
        )

    def class_counts(self) -> np.ndarray:
        """Return how many pictures each class has, int64 (K,), in the order of `classes`."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def subset(self, indices: Sequence[int] | np.ndarray | slice) -> ImageFolder:
        """Return the data set of the pictures at ``indices``, which shares the memory of this one.

        Raises `DataError` if there are no indices or one lies outside the data set.
        """
        places = np.arange(len(self))
        chosen = places[indices if isinstance(indices, slice) else np.asarray(indices, int)]
        if not len(chosen):
            raise DataError(f"{self.name}: subset() got no indices; pass at least one.")
        part = copy.copy(self)
        part._index, part.labels = self._index[chosen], self.labels[chosen]
        return part

    def split(self, fraction: float, seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
        """Split into two data sets by content; the first gets ``fraction`` of every class.

        Copies of a picture stay together, so a part can have some more than its share.

        Raises `ArgumentError` for a bad fraction or seed, `DataError` if a part would be empty.
        """
        if not isinstance(fraction, int | float | np.floating) or not 0 < fraction < 1:
            raise ArgumentError(f"split: fraction={fraction!r} must lie between 0 and 1.")
        seed = _check.integer("split", "seed", seed)
        wanted = divide(self.class_counts(), float(fraction))
        keys = [
            hashlib.sha256(b"%d:" % seed + self._store.digests[i]).digest() for i in self._index
        ]
        is_first = np.zeros(len(self), bool)
        for label, count in enumerate(wanted):
            places = sorted(np.flatnonzero(self.labels == label), key=lambda place: keys[place])
            if count:
                last = keys[places[count - 1]]
                is_first[[place for place in places if keys[place] <= last]] = True
        if is_first.all() or not is_first.any():
            raise DataError(
                f"split: fraction={fraction} of the {len(self)} pictures of {self.name} leaves a "
                "part without any; add pictures, or choose another fraction."
            )
        return self.subset(np.flatnonzero(is_first)), self.subset(np.flatnonzero(~is_first))

    def in_memory(self) -> ArrayDataset:
        """Return the pictures as a data set of one array."""
        return ArrayDataset(self.images, self.labels, self.classes, self.name, self.source)

    def fingerprint(self) -> str:
        """Return a checksum of all pictures, their classes and parts, whatever files are called."""
        entries = sorted(
            self._store.digests[i] + (self.classes[label] + self._store.parts[i]).encode()
            for i, label in zip(self._index, self.labels, strict=True)
        )
        return hashlib.sha256(b"".join(hashlib.sha256(e).digest() for e in entries)).hexdigest()

    def balance(self) -> str:
        """Return the number of pictures of each class, in words."""
        return ", ".join(
            f"{name} {count:,}"
            for name, count in zip(self.classes, self.class_counts(), strict=True)
        )

    def report(self, shown: int | None = _SHOWN) -> str:
        """Return what was found, and what was left out and why; at most ``shown`` of it."""
        lines = [f"{self.name}: {len(self):,} pictures of {len(self.classes)} classes"]
        lines[0] += f" ({self.balance()})"
        lines += self._division()
        copies = len(self) - len(self._digests())
        if copies:
            lines.append(f"{copies:,} are copies of others, byte for byte")
        if self.skipped:
            lines.append(f"{len(self.skipped):,} skipped:")
            lines += [f"  {entry}" for entry in self.skipped[:shown]]
            if shown is not None and len(self.skipped) > shown:
                lines.append(f"  and {len(self.skipped) - shown:,} more")
        return "\n".join(map(one_line, lines))

    def _division(self) -> list[str]:
        """How many pictures each part has, and how many it must not have: those trained on."""
        parts = self.parts
        lines = [", ".join(f"{name} {len(part):,}" for name, part in parts.items())]
        seen = parts.pop("train")._digests() if "train" in parts else set()
        for name, part in parts.items():
            if known := len(part._digests() & seen):
                lines.append(f"pictures of {name} that are in train too, byte for byte: {known:,}")
        return [line for line in lines if line]

    def _digests(self) -> set[bytes]:
        return {self._store.digests[i] for i in self._index}


def _decoded(loader: Decode, content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """What the loader makes of a file; `DataError` where that is no picture of the shape."""
    pixels = loader(content, *shape)
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise DataError(
            f"gave {pixels.shape} {pixels.dtype} where uint8 {shape} was wanted; mend the loader."
        )
    return pixels
