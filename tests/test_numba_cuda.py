"""The Numba CUDA set on a machine without a GPU: simulated, broken on purpose, compiled.

Each fixture starts one process (see `gpu_sim`) and the tests look at what it said.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FAULTS_CAUGHT, FAULTS_PLANTED
from gpu_sim.cases import CASES
from gpu_sim.checks import CHECKS
from gpu_sim.faults import FAULTS

TESTS = Path(__file__).parent
SET = TESTS.parent / "kernels" / "minicnn_kernels" / "numba_cuda"
STAND_IN = TESTS / "cuda_on_cpu"

# Kernels whose float64 is meant: sums end in it, and numbers that change with the steps come in it.
WIDE = {
    "reduction._slice_sums", "reduction._slice_squares", "reduction._slice_products",
    "reduction._squares", "reduction._add_all", "optimizers._sgd", "optimizers._adam",
    "optimizers._rmsprop", "optimizers._scale",
}  # fmt: skip


def said(module, *args, path=(), **variables):
    """What a process of `gpu_sim` printed."""
    folders = [*map(str, path), str(TESTS), str(TESTS.parent), str(TESTS.parent / "kernels")]
    done = subprocess.run(
        [sys.executable, "-m", f"gpu_sim.{module}", *args],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), **variables},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def simulated():
    return said("simulator", "cases", NUMBA_ENABLE_CUDASIM="1")


@pytest.fixture(scope="module")
def broken():
    return said("simulator", "faults", NUMBA_ENABLE_CUDASIM="1")


@pytest.fixture(scope="module")
def over_the_stand_in():
    return said("stand_in", path=[STAND_IN], NUMBA_ENABLE_CUDASIM="1")


@pytest.fixture(scope="module")
def compiled():
    found = said("ptx", NUMBA_ENABLE_CUDASIM="0")
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.mark.parametrize("name", [*CASES, *CHECKS])
def test_the_simulator_agrees_with_the_reference(simulated, name):
    assert simulated[name] is None


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(broken, name, request):
    stash = request.config.stash
    stash[FAULTS_PLANTED] = stash.get(FAULTS_PLANTED, 0) + 1
    assert broken[name] is not None
    stash[FAULTS_CAUGHT] = stash.get(FAULTS_CAUGHT, 0) + 1


@pytest.mark.parametrize(
    "name",
    [
        "results_are_arrays_of_cupy",
        "the_rest_is_computed_by_cupy",
        "a_captured_step_reads_its_numbers_anew",
    ],
)
def test_over_the_stand_in_for_cupy(over_the_stand_in, name):
    assert over_the_stand_in[name] is None


@pytest.mark.parametrize("simulated", ["0", "1"])
def test_numba_does_not_touch_memory_of_another_kind(simulated):
    code = f"""if True:
        import cupy, minicnn_kernels.registry as registry
        cupy.IS_STAND_IN = {simulated} == 0  # as though the arrays were elsewhere
        print(registry.availability()["numba_cuda"])"""
    folders = STAND_IN, TESTS.parent / "kernels"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "NUMBA_ENABLE_CUDASIM": simulated,
        },
        check=True,
    )
    cure = {"0": "set it to 1", "1": "unset it"}[simulated]
    assert f"NUMBA_ENABLE_CUDASIM={simulated} its kernels read the memory of" in done.stdout
    assert done.stdout.strip().endswith(f"{cure}.")


def test_every_primitive_of_the_set_has_a_case():
    names = {case.primitive for case in CASES.values()}
    text = (SET / "kernels.py").read_text()
    (found,) = (n for n in ast.parse(text).body if getattr(n, "name", "") == "NumbaCudaKernels")
    assigned = [n for n in found.body if isinstance(n, ast.Assign)]
    own = {n.targets[0].id for n in assigned if isinstance(n.value, ast.Call)}
    assert own | {"random_keep"} == names


def kernels_on_disk():
    """Every kernel of the set (not the functions they call): module.name."""
    for path in SET.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            decorators = map(ast.unparse, getattr(node, "decorator_list", []))
            if isinstance(node, ast.FunctionDef) and "cuda.jit" in decorators:
                yield f"{path.stem}.{node.name}"


def test_every_kernel_compiles_for_hopper(compiled):
    assert sorted(compiled) == sorted(kernels_on_disk())
    for texts in compiled.values():
        assert all(text["target"] == ["sm_90"] for text in texts)


def test_float32_stays_float32(compiled):
    wide = {
        name: text["wide"] for name, texts in compiled.items() for text in texts if text["wide"]
    }
    assert set(wide) == WIDE, wide


def test_no_sum_depends_on_the_order_of_atomics(compiled):
    assert not [name for name, texts in compiled.items() if any(t["is_atomic"] for t in texts)]
