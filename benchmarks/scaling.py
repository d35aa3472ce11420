"""How training scales over processes: measured with one and two here, on paper to 1,024 GPUs.

    .venv/bin/python benchmarks/scaling.py             # both
    .venv/bin/python benchmarks/scaling.py --paper     # the model alone, which measures nothing

Measured is `minicnn train` on the bundled sample, whole commands in turn: one process with two
threads, and two processes with one thread each. The time is the median of the epochs after the
first, as the history has it. The aim: two processes are at most 15 % slower.

The paper model is ResNet-50 on hosts with eight A100. A step consists of

- compute: the batch of one GPU over its images a second, a third of it forward, two thirds
  backward, because backward has two products for each one of forward;
- the all-reduce of the gradients in buckets, each a latency and a time for its bytes. In a *ring*
  of n GPUs every byte travels 2 (n - 1) / n times (Patarasuk and Yuan 2009), over 2 (n - 1) steps:
  the best bandwidth, and a latency that grows with n. In a *tree* the latency grows with log n, and
  every byte goes up and comes down (NCCL's double tree: Sanders, Speck and Träff 2009). NCCL takes
  the faster one, and so does the table;
- input: reading and decoding the images of a host, which runs beside the step and delays it only
  where it takes longer.

The sums run beside backward. What stays visible is the last bucket, which is only complete when
backward has ended, and whatever does not fit into backward.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

BUCKET_FIRST, BUCKET_LIMIT = 2**20, 25 * 2**20  # of minicnn.training.parallel_gradients
LIMIT = 1.15  # two processes with a thread each over one with two


@dataclass(frozen=True)
class Machine:
    """Hosts of GPUs, and what moves their gradients and their images; see SOURCES."""

    gpus: int = 8
    nvlink: float = 235e9
    network: float = 8 * 25e9
    ring_base: float = 8.4e-6
    ring_nvlink: float = 3.4e-6
    ring_network: float = 9.6e-6
    tree_nvlink: float = 28e-6
    tree_network: float = 50e-6
    tree_bandwidth: float = 40e9
    disk: float = 3e9
    cores: int = 128
    decoded: float = 100.0


@dataclass(frozen=True)
class Work:
    """One network and its data set."""

    parameters: int = 25_557_032
    images_per_second: float = 938.0
    image_bytes: float = 147_897_477_120 / 1_281_167


SOURCES = """\
parameters: minicnn summary resnet50. Images a second of one GPU: 938, A100 80GB, TF32
  (NVIDIA/DeepLearningExamples, PyTorch/Classification/ConvNets/resnet50v1.5, README, 21.03); taken
  to hold for every batch per GPU in the table. The same page has 7,248 for eight.
Bandwidth of a ring: at most 235 GB/s over NVLink, and between hosts 8 adapters of 200 Gb/s (HDR
  InfiniBand, one for each GPU of a DGX A100). Tree: 80 GB/s, each byte up and down. Latencies of a
  step: ring 3.4 us over NVLink, 9.6 us over the network, 8.4 us to start; tree 28 and 50 us. All of
  these but the adapters: what NCCL itself reckons with (NVIDIA/nccl, src/graph/tuning.cc,
  protocol "Simple").
