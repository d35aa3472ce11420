"""The benchmarks: their protocol, options and pages, and short runs. No time is asserted."""

import doctest
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")  # the compiled loops are among what is measured

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # the scripts import each other by name, as when run

import kernel_cases  # noqa: E402
import report  # noqa: E402
import timing  # noqa: E402
import versus  # noqa: E402
import versus_page  # noqa: E402
import workers  # noqa: E402

import kernels  # noqa: E402
from minicnn.testing.tolerance import CheckError  # noqa: E402
from minicnn_kernels.reference import PRIMITIVES, Kernels  # noqa: E402

LIMITS = {"gflops": 100.0, "gigabytes_per_second": 10.0}


@pytest.fixture
def variables(monkeypatch):
    """The environment of a worker on the array code, which has nothing to compile."""
    monkeypatch.setenv("MINICNN_BACKEND", "numpy")
    root = BENCHMARKS.parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (root, root / "kernels"))))
    return workers.environment(threads=1, keep_freed_memory=True)


def test_worker_answers_every_request(variables):
    with workers.Worker("minicnn", sys.executable, variables) as worker:
        assert set(worker.versions) == {"Python", "minicnn", "NumPy"}
        worker.ask("build", network="notes_cnn", batch=2, training=True, threads=1)
        assert worker.ask("step")["seconds"] > 0
        assert np.shape(worker.ask("logits")["logits"]) == (2, 10)
        memory = worker.ask("memory")
        if sys.platform == "linux":
            assert 0 < memory["before"] <= memory["peak"]


def test_an_error_is_an_answer_and_the_worker_goes_on(variables):
    with workers.Worker("minicnn", sys.executable, variables) as worker:
        with pytest.raises(workers.PeerError, match="KeyError: 'no_net'"):
            worker.ask("build", network="no_net", batch=2, training=True, threads=1)
        worker.ask("build", network="notes_cnn", batch=1, training=False, threads=1)


def test_a_library_that_cannot_be_imported_says_why(variables, tmp_path):
    (tmp_path / "dezero.py").write_text("raise ImportError('not today')\n")
    variables["PYTHONPATH"] = str(tmp_path)
    with pytest.raises(workers.PeerError, match=r"^ImportError: not today$"):
        workers.Worker("dezero", sys.executable, variables)


def test_what_a_library_prints_does_not_disturb_the_channel(variables, tmp_path):
    (tmp_path / "dezero.py").write_text("import os\nos.write(1, b'hello\\n')\nimport missing\n")
    variables["PYTHONPATH"] = str(tmp_path)
    with pytest.raises(workers.PeerError, match="No module named 'missing'"):
        workers.Worker("dezero", sys.executable, variables)


@pytest.mark.parametrize("is_dead", [False, True], ids=["dying", "dead"])
def test_a_worker_that_dies_leaves_its_last_words(monkeypatch, tmp_path, is_dead):
    script = tmp_path / "worker.py"
    script.write_text("import sys\nprint('{\"versions\": {}}', flush=True)\nsys.exit('full')\n")
    monkeypatch.setattr(workers, "SCRIPT", script)
    with workers.Worker("torch", sys.executable, dict(os.environ)) as worker:
        if is_dead:
            worker._process.wait()
        with pytest.raises(workers.PeerError, match="ended with code 1: full"):
            worker.ask("step")


