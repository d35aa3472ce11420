"""How many threads the CPU kernels use, and who owns them.

The number is MINICNN_NUM_THREADS, else OMP_NUM_THREADS, else the cores that this process may use;
`set_num_threads` overrides all three. Only one pool of threads works at a time: with a kernel set
that has loops of its own (Numba's), those loops get the threads and BLAS gets one; with plain array
code BLAS gets them all. Two pools would fight for the cores: the threads of OpenBLAS wait for each
other without sleeping, and where a second process shares the cores, every small product then costs
a time slice of the scheduler (a training step took 1.9 s instead of 0.15 s).
"""

from __future__ import annotations

import os
import sys
from typing import Any

from minicnn_kernels.errors import MiniCNNError

_chosen: int | None = None
_blas_has_threads = True
_blas_limit: Any = None  # threadpoolctl restores the old limit when this object dies


def get_num_threads() -> int:
    """Return the number of threads that CPU kernels use.

    >>> get_num_threads() >= 1
    True
    """
    return _chosen if _chosen is not None else default_num_threads()


def default_num_threads() -> int:
    """The number of threads without `set_num_threads`: the environment's, else all usable cores."""
    for variable in ("MINICNN_NUM_THREADS", "OMP_NUM_THREADS"):
        first = os.environ.get(variable, "").split(",")[0].strip()
        if first.isdigit() and int(first) > 0:
            return int(first)
    return usable_cores()


def usable_cores() -> int:
    """Cores that this process may run on; in a container they can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    """Bring BLAS, and Numba where it is loaded, to their number of threads."""
    global _blas_limit
    import threadpoolctl

    count = get_num_threads()
    blas_count = count if _blas_has_threads else 1
    _blas_limit = threadpoolctl.threadpool_limits(limits=blas_count, user_api="blas")
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


class ThreadCountError(MiniCNNError, ValueError):
    """A number of threads that this machine cannot give."""
