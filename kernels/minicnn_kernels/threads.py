"""How many threads the CPU kernels use, and who owns them.

The rule: `set_num_threads`; else MINICNN_NUM_THREADS; else OMP_NUM_THREADS; else all usable cores.
The variables give no more than the usable cores either: threads without a core of their own make
every parallel loop wait for the slowest. Usable are the cores that this process may run on, in a
container no more than its share of processor time (its quota of 1.5 cores makes 2). The number
holds for the process, whichever of its Python threads runs a kernel, and each of two processes side
by side follows the rule by itself: give each half of the cores.

Only one pool of threads works at a time: with a kernel set that has loops of its own (Numba's),
those loops get the threads and BLAS gets one; with plain array code BLAS gets them all. Two pools
would fight for the cores: the threads of OpenBLAS wait for each other without sleeping, and where a
second process shares the cores, every small product then costs a time slice of the scheduler (a
training step took 1.9 s instead of 0.15 s).

Numba keeps its number in each Python thread, where a new one starts with all cores. So each kernel
first calls `use_num_threads`, which compares two numbers unless there is something to change. Work
that is done before a second thread is awake stays with the first. A program with parallel Numba
loops of its own in the same Python thread calls `numba.set_num_threads` before them.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minicnn_kernels.errors import MiniCNNError

_chosen: int | None = None
_blas_has_threads = True
_blas_limit: Any = None  # threadpoolctl restores the old limit when this object dies
_version = 0  # counts the changes of the number


class _Applied(threading.local):
    """The change that a Python thread has followed last, its number, and Numba's at the moment."""

    version = -1
    allowed = 0
    current = 0


_applied = _Applied()


def get_num_threads() -> int:
    """Return the number of threads that CPU kernels use.

    >>> get_num_threads() >= 1
    True
    """
    return _chosen if _chosen is not None else default_num_threads()


def default_num_threads() -> int:
    """The number of threads without `set_num_threads`: the environment's, else all usable cores."""
    return min(chosen_by_environment() or usable_cores(), usable_cores())


def chosen_by_environment() -> int | None:
    """The number of threads that a variable of the environment asks for, or None."""
    for variable in ("MINICNN_NUM_THREADS", "OMP_NUM_THREADS"):
        first = os.environ.get(variable, "").split(",")[0].strip()
        if first.isdigit() and int(first) > 0:
            return int(first)
    return None


def usable_cores() -> int:
    """Cores that this process may run on; in a container they can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _own_quota()
    return cores if quota is None else min(cores, quota)


@functools.cache
def _own_quota() -> int | None:
    return cpu_quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))


def cpu_quota(root: Path, membership: Path) -> int | None:
    """Cores' worth of time that Linux control groups allow a process, rounded up, or None.

    root : where the control groups are mounted
    membership : the file that names the groups of the process; a limit of an outer group holds too
    """
    shares = [share for folder in _groups(root, membership) if (share := _share(folder))]
    return math.ceil(min(shares)) if shares else None


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    """The folders of all control groups around the process that may limit its cores."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / controllers  # version 2 has one tree for all controllers, without a name
        # a container often sees its own group as the root, under a path that it cannot see
        folder = base / path.lstrip("/")
        yield folder
        yield from (outer for outer in folder.parents if outer.is_relative_to(base))


def _share(folder: Path) -> float | None:
    """The quota of one group in cores; None where there is none, or none that can be read."""
    try:
        if (folder / "cpu.max").exists():  # version 2: "150000 100000" or "max 100000"
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()  # -1: no limit
            period = (folder / "cpu.cfs_period_us").read_text()
        share = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def set_num_threads(count: int) -> None:
    """Let CPU kernels, Numba's and BLAS's alike, use ``count`` threads from now on.

    Raises `ThreadCountError` unless ``count`` is between 1 and the number of usable cores.

    >>> set_num_threads(get_num_threads())
    """
    global _chosen
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= usable_cores():
        raise ThreadCountError(
            f"set_num_threads: count is {count!r}; give a whole number from 1 to {usable_cores()}, "
            "the cores that this process may use."
        )
    _chosen = count
    apply_num_threads()


def give_threads_to_blas(wanted: bool) -> None:
    """Say whether BLAS or a kernel set's own loops get the threads."""
    global _blas_has_threads
    _blas_has_threads = wanted
    apply_num_threads()


def apply_num_threads() -> None:
    """Bring BLAS and Numba to their numbers; other Python threads follow at their next kernel.

    A checkout that is used without being installed may lack threadpoolctl; then BLAS keeps the
    number of threads that it started with.
    """
    global _blas_limit, _version
    with contextlib.suppress(ImportError):
        import threadpoolctl

        blas_count = get_num_threads() if _blas_has_threads else 1
        _blas_limit = threadpoolctl.threadpool_limits(limits=blas_count, user_api="blas")
    _version += 1
    if "numba" in sys.modules:
        use_num_threads()


def use_num_threads(is_small: bool = False) -> None:
    """Give Numba's loops their number of threads, in the Python thread that is about to run one.

    is_small : the work is not worth sharing, and one thread does it
    """
    version, numba = _version, sys.modules["numba"]
    if _applied.version != version:
        _applied.allowed = min(get_num_threads(), numba.config.NUMBA_NUM_THREADS)
        _applied.current, _applied.version = 0, version
    count = 1 if is_small else _applied.allowed
    if _applied.current != count:
        numba.set_num_threads(count)
        _applied.current = count


class ThreadCountError(MiniCNNError, ValueError):
    """A number of threads that this machine cannot give."""
