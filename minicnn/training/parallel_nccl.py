"""Sums over GPUs with NCCL, NVIDIA's library of collective operations, as CuPy has it.

MPI adds arrays that lie in main memory. Gradients on a GPU would have to go there and back; NCCL
adds them where they are and sends them from GPU to GPU, over NVLink within a host and over
InfiniBand between hosts. MPI still starts the processes, and tells all of them the key by which
their NCCL communicators find each other.

The sums run in a stream of their own. It waits for the gradients of a bucket, which the stream of
the training computes, and that one waits for the sums before the step. So the GPU sends and
computes at the same time, and the CPU waits for neither.

NCCL wants a GPU for each process. Where two processes share one, or CuPy has no NCCL, the buffers
are in main memory and MPI adds them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.errors import ParallelError
from minicnn.training.parallel import Group


class NcclChannel:
    """Adds CuPy arrays over the processes of a group."""

    def __init__(self, group: Group) -> None:
        import cupy
        from cupy.cuda import nccl

        self._cupy = cupy
        self._nccl = nccl
        key = group.broadcast(nccl.get_unique_id() if group.rank == 0 else None, "the NCCL key")
        self._communicator = nccl.NcclCommunicator(group.size, key, group.rank)
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._types = {"f": nccl.NCCL_FLOAT32, "d": nccl.NCCL_FLOAT64}

    def start_sum(self, array: Any, what: str = "a sum") -> Any:
        """Begin to replace the array by the sum, when the current stream has computed it."""
        kind = self._types.get(array.dtype.char)
        if kind is None:
            raise ParallelError(f"parallel: NCCL is not asked to add {array.dtype}, in {what}.")
        ready = self._cupy.cuda.Event(disable_timing=True)
        ready.record()
        self._stream.wait_event(ready)
        pointer = array.data.ptr
        self._communicator.allReduce(
            pointer, pointer, array.size, kind, self._nccl.NCCL_SUM, self._stream.ptr
        )
        return _Launched(self._cupy, self._stream.record(), array)


class _Launched:
    """A sum in the other stream."""

    def __init__(self, cupy: Any, event: Any, array: Any) -> None:
        self._cupy = cupy
        self._event = event
        self._array = array

    def done(self) -> bool:
        """Whether it is there."""
        return bool(self._event.done)

    def wait(self) -> Any:
        """The array; what the current stream does next with it comes after the sum."""
        self._cupy.cuda.get_current_stream().wait_event(self._event)
        return self._array


def fastest_channel(group: Group, device: str) -> tuple[Any, Any]:
    """What adds the gradients of a model on ``device``, and where its buffers are: NumPy or CuPy.

    >>> fastest_channel("the group itself", "cpu")[0]
    'the group itself'
    """
    if device == "cpu":
        return group, np
    faults = group.gather(nccl_fault(group.local_size), "which processes have NCCL")
    if any(faults):
        return group, np
    import cupy

    return NcclChannel(group), cupy


def nccl_fault(processes: int) -> str:
    """Why NCCL cannot be used by so many processes of this host, or nothing where it can."""
    try:
        import cupy
        from cupy.cuda import nccl
    except ImportError as error:
        return f"CuPy cannot be imported ({error})"
    if not getattr(nccl, "available", False):
        return "this CuPy was built or installed without NCCL"
    gpus = cupy.cuda.runtime.getDeviceCount()
    if processes > gpus:
        return f"{processes} processes share {gpus} GPUs"
    return ""


def use_own_gpu(group: Group) -> int:
    """Make one of the host's GPUs the current one of this process; returns its number."""
    import cupy

    number = group.local_rank % cupy.cuda.runtime.getDeviceCount()
    cupy.cuda.Device(number).use()
    return number
