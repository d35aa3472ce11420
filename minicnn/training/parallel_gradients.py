"""Adding the gradients of several processes while they are still being computed.

Backward runs from the last layer to the first, so the gradient of the last layer's weights is final
long before that of the first. Sending it then costs nothing: the network is busy while the cores
are. One message for each parameter would be wrong the other way round, because every message costs
a latency. So parameters are put into *buckets* of some megabytes, in the order in which backward
reaches them; when the last gradient of a bucket is final, its sum is started and backward goes on.

    backward     |layer 4|layer 3|layer 2|layer 1|
    sums                         |  bucket 4+3  | bucket 2+1 |
                                                ^ only this part is waited for

When is a gradient final? A parameter may be used several times, and each use adds to its gradient.
Before backward starts, the graph is walked once and the uses are counted; each addition counts one
down. An op may give no gradient at all (None means zero); then the count stays above zero, and the
bucket goes out when backward has ended.

All processes must start the same sums in the same order. So buckets go out in their order only, and
every parameter has its place in one whether it got a gradient or not. Beside the gradients a bucket
carries a number for each parameter, 1 where there was a gradient. Where the sum of these is 0,
nobody had one, and it stays None: the optimizer then leaves the parameter alone, as with one
process. Source: Li et al. 2020, "PyTorch Distributed", sections 3.2 and 4.2, whose bucket sizes
these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from minicnn.autograd import Op, Tensor
from minicnn.errors import ArgumentError
from minicnn_kernels import registry

FIRST_BYTES = 2**20  # the first one is small, so that the sending begins early
LIMIT_BYTES = 25 * 2**20


class Sum(Protocol):
    """A sum on its way; see `minicnn.training.parallel.Pending`."""

    def done(self) -> bool:
        """Whether it is there."""

    def wait(self) -> Any:
        """The array with the sum."""


class Channel(Protocol):
    """What adds arrays over processes: a `Group`, or NCCL."""

    def start_sum(self, array: Any, what: str = ...) -> Sum:
        """Begin to replace the array by the sum of all processes' arrays."""


class Bucket:
    """Some parameters, and a buffer with a place for the gradient and the presence of each."""

    def __init__(self, parameters: Sequence[Tensor], xp: Any) -> None:
        self.parameters = list(parameters)
        sizes = [p.size for p in self.parameters]
        ends = np.cumsum(sizes)
        self._places = [slice(e - s, e) for s, e in zip(sizes, ends.tolist(), strict=True)]
        self._numbers = {p: i for i, p in enumerate(self.parameters)}
        self.buffer = xp.zeros(int(ends[-1]) + len(sizes), self.parameters[0].dtype)
        self._present = self.buffer[int(ends[-1]) :]
        self.missing = 0

    def clear(self) -> None:
        """Forget the gradients of the last step."""
        self.buffer[...] = 0
        self.missing = len(self.parameters)

    def fill(self, parameter: Tensor) -> None:
        """Copy the gradient of a parameter to its place."""
        if parameter.grad is None:
            return
        number = self._numbers[parameter]
        self.buffer[self._places[number]] = _like(self.buffer, parameter.grad).ravel()
        self._present[number] = 1

    def spread(self) -> None:
        """Give every parameter that got a gradient in any process the sum of all."""
        present = _like(np.empty(0), self._present)
        for p, place, count in zip(self.parameters, self._places, present, strict=True):
            if count == 0:
                continue
            total = _like(p.array, self.buffer[place]).reshape(p.shape)
            if p.grad is None:
                p.grad = total.copy()
            else:
                p.grad[...] = total


