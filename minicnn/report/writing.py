"""Reports as files: written whole or not at all, and never at the cost of a training."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minicnn.errors import CheckpointError
from minicnn.report import environment
from minicnn.report.facts import facts, measure, measure_now
from minicnn.report.page import comparison_page, run_page
from minicnn.training.files import atomic_write

if TYPE_CHECKING:
    from minicnn.training.run import Run

FILE = "report.html"


def write(
    folder: str | os.PathLike[str],
    file: str | os.PathLike[str] | None = None,
    backend: str | None = None,
) -> Path:
    """Write the report of a run and return its path.

    folder : the run folder; its best weights, else the newest, are measured on the test set
    file : where to; by default report.html in the folder
    backend : kernel set that measures; by default the one that is selected on the CPU

    A run without a checkpoint gets a page of its settings. Raises `CheckpointError` where the
    folder is no run folder or the file cannot be written.

    >>> write("no-such-run")
    Traceback (most recent call last):
    ...
    minicnn.errors.CheckpointError: no-such-run is not a run folder: it has no config.toml; ...
    """
    folder = Path(folder)
    found = facts(folder)
    measured = None if found.meta is None else measure(folder, found.config, backend)
    note = "" if measured else "There is no checkpoint yet, so there is nothing to measure."
    return _written(run_page(found, measured, note), Path(file or folder / FILE))


def compare(
    folders: Sequence[str | os.PathLike[str]], file: str | os.PathLike[str] = "comparison.html"
) -> Path:
    """Write a page that compares two to eight runs and return its path.

    Test scores are those that the runs themselves found; nothing is measured again.
    Raises `ArgumentError` for too few or too many runs, `CheckpointError` as `write` does.

    >>> compare(["runs/a"])
    Traceback (most recent call last):
    ...
    minicnn.errors.ArgumentError: report.compare: got 1 run(s); give 2 to 8, more curves ...
    """
    return _written(comparison_page([Path(folder) for folder in folders]), Path(file))


def fit(run: Run) -> None:
    """Train a run to the end; where that comes too early, write a report of what there is.

    What the report needs to know of the machine is noted down first. `finish` writes the report of
    a training that ended well, once its weights are tested.

    >>> import tempfile, minicnn
    >>> from minicnn.report.writing import finish
    >>> from minicnn.training.config import TrainConfig
    >>> from minicnn.training.run import new_run
    >>> with tempfile.TemporaryDirectory() as folder, minicnn.use_backend("numpy"):
    ...     settings = {"source": "sample", "backend": "numpy", "output": folder}
    ...     run = new_run(TrainConfig("lenet5", images=100, epochs=1, batch_size=90, **settings))
    ...     fit(run)
    ...     result, epoch = run.test()
    ...     path = finish(run, epoch=epoch)  # report.html in the run's folder
    ...     (run.folder / "environment.json").exists()
    True
    """
    if not run.writes:  # one process of several does
        run.fit()
        return
    try:
        environment.record(run)
    except Exception as error:
        _complain("the machine was not noted down", error)
    try:
        run.fit()
    except KeyboardInterrupt:
        finish(run, "The training was interrupted; minicnn train --resume goes on.")
        raise
    except Exception as error:
        finish(run, f"The training ended with an error: {error}")
        raise


def finish(run: Run, ending: str = "", epoch: int | None = None) -> Path | None:
    """Write the report of a run whose training has ended; None, and a line, if that fails.

    ending : a sentence on how it ended, if not as planned
    epoch : whose weights the model has now; without it the test set is not measured, because
        somebody who has pressed Ctrl-C does not want to wait

    Whatever goes wrong here, the training is done and saved: it is told, and not raised. See `fit`.
    """
    if not run.writes or not (run.folder / "config.toml").exists():  # it has not begun
        return None
    try:
        measured = None if epoch is None else measure_now(run, epoch)
        if measured is None:
            ending = f"{ending} The test set was not measured: minicnn report does that.".strip()
        page = run_page(facts(run.folder), measured, ending)
        return _written(page, run.folder / FILE)
    except (Exception, KeyboardInterrupt) as error:
        _complain("there is no report", error)
        return None


def _written(page: str, file: Path) -> Path:
    if file.is_dir():
        raise CheckpointError(f"{file} is a folder; name a file for the report, like report.html.")
    atomic_write(file, page)
    return file


def _complain(what: str, error: BaseException) -> None:
    print(f"{what}: {type(error).__name__}: {error}".rstrip(": "), file=sys.stderr)
