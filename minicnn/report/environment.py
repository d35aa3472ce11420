"""On which machine, with which versions and data a run was trained: environment.json in its folder.

A report may be written again years later on another machine, so what it says about the training is
noted down when the training starts. A run that is resumed gets another entry: it may go on
elsewhere.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minicnn.training.files import atomic_write
from minicnn.version import __version__
from minicnn_kernels import registry, threads

if TYPE_CHECKING:
    from minicnn.training.run import Run

FILE = "environment.json"
PACKAGES = ("numpy", "numba", "pillow", "cupy-cuda13x")


def record(run: Run) -> None:
    """Add an entry about this process to the run's folder; called before the training starts."""
    entries = sessions(run.folder)
    entries.append({"from step": f"{run.trainer.position.step:,}", **_data(run), **_machine(run)})
    atomic_write(run.folder / FILE, json.dumps(entries, indent=2) + "\n")


def sessions(folder: Path) -> list[dict[str, str]]:
    """What was noted, one entry for each start; empty where nothing was, or nothing legible."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(found, list):
        return []
    return [{str(k): str(v) for k, v in entry.items()} for entry in found
            if isinstance(entry, dict)]  # fmt: skip


def _data(run: Run) -> dict[str, str]:
    held_out = len(run.validation.dataset) if run.validation else 0
    dataset = run.train.dataset
    return {
        "data": f"{run.config.data}, {getattr(dataset, 'source', '')}".rstrip(", "),
        "training images": f"{len(dataset):,}",
        "validation images": f"{held_out:,}",
        "epochs planned": f"{run.epochs}",
    }


def _machine(run: Run) -> dict[str, str]:
    found = {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "minicnn": __version__,
        "kernels": run.config.backend,
        "threads": f"{threads.get_num_threads()} of {threads.usable_cores()} usable cores",
        "processor": processor(),
        "graphics processor": _gpu(run),
        "system": platform.platform(),
        "Python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {name: value for name, value in found.items() if value}


def processor() -> str:
    """The name of the processor, as far as the system tells.

    >>> isinstance(processor(), str)
    True
    """
    if sys.platform.startswith("linux"):
        try:
            for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()


def _gpu(run: Run) -> str:
    if registry.load(run.config.backend).device == "cpu":
        return ""
    import cupy

    properties: dict[str, Any] = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    name = properties["name"]
    return name.decode() if isinstance(name, bytes) else str(name)
