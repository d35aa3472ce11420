"""Checkpoints: folders that appear whole or not at all, and that prove what they hold.

::

    <run>/checkpoints/<name>/model.safetensors   weights: name -> array
                             state.npz           other arrays: optimizer state, ...
                             checkpoint.json     format, meta, size and SHA-256 of the two above,
                                                 and the SHA-256 of its own content
    <run>/checkpoints/best.json                  which checkpoint is the best

A process killed at any moment leaves every finished checkpoint as it was (see `files`), and the
next save tidies up after it. A run folder has one writer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import ArgumentError, CheckpointError
from minicnn.training.files import (
    atomic_write,
    complete_folder,
    describe,
    list_folders,
    remove_folder,
    tidy,
    write_folder,
)
from minicnn.training.packing import (
    ARRAYS,
    HEAD,
    WEIGHTS,
    pack_arrays,
    pack_head,
    pack_weights,
    unpack_arrays,
    unpack_head,
    unpack_weights,
)

__all__ = [
    "Checkpoint",
    "best_checkpoint",
    "load_checkpoint",
    "mark_best",
    "newest_checkpoint",
    "prune",
    "save_checkpoint",
]

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes
    ----------
    weights : dict name -> array, of model.safetensors
    arrays : dict name -> array, of state.npz
    meta : everything else, as plain Python
    path : the checkpoint's folder
    skipped : for `newest_checkpoint`, one sentence for each broken checkpoint passed over
    """

    weights: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    path: Path
    skipped: tuple[str, ...] = ()


def save_checkpoint(
    run_folder: PathLike,
    name: str,
    weights: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
) -> Path:
    """Write a checkpoint, atomically, and return its folder.

    Parameters
    ----------
    run_folder : folder of the run; created if missing.
    name : name of the checkpoint; an earlier one of the same name is replaced.
    weights : name -> array
    arrays : name -> array; any shape and any dtype but object.
    meta : JSON-able values, tuples become lists, NaN and infinities are kept;
        ``meta["step"]`` is the number of training steps made.

    Raises
    ------
    ArgumentError : a name that is no plain file name, or a meta without its step.
    CheckpointError : a value that cannot be saved, a full disk, an unwritable folder. Every earlier
        checkpoint is untouched, and the message says where the last good one is.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     weights = {"weight": np.ones((2, 3), dtype=np.float32)}
    ...     folder = save_checkpoint(run, "step-100", weights, {}, {"step": 100})
    ...     load_checkpoint(folder).meta
    {'step': 100}
    """
    _check_name("save_checkpoint", name)
    step = meta.get("step")
    if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < 0:
        raise ArgumentError(
            "save_checkpoint: meta['step'] must be the number of training steps made, "
            f"but it is {step!r}."
        )
    contents = {WEIGHTS: pack_weights(weights), ARRAYS: pack_arrays(arrays)}
    contents[HEAD] = pack_head(meta, contents)
    folder = _checkpoints(run_folder)
    try:
        write_folder(folder / name, contents)
    except OSError as error:
        raise CheckpointError(
            f"save_checkpoint: checkpoint {name!r} could not be written into {folder}: "
            f"{describe(error)}. {_last_good(run_folder)} Free some space or choose another folder."
        ) from error
    return folder / name


def load_checkpoint(folder: PathLike) -> Checkpoint:
    """Read a checkpoint and verify the size and the checksum of each of its files.

    Raises
    ------
    CheckpointError : there is no such checkpoint, or a file of it is missing or corrupt; the
        message names the file and both sums.

    >>> load_checkpoint("runs/none")
    Traceback (most recent call last):
    minicnn.errors.CheckpointError: load_checkpoint: there is no checkpoint at runs/none.
    """
    path = Path(folder)
    place = complete_folder(path)
    if place is None:
        raise CheckpointError(f"load_checkpoint: there is no checkpoint at {path}.")
    head = _read_head(place)
    weights = _read_verified(place / WEIGHTS, head["files"][WEIGHTS])
    arrays = _read_verified(place / ARRAYS, head["files"][ARRAYS])
    return Checkpoint(
        weights=unpack_weights("load_checkpoint", place / WEIGHTS, weights),
        arrays=unpack_arrays(place / ARRAYS, arrays),
        meta=head["meta"],
        path=path,
    )


def newest_checkpoint(run_folder: PathLike) -> Checkpoint | None:
    """Return the loadable checkpoint with the highest ``meta["step"]``, or None if none was saved.

    Broken checkpoints are passed over; ``.skipped`` of the result says which and why.

    Raises
    ------
    CheckpointError : there is no such run folder, or every checkpoint in it is broken.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     for step in (100, 200):
    ...         _ = save_checkpoint(run, f"step-{step}", {}, {}, {"step": step})
    ...     newest_checkpoint(run).meta["step"]
    200
    """
    if not Path(run_folder).is_dir():
        raise CheckpointError(f"newest_checkpoint: there is no run folder {run_folder}.")
    readable, skipped = _by_step(run_folder)
    for path in readable:
        try:
            return dataclasses.replace(load_checkpoint(path), skipped=tuple(skipped))
        except CheckpointError as error:
            skipped.append(str(error))
    if skipped:
        raise CheckpointError(
            f"newest_checkpoint: every checkpoint in {_checkpoints(run_folder)} is broken: "
            + " ".join(skipped)
        )
    return None


