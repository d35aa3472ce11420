"""The device: what it is, and how long its work takes.

A kernel takes microseconds and its launch about as many, so a clock on the host would measure the
launches. Events are clocks in the device's own queue. They are only right where the queue never
runs dry; so each handful of calls waits behind a kernel that does nothing for as long as the host
needs to launch them all, and then runs without gaps. Nothing inside a call may wait for the device.

A second trap is the cache: inputs that fit into it are read at several times the rate of the
memory. `rotation` tells how many copies of the inputs to go through.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

SPIN = r"""
// Occupies the queue for so many nanoseconds.
extern "C" __global__ void spin(unsigned long long nanoseconds) {
#ifndef MINICNN_CUDA_ON_CPU
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
    do {
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    } while (now - start < nanoseconds);
#endif
}
"""
CHUNK = 8  # calls behind one spinning kernel; a queue holds about a thousand launches
LONGEST_HOLD = 0.2  # seconds
CACHE_BYTES = 64 * 10**6  # more than the L2 of the largest device so far
MOST_COPIES = 64

IS_STAND_IN = getattr(cupy, "IS_STAND_IN", False)


def facts() -> dict[str, Any]:
    """The device, its driver and memory."""
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    capability = str(cupy.cuda.Device().compute_capability)
    free, total = runtime.memGetInfo()
    return {
        "device": properties["name"].decode(),
        "compute_capability": f"{capability[:-1]}.{capability[-1]}",
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "processors": properties["multiProcessorCount"],
        "memory_gb": total / 1e9,
        "memory_free_gb": free / 1e9,
        "l2_mb": properties["l2CacheSize"] / 1e6,
    }


def clocks() -> dict[str, str]:
    """What nvidia-smi tells about clocks, power and temperature; nothing where it is missing."""
    wanted = (
        "clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.draw,power.limit,"
        "temperature.gpu,utilization.gpu,mig.mode.current,driver_version"
    )
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
    values = done.stdout.splitlines()[0].split(",")
    return {name: value.strip() for name, value in zip(wanted.split(","), values, strict=True)}


def synchronize() -> None:
    """Wait until the device has nothing left to do."""
    cupy.cuda.Device().synchronize()


def times(call: Callable[[int], Any], repeats: int, seconds: float = float("inf")) -> list[float]:
    """Seconds that the device takes for each call; ``call`` gets the numbers 0, 1, 2, ...

    Fewer than ``repeats`` where they would take longer than ``seconds`` together.
    """
    call(0)  # the first call compiles
    synchronize()
    started = time.perf_counter()
    call(1)
    synchronize()
    chunk = max(1, min(CHUNK, int(LONGEST_HOLD / (time.perf_counter() - started))))
    started = time.perf_counter()
    for i in range(chunk):
        call(i)
    ahead = time.perf_counter() - started
    synchronize()
    started = time.perf_counter()
    taken: list[float] = []
    while len(taken) < repeats:
        taken += _chunk(call, len(taken), min(chunk, repeats - len(taken)), ahead)
        if time.perf_counter() - started > seconds:
            break
    return taken


def _chunk(call: Callable[[int], Any], first: int, count: int, ahead: float) -> list[float]:
    events = [(cupy.cuda.Event(), cupy.cuda.Event()) for _ in range(count)]
    _hold(min(1.5 * ahead + 1e-4, LONGEST_HOLD))
    for i, (start, end) in enumerate(events):
        start.record()
        call(first + i)
        end.record()
    synchronize()
    return [cupy.cuda.get_elapsed_time(start, end) / 1e3 for start, end in events]


def _hold(seconds: float) -> None:
    _spin()((1,), (1,), (np.uint64(seconds * 1e9),))


def _spin() -> Any:
    if "kernel" not in _compiled:
        _compiled["kernel"] = cupy.RawModule(code=SPIN, options=("-std=c++17",)).get_function(
            "spin"
        )
    return _compiled["kernel"]


_compiled: dict[str, Any] = {}


def median(call: Callable[[int], Any], repeats: int, seconds: float = float("inf")) -> float:
    """Median of `times`."""
    return statistics.median(times(call, repeats, seconds))


def host_seconds(call: Callable[[], Any], count: int) -> float:
    """What a call costs the host, the device working behind: least of five rounds."""
    call()
    synchronize()
    rounds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(count):
            call()
        rounds.append((time.perf_counter() - started) / count)
        synchronize()
    return min(rounds)


def rotation(size: int) -> int:
    """How many copies of inputs of so many bytes do not fit into the cache together."""
    return max(2, min(MOST_COPIES, -(-CACHE_BYTES // max(size, 1)) + 1))


def copy_rate(size: int, repeats: int) -> float:
    """Bytes a second read and written by a copy from device memory to device memory."""
    x, y = cupy.ones(size // 4, np.float32), cupy.empty(size // 4, np.float32)
    return 2 * x.nbytes / median(lambda i: cupy.copyto(y, x), repeats)
