"""Whole training and inference steps of minicnn and other libraries, interleaved in one run.

    python benchmarks/versus.py                                  # everything that is installed
    python benchmarks/versus.py --quick                          # a minute: does it work here?
    python benchmarks/versus.py --networks vgg16 --peers torch compile --modes training
    python benchmarks/versus.py --python chainer=/path/to/venv/bin/python

Each library runs in a process of its own, because libraries that share one also share its memory,
its threads and each other's settings. A round asks each process in turn for one step, or for a
tenth of a second of short ones, so that only one works at a time and a slow minute of the machine
hits all alike. A single step of a millisecond would mostly tell how fast a process and its threads
wake up. Before each turn is a pause, because OpenBLAS's idle threads ask for work for a while
before they sleep, and whoever comes next would share the cores with them. All get the same weights,
batch and number of threads, idle threads that sleep, and the same settings of the C library's
allocator: freed memory is kept for the next step. minicnn asks for that itself; `--allocator
default` leaves the others what they have without it.

Nothing is timed that is not right: the gradients of minicnn are compared with PyTorch's and with
the truth in float64 (peers/agreement.py), the outputs of all others with minicnn's. Memory is what
the process holds resident at most while it steps, less what it held before the first step: maps,
gradients and the optimizer's memory. Code is loaded and compiled before, by a rehearsal.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from peers.task import NOTES_CNN
from report import machine, write
from timed_networks import NETWORKS
from timing import quartiles
from versus_page import page, show
from workers import PeerError, Worker, environment, pythons

from minicnn.commands.parser import Parser
from minicnn.testing.tolerance import tolerance
from minicnn_kernels import threads

HERE = Path(__file__).parent
LIBRARIES = ["minicnn", "torch", "compile", "chainer", "mygrad", "dezero", "tinygrad"]
NOTES_ONLY = {"chainer", "mygrad", "dezero", "tinygrad"}  # written by hand for one network
DEFAULT_PEERS = [name for name in LIBRARIES if name != "compile"]
MODES = {"training": 0, "inference-1": 1, "inference-32": 32}  # batch; 0 means the network's own
ROUND = 0.1  # seconds at least that a library works at a time
PAUSE = 0.1  # seconds before it, in which the threads of the one before stop waiting for work
WARM_UP = 3  # steps: the first compiles and fills caches, tinygrad records the second
QUICK = {"networks": ["notes_cnn"], "rounds": 3}


class Comparison:
    """One run: its options, and the results so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.pythons = pythons(options.python, LIBRARIES)
        self.results: dict[str, Any] = {
            **machine(options.threads),
            "allocator": options.allocator,
            "rounds": options.rounds,
            "versions": {},
            "gradients": {},
            "rows": [],
            "left_out": [],
        }
        self.peers = ["minicnn", *(p for p in options.peers if p != "minicnn")]

    def run(self) -> dict[str, Any]:
        """Every network in every mode."""
        self._find_peers()
        for network in self.options.networks:
            if "torch" in self.peers:
                self._compare_gradients(network)
            for mode in self.options.modes:
                own = NETWORKS[network].batch if mode == "training" else MODES[mode]
                batch = self.options.batch if mode == "training" and self.options.batch else own
                for row in self._measure(network, mode, batch):
                    self.results["rows"].append(row)
                    print(show(row), flush=True)
        return self.results

    def _leave_out(self, library: str, what: str, reason: str) -> None:
        print(f"{library} left out of {what}: {reason}", flush=True)
        entry = {"library": library, "what": what, "reason": reason}
        self.results["left_out"].append(entry)

    def _start(self, library: str) -> Worker:
        keep = self.options.allocator == "keep"
        variables = environment(self.options.threads, keep)
        return Worker(library, self.pythons[library], variables)

    def _find_peers(self) -> None:
        for library in list(self.peers):
            try:
                with self._start(library) as worker:
                    self.results["versions"][library] = worker.versions
            except (PeerError, OSError) as error:
                self.peers.remove(library)
                self._leave_out(library, "everything", str(error))
        if "minicnn" not in self.peers:
            raise SystemExit("versus.py: minicnn itself does not run here; see above.")

    def _peers_of(self, network: str) -> list[str]:
        return [p for p in self.peers if network == "notes_cnn" or p not in NOTES_ONLY]

    def _compare_gradients(self, network: str) -> None:
        if self.pythons["torch"] != self.pythons["minicnn"]:
            print(f"{network}: gradients not compared, PyTorch runs under another interpreter")
            return
        script = HERE / "peers" / "agreement.py"
        done = subprocess.run(
            [sys.executable, str(script), network],
            env=environment(self.options.threads, True),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout)
        self.results["gradients"][network] = found
        errors = f"by {found['minicnn']:.1e} of the largest, PyTorch's by {found['torch']:.1e}"
        if not found["agrees"]:
            raise SystemExit(f"versus.py: {network}: gradients are off {errors}.")
        print(f"{network}: gradients off {errors}", flush=True)

    def _measure(self, network: str, mode: str, batch: int) -> list[dict[str, Any]]:
        """One row for each library that does this network, minicnn first."""
        what = f"{network}, {mode}"
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}
            logits: np.ndarray | None = None
            for library in self._peers_of(network):
                try:
                    worker = stack.enter_context(self._start(library))
                    found = self._prepare(worker, network, mode, batch)
                except PeerError as error:
                    self._failed(library, what, error)
                    continue
                logits = found if logits is None else logits
                check_outputs(f"{library}, {what}", network, found, logits)
                workers[library] = worker
            times: dict[str, list[float]] = {library: [] for library in workers}
            for _ in range(self.options.rounds):
                for library, answer in self._ask_each(workers, what, "step", least=ROUND):
                    times[library].append(answer["seconds"])
            memory = dict(self._ask_each(workers, what, "memory"))
        common = {"network": network, "mode": mode, "batch": batch}
        return [common | row(library, times, memory[library]) for library in memory]

    def _ask_each(
        self, workers: dict[str, Worker], what: str, action: str, **arguments: Any
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """One answer of each worker, in turn; one that fails is left out from then on."""
        for library, worker in list(workers.items()):
            time.sleep(PAUSE)
            try:
                yield library, worker.ask(action, **arguments)
            except PeerError as error:
                self._failed(library, what, error)
                del workers[library]

    def _failed(self, library: str, what: str, error: PeerError) -> None:
        if library == "minicnn":
            raise SystemExit(f"versus.py: minicnn, {what}: {error}.") from error
        self._leave_out(library, what, str(error))

    def _prepare(self, worker: Worker, network: str, mode: str, batch: int) -> np.ndarray:
        """Build, warm up; -> the outputs for the batch, without dropout."""
        training = mode == "training"
        count = self.options.threads
        worker.ask("build", network=network, batch=batch, training=training, threads=count)
        for _ in range(WARM_UP):
            worker.ask("step")
        return np.asarray(worker.ask("logits")["logits"])


def row(library: str, times: dict[str, list[float]], memory: dict[str, Any]) -> dict[str, Any]:
    """What a library took; ``ratio`` is its time by minicnn's: above 1 minicnn is faster."""
    median = statistics.median(times[library])
    before, peak = memory["before"], memory["peak"]
    return {
        "library": library,
        "milliseconds": median * 1e3,
        "quartiles_ms": [q * 1e3 for q in quartiles(times[library])],
        "ratio": median / statistics.median(times["minicnn"]),
        "step_bytes": None if before is None or peak is None else peak - before,
        "peak_bytes": peak,
    }


def check_outputs(what: str, network: str, found: np.ndarray, expected: np.ndarray) -> None:
    """Stop unless two libraries agree on the logits up to the rounding of all layers together."""
    allowed = tolerance(np.float32, terms_of(network), float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max())
    if not difference <= allowed:
        raise SystemExit(f"versus.py: {what}: outputs differ by {difference:.2g} > {allowed:.2g}.")


@functools.cache
def terms_of(network: str) -> int:
    """Products that are added up between an image and its logits, all layers together."""
    from minicnn import functional, nn

    if network == "notes_cnn":
        shapes = list(NOTES_CNN.values())
    else:
        model = NETWORKS[network].build(nn, functional.cat)
        shapes = [p.shape for p in model.parameters()]
    return sum(int(np.prod(shape[1:])) for shape in shapes if len(shape) > 1)


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; a mistake ends the program with one sentence."""
    parser = Parser(prog="versus.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, metavar="network")
    parser.add_argument("--peers", nargs="+", choices=LIBRARIES, metavar="library")
    parser.add_argument("--modes", nargs="+", choices=MODES, metavar="mode", default=list(MODES))
    parser.add_argument("--batch", type=int, help="of training; default: the network's own")
    parser.add_argument("--rounds", type=int, help="turns of each library (default 15)")
    parser.add_argument("--threads", type=int, default=threads.get_num_threads())
    parser.add_argument("--allocator", choices=("keep", "default"), default="keep")
    parser.add_argument(
        "--python", action="append", default=[], metavar="LIBRARY=PATH", help="its interpreter"
    )
    parser.add_argument("--results", type=Path, help="folder (default: results beside this file)")
    parser.add_argument("--quick", action="store_true", help="one small network; not kept")
    options = parser.parse_args(arguments)
    quick = QUICK if options.quick else {"networks": list(NETWORKS), "rounds": 15}
    options.networks = options.networks or quick["networks"]
    options.rounds = quick["rounds"] if options.rounds is None else options.rounds
    options.peers = options.peers or DEFAULT_PEERS
    for name in ("rounds", "threads", "batch"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} is {value}; give a whole number from 1 up.")
    if options.threads > threads.usable_cores():
        parser.error(f"--threads is {options.threads}; there are {threads.usable_cores()} cores.")
    try:
        pythons(options.python, LIBRARIES)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments: list[str] | None = None) -> None:
    """Compare, print, write."""
    options = options_of(arguments)
    results = Comparison(options).run()
    text = page(results)
    print("\n" + text)
    if options.results or not options.quick:
        write(options.results or HERE / "results", "versus", results, text)


if __name__ == "__main__":
    main()
