"""Reading one picture file into the array that a network takes."""

from __future__ import annotations

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

_MAX_PIXELS = 100_000_000  # beyond this a small file is more likely a bomb than a photo


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
        with _quiet_pillow(), Image.open(path) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise DataError(
                    f"{path} is {picture.width}x{picture.height} pixels, more than "
                    f"{_MAX_PIXELS:,}; scale it down first."
                )
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
        values = np.asarray(picture, np.float64)
        top = 65535.0 if picture.mode.startswith("I") else max(float(values.max()), 1e-12)
        picture = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = Image.alpha_composite(
            Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture.convert("RGBA")
        )
    return picture.convert("L" if channels == 1 else "RGB")
