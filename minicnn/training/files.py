"""Files and folders that survive a crash: written beside their place, forced to disk, then renamed.

A process may be killed and a disk may fill between any two lines below. Whoever opens the path then
finds either what was there before, whole, or what is new, whole. Temporary names are fixed, so that
the next write finds and replaces what a killed process left behind; a path has one writer.

No system call replaces a folder that holds files. A folder is written as ``.saving-<name>``; an
older one of its name moves to ``.replaced-<name>`` before the new one is renamed into place, and
counts as ``<name>`` should the process die between the two renames.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from minicnn.errors import CheckpointError

__all__ = [
    "atomic_write",
    "complete_folder",
    "describe",
    "list_folders",
    "remove_folder",
    "sync_folder",
    "tidy",
    "write_all",
    "write_durably",
    "write_folder",
]

SAVING, REPLACED, REMOVING = ".saving-", ".replaced-", ".removing-"


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a whole file, or leave the old one as it was.

    Parameters
    ----------
    path : the file to write; missing folders on the way to it are created.
    data : its new content; text is written as UTF-8.

    Raises
    ------
    CheckpointError : the disk is full, the folder cannot be written, or ``path`` is a folder; the
        old file is untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atomic_write(f"{folder}/note.txt", "hello")
    ...     Path(folder, "note.txt").read_text()
    'hello'
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path} could not be written: it is a folder; give the path of a file, such as one in "
            "that folder."
        )
    temporary = path.with_name(f".{path.name}.tmp")
    state = "The file that was there is untouched" if path.exists() else "Nothing was written"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_durably(temporary, data.encode() if isinstance(data, str) else data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        state = "It is there, but a power cut may lose it"
        sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"{path} could not be written: {describe(error)}. "
            f"{state}; free some space or choose another folder."
        ) from error


def write_durably(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` and return only when the disk has it.

    An `OSError` always carries the path in its ``filename``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_durably(Path(folder, "x"), b"abc")
    ...     Path(folder, "x").read_bytes()
    b'abc'
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        file = os.open(path, flags, 0o666)  # less what the user's umask takes away
        try:
            write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_all(file: int, data: bytes) -> None:
    """Write every byte to an open file descriptor, however few the system takes at a time.

    >>> reader, writer = os.pipe()
    >>> write_all(writer, b"abc")
    >>> os.close(writer); os.read(reader, 10); os.close(reader)
    b'abc'
    """
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def sync_folder(path: Path) -> None:
    """Force a folder's list of names to disk, so that a rename outlives a power cut.

    Does nothing where the system cannot: on Windows, and on file systems that refuse it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sync_folder(Path(folder))
    """
    if os.name == "nt":  # Windows cannot open folders
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            error.filename = error.filename or str(path)
            raise
    finally:
        os.close(folder)


def describe(error: OSError) -> str:
    """Return what the system said, with the path it said it about.

    >>> describe(OSError(28, "No space left on device", "state.npz"))
    'No space left on device (state.npz)'
    """
    what = error.strerror or str(error) or type(error).__name__
    return f"{what} ({error.filename})" if error.filename else what


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder of files, or leave the old folder of that name as it was.

    Missing folders on the way are created. Raises `OSError`; nothing half-written stays behind.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     write_folder(Path(parent, "a"), {"x": b"1", "y": b"2"})
    ...     sorted(file.name for file in Path(parent, "a").iterdir())
    ['x', 'y']
    """
    parent = path.parent
    if not parent.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        sync_folder(parent.parent)
    tidy(parent)
    saving = parent / f"{SAVING}{path.name}"
    try:
        saving.mkdir()
        for file, data in contents.items():
            write_durably(saving / file, data)
        sync_folder(saving)
        _put_in_place(saving, path)
    except BaseException:
        _discard(saving)
        raise


def remove_folder(path: Path) -> None:
    """Remove a folder so that no one ever sees half of it under its name. Raises `OSError`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     write_folder(Path(parent, "a"), {"x": b"1"})
    ...     remove_folder(Path(parent, "a"))
    ...     list_folders(Path(parent))
    []
    """
    doomed = path.with_name(f"{REMOVING}{path.name}")
    os.rename(path, doomed)
    _discard(doomed)


def list_folders(parent: Path) -> list[Path]:
    """Return the path of every complete folder, in the order of their names.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     Path(parent, ".saving-b").mkdir()
    ...     write_folder(Path(parent, "a"), {})
    ...     [path.name for path in list_folders(Path(parent))]
    ['a']
    """
    if not parent.is_dir():
        return []
    present = [entry.name for entry in parent.iterdir() if entry.is_dir()]
    names = {name.removeprefix(REPLACED) for name in present if name.startswith(REPLACED)}
    names.update(name for name in present if not name.startswith("."))
    return [parent / name for name in sorted(names)]


def complete_folder(path: Path) -> Path | None:
    """Return where the content of a folder lies now, or None if there is no such folder.

    >>> print(complete_folder(Path("runs/none")))
    None
    """
    places = (path, path.with_name(f"{REPLACED}{path.name}"))
    return next((place for place in places if place.is_dir()), None)


def tidy(parent: Path) -> None:
    """Finish or undo what a killed process had begun among the folders of ``parent``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     for name in (".saving-a", ".replaced-b"):
    ...         Path(parent, name).mkdir()
    ...     tidy(Path(parent))
    ...     os.listdir(parent)
    ['b']
    """
    for entry in list(parent.iterdir()):
        if entry.name.startswith((SAVING, REMOVING)):
            _discard(entry)
        elif entry.name.startswith(REPLACED):
            final = parent / entry.name.removeprefix(REPLACED)
            if final.is_dir():
                _discard(entry)
            else:
                os.rename(entry, final)


def _put_in_place(saving: Path, final: Path) -> None:
    if not final.is_dir():
        os.rename(saving, final)
        sync_folder(final.parent)
        return
    old = final.with_name(f"{REPLACED}{final.name}")
    os.rename(final, old)
    try:
        os.rename(saving, final)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rename(old, final)
        raise
    sync_folder(final.parent)
    _discard(old)


def _discard(path: Path) -> None:
    """Remove a folder as far as that is possible; the next `tidy` tries again."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path)
