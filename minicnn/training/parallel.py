"""Processes that train one network together, over MPI.

``mpiexec -n 4 minicnn train`` starts four copies of one program, on one machine or on several. MPI
(the Message Passing Interface) numbers them, by *rank* 0 to 3, and lets them compute sums together:
in an *all-reduce* each gives an array and each gets the sum of all. That is all that data-parallel
training needs. Every process computes the gradients of its part of a batch; the sum of these is
the gradient of the whole batch; each makes the same step with it, so the weights stay the same
everywhere and need not be sent. `parallel_gradients`, `parallel_norm`, `parallel_trainer` and
`parallel_run` build on the `Group` of this module.

What must never happen is that all wait for one that will not come:

- every sum is started without waiting and then asked for, again and again, until a deadline; a
  process that has waited longer says for what, and ends the job (`Pending.wait`);
- whatever exception a process meets ends the job too, with its reason (`member`), because the
  others cannot know that it has left;
- a process that the system kills is noticed by the launcher, which ends the others.

The transport is MPI's own (mpi4py); nothing is sent otherwise. Source of the interface: MPI: A
Message-Passing Interface Standard 4.0, chapter 6.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from minicnn.errors import ConfigError, MiniCNNError, ParallelError

# What launchers tell each process of the number of all: MPICH and its kin, Open MPI, srun.
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_PIECE = 2**30  # bytes sent at once: older MPIs count them in 32 bits
_SPINS = 100  # how often a result is asked for before the first pause
_PAUSE = 5e-5
_PRECEDENCE = 1.0  # seconds that rank 0 has to say what went wrong, where it went wrong everywhere
_EXIT_ERROR = 2


def launched_size(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes the launcher of this one has started; 1 without a launcher.

    >>> launched_size({"PMI_SIZE": "4"}), launched_size({})
    (4, 1)
    """
    sizes = [int(value) for name in _SIZES if (value := environment.get(name, "")).isdigit()]
    return max(sizes, default=1)


def join(mode: str = "auto", timeout: float = 600.0) -> Group | None:
    """The group of all processes that were launched together, or None to train alone.

    mode : "auto" joins where a launcher has started several; "on" always, "off" never
    timeout : seconds to wait for the others before giving up

    Raises `ConfigError` where mpi4py is not there, or not of the launcher's MPI.

    >>> join("off") is None
    True
    """
    expected = launched_size()
    if mode == "off" or (mode == "auto" and expected == 1):
        return None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # without a library of MPI, a RuntimeError
        raise ConfigError(
            f"parallel: this is one of {expected} processes, but mpi4py cannot be used ({error}). "
            "Install minicnn[mpi] and an MPI, or train alone with --parallel off."
        ) from error
    world = MPI.COMM_WORLD
    if expected > 1 and world.size != expected:
        raise ConfigError(
            f"parallel: the launcher has started {expected} processes, but mpi4py sees "
            f"{world.size}: they are of different MPIs. mpi4py found "
            f"{MPI.Get_library_version().split(',')[0].splitlines()[0].strip()}; use the mpiexec "
            "that belongs to it (with srun, its --mpi type)."
        )
    return Group(world.Dup(), timeout)


class Pending:
    """A sum that is on its way into ``array``; see `Group.start_sum`."""

    def __init__(self, group: Group, request: Any, array: np.ndarray, what: str) -> None:
        self.array = array
        self._group = group
        self._request = request
        self._what = what

    def done(self) -> bool:
        """Whether the sum is there. Asking also lets MPI go on with it."""
        return bool(self._request.Test())

    def wait(self) -> np.ndarray:
        """The array, when it holds the sum; raises `ParallelError` after the group's timeout."""
        self._group.wait_until(self.done, self._what)
        return self.array


