"""Make the bundled sample of Fashion-MNIST from the full set.

    python -m minicnn.data.make_sample SOURCE_FOLDER TARGET_FOLDER

SOURCE_FOLDER holds the four official files. TARGET_FOLDER gets four files of the same names, with
the same number of images of every class, in the order of the originals, and their SHA-256 sums. The
choice depends on nothing but the seed below, so whoever runs this gets the same images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from minicnn.data._download import file_digest
from minicnn.data._official import CHECKSUMS, verify_official
from minicnn.data._order import choose_per_class
from minicnn.data.fashion_mnist import FASHION_MNIST
from minicnn.data.idx import read_idx, write_idx
from minicnn.errors import DataError, MiniCNNError

__all__ = ["make_sample"]

_SEED = 20170825  # any number; it is what makes the sample this one


def make_sample(source: Path, target: Path) -> None:
    """Write the sample of the official files in `source` into the folder `target`.

    Raises `DataError` if a file of `source` is missing or not the official one, or `target` cannot
    be written.
    """
    for file in FASHION_MNIST.all_files:
        verify_official("make_sample", source / file.name, file, f"SOURCE_FOLDER is {source}")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"make_sample: {target} cannot be made ({error.strerror or error}); "
            "name a folder that can be written."
        ) from error
    for split, (images_file, labels_file) in FASHION_MNIST.files.items():
        labels = read_idx(source / labels_file.name)
        K = len(FASHION_MNIST.classes)
        wanted = np.full(K, FASHION_MNIST.sample_counts[split] // K)
        chosen = choose_per_class(labels, wanted, _SEED)
        write_idx(target / images_file.name, read_idx(source / images_file.name)[chosen])
        write_idx(target / labels_file.name, labels[chosen])
    names = sorted(file.name for file in FASHION_MNIST.all_files)
    sums = "".join(f"{file_digest(target / name, 'sha256')}  {name}\n" for name in names)
    (target / CHECKSUMS).write_text(sums, encoding="ascii")


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    if len(arguments) != 2:
        print("usage: python -m minicnn.data.make_sample SOURCE_FOLDER TARGET_FOLDER")
        return 2
    try:
        make_sample(Path(arguments[0]), Path(arguments[1]))
    except MiniCNNError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
