"""Fuzz the readers of files: ``python tests/fuzz.py --cases 10000 [--reader png ...]``.

Each reader gets so many damaged files; see `fuzz_mutations` for how they are damaged, `fuzz_guard`
for what counts as a mistake and `fuzz_readers` for the readers. A line a reader says how many files
were refused and how many were read; the first mistake of a reader is shown with the smallest file
that makes it. The exit code is the number of readers with a mistake.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from fuzz_guard import outcome
from fuzz_mutations import damaged
from fuzz_readers import READERS, Reader
from hypothesis import HealthCheck, Phase, given, seed, settings


def fuzz(reader: Reader, cases: int, folder: Path, number: int = 0) -> dict[str, int]:
    """Try so many damaged files; returns how many were read and refused. Raises at a mistake."""
    path = reader.prepared(folder)
    samples = reader.samples()
    within = str(path.parent / reader.writes) if reader.writes else None
    for sample in samples:  # what is imported when first needed must not count as a case's memory
        path.write_bytes(reader.frame(sample))
        outcome(lambda: reader.read(path), within)
    count = {"read": 0, "refused": 0}

    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(samples))
    def one(content: bytes) -> None:
        path.write_bytes(reader.frame(content))
        before = sorted(os.listdir(path.parent))
        value, error = outcome(lambda: reader.read(path), within)
        assert sorted(os.listdir(path.parent)) == before, "the reader left files behind"
        if error is None:
            reader.check(value, content)
        count["read" if error is None else "refused"] += 1

    one()
    return count


def main(arguments: list[str] | None = None) -> int:
    """Fuzz the readers that are named, or all."""
    names = [reader.name for reader in READERS]
    parser = argparse.ArgumentParser(description="Fuzz the readers of files.")
    parser.add_argument("--cases", type=int, default=10_000, metavar="N", help="per reader")
    parser.add_argument("--reader", action="append", choices=names, help="default: all")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    options = parser.parse_args(arguments)
    failed = 0
    for reader in READERS:
        if options.reader and reader.name not in options.reader:
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                count = fuzz(reader, options.cases, Path(folder), options.seed)
            except Exception as error:
                failed += 1
                print(f"{reader.name}: MISTAKE", *_notes(error), sep="\n    ", flush=True)
                continue
        told = ", ".join(f"{number:,} {kind}" for kind, number in count.items())
        print(f"{reader.name}: {told} in {time.perf_counter() - started:.0f} s", flush=True)
    return failed


def _notes(error: BaseException) -> list[str]:
    """What happened, and hypothesis' note of the smallest file; of several mistakes, all."""
    if isinstance(error, BaseExceptionGroup):
        return [line for one in error.exceptions for line in _notes(one)]
    return [repr(error), *getattr(error, "__notes__", ())]


if __name__ == "__main__":
    sys.exit(main())
