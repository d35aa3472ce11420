"""One library in a process of its own, driven by lines of JSON: ``worker.py LIBRARY``.

The worker says first which versions it runs; then it answers requests, one line each:

    {"do": "build", "network": ..., "batch": ..., "training": ..., "threads": ...}  -> {}
    {"do": "step"}      run one step, or with "least" steps for so many seconds
                        -> {"seconds": ...}   the mean time of a step
    {"do": "logits"}    without dropout -> {"logits": [[...], ...]}
    {"do": "memory"}    -> {"before": ..., "peak": ...}   bytes resident before the first step; most
    {"do": "quit"}

What goes wrong is an answer too: {"error": "..."}. The channel is a copy of the standard output;
the output itself leads to the errors, so that nothing that a library prints can disturb it.

Before it counts memory, a worker rehearses: it builds the network, runs one step and drops both, so
that the machine code that some libraries load with the package and others with the first step is
counted for all of them in the same way, as there before the first step.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))  # timed_networks.py

from task import NotWritten, Task

PEERS = {  # library -> (module beside this file, class)
    "minicnn": ("minicnn_peer", "MinicnnPeer"),
    "torch": ("torch_peer", "TorchPeer"),
    "compile": ("torch_peer", "CompiledPeer"),
    "chainer": ("chainer_peer", "ChainerPeer"),
    "mygrad": ("mygrad_peer", "MygradPeer"),
    "dezero": ("dezero_peer", "DezeroPeer"),
    "tinygrad": ("tinygrad_peer", "TinygradPeer"),
}


class Worker:
    """Answers the requests with one peer: a class with ``versions``, ``step`` and ``logits``."""

    def __init__(self, peer_class: Any) -> None:
        self.peer_class = peer_class
        self.before: int | None = None

    def build(self, network: str, batch: int, training: bool, threads: int) -> dict[str, Any]:
        task = Task(network, batch, training, threads)
        with ThreadPoolExecutor(1) as rehearsal:  # what a library keeps for a thread goes with it
            rehearsal.submit(self._rehearse, task).result()
        self.peer = self.peer_class(task)
        give_back_freed_memory()
        reset_peak()
        self.before = resident("VmRSS")
        return {}

    def _rehearse(self, task: Task) -> None:
        """Load or compile the code of a step, which is no part of the memory of one."""
        self.peer_class(task).step()

    def step(self, least: float = 0.0) -> dict[str, Any]:
        started, taken, count = time.perf_counter(), 0.0, 0
        while not count or taken < least:
            self.peer.step()
            taken = time.perf_counter() - started
            count += 1
        return {"seconds": taken / count}

    def logits(self) -> dict[str, Any]:
        return {"logits": self.peer.logits().tolist()}

    def memory(self) -> dict[str, Any]:
        return {"before": self.before, "peak": resident("VmHWM")}


def resident(entry: str) -> int | None:
    """Bytes of this process in physical memory, now (VmRSS) or at most (VmHWM); Linux only."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(entry)), None)


def give_back_freed_memory() -> None:
    """Return what is freed to the system, in whatever way the C library is told to keep it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def reset_peak() -> None:
    """Let VmHWM start again from here: building a network is no part of a step."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # then the peak includes the building
        return


def answer(request: dict[str, Any], worker: Worker) -> dict[str, Any]:
    """What the worker says to a request; an exception becomes an answer."""
    action: Callable[..., dict[str, Any]] = getattr(worker, request.pop("do"))
    try:
        return action(**request)
    except NotWritten as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": in_one_line(error)}


def in_one_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def main() -> None:
    """Load the library, then answer until told to quit or until nobody asks any more."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    module, name = PEERS[sys.argv[1]]
    try:
        peer_class = getattr(importlib.import_module(module), name)
    except Exception as error:
        print(json.dumps({"error": in_one_line(error)}), file=channel)
        return
    versions = {"Python": platform.python_version(), **peer_class.versions()}
    print(json.dumps({"versions": versions}), file=channel)
    worker = Worker(peer_class)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            return
        print(json.dumps(answer(request, worker)), file=channel)


if __name__ == "__main__":
    main()
