"""A run folder has one writer, survives Ctrl-C at any time, and is read by later versions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import stored_run

import minicnn
import minicnn.training.callbacks
from minicnn.cli import main
from minicnn.data import fashion_mnist
from minicnn.errors import CheckpointError
from minicnn.models import registry
from minicnn.nn.prediction import predict
from minicnn.report import environment
from minicnn.testing import assert_close
from minicnn.training import build, evaluation, run_lock
from minicnn.training.checkpoint import load_checkpoint, newest_checkpoint
from minicnn.training.config import TrainConfig
from minicnn.training.ensemble import evaluate_runs
from minicnn.training.history import History
from minicnn.training.run import Run, load_model, new_run, resumed_run
from minicnn.training.run_lock import LOCK, only_writer


@pytest.fixture(autouse=True)
def _small_and_offline(monkeypatch, tmp_path):
    """The tiny network and a few images, on NumPy kernels."""
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    monkeypatch.delenv("MINICNN_DATA", raising=False)
    monkeypatch.setattr(registry, "_architectures", dict(registry._architectures))
    stored_run.known()
    source = build.DATA_SOURCES["fashion_mnist"]

    def load(split, source):
        return fashion_mnist(split, source="sample").subset(range(600))

    monkeypatch.setitem(
        build.DATA_SOURCES, "fashion_mnist", build.DataSource(load, source.mean, source.std)
    )
    monkeypatch.chdir(tmp_path)
    with minicnn.use_backend("numpy"):
        yield


def config(**changes):
    values = {
        "model": stored_run.NAME, "backend": "numpy", "batch_size": 20, "epochs": 2, "lr": 0.05,
        "images": 200, "validation": 0.5, "prefetch": 0, "name": "run",
    }  # fmt: skip
    return TrainConfig(**{**values, **changes})


# One writer --------------------------------------------------------------------------------------

WRITER = """
import sys
from minicnn.training.run_lock import only_writer
with only_writer(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def writer(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_process_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path):
    with writer(tmp_path) as process:
        message = f"written by process {process.pid} on"
        with pytest.raises(CheckpointError, match=message), only_writer(tmp_path):
            pass
        process.kill()
    assert (tmp_path / LOCK).exists()  # what a killed process leaves
    with only_writer(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / LOCK).exists()


def test_a_run_has_one_writer_from_beginning_to_end(tmp_path):
    run = new_run(config())

    class Other(minicnn.training.callbacks.Callback):
        def on_epoch_end(self, trainer, record):
            with pytest.raises(CheckpointError, match="is being written by process"):
                resumed_run(run.folder, {})
            tried.append(record["epoch"])

    tried = []
    run.trainer.callbacks.append(Other())
    run.fit()
    assert tried == [1, 2]
    assert not (run.folder / LOCK).exists()
    assert len(History.read(run.folder / "history.jsonl")) == 2


def test_the_command_says_who_writes(tmp_path, capsys):
    folder = new_run(config()).folder
    shutil.copytree(stored_run.STORED / "format-1", folder, dirs_exist_ok=True)
    before = sorted((p.name, p.stat().st_size) for p in folder.rglob("*") if p.name != LOCK)
    with writer(folder) as process:
        assert main(["train", "--resume", str(folder)]) == 2
        process.kill()
    assert "is being written by process" in capsys.readouterr().err
    assert before == sorted((p.name, p.stat().st_size) for p in folder.rglob("*") if p.name != LOCK)


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path, monkeypatch):
    """The other one ends between our opening its file and our locking it."""
    held = only_writer(tmp_path)
    held.__enter__()
    whole = run_lock._lock

    def after_the_other_has_ended(file):
        monkeypatch.setattr(run_lock, "_lock", whole)
        held.__exit__(None, None, None)
        return whole(file)

    monkeypatch.setattr(run_lock, "_lock", after_the_other_has_ended)
    with only_writer(tmp_path):
        assert (tmp_path / LOCK).exists()
        with pytest.raises(CheckpointError, match="being written"), only_writer(tmp_path):
            pass


@pytest.mark.parametrize("code", ["EROFS", "ENOSPC", "EACCES"])
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, code):
    import errno

    whole = os.open

    def refuses(path, flags, *mode, **more):
        if flags & (os.O_WRONLY | os.O_RDWR):
            number = getattr(errno, code)
            raise OSError(number, os.strerror(number), str(path))
        return whole(path, flags, *mode, **more)

    run = new_run(config())
    monkeypatch.setattr(os, "open", refuses)
    with pytest.raises(CheckpointError, match=r"cannot be written: .*\.lock"):
        run.fit()
    assert list(run.folder.iterdir()) == []


