"""One writer for a run folder: a lock that a dead process cannot leave behind.

Two trainings that write the same checkpoints and the same history would mix two runs into one that
is neither. A file that says "in use" would keep them apart, but a process that is killed leaves it
there, and a process number in it proves nothing: the system gives the number to another process
later. So the lock is the system's own lock on an open file (``flock``; ``msvcrt.locking`` on
Windows). The system lets go of it when the process ends, however it ends, so a stale lock is simply
free. What the file holds, the process and its machine, is only for the message.

The file is removed at the end, by the owner, while it still holds the lock. Somebody else may have
opened it just before that and then gets the lock of a file without a name, which nobody who comes
later would meet: so after locking one looks whether the path still leads to the same file, and
starts again if not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minicnn.errors import CheckpointError
from minicnn.training.files import describe

__all__ = ["LOCK", "only_writer"]

LOCK = ".lock"
#: what a file system says that has no locks, as some network file systems have none
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def only_writer(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Be the only one who writes into a run folder for a ``with`` block.

    Raises `CheckpointError` where another process, or another run of this one, is the writer, and
    where the folder cannot be written. On a file system without locks nothing is locked.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, only_writer(folder):
    ...     with only_writer(folder):
    ...         pass
    Traceback (most recent call last):
    minicnn.errors.CheckpointError: the run folder ... is being written by process ...
    """
    path = Path(folder) / LOCK
    try:
        file = _locked(path)
    except OSError as error:
        raise CheckpointError(
            f"the run folder {folder} cannot be written: {describe(error)}; choose another folder, "
            "or make this one writable."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(file)


def _locked(path: Path) -> int:
    """Open and lock the file at ``path``, which is made if need be; returns the descriptor."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(file):
                raise CheckpointError(
                    f"the run folder {path.parent} is being written by {_owner(file)}; wait until "
                    "that ends, or train into another folder (--name)."
                )
            if _is_at(file, path):
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int) -> bool:
    """Lock an open file, or say that somebody else has."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(file, 1000, os.SEEK_SET)  # the text itself stays readable
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(file, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        if error.errno not in NO_LOCKS:
            raise
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _owner(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    return os.read(file, 300).decode("utf-8", "replace").strip() or "another process"
