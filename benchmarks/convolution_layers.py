"""Time single convolutions of known networks, beside PyTorch where it is installed.

    python benchmarks/convolution_layers.py --layers notes,vgg16 --operations forward

For each layer and operation the results are compared first. Then both implementations run in turn,
on the same number of threads, and the medians are printed with the rates they mean in GFLOP/s
(2 * N * F * C/G * KH * KW * OH * OW operations, also for those that skip the products with
padding). The measured peak is that of the register tile on numbers that stay in the cache. Freed
memory is kept in the process, for both sides: no time goes into new pages. Times on a machine that
does other work say little. Two columns tell: the spread, which is the distance of the quarter
points as a share of the median, and how many cores were busy; some systems let two threads share
one core while another idles.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from peaks import arithmetic
from timing import interleaved, spread

from minicnn.testing.tolerance import tolerance
from minicnn_kernels import threads
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu import convolution

OPERATIONS = ("forward", "grad_input", "grad_weight")


class Layer(NamedTuple):
    """One convolution: batch N, C channels of a square map of side H to F channels."""

    name: str
    N: int
    C: int
    H: int
    F: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def window(self) -> Window2d:
        """Its window; the padding is half the kernel."""
        return Window2d.of((self.H, self.H), self.kernel, self.stride, self.kernel // 2)


NETWORKS = {
    "notes": [Layer("conv1", 128, 1, 28, 16, 5), Layer("conv2", 128, 16, 14, 32, 5)],
    "vgg16": [
        Layer("conv1_1", 4, 3, 224, 64, 3),
        Layer("conv1_2", 4, 64, 224, 64, 3),
        Layer("conv2_1", 4, 64, 112, 128, 3),
        Layer("conv2_2", 4, 128, 112, 128, 3),
        Layer("conv3_1", 4, 128, 56, 256, 3),
        Layer("conv3_2", 4, 256, 56, 256, 3),
        Layer("conv4_1", 4, 256, 28, 512, 3),
        Layer("conv4_2", 4, 512, 28, 512, 3),
        Layer("conv5", 4, 512, 14, 512, 3),
    ],
    "resnet50": [
        Layer("conv1", 8, 3, 224, 64, 7, 2),
        Layer("conv2 first", 8, 64, 56, 64, 1),
        Layer("conv2 3x3", 8, 64, 56, 64, 3),
        Layer("conv2 expand", 8, 64, 56, 256, 1),
        Layer("conv2 reduce", 8, 256, 56, 64, 1),
        Layer("conv3 first", 8, 256, 56, 128, 1),
        Layer("conv3 stride", 8, 128, 56, 128, 3, 2),
        Layer("conv3 shortcut", 8, 256, 56, 512, 1, 2),
        Layer("conv3 3x3", 8, 128, 28, 128, 3),
        Layer("conv3 expand", 8, 128, 28, 512, 1),
        Layer("conv3 reduce", 8, 512, 28, 128, 1),
        Layer("conv4 stride", 8, 256, 28, 256, 3, 2),
        Layer("conv4 shortcut", 8, 512, 28, 1024, 1, 2),
        Layer("conv4 3x3", 8, 256, 14, 256, 3),
        Layer("conv4 expand", 8, 256, 14, 1024, 1),
        Layer("conv4 reduce", 8, 1024, 14, 256, 1),
        Layer("conv5 stride", 8, 512, 14, 512, 3, 2),
        Layer("conv5 shortcut", 8, 1024, 14, 2048, 1, 2),
        Layer("conv5 3x3", 8, 512, 7, 512, 3),
        Layer("conv5 expand", 8, 512, 7, 2048, 1),
        Layer("conv5 reduce", 8, 2048, 7, 512, 1),
    ],
    "googlenet": [
        Layer("conv1", 8, 3, 224, 64, 7, 2),
        Layer("conv2 3x3", 8, 64, 56, 192, 3),
        Layer("3a 1x1", 8, 192, 28, 64, 1),
        Layer("3a 5x5 reduce", 8, 192, 28, 16, 1),
        Layer("3a 3x3", 8, 96, 28, 128, 3),
        Layer("3a 5x5", 8, 16, 28, 32, 5),
        Layer("4a 1x1", 8, 480, 14, 192, 1),
        Layer("4a 3x3", 8, 96, 14, 208, 3),
        Layer("4a 5x5", 8, 16, 14, 48, 5),
        Layer("4d 3x3", 8, 144, 14, 288, 3),
        Layer("5b 1x1", 8, 832, 7, 384, 1),
        Layer("5b 3x3", 8, 192, 7, 384, 3),
        Layer("5b 5x5", 8, 48, 7, 128, 5),
    ],
    "alexnet": [Layer("conv1", 8, 3, 224, 96, 11, 4), Layer("conv2", 8, 96, 27, 256, 5)],
    "mobile": [
        Layer("depthwise 112", 8, 32, 112, 32, 3, 1, 32),
        Layer("depthwise 112, stride", 8, 64, 112, 64, 3, 2, 64),
        Layer("depthwise 56", 8, 128, 56, 128, 3, 1, 128),
        Layer("depthwise 56, stride", 8, 128, 56, 128, 3, 2, 128),
        Layer("depthwise 28", 8, 256, 28, 256, 3, 1, 256),
        Layer("depthwise 14", 8, 512, 14, 512, 3, 1, 512),
        Layer("depthwise 7", 8, 1024, 7, 1024, 3, 1, 1024),
        Layer("32 groups of 4", 8, 128, 56, 128, 3, 1, 32),
        Layer("32 groups of 8", 8, 256, 28, 256, 3, 1, 32),
        Layer("32 groups of 8, stride", 8, 256, 56, 256, 3, 2, 32),
    ],
}


def calls(layer: Layer, operation: str) -> tuple[Callable[[], Any], Callable[[], Any] | None]:
    """The same convolution by minicnn and by PyTorch (None where it is not installed)."""
    window, rng = layer.window, np.random.default_rng(0)
    shapes = (
        (layer.N, layer.C, layer.H, layer.H),
        (layer.F, layer.C // layer.groups, layer.kernel, layer.kernel),
        (layer.N, layer.F, window.oh, window.ow),
    )
    x, w, gy = (rng.standard_normal(shape, np.float32) for shape in shapes)
    ours = {
        "forward": lambda: convolution.conv2d(x, w, None, window, layer.groups),
        "grad_input": lambda: convolution.conv2d_grad_input(gy, w, window, layer.groups),
        "grad_weight": lambda: convolution.conv2d_grad_weight(gy, x, window, layer.groups),
    }[operation]
    try:
        import torch
    except ImportError:
        return ours, None
    tx, tw, tgy = map(torch.from_numpy, (x, w, gy))
    stride, padding = [layer.stride] * 2, [layer.kernel // 2] * 2
    if operation == "forward":
        forward = torch.nn.functional.conv2d
        return ours, lambda: forward(tx, tw, None, stride, padding, 1, layer.groups).numpy()
    wanted = [operation == "grad_input", operation == "grad_weight", False]
    backward = torch.ops.aten.convolution_backward
    tail = (None, stride, padding, [1, 1], False, [0, 0], layer.groups, wanted)
    return ours, lambda: backward(tgy, tx, tw, *tail)[wanted.index(True)].numpy()


def check(layer: Layer, operation: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raise unless the results agree: their numbers are sums of normal numbers, or of products."""
    window = layer.window
    terms = {
        "forward": layer.C // layer.groups * window.taps,
        "grad_input": layer.F // layer.groups * window.taps,
        "grad_weight": layer.N * window.oh * window.ow,
    }[operation]
    allowed = tolerance(np.float32, terms, float(np.abs(theirs).max()))
    difference = float(np.abs(ours - theirs).max())
    if not difference <= allowed:
        raise SystemExit(f"{layer.name} {operation}: off by {difference:.2g} > {allowed:.2g}")


