"""IDX files: what is written comes back, and nothing that is wrong comes back as an array."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minicnn.data import read_idx, write_idx
from minicnn.errors import DataError, DTypeError

DTYPES = ("u1", "i1", "i2", "i4", "f4", "f8")


def header(code: int, *shape: int) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.idx"


@given(
    array=hnp.arrays(
        dtype=st.sampled_from([np.dtype(order + name) for name in DTYPES for order in "<>"]),
        shape=hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
    ),
    suffix=st.sampled_from(["", ".gz"]),
    transposed=st.booleans(),
)
def test_round_trip(tmp_path_factory, array, suffix, transposed):
    array = array.T if transposed else array
    path = tmp_path_factory.mktemp("idx") / f"array{suffix}"
    write_idx(path, array)
    back = read_idx(path)
    np.testing.assert_array_equal(back, array, strict=False)
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.flags.writeable
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("code", "numbers", "dtype", "expected"),
    [
        (0x08, "00 ff", np.uint8, [0, 255]),
        (0x09, "00 ff", np.int8, [0, -1]),
        (0x0B, "01 02 ff fe", np.int16, [258, -2]),
        (0x0C, "00 00 01 00 ff ff ff ff", np.int32, [256, -1]),
        (0x0D, "3f 80 00 00 c0 00 00 00", np.float32, [1.0, -2.0]),
        (0x0E, "3f f0 00 00 00 00 00 00 c0 00 00 00 00 00 00 00", np.float64, [1.0, -2.0]),
    ],
)
def test_bytes_of_every_type(path, code, numbers, dtype, expected):
    path.write_bytes(header(code, 2) + bytes.fromhex(numbers))
    array = read_idx(path)
    assert array.dtype == dtype
    assert array.tolist() == expected
    write_idx(path, array)
    assert path.read_bytes() == header(code, 2) + bytes.fromhex(numbers)


def test_compression_is_seen_in_the_content_not_the_name(path):
    path.write_bytes(gzip.compress(header(0x08, 2) + b"\1\2"))
    assert read_idx(path).tolist() == [1, 2]


def test_gzip_output_is_the_same_every_time(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, np.arange(100, dtype=np.uint8))
    first = (tmp_path / "a.gz").read_bytes()
    assert first == (tmp_path / "b.gz").read_bytes()
    assert first[4:8] == bytes(4)  # the time stamp


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds 0 bytes, too few for an IDX header"),
        (b"\0\0\x08", "holds 3 bytes"),
        (b"PK\3\4", "is not an IDX file: it starts with 50 4b 03 04"),
        (header(0x0A, 1) + b"\0", "starts with 00 00 0a 01"),
        (b"\0\0\x08\x41" + bytes(4 * 65), "declares 65 dimensions"),
        (header(0x08, 1, 2)[:9], "need a header of 12 bytes and the file holds 9"),
        (header(0x0B, 3, 2) + bytes(11), "needs 12 bytes after the header and the file holds 11"),
        (header(0x0B, 3, 2) + bytes(13), "needs 12 bytes after the header and the file holds more"),
        (header(0x08, 2**32 - 1, 2**32 - 1), "18,446,744,065,119,617,025 bytes, more than max_byt"),
        (header(0x08, 0, 2**32 - 1), "4,294,967,295 bytes, more than max_bytes=1,073,741,824"),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_bad_content(path, content, message, compress):
    path.write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_sizes_of_zero_are_an_empty_array(path):
    path.write_bytes(header(0x0D, 0, 28, 28))
    assert read_idx(path).shape == (0, 28, 28)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"read_idx: .*absent does not exist; check the path"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_truncated_gzip_at_every_length(path):
    whole = gzip.compress(header(0x08, 50) + bytes(range(50)), mtime=0)
    for length in range(2, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"truncated|holds \d bytes"):
            read_idx(path)


def test_no_flipped_bit_of_a_gzip_body_changes_the_numbers(path):
    payload = np.random.default_rng(0).integers(0, 256, 20, dtype=np.uint8)
    whole = gzip.compress(header(0x08, 20) + payload.tobytes(), mtime=0)
    for position in range(10, len(whole)):  # after gzip's own header, which carries no data
        for bit in range(8):
            broken = bytearray(whole)
            broken[position] ^= 1 << bit
            path.write_bytes(broken)
            if position >= len(whole) - 8:  # the checksum and the length
                with pytest.raises(DataError, match="damaged"):
                    read_idx(path)
                continue
            try:  # a few bits of the last byte of the stream are padding
                np.testing.assert_array_equal(read_idx(path), payload)
            except DataError as error:
                assert "read_idx: " in str(error)  # noqa: PT017


def test_wrong_checksum(path):
    whole = bytearray(gzip.compress(header(0x08, 3) + b"abc"))
    whole[-8] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"damaged: its gzip stream does not decode .CRC"):
        read_idx(path)


def peak_of(function) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_follow_the_header(path):
    declared = 2**29
    path.write_bytes(header(0x08, declared) + bytes(10))
    assert peak_of(lambda: read_idx(path)) < declared // 16


def test_memory_does_not_follow_a_decompression_bomb(path):
    bomb = 2**26
    path.write_bytes(gzip.compress(header(0x08, 10) + bytes(bomb)))
    assert peak_of(lambda: read_idx(path)) < bomb // 8


def test_max_bytes_is_inclusive(path):
    path.write_bytes(header(0x0B, 3) + bytes(6))
    assert read_idx(path, max_bytes=6).shape == (3,)
    with pytest.raises(DataError, match=r"6 bytes, more than max_bytes=5; .* larger max_bytes"):
        read_idx(path, max_bytes=5)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint16, np.float16, np.complex64, object])
def test_unknown_dtype_writes_nothing(path, dtype):
    with pytest.raises(DTypeError, match=r"which IDX does not know; convert it with array.astype"):
        write_idx(path, np.zeros(2, dtype=dtype))
    assert os.listdir(path.parent) == []


def test_sizes_past_32_bits(path):
    with pytest.raises(DataError, match="stores a size in 32 bits"):
        write_idx(path, np.broadcast_to(np.uint8(0), (2**32,)))


def test_failed_write_keeps_the_old_file(path, monkeypatch):
    write_idx(path, np.zeros(2, dtype=np.uint8))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"cannot be written .No space left on device"):
        write_idx(path, np.ones(2, dtype=np.uint8))
    assert read_idx(path).tolist() == [0, 0]
    assert os.listdir(path.parent) == [path.name]


def test_target_folder_missing(tmp_path):
    with pytest.raises(DataError, match="pass a path in a writable folder that exists"):
        write_idx(tmp_path / "absent" / "file", np.zeros(2, dtype=np.uint8))
