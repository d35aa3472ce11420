"""The stages of ``make gpu`` on the stand-in for CuPy: whether they run and what they write.

Each stage runs in a process of its own, tiny. No time is asserted.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGE_ROWS = {  # sections that a stage must come to
    "probe": {"versions", "device", "kernel sets", "ceilings", "launches", "in a captured graph"},
    "tests": {"tests", "compute-sanitizer"},
    "kernels": {"copy", "products", "memory"},
    "training": {"PyTorch", "training", "epoch"},
}
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def environment(*extra):
    paths = [*extra, ROOT, ROOT / "kernels"]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def on_stand_in(*command):
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment(ROOT / "tests" / "cuda_on_cpu"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def results_in(folder):
    (file,) = folder.glob("gpu-*.json")
    assert file.with_suffix(".md").read_text().startswith("# GPU, ")
    return json.loads(file.read_text())


@needs_compiler
@pytest.mark.parametrize("stage", STAGE_ROWS)
def test_stage_runs_on_the_stand_in(stage, tmp_path):
    options = ["--quick", "--sets", "cupy_cuda", "--results", str(tmp_path)]
    if stage in ("probe", "kernels"):
        options.append("--no-torch")  # the training shows the other case, where PyTorch is there
    done = on_stand_in("benchmarks/gpu", stage, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    results = results_in(tmp_path)
    assert results["complete"]
    assert results["stage"] == stage
    assert "stand-in" in results["device"]
    assert {row["section"] for row in results["rows"]} >= STAGE_ROWS[stage]
    assert not [row for row in results["rows"] if row.get("error")]
    check_rows(stage, results["rows"])


def check_rows(stage, rows):
    """What the rows of a stage must hold, whatever the machine."""
    if stage == "probe":
        (torch,) = (r for r in rows if r.get("package") == "torch")
        here = importlib.util.find_spec("torch") is not None
        assert torch["version"].startswith("-") != here
        refused = {r["what"]: r["outcome"] for r in rows if r["section"] == "in a captured graph"}
        assert refused["cupy.matmul"] == "refused"
        assert refused["relu of cupy_cuda"] == refused["linear of cupy_cuda"] == "works"
    elif stage == "tests":
        (own,) = (r for r in rows if r.get("sets") == "cupy_cuda")
        assert own["tests"] > 0
        assert own["failures"] == own["errors"] == own["skipped"] == 0
    elif stage == "kernels":
        measured = [r for r in rows if "microseconds" in r]
        assert {"conv2d", "conv2d_grad_weight", "linear", "relu", "sgd_step"} <= {
            r["primitive"] for r in measured
        }
        assert all(("TFLOP/s" in r) != ("GB/s" in r) for r in measured)
    else:
        by = {r["by"]: r for r in rows if r["section"] == "training"}
        assert all("milliseconds" in by[name] for name in ("minicnn", "minicnn, CUDA graph"))
        eager, graph = (r for r in rows if r["section"] == "epoch")
        assert eager["loss"] == graph["loss"]
        if importlib.util.find_spec("torch") is not None:
            assert "milliseconds" in by["torch"]


BROKEN = """
import sys
from minicnn_kernels.cupy_cuda import CudaKernels
right = CudaKernels.relu
CudaKernels.relu = lambda self, x: right(self, x) + 1e-3
sys.path.insert(0, "benchmarks/gpu")
import runpy
sys.argv[0] = "benchmarks/gpu"
runpy.run_path("benchmarks/gpu", run_name="__main__")
"""


@needs_compiler
def test_a_wrong_kernel_is_named_and_not_timed(tmp_path):
    options = ["kernels", "--quick", "--sets", "cupy_cuda", "--only", "relu notes", "--no-torch"]
    done = on_stand_in("-c", BROKEN, *options, "--results", str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    rows = [r for r in results_in(tmp_path)["rows"] if r.get("primitive") == "relu"]
    assert rows
    assert all("is off by" in row["error"] and "microseconds" not in row for row in rows)


JUDGED = """
import sys, types
sys.path[:0] = ["benchmarks/gpu", "benchmarks", "benchmarks/peers"]
import races
options = types.SimpleNamespace(no_tf32=False, quick=True)
race = races.Race(races.Work("notes_cnn", 128), None, options)
assert race._disagreement([2.0, 1.0], [2.001, 1.0]) is None
assert "losses differ by 0.5" in race._disagreement([2.0, 1.0], [2.0, 1.5])
assert race._disagreement([float("nan")], [2.0])
times = {"minicnn": 9.0, "minicnn, CUDA graph": 2.0, "torch": 6.5, "torch, CUDA graph": 1.0}
rows = list(races.bars(race.work, {k: {"milliseconds": v} for k, v in times.items()}))
assert [(r["ratio"], r["outcome"]) for r in rows] == [(3.25, "pass"), (0.5, "short")], rows
"""


@needs_compiler
def test_other_losses_are_an_error_and_bars_are_compared_with_ratios():
    done = on_stand_in("-c", JUDGED)
    assert done.returncode == 0, done.stderr


def test_examples_in_the_sheet():
    env = environment(ROOT / "benchmarks")
    command = [sys.executable, "-m", "doctest", "benchmarks/gpu/sheet.py"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_device_nothing_is_measured(tmp_path):
    (tmp_path / "cupy.py").write_text("def is_available():\n    return False\n")
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu", "probe", "--results", str(tmp_path / "results")],
        cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "no CUDA device" in done.stdout
    assert not (tmp_path / "results").exists()


def test_an_unknown_stage_is_one_sentence():
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu", "prob"], cwd=ROOT, env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "benchmarks/gpu: stage is 'prob'; choose among probe, tests, kernels, training."
    ]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_gpu_installs_nothing_and_takes_stages():
    done = subprocess.run(
        ["make", "--dry-run", "gpu", "STAGES=probe kernels", "ARGS=--quick"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "pip" not in done.stdout
    assert "benchmarks/gpu probe kernels --results benchmarks/results --quick" in done.stdout
