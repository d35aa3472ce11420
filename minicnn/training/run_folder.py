"""The folder of a run: a new one that no other run has, and files in an existing one."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from minicnn.errors import CheckpointError, ConfigError
from minicnn.training.config import TrainConfig


def fresh_folder(config: TrainConfig) -> Path:
    """Make a folder that no other run has: by name, or by model and time, numbered if needed."""
    output = Path(config.output)
    if config.name:
        folder = output / config.name
        try:
            return _made(folder)
        except FileExistsError:
            raise ConfigError(_taken(folder)) from None
    stamp = f"{config.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        try:
            return _made(output / (stamp if number == 1 else f"{stamp}-{number}"))
        except FileExistsError:
            number += 1


def _taken(folder: Path) -> str:
    if (folder / "config.toml").exists():
        cure = f"choose another --name, or continue it with --resume {shlex.quote(str(folder))}"
    else:
        cure = (
            "no training has begun in it yet, or none ever will because it was killed before: "
            "choose another --name, or remove the folder"
        )
    return f"the run folder {folder} exists already; {cure}."


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if folder.is_dir():
            raise
        raise CheckpointError(
            f"{folder} is a file, not a folder; choose another --output."
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"the run folder {folder} cannot be made: {error.strerror or error}; choose another "
            "--output."
        ) from error
    return folder


def inside(folder: Path, name: str) -> Path:
    """The path of what every run folder holds, or `CheckpointError` where it is none."""
    if not (folder / name).exists():
        raise CheckpointError(
            f"{folder} is not a run folder: it has no {name}; name a folder that minicnn "
            "train made."
        )
    return folder / name
