"""IDX files, the format of MNIST and its relatives: one array in one file, plain or gzipped.

A file is two zero bytes, a byte that names the number type, a byte with the number of dimensions,
one big-endian 32-bit size per dimension, and the numbers, big-endian, in C order.

Nothing that a header says is believed before the bytes are there: memory grows with what was
really read, and never past `max_bytes`, however small the compressed file is.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from minicnn.errors import DataError, DTypeError

__all__ = ["read_idx", "write_idx"]

_TYPES: dict[int, np.dtype] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CODES = {dtype: code for code, dtype in _TYPES.items()}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DIMENSIONS = 64  # of a NumPy array; the format itself goes to 255
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = 2**30) -> np.ndarray:
    """Read the array of an IDX file.

    Whether the file is compressed is seen from its first bytes, not from its name.

    path : str or path of the file
    max_bytes : the most bytes of numbers to accept; a file that declares more is refused

    Returns a writable array in the machine's byte order, of dtype uint8, int8, int16, int32,
    float32 or float64, with the shape that the file declares.

    Raises `DataError` if the file is missing, damaged, not IDX, larger than `max_bytes`, or holds
    more or fewer bytes than its header declares.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", the section on file formats.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(Path(folder) / "labels.gz", np.array([9, 0, 3], dtype=np.uint8))
    ...     read_idx(Path(folder) / "labels.gz")
    array([9, 0, 3], dtype=uint8)
    """
    path = Path(path)
    try:
        with open(path, "rb") as file, _decompressed(file) as stream:
            return _read_array(stream, path, max_bytes)
    except FileNotFoundError as error:
        raise DataError(f"read_idx: {path} does not exist; check the path.") from error
    except EOFError as error:
        raise DataError(
            f"read_idx: {path} is truncated: its gzip stream stops before the end, after "
            f"{path.stat().st_size:,} compressed bytes; download or copy it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"read_idx: {path} is damaged: its gzip stream does not decode ({error}); "
            "download or copy it again."
        ) from error
    except OSError as error:
        raise DataError(
            f"read_idx: {path} cannot be read ({error.strerror or error}); "
            "pass the path of a readable file."
        ) from error


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write an array as an IDX file, gzipped if the name ends in ``.gz``.

    The same array always gives the same bytes (no time stamp). The file appears under its name only
    when it is complete.

    path : str or path to write
    array : uint8, int8, int16, int32, float32 or float64, any shape

    Raises `DTypeError` for another dtype, and `DataError` if a dimension does not fit in 32 bits or
    the file cannot be written.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(f"{folder}/image", np.zeros((2, 3), dtype=np.float32))
    ...     Path(folder, "image").read_bytes()[:12].hex(" ")
    '00 00 0d 02 00 00 00 02 00 00 00 03'
    """
    path = Path(path)
    array = np.asarray(array)
    header = _header_of(array)
    partial = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        with open(partial, "wb") as file, _compressed(file, path) as stream:
            stream.write(header)
            stream.write(array.astype(array.dtype.newbyteorder(">"), order="C").tobytes())
        os.replace(partial, path)
    except OSError as error:
        raise DataError(
            f"write_idx: {path} cannot be written ({error.strerror or error}); "
            "pass a path in a writable folder that exists."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    is_gzip = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if is_gzip else file  # type: ignore[return-value]


def _compressed(file: IO[bytes], path: Path) -> IO[bytes]:
    if path.suffix != ".gz":
        return file
    return gzip.GzipFile("", "wb", 9, file, mtime=0)  # type: ignore[return-value]


def _read_array(stream: IO[bytes], path: Path, max_bytes: int) -> np.ndarray:
    dtype, shape = _read_header(stream, path)
    # Sizes of 0 count as 1, so that no other size hides behind them.
    declared = math.prod(max(size, 1) for size in shape) * dtype.itemsize
    if declared > max_bytes:
        raise DataError(
            f"read_idx: {path} declares shape {shape}, {declared:,} bytes, more than "
            f"max_bytes={max_bytes:,}; if you trust the file, pass a larger max_bytes."
        )
    payload = _read_payload(stream, path, dtype, shape)
    array = np.frombuffer(payload, dtype=dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: IO[bytes], path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(
            f"read_idx: {path} holds {len(magic)} bytes, too few for an IDX header; "
            "download or copy it again."
        )
    if magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        known = ", ".join(f"{code:02x} {dtype.name}" for code, dtype in _TYPES.items())
        raise DataError(
            f"read_idx: {path} is not an IDX file: it starts with {magic.hex(' ')}, and IDX starts "
            f"with 00 00 and a type code ({known}); check that the path names the right file."
        )
    rank = magic[3]
    if rank > _MAX_DIMENSIONS:
        raise DataError(
            f"read_idx: {path} declares {rank} dimensions and NumPy holds at most "
            f"{_MAX_DIMENSIONS}; check that the path names the right file."
        )
    sizes = stream.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(
            f"read_idx: {path} is truncated: {rank} dimensions need a header of {4 + 4 * rank} "
            f"bytes and the file holds {4 + len(sizes)}; download or copy it again."
        )
    return _TYPES[magic[2]], struct.unpack(f">{rank}I", sizes)


def _read_payload(
    stream: IO[bytes], path: Path, dtype: np.dtype, shape: tuple[int, ...]
) -> bytearray:
    expected = math.prod(shape) * dtype.itemsize
    payload = bytearray()
    while len(payload) < expected:
        chunk = stream.read(min(_CHUNK, expected - len(payload)))
        if not chunk:
            raise DataError(
                f"read_idx: {path} is too short: shape {shape} of {dtype.name} needs {expected:,} "
                f"bytes after the header and the file holds {len(payload):,}; "
                "download or copy it again."
            )
        payload += chunk
    if stream.read(1):  # at the end of a gzip stream this also checks the checksum
        raise DataError(
            f"read_idx: {path} is too long: shape {shape} of {dtype.name} needs {expected:,} bytes "
            "after the header and the file holds more; download or copy it again."
        )
    return payload


def _header_of(array: np.ndarray) -> bytes:
    code = _CODES.get(array.dtype.newbyteorder(">"))
    if code is None:
        known = ", ".join(dtype.name for dtype in _CODES)
        raise DTypeError(
            f"write_idx: array has dtype {array.dtype}, which IDX does not know; "
            f"convert it with array.astype(...) to one of {known}."
        )
    if any(size >= 2**32 for size in array.shape):
        raise DataError(
            f"write_idx: array has shape {array.shape} and IDX stores a size in 32 bits "
            f"(at most {2**32 - 1:,}); write it in several files."
        )
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
