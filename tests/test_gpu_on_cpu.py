"""The tests marked gpu, and those of the stand-in, in processes where `cupy` is the stand-in.

A process of its own, because a process that has imported the stand-in has a GPU for good: every
other test would then see one. The address sanitizer needs one too, since it has to be loaded before
Python. Each run says how many tests ran, and fails where none did.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import RAN_ON_CPU, THOROUGH

ROOT = Path(__file__).parents[1]
STAND_IN = ROOT / "tests" / "cuda_on_cpu"
COMPILER = os.environ.get("CXX", "g++")

pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"there is no C++ compiler {COMPILER!r}"
)

# Kernels of every kind, at shapes that an instrumented build gets through in seconds.
SANITIZED = "test_spec and cupy_cuda and float32 and (max_pool2d or softmax)"
SANITIZED_OWN = "tiled or shuffles or warp_operations or tensor_core or copies_that or atomics"


@dataclasses.dataclass
class Outcome:
    """What a run of pytest came to: numbers of tests, and its output."""

    ran: int
    failed: int
    skipped: list[str]
    text: str

    def check(self, config: pytest.Config, what: str) -> None:
        """Fail with the whole output unless every test passed and there was at least one."""
        assert not self.failed, f"{self.failed} of {self.ran} tests failed\n{self.text}"
        assert self.ran, f"no test ran; skipped: {self.skipped}\n{self.text}"
        config.stash.setdefault(RAN_ON_CPU, []).append(f"{self.ran} {what}")


def environment(**extra: str) -> dict[str, str]:
    """The variables of a process that finds the stand-in first."""
    path = [str(STAND_IN), str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    # Of the sets for the CPU the one that compiles nothing, and fewer examples: threads cost more.
    cpu = {"MINICNN_BACKEND": "numpy"} | ({} if THOROUGH else {"MINICNN_TEST_EXAMPLES": "10"})
    return os.environ | cpu | {"PYTHONPATH": os.pathsep.join(filter(None, path))} | extra


def sanitizing(**extra: str) -> dict[str, str]:
    """The variables of a process whose kernels are built with the sanitizers."""
    asked = [COMPILER, "-print-file-name=libasan.so"]
    library = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(library).is_absolute():
        pytest.skip("the compiler has no address sanitizer")
    options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return environment(LD_PRELOAD=library, MINICNN_CUDA_SANITIZE="1", **options, **extra)


class Run:
    """pytest on tests of this folder, started at once; it takes no options but those given."""

    def __init__(self, folder: Path, env: dict[str, str], *arguments: str) -> None:
        folder.mkdir(exist_ok=True)
        self.report, self.output = folder / "report.xml", folder / "output.txt"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
        # A report of the sanitizers must not be lost in what pytest has captured and not shown.
        command += [f"--junitxml={self.report}", "-o", "addopts=--strict-markers"]
        command += ["--capture=sys", *arguments]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)

    def outcome(self) -> Outcome:
        """What it came to, once it has ended."""
        status = self.process.wait()
        text = self.output.read_text()
        if not self.report.exists():  # a sanitizer ended the process
            return Outcome(0, 1, [], text)
        cases = list(ElementTree.parse(self.report).getroot().iter("testcase"))
        bad = [case for case in cases if {part.tag for part in case} & {"failure", "error"}]
        skipped = [case.find("skipped") for case in cases]
        reasons = [str(note.get("message")) for note in skipped if note is not None]
        failed = len(bad) or int(status not in (0, 5))  # 5: nothing was selected
        return Outcome(len(cases) - len(reasons), failed, reasons, text)


def run(folder: Path, env: dict[str, str], *arguments: str) -> Outcome:
    return Run(folder, env, *arguments).outcome()


PARTS = {
    "the kernels' own tests": ("tests/gpu", "-m", "gpu"),
    "tests of every set": ("tests", "-m", "gpu", "--ignore=tests/gpu"),
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The GPU tests in two processes, side by side."""
    started = {
        name: Run(tmp_path_factory.mktemp("gpu"), environment(), *arguments)
        for name, arguments in PARTS.items()
    }
    yield started
    for process in started.values():
        process.process.kill()
        process.process.wait()


