"""Decoding of single pictures: every mode, the camera's orientation, damaged and hostile files."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import drawn, encoded
from PIL import Image

from minicnn.data.picture import decode_picture, read_picture
from minicnn.errors import DataError

RED_LEFT = np.zeros((40, 60, 3), np.uint8)
RED_LEFT[:, :30] = (220, 30, 30)
RED_LEFT[:, 30:] = (20, 40, 200)
JPEG = encoded(Image.fromarray(RED_LEFT), "JPEG", quality=95)
PNG = encoded(Image.fromarray(RED_LEFT), "PNG")


def in_mode(mode):
    """A file in that mode, and the format that can hold it."""
    picture = Image.fromarray(RED_LEFT)
    return encoded(picture.convert(mode), "JPEG" if mode in ("CMYK", "YCbCr") else "TIFF")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "L", "LA", "1", "HSV"])
def test_every_mode_becomes_bytes_of_the_wanted_channels(mode):
    content = in_mode(mode) if mode != "HSV" else PNG
    for channels in (1, 3):
        y = decode_picture(content, channels, 20, 30)
        assert y.shape == (channels, 20, 30)
        assert y.dtype == np.uint8
    if mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
        left, right = y[:, 10, 5].astype(int), y[:, 10, 25].astype(int)
        assert left[0] > left[2] + 100
        assert right[2] > right[0] + 100


def test_sixteen_bits_keep_their_brightness():
    ramp = np.linspace(0, 65535, 32).astype(np.uint16)
    content = encoded(Image.fromarray(np.tile(ramp, (32, 1))), "PNG")
    (y,) = decode_picture(content, 1, 32, 32)
    np.testing.assert_array_equal(y[0], np.round(ramp / 65535 * 255).astype(np.uint8))


def test_floats_with_nan_are_no_reason_to_stop():
    values = np.full((8, 8), 2.0, np.float32)
    values[0, 0] = np.nan
    (y,) = decode_picture(encoded(Image.fromarray(values), "TIFF"), 1, 8, 8)
    assert y[0, 0] == 0
    assert y[7, 7] == 255


def test_transparency_becomes_black():
    picture = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    assert decode_picture(encoded(picture, "PNG"), 3, 8, 8).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_may_be_held_in_any_way(orientation):
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = Image.fromarray(RED_LEFT)
    stored = stored if turned is None else stored.transpose(turned)
    exif = Image.Exif()
    exif[0x0112] = orientation
    y = decode_picture(encoded(stored, "JPEG", exif=exif, quality=95), 3, 40, 60)
    assert np.abs(y.transpose(1, 2, 0).astype(int) - RED_LEFT)[:, [5, 50]].max() < 20


def test_a_broken_orientation_does_not_cost_the_picture():
    content = encoded(Image.fromarray(RED_LEFT), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert decode_picture(content, 3, 40, 60).shape == (3, 40, 60)


def test_progressive_and_large_pictures_are_scaled_to_cover():
    large = Image.fromarray(RED_LEFT).resize((1200, 800))
    y = decode_picture(encoded(large, "JPEG", progressive=True), 3, 32, 32)
    assert y[0, 16, 2] > 150
    assert y[2, 16, 29] > 150


def test_thin_pictures_are_covered_too():
    for size in ((1, 500), (500, 1), (1, 1)):
        content = encoded(Image.new("RGB", size, "white"), "PNG")
        assert decode_picture(content, 1, 16, 16).min() == 255


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_bomb_is_refused_before_it_unpacks():
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))
    with pytest.raises(DataError, match="too large"):
        decode_picture(bomb + chunk(b"IEND", b""), 1, 8, 8)


def test_pillows_limit_is_an_error_not_a_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(DataError, match=r"too large|more than the 2,000"):
        decode_picture(PNG, 3, 8, 8)  # 2,400 pixels: Pillow itself would only warn


def test_programs_in_pictures_are_not_run():
    with pytest.raises(DataError, match="not a picture"):
        decode_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 1, 8, 8)


def test_files_that_are_no_pictures_are_named(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.jpg is empty"):
        read_picture(path, 1, 8, 8)
    path.write_bytes(JPEG[:-200])
    with pytest.raises(DataError, match=r"a\.jpg cannot be read as a picture: .*truncated"):
        read_picture(path, 1, 8, 8)
    with pytest.raises(DataError, match="cannot be read"):
        read_picture(tmp_path, 1, 8, 8)
    with pytest.raises(DataError, match="2 channels"):
        read_picture(path, 2, 8, 8)


def decoded_or_refused(content):
    try:
        y = decode_picture(content, 3, 9, 7)
    except DataError:
        return
    assert y.shape == (3, 9, 7)
    assert y.dtype == np.uint8


WHOLE = [
    JPEG,
    PNG,
    encoded(drawn("disc", np.random.default_rng(1)), "GIF"),
    encoded(drawn("disc", np.random.default_rng(1)), "BMP"),
    encoded(drawn("disc", np.random.default_rng(1)), "TIFF"),
    encoded(drawn("disc", np.random.default_rng(1)), "PPM"),
    encoded(drawn("disc", np.random.default_rng(1)), "WEBP"),
]
MAGIC = [
    b"",
    b"\xff\xd8\xff\xe0",
    PNG[:33],
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"P6 ",
    b"RIFF\0\0\0\0WEBP",
]


@given(start=st.sampled_from(MAGIC), rest=st.binary(max_size=300))
def test_random_bytes_never_crash(start, rest):
    decoded_or_refused(start + rest)


@given(data=st.data(), whole=st.sampled_from(WHOLE))
def test_damaged_files_never_crash(data, whole):
    content = io.BytesIO(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        content.seek(data.draw(st.integers(0, len(whole) - 1)))
        content.write(data.draw(st.binary(min_size=1, max_size=4)))
    cut = data.draw(st.integers(0, len(whole)))
    decoded_or_refused(content.getvalue()[: cut or None])
