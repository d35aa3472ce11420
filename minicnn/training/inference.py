"""Predictions for a stream of picture files: in order, at full speed, in bounded memory.

Three stages work at once. A feeder walks the paths and hands each to a pool of threads, which read
and decode the picture (Pillow lets other Python threads run meanwhile); the network takes what is
ready in batches. Between them is a queue of bounded length: a feeder that is ahead waits, so that a
folder of a million pictures takes no more memory than one of a hundred. The queue holds promises in
the order of the paths, so the answers come in that order too, whichever picture is decoded first.

A batch does not wait for ever to be full: after `PATIENCE` without a new path the network computes
what is there, so that someone who writes one path at a time into a pipe gets one answer at a time.
A file that cannot be read becomes a `Prediction` with an error, and the rest go on.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import DataError, MiniCNNError
from minicnn.nn import Module
from minicnn.nn.prediction import computed_together, predict
from minicnn.training.run import prepared_images
from minicnn_kernels import threads

__all__ = ["Prediction", "lines", "pictures", "predict_files"]

PATIENCE = 0.05  # seconds
LONGEST_LINE = 2**20  # bytes; systems take a few thousand
ENDINGS = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


@dataclass(frozen=True)
class Prediction:
    """What was found for a path: probabilities (K,), or the error that says why there are none."""

    path: Path
    probabilities: np.ndarray | None = None
    error: str = ""


@dataclass(frozen=True)
class _Job:
    """A path and the promise of its picture; or the end of all, with the feeder's error if any."""

    path: Path
    picture: Future[np.ndarray] | None = None
    error: BaseException | None = None


def predict_files(
    model: Module,
    meta: dict[str, Any],
    paths: Iterable[Path],
    *,
    invert: bool = False,
    batch_size: int = 32,
) -> Iterator[Prediction]:
    """Yield a `Prediction` for each path, in order.

    model, meta : of `load_model`, the checkpoint's ``meta``
    paths : picture files; read as needed, in a thread of its own
    invert : for dark things on a light background
    batch_size : pictures that are computed together; see `Module.predict`

    >>> from minicnn import nn
    >>> meta = {"image_shape": (1, 2, 2), "mean": 0.5, "std": 0.5}
    >>> [found.error for found in predict_files(nn.Flatten(), meta, [Path("no-such.png")])]
    ['no-such.png does not exist; check the path.']
    """
    batch_size = computed_together(batch_size)
    workers = min(threads.usable_cores(), 16)
    jobs: queue.Queue[_Job] = queue.Queue(maxsize=2 * batch_size + workers)
    stopped = threading.Event()

    def read(path: Path) -> np.ndarray:
        return prepared_images([path], meta, invert)[0]

    with ThreadPoolExecutor(workers, thread_name_prefix="minicnn-pictures") as pool:
        # A daemon: it may be waiting for a line of a pipe that stays open.
        threading.Thread(
            target=_feed, args=(paths, pool, read, jobs, stopped), name="minicnn-paths", daemon=True
        ).start()
        try:
            for batch in _batches(jobs, batch_size):
                yield from _answers(model, batch, batch_size)
        finally:
            stopped.set()
            _drain(jobs)
            pool.shutdown(cancel_futures=True)


def pictures(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield files as they are, and of folders every picture within, in the order of the names.

    Links to folders are not followed. Raises `DataError` for a folder without pictures.

    >>> list(pictures(["a.png"])) == [Path("a.png")]
    True
    """
    for path in map(Path, paths):
        if not os.path.isdir(path):  # unlike path.is_dir(), false for a name that is too long
            yield path
            continue
        found = False
        for folder, inner, files in os.walk(path):
            inner.sort()
            for name in sorted(files):
                if os.path.splitext(name)[1].lower() in ENDINGS:
                    found = True
                    yield Path(folder, name)
        if not found:
            raise DataError(f"{path} holds no pictures ({', '.join(sorted(ENDINGS))}).")


def lines(file: int) -> Iterator[Path]:
    """Yield the paths, one a line, that come from an open file descriptor, as they come.

    >>> reader, writer = os.pipe()
    >>> os.write(writer, b"a.png\\n\\nb.png"); os.close(writer)
    12
    >>> [path.name for path in lines(reader)]; os.close(reader)
    ['a.png', 'b.png']
    """
    # Not sys.stdin: a thread that waits in its lock makes the end of the process fail.
    rest = b""
    while chunk := os.read(file, 65536):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (Path(os.fsdecode(line)) for raw in whole if (line := raw.rstrip(b"\r")))
        if len(rest) > LONGEST_LINE:
            raise DataError(
                f"a line of more than {LONGEST_LINE:,} bytes is no path; write paths, one a line."
            )
    if rest:
        yield Path(os.fsdecode(rest))


def _feed(
    paths: Iterable[Path],
    pool: ThreadPoolExecutor,
    read: Any,
    jobs: queue.Queue[_Job],
    stopped: threading.Event,
) -> None:
    end = _Job(Path())
    try:
        for path in paths:
            if stopped.is_set():
                return
            jobs.put(_Job(path, pool.submit(read, path)))
    except BaseException as error:  # the consumer raises it, in its place
        end = _Job(Path(), error=error)
    if not stopped.is_set():
        jobs.put(end)


def _batches(jobs: queue.Queue[_Job], batch_size: int) -> Iterator[list[_Job]]:
    """Lists of jobs, as many as make a batch; fewer where no more come, or none come for a while.

    A job that will fail counts as one: that it fails is known only when it is done.
    """
    while True:
        batch, job = [], jobs.get()
        while job.picture is not None:
            batch.append(job)
            if len(batch) == batch_size:
                break
            try:
                job = jobs.get(timeout=PATIENCE)
            except queue.Empty:
                break
        if batch:
            yield batch
        if job.picture is None:
            if job.error is not None:
                raise job.error
            return


def _answers(model: Module, batch: list[_Job], batch_size: int) -> Iterator[Prediction]:
    found: list[np.ndarray | str] = []
    for job in batch:
        assert job.picture is not None
        try:
            found.append(job.picture.result())
        except MiniCNNError as error:
            found.append(str(error))
    arrays = [picture for picture in found if not isinstance(picture, str)]
    rows = iter(predict(model, np.stack(arrays), batch_size) if arrays else ())
    for job, one in zip(batch, found, strict=True):
        if isinstance(one, str):
            yield Prediction(job.path, error=one)
        else:
            yield Prediction(job.path, next(rows))


def _drain(jobs: queue.Queue[_Job]) -> None:
    """Make room for the one job that the feeder may be waiting to hand over."""
    while True:
        try:
            jobs.get_nowait()
        except queue.Empty:
            return
