"""Everything to be measured on a machine with a GPU, in stages: ``make gpu``, or one stage alone.

    python benchmarks/gpu probe                  # versions, ceilings, launch costs, what loads
    python benchmarks/gpu tests kernels training
    python benchmarks/gpu kernels --sets cupy_cuda --only conv2d
    python benchmarks/gpu --quick                # tiny sizes: does every stage run here?

Stages that run together each get a process of their own, so that one that crashes the device's
context takes no other along, and ten minutes. Each prints its rows as they come and writes a JSON
file and a page with the date and the device into ``--results``, also when it is cut short.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(1, str(HERE.parent))  # report.py, timed_networks.py
sys.path.insert(2, str(HERE.parent / "peers"))  # task.py
os.environ.setdefault("MINICNN_BACKEND", "numpy")  # on the CPU there is nothing to compile then

from minicnn.commands.parser import Parser  # noqa: E402
from minicnn_kernels.precision import allow_tf32  # noqa: E402

STAGES = ("probe", "tests", "kernels", "training")
MODULES = {"probe": "probe", "tests": "suite", "kernels": "rates", "training": "races"}
SETS = ("cupy_cuda", "cupy", "numba_cuda")
LIMIT = 600.0  # seconds a stage may take
RESERVE = 45.0  # of which a stage keeps so many to end in order


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; a mistake ends the program with one sentence."""
    parser = Parser(prog="benchmarks/gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("stages", nargs="*", metavar="stage", help=", ".join(STAGES))
    parser.add_argument("--sets", nargs="+", choices=SETS, metavar="set", default=list(SETS))
    parser.add_argument("--only", default="", metavar="TEXT", help="kernels, networks, tests: -k")
    parser.add_argument("--no-tf32", action="store_true", help="strict float32 in both libraries")
    parser.add_argument("--no-torch", action="store_true", help="as if PyTorch were not there")
    parser.add_argument("--seed", type=int, default=0, help="other numbers for the tests' maps")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="for a stage (default 600)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, few repeats; not kept")
    parser.add_argument("--results", type=Path, help="folder (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    for stage in options.stages:
        if stage not in STAGES:
            parser.error(f"stage is {stage!r}; choose among {', '.join(STAGES)}.")
    options.stages = options.stages or list(STAGES)
    return options


def apart(options: argparse.Namespace, arguments: list[str]) -> int:
    """Run each stage in a process of its own; -> how many failed."""
    before = [None, *arguments]
    others = [
        a for a, b in zip(arguments, before, strict=False) if a not in STAGES or b == "--only"
    ]
    failed = 0
    for stage in options.stages:
        print(f"\n=== {stage}", flush=True)
        try:
            done = subprocess.run(
                [sys.executable, str(HERE), stage, *others], timeout=options.seconds + 60
            )
            failed += done.returncode != 0
        except subprocess.TimeoutExpired:
            print(f"{stage}: stopped after {options.seconds + 60:.0f} seconds", flush=True)
            failed += 1
    return failed


def run(stage: str, options: argparse.Namespace) -> int:
    """One stage in this process; -> 1 where it found a failure."""
    import device
    import sheet
    from report import machine

    allow_tf32(not options.no_tf32)
    started = time.perf_counter()
    options.deadline = time.monotonic() + max(options.seconds - RESERVE, options.seconds / 2)
    head = {**machine(os.cpu_count() or 1), **device.facts(), "tf32": not options.no_tf32}
    rows: list[dict[str, Any]] = []
    outcome: dict[str, Any] = {"stage": stage, "quick": options.quick, "complete": False}
    try:
        for row in importlib.import_module(MODULES[stage]).run(options):
            rows.append(row)
            print(sheet.line(row), flush=True)
        outcome["complete"] = True
    except KeyboardInterrupt:
        print(f"{stage}: interrupted", flush=True)
    finally:
        outcome["seconds"] = time.perf_counter() - started
        results = {**head, **outcome, "rows": rows}
        _write(stage, results, options, sheet)
    failures = [row for row in rows if row.get("error") or row.get("outcome") == "failed"]
    return int(bool(failures) or not outcome["complete"])


def _write(stage: str, results: dict[str, Any], options: argparse.Namespace, sheet: Any) -> None:
    text = _page(stage, results, sheet)
    print("\n" + text, flush=True)
    folder = options.results or (None if options.quick else HERE.parent / "results")
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"gpu-{stage}-{results['date']}-{sheet.slug(results['device'])}"
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"written: {stem}.json and {stem.name}.md", flush=True)


def _page(stage: str, results: dict[str, Any], sheet: Any) -> str:
    about = (
        f"{results['date']}, {results['device']} (compute capability "
        f"{results['compute_capability']}, {results['processors']} processors, "
        f"{results['memory_gb']:.0f} GB), driver {results['driver']}, TF32 "
        f"{'on' if results['tf32'] else 'off'}, {results['seconds']:.0f} seconds"
        f"{'' if results['complete'] else ', CUT SHORT'}"
        f"{', tiny sizes: the times mean nothing' if results['quick'] else ''}."
    )
    return "\n\n".join([f"# GPU, {stage}", about, *sheet.tables(results["rows"])]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the stages; -> 0 where nothing failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = options_of(arguments)
    try:
        import cupy

        usable = cupy.is_available()
    except ImportError:
        usable = False
    if not usable:
        print("benchmarks/gpu: CuPy finds no CUDA device here; nothing was measured.")
        return 3
    if len(options.stages) > 1:
        return int(apart(options, arguments) > 0)
    return run(options.stages[0], options)


if __name__ == "__main__":
    sys.exit(main())