def test_a_file_system_without_locks_locks_nothing(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with only_writer(tmp_path), only_writer(tmp_path):
        pass


# Ctrl-C ------------------------------------------------------------------------------------------


def press_ctrl_c(monkeypatch, place, name, at=1):
    """Press Ctrl-C in the ``at``-th call of a function."""
    whole, calls = getattr(place, name), [0]

    def pressed(*args, **kwargs):
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(*args, **kwargs)

    monkeypatch.setattr(place, name, pressed)


ARGUMENTS = [
    "train", "--model", stored_run.NAME, "--name", "run", "--epochs", "2", "--batch-size", "20",
    "--images", "200", "--validation", "0.5", "--backend", "numpy",
]  # fmt: skip


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(("at", "epochs"), [(1, 0), (2, 1)])
def test_ctrl_c_in_the_validation(tmp_path, monkeypatch, capsys, at, epochs):
    """Saved within a batch, in the last epoch too, and resumed to the very same weights."""
    with monkeypatch.context() as patch:
        press_ctrl_c(
            patch, evaluation, "ConfusionMatrix", at
        )  # made at an evaluation's first batch
        assert main(ARGUMENTS) == 130
    assert "interrupted and saved; continue with" in capsys.readouterr().err
    run = Path("runs", "run")
    assert len(History(run / "history.jsonl")) == epochs
    assert newest_checkpoint(run).meta["step"] == 5 * at
    assert main(["train", "--resume", str(run)]) == 0
    assert main([*ARGUMENTS, "--name", "undisturbed"]) == 0
    found, expected = newest_checkpoint(run), newest_checkpoint(Path("runs", "undisturbed"))
    for name, array in expected.weights.items():
        assert found.weights[name].tobytes() == array.tobytes(), name
    records = [History.read(p / "history.jsonl").column("val_loss") for p in Path("runs").iterdir()]
    assert records[0] == records[1]


@pytest.mark.usefixtures("heard")
def test_ctrl_c_in_the_test_after_training(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, evaluation, "ConfusionMatrix", at=3)
        assert main(ARGUMENTS) == 130
    assert "continue with: minicnn train --resume" in capsys.readouterr().err
    assert not Path("runs", "run", "result.json").exists()
    assert main(["train", "--resume", str(Path("runs", "run"))]) == 0
    assert "test_accuracy" in json.loads(Path("runs", "run", "result.json").read_text())


ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, *ENDINGS])
def test_a_signal_while_the_data_are_loaded(tmp_path, monkeypatch, capsys, number):
    def load(split, source):
        os.kill(os.getpid(), number)
        raise AssertionError("Ctrl-C did not strike")

    source = build.DATA_SOURCES["fashion_mnist"]
    monkeypatch.setitem(
        build.DATA_SOURCES, "fashion_mnist", build.DataSource(load, source.mean, source.std)
    )
    assert main(ARGUMENTS) == 130
    assert capsys.readouterr().err.strip() == "minicnn train: interrupted."
    assert list(Path("runs").iterdir()) == []
    assert all(signal.getsignal(ending) is signal.SIG_DFL for ending in ENDINGS)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, *ENDINGS])
def test_a_signal_before_the_settings_are_written(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(environment, "record", lambda run: os.kill(os.getpid(), number))
    assert main(ARGUMENTS) == 130
    assert "nothing is left of it" in capsys.readouterr().err
    assert list(Path("runs").iterdir()) == []


@pytest.mark.usefixtures("heard")
def test_a_signal_in_the_test_after_training(tmp_path, monkeypatch, capsys):
    """A handler stays in place between the training and the end of the command."""
    with monkeypatch.context() as patch:
        whole = Run.test
        patch.setattr(Run, "test", lambda run: (os.kill(os.getpid(), ENDINGS[-1]), whole(run))[1])
        assert main(ARGUMENTS) == 130
    assert "continue with: minicnn train --resume runs/run" in capsys.readouterr().err


@pytest.mark.usefixtures("heard")
def test_checkpoints_stay_whatever_became_of_the_settings(tmp_path, monkeypatch):
    """Somebody deletes config.toml while the run goes on, and then interrupts it."""

    def interrupted(run):
        (run.folder / "config.toml").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "test", interrupted)
    assert main(ARGUMENTS) == 130
    assert list(Path("runs", "run", "checkpoints").iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_disk_without_room_for_the_settings_leaves_no_folder(tmp_path):
    """Not even one that stands in the way of the next run of that name."""
    program = (
        "import resource, signal, sys\n"
        "from minicnn.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = [
        "train", "--source", "sample", "--backend", "numpy", "--model", "lenet5", "--images", "40",
        "--batch-size", "20", "--name", "run",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "config.toml could not be written: File too large" in done.stderr
    assert "report" not in done.stderr
    assert list(Path("runs").iterdir()) == []


# Runs of earlier versions ------------------------------------------------------------------------


@pytest.fixture(params=sorted(stored_run.STORED.iterdir()), ids=lambda folder: folder.name)
def stored(request, tmp_path):
    return Path(shutil.copytree(request.param, tmp_path / "stored"))


def test_a_stored_run_is_read(stored):
    model, checkpoint = load_model(stored)
    expected = np.load(stored / stored_run.PROBABILITIES)
    assert_close(predict(model, stored_run.probe()), expected, terms=3 * 100)
    assert (checkpoint.meta["epoch"], checkpoint.meta["step"]) == (1, 2)
    assert History.read(stored / "history.jsonl").column("epoch") == [1]
    assert evaluate_runs([stored]).checkpoints[0].meta["epoch"] == 1


def test_a_stored_run_goes_on(stored):
    momentum = load_checkpoint(newest_checkpoint(stored).path).arrays
    run = resumed_run(stored, {"epochs": 3})
    assert run.trainer.position.step == 2
    assert any(array.any() for array in momentum.values())
    run.fit()
    assert History.read(stored / "history.jsonl").column("epoch") == [1, 2, 3]
    assert newest_checkpoint(stored).meta["epoch"] == 3


def test_this_version_s_format_is_stored(tmp_path):
    from minicnn.training.packing import FORMAT

    assert (stored_run.STORED / f"format-{FORMAT}").is_dir(), "store a run of the new format"
