"""Faults planted into copies of the CUDA C++ kernels are noticed by the cases of the tests.

Only on the stand-in for CuPy: what a kernel with a fault does to a GPU is not foreseeable.
"""

from __future__ import annotations

import faulthandler
import os
import re
import shutil
import signal
import warnings

import pytest
from conftest import FAULTS_CAUGHT, FAULTS_PLANTED
from element_cases import CASES
from element_checks import check
from element_faults import FAULTS

from minicnn_kernels import registry

REASON = registry.availability()["cupy_cuda"]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


def label(fault):
    return re.sub(r"\s+", " ", f"{fault.file}: {fault.old} -> {fault.new}")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the kernels' text that the set compiles from, with small grids."""
    import cupy

    from minicnn_kernels.cupy_cuda import dropout, modules

    if not getattr(cupy, "IS_STAND_IN", False):
        pytest.skip("faults are planted on the stand-in for CuPy only")
    for path in [*modules.FOLDER.glob("*.cu"), *modules.FOLDER.glob("*.cuh")]:
        shutil.copy(path, tmp_path)
    caches = modules._function, modules._module, modules._headers
    with monkeypatch.context() as patch:
        patch.setattr(modules, "FOLDER", tmp_path)
        patch.setattr(modules, "WALKERS", 2)
        patch.setattr(dropout, "WALKERS", 2)
        for cache in caches:
            cache.cache_clear()
        yield tmp_path
    for cache in caches:
        cache.cache_clear()


def notices(fault, monkeypatch):
    """Whether some case of the primitive fails, in one of three orders of threads."""
    kernels = registry.load("cupy_cuda", strict=True)
    for order in ("0", "1", "5"):
        monkeypatch.setenv("MINICNN_CUDA_ORDER", order)
        for case in [c for c in CASES if c.name == fault.primitive]:
            try:
                check(kernels, case)
            except (AssertionError, RuntimeError):
                return True
    return False


def in_a_child(function, *args):
    """The result of ``function`` in a process of its own; True where that was killed.

    A fault may write anywhere, or never end.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child does without threads
        child = os.fork()
    if child == 0:
        faulthandler.disable()
        signal.alarm(60)
        result = False
        try:
            result = function(*args)
        finally:
            os._exit(0 if result else 1)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("fault", FAULTS, ids=label)
def test_planted_fault_is_caught(copy, monkeypatch, request, fault):
    path = copy / fault.file
    text = path.read_text()
    assert fault.old in text
    path.write_text(text.replace(fault.old, fault.new))
    caught = in_a_child(notices, fault, monkeypatch)
    stash = request.config.stash
    stash[FAULTS_PLANTED] = stash.get(FAULTS_PLANTED, 0) + 1
    stash[FAULTS_CAUGHT] = stash.get(FAULTS_CAUGHT, 0) + caught
    assert caught, f"no case of {fault.primitive} fails"


def test_copies_without_a_fault_pass(copy, monkeypatch):
    primitives = {fault.primitive: fault for fault in FAULTS}
    assert [name for name, fault in primitives.items() if notices(fault, monkeypatch)] == []
