"""Each kernel at sizes that occupy the device, beside what the device can do and beside PyTorch.

A kernel either moves memory or computes. What moves memory is measured in bytes a second, read once
and written once, as a share of the copy rate measured here; the aim is 70 %. A convolution or
product is measured in operations a second, those of the definition, beside PyTorch's, which calls
cuDNN and cuBLAS, with the same setting of TF32, in its own layout and in channels_last.

Every call is first compared with the CuPy reference in float64 on the same arguments, and is not
timed where it differs by more than rounding explains. A set is strict: it times its own kernel or
none; only the reference itself, "cupy", is timed as one gets it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import cupy
import device
import numpy as np
import torch_calls
from rate_cases import Case, arrays, cases
from sheet import Row

from minicnn.testing.tolerance import tolerance
from minicnn_kernels import registry
from minicnn_kernels.cupy_set import CupyKernels

BAR = 0.7  # of the copy rate
REPEATS = 30
SECONDS = 1.5  # for the repeats of one call
TF32_EPS = 2.0**-10
TORCH_LAST = "torch, channels_last"


def run(options: argparse.Namespace) -> Iterator[Row]:
    """The copy rate, then every case: first the set that the device uses and PyTorch."""
    size, repeats = (2**16, 2) if options.quick else (2**29, REPEATS)
    rate = device.copy_rate(size, repeats)
    yield {"section": "copy", "GB/s": rate / 1e9, "bar": f"{BAR:.0%} of it"}
    torch = torch_calls.library(options)
    if torch is not None:
        yield {"section": "PyTorch", "version": torch.__version__} | torch_calls.set_tf32(
            torch, not options.no_tf32
        )
    yield from _sets_left_out(options)
    usable = [s for s in options.sets if registry.availability()[s] is None]
    chosen = [c for c in cases(options.quick) if options.only in f"{c.primitive} {c.size}"]
    others = [case for case in chosen if not case.main_only]
    plan = [(case, usable[:1], torch) for case in chosen]
    plan += [(case, usable[1:], None) for case in others if usable[1:]]  # last: time may run out
    for case, sets, opponent in plan:
        if time.monotonic() > options.deadline:
            yield {"section": "not reached", "primitive": case.primitive, "size": case.size}
        else:
            yield from Measured(case, rate, options).rows(sets, opponent)


def _sets_left_out(options: argparse.Namespace) -> Iterator[Row]:
    for name in options.sets:
        reason = registry.availability()[name]
        if reason is not None:
            yield {"section": "sets left out", "set": name, "reason": reason}


class Measured:
    """One case: its arguments, what is right, and the rows of all who compute it."""

    def __init__(self, case: Case, rate: float, options: argparse.Namespace) -> None:
        self.case, self.rate, self.options = case, rate, options
        self.repeats, self.seconds = (2, 1.0) if options.quick else (REPEATS, SECONDS)

    def rows(self, sets: list[str], torch: Any) -> Iterator[Row]:
        """Measure and compare."""
        cupy.get_default_memory_pool().free_all_blocks()
        arguments = self._fresh()
        right = self._right(arguments)
        moved = self.case.bytes_moved(arguments, right)
        self.bytes = moved - sum(a.nbytes // 2 for a in right)  # those of float64 count as float32
        copies = device.rotation(sum(a.nbytes for a in arrays(arguments)))
        rotated = [arguments, *(_copied(arguments) for _ in range(copies - 1))]
        found = {name: self._own(name, arguments, right, rotated) for name in sets}
        if torch is not None and self.case.primitive in (calls := torch_calls.calls(torch)):
            found |= self._torch(torch, calls[self.case.primitive], right, rotated)
        yield from self._compared(found)

    def _fresh(self) -> tuple[Any, ...]:
        return self.case.make(cupy, np.random.default_rng(0))

    def _right(self, arguments: tuple[Any, ...]) -> list[Any]:
        reference = CupyKernels()
        return self.case.results(reference, _copied(arguments, np.float64))

    def _own(
        self, name: str, arguments: tuple[Any, ...], right: list[Any], rotated: list[Any]
    ) -> Row:
        k = registry.load(name, strict=name != "cupy")
        if name != "cupy" and self.case.primitive not in k.overridden():
            return {"outcome": "the reference's"}
        try:
            wrong = self._difference(self.case.results(k, _copied(arguments)), right)
            if wrong:
                return {"error": wrong}
            taken = device.times(
                lambda i: self.case.results(k, rotated[i % len(rotated)]),
                self.repeats, self.seconds,
            )  # fmt: skip
        except Exception as error:
            return {"error": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}
        return self._rates(taken)

    def _torch(self, torch: Any, call: Any, right: list[Any], rotated: list[Any]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        layouts = ["torch", TORCH_LAST] if self.case.primitive.startswith("conv2d") else ["torch"]
        for layout in layouts:
            tensors = [
                tuple(_tensor(torch, a, layout == TORCH_LAST) for a in one) for one in rotated
            ]
            try:
                with torch.no_grad():
                    result = torch_calls.to_cupy(call(*tensors[0]))
                    wrong = self._difference([result], right[:1])
                    taken = torch_calls.times(
                        torch, lambda i, t=tensors: call(*t[i % len(t)]),
                        self.repeats, self.seconds,
                    )  # fmt: skip
            except Exception as error:
                found[layout] = {"error": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}
                continue
            found[layout] = {"error": wrong} if wrong else self._rates(taken)
        return found

    def _difference(self, results: list[Any], right: list[Any]) -> str | None:
        """What is wrong with the results, in words; None where rounding explains it."""
        for number, (result, exact) in enumerate(zip(results, right, strict=True)):
            if result.shape != exact.shape:
                return f"result {number} is {result.shape}, not {exact.shape}"
            if exact.dtype.kind != "f":
                if not bool((result == exact).all()):
                    return f"result {number} is not the reference's"
                continue
            scale = float(cupy.abs(exact).max()) if exact.size else 0.0
            allowed = tolerance(np.float32, self.case.terms, scale)
            if self.case.tf32 and not self.options.no_tf32:
                allowed += 8 * TF32_EPS * scale
            wrong = float(cupy.abs(result - exact).max()) if exact.size else 0.0
            if not wrong <= allowed:
                return f"result {number} is off by {wrong:.2g}, allowed is {allowed:.2g}"
        return None

    def _rates(self, taken: list[float]) -> Row:
        median = statistics.median(taken)
        row: Row = {"microseconds": median * 1e6, "calls": len(taken)}
        if self.case.operations:
            return row | {"TFLOP/s": self.case.operations / median / 1e12}
        share = self.bytes / median / self.rate
        row |= {"GB/s": self.bytes / median / 1e9, "of the copy rate": share}
        return row | {"bar": "pass" if share >= BAR else "short"}

    def _compared(self, found: dict[str, Row]) -> Iterator[Row]:
        """The rows, with PyTorch's best time by each one's: above 1 is faster than PyTorch."""
        section = "products" if self.case.operations else "memory"
        theirs = [
            row["microseconds"]
            for name, row in found.items()
            if name.startswith("torch") and "microseconds" in row
        ]
        for name, row in found.items():
            if theirs and "microseconds" in row:
                row["torch / this"] = min(theirs) / row["microseconds"]
            head = {"primitive": self.case.primitive, "size": self.case.size, "by": name}
            yield {"section": section, **head, **row}


def _copied(arguments: tuple[Any, ...], dtype: Any = None) -> tuple[Any, ...]:
    """Other memory with the same numbers; those of float32 in another dtype where asked for."""

    def copied(value: Any) -> Any:
        if isinstance(value, list):
            return [copied(v) for v in value]
        if not isinstance(value, cupy.ndarray):
            return value
        return value.astype(dtype) if dtype and value.dtype == np.float32 else value.copy()

    return tuple(copied(a) for a in arguments)


def _tensor(torch: Any, value: Any, last: bool) -> Any:
    if not isinstance(value, cupy.ndarray):
        return value
    tensor = torch_calls.tensor(torch, value)
    return torch_calls.channels_last(torch, tensor) if last else tensor
