"""Every CUDA kernel compiles for a GPU, spills nothing, and stays within its registers."""

from __future__ import annotations

import cuda_resources as resources
import pytest
from cuda_resources import ARCHITECTURES, CompileError

COMPILERS = resources.compilers()
pytestmark = pytest.mark.skipif(
    not COMPILERS, reason="there is neither nvcc nor NVRTC (cuda-bindings and nvidia-cuda-nvrtc)"
)
BUDGET = resources.table()
BUILDS = [
    pytest.param(file, defines, id="-".join([file.stem, *map(str, defines.values())]))
    for file in resources.files()
    for defines in resources.builds(BUDGET, file)
]

each_compiler = pytest.mark.parametrize("compiler", COMPILERS or ["none"])
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def complaints(found, allowed):
    """What is wrong with the resources of the kernels, in words."""
    for name, taken in found.items():
        if taken.spills:
            yield f"{name} spills {taken.spills} bytes"
        if name not in allowed:
            yield f"{name} takes {taken.registers} registers and has no budget"
        elif taken.registers > allowed[name]:
            yield f"{name} takes {taken.registers} registers, of {allowed[name]} allowed"


@pytest.mark.sampled(0.3)
@each_compiler
@each_architecture
@pytest.mark.parametrize(("file", "defines"), BUILDS)
def test_kernels_compile_within_their_budget(file, defines, architecture, compiler):
    found = resources.measure(COMPILERS[compiler], file, defines, architecture)
    assert found, f"{file.name} holds no kernel"
    wrong = list(complaints(found, BUDGET.get(file.stem, {}).get("registers", {})))
    assert not wrong, f"{wrong}; see cuda_resources.py"


def test_the_table_names_what_is_on_the_disk():
    files = [file.stem for file in resources.files()]
    if not files:
        pytest.skip("there are no CUDA files yet")
    assert sorted(BUDGET) == files


PLANTED = """
__device__ inline float at(const float* x, int i) { return x[i * BY]; }
extern "C" __global__ void __launch_bounds__(1024, 2) hungry(const float* x, float* y) {
    float v[96];
    for (int i = 0; i < 96; i++) v[i] = at(x, i + threadIdx.x);
    for (int k = 0; k < 96; k++)
        for (int i = 0; i < 96; i++) v[i] = v[i] * v[(i + 5) % 96] + at(x, k);
    for (int i = 0; i < 96; i++) y[i * 1024 + threadIdx.x] = v[i];
}
extern "C" __global__ void modest(float* y) { y[threadIdx.x] = 1.0f; }
"""


@each_compiler
@each_architecture
def test_spills_and_kernels_without_a_budget_are_caught(tmp_path, architecture, compiler):
    file = tmp_path / "planted.cu"
    file.write_text(PLANTED)
    found = resources.measure(COMPILERS[compiler], file, {"BY": 3}, architecture)
    assert found["hungry"].registers <= 32
    assert found["hungry"].spills > 0
    assert found["modest"].spills == 0
    said = list(complaints(found, {"hungry": 16}))
    assert any("hungry spills" in line for line in said)
    assert any("of 16 allowed" in line for line in said)
    assert any("modest takes" in line and "has no budget" in line for line in said)


@each_compiler
def test_what_does_not_compile_is_an_error(tmp_path, compiler):
    file = tmp_path / "wrong.cu"
    file.write_text('extern "C" __global__ void f(float* y) { y[0] = nowhere; }')
    with pytest.raises(CompileError, match="nowhere"):
        resources.measure(COMPILERS[compiler], file, {}, "sm_90")
