"""Finding out whether CuPy can be used here, and saying in one sentence why not.

Four things must fit together: CuPy itself, which is built for one major version of CUDA
(``cupy-cuda13x``); the driver, which serves programs built for its own CUDA version and older ones;
a device; and the run-time compiler NVRTC with its headers, which CuPy needs for nearly every
operation and loads only when the first kernel is compiled. Importing CuPy proves none of the last
three. So after asking the driver for its version, one kernel is compiled and run.

When memory runs out in the middle of a training, CuPy's message names bytes and nothing to do about
it; `out_of_memory` says what was asked for, what is free, and the cure.
"""

from __future__ import annotations

from typing import Any

from minicnn_kernels.errors import BackendError, OutOfMemoryError

CURE_PACKAGE = (
    'install minicnn with the extra "gpu" (CuPy for CUDA 13), or cupy-cuda12x for CUDA 12'
)


def usable_cupy(name: str) -> Any:
    """The module cupy, where it can compute on a device; ``name`` is the kernel set that asks.

    Raises ImportError where it is not installed, and `BackendError` where something else is wrong,
    with CuPy's own error as the cause.
    """
    try:
        import cupy
    except ImportError as error:
        if error.name == "cupy":
            raise ImportError(
                'CuPy is not installed; install minicnn with the extra "gpu"'
            ) from error
        raise _unusable(
            name,
            f"CuPy is installed but cannot be loaded ({error}), as happens where it was built for "
            f"another CUDA; {CURE_PACKAGE}.",
        ) from error
    try:
        _check_driver(name, cupy)
        devices = cupy.cuda.runtime.getDeviceCount()
    except BackendError:
        raise
    except Exception as error:
        raise _unusable(name, f"CuPy finds no CUDA device ({error}); check nvidia-smi.") from error
    if not devices:
        raise _unusable(name, "the driver knows no CUDA device; check nvidia-smi.")
    try:
        works = int(cupy.arange(3).sum()) == 3
    except Exception as error:
        raise _unusable(
            name,
            f"CuPy cannot run a kernel ({error}); it may be built for another CUDA, or miss parts "
            f"of the CUDA toolkit: {CURE_PACKAGE}.",
        ) from error
    if not works:
        raise _unusable(name, "a first kernel computed nonsense; check the device with nvidia-smi.")
    return cupy


def _check_driver(name: str, cupy: Any) -> None:
    """Raise where there is no driver, or one for an older major version of CUDA than CuPy's."""
    driver = cupy.cuda.runtime.driverGetVersion()
    built_for = cupy.cuda.runtime.runtimeGetVersion()
    if not driver:
        raise _unusable(
            name,
            "there is no NVIDIA driver on this machine; install one, or use a backend of the CPU: "
            "'numba' or 'numpy'.",
        )
    if driver // 1000 < built_for // 1000:
        raise _unusable(
            name,
            f"the driver is too old: it serves CUDA {_version(driver)}, and CuPy was built for "
            f"CUDA {_version(built_for)}; update the driver, or install CuPy for its CUDA: "
            f"cupy-cuda{driver // 1000}x.",
        )


def _unusable(name: str, reason: str) -> BackendError:
    return BackendError(f"use_backend: {name!r} cannot be used here: {reason}")


def _version(number: int) -> str:
    """
    >>> _version(12040)
    '12.4'
    """
    return f"{number // 1000}.{number % 1000 // 10}"


def out_of_memory(caller: str, error: MemoryError) -> OutOfMemoryError:
    """CuPy's error of that kind as one that helps, to be raised ``from`` it."""
    import cupy

    try:
        free, total = cupy.cuda.runtime.memGetInfo()
        held = cupy.get_default_memory_pool().free_bytes()
        left = f"{_bytes(free + held)} of {_bytes(total)} are free"
    except Exception:  # where memory is short, asking may fail too
        left = "how much is free is unknown"
    return OutOfMemoryError(
        f"{caller}: the GPU is out of memory ({error}); {left}. Use a smaller batch, a smaller "
        "network, or end other programs on this GPU (nvidia-smi lists them)."
    )


def _bytes(count: int) -> str:
    """
    >>> _bytes(3 * 2**30)
    '3.0 GiB'
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"
