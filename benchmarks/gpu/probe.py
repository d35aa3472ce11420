"""What this machine is, and what it can do at most: read this before any other figure.

Ceilings are measured by the plainest program there is for each: a copy for the memory, a large
product of the vendor's library for the arithmetic. Launch costs bound small networks: a training
step of a hundred kernels takes a hundred launches, unless a captured graph repeats them in one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import cupy
import device
import numpy as np
import torch_calls
from sheet import Row, attempt

from minicnn_kernels import registry
from minicnn_kernels.precision import allow_tf32

PACKAGES = ("numpy", "cupy", "numba", "numba_cuda", "torch", "triton", "pytest", "hypothesis")
GRAPH_SIZES = (1, 10, 100, 1000)
ADD_ONE = 'extern "C" __global__ void add_one(float* x) { x[threadIdx.x] += 1.0f; }'


def run(options: argparse.Namespace) -> Iterator[Row]:
    """All of it."""
    yield from _versions()
    yield {"section": "device", **device.facts(), **device.clocks()}
    yield from _sets()
    for name, measure in _ceilings(options).items():
        yield attempt("ceilings", name, measure)
    for name, measure in _launches(options).items():
        yield attempt("launches", name, measure)
    for name, measure in _captures(options).items():
        yield attempt("in a captured graph", name, measure)


def _versions() -> Iterator[Row]:
    yield {"section": "versions", "package": "Python", "version": platform.python_version()}
    for name in PACKAGES:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # a broken package may raise anything
            yield {"section": "versions", "package": name, "version": f"- ({error})"}
            continue
        yield {"section": "versions", "package": name, "version": _version_of(name, module)}


def _version_of(name: str, module: Any) -> str:
    version = getattr(module, "__version__", None)
    if version is None:
        try:
            version = importlib.metadata.version(name.replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:
            version = "without a number"
    return str(version)


def _sets() -> Iterator[Row]:
    for name, reason in registry.availability().items():
        own = len(registry.load(name).overridden()) if reason is None else None
        yield {"section": "kernel sets", "set": name, "reason": reason or "usable", "own": own}


# ------------------------------------------------------------------ ceilings


def _ceilings(options: argparse.Namespace) -> dict[str, Callable[[], Row]]:
    quick = options.quick
    size, n, repeats = (2**16, 32, 2) if quick else (2**30, 8192, 30)
    found: dict[str, Callable[[], Row]] = {
        "copy": lambda: {"GB/s": device.copy_rate(size, repeats) / 1e9, "bytes": 2 * size}
    }
    repeats = 2 if quick else 10
    found["cupy.matmul float32"] = lambda: _product(cupy.matmul, n, repeats)
    for name in options.sets:
        if registry.availability()[name] is not None or "matmul" not in _own(name):
            continue
        for allowed in (False, True):
            what = f"matmul of {name}, TF32 {'on' if allowed else 'off'}"
            found[what] = lambda s=name, a=allowed: _set_product(s, n, repeats, a)
    torch = torch_calls.library(options)
    if torch is not None:
        for allowed in (False, True):
            what = f"torch.matmul, TF32 {'on' if allowed else 'off'}"
            found[what] = lambda a=allowed: _torch_product(torch, n, repeats, a)
    return found


def _own(name: str) -> frozenset[str]:
    return registry.load(name).overridden()


def _product(multiply: Callable[..., Any], n: int, repeats: int) -> Row:
    rng = np.random.default_rng(0)
    a, b = (cupy.asarray(rng.standard_normal((n, n), np.float32)) for _ in range(2))
    seconds = device.median(lambda i: multiply(a, b), repeats)
    return {"TFLOP/s": 2 * n**3 / seconds / 1e12, "size": n, "microseconds": seconds * 1e6}


def _set_product(name: str, n: int, repeats: int, allowed: bool) -> Row:
    with allow_tf32(allowed):
        return _product(registry.load(name).matmul, n, repeats)


def _torch_product(torch: Any, n: int, repeats: int, allowed: bool) -> Row:
    torch_calls.set_tf32(torch, allowed)
    a, b = (torch.randn(n, n, device=torch_calls.device(torch)) for _ in range(2))
    taken = torch_calls.times(torch, lambda i: torch.matmul(a, b), repeats)
    seconds = statistics.median(taken)
    return {"TFLOP/s": 2 * n**3 / seconds / 1e12, "size": n, "microseconds": seconds * 1e6}


# ------------------------------------------------------------------ launches


def _launches(options: argparse.Namespace) -> dict[str, Callable[[], Row]]:
    count = 10 if options.quick else 1000
    x = cupy.zeros(1000, np.float32)
    kernel = cupy.RawModule(code=ADD_ONE, options=("-std=c++17",)).get_function("add_one")
    calls: dict[str, Callable[[], Any]] = {
        "RawKernel, 1 argument": lambda: kernel((1,), (32,), (x,)),
        "cupy.add(out=)": lambda: cupy.add(x, x, out=x),
        "cupy sum over an axis": lambda: x.reshape(10, 100).sum(axis=1),
    }
    for name in options.sets:
        if registry.availability()[name] is None:
            calls[f"relu of {name}"] = functools.partial(registry.load(name).relu, x)
    torch = torch_calls.library(options)
    if torch is not None:
        t = torch.zeros(1000, device=torch_calls.device(torch))
        calls["torch add_"] = lambda: t.add_(1.0)
    found: dict[str, Callable[[], Row]] = {
        name: lambda c=call: {"host microseconds": device.host_seconds(c, count) * 1e6}
        for name, call in calls.items()
    }
    for nodes in (n for n in GRAPH_SIZES if n <= 10 or not options.quick):
        found[f"graph of {nodes} kernels"] = lambda n=nodes: _graph(kernel, n, options.quick)
    return found


def _graph(kernel: Any, nodes: int, quick: bool) -> Row:
    x = cupy.zeros(32, np.float32)
    graph, stream = captured(lambda: [kernel((1,), (32,), (x,)) for _ in range(nodes)])
    host = device.host_seconds(lambda: graph.launch(stream), 3 if quick else 100)
    before = x.get()
    with stream:
        seconds = device.median(lambda i: graph.launch(), 3 if quick else 30)
    if not (x.get() > before).all():
        raise RuntimeError("the replays did not run the captured kernels")
    return {
        "host microseconds": host * 1e6,
        "device microseconds": seconds * 1e6,
        "per kernel": seconds * 1e6 / nodes,
    }


def captured(call: Callable[[], Any]) -> tuple[Any, Any]:
    """What a call launches as a graph, and its stream; the call ran once before, to compile."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        call()
        stream.synchronize()
        stream.begin_capture()
        try:
            call()
        except BaseException:
            with contextlib.suppress(Exception):  # it is broken; the first error says why
                stream.end_capture()
            raise
        graph = stream.end_capture()
    return graph, stream


