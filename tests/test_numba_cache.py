"""The kernels' cache on disk: several processes at once, damaged, full, and out of reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ANNOUNCEMENT = "minicnn: compiling kernels (first use, cached afterwards) ..."

# Runs one cheap kernel after a line has come in, so that several processes can start together.
PROGRAM = """
import numpy as np
from minicnn_kernels import registry
kernels = registry.load("numba")
print("ready", flush=True)
input()
y = kernels.relu(np.arange(-(2**15), 2**15, dtype=np.float32))
print(y.sum() == sum(range(2**15)))
"""


def start(cache: Path, program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(cache: Path, count: int = 1, program: str = PROGRAM) -> list[tuple[str, str]]:
    """What each of ``count`` processes that reach their kernel together prints, and its errors."""
    processes = [start(cache, program) for _ in range(count)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    return [(output.strip(), error.strip()) for output, error in outputs]


def test_processes_that_start_at_once_share_an_empty_cache(tmp_path):
    assert run(tmp_path, 3) == [("True", ANNOUNCEMENT)] * 3
    assert run(tmp_path) == [("True", "")]


def test_a_cache_directory_that_cannot_be_made_stops_nobody(tmp_path):
    """A file in the place of the directory: unlike a mode, it stops the administrator too."""
    file = tmp_path / "file"
    file.write_text("")
    ((output, _),) = run(file / "cache")
    assert output == "True"
    assert file.read_text() == ""


def test_damaged_files_are_compiled_anew(tmp_path):
    run(tmp_path)
    for suffix in ("nbc", "nbi"):
        (file,) = tmp_path.rglob(f"*_relu-*.{suffix}")
        file.write_bytes(file.read_bytes()[:100])
        assert run(tmp_path) == [("True", ANNOUNCEMENT)]
        assert run(tmp_path) == [("True", "")]


def test_a_full_disk_costs_the_cache_alone(tmp_path):
    """A limit on the size of a file fails as a full disk does."""
    program = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n" + PROGRAM
    ((output, errors),) = run(tmp_path, program=program)
    assert output == "True"
    assert errors.startswith(f"{ANNOUNCEMENT}\nminicnn: compiled kernels cannot be kept in ")
    assert len(errors.splitlines()) == 2
