"""NCCL without a GPU: which calls are made, in which order."""

import sys

import numpy as np

from minicnn.training import parallel_nccl


class FakeCuda:
    """Notes what is asked of CuPy; arrays are NumPy's with the pointer that CuPy's have."""

    NCCL_FLOAT32, NCCL_FLOAT64, NCCL_SUM = "float32", "float64", "sum"
    available = True

    def __init__(self):
        self.calls = []
        self.cuda = self.nccl = self.runtime = self

    def note(self, *call):
        self.calls.append(call)
        return self

    def getDeviceCount(self):
        return 2

    def get_unique_id(self):
        return "key"

    def NcclCommunicator(self, size, key, rank):
        return self.note("communicator", size, key, rank)

    def allReduce(self, source, target, count, kind, operation, stream):
        self.note("sum", source == target, count, kind, operation, stream)

    def Stream(self, non_blocking):
        return FakeStream(self, "side")

    def get_current_stream(self):
        return FakeStream(self, "main")

    def Event(self, disable_timing):
        return FakeStream(self, "main")


class FakeStream:
    def __init__(self, cuda, name):
        self.cuda, self.ptr = cuda, name

    def record(self):
        self.cuda.note("record", self.ptr)
        return self.ptr

    def wait_event(self, event):
        self.cuda.note("wait", self.ptr, getattr(event, "ptr", event))


class FakeArray:
    dtype, size = np.dtype(np.float32), 3

    class data:
        ptr = 64


class Two:
    rank, size, local_size = 0, 2, 2

    def broadcast(self, value, what):
        return value

    def gather(self, value, what):
        return [value, value]


def test_nccl_adds_in_a_stream_of_its_own_between_gradients_and_step(monkeypatch):
    fake = FakeCuda()
    for name in ("cupy", "cupy.cuda", "cupy.cuda.nccl"):
        monkeypatch.setitem(sys.modules, name, fake)
    channel, xp = parallel_nccl.fastest_channel(Two(), "cuda")
    assert xp is fake
    channel.start_sum(FakeArray()).wait()
    assert fake.calls == [
        ("communicator", 2, "key", 0),
        ("record", "main"),
        ("wait", "side", "main"),
        ("sum", True, 3, "float32", "sum", "side"),
        ("record", "side"),
        ("wait", "main", "side"),
    ]
    assert parallel_nccl.nccl_fault(3) == "3 processes share 2 GPUs"
    fake.available = False
    group = Two()
    assert parallel_nccl.fastest_channel(group, "cuda") == (group, np)
