"""Compile every kernel that the cases start: ``python -m gpu_sim.ptx``.

Numba compiles without a driver, given the types of the arguments and the generation of the device.
That shows what the simulator, which runs the kernels as Python, cannot: that the types fit, and
which arithmetic the GPU would do. Nothing is run, and the results of the cases are never written.
"""

from __future__ import annotations

import json
import re
import sys
import types
from typing import Any

import numpy as np
from numba import cuda, typeof
from numba.cuda import dispatcher

from gpu_sim.cases import CASES
from minicnn_kernels.numba_cuda import device
from minicnn_kernels.numba_cuda.kernels import NumbaCudaKernels
from minicnn_kernels.reference import Kernels

HOPPER = (9, 0)
TEXTS: dict[str, dict[Any, str]] = {}  # for each kernel, its text for each signature


def compile_instead(kernel: Any, grid: Any, block: Any, args: tuple[Any, ...]) -> None:
    """In the place of `device.start`."""
    function = kernel.py_func
    texts = TEXTS.setdefault(f"{function.__module__.rpartition('.')[2]}.{function.__name__}", {})
    signature = tuple(typeof(a) for a in args)
    if signature not in texts:
        texts[signature], _ = cuda.compile_ptx(function, signature, cc=HOPPER)


def describe(text: str) -> dict[str, Any]:
    """What the tests look at: the device, instructions in float64, bytes of private memory."""
    wide = {line.split()[0] for line in text.splitlines() if re.search(r"\.f64\b", line)}
    private = re.findall(r"\.local .*\[(\d+)\]", text)
    return {
        "target": re.findall(r"^\.target (\w+)", text, re.MULTILINE),
        "wide": sorted(wide - {".reg", ".param"}),
        "private": sum(map(int, private)),
        "is_atomic": bool(re.search(r"^\s*(atom|red)\.", text, re.MULTILINE)),
    }


def main() -> None:
    dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=HOPPER)
    device.start, device.view = compile_instead, lambda array: array
    device.nothing = lambda: np.empty(0, np.float32)
    kernels = object.__new__(NumbaCudaKernels)
    Kernels.__init__(kernels, np, strict=True)
    for case in CASES.values():
        getattr(kernels, case.primitive)(*case.build())
    print(json.dumps({name: [*map(describe, texts.values())] for name, texts in TEXTS.items()}))


def missing() -> str | None:
    """Why nothing can be compiled here, or None."""
    try:
        cuda.compile_ptx(lambda x: None, (typeof(np.zeros(1)),), cc=HOPPER)
    except Exception as error:
        return f"Numba cannot compile for CUDA here: {type(error).__name__}"
    return None


if __name__ == "__main__":
    reason = missing()
    if reason is not None:
        print(json.dumps(reason))
        sys.exit()
    main()