class GradientBuckets:
    """Backward for one process of several: the gradients are the sums over all of them.

    channel : adds the arrays; parameters : those that are trained, in the order of the forward pass
    xp : where the buffers are, NumPy or CuPy

    The sizes of the buckets are in bytes. ``early`` is how many sums the last backward had started
    before it ended.
    """

    def __init__(
        self,
        channel: Channel,
        parameters: Iterable[Tensor],
        xp: Any = np,
        first_bytes: int = FIRST_BYTES,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._channel = channel
        trained = [p for p in parameters if p.requires_grad]
        if not trained:
            raise ArgumentError("GradientBuckets: no parameter requires gradients; train some.")
        groups = _grouped(trained[::-1], first_bytes, limit_bytes)
        self.buckets = [Bucket(group, xp) for group in groups]
        self._bucket_of = {p: bucket for bucket in self.buckets for p in bucket.parameters}
        self._uses: dict[Tensor, int] = {}
        self._sums: list[Sum] = []
        self._filled: set[Tensor] = set()
        self.early = 0

    def backward(self, loss: Tensor, share: float) -> None:
        """Set ``grad`` of all parameters to the sum of ``share`` times the processes' gradients.

        share : this process's images over those of the whole batch, where the loss is a mean

        Gradients of before must have been forgotten.
        """
        self._uses = uses_of_leaves(loss)
        self._sums = []
        self._filled = set()
        for bucket in self.buckets:
            bucket.clear()
        xp = registry.kernels_for("backward", (loss.array,)).xp
        loss.backward(xp.full_like(loss.array, share), on_leaf=self._arrived)
        self.early = len(self._sums)
        for p, bucket in self._bucket_of.items():
            if p not in self._filled:
                bucket.fill(p)
                bucket.missing = 0
        for bucket in self.buckets:
            bucket.missing = 0
        self._start_complete()
        for pending, bucket in zip(self._sums, self.buckets, strict=True):
            pending.wait()
            bucket.spread()

    def _arrived(self, leaf: Tensor) -> None:
        """One more contribution to the gradient of a leaf is there."""
        self._uses[leaf] -= 1
        bucket = self._bucket_of.get(leaf)
        if bucket is None or self._uses[leaf]:
            return
        bucket.fill(leaf)
        bucket.missing -= 1
        self._filled.add(leaf)
        self._start_complete()
        if self._sums:
            self._sums[-1].done()  # MPI goes on with its sums when it is called

    def _start_complete(self) -> None:
        """Start the sums of the next buckets in order, as far as they are complete."""
        for bucket in self.buckets[len(self._sums) :]:
            if bucket.missing:
                break
            self._sums.append(self._channel.start_sum(bucket.buffer, "the sum of the gradients"))


def uses_of_leaves(result: Tensor) -> dict[Tensor, int]:
    """How often each leaf is an argument of an op that ``result`` was computed by.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> list(uses_of_leaves(x * x + x).values())
    [3]
    """
    uses: dict[Tensor, int] = {}
    seen: set[Op] = set()
    waiting = [result.op] if result.op is not None else []
    while waiting:
        op = waiting.pop()
        if op in seen:
            continue
        seen.add(op)
        for parent in op.parents:
            if isinstance(parent, Tensor):
                uses[parent] = uses.get(parent, 0) + 1
            elif parent is not None:
                waiting.append(parent)
    return uses


def _grouped(parameters: list[Tensor], first: int, limit: int) -> list[list[Tensor]]:
    """Neighbours of one dtype, as many as fit into a bucket, at least one."""
    groups: list[list[Tensor]] = []
    size, room = 0, first
    for p in parameters:
        nbytes = p.size * p.dtype.itemsize
        if groups and size + nbytes <= room and groups[-1][0].dtype == p.dtype:
            groups[-1].append(p)
            size += nbytes
        else:
            room = limit if groups else first
            groups.append([p])
            size = nbytes
    return groups


def _like(place: Any, array: Any) -> Any:
    """The array on the device of ``place``."""
    on_host = isinstance(place, np.ndarray)
    if on_host == isinstance(array, np.ndarray):
        return array
    return array.get() if on_host else registry.kernels("cuda").xp.asarray(array)
