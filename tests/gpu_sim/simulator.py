"""Run the cases in Numba's simulator: ``python -m gpu_sim.simulator cases`` or ``faults``.

Whatever is new memory is filled with NaN first, shared memory too, so that a number that no thread
wrote shows up in the result.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from gpu_sim.cases import CASES, Case
from gpu_sim.checks import CHECKS
from gpu_sim.faults import FAULTS, plant
from minicnn.testing.tolerance import CheckError, assert_close
from minicnn_kernels.reference import Kernels


def poisoned(shape: Any, dtype: Any = float, **rest: Any) -> np.ndarray:
    """np.empty, filled with NaN, or with 99."""
    array = np.ndarray(shape, dtype)
    array.fill(np.nan if array.dtype.kind == "f" else np.array(99).astype(array.dtype))
    return array


def kernels() -> Kernels:
    """The set over NumPy arrays, in strict mode: nothing may fall back."""
    module = importlib.import_module("minicnn_kernels.numba_cuda.kernels")
    found = object.__new__(module.NumbaCudaKernels)
    Kernels.__init__(found, np, strict=True)
    return found


def wide(value: Any) -> Any:
    """Arguments as float64, in copies."""
    if type(value) in (list, tuple):
        return type(value)(wide(v) for v in value)
    if isinstance(value, np.ndarray):
        return value.astype(np.float64 if value.dtype == np.float32 else value.dtype)
    return value


def arrays_of(values: Any) -> list[np.ndarray]:
    if isinstance(values, (list, tuple)):
        return [a for value in values for a in arrays_of(value)]
    return [values] if isinstance(values, (np.ndarray, np.generic)) else []


def check(found: Kernels, case: Case) -> None:
    """Raise `CheckError` where the result of the case, or what it did to its arguments, differs."""
    args, exact = case.build(), wide(case.build())
    before = [np.copy(a) for a in arrays_of(args)]
    with np.errstate(all="ignore"):
        result = getattr(found, case.primitive)(*args)
        expected = getattr(Kernels(np), case.primitive)(*exact)
    if expected is None:
        pairs = zip(arrays_of(args), arrays_of(exact), strict=True)
    else:
        pairs = zip(arrays_of(result), arrays_of(expected), strict=True)
        for argument, copy in zip(arrays_of(args), before, strict=True):
            np.testing.assert_array_equal(argument, copy, "an argument was changed")
    for ours, theirs in pairs:
        if ours.ndim or ours.dtype != np.float64:  # a number, which is float64 for every type
            assert ours.dtype == (np.float32 if theirs.dtype == np.float64 else theirs.dtype)
        assert_close(ours, theirs, terms=case.terms, condition=case.condition)


def verdict(run: Callable[[], None]) -> str | None:
    """None, or in words what was found wrong."""
    try:
        run()
    except (AssertionError, CheckError, IndexError, ValueError, ZeroDivisionError) as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    return None


def all_runs(found: Kernels) -> dict[str, Callable[[], None]]:
    """Everything to try with a kernel set, by name."""
    runs = {name: functools.partial(check, found, case) for name, case in CASES.items()}
    return runs | {name: functools.partial(test, found) for name, test in CHECKS.items()}


def run_cases() -> dict[str, str | None]:
    return {name: verdict(run) for name, run in all_runs(kernels()).items()}


def run_faults() -> dict[str, str | None]:
    """What the cases of each fault say; None would mean that the fault went unseen."""
    verdicts: dict[str, str | None] = {}
    for name, fault in FAULTS.items():
        with plant(fault):
            runs = all_runs(kernels())
            said = [verdict(runs[case]) for case in fault.cases]
            verdicts[name] = next((words for words in said if words is not None), None)
    return verdicts


if __name__ == "__main__":
    np.empty = poisoned
    warnings.filterwarnings("ignore", "overflow encountered in scalar", RuntimeWarning)
    warnings.filterwarnings("ignore", "invalid value encountered in scalar", RuntimeWarning)
    print(json.dumps(run_cases() if sys.argv[1] == "cases" else run_faults()))
