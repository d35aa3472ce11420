"""Time each kernel of the hot path at the sizes of known layers, against the machine's limits.

    python benchmarks/kernels.py
    python benchmarks/kernels.py --primitives conv2d max_pool2d --sets numba --seconds 1

Every call is first compared with the reference in float64. Then the kernel sets run in turn; the
table has the median, the spread (distance of the quarter points as a share of the median), and two
rates. GFLOP/s counts the products and sums of the definition; GB/s counts the bytes of all
arguments read once and of all results written once. The last column is the share of the limit that
the call comes closest to: the arithmetic peak or the bandwidth of main memory, both measured here
(peaks.py). Above 100 % the numbers did not come from main memory but from a cache.

The sets are strict: a primitive that a set does not implement itself is listed as such and not
timed, and arguments that its loops do not serve are an error. What a set gives to the array code by
choice, because that is as fast (see minicnn_kernels/numba_cpu/kernels.py), is timed as one gets it.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from kernel_cases import REFERENCE, Case, cases
from peaks import arithmetic, bandwidth
from report import machine, markdown_table, write
from timing import interleaved, spread

from minicnn.commands.parser import Parser
from minicnn.testing.tolerance import CheckError, assert_close
from minicnn_kernels import registry, threads
from minicnn_kernels.reference import Kernels

SETS = ("numpy", "numba")


def check(case: Case, kernels: Kernels) -> int:
    """Stop unless the results are right; -> bytes that the call moves."""
    arguments = case.arguments()
    exact = tuple(_in_float64(argument) for argument in arguments)
    expected = case.results(REFERENCE, exact)
    results = case.results(kernels, arguments)
    what = f"{case.primitive} of {kernels.name}, {case.layer}, result"
    for number, (result, right) in enumerate(zip(results, expected, strict=True)):
        if result.dtype.kind != "f":
            if not np.array_equal(result, right):
                raise CheckError(f"{what} {number} is not the reference's.")
            continue
        assert_close(result, right, terms=case.terms, what=f"{what} {number}")
    return case.bytes_moved(arguments, results)


def _in_float64(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_in_float64(array) for array in argument]
    is_map = isinstance(argument, np.ndarray) and argument.dtype == np.float32
    return argument.astype(np.float64) if is_map else argument


def measure(case: Case, sets: list[Kernels], seconds: float, limits: dict[str, float]) -> list[Any]:
    """A row for each kernel set; without times for one that has no kernel of its own."""
    own = [k for k in sets if case.primitive in k.overridden()]
    moved = [check(case, k) for k in own]
    arguments = [case.arguments() for _ in own]

    def give_threads(number: int) -> None:
        threads.give_threads_to_blas(own[number].gives_threads_to_blas)

    calls = [lambda k=k, a=a: case.results(k, a) for k, a in zip(own, arguments, strict=True)]
    taken = interleaved(calls, seconds, give_threads) if own else []
    common = {"primitive": case.primitive, "layer": case.layer}
    rows = []
    for kernels in sets:
        row: dict[str, Any] = {**common, "set": kernels.name, "milliseconds": None}
        if kernels in own:
            number = own.index(kernels)
            row |= rates(case, taken[number], moved[number], limits)
        rows.append(row)
    return rows


def rates(case: Case, taken: list[float], moved: int, limits: dict[str, float]) -> dict[str, Any]:
    """Median, spread, and what they mean."""
    median = statistics.median(taken)
    gflops, gigabytes = case.operations / median / 1e9, moved / median / 1e9
    return {
        "milliseconds": median * 1e3,
        "spread": spread(taken),
        "calls": len(taken),
        "gflops": gflops or None,
        "gigabytes_per_second": gigabytes,
        "share": max(gflops / limits["gflops"], gigabytes / limits["gigabytes_per_second"]),
    }


HEADINGS = ("primitive", "layer", "kernels", "ms", "spread", "GFLOP/s", "GB/s", "of the limit")


def cells(row: dict[str, Any]) -> list[str]:
    """A row as text."""
    names = [row["primitive"], row["layer"], row["set"]]
    if row["milliseconds"] is None:
        return [*names, "the reference's", "", "", "", ""]
    return [
        *names,
        f"{row['milliseconds']:.3f}",
        f"{row['spread']:.0%}",
        f"{row['gflops']:.1f}" if row["gflops"] else "",
        f"{row['gigabytes_per_second']:.1f}",
        f"{row['share']:.0%}",
    ]


def page(results: dict[str, Any]) -> str:
    """The Markdown page."""
    limits = results["limits"]
    return (
        "# Kernels\n\n"
        f"{results['date']}, {results['processor']}, {results['threads']} threads, float32. "
        f"Limits, measured: {limits['gflops']:.0f} GFLOP/s on numbers in the cache, "
        f"{limits['gigabytes_per_second']:.1f} GB/s to and from main memory. "
        "More than 100% is no mistake: Winograd's convolution needs fewer operations than the "
        "definition that is counted, and arrays may still lie in a cache.\n\n"
        f"{markdown_table(HEADINGS, map(cells, results['rows']), left=3)}\n"
    )


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; a mistake ends the program with one sentence."""
    known = sorted({case.primitive for case in cases()})
    parser = Parser(prog="kernels.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--primitives", nargs="+", choices=known, metavar="name", default=known)
    parser.add_argument("--sets", nargs="+", choices=SETS, metavar="set", default=list(SETS))
    parser.add_argument("--layers", default="", metavar="TEXT", help="only those that contain it")
    parser.add_argument("--threads", type=int, default=threads.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.3, help="for each call (default 0.3)")
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "results", help="folder"
    )
    options = parser.parse_args(arguments)
    if not 1 <= options.threads <= threads.usable_cores():
        parser.error(f"--threads is {options.threads}; there are {threads.usable_cores()} cores.")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Check, measure, print, write."""
    options = options_of(arguments)
    before = threads.get_num_threads()
    threads.set_num_threads(options.threads)
    try:
        results = run(options)
    finally:
        threads.set_num_threads(before)
        registry.use_backend(registry.selected("cpu"))  # gives BLAS its threads back
    write(options.results, "kernels", results, page(results))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All rows, printed on the way."""
    limits = {
        "gflops": arithmetic(options.threads),
        "gigabytes_per_second": bandwidth(),
    }
    print(f"limits: {limits['gflops']:.0f} GFLOP/s, {limits['gigabytes_per_second']:.1f} GB/s")
    sets = [registry.load(name, strict=True) for name in options.sets]
    rows = []
    for case in cases():
        if case.primitive in options.primitives and options.layers in case.layer:
            for row in measure(case, sets, options.seconds, limits):
                rows.append(row)
                print("{:26} {:28} {:6} {:>15} {:>6} {:>8} {:>7} {:>6}".format(*cells(row)))
    return {**machine(options.threads), "limits": limits, "rows": rows}


if __name__ == "__main__":
    main()
