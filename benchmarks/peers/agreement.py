"""How far the gradients of minicnn and of PyTorch are from the truth: ``agreement.py NETWORK``.

All gradients of a batch of two are compared with PyTorch's in float64, dropout off. Through many
layers of batch norm float32 alone loses digits, so that a fixed bound would be too strict for one
network or too loose for another. minicnn passes where it is not further from the truth than four
times PyTorch's own float32.

Where a sum lies within rounding of 0, a ReLU after it may let a gradient through in one library and
not in the other, and both are right. That happens by chance, a mistake with every batch: so three
batches are tried until one agrees. Prints a line of JSON: both errors, in units of the largest
gradient.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))  # timed_networks.py

import numpy as np
import torch
from minicnn_peer import MinicnnPeer
from task import Task, set_dropout
from torch_peer import TorchPeer

from minicnn_kernels.algorithms import is_direct
from minicnn_kernels.numba_cpu.winograd import ERROR_GROWTH

FACTOR, FLOOR = 4, 1e-6
BATCHES = 3


def errors(network: str, seed: int) -> dict[str, Any]:
    """The largest error of each library, as a share of the largest gradient."""
    task = Task(network, batch=2, training=True, threads=torch.get_num_threads(), seed=seed)
    ours, theirs = MinicnnPeer(task), TorchPeer(task)
    exact = copy.deepcopy(theirs.module).double()
    for model in (ours.model, theirs.module, exact):
        set_dropout(model, False)
    ours.step(), theirs.step()
    logits = exact(torch.from_numpy(task.images()).double())
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(task.labels())).backward()
    truth = [p.grad.numpy() for p in exact.parameters()]
    largest = max(float(np.abs(g).max()) for g in truth)

    def error(gradients: Iterable[Any]) -> float:
        pairs = zip(gradients, truth, strict=True)
        return max(float(np.abs(g - t).max()) for g, t in pairs) / largest

    own = error(p.grad for p in ours.model.parameters())
    other = error(p.grad.numpy() for p in theirs.module.parameters())
    growth = (
        1.0 if is_direct() else max(ERROR_GROWTH.values())
    )  # of the rounding, where Winograd's serves
    return {"minicnn": own, "torch": other, "agrees": own <= growth * (FACTOR * other + FLOOR)}


if __name__ == "__main__":
    for seed in range(BATCHES):
        found = errors(sys.argv[1], seed)
        if found["agrees"]:
            break
    print(json.dumps(found))
