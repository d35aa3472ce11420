"""Transforms that move, cut out or cover pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minicnn.data import _check
from minicnn.data._transform import batch_shape, float_batch_shape, generator, interval
from minicnn.errors import ArgumentError, ShapeError, nearest

_PADDING_MODES = ("constant", "reflect")
_ERASING_ATTEMPTS = 20


@dataclass
class RandomHorizontalFlip:
    """Mirror each image, left to right, with probability p.

    images : any dtype (N, C, H, W)

    Raises `ArgumentError` if p is not in 0..1.

    >>> RandomHorizontalFlip(p=1.0)(np.array([[[[1, 2, 3]]]], dtype=np.uint8))
    array([[[[3, 2, 1]]]], dtype=uint8)
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        _check.probability("RandomHorizontalFlip", "p", self.p)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        mirrored = self.choose(batch_shape("RandomHorizontalFlip", images)[0], generator(rng))
        y = images.copy()
        y[mirrored] = images[mirrored, :, :, ::-1]
        return y

    def choose(self, N: int, rng: np.random.Generator) -> np.ndarray:
        """Which of N images are mirrored: bool (N,)."""
        return rng.random(N) < self.p


@dataclass
class Pad:
    """Add pixels on all sides of each image.

    padding : an integer or (above and below, left and right)
    padding_mode : "constant" pads with zeros, "reflect" mirrors at the border pixel
    images : any dtype (N, C, H, W)

    Raises `ArgumentError` for bad settings, `ShapeError` if the images are too small to reflect.

    >>> Pad(1, "reflect")(np.arange(4).reshape(1, 1, 2, 2))[0, 0, 0]
    array([3, 2, 3, 2])
    """

    padding: int | tuple[int, int]
    padding_mode: str = "constant"

    def __post_init__(self) -> None:
        _check.pair("Pad", "padding", self.padding)
        _check_padding_mode("Pad", self.padding_mode)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        batch_shape("Pad", images)
        return _padded("Pad", images, self.padding, self.padding_mode)