def test_workers_get_one_allocator_or_their_own(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    kept = workers.environment(3, keep_freed_memory=True)
    assert kept["MALLOC_TRIM_THRESHOLD_"] == kept["MALLOC_MMAP_THRESHOLD_"] == str(2**30)
    assert kept["OMP_NUM_THREADS"] == "3"
    assert kept["OMP_WAIT_POLICY"] == "passive"
    assert "MALLOC_TRIM_THRESHOLD_" not in workers.environment(3, keep_freed_memory=False)


def test_outputs_that_differ_by_more_than_rounding_stop_the_run():
    expected = np.array([[1.0, -2.0]])
    versus.check_outputs("x", "notes_cnn", expected * (1 + 1e-6), expected)
    with pytest.raises(SystemExit, match="x: outputs differ"):
        versus.check_outputs("x", "notes_cnn", expected * (1 + 1e-3), expected)
    with pytest.raises(SystemExit):
        versus.check_outputs("x", "notes_cnn", expected * np.nan, expected)


def test_terms_between_image_and_logits():
    assert versus.terms_of("notes_cnn") == 25 + 16 * 25 + 32 * 49


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--networks", "notes_cn"], ["'notes_cn'", "did you mean 'notes_cnn'"]),
        (["--peers", "chaner"], ["'chaner'", "did you mean 'chainer'"]),
        (["--modes", "trainin"], ["'trainin'", "did you mean 'training'"]),
        (["--round", "3"], ["'--round'", "did you mean '--rounds'"]),
        (["--rounds", "0"], ["--rounds is 0"]),
        (["--batch", "0"], ["--batch is 0"]),
        (["--threads", "100000"], ["--threads is 100000", "cores"]),
        (["--python", "chainer"], ["'chainer'", "LIBRARY=PATH"]),
        (["--python", "jax=/bin/python"], ["'jax=/bin/python'", "tinygrad"]),
    ],
)
def test_mistakes_in_the_options_get_one_sentence(capsys, arguments, parts):
    with pytest.raises(SystemExit) as stop:
        versus.main(arguments)
    assert stop.value.code == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("versus.py: ")
    for part in parts:
        assert part in sentence


def test_quick_run_of_minicnn_alone(variables, tmp_path, capsys):
    sizes = ["--batch", "2", "--rounds", "1", "--threads", "1"]
    what = ["--peers", "minicnn", "--modes", "training", "inference-1"]
    versus.main(["--quick", *what, *sizes, "--results", str(tmp_path)])
    (file,) = tmp_path.glob("versus-*.json")
    results = json.loads(file.read_text())
    rows = results["rows"]
    assert [(row["mode"], row["batch"]) for row in rows] == [("training", 2), ("inference-1", 1)]
    assert all(row["ratio"] == 1 and row["milliseconds"] > 0 for row in rows)
    text = file.with_suffix(".md").read_text()
    assert text in capsys.readouterr().out
    assert "notes_cnn, 1x28x28 | 2 |" in text
    assert results["processor"] in text


class Dying:
    """Stands for a worker; its process ends after some answers."""

    def __init__(self, answers):
        self.left = answers

    def ask(self, action):
        self.left -= 1
        if self.left < 0:
            raise workers.PeerError("its process ended")
        return {"seconds": 1.0}


def test_a_library_that_fails_on_the_way_is_left_out():
    comparison = versus.Comparison(versus.options_of(["--quick"]))
    found = {"minicnn": Dying(9), "torch": Dying(1), "dezero": Dying(9)}
    for expected in (["minicnn", "torch", "dezero"], ["minicnn", "dezero"]):
        assert [name for name, _ in comparison._ask_each(found, "x", "step")] == expected
    (entry,) = comparison.results["left_out"]
    assert (entry["library"], entry["reason"]) == ("torch", "its process ended")
    with pytest.raises(SystemExit, match="minicnn, x: its process ended"):
        list(comparison._ask_each({"minicnn": Dying(0)}, "x", "step"))


def test_libraries_written_for_the_notes_cnn_are_not_asked_for_others():
    comparison = versus.Comparison(versus.options_of(["--quick"]))
    assert comparison._peers_of("notes_cnn") == versus.DEFAULT_PEERS
    assert comparison._peers_of("vgg16") == ["minicnn", "torch"]


def test_quick_run_beside_pytorch_compares_gradients_first(variables, tmp_path):
    pytest.importorskip("torch")
    sizes = ["--batch", "2", "--rounds", "1", "--threads", "1", "--modes", "training"]
    versus.main(["--quick", "--peers", "torch", *sizes, "--results", str(tmp_path)])
    (file,) = tmp_path.glob("versus-*.json")
    results = json.loads(file.read_text())
    assert results["gradients"]["notes_cnn"]["agrees"]
    assert [row["library"] for row in results["rows"]] == ["minicnn", "torch"]


def example_row(library, mode="training", network="notes_cnn", **changes):
    return {
        "network": network,
        "mode": mode,
        "batch": 128,
        "library": library,
        "milliseconds": 20.0,
        "quartiles_ms": [19.0, 21.0],
        "ratio": 1.0,
        "step_bytes": 5_000_000,
        "peak_bytes": 90_000_000,
        **changes,
    }


