"""Transforms that change the values of pixels and leave them where they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from minicnn.data._transform import batch_shape, float_batch_shape, generator, interval
from minicnn.errors import ArgumentError, DataError, DTypeError, ShapeError

# The principal components of ImageNet's RGB pixels in 0..1, as published with fb.resnet.torch: a
# row of EIGENVECTORS is a channel, a column is an eigenvector.
IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
_GRAY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma of red, green, blue


@dataclass
class ToFloat:
    """Pixels 0..255 to float32 numbers 0..1: ``y = x / 255``. Floats only become float32.

    images : uint8 or float (N, C, H, W)

    Raises `DTypeError` for other dtypes.

    >>> ToFloat()(np.full((1, 1, 1, 2), 51, dtype=np.uint8))
    array([[[[0.2, 0.2]]]], dtype=float32)
    """

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        batch_shape("ToFloat", images)
        if images.dtype == np.uint8:
            return np.divide(images, np.float32(255), dtype=np.float32)
        if not np.issubdtype(images.dtype, np.floating):
            raise DTypeError(
                f"ToFloat: images have dtype {images.dtype}; pass uint8 pixels (0..255) or floats."
            )
        return images.astype(np.float32, copy=False)


@dataclass
class Normalize:
    """Shift and scale each channel: ``y = (x - mean) / std``.

    mean, std : one number for all channels, or one for each
    images : float (N, C, H, W)

    Raises `ArgumentError` if mean and std do not fit together or std is not positive, `ShapeError`
    if the number of channels differs.

    >>> Normalize(0.5, 0.25)(np.ones((1, 1, 1, 2), dtype=np.float32))
    array([[[[2., 2.]]]], dtype=float32)
    """

    mean: float | Sequence[float]
    std: float | Sequence[float]
    _mean: np.ndarray = field(init=False, repr=False, compare=False)
    _std: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._mean = _per_channel("mean", self.mean)
        self._std = _per_channel("std", self.std)
        if self._mean.shape != self._std.shape:
            raise ArgumentError(
                f"Normalize: mean={self.mean} and std={self.std} differ in length; "
                "pass as many numbers for both."
            )
        if (self._std <= 0).any():
            raise ArgumentError(f"Normalize: std={self.std} must be positive; pass std above 0.")

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        C = float_batch_shape("Normalize", images)[1]
        if self._mean.ndim and len(self._mean) != C:
            raise ShapeError(
                f"Normalize: images {images.shape} have C={C} but mean={self.mean} has "
                f"{len(self._mean)} entries; pass one number for each channel, or one for all."
            )
        y = images - self._mean.astype(images.dtype).reshape(-1, 1, 1)
        y /= self._std.astype(images.dtype).reshape(-1, 1, 1)
        return y


@dataclass
class ColorJitter:
    """Change brightness, contrast and saturation of each image by its own random factors.

    With a factor f drawn for each image and each step, and every result clipped to 0..1::

        brightness   y = f x
        contrast     y = m + f (x - m),   m the mean gray value of the image
        saturation   y = g + f (x - g),   g the gray image, 0.299 R + 0.587 G + 0.114 B

    The steps come in this order. A gray image is its own gray image, so that saturation leaves
    images with one channel as they are.

    brightness, contrast, saturation : b draws f from [max(0, 1 - b), 1 + b]; a pair is (low, high)
    images : float (N, 1 or 3, H, W) in 0..1

    Raises `ArgumentError` for bad ranges, `ShapeError` for another number of channels, `DataError`
    if images leave 0..1.

    Source: A. G. Howard, "Some improvements on deep convolutional neural network based image
    classification", arXiv 1312.5402 (2013), section 2.

    >>> jitter = ColorJitter(brightness=(0.5, 0.5))
    >>> jitter(np.ones((1, 1, 1, 2), dtype=np.float32))
    array([[[[0.5, 0.5]]]], dtype=float32)
    """

    brightness: float | tuple[float, float] = 0.0
    contrast: float | tuple[float, float] = 0.0
    saturation: float | tuple[float, float] = 0.0
    _ranges: tuple[tuple[float, float], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._ranges = (
            _factor_range("brightness", self.brightness),
            _factor_range("contrast", self.contrast),
            _factor_range("saturation", self.saturation),
        )

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        N, C = float_batch_shape("ColorJitter", images)[:2]
        if C not in (1, 3):
            raise ShapeError(
                f"ColorJitter: images {images.shape} have C={C}; pass gray (1) or RGB (3) images."
            )
        _check_unit_range(images)
        rng = generator(rng)
        factors = [rng.uniform(low, high, (N, 1, 1, 1)) for low, high in self._ranges]
        brightness, contrast, saturation = (f.astype(images.dtype) for f in factors)
        y = np.clip(images * brightness, 0, 1)
        y = _blend(y, _gray(y).mean(axis=(1, 2, 3), keepdims=True), contrast)
        return y if C == 1 else _blend(y, _gray(y), saturation)


@dataclass
class PCALighting:
    """Shift the colour of each image along the principal components of natural colours.

    ``y_c = x_c + sum_k E_ck a_k lambda_k``, with ``a_k ~ N(0, std^2)`` drawn once for each image:
    the colour and strength of the light change, the object does not.

    std : the spread of a; the paper has 0.1
    eigenvalues : lambda (K,), of ImageNet unless given
    eigenvectors : E (C, K), one row for each channel, one column for each eigenvector
    images : float (N, C, H, W) in 0..1, before Normalize; the result is not clipped

    Raises `ArgumentError` for settings that do not fit together, `ShapeError` if the number of
    channels differs from C.

    Source: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet classification with deep convolutional
    neural networks", NIPS 2012, section 4.1.

    >>> still = PCALighting(std=0.0)
    >>> still(np.ones((1, 3, 1, 1), dtype=np.float32)).ravel()
    array([1., 1., 1.], dtype=float32)
    """

    std: float = 0.1
    eigenvalues: Sequence[float] = IMAGENET_EIGENVALUES
    eigenvectors: Sequence[Sequence[float]] = IMAGENET_EIGENVECTORS
    _directions: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.std, int | float) and 0 <= self.std < math.inf):
            raise ArgumentError(
                f"PCALighting: std={self.std!r} must be a number of 0 or more, such as 0.1."
            )
        values = np.asarray(self.eigenvalues, dtype=np.float64)
        vectors = np.asarray(self.eigenvectors, dtype=np.float64)
        if values.ndim != 1 or vectors.ndim != 2 or vectors.shape[1] != len(values):
            raise ArgumentError(
                f"PCALighting: eigenvalues have shape {values.shape} and eigenvectors "
                f"{vectors.shape}; pass (K,) and (C, K), one column for each eigenvalue."
            )
        self._directions = vectors * values

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        N, C = float_batch_shape("PCALighting", images)[:2]
        channels, K = self._directions.shape
        if channels != C:
            raise ShapeError(
                f"PCALighting: images {images.shape} have C={C} but eigenvectors have {channels} "
                "rows; pass eigenvectors with one row for each channel."
            )
        strength = generator(rng).normal(0.0, self.std, (N, K))
        shift = (strength @ self._directions.T).astype(images.dtype)
        return images + shift[:, :, np.newaxis, np.newaxis]


def _per_channel(argument: str, value: float | Sequence[float]) -> np.ndarray:
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"Normalize: {argument}={value!r} is not numbers; pass one number for each channel."
        ) from error
    if numbers.ndim > 1 or numbers.size == 0 or not np.isfinite(numbers).all():
        raise ArgumentError(
            f"Normalize: {argument}={value!r} must be one finite number, or one for each channel."
        )
    return numbers


def _factor_range(argument: str, value: float | tuple[float, float]) -> tuple[float, float]:
    if not isinstance(value, int | float):
        return interval("ColorJitter", argument, value, 0.0, math.inf)
    if not 0 <= value < math.inf:
        raise ArgumentError(
            f"ColorJitter: {argument}={value!r} must be 0 or more; pass the largest change, "
            "such as 0.4, or (low, high)."
        )
    return max(0.0, 1.0 - value), 1.0 + value


def _check_unit_range(images: np.ndarray) -> None:
    low, high = (images.min(), images.max()) if images.size else (0, 1)
    if not (low >= 0 and high <= 1):  # also true of NaN
        raise DataError(
            f"ColorJitter: images reach from {low:.4g} to {high:.4g} and must lie in 0..1; put "
            "ToFloat() before it, and PCALighting and Normalize after it."
        )


def _gray(images: np.ndarray) -> np.ndarray:
    """Return the gray images (N, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = _GRAY_WEIGHTS
    return red * images[:, :1] + green * images[:, 1:2] + blue * images[:, 2:]


def _blend(images: np.ndarray, base: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return np.clip(base + factor * (images - base), 0, 1)
