"""What every test can rely on: a seeded generator, and global settings as they should be."""

from __future__ import annotations

import pytest
from hypothesis import settings

import minicnn
from minicnn_kernels import algorithms, precision, registry

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")

# The stand-in for CuPy is put on the path by those who want it, and only there is it "cupy".
collect_ignore = ["cuda_on_cpu"]

FAULTS_PLANTED = pytest.StashKey[int]()
FAULTS_CAUGHT = pytest.StashKey[int]()
RAN_ON_CPU = pytest.StashKey[list[str]]()


def global_state() -> dict[str, object]:
    """The settings of the process that a test may change only for itself."""
    return {
        "kernel set": registry.selected("cpu"),
        "strict mode": registry.load("numpy").strict,
        "grad mode": minicnn.is_grad_enabled(),
        "direct convolution": algorithms.is_direct(),
        "TF32": precision.tf32_allowed(),
        "number of threads": minicnn.get_num_threads(),
    }


def restore(state: dict[str, object]) -> None:
    minicnn.use_backend(str(state["kernel set"]), strict=bool(state["strict mode"]))
    minicnn.direct_convolution(bool(state["direct convolution"]))
    minicnn.allow_tf32(bool(state["TF32"]))
    minicnn.autograd._thread.grad_enabled = bool(state["grad mode"])
    if minicnn.get_num_threads() != state["number of threads"]:
        minicnn.set_num_threads(int(str(state["number of threads"])))


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """What differs, in words."""
    return [f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key]]


@pytest.fixture(autouse=True)
def sealed():
    """Seed the generator before the test, and fail it where it leaves a global setting changed."""
    minicnn.seed(0)
    before = global_state()
    yield
    differences = changed(before, global_state())
    if differences:
        restore(before)
        pytest.fail(f"the test left global settings changed: {', '.join(differences)}")


@pytest.fixture(scope="module")
def loops_for_every_size():
    """Small arrays too go through the compiled loops, which leave them to array code otherwise."""
    if registry.availability()["numba"] is not None:
        yield
        return
    from minicnn_kernels.numba_cpu import kernels

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "SMALL", 0)
        yield


def pytest_terminal_summary(terminalreporter, config):
    planted, caught = config.stash.get(FAULTS_PLANTED, 0), config.stash.get(FAULTS_CAUGHT, 0)
    if planted:
        terminalreporter.write_line(f"{planted} planted faults, {caught} caught")
    if ran := config.stash.get(RAN_ON_CPU, []):
        terminalreporter.write_line(f"tests on the stand-in for CuPy: {', '.join(ran)}")