def prune(run_folder: PathLike, keep: int = 2, protect: Collection[str] = ()) -> list[str]:
    """Remove old checkpoints and return the names of those removed.

    The ``keep`` newest stay, and so do those in ``protect``, the best one and broken ones, which
    are left to a person to look at.

    Raises
    ------
    ArgumentError : ``keep`` is below 1.
    CheckpointError : a checkpoint could not be removed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     for step in (1, 2, 3, 4):
    ...         _ = save_checkpoint(run, f"step-{step}", {}, {}, {"step": step})
    ...     prune(run, keep=2, protect={"step-1"})
    ['step-2']
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise ArgumentError(f"prune: keep must be an integer of at least 1, but it is {keep!r}.")
    folder = _checkpoints(run_folder)
    if not folder.is_dir():
        return []
    spared = {*protect, _best_name(run_folder)}
    try:
        tidy(folder)
        old = [path for path in _by_step(run_folder)[0][keep:] if path.name not in spared]
        for path in reversed(old):
            remove_folder(path)
    except OSError as error:
        raise CheckpointError(
            f"prune: an old checkpoint in {folder} could not be removed: {describe(error)}."
        ) from error
    return [path.name for path in reversed(old)]


def mark_best(run_folder: PathLike, name: str) -> None:
    """Note that a checkpoint of the run is the best so far.

    Raises
    ------
    CheckpointError : there is no such checkpoint, or the note could not be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     _ = save_checkpoint(run, "step-100", {}, {}, {"step": 100})
    ...     mark_best(run, "step-100")
    ...     best_checkpoint(run).path.name
    'step-100'
    """
    _check_name("mark_best", name)
    folder = _checkpoints(run_folder)
    if complete_folder(folder / name) is None:
        raise CheckpointError(f"mark_best: there is no checkpoint {name!r} in {folder}.")
    atomic_write(folder / "best.json", json.dumps({"name": name}) + "\n")


def best_checkpoint(run_folder: PathLike) -> Checkpoint | None:
    """Return the checkpoint that `mark_best` noted, or None if it noted none.

    Raises
    ------
    CheckpointError : the note or the checkpoint is corrupt or gone.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     print(best_checkpoint(run))
    None
    """
    name = _best_name(run_folder)
    return None if name is None else load_checkpoint(_checkpoints(run_folder) / name)


def _read_bytes(function: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{function}: {path} could not be read: {reason}.") from error


def _read_verified(path: Path, expected: Mapping[str, Any]) -> bytes:
    data = _read_bytes("load_checkpoint", path)
    found = hashlib.sha256(data).hexdigest()
    if found != expected["sha256"] or len(data) != expected["size"]:
        raise CheckpointError(
            f"load_checkpoint: {path} is corrupt: it has {len(data)} bytes with SHA-256 {found}, "
            f"but {HEAD} says {expected['size']} bytes with SHA-256 {expected['sha256']}."
        )
    return data


def _read_head(place: Path) -> dict[str, Any]:
    return unpack_head(place / HEAD, _read_bytes("load_checkpoint", place / HEAD))


def _by_step(run_folder: PathLike) -> tuple[list[Path], list[str]]:
    """Return the checkpoints that look whole, newest first, and why the others do not."""
    folder = _checkpoints(run_folder)
    try:
        paths = list_folders(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} could not be read: {describe(error)}.") from error
    steps, broken = [], []
    for path in paths:
        try:
            steps.append((_step_of(path), path.name, path))
        except CheckpointError as error:
            broken.append(str(error))
    return [path for *_, path in sorted(steps, reverse=True)], broken


def _step_of(path: Path) -> int:
    """Return the step of a checkpoint whose files are there and have the right sizes."""
    place = complete_folder(path) or path
    head = _read_head(place)
    for name, expected in head["files"].items():
        file = place / name
        if not file.is_file() or file.stat().st_size != expected["size"]:
            _read_verified(file, expected)
    return head["meta"]["step"]


def _checkpoints(run_folder: PathLike) -> Path:
    return Path(run_folder) / "checkpoints"


def _check_name(function: str, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise ArgumentError(
            f"{function}: the name {name!r:.220} must be at most 200 letters, digits, '.', '_' and "
            "'-', and begin with a letter or digit."
        )


def _best_name(run_folder: PathLike) -> str | None:
    path = _checkpoints(run_folder) / "best.json"
    if not path.exists():
        return None
    try:
        name = json.loads(_read_bytes("best_checkpoint", path).decode("utf-8"))["name"]
        _check_name("best_checkpoint", name)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"best_checkpoint: {path} is corrupt ({error!r:.300}); remove it, or mark the best "
            "again."
        ) from error
    return name


def _last_good(run_folder: PathLike) -> str:
    with contextlib.suppress(CheckpointError, OSError):
        newest = newest_checkpoint(run_folder)
        if newest is not None:
            return f"The last good checkpoint, {newest.path}, is untouched."
    return "There is no earlier checkpoint."
