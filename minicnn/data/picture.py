"""Reading one picture file into the array that a network takes."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minicnn.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

# Beyond this a small file is more likely a bomb than a photo. Deflate shrinks at most 1,032 times,
# and a picture of one colour in WebP more; what claims so many pixels a byte is no photo either,
# unless it is small enough not to matter.
_MAX_PIXELS = 100_000_000
_PIXELS_A_BYTE = 10_000
_HARMLESS_PIXELS = 16_000_000


def read_picture(path: Path, channels: int, height: int, width: int) -> np.ndarray:
    """Return a picture as uint8 (C, H, W): upright, gray or RGB, scaled to cover, centre-cropped.

    The camera's orientation mark is obeyed; transparency becomes black; what sticks out of the
    wanted proportions is cut off evenly. ``channels`` is 1 (gray) or 3 (RGB).
    Raises `DataError` for a file that is missing, no picture, truncated or too large.

    >>> read_picture(Path("no-such.png"), 1, 28, 28)
    Traceback (most recent call last):
    ...
    minicnn.errors.DataError: no-such.png does not exist; check the path.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if channels not in (1, 3):
        raise DataError(f"{path}: the network takes {channels} channels; pictures have 1 or 3.")
    try:
        with _quiet_pillow(), _Sized(path) as file, Image.open(file) as picture:
            _check_size(path, picture.width, picture.height)
            upright = ImageOps.exif_transpose(picture)
            fitting = ImageOps.fit(_flat(upright, channels), (width, height))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path.") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path} is not a picture that can be read; use JPEG, PNG or another common format."
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a picture: {error}.") from error
    pixels = np.asarray(fitting, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


class _Sized(io.BufferedReader):
    """A file that is never asked for more than it has.

    Pillow reads as many bytes as a header names, and Python takes the memory for them beforehand.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def _check_size(path: Path, width: int, height: int) -> None:
    """Refuse, before it is decoded, a picture that would take too much memory."""
    pixels, size = width * height, path.stat().st_size
    if pixels > _MAX_PIXELS:
        raise DataError(
            f"{path} is {width}x{height} pixels, more than {_MAX_PIXELS:,}; scale it down first."
        )
    if pixels > max(_HARMLESS_PIXELS, size * _PIXELS_A_BYTE):
        raise DataError(
            f"{path} claims {width}x{height} pixels in {size:,} bytes, as no photo does; if it is "
            "one, save it again as PNG or JPEG."
        )


_lock = threading.Lock()
_readers = 0
_filters = warnings.catch_warnings()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Hide Pillow's warnings, such as those about damaged EXIF data of a picture that it can read.

    The filters of warnings belong to the process, and pictures are read in several threads: the
    first reader sets them and the last one restores them.
    """
    global _readers, _filters
    with _lock:
        _readers += 1
        if _readers == 1:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0:
                _filters.__exit__(None, None, None)


def _flat(picture: Image.Image, channels: int) -> Image.Image:
    """Gray or RGB without transparency and with 8 bits a channel."""
    from PIL import Image

    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        picture = Image.fromarray(_to_bytes(np.asarray(picture)))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = Image.alpha_composite(
            Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture.convert("RGBA")
        )
    return picture.convert("L" if channels == 1 else "RGB")


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """16-bit numbers, whatever type holds them, or floats of any range, as uint8."""
    if values.dtype.kind == "f":
        top = max(float(values.max()), 1e-12)
        return (np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)
    whole = np.clip(values, 0, 65535).astype(np.uint16)
    return (whole // 257 + (whole % 257 > 128)).astype(np.uint8)  # to the nearest of 255 steps
