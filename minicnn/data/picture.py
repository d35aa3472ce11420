"""Reading one picture file into the array that a network takes.

Files called photo.jpg hold many things: gray or coloured pixels, a palette, four inks, 16 bits, a
camera held sideways, half a download, or no picture at all. What a network takes is one thing:
bytes (C, H, W), upright, of one size. The steps between are

    decode          only by Pillow's decoders of pixel formats; none that runs another program, and
                    none of more pixels than Pillow calls safe: a file of some kilobytes can claim
                    gigabytes ("decompression bomb")
    turn upright    by the orientation that the camera wrote beside the pixels (EXIF)
    flatten         to gray or RGB with 8 bits; what is transparent becomes black
    fit             scale until the picture covers the wanted size, and cut off evenly what
                    sticks out of its proportions

A JPEG is stored as frequencies, so a decoder can give the picture at 1/2, 1/4 or 1/8 of its size
without computing the rest. Large photos are decoded so, at no less than twice the wanted size.
"""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minicnn.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

#: what Pillow calls the decoders that only read pixels; its PostScript reader starts a program
FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB"),
    *("PPM", "TIFF", "WEBP", "JPEG2000", "AVIF", "ICO"),
)
_PIXELS = 89_478_485  # Pillow's own limit, should a program have switched that off
# Deflate shrinks at most 1,032 times, and a picture of one colour in WebP more; what claims so many
# pixels a byte is no photo but a bomb, unless it is small enough not to matter.
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
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return decode_picture(content, channels, height, width)
    except DataError as error:
        raise DataError(f"{path} {error}") from error.__cause__


def decode_picture(content: bytes, channels: int, height: int, width: int) -> np.ndarray:
    """Return the picture in the bytes of a file, as `read_picture` does; `DataError` says why not.

    >>> decode_picture(b"hello", 1, 28, 28)
    Traceback (most recent call last):
    ...
    minicnn.errors.DataError: is not a picture that can be read; use JPEG, PNG or ...
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if channels not in (1, 3):
        raise DataError(f"is wanted with {channels} channels; pictures have 1 or 3.")
    try:
        Image.init()  # finds the decoders; some are left out of some builds of Pillow
        known = [name for name in FORMATS if name in Image.OPEN]
        with _quiet, Image.open(io.BytesIO(content), formats=known) as picture:
            _check_size(picture, len(content))
            picture.draft(None, (2 * max(height, width),) * 2)
            picture.load()
            fitting = ImageOps.fit(_flat(_upright(picture), channels), (width, height))
    except UnidentifiedImageError:
        raise DataError(
            "is not a picture that can be read; use JPEG, PNG or another common format."
            if content
            else "is empty, it has no bytes; copy it again from where it came from."
        ) from None
    except Image.DecompressionBombError as error:
        raise DataError(f"is too large: {error}") from error
    except DataError:
        raise
    except Exception as error:  # decoders meet damaged files with errors of every kind
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(f"cannot be read as a picture: {reason}.") from error
    pixels = np.asarray(fitting, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


class _Quiet:
    """Leaves out what Pillow warns of, for as long as any thread decodes.

    Warnings are about details beside the pixels, and about sizes, which are checked here. The
    filters of warnings belong to the whole process, so the first thread in sets them and the last
    one out puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_quiet = _Quiet()


def _check_size(picture: Image.Image, size: int) -> None:
    """Refuse, before it is decoded, a picture that would take too much memory."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS or _PIXELS
    pixels, shape = picture.width * picture.height, f"{picture.width}x{picture.height}"
    if pixels > limit:
        raise DataError(
            f"is {shape} pixels, more than the {limit:,} that are safe to decode; scale it down "
            "first."
        )
    if pixels > max(_HARMLESS_PIXELS, size * _PIXELS_A_BYTE):
        raise DataError(
            f"claims {shape} pixels in {size:,} bytes, as no photo does; if it is one, save it "
            "again as PNG or JPEG."
        )


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its orientation says; as it is where that cannot be read."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # the pixels are whole; only what is written beside them is not
        return picture


def _flat(picture: Image.Image, channels: int) -> Image.Image:
    """Gray or RGB without transparency and with 8 bits a channel."""
    from PIL import Image

    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        picture = Image.fromarray(_to_bytes(np.asarray(picture)))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = Image.alpha_composite(
            Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture.convert("RGBA")
        )
    return picture.convert("L" if channels == 1 else "RGB")


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """16-bit numbers, whatever type holds them, or floats of any range, as uint8."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        top = max(float(values.max()), 1e-12)
        return (np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)
    whole = np.clip(values, 0, 65535).astype(np.uint16)
    return (whole // 257 + (whole % 257 > 128)).astype(np.uint8)  # to the nearest of 255 steps
