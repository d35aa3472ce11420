"""Fashion-MNIST: 60,000 training and 10,000 test pictures of clothes, 28x28 gray, ten classes.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
machine learning algorithms", arXiv 1708.07747 (2017).
"""

from __future__ import annotations

import os
from pathlib import Path

from minicnn.data._official import OfficialDataset, idx_files, load
from minicnn.data.dataset import ArrayDataset

__all__ = ["FASHION_MNIST_MEAN", "FASHION_MNIST_STD", "fashion_mnist"]

# Of all 47,040,000 training pixels, scaled to 0..1.
FASHION_MNIST_MEAN = 0.2860405969887955
FASHION_MNIST_STD = 0.3530242445149226

FASHION_MNIST = OfficialDataset(
    title="Fashion-MNIST",
    function="fashion_mnist",
    folder="fashion-mnist",
    files=idx_files(
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        )
    ),
    counts={"train": 60_000, "test": 10_000},
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    sample=Path(__file__).parent / "sample" / "fashion-mnist",
    sample_counts={"train": 10_000, "test": 2_000},
)


def fashion_mnist(
    split: str = "train",
    source: str = "auto",
    folder: str | os.PathLike[str] | None = None,
) -> ArrayDataset:
    """Load Fashion-MNIST.

    split : "train" or "test"
    source : "full" is the whole set; "sample" is the bundled class-balanced sample of 10,000
        training and 2,000 test images; "auto" is the whole set if it can be had and else the
        sample, with one line on stderr that says why
    folder : a folder with the four official ``.gz`` files, or with a folder ``fashion-mnist`` of
        them

    The whole set is looked for in `folder`, else in the folder named by the environment variable
    MINICNN_DATA, else in the user's cache, else it is downloaded into the cache (31 MB, checksums
    verified; never with MINICNN_OFFLINE=1). A folder that is named must hold the official files.

    Returns an `ArrayDataset`, images uint8 (N, 1, 28, 28); its ``source`` is "full" or "sample" and
    its ``note`` says where the images came from.

    Raises `ArgumentError` for an unknown split or source, and `DataError` if the files in a named
    folder are missing or are not the official ones, or if "full" cannot be had.

    >>> fashion_mnist("test", source="sample")
    ArrayDataset('fashion-mnist test', 2,000 images of shape (1, 28, 28) uint8, 10 classes)
    """
    return load(FASHION_MNIST, split, source, folder)
