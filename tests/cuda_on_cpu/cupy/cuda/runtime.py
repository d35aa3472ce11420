"""The few functions of the CUDA runtime that a project asks about its device."""

from __future__ import annotations

from typing import Any

from cupy import _capture, _memory

memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice = 1, 2, 3
streamCaptureModeGlobal, streamCaptureModeThreadLocal, streamCaptureModeRelaxed = 0, 1, 2


class CUDARuntimeError(RuntimeError):
    """An error code of the runtime."""

    def __init__(self, status: int, text: str = "") -> None:
        self.status = status
        super().__init__(text or f"cudaError {status}")


def getDeviceCount() -> int:
    return 1


def getDevice() -> int:
    return 0


def setDevice(device: int) -> None:
    if device:
        raise CUDARuntimeError(101, "cudaErrorInvalidDevice: invalid device ordinal")


def getDeviceProperties(device: int) -> dict[str, Any]:
    setDevice(device)
    return {
        "name": b"stand-in (CUDA C++ on the CPU)", "major": 9, "minor": 0, "warpSize": 32,
        "totalGlobalMem": _memory.DEVICE_BYTES, "multiProcessorCount": 4,
        "maxThreadsPerBlock": 1024,
        "sharedMemPerBlock": 48 << 10, "sharedMemPerBlockOptin": 227 << 10, "regsPerBlock": 65536,
        "maxThreadsPerMultiProcessor": 2048, "l2CacheSize": 50 << 20, "clockRate": 1_000_000,
        "memoryClockRate": 1_000_000, "memoryBusWidth": 64,
        "maxGridSize": (2**31 - 1, 65535, 65535),
        "maxThreadsDim": (1024, 1024, 64), "integrated": 0, "pciBusID": 0, "pciDeviceID": 0,
    }  # fmt: skip


def deviceSynchronize() -> None:
    _capture.refuse_synchronisation()


def driverGetVersion() -> int:
    return 13000


def runtimeGetVersion() -> int:
    return 13000


def memGetInfo() -> tuple[int, int]:
    return _memory.DEVICE_BYTES - _memory.default_pool.total_bytes(), _memory.DEVICE_BYTES


def profilerStart() -> None:
    """There is no profiler."""


def profilerStop() -> None:
    """There is no profiler."""
