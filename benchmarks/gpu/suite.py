"""The tests that need a device, and compute-sanitizer on a few of them.

A process for each kernel set, all at once: the tests wait for launches and compilers more than for
the device. One more runs the tests that are bound to no set. Results are right to float32's
rounding only without TF32, so it is off; the one test of TF32 switches it on for itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sheet import Row

from minicnn_kernels import registry

ROOT = Path(__file__).parents[2]
TOOLS = ("memcheck", "racecheck", "initcheck")
SANITIZED = "relu or max_pool2d or cross_entropy or conv2d_relu"  # a few specs, every family
SPECS = "tests/test_ops.py"
QUICK = "test_spec and relu and float32"
SHARE = 0.75  # of the stage's time that the tests may take


def run(options: argparse.Namespace) -> Iterator[Row]:
    """Tests, then the sanitizer with what time is left."""
    usable = [s for s in options.sets if registry.availability()[s] is None]
    limit = SHARE * (options.deadline - time.monotonic())
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: _start(name, options, Path(folder)) for name in [*usable, ""]}
        end = time.monotonic() + limit
        for name, process in runs.items():
            yield from _outcome(name, process, end, Path(folder))
    yield from _sanitized(options, usable[:1])


def _pytest(path: str, chosen: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", path]
    return [*command, "-k", chosen] if chosen else command


def _environment(options: argparse.Namespace, sets: str) -> dict[str, str]:
    extra = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, extra)),
        "MINICNN_BACKEND": "numpy",
        "MINICNN_TF32": "0",
        "MINICNN_TEST_SETS": sets,
        "MINICNN_THOROUGH": str(int(not options.quick)),
        "MINICNN_TEST_SEED": str(options.seed),
    }


def _start(name: str, options: argparse.Namespace, folder: Path) -> subprocess.Popen[str]:
    path, text = (SPECS, QUICK) if options.quick else ("tests", "")
    command = _pytest(path, options.only or text)
    command.append(f"--junitxml={folder / (name or 'rest')}.xml")
    with open(folder / f"{name or 'rest'}.log", "w") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=_environment(options, name), stdout=log,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def _outcome(name: str, process: Any, end: float, folder: Path) -> Iterator[Row]:
    title = name or "bound to no set"
    started = time.monotonic()
    try:
        code = process.wait(timeout=max(end - started, 1.0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = None
    log = (folder / f"{name or 'rest'}.log").read_text(errors="replace")
    row: Row = {"section": "tests", "sets": title, "outcome": "passed"}
    if code not in (0, 5):  # 5: nothing was selected
        row["outcome"] = "failed"
        row["last line"] = "stopped: out of time" if code is None else _last(log)
    yield row | _counts(folder / f"{name or 'rest'}.xml")
    for test in _failed(log):
        yield {"section": "failed tests", "sets": title, "test": test}


def _counts(file: Path) -> Row:
    if not file.exists():
        return {}
    suite = next(ET.parse(file).getroot().iter("testsuite"))
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    return counts | {"seconds": float(suite.get("time", 0))}


def _failed(log: str) -> list[str]:
    lines = [line for line in log.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return [line[:300] for line in lines[:50]]


def _last(log: str) -> str:
    lines = log.strip().splitlines()
    return lines[-1][:200] if lines else ""


def _sanitized(options: argparse.Namespace, sets: list[str]) -> Iterator[Row]:
    tool = shutil.which("compute-sanitizer")
    if tool is None or not sets:
        reason = "compute-sanitizer is not installed" if tool is None else "no set can be used"
        yield {"section": "compute-sanitizer", "tool": "all", "outcome": "left out", "why": reason}
        return
    text = f"test_spec and float32 and ({SANITIZED})"
    for name in TOOLS:
        left = options.deadline - time.monotonic()
        if left < 20:
            yield {"section": "compute-sanitizer", "tool": name, "outcome": "not reached"}
            continue
        command = [tool, "--tool", name, "--error-exitcode", "99", *_pytest(SPECS, text)]
        started = time.monotonic()
        row: Row = {"section": "compute-sanitizer", "tool": name}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=_environment(options, sets[0]), timeout=left,
                capture_output=True, text=True, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            yield row | {"outcome": "stopped: out of time", "seconds": left}
            continue
        lines = [line for line in done.stdout.splitlines() if "ERROR SUMMARY" in line]
        outcome = {0: "passed", 99: "failed"}.get(done.returncode, "failed")
        yield row | {
            "outcome": outcome,
            "summary": (lines or [_last(done.stdout + done.stderr)])[-1],
            "seconds": time.monotonic() - started,
        }
