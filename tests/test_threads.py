"""How many threads the kernels use: the rule, containers, and other Python threads."""

from __future__ import annotations

import os
import threading

import numba
import numpy as np
import pytest
import threadpoolctl

import minicnn
from minicnn_kernels import registry, threads
from minicnn_kernels.numba_cpu import NumbaKernels
from minicnn_kernels.reference import Kernels

CORES = threads.usable_cores()
needs_two_cores = pytest.mark.skipif(CORES < 2, reason="needs two cores")


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    for variable in ("MINICNN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    before = threads._chosen
    yield
    threads._chosen = before
    monkeypatch.undo()
    threads.apply_num_threads()


# ------------------------------------------------------------------ the rule


def eight_cores(monkeypatch, quota=None):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_own_quota", lambda: quota)


@pytest.mark.parametrize(
    ("ours", "openmp", "expected"),
    [
        (None, None, 8),
        (None, "3", 3),
        ("2", "3", 2),
        ("2", None, 2),
        (None, "4,2", 4),  # OpenMP's list, one number for each level of nesting
        ("0", "3", 3),
        ("many", None, 8),
        ("", "", 8),
        ("100", None, 8),
    ],
)
def test_the_environment(monkeypatch, ours, openmp, expected):
    eight_cores(monkeypatch)
    threads._chosen = None
    for variable, value in (("MINICNN_NUM_THREADS", ours), ("OMP_NUM_THREADS", openmp)):
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert minicnn.get_num_threads() == expected


def test_a_call_beats_the_environment(monkeypatch):
    eight_cores(monkeypatch)
    monkeypatch.setenv("MINICNN_NUM_THREADS", "2")
    minicnn.set_num_threads(5)
    assert minicnn.get_num_threads() == 5


@pytest.mark.parametrize("count", [0, -1, 9, 2.0, True, "2"])
def test_a_wrong_number_is_refused(monkeypatch, count):
    eight_cores(monkeypatch)
    with pytest.raises(threads.ThreadCountError, match="give a whole number from 1 to 8"):
        minicnn.set_num_threads(count)


def test_a_quota_limits_the_cores(monkeypatch):
    threads._chosen = None
    eight_cores(monkeypatch, quota=3)
    assert minicnn.get_num_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert minicnn.get_num_threads() == 3
    eight_cores(monkeypatch, quota=30)
    assert threads.usable_cores() == 8


# ------------------------------------------------------------------ control groups


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def quota(tmp_path, membership):
    file = tmp_path / "membership"
    file.write_text(membership)
    return threads.cpu_quota(tmp_path / "cgroup", file)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("max 100000\n", None),
        ("0 100000\n", None),
        ("200000 0\n", None),
        ("200000\n", None),
        ("", None),
        ("nonsense\n", None),
    ],
)
def test_quota_of_version_2(tmp_path, content, expected):
    group(tmp_path / "cgroup", cpu__max=content)
    assert quota(tmp_path, "0::/\n") == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [("250000\n", 3), ("-1\n", None), ("20000\n", 1), ("x\n", None)]
)
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_quota_of_version_1(tmp_path, limit, expected, controllers):
    folder = tmp_path / "cgroup" / controllers / "docker" / "abc"
    group(folder, cpu__cfs_quota_us=limit, cpu__cfs_period_us="100000\n")
    assert quota(tmp_path, f"5:memory:/docker/abc\n4:{controllers}:/docker/abc\n") == expected


def test_the_smallest_quota_of_all_outer_groups_holds(tmp_path):
    root = tmp_path / "cgroup"
    group(root / "user" / "job" / "step", cpu__max="700000 100000")
    group(root / "user", cpu__max="300000 100000")
    group(root / "other", cpu__max="100000 100000")
    assert quota(tmp_path, "0::/user/job/step\n") == 3


def test_a_container_that_sees_its_own_group_as_the_root(tmp_path):
    group(tmp_path / "cgroup" / "cpu", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert quota(tmp_path, "4:cpu:/docker/of/the/host\n") == 2


@pytest.mark.parametrize("membership", ["", "nonsense", "0::/", "1:cpuset:/\n0::/../..\n"])
def test_no_quota_where_there_is_nothing_to_read(tmp_path, membership):
    assert quota(tmp_path, membership) is None
    assert threads.cpu_quota(tmp_path, tmp_path / "missing") is None


# ------------------------------------------------------------------ who gets the threads


def blas_threads():
    return {
        pool["num_threads"]
        for pool in threadpoolctl.threadpool_info()
        if "blas" in pool["user_api"]
    }


@needs_two_cores
def test_loops_or_blas_get_the_threads_never_both():
    minicnn.set_num_threads(2)
    with minicnn.use_backend("numba"):
        assert blas_threads() == {1}
        with minicnn.use_backend("numpy"):
            assert blas_threads() == {2}
        assert blas_threads() == {1}


def in_another_thread(function):
    """The result of ``function`` in a new Python thread."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def kernel_threads(numbers=2**21):
    """Run a kernel; Numba's number of threads while it runs, in this Python thread."""
    registry.load("numba").relu(np.ones(numbers, np.float32))
    return numba.get_num_threads()


@needs_two_cores
def test_small_work_stays_on_one_thread():
    minicnn.set_num_threads(2)
    assert [kernel_threads(n) for n in (2**15, 2**21, 2**15, 2**15, 2**21)] == [1, 2, 1, 1, 2]


@needs_two_cores
def test_kernels_of_every_python_thread_use_the_chosen_number():
    minicnn.set_num_threads(1)
    assert in_another_thread(numba.get_num_threads) > 1  # what Numba would do
    assert in_another_thread(kernel_threads) == kernel_threads() == 1
    minicnn.set_num_threads(2)
    assert in_another_thread(kernel_threads) == kernel_threads() == 2


@needs_two_cores
def test_a_change_reaches_a_python_thread_that_is_running():
    seen, changed, ran = [], threading.Event(), threading.Event()

    def work():
        seen.append(kernel_threads())
        ran.set()
        changed.wait(60)
        seen.append(kernel_threads())

    minicnn.set_num_threads(2)
    thread = threading.Thread(target=work)
    thread.start()
    ran.wait(60)
    minicnn.set_num_threads(1)
    changed.set()
    thread.join()
    assert seen == [2, 1]


def problems():
    """Primitives of several kinds, with arguments, and the exact results."""
    rng = np.random.default_rng(0)
    x, gy = (rng.integers(-9, 9, (2**21,)).astype(np.float32) for _ in range(2))
    a, w = (rng.integers(-9, 9, (n, 256)).astype(np.float32) for n in (33, 130))
    calls = [("relu", (x,)), ("relu_grad", (gy, x)), ("linear", (a, w, None))]
    reference = Kernels(np)
    return [(name, args, getattr(reference, name)(*args)) for name, args in calls]


def test_a_second_python_thread_may_run_kernels_at_the_same_time():
    kernels, wrong, running = NumbaKernels(np), [], threading.Barrier(2)
    minicnn.set_num_threads(min(2, CORES))

    def work():
        running.wait(60)
        for _ in range(60):
            for name, args, expected in problems_once:
                if not np.array_equal(getattr(kernels, name)(*args), expected):
                    wrong.append(name)
            if numba.get_num_threads() != min(2, CORES):
                wrong.append(f"{numba.get_num_threads()} threads")

    problems_once = problems()
    second = threading.Thread(target=work)
    second.start()
    work()
    second.join()
    assert wrong == []
