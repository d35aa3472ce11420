"""Whole training and inference steps against PyTorch on the same cores, interleaved in one run.

    python benchmarks/versus.py                            # every network, training
    python benchmarks/versus.py --networks notes_cnn --rounds 30
    python benchmarks/versus.py --inference --batch 1

Both libraries get the same weights, batch and number of threads. Before anything is timed,
the gradients are checked. A round times one step of each, in turn; the table gives medians and the
ratio PyTorch / minicnn, so that above 1 minicnn is faster. Results go to a JSON file if asked for.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # for both: idle threads sleep

import numpy as np
from networks import NETWORKS, Network

import minicnn
import minicnn.functional as F
from minicnn import nn, optim
from minicnn_kernels.algorithms import is_direct
from minicnn_kernels.numba_cpu.winograd import ERROR_GROWTH

Step = Callable[[], float]


def minicnn_steps(network: Network, batch: int) -> tuple[Any, Step, Step]:
    """The model, a training step and an inference step of minicnn."""
    minicnn.seed(0)
    model = network.build(nn, F.cat)
    optimizer = optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    images, labels = batch_of(network, batch)
    x = minicnn.Tensor(images)

    def train() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    @minicnn.no_grad()
    def infer() -> float:
        return float(model(x).array.sum())

    return model, train, infer


def torch_steps(network: Network, batch: int, weights: dict[str, Any]) -> tuple[Any, Step, Step]:
    """The same for PyTorch, with the given weights."""
    import torch

    model = network.build(torch.nn, torch.cat)
    model.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in weights.items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    images, labels = batch_of(network, batch)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def train() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    @torch.no_grad()
    def infer() -> float:
        return float(model(x).sum())

    return model, train, infer


def batch_of(network: Network, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels, the same for both libraries."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, *network.image)).astype(np.float32)
    return images, rng.integers(0, network.classes, batch)


def check_agreement(name: str, network: Network) -> None:
    """Compare all gradients of a small batch with PyTorch's in float64, dropout off.

    Through many layers of batch norm float32 alone loses digits, so that a fixed bound would be too
    strict for one network or too loose for another. minicnn passes where it is not further from the
    truth than four times PyTorch's own float32, or with Winograd's convolution, four times what
    that may make of it.
    """
    import torch

    ours, train, _ = minicnn_steps(network, 2)
    theirs, torch_train, _ = torch_steps(network, 2, ours.state_dict())
    exact = copy.deepcopy(theirs).double()
    for model in (ours, theirs, exact):
        for module in model.modules():
            if type(module).__name__ == "Dropout":
                module.eval()
    train(), torch_train()
    images, labels = batch_of(network, 2)
    logits = exact(torch.from_numpy(images).double())
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
    truth = [p.grad.numpy() for p in exact.parameters()]
    largest = max(float(np.abs(g).max()) for g in truth)

    def error(gradients: Iterable[Any]) -> float:
        pairs = zip(gradients, truth, strict=True)
        return max(float(np.abs(g - t).max()) for g, t in pairs) / largest

    own = error(p.grad for p in ours.parameters())
    other = error(p.grad.numpy() for p in theirs.parameters())
    growth = 1.0 if is_direct() else ERROR_GROWTH
    if not own <= growth * (4 * other + 1e-6):
        raise SystemExit(f"{name}: gradients are off by {own:.1e}, PyTorch's by {other:.1e}")
    print(f"{name}: gradients off by {own:.1e} of the largest, PyTorch's by {other:.1e}")


def measure(name: str, batch: int, rounds: int, inference: bool) -> dict[str, Any]:
    """Time one network in both libraries, a step of each in turn."""
    network = NETWORKS[name]
    ours, train, infer = minicnn_steps(network, batch)
    theirs, torch_train, torch_infer = torch_steps(network, batch, ours.state_dict())
    if inference:
        ours.eval(), theirs.eval()
    steps = {"minicnn": infer, "torch": torch_infer} if inference else {}
    steps = steps or {"minicnn": train, "torch": torch_train}
    times: dict[str, list[float]] = {library: [] for library in steps}
    for _ in range(3):
        for step in steps.values():
            step()
    for _ in range(rounds):
        for library, step in steps.items():
            started = time.perf_counter()
            step()
            times[library].append(time.perf_counter() - started)
    medians = {library: float(np.median(t)) * 1e3 for library, t in times.items()}
    return {
        "network": name,
        "mode": "inference" if inference else "training",
        "batch": batch,
        "minicnn_ms": medians["minicnn"],
        "torch_ms": medians["torch"],
        "ratio": medians["torch"] / medians["minicnn"],
        "quartiles_ms": {
            k: [float(q) * 1e3 for q in np.quantile(t, (0.25, 0.75))] for k, t in times.items()
        },
    }


def main() -> None:
    """Parse the options, check, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=0, help="default: the network's own")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=minicnn.get_num_threads())
    parser.add_argument("--inference", action="store_true")
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    minicnn.set_num_threads(options.threads)
    rows = []
    for name in options.networks:
        check_agreement(name, NETWORKS[name])
        batch = options.batch or NETWORKS[name].batch
        rows.append(measure(name, batch, options.rounds, options.inference))
        row = rows[-1]
        print(
            f"{name:14} batch {batch:3}  minicnn {row['minicnn_ms']:8.1f} ms  "
            f"torch {row['torch_ms']:8.1f} ms  ratio {row['ratio']:.2f}",
            flush=True,
        )
    if options.json:
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "processor": platform.processor() or platform.machine(),
            "threads": options.threads,
            "versions": {"minicnn": minicnn.__version__, "torch": torch.__version__},
        }
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
