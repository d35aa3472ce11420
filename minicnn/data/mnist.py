"""MNIST: 60,000 training and 10,000 test pictures of handwritten digits, 28x28 gray.

Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998.
"""

from __future__ import annotations

import os

from minicnn.data._official import OfficialDataset, idx_files, load
from minicnn.data.dataset import ArrayDataset

__all__ = ["MNIST_MEAN", "MNIST_STD", "mnist"]

# Of all training pixels, scaled to 0..1, with the four digits in common use.
MNIST_MEAN = 0.1307
MNIST_STD = 0.3081

MNIST = OfficialDataset(
    title="MNIST",
    function="mnist",
    folder="mnist",
    files=idx_files(
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        )
    ),
    counts={"train": 60_000, "test": 10_000},
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    classes=tuple("0123456789"),
)


def mnist(
    split: str = "train",
    source: str = "auto",
    folder: str | os.PathLike[str] | None = None,
) -> ArrayDataset:
    """Load MNIST, from the places where `fashion_mnist` looks; no sample of it is bundled.

    split : "train" or "test"
    source : "auto" or "full", which mean the same here
    folder : a folder with the four official ``.gz`` files, or with a folder ``mnist`` of them

    Returns an `ArrayDataset`, images uint8 (N, 1, 28, 28), labels the digits.

    Raises `ArgumentError` for an unknown split or source, and `DataError` if the files in a named
    folder are missing or are not the official ones, or if the set cannot be had.

    >>> mnist("training")
    Traceback (most recent call last):
        ...
    minicnn.errors.ArgumentError: mnist: split='training' is unknown; did you mean 'train'?
    choose split from 'train', 'test'.
    """
    return load(MNIST, split, source, folder)