def measure(layer: Layer, operation: str, seconds: float) -> dict[str, Any]:
    """One row of the table."""
    window, functions = layer.window, [f for f in calls(layer, operation) if f is not None]
    results = [function() for function in functions]
    if len(results) == 2:
        check(layer, operation, *results)
    work = 2 * layer.N * layer.F * layer.C // layer.groups * window.taps * window.oh * window.ow
    cpu, start = time.process_time(), time.perf_counter()
    times = interleaved(functions, seconds)
    cores = (time.process_time() - cpu) / (time.perf_counter() - start)
    medians = [statistics.median(taken) for taken in times]
    row = {
        "operation": operation,
        "layer": layer.name,
        "milliseconds": medians[0] * 1e3,
        "spread": spread(times[0]),
        "cores": cores,
        "gflops": work / medians[0] / 1e9,
    }
    if len(medians) == 2:
        row |= {"torch_gflops": work / medians[1] / 1e9, "ratio": medians[1] / medians[0]}
    return row


def show(row: dict[str, Any]) -> str:
    """A row as text."""
    text = f"{row['operation']:12} {row['network']:10} {row['layer']:20}"
    text += f"{row['milliseconds']:9.2f} ms +-{row['spread']:4.0%} {row['cores']:4.1f} cores"
    text += f"{row['gflops']:6.0f} GFLOP/s"
    if "ratio" in row:
        text += f"   PyTorch {row['torch_gflops']:5.0f}   ratio {row['ratio']:5.2f}"
    return text


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", default=",".join(NETWORKS), help="networks, by commas")
    parser.add_argument("--operations", default=",".join(OPERATIONS), help="by commas")
    parser.add_argument("--threads", type=int, default=threads.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    threads.set_num_threads(options.threads)
    try:
        import torch

        torch.set_num_threads(options.threads)
        version = f", PyTorch {torch.__version__}"
    except ImportError:
        version = ""
    limit = arithmetic(options.threads)
    print(f"{platform.machine()}, {options.threads} threads{version}, peak {limit:.0f} GFLOP/s")
    rows = []
    for operation in options.operations.split(","):
        for network in options.layers.split(","):
            for layer in NETWORKS[network]:
                row = {"network": network, **measure(layer, operation, options.seconds)}
                print(show(row), flush=True)
                rows.append(row)
        ratios = [r["ratio"] for r in rows if r["operation"] == operation and "ratio" in r]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            print(f"{operation}: geometric mean {mean:.2f}, least {min(ratios):.2f}")
    if options.json:
        options.json.write_text(json.dumps({"peak_gflops": limit, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