def example_results(rows, **changes):
    return {
        **report.machine(2),
        "allocator": "keep",
        "rounds": 15,
        "versions": {"minicnn": {"minicnn": "1", "NumPy": "2"}, "torch": {"PyTorch": "3"}},
        "rows": rows,
        "left_out": [],
        **changes,
    }


def test_page_shows_ratios_memory_and_what_is_missing():
    slower = example_row("torch", milliseconds=30.0, ratio=1.5, step_bytes=4_000_000)
    only_ours = example_row("minicnn", network="vgg16")
    reason = {"library": "dezero", "what": "everything", "reason": "ImportError: no"}
    rows = [example_row("minicnn"), slower, only_ours]
    lines = versus_page.page(example_results(rows, left_out=[reason])).splitlines()
    assert "| notes_cnn, 1x28x28 | 128 | 20.00 | 30.00 (1.50) |" in lines
    assert "| vgg16, 3x224x224 | 128 | 20.00 |  |" in lines
    assert "| notes_cnn, 1x28x28 | 128 | 5.0 (90.0) | 4.0 (90.0) | no |" in lines
    assert "| vgg16, 3x224x224 | 128 | 5.0 (90.0) |  |  |" in lines
    assert "- dezero, everything: ImportError: no" in lines


def test_page_without_memory_says_so():
    rows = [example_row("minicnn", step_bytes=None, peak_bytes=None)]
    assert "this system does not tell" in versus_page.page(example_results(rows))


@pytest.mark.parametrize("module", [report, timing, versus_page])
def test_examples_in_the_helpers(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_interleaved_takes_turns_and_does_not_time_the_first_call():
    calls = []
    times = timing.interleaved(
        [lambda: calls.append("a"), lambda: calls.append("b")], 0.0, before=calls.append
    )
    assert [len(taken) for taken in times] == [timing.LEAST_ROUNDS] * 2
    assert calls == [0, "a", 1, "b"] * (timing.LEAST_ROUNDS + 1)


class Faulty(Kernels):
    """Overrides one primitive, wrongly."""

    name = "faulty"

    def relu(self, x):
        return x


def case_of(primitive):
    found = (c for c in kernel_cases.cases() if c.primitive == primitive and "notes" in c.layer)
    return next(found)


def test_every_case_names_a_primitive_and_a_layer_once():
    names = [(case.primitive, case.layer) for case in kernel_cases.cases()]
    assert len(names) == len(set(names))
    assert {primitive for primitive, _ in names} <= PRIMITIVES


@pytest.mark.parametrize(
    "case", [c for c in kernel_cases.cases() if "notes" in c.layer], ids=lambda c: c.primitive
)
def test_cases_agree_with_the_reference(case):
    assert kernels.check(case, kernel_cases.REFERENCE) > 0


def test_wrong_kernels_are_not_timed():
    with pytest.raises(CheckError, match="relu of faulty"):
        kernels.measure(case_of("relu"), [Faulty()], 0.0, LIMITS)


def test_a_primitive_from_the_reference_is_listed_but_not_timed():
    (row,) = kernels.measure(case_of("relu_grad"), [Faulty()], 0.0, LIMITS)
    assert row["milliseconds"] is None
    assert kernels.cells(row)[3] == "the reference's"


def test_rates_follow_from_the_median():
    case = kernel_cases.Case("conv2d", "x", lambda rng: (), operations=2_000_000_000)
    row = kernels.rates(case, [0.1, 0.1, 0.1], 500_000_000, LIMITS)
    assert row["gflops"] == pytest.approx(20)
    assert row["gigabytes_per_second"] == pytest.approx(5)
    assert row["share"] == pytest.approx(0.5)  # half of the bandwidth, a fifth of the arithmetic
    assert row["spread"] == 0


def test_kernels_writes_its_page(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "arithmetic", lambda workers: 100.0)
    monkeypatch.setattr(kernels, "bandwidth", lambda: 10.0)
    what = ["--primitives", "relu", "max_pool2d", "--layers", "notes, second", "--sets", "numpy"]
    kernels.main([*what, "--threads", "1", "--seconds", "0", "--results", str(tmp_path)])
    (file,) = tmp_path.glob("kernels-*.md")
    lines = file.read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines if "notes" in line] == ["| max_pool2d", "| relu"]


def test_kernels_names_the_nearest_primitive(capsys):
    with pytest.raises(SystemExit):
        kernels.main(["--primitives", "conv2"])
    assert "did you mean 'conv2d'" in capsys.readouterr().err