Images: ImageNet's training set, 147,897,477,120 bytes of 1,281,167 files. Reading 3 GB/s a host and
  decoding 100 images/s on each of 128 cores are ASSUMED; measure them on the machine meant."""


def ring_seconds(nbytes: float, n: int, machine: Machine) -> float:
    """An all-reduce in a ring through all GPUs, host by host."""
    if n == 1:
        return 0.0
    hosts = math.ceil(n / machine.gpus)
    between = 2 * (hosts - 1)
    within = 2 * (n - 1) - between
    latency = machine.ring_base + within * machine.ring_nvlink + between * machine.ring_network
    bandwidth = min(machine.nvlink, machine.network) if hosts > 1 else machine.nvlink
    return latency + 2 * (n - 1) / n * nbytes / bandwidth


def tree_seconds(nbytes: float, n: int, machine: Machine) -> float:
    """An all-reduce in a tree of hosts, the GPUs of each in a chain."""
    if n == 1:
        return 0.0
    hosts = math.ceil(n / machine.gpus)
    chain = math.ceil(n / hosts) - 1
    steps = chain * machine.tree_nvlink + math.log2(hosts) * machine.tree_network
    return 2 * steps + nbytes / machine.tree_bandwidth


def buckets(nbytes: float) -> list[float]:
    """The sizes in which gradients go out, as far as single parameters fit them exactly."""
    first = min(nbytes, BUCKET_FIRST)
    full, rest = divmod(nbytes - first, BUCKET_LIMIT)
    return [first, *[float(BUCKET_LIMIT)] * int(full), *([rest] if rest else [])]


def step(n: int, batch: int, machine: Machine, work: Work) -> dict[str, float]:
    """Seconds of the parts of a step of n GPUs with ``batch`` images each."""
    compute = batch / work.images_per_second
    sizes = buckets(4.0 * work.parameters)
    ring = [ring_seconds(size, n, machine) for size in sizes]
    tree = [tree_seconds(size, n, machine) for size in sizes]
    fastest = [min(pair) for pair in zip(ring, tree, strict=True)]
    visible = max(sum(fastest) - compute * 2 / 3, fastest[-1])
    images = batch * min(n, machine.gpus)
    reading, decoding = images * work.image_bytes / machine.disk, images / machine.decoded
    fed = max(reading, decoding / machine.cores)
    whole = max(compute + visible, fed)
    return {
        "compute": compute,
        "ring": sum(ring),
        "tree": sum(tree),
        "visible": visible,
        "input": fed,
        "step": whole,
        "images/s": n * batch / whole,
        "efficiency": compute / whole,
    }


def paper_table(
    worlds: tuple[int, ...] = (1, 8, 64, 1024),
    batches: tuple[int, ...] = (256, 32),
    machine: Machine | None = None,
    work: Work | None = None,
) -> str:
    """The model as a table: milliseconds of each part of a step."""
    machine, work = machine or Machine(), work or Work()
    lines = [
        "| GPUs | batch each | compute | ring | tree | not hidden | input | step | images/s "
        "| efficiency |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for batch in batches:
        for n in worlds:
            found = step(n, batch, machine, work)
            times = [found[k] for k in ("compute", "ring", "tree", "visible", "input", "step")]
            cells = [f"{n:,}", str(batch), *(f"{1000 * t:.2f}" for t in times)]
            cells += [f"{found['images/s']:,.0f}", f"{found['efficiency']:.1%}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measured(processes: int, threads: int, options: argparse.Namespace) -> float:
    """Median seconds of an epoch, without the first."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "minicnn", "train", "--source=sample", "--name=run"]
        command += [f"--output={folder}", f"--threads={threads}", f"--model={options.model}"]
        command += [f"--epochs={options.epochs}", f"--batch-size={options.batch_size}"]
        if processes > 1:
            command = [_mpiexec(), "-n", str(processes), *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = Path(folder, "run", "history.jsonl").read_text().splitlines()
        return statistics.median(json.loads(line)["seconds"] for line in lines[1:])


def measured_table(options: argparse.Namespace) -> str:
    """One process and two, in turn, ``rounds`` times."""
    kinds = {"1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(options.rounds):
        for name, (processes, threads) in kinds.items():
            times[name].append(measured(processes, threads, options))
    one, two = (statistics.median(times[name]) for name in kinds)
    lines = [f"{name}: {statistics.median(t):.3f} s an epoch" for name, t in times.items()]
    return "\n".join([*lines, f"ratio {two / one:.2f}, aim at most {LIMIT}"])


def _mpiexec() -> str:
    beside = shutil.which("mpiexec", path=os.path.dirname(sys.executable))
    found = beside or shutil.which("mpiexec")
    if found is None:
        sys.exit("scaling.py: there is no mpiexec; install minicnn[mpi] and mpich, or use --paper.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--paper", action="store_true", help="only the model, no measurement")
    parser.add_argument("--model", default="notes_cnn", metavar="NAME")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N")
    parser.add_argument("--epochs", type=int, default=4, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    options = parser.parse_args()
    if not options.paper:
        print(f"{options.model}, batch {options.batch_size} in all, median of {options.rounds}\n")
        print(measured_table(options), end="\n\n")
    print("ResNet-50 on hosts with eight A100, modelled; milliseconds\n")
    print(paper_table(), SOURCES, sep="\n\n")


if __name__ == "__main__":
    main()
