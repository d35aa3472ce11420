"""Random crops of random area and shape, scaled to one size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minicnn.data import _check
from minicnn.data._transform import batch_shape, generator, interval
from minicnn.errors import ArgumentError

_ATTEMPTS = 10


@dataclass
class RandomResizedCrop:
    """Cut a window of random area and shape out of each image and scale it to one size.

    The window has area ``s H W`` with s uniform in `scale`, and width/height ratio r with log r
    uniform in `ratio`'s logarithms, so that 3/4 is as likely as 4/3. It is drawn anew until it
    fits, at most 10 times; then the largest centred window of an allowed shape stands for it.

    Each output pixel is a weighted mean of the four nearest pixels (bilinear, pixel centres at
    halves). A window of more than twice the output's size loses detail by that: store images
    nearer to the size that the network sees.

    size : of the result, an integer or (height, width)
    scale : smallest and largest share of the image's area
    ratio : smallest and largest width / height
    images : uint8 or float (N, C, H, W); the result has the same dtype

    Raises `ArgumentError` for bad settings.

    Source: C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6: patches of 8
    to 100 percent of the area, with ratios from 3/4 to 4/3.

    >>> images = np.full((2, 3, 40, 60), 7, dtype=np.uint8)
    >>> y = RandomResizedCrop(32)(images)
    >>> y.shape, y.dtype, y.min(), y.max()
    ((2, 3, 32, 32), dtype('uint8'), np.uint8(7), np.uint8(7))
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        _check.pair("RandomResizedCrop", "size", self.size, at_least=1)
        low, _ = interval("RandomResizedCrop", "scale", self.scale, 0.0, 1.0)
        narrow, _ = interval("RandomResizedCrop", "ratio", self.ratio, 0.0, math.inf)
        if not low or not narrow:
            raise ArgumentError(
                f"RandomResizedCrop: scale={self.scale} and ratio={self.ratio} must be above 0."
            )

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        N, C, H, W = batch_shape("RandomResizedCrop", images)
        OH, OW = _check.pair("RandomResizedCrop", "size", self.size, at_least=1)
        windows = self.choose(N, H, W, generator(rng))
        y = np.empty((N, C, OH, OW), images.dtype)
        for n, (top, left, height, width) in enumerate(windows.tolist()):
            window = images[n, :, top : top + height, left : left + width]
            scaled = _scaled(_scaled(window, OH, axis=1), OW, axis=2)
            y[n] = np.rint(scaled) if images.dtype == np.uint8 else scaled
        return y

    def choose(self, N: int, H: int, W: int, rng: np.random.Generator) -> np.ndarray:
        """The windows of N images: integers (N, 4), top, left, height and width."""
        area = rng.uniform(*self.scale, (_ATTEMPTS, N)) * (H * W)
        low, high = (math.log(bound) for bound in self.ratio)
        ratio = np.exp(rng.uniform(low, high, (_ATTEMPTS, N)))
        height = np.rint(np.sqrt(area / ratio)).astype(int)
        width = np.rint(np.sqrt(area * ratio)).astype(int)
        fits = (height > 0) & (height <= H) & (width > 0) & (width <= W)
        first = fits.argmax(axis=0), np.arange(N)
        found, whole = fits[first], self._largest(H, W)
        height = np.where(found, height[first], whole[0])
        width = np.where(found, width[first], whole[1])
        places = rng.random((2, N))  # drawn whether or not they are needed: one count for all
        top = np.where(found, places[0] * (H - height + 1), (H - height) // 2).astype(int)
        left = np.where(found, places[1] * (W - width + 1), (W - width) // 2).astype(int)
        return np.stack([top, left, height, width], axis=1)

    def _largest(self, H: int, W: int) -> tuple[int, int]:
        ratio = min(max(W / H, self.ratio[0]), self.ratio[1])
        return max(min(H, round(W / ratio)), 1), max(min(W, round(H * ratio)), 1)


def _scaled(x: np.ndarray, size: int, axis: int) -> np.ndarray:
    """The image (C, H, W) with ``size`` pixels along an axis, as float."""
    length = x.shape[axis]
    centre = (np.arange(size) + 0.5) * (length / size) - 0.5
    low = np.clip(np.floor(centre), 0, length - 1).astype(int)
    high = np.minimum(low + 1, length - 1)
    share = np.clip(centre - low, 0.0, 1.0).astype(np.float32)
    share = share[:, np.newaxis] if axis == 1 else share
    dtype = np.result_type(x.dtype, np.float32)
    first = x.take(low, axis).astype(dtype)
    return first + (x.take(high, axis) - first) * share