@dataclass
class RandomCrop:
    """Cut a window out of each image, each at its own random place, after padding all sides.

    size : of the window, an integer or (height, width)
    padding : added on each side before, an integer or (above and below, left and right)
    padding_mode : "constant" pads with zeros, "reflect" mirrors at the border pixel
    images : any dtype (N, C, H, W)

    Returns (N, C, height, width).

    Raises `ArgumentError` for bad settings, `ShapeError` if a padded image is smaller than the
    window or too small to reflect.

    >>> images = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    >>> RandomCrop(3, padding=1)(images).shape
    (1, 1, 3, 3)
    """

    size: int | tuple[int, int]
    padding: int | tuple[int, int] = 0
    padding_mode: str = "constant"

    def __post_init__(self) -> None:
        _check.pair("RandomCrop", "size", self.size, at_least=1)
        _check.pair("RandomCrop", "padding", self.padding)
        _check_padding_mode("RandomCrop", self.padding_mode)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        N = batch_shape("RandomCrop", images)[0]
        padded = _padded("RandomCrop", images, self.padding, self.padding_mode)
        height, width = _fitting_window("RandomCrop", self.size, padded)
        windows = sliding_window_view(padded, (height, width), axis=(2, 3))
        H, W = padded.shape[2:]
        top, left = self.choose(N, H, W, generator(rng))
        return windows[np.arange(N), :, top, left]

    def choose(
        self, N: int, H: int, W: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The first row and the first column of the windows of N padded images: integers (N,)."""
        height, width = _check.pair("RandomCrop", "size", self.size, at_least=1)
        top = rng.integers(0, H - height + 1, N)
        return top, rng.integers(0, W - width + 1, N)


@dataclass
class CenterCrop:
    """Cut the middle out of every image; with an odd rest, the extra pixel stays below and right.

    size : of the window, an integer or (height, width)
    images : any dtype (N, C, H, W)

    Returns (N, C, height, width), a view.

    Raises `ArgumentError` for a bad size, `ShapeError` if the images are smaller than the window.

    >>> CenterCrop(2)(np.arange(16).reshape(1, 1, 4, 4))
    array([[[[ 5,  6],
             [ 9, 10]]]])
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        _check.pair("CenterCrop", "size", self.size, at_least=1)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        H, W = batch_shape("CenterCrop", images)[2:]
        height, width = _fitting_window("CenterCrop", self.size, images)
        top, left = (H - height) // 2, (W - width) // 2
        return images[:, :, top : top + height, left : left + width]


@dataclass
class RandomErasing:
    """Cover a random rectangle of each image, with probability p.

    The rectangle has area ``s H W`` and height/width ratio r, with s and r uniform in `scale` and
    `ratio`; it is drawn anew until it fits, at most 20 times, and then placed uniformly.

    p : probability that an image is touched
    scale : smallest and largest share of the image's area
    ratio : smallest and largest height / width
    value : the number to cover with, or "random" for uniform noise in 0..1
    images : float (N, C, H, W)

    Raises `ArgumentError` for bad settings, `ShapeError` if no rectangle of `scale` and `ratio`
    fits in the images.

    Source: Z. Zhong, L. Zheng, G. Kang, S. Li, Y. Yang, "Random erasing data augmentation", arXiv
    1708.04896 (2017), algorithm 1.

    >>> images = np.ones((1, 1, 4, 4), dtype=np.float32)
    >>> cover = RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0))
    >>> float(cover(images).sum())
    12.0
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | str = 0.0
    _scale: tuple[float, float] = field(init=False, repr=False, compare=False)
    _ratio: tuple[float, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check.probability("RandomErasing", "p", self.p)
        self._scale = interval("RandomErasing", "scale", self.scale, 0.0, 1.0)
        self._ratio = interval("RandomErasing", "ratio", self.ratio, 0.0, math.inf)
        if self._ratio[0] == 0:
            raise ArgumentError(
                f"RandomErasing: ratio={self.ratio} must be above 0; pass for example (0.3, 3.3)."
            )
        is_number = isinstance(self.value, int | float) and math.isfinite(self.value)
        if not is_number and self.value != "random":
            raise ArgumentError(
                f"RandomErasing: value={self.value!r} must be a finite number or 'random'."
            )

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        N, _, H, W = float_batch_shape("RandomErasing", images)
        self._check_feasible(H, W)
        rng = generator(rng)
        touched = rng.random(N) < self.p
        height, width, fits = self._draw_sizes(rng, N, H, W)
        top = np.floor(rng.random(N) * (H - height + 1))
        left = np.floor(rng.random(N) * (W - width + 1))
        in_rows = _between(np.arange(H), top, height)
        in_columns = _between(np.arange(W), left, width)
        covered = in_rows[:, :, np.newaxis] & in_columns[:, np.newaxis, :]
        covered &= (touched & fits)[:, np.newaxis, np.newaxis]
        return np.where(covered[:, np.newaxis], self._cover(rng, images), images)

    def _draw_sizes(
        self, rng: np.random.Generator, N: int, H: int, W: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return height (N,), width (N,) of the first draw that fits, and whether one did."""
        area = rng.uniform(*self._scale, (_ERASING_ATTEMPTS, N)) * (H * W)
        ratio = rng.uniform(*self._ratio, (_ERASING_ATTEMPTS, N))
        height = np.round(np.sqrt(area * ratio))
        width = np.round(np.sqrt(area / ratio))
        fits = (height <= H) & (width <= W)
        first = fits.argmax(axis=0), np.arange(N)
        found = fits[first]
        return np.where(found, height[first], 0), np.where(found, width[first], 0), found

    def _cover(self, rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
        if self.value == "random":
            return rng.random(images.shape).astype(images.dtype)
        return np.asarray(self.value, dtype=images.dtype)

    def _check_feasible(self, H: int, W: int) -> None:
        smallest = self._scale[0] * H * W
        widest, tallest = smallest / W**2, H**2 / smallest if smallest else math.inf
        if self._ratio[1] < widest or self._ratio[0] > tallest:
            raise ShapeError(
                f"RandomErasing: no rectangle of scale={self.scale} and ratio={self.ratio} fits in "
                f"{H}x{W} images; lower the scale or bring the ratio nearer to {H / W:.3g}."
            )


def crop_mirror_factor(size: int, crop: int, inclusive: bool = False) -> int:
    """Return how many different views random crops and mirroring make of one square image.

    ``2 (size - crop)^2``, the count of the AlexNet paper (section 4.1), which leaves out the last
    row and the last column of positions; ``2 (size - crop + 1)^2`` with ``inclusive=True``.

    size : side of the image
    crop : side of the window

    Raises `ArgumentError` if the window does not fit, or fits exactly and `inclusive` is false.

    >>> crop_mirror_factor(256, 224), crop_mirror_factor(256, 224, inclusive=True)
    (2048, 2178)
    """
    size = _check.integer("crop_mirror_factor", "size", size, at_least=1)
    crop = _check.integer("crop_mirror_factor", "crop", crop, at_least=1)
    if crop > size:
        raise ArgumentError(
            f"crop_mirror_factor: crop={crop} is larger than size={size}; pass a smaller crop."
        )
    if crop == size and not inclusive:
        raise ArgumentError(
            f"crop_mirror_factor: crop={crop} equals size={size}, of which the paper's count is 0 "
            "although there is one position; pass inclusive=True."
        )
    return 2 * (size - crop + int(inclusive)) ** 2


def ten_crop(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Return the four corners and the centre of each image, and the same mirrored.

    size : of the crops, an integer or (height, width)
    images : any dtype (N, C, H, W)

    Returns (10, N, C, height, width): top left, top right, bottom left, bottom right, centre, then
    these five mirrored left to right. With an odd rest, the centre is nearer to the top left.

    Raises `ArgumentError` for a bad size, `ShapeError` if the images are smaller than the crops.

    Source: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet classification with deep convolutional
    neural networks", NIPS 2012, section 4.1.

    >>> ten_crop(np.arange(9).reshape(1, 1, 3, 3), 1).ravel()
    array([0, 2, 6, 8, 4, 0, 2, 6, 8, 4])
    """
    H, W = batch_shape("ten_crop", images)[2:]
    height, width = _fitting_window("ten_crop", size, images)
    bottom, right = H - height, W - width
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = [images[:, :, top : top + height, left : left + width] for top, left in corners]
    return np.stack(crops + [crop[:, :, :, ::-1] for crop in crops])


def _check_padding_mode(name: str, mode: str) -> None:
    if mode not in _PADDING_MODES:
        raise ArgumentError(
            f"{name}: padding_mode={mode!r} is unknown; "
            f"{nearest(str(mode), _PADDING_MODES)}choose 'constant' or 'reflect'."
        )


def _padded(name: str, images: np.ndarray, padding: int | tuple[int, int], mode: str) -> np.ndarray:
    PH, PW = _check.pair(name, "padding", padding)
    H, W = images.shape[2:]
    if mode == "reflect":
        if PH >= H or PW >= W:
            raise ShapeError(
                f"{name}: padding={padding} reflects more than the {H}x{W} images "
                "hold; pass padding smaller than the images, or padding_mode='constant'."
            )
        return np.pad(images, ((0, 0), (0, 0), (PH, PH), (PW, PW)), mode="reflect")
    return np.pad(images, ((0, 0), (0, 0), (PH, PH), (PW, PW)))


def _fitting_window(name: str, size: int | tuple[int, int], images: np.ndarray) -> tuple[int, int]:
    height, width = _check.pair(name, "size", size, at_least=1)
    H, W = images.shape[2:]
    if height > H or width > W:
        raise ShapeError(
            f"{name}: size={size} is larger than the {H}x{W} images (with their padding); pass a "
            "smaller size, or pad or enlarge the images first."
        )
    return height, width


def _between(positions: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return, for each sample, which positions lie in its interval: bool (N, positions)."""
    start = start[:, np.newaxis]
    return (positions >= start) & (positions < start + length[:, np.newaxis])
