"""The one device."""

from __future__ import annotations

from typing import Any

from cupy.cuda import runtime


class Device:
    """Device 0; any other does not exist."""

    def __init__(self, device: int | None = None) -> None:
        self.id = device or 0
        runtime.setDevice(self.id)

    compute_capability = "90"
    mem_info = property(lambda self: runtime.memGetInfo())
    pci_bus_id = "0000:00:00.0"

    @property
    def attributes(self) -> dict[str, Any]:
        facts = runtime.getDeviceProperties(self.id)
        return {
            "MultiProcessorCount": facts["multiProcessorCount"],
            "MaxSharedMemoryPerBlock": facts["sharedMemPerBlock"],
            "MaxSharedMemoryPerBlockOptin": facts["sharedMemPerBlockOptin"],
            "MaxThreadsPerBlock": facts["maxThreadsPerBlock"],
            "ComputeCapabilityMajor": facts["major"],
            "ComputeCapabilityMinor": facts["minor"],
            "ClockRate": facts["clockRate"],
            "L2CacheSize": facts["l2CacheSize"],
            "WarpSize": facts["warpSize"],
        }

    def synchronize(self) -> None:
        runtime.deviceSynchronize()

    def use(self) -> None:
        """It is in use."""

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        """There is no other device to return to."""

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"