def test_the_stand_in_itself(tmp_path, pytestconfig):
    files = "tests/test_cuda_shim.py", "tests/test_cuda_stand_in.py"
    outcome = run(tmp_path, environment(), *files)
    outcome.check(pytestconfig, "of the stand-in")
    assert not outcome.skipped


@pytest.mark.parametrize("part", PARTS)
def test_every_gpu_test(part, parts, pytestconfig):
    parts[part].outcome().check(pytestconfig, f"marked gpu ({part})")


def test_kernels_under_the_sanitizers(tmp_path, pytestconfig):
    outcome = run(tmp_path, sanitizing(), "tests/test_cuda_shim.py", "-k", SANITIZED_OWN)
    outcome.check(pytestconfig, "of the stand-in under the sanitizers")


def test_primitives_under_the_sanitizers(tmp_path, pytestconfig):
    outcome = run(tmp_path, sanitizing(), "tests/test_ops.py", "-m", "gpu", "-k", SANITIZED)
    outcome.check(pytestconfig, "marked gpu under the sanitizers")


FAULT = r"""
import sys
import cupy, numpy as np
text = '''
extern "C" __global__ void faulty(float* y, int at) {
    __shared__ float fixed[8];
    extern __shared__ float chosen[];
    fixed[threadIdx.x] = chosen[threadIdx.x] = 1.0f;
    __syncthreads();
    switch (FAULT) {
        case 0: y[at + threadIdx.x] = 1.0f; break;
        case 1: y[threadIdx.x] = y[at + threadIdx.x]; break;
        case 2: y[threadIdx.x] = fixed[at + threadIdx.x]; break;
        case 3: y[threadIdx.x] = chosen[at + threadIdx.x]; break;
        case 4: *(float4*)(y + at) = make_float4(1, 2, 3, 4); break;
    }
}
'''
module = cupy.RawModule(code=text, options=(f"-DFAULT={sys.argv[1]}",))
kernel = module.get_function("faulty")
y = cupy.zeros(8, np.float32)
for at in (0, 1):
    kernel((1,), (8,), (y, np.int32(at)), shared_mem=32)
    print("launch", at, "returned", flush=True)
"""


@pytest.mark.parametrize(
    ("fault", "line", "message"),
    [
        (0, 8, "AddressSanitizer: use-after-poison.*WRITE of size 4"),
        (1, 9, "AddressSanitizer: use-after-poison.*READ of size 4"),
        (2, 10, "index 8 out of bounds for type 'float"),
        (3, 11, "AddressSanitizer: use-after-poison.*READ of size 4"),
        (4, 12, "misaligned address"),
    ],
)
def test_the_sanitizers_name_the_line(fault, line, message):
    command = [sys.executable, "-c", FAULT, str(fault)]
    done = subprocess.run(command, env=sanitizing(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode
    assert done.stdout == "launch 0 returned\n"
    output = " ".join(done.stderr.split("\n"))
    assert re.search(message, output), done.stderr
    assert f".cu:{line}" in done.stderr


def test_a_failure_is_reported_in_full(tmp_path):
    file = tmp_path / "test_planted.py"
    file.write_text(
        "import cupy\ndef test_right():\n    assert cupy.IS_STAND_IN\n"
        "def test_wrong():\n    assert float(cupy.ones(3).sum()) == 4.0, 'planted'\n"
        "def test_left_out():\n    import pytest\n    pytest.skip('for a reason')\n"
    )
    outcome = run(tmp_path, environment(), str(file))
    assert (outcome.ran, outcome.failed, outcome.skipped) == (2, 1, ["for a reason"])
    assert "AssertionError: planted" in outcome.text


def test_a_run_without_tests_is_a_failure(tmp_path, pytestconfig):
    (tmp_path / "test_nothing.py").write_text("x = 1\n")
    outcome = run(tmp_path, environment(), str(tmp_path / "test_nothing.py"))
    with pytest.raises(AssertionError, match="no test ran"):
        outcome.check(pytestconfig, "of nothing")
