"""Moving raw arrays: between devices, and into the memory of other arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.errors import DeviceError, nearest
from minicnn_kernels import registry

Array = Any
DEVICES = ("cpu", "cuda")


def is_array(value: object) -> bool:
    """True for NumPy and CuPy arrays and NumPy scalars, False for tensors and Python numbers."""
    return hasattr(value, "dtype") and hasattr(value, "shape") and hasattr(value, "astype")


def to_numpy(array: Array) -> np.ndarray:
    """A copy of the array in the memory of the CPU."""
    return np.array(array if registry.device_of(array) == "cpu" else array.get())


def write(target: Array, values: np.ndarray) -> None:
    """Overwrite ``target``, wherever it lives, with values that are cast to its dtype."""
    if registry.device_of(target) == "cpu":
        target[...] = values
    else:
        target.set(np.asarray(values, target.dtype, order="C"))


def on_device(array: Array, device: str) -> Array:
    """The array itself where it is on ``device`` already, otherwise a copy there."""
    if registry.device_of(array) == device:
        return array
    if device == "cpu":
        return array.get()
    try:
        return registry.kernels(device).xp.asarray(array)
    except MemoryError as error:
        registry.raise_out_of_memory(f"moving an array {array.shape}", error)


def check_device(device: str, caller: str) -> str:
    """Return ``device`` if it can be used here, or raise `DeviceError` or `BackendError`."""
    if device not in DEVICES:
        raise DeviceError(
            f"{caller}: unknown device {device!r}; {nearest(str(device), DEVICES)}"
            "use 'cpu' or 'cuda'."
        )
    if device != "cpu":
        registry.kernels(device)
    return device