# ------------------------------------------------------------------ what can be captured


def _captures(options: argparse.Namespace) -> dict[str, Callable[[], Row]]:
    n = 16 if options.quick else 256
    rng = np.random.default_rng(0)
    a, b = (cupy.asarray(rng.standard_normal((n, n), np.float32)) for _ in range(2))
    calls: dict[str, Callable[[], Any]] = {"cupy.matmul": lambda: cupy.matmul(a, b)}
    for name in options.sets:
        if registry.availability()[name] is not None:
            continue
        k = registry.load(name)
        calls[f"relu of {name}"] = lambda k=k: k.relu(a)
        calls[f"linear of {name}"] = lambda k=k: k.linear(a, b, None)
        calls[f"matmul of {name}"] = lambda k=k: k.matmul(a, b)
    return {name: lambda c=call: _replayed(c, a) for name, call in calls.items()}


def _replayed(call: Callable[[], Any], a: Any) -> Row:
    """Whether a replay of a captured call computes anew from what its argument holds then."""
    kept: list[Any] = []
    pool = cupy.cuda.MemoryPool()  # what the graph writes to must not be given to others
    with cupy.cuda.using_allocator(pool.malloc):
        try:
            graph, stream = captured(lambda: kept.append(call()))
        except NotImplementedError as error:
            return {"outcome": "refused", "reason": str(error)[:90]}
    before = a.copy()
    a *= 2
    device.synchronize()
    started = time.perf_counter()
    graph.launch(stream)
    stream.synchronize()
    seconds = time.perf_counter() - started
    expected = call()
    a[...] = before
    largest = float(cupy.abs(expected).max())
    wrong = float(cupy.abs(kept[-1] - expected).max())
    if not wrong <= 1e-6 * largest:
        raise RuntimeError(f"a replay is off by {wrong:.2g} of {largest:.2g}")
    return {"outcome": "works", "host microseconds": seconds * 1e6}
