"""The history of a run: one JSON object a line, appended while the run goes on.

Each line is written whole. A process killed in the middle of a line leaves a torn last line, which
is dropped when the file is read. JSON has no NaN and no infinity: both are written as ``null``, so
that every JSON parser reads the file, and `History.column` gives ``null`` back as NaN.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from minicnn.errors import CheckpointError
from minicnn.training.files import atomic_write, describe, write_all
from minicnn.training.packing import plain

__all__ = ["History"]

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class History:
    """The records of a run, in memory and, if a path is given, in a file.

    Parameters
    ----------
    path : file of JSON lines; one that exists is read and continued. None keeps records in memory.

    Attributes
    ----------
    records : list of dicts, as the file holds them (NaN and infinities as None)

    Raises
    ------
    CheckpointError : a line before the last is corrupt, or the file cannot be read.

    >>> history = History()
    >>> history.append(kind="epoch", step=100, loss=0.5)
    >>> history.append(kind="epoch", step=200, loss=float("nan"))
    >>> history.column("loss", kind="epoch")
    [0.5, nan]
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.records: list[dict[str, Any]] = []
        self._ragged = False  # the file does not end in a whole line
        if self.path is not None and self.path.exists():
            self.records, self._ragged = _read(self.path)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> History:
        """Return the history in a file that must exist; the file is not changed.

        Raises
        ------
        CheckpointError : there is no such file, or a line before the last is corrupt.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "history.jsonl")
        ...     _ = path.write_text('{"step": 1, "loss": 0.5}\\n{"step": 2, "lo')
        ...     History.read(path).records
        [{'step': 1, 'loss': 0.5}]
        """
        if not Path(path).exists():
            raise CheckpointError(f"History.read: there is no file {path}.")
        return cls(path)

    def __len__(self) -> int:
        return len(self.records)

    def append(self, **record: Any) -> None:
        """Add one record and, if there is a file, write its line to it before returning.

        Raises
        ------
        CheckpointError : a value that JSON cannot hold, or a line that could not be written; the
            file then holds the records before it.

        >>> history = History()
        >>> history.append(step=1, accuracy=0.25)
        >>> len(history)
        1
        """
        clean = _clean(record)
        if self.path is not None:
            if self._ragged:
                self._rewrite(self.path)
            _append_line(self.path, _line(clean))
        self.records.append(clean)

    def column(self, name: str, kind: str | None = None) -> list[Any]:
        """Return one field of all records that have it, ``null`` as NaN.

        Parameters
        ----------
        name : the field
        kind : only records whose ``kind`` field is this

        >>> history = History()
        >>> history.append(kind="step", loss=2.0)
        >>> history.append(kind="epoch", loss=1.0)
        >>> history.column("loss"), history.column("loss", kind="epoch")
        ([2.0, 1.0], [1.0])
        """
        chosen = (r for r in self.records if kind is None or r.get("kind") == kind)
        return [math.nan if r[name] is None else r[name] for r in chosen if name in r]

    def truncate(self, step: int) -> int:
        """Drop the records beyond a step, as when a run resumes from the checkpoint of that step.

        Records without a ``step`` stay. The file is replaced atomically.

        Returns
        -------
        The number of records dropped.

        Raises
        ------
        CheckpointError : the file could not be written; it and ``records`` are as before.

        >>> history = History()
        >>> for step in (1, 2, 3):
        ...     history.append(step=step)
        >>> history.truncate(2), history.column("step")
        (1, [1, 2])
        """
        before = self.records
        self.records = [r for r in before if not _is_beyond(r, step)]
        dropped = len(before) - len(self.records)
        if self.path is not None and (dropped or self._ragged):
            try:
                self._rewrite(self.path)
            except CheckpointError:
                self.records = before
                raise
        return dropped

    def _rewrite(self, path: Path) -> None:
        atomic_write(path, b"".join(_line(record) for record in self.records))
        self._ragged = False


def _is_beyond(record: dict[str, Any], step: int) -> bool:
    return isinstance(record.get("step"), int | float) and record["step"] > step


def _clean(record: dict[str, Any]) -> dict[str, Any]:
    return {
        key: plain(value, f"History.append: {key}", lambda _: None) for key, value in record.items()
    }


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _append_line(path: Path, line: bytes) -> None:
    """Append a line, or none of it: a disk that fills half-way must not leave a torn line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, FLAGS, 0o666)  # less what the user's umask takes away
        try:
            size = os.fstat(file).st_size
            try:
                write_all(file, line)
            except BaseException:
                os.ftruncate(file, size)
                raise
        finally:
            os.close(file)
    except OSError as error:
        raise CheckpointError(
            f"History.append: {path} could not be written: {describe(error)}. The records written "
            "before are untouched; free some space or choose another folder."
        ) from error


def _read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Return the records of a file, and whether it lacks a whole last line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CheckpointError(f"History: {path} could not be read: {describe(error)}.") from error
    ragged = lines[-1] != b""
    last = max((i for i, line in enumerate(lines) if line.strip()), default=-1)
    records = []
    for i, line in enumerate(lines[: last + 1]):
        if not line.strip():
            continue
        try:
            records.append(_record(line))
        except (ValueError, RecursionError) as error:
            if i == last:
                return records, True
            raise CheckpointError(
                f"History: line {i + 1} of {path} is corrupt ({error}): {line[:60]!r}. "
                "Only the last line of a history can be torn; remove this one, or the file."
            ) from error
    return records, ragged


def _record(line: bytes) -> dict[str, Any]:
    record = json.loads(line.decode("utf-8"))
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return _clean(record)
