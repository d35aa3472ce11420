"""Where a published data set is found: a named folder, the cache, a download, the bundled sample.

One function, `load`, serves every data set that is published as four IDX files with known MD5 sums.
A folder that the user names is an order: if its files are missing or differ from the published
ones, that is an error, and nothing else is tried in silence.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minicnn.data import _download
from minicnn.data._download import DownloadFailedError, OfficialFile, cache_folder, file_digest
from minicnn.data.dataset import ArrayDataset
from minicnn.data.idx import read_idx
from minicnn.errors import ArgumentError, DataError, nearest

SPLITS = ("train", "test")
SOURCES = ("auto", "full", "sample")
CHECKSUMS = "SHA256SUMS"

_announced: set[str] = set()


@dataclass(frozen=True)
class OfficialDataset:
    """A published data set.

    title, function, folder : its name for people, its loading function, its folder's name
    files : for "train" and "test", the images file and the labels file
    counts : for "train" and "test", the number of images
    mirrors : addresses that a file name is appended to, the first one preferred
    classes : the class names
    sample, sample_counts : the folder and the sizes of the bundled sample, if there is one
    """

    title: str
    function: str
    folder: str
    files: Mapping[str, tuple[OfficialFile, OfficialFile]]
    counts: Mapping[str, int]
    mirrors: tuple[str, ...]
    classes: tuple[str, ...]
    sample: Path | None = None
    sample_counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def all_files(self) -> list[OfficialFile]:
        """The four files."""
        return [file for pair in self.files.values() for file in pair]


def idx_files(md5s: tuple[str, str, str, str]) -> dict[str, tuple[OfficialFile, OfficialFile]]:
    """Return the four files under the names that MNIST and its relatives share."""
    train_images, train_labels, test_images, test_labels = md5s
    return {
        "train": (
            OfficialFile("train-images-idx3-ubyte.gz", train_images),
            OfficialFile("train-labels-idx1-ubyte.gz", train_labels),
        ),
        "test": (
            OfficialFile("t10k-images-idx3-ubyte.gz", test_images),
            OfficialFile("t10k-labels-idx1-ubyte.gz", test_labels),
        ),
    }


def load(
    spec: OfficialDataset, split: str, source: str, folder: str | os.PathLike[str] | None
) -> ArrayDataset:
    """Load one split, from the first place that has it."""
    _check_arguments(spec, split, source, folder)
    if source == "sample":
        return _load_sample(spec, split, f"the bundled sample of {spec.title}, as asked for")
    named = folder or os.environ.get("MINICNN_DATA")
    if named:
        origin = f"folder={str(folder)!r}" if folder else f"MINICNN_DATA={named!r}"
        return _load_named(spec, split, Path(named).expanduser(), origin)
    cache = cache_folder(spec.folder)
    failure = _bring_to_cache(spec, cache, try_again=source == "full")
    if failure is None:
        return _read_split(spec, split, cache, "full", f"the full {spec.title} in {cache}")
    if source == "full" or spec.sample is None:
        raise DataError(f"{spec.function}: {spec.title} is not here and {failure}; {_cure(spec)}.")
    note = _sample_note(spec, failure)
    _announce(spec.title, note)
    return _load_sample(spec, split, note)


def verify_official(function: str, path: Path, file: OfficialFile, origin: str) -> None:
    """Raise `DataError` unless `path` is the published file."""
    try:
        found = file_digest(path, "md5")
    except FileNotFoundError as error:
        raise DataError(
            f"{function}: {path} does not exist ({origin}); put the official file there, name "
            "another folder, or name none to use the cache or a download."
        ) from error
    except OSError as error:
        raise DataError(
            f"{function}: {path} cannot be read ({error.strerror or error}; {origin}); "
            "make it a readable file."
        ) from error
    if found != file.md5:
        raise DataError(
            f"{function}: {path} has MD5 {found} but the official file has {file.md5} ({origin}); "
            "it is damaged or another data set: download it again, or load your own files with "
            "minicnn.data.read_idx and ArrayDataset."
        )


def _check_arguments(
    spec: OfficialDataset, split: str, source: str, folder: str | os.PathLike[str] | None
) -> None:
    for name, value, known in (("split", split, SPLITS), ("source", source, SOURCES)):
        if value not in known:
            raise ArgumentError(
                f"{spec.function}: {name}={value!r} is unknown; {nearest(str(value), known)}"
                f"choose {name} from {', '.join(map(repr, known))}."
            )
    if source == "sample" and spec.sample is None:
        raise ArgumentError(
            f"{spec.function}: source='sample' but no sample of {spec.title} is bundled; "
            "use source='auto' or 'full'."
        )
    if source == "sample" and folder is not None:
        raise ArgumentError(
            f"{spec.function}: source='sample' does not read folder={str(folder)!r}; "
            "drop one of the two."
        )


def _load_named(spec: OfficialDataset, split: str, root: Path, origin: str) -> ArrayDataset:
    folder = root / spec.folder if (root / spec.folder).is_dir() else root
    for file in spec.files[split]:
        verify_official(spec.function, folder / file.name, file, origin)
    return _read_split(spec, split, folder, "full", f"the full {spec.title} in {folder}")


def _bring_to_cache(spec: OfficialDataset, cache: Path, try_again: bool) -> str | None:
    """Return None when all four files are in the cache, else why they are not."""
    if all(_download.is_intact(cache / file.name, file) for file in spec.all_files):
        return None
    if _download.is_offline():
        return f"MINICNN_OFFLINE={os.environ['MINICNN_OFFLINE']} forbids a download"
    earlier = _download.recent_failure(cache)
    if earlier is not None and not try_again:
        return f"it could not be downloaded ({earlier})"
    try:
        _download.fetch(spec.all_files, spec.mirrors, cache)
    except DownloadFailedError as error:
        return f"it could not be downloaded ({error})"
    return None


def _load_sample(spec: OfficialDataset, split: str, note: str) -> ArrayDataset:
    if spec.sample is None:
        raise ArgumentError(f"{spec.function}: no sample of {spec.title} is bundled.")
    expected = _read_checksums(spec, spec.sample)
    for file in spec.files[split]:
        path = spec.sample / file.name
        found = file_digest(path, "sha256") if path.is_file() else "no file"
        if found != expected.get(file.name):
            raise DataError(
                f"{spec.function}: the bundled {path} has SHA-256 {found} but {CHECKSUMS} says "
                f"{expected.get(file.name, 'nothing')}; install minicnn again."
            )
    return _read_split(spec, split, spec.sample, "sample", note)


def _read_checksums(spec: OfficialDataset, folder: Path) -> dict[str, str]:
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{spec.function}: the bundled {folder / CHECKSUMS} cannot be read ({error}); "
            "install minicnn again."
        ) from error
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _read_split(
    spec: OfficialDataset, split: str, folder: Path, source: str, note: str
) -> ArrayDataset:
    images_file, labels_file = spec.files[split]
    images = read_idx(folder / images_file.name)
    labels = read_idx(folder / labels_file.name)
    name = f"{spec.folder} {split}"
    return ArrayDataset(images[:, np.newaxis], labels, spec.classes, name, source, note)


def _sample_note(spec: OfficialDataset, failure: str) -> str:
    sizes = " and ".join(
        f"{spec.sample_counts[split]:,} of {spec.counts[split]:,} {split} images"
        for split in SPLITS
    )
    return (
        f"minicnn: using the bundled sample of {spec.title} ({sizes}) because the full set is not "
        f"here and {failure}; {_cure(spec)}."
    )


def _cure(spec: OfficialDataset) -> str:
    return (
        f"to get it, connect and call {spec.function}(source='full'), or put the four official .gz "
        f"files in DIR/{spec.folder} and set MINICNN_DATA=DIR"
    )


def _announce(title: str, note: str) -> None:
    """Print a note to stderr, once per process and data set."""
    if title not in _announced:
        _announced.add(title)
        print(note, file=sys.stderr)
