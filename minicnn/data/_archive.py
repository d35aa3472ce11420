"""Unpacking an archive that somebody else made, without trusting it.

An archive is a list of names and contents, and both can be meant badly. A name can lead out of the
folder (``../../.bashrc``, ``/etc/passwd``, ``C:evil``), a link can be made first and written
through afterwards, a device can be created, and a few kilobytes can unpack to petabytes. So

    names       are taken apart here, and one that is absolute or has ".." in it ends everything
    kinds       only files and folders are made; a link or a device ends everything
    sizes       are counted while bytes arrive, because what an archive says of itself may be wrong
    names' own  sizes, of a tar's long names and further attributes, which `tarfile` reads into
                memory whole, are looked at before

Everything is written into a temporary folder that takes its final name in one step when it is
whole. The name is the archive's SHA-256: an archive that was changed is unpacked anew, and one that
was unpacked before is not read a second time beyond its checksum.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from minicnn.data._download import file_digest
from minicnn.errors import DataError

MAX_FILES = 2_000_000
MAX_BYTES = 200 * 2**30
MAX_ATTRIBUTES = 2**20  # bytes of a name, a comment and so on; paths have up to 4,096
_CHUNK = 1 << 20
_Mode = Literal["r:", "r:gz", "r:bz2", "r:xz"]
_MODES: dict[bytes, _Mode] = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\0": "r:xz"}


@dataclass(frozen=True)
class _Entry:
    """A file in an archive: its name, what kind of thing it is, and how to read it."""

    name: str
    kind: str
    open: Callable[[], IO[bytes] | None]


class _Member(tarfile.TarInfo):
    """A member whose name and attributes are of a size that names have."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        found = super().frombuf(buf, encoding, errors)
        if not (found.isfile() or found.isdir()) and found.size > MAX_ATTRIBUTES:
            raise tarfile.ReadError(f"attributes of {found.size:,} bytes, as no file has them")
        return found


def _tar(path: Path) -> tarfile.TarFile:
    """The tar, by the first bytes of its compression.

    Trying all decoders, as `tarfile` does by itself, takes gigabytes where a file happens to look
    like bare LZMA, whose head is any byte and the size of a dictionary.
    """
    with open(path, "rb") as file:
        start = file.read(6)
    plain: _Mode = "r:"
    mode = next((mode for magic, mode in _MODES.items() if start.startswith(magic)), plain)
    return tarfile.open(path, mode, tarinfo=_Member)


def is_archive(path: Path) -> bool:
    """Tell whether a file is a .zip or a .tar, plain or compressed, by its content."""
    try:
        if zipfile.is_zipfile(path):
            return True
        with _tar(path):
            return True
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


def extract(
    archive: Path, cache: Path, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES
) -> Path:
    """Unpack an archive into a folder of ``cache`` named by its content; returns that folder.

    Raises `DataError` for an archive that is damaged, encrypted, too large, or tries to write
    anything but plain files into its own folder; then nothing is left of it.
    """
    folder = cache / file_digest(archive, "sha256")[:32]
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="unpacking-") as temporary:
            target = Path(temporary) / "files"
            target.mkdir()
            _write_all(archive, target, max_files, max_bytes)
            _rename(target, folder)
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked: {error.strerror or error}.") from error
    except (
        *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
        *(RuntimeError, NotImplementedError, ValueError, OverflowError, IndexError),
    ) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{archive} cannot be unpacked, it is damaged, encrypted or of an unknown kind: "
            f"{error}."
        ) from error
    return folder


def _rename(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError:
        if not target.is_dir():  # where it is one, another process was faster
            raise


def _write_all(archive: Path, target: Path, max_files: int, max_bytes: int) -> None:
    left, count = max_bytes, 0
    for entry in _entries(archive):
        count += 1
        if count > max_files:
            raise DataError(
                f"{archive} holds more than {max_files:,} files; unpack it by hand if you trust it."
            )
        path = target.joinpath(*_safe_parts(archive, entry))
        if entry.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        source = entry.open()
        if source is None:
            raise DataError(f"{archive} holds {entry.name!r} without content; make it again.")
        with source, open(path, "xb") as file:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise DataError(
                        f"{archive} unpacks to more than {max_bytes:,} bytes; unpack it by hand "
                        "if you trust it."
                    )
                file.write(chunk)


def _safe_parts(archive: Path, entry: _Entry) -> tuple[str, ...]:
    """The parts of the path of an entry below the target, or `DataError`."""
    if entry.kind not in ("file", "folder"):
        raise DataError(
            f"{archive} holds {entry.name!r}, a {entry.kind}; only files and folders are unpacked, "
            "so take it out of the archive."
        )
    name = entry.name.replace("\\", "/")
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != "."]
    bad = path.is_absolute() or ".." in parts or "\0" in name or (parts and ":" in parts[0])
    if bad or (not parts and entry.kind == "file"):
        raise DataError(
            f"{archive} holds {entry.name!r}, which would be written outside of its folder; "
            "nothing of it was unpacked."
        )
    return tuple(parts)


def _entries(archive: Path) -> Iterator[_Entry]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                yield _Entry(info.filename, _zip_kind(info), partial(file.open, info))
        return
    with _tar(archive) as tar:
        for member in tar:
            yield _Entry(member.name, _tar_kind(member), partial(tar.extractfile, member))
        _check_end(tar)


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise where the members end at a damaged one; reading on, a decoder compares its checksum."""
    file: Any = tar.fileobj
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"there is no member at byte {tar.offset:,}")
    while file.read(_CHUNK):
        pass


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16  # of Unix, where the archive was made there
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "device"
    return "folder" if info.is_dir() else "file"


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "link"
    if member.isdir():
        return "folder"
    return "file" if member.isreg() else "device"
