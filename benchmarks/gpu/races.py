"""Whole training steps beside PyTorch's, interleaved in one process on one device.

All contenders train the same network from the same weights on the same batch, with TF32 on in both
libraries or off in both. Their losses are compared step by step before anything is timed. A round
gives each in turn as many steps as take a few hundredths of a second, and waits for the device only
at their end, as a training loop does that reads the loss now and then; the time of a step is the
median over the rounds. Memory is what the device has less free after the first steps than before
the contender was built.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import cupy
import device
import numpy as np
import torch_calls
from contenders import OURS, THEIRS, LeftOut, Work
from epoch import epochs
from rates import TF32_EPS
from sheet import Row
from timing import quartiles

from minicnn.testing.tolerance import tolerance
from minicnn_kernels import registry

ROUNDS = 15
ROUND_SECONDS = 0.05
COMPARED = 10  # losses; the last ones come from a replay
WORKS = (("notes_cnn", 128), ("notes_cnn", 512), ("notes_cnn", 2048), ("resnet20", 256),
         ("resnet50", 64))  # fmt: skip
QUICK_WORKS = (("tiny", 2),)


def run(options: argparse.Namespace) -> Iterator[Row]:
    """Every network, then its bars."""
    usable = [s for s in options.sets if registry.availability()[s] is None]
    if usable:
        registry.use_backend(usable[0])
    yield {"section": "kernels", "set": registry.selected("cuda")}
    torch = torch_calls.library(options)
    if torch is None:
        yield {"section": "PyTorch", "version": "not here: only our own times"}
    else:
        settings = torch_calls.set_tf32(torch, not options.no_tf32)
        yield {"section": "PyTorch", "version": torch.__version__, **settings}
    for work in _works(options):
        if time.monotonic() > options.deadline:
            yield {"section": "not reached", "network": work.network, "batch": work.batch}
            continue
        rows = list(Race(work, torch, options).rows())
        yield from rows
        yield from bars(work, {row["by"]: row for row in rows if "milliseconds" in row})
    if time.monotonic() < options.deadline and options.only in "fashion-mnist epoch":
        yield from epochs(options)


def _works(options: argparse.Namespace) -> list[Work]:
    works = [Work(*entry) for entry in (QUICK_WORKS if options.quick else WORKS)]
    return [work for work in works if options.only in work.network]


class Race:
    """One network and batch."""

    def __init__(self, work: Work, torch: Any, options: argparse.Namespace) -> None:
        self.work, self.torch, self.options = work, torch, options
        self.rounds = 2 if options.quick else ROUNDS

    def rows(self) -> Iterator[Row]:
        """What each contender took, or why it did not run."""
        head = {"section": "training", "network": self.work.network, "batch": self.work.batch}
        found: dict[str, Row] = {}
        contenders = self._built(found)
        times = self._times(contenders)
        for name, taken in times.items():
            low, high = quartiles(taken)
            found[name] |= {
                "milliseconds": statistics.median(taken) * 1e3,
                "quartiles ms": f"{low * 1e3:.4g} to {high * 1e3:.4g}",
                "images/s": self.work.batch / statistics.median(taken),
            }
        contenders.clear()
        free_memory(self.torch)
        yield from ({**head, "by": name, **row} for name, row in found.items())

    def _built(self, found: dict[str, Row]) -> dict[str, Any]:
        """The contenders that run and compute the same; ``found`` gets a row for each."""
        contenders: dict[str, Any] = {}
        first: list[float] | None = None
        makers: list[tuple[str, Callable[[], Any]]] = [
            (kind.name, lambda k=kind: k(self.work)) for kind in OURS
        ]
        if self.torch is not None:
            makers += [(kind.name, lambda k=kind: k(self.work, self.torch)) for kind in THEIRS]
        for name, make in makers:
            free_memory(self.torch)
            before = cupy.cuda.runtime.memGetInfo()[0]
            try:
                contender = make()
                losses = _first_losses(contender)
            except LeftOut as reason:
                found[name] = {"outcome": f"left out: {reason}"}
                continue
            except Exception as error:
                text = (str(error).strip().splitlines() or [""])[0]
                found[name] = {"error": f"{type(error).__name__}: {text[:200]}"}
                continue
            taken = before - cupy.cuda.runtime.memGetInfo()[0]
            found[name] = {"first loss": losses[0], "memory GB": taken / 1e9}
            first = losses if first is None else first
            wrong = self._disagreement(losses, first)
            if wrong:
                found[name]["error"] = wrong
            else:
                contenders[name] = contender
        return contenders

    def _disagreement(self, losses: list[float], expected: list[float]) -> str | None:
        """What is wrong with the losses of the first steps; None where rounding explains it."""
        scale = max(1.0, *map(abs, expected))
        allowed = tolerance(np.float32, self.work.terms(), scale)
        if not self.options.no_tf32:
            allowed += 8 * TF32_EPS * self.work.layers() ** 0.5 * scale
        wrong = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
        return None if wrong <= allowed else f"losses differ by {wrong:.2g}, allowed {allowed:.2g}"

    def _times(self, contenders: dict[str, Any]) -> dict[str, list[float]]:
        calls = {name: self._calls(contender) for name, contender in contenders.items()}
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(self.rounds):
            for name, contender in contenders.items():
                steps = calls[name] * contender.steps
                times[name].append(_seconds(contender, calls[name]) / steps)
        return times

    def _calls(self, contender: Any) -> int:
        """How many calls fill a round."""
        if self.options.quick:
            return 1
        return max(1, min(200, round(ROUND_SECONDS / _seconds(contender, 1))))


def _first_losses(contender: Any) -> list[float]:
    losses: list[float] = []
    while len(losses) < COMPARED:
        losses += contender.values(contender.call())
    return losses[:COMPARED]


def _seconds(contender: Any, calls: int) -> float:
    device.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        contender.call()
    device.synchronize()
    return time.perf_counter() - started


def free_memory(torch: Any) -> None:
    """Give back what both libraries keep for later."""
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    if torch is not None and torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def bars(work: Work, found: dict[str, Row]) -> Iterator[Row]:
    """The aims, beside what was measured: PyTorch's time divided by ours, at least so much."""
    ours = [row["milliseconds"] for name, row in found.items() if name.startswith("minicnn")]
    if not ours:
        return
    graphs = min(
        (row["milliseconds"] for name, row in found.items() if "CUDA graph" in name), default=None
    )
    eager = found["torch"]["milliseconds"] if "torch" in found else None
    wanted = {
        "notes_cnn": (("torch", eager, 3.0), ("torch under CUDA graphs", graphs, 1 / 1.3)),
        "resnet20": (("torch", eager, 1.0),),
        "resnet50": (("torch", eager, 0.5),),
        "tiny": (("torch", eager, 0.0),),
    }
    for name, theirs, bar in wanted[work.network]:
        if theirs is None:
            continue
        ratio = theirs / min(ours)
        row = {"section": "bars", "network": work.network, "batch": work.batch, "beside": name}
        yield {**row, "ratio": ratio, "bar": bar, "outcome": "pass" if ratio >= bar else "short"}