class Group:
    """The processes of a training, as one of them sees them: itself has the number ``rank``.

    communicator : MPI's, for this group alone
    timeout : seconds to wait for the others

    ``local_rank`` and ``local_size`` count the processes of the same host.
    """

    def __init__(self, communicator: Any, timeout: float = 600.0) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._communicator = communicator
        self.timeout = timeout
        self.rank: int = communicator.Get_rank()
        self.size: int = communicator.Get_size()
        self._host = communicator.Split_type(MPI.COMM_TYPE_SHARED, self.rank)
        self.local_rank: int = self._host.Get_rank()
        self.local_size: int = self._host.Get_size()

    def __repr__(self) -> str:
        return f"Group(rank={self.rank}, size={self.size})"

    def channel(self) -> Group:
        """The same processes, with messages apart: their order is free of that of others'."""
        return Group(self._communicator.Dup(), self.timeout)

    # -- computing together

    def start_sum(self, array: np.ndarray, what: str = "a sum") -> Pending:
        """Begin to replace a contiguous array by the sum of those of all processes.

        All must start the sums of one group in the same order. Until the sum is there the array
        must not be touched.
        """
        request = self._communicator.Iallreduce(self._mpi.IN_PLACE, array)
        return Pending(self, request, array, what)

    def sum(self, array: np.ndarray, what: str = "a sum") -> np.ndarray:
        """The array, overwritten by the sum of those of all processes."""
        return self.start_sum(array, what).wait()

    def broadcast(self, value: Any, what: str = "a message") -> Any:
        """What rank 0 has passed, in every process; the others' value is ignored."""
        data = pickle.dumps(value) if self.rank == 0 else b""
        length = np.array([len(data)], np.int64)
        self._wait_for(self._communicator.Ibcast(length), what)
        packed = np.empty(int(length[0]), np.uint8)
        if self.rank == 0:
            packed[:] = np.frombuffer(data, np.uint8)
        for start in range(0, len(packed), _PIECE):
            self._wait_for(self._communicator.Ibcast(packed[start : start + _PIECE]), what)
        return value if self.rank == 0 else pickle.loads(packed.tobytes())

    def gather(self, value: Any, what: str = "a message") -> list[Any]:
        """What every process has passed, by rank, in every process."""
        data = pickle.dumps(value)
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(data)
        lengths = self.sum(lengths, what)
        ends = np.cumsum(lengths)
        packed = np.zeros(int(ends[-1]), np.uint8)
        packed[ends[self.rank] - len(data) : ends[self.rank]] = np.frombuffer(data, np.uint8)
        packed = self.sum(packed, what)
        pairs = zip(ends - lengths, ends, strict=True)
        return [pickle.loads(packed[first:last].tobytes()) for first, last in pairs]

    @contextmanager
    def first_of_host(self) -> Iterator[None]:
        """Run the ``with`` block in one process of each host first: what it fetches, others find.

        The others wait as long as it takes.
        """
        if self.local_rank:
            self._host.Barrier()
        yield
        if not self.local_rank:
            self._host.Barrier()

    # -- waiting, and giving up

    def wait_until(self, done: Callable[[], bool], what: str) -> None:
        """Ask until it is done: at first without a pause, then with longer and longer ones."""
        deadline = time.monotonic() + self.timeout
        asked = 0
        while not done():
            asked += 1
            if asked > _SPINS:
                time.sleep(min(_PAUSE * (asked - _SPINS), 20 * _PAUSE))
                if time.monotonic() > deadline:
                    raise ParallelError(
                        f"parallel: process {self.rank} of {self.size} has waited "
                        f"{self.timeout:g} s for the others, in {what}; one of them hangs, or its "
                        "host is gone. Continue from the last checkpoint with --resume; a longer "
                        "--parallel-timeout waits longer."
                    )

    def _wait_for(self, request: Any, what: str) -> None:
        self.wait_until(lambda: bool(request.Test()), what)

    def abort(self, error: BaseException) -> NoReturn:
        """Say what went wrong here, and end all processes."""
        if self.rank:
            time.sleep(_PRECEDENCE)
        host = self._mpi.Get_processor_name()
        reason = str(error) or type(error).__name__
        if not isinstance(error, MiniCNNError):
            reason = "".join(traceback.format_exception(error))
        for note in getattr(error, "__notes__", ()) if isinstance(error, MiniCNNError) else ():
            reason += f"\n  {note}"
        print(f"minicnn: process {self.rank} of {self.size} on {host}: {reason}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        self._communicator.Abort(_EXIT_ERROR)
        os._exit(_EXIT_ERROR)

    # -- the machine's share

    def threads(self, usable: int) -> int:
        """How many CPU threads a process may have, of the ``usable`` cores that it sees."""
        mine = _affinity(usable)
        return threads_of_rank(mine, self._host.allgather(mine), usable)


@contextmanager
def member(group: Group | None) -> Iterator[None]:
    """Take part in a group: an exception of one process ends all, and only rank 0 writes to stdout.

    Without a group nothing changes.

    >>> with member(None):
    ...     print("alone")
    alone
    """
    if group is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        if group.rank:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield
        except BaseException as error:
            group.abort(error)


def threads_of_rank(mine: set[int], everyone: Sequence[set[int]], usable: int) -> int:
    """Cores divided by the processes that share them, at least 1.

    mine : the cores that this process may run on; everyone : those of each process of the host,
        this one included; a launcher may have given each its own
    usable : fewer than ``mine`` where a container has a quota, which the whole host shares

    >>> threads_of_rank({0, 1, 2, 3}, [{0, 1, 2, 3}, {0, 1, 2, 3}], usable=4)
    2
    >>> threads_of_rank({0, 1}, [{0, 1}, {2, 3}], usable=2)
    2
    """
    sharers = sum(bool(mine & other) for other in everyone)
    threads = len(mine) // max(sharers, 1)
    if usable < len(mine):
        threads = min(threads, usable // len(everyone))
    return max(threads, 1)


def _affinity(usable: int) -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(usable))
