"""The parent's end of a worker process: see ``peers/worker.py`` for the other end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "peers" / "worker.py"
KEEP_FREED = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}


class PeerError(Exception):
    """What a worker could not do, in its own words."""


def environment(threads: int, keep_freed_memory: bool) -> dict[str, str]:
    """The environment of every worker: as many threads, idle ones asleep, one allocator."""
    variables = {k: v for k, v in os.environ.items() if k not in KEEP_FREED}
    variables |= KEEP_FREED if keep_freed_memory else {}
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MINICNN_NUM_THREADS")
    variables |= dict.fromkeys((*counts, "NUM_CPU_THREADS"), str(threads))  # the last: tinygrad
    return variables | {"OMP_WAIT_POLICY": "passive"}


class Worker:
    """A library in a process of its own; ``with`` ends the process.

    ``versions`` is what it runs. Raises `PeerError` where the library cannot be imported.
    """

    def __init__(self, library: str, python: str, variables: dict[str, str]) -> None:
        self.library = library
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(SCRIPT), library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=variables,
            text=True,
        )
        try:
            self.versions: dict[str, str] = self._answer()["versions"]
        except BaseException:
            self.close()
            raise

    def ask(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for the answer; raises `PeerError` with what went wrong."""
        try:
            self._process.stdin.write(json.dumps({"do": action, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise PeerError(f"its process ended with code {code}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else "no message"

    def close(self) -> None:
        """End the process; does nothing the second time."""
        if self._process.poll() is None:
            try:
                self._process.communicate('{"do": "quit"}\n', timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
        with contextlib.suppress(BrokenPipeError):  # a request that nobody reads any more
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def pythons(choices: list[str], libraries: list[str]) -> dict[str, str]:
    """The interpreter of each library: ``NAME=PATH`` where one is chosen, else this one.

    Raises `ValueError` for a choice of another form or of an unknown library.
    """
    chosen = dict.fromkeys(libraries, sys.executable)
    for choice in choices:
        library, sign, path = choice.partition("=")
        if not sign or library not in libraries:
            known = ", ".join(libraries)
            raise ValueError(f"--python is {choice!r}; write LIBRARY=PATH, with one of {known}.")
        chosen[library] = path
    return chosen
