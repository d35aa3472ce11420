"""Standard streams that are closed, full, cut off or of another alphabet."""

import io
import os
import shlex
import sys
from pathlib import Path

import pytest
import stored_run

import minicnn
from minicnn import nn
from minicnn.cli import main
from minicnn.commands import streams
from minicnn.errors import DataError
from minicnn.models import registry
from minicnn.training.checkpoint import newest_checkpoint
from minicnn.training.inference import lines, pictures, predict_files

META = {"image_shape": (1, 2, 2), "mean": 0.5, "std": 0.5}
ARGUMENTS = [
    "train", "--model", stored_run.NAME, "--name", "run", "--epochs", "2", "--batch-size", "20",
    "--images", "200", "--validation", "0.5", "--backend", "numpy", "--source", "sample",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_architectures", dict(registry._architectures))
    stored_run.known()
    monkeypatch.chdir(tmp_path)
    with minicnn.use_backend("numpy"):
        yield


def left():
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", buffering=1)


def full():
    if not os.path.exists("/dev/full"):
        pytest.skip("the system has no /dev/full")
    return open("/dev/full", "w", buffering=1)


@pytest.mark.parametrize(("made", "said"), [(left, ""), (full, "No space left on device")])
def test_a_training_goes_on_when_its_output_goes_nowhere(monkeypatch, capsys, made, said):
    with made() as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        assert main(ARGUMENTS) == 0
    assert said in capsys.readouterr().err
    assert newest_checkpoint("runs/run").meta["epoch"] == 2
    assert Path("runs/run/result.json").exists()


@pytest.mark.parametrize("command", [["models"], ["summary", "lenet5"], ["recipes"]])
def test_a_reader_that_has_seen_enough_is_no_mistake(monkeypatch, capsys, command):
    with left() as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        assert main(command) == 0
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_a_mistake_of_a_command_that_only_prints(monkeypatch, capsys):
    with full() as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        assert main(["recipes"]) == 2
    assert capsys.readouterr().err == "minicnn recipes: No space left on device.\n"


def test_a_full_disk_that_is_noticed_at_the_end(monkeypatch, capsys):
    with full() as nowhere:
        nowhere.reconfigure(line_buffering=False)
        monkeypatch.setattr(sys, "stdout", nowhere)
        assert main(["recipes"]) == 2
    assert capsys.readouterr().err == "minicnn recipes: No space left on device.\n"


@pytest.mark.parametrize("command", [["models", "lenet5"], ["recipes"]])
def test_closed_output(monkeypatch, command):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(command) == 0
    sys.stdout.close()


def test_an_output_of_another_alphabet(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    streams.prepare()
    print("Äpfel 日本 \udcff", flush=True)
    assert written.getvalue() == b"\xc4pfel \\u65e5\\u672c \\udcff\n"


def test_closed_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["predict", "--run", "no-such-run", "-"]) == 2
    assert "the standard input, which is closed" in capsys.readouterr().err


def test_input_that_is_no_list_of_paths():
    with open("/dev/zero", "rb") as zeros, pytest.raises(DataError, match="is no path"):
        list(lines(zeros.fileno()))


def test_a_path_that_is_too_long_does_not_stop_the_others():
    found = predict_files(nn.Flatten(), META, pictures(["x" * 5000, "no-such.png"]))
    assert ["too long" in one.error for one in found] == [True, False]


@pytest.mark.parametrize("option", ["--resume", "--weights", "--name", "--data"])
def test_names_that_are_too_long_for_the_system(capsys, option):
    Path("runs").mkdir()
    assert main([*ARGUMENTS, option, "x" * 5000]) == 2
    assert capsys.readouterr().err.startswith("minicnn train: ")
    assert list(Path("runs").iterdir()) == []


def test_the_cure_for_a_folder_that_exists_is_one_that_works(capsys, monkeypatch):
    Path("runs/run").mkdir(parents=True)  # by a run that was killed while it loaded its data
    assert main(ARGUMENTS) == 2
    said = capsys.readouterr().err
    assert "remove the folder" in said
    assert "--resume" not in said
    folder = Path("my runs/it's")
    folder.mkdir(parents=True)
    (folder / "config.toml").touch()
    assert main([*ARGUMENTS, "--output", str(folder.parent), "--name", folder.name]) == 2
    assert f"--resume {shlex.quote(str(folder))}." in capsys.readouterr().err
