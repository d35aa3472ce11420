"""Train for a long time and see whether memory stays flat: ``python benchmarks/soak.py``.

Trains in this process, as ``minicnn train`` does, with a checkpoint every few seconds, and starts
a new run when one has ended, so that what a run leaves behind counts as well. A line a minute says
what the process holds in memory (its resident set). After a warm-up, in which caches and pools
fill, it may grow by no more than 1 percent: the mean of the last tenth of the samples is compared
with that of the first tenth, since single samples jump with the batch that is under way. The exit
code is 0 where memory is flat and 1 where it is not. Linux only: sizes are read from /proc.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from minicnn.training.callbacks import Callback
from minicnn.training.config import TrainConfig
from minicnn.training.run import new_run

ALLOWED = 0.01
SECONDS_BETWEEN_SAMPLES = 1.0
SECONDS_BETWEEN_LINES = 60.0


class Soak(Callback):
    """Samples the memory, writes a line a minute, and ends the training when time is up."""

    def __init__(self, seconds: float, warm_up: float) -> None:
        self.started: float | None = None
        self.seconds, self.warm_up = seconds, warm_up
        self.samples: list[int] = []
        self.steps = self.runs = 0
        self._sampled_at, self._told_at = -1e9, 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the first step, which may have waited for kernels to be compiled."""
        return 0.0 if self.started is None else time.monotonic() - self.started

    @property
    def is_over(self) -> bool:
        """Whether time is up."""
        return self.elapsed >= self.seconds

    def on_step_end(self, trainer: Any, images: int) -> None:
        self.steps += 1
        if self.started is None:
            self.started = time.monotonic()
        if self.is_over:
            raise KeyboardInterrupt
        if self.elapsed - self._sampled_at < SECONDS_BETWEEN_SAMPLES:
            return
        self._sampled_at = self.elapsed
        size = resident()
        if self.elapsed >= self.warm_up:
            self.samples.append(size)
        if self.elapsed - self._told_at >= SECONDS_BETWEEN_LINES:
            self._told_at = self.elapsed
            growth = f"{self.growth():+.2%}" if len(self.samples) >= 20 else "warming up"
            print(
                f"{self.elapsed / 60:5.1f} min  {size / 2**20:8.1f} MiB  {growth:>10}  "
                f"{self.steps:,} steps, {self.runs} runs ended",
                flush=True,
            )

    def growth(self) -> float:
        """How much more the last tenth of the samples holds than the first, as a share."""
        tenth = max(len(self.samples) // 10, 1)
        first, last = self.samples[:tenth], self.samples[-tenth:]
        return statistics.fmean(last) / statistics.fmean(first) - 1


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(arguments: list[str] | None = None) -> int:
    """Soak; returns the exit code."""
    parser = argparse.ArgumentParser(description="Train for a long time; is memory flat?")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="X")
    parser.add_argument("--warm-up", type=float, default=2.0, metavar="X", help="minutes (2)")
    parser.add_argument("--model", default="notes_cnn", metavar="NAME")
    parser.add_argument("--backend", default="numba", metavar="NAME")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="of each run (20)")
    options = parser.parse_args(arguments)
    soak = Soak(60 * options.minutes, 60 * options.warm_up)
    with tempfile.TemporaryDirectory() as folder:
        while not soak.is_over:
            config = TrainConfig(
                model=options.model, backend=options.backend, epochs=options.epochs,
                source="sample", checkpoint_seconds=5.0, output=folder,
            )  # fmt: skip
            try:
                new_run(config, (soak,)).fit()
            except KeyboardInterrupt:
                break
            soak.runs += 1
    if len(soak.samples) < 20:
        print(f"only {len(soak.samples)} samples after the warm-up; train for longer")
        return 1
    flat = soak.growth() <= ALLOWED
    print(
        f"{'flat' if flat else 'NOT FLAT'}: {soak.growth():+.2%} from the first to the last tenth "
        f"of {len(soak.samples)} samples (allowed {ALLOWED:.0%}); {soak.steps:,} steps, largest "
        f"{max(soak.samples) / 2**20:.1f} MiB"
    )
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
