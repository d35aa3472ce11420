"""What every transform of a batch shares: its type, its checks, its source of randomness."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from minicnn import random
from minicnn.errors import ArgumentError, DTypeError, ShapeError


class Transform(Protocol):
    """Anything that takes a batch (N, C, H, W) and a generator and returns a batch.

    It must not write into the batch that it gets.
    """

    def __call__(
        self, images: np.ndarray, rng: np.random.Generator | None = None
    ) -> np.ndarray: ...


def batch_shape(name: str, images: np.ndarray) -> tuple[int, int, int, int]:
    """Return (N, C, H, W), or raise if `images` is not a batch of images."""
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        given = images.shape if isinstance(images, np.ndarray) else type(images).__name__
        raise ShapeError(
            f"{name}: images are {given} and must be an array (N, C, H, W); "
            "for one image pass image[np.newaxis]."
        )
    N, C, H, W = images.shape
    return N, C, H, W


def float_batch_shape(name: str, images: np.ndarray) -> tuple[int, int, int, int]:
    """Return (N, C, H, W), or raise if `images` is not a batch of float images."""
    shape = batch_shape(name, images)
    if not np.issubdtype(images.dtype, np.floating):
        raise DTypeError(
            f"{name}: images have dtype {images.dtype} and must be floats; put ToFloat() before it."
        )
    return shape


def generator(rng: np.random.Generator | None) -> np.random.Generator:
    """Return `rng`, or the process's generator where there is none."""
    return random.generator() if rng is None else rng


def interval(
    name: str, argument: str, value: tuple[float, float], least: float, most: float
) -> tuple[float, float]:
    """Return (low, high) as floats, or raise unless least <= low <= high <= most, all finite."""
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    if not is_pair or not least <= value[0] <= value[1] <= most or not np.isfinite(value).all():
        bounds = f"at least {least:g}" + ("" if np.isinf(most) else f" and at most {most:g}")
        raise ArgumentError(
            f"{name}: {argument}={value!r} must be (low, high), low not above high, both {bounds}; "
            "pass two such numbers."
        )
    return float(value[0]), float(value[1])
