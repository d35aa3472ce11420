from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicnn.errors import CheckpointError
from minicnn.training import files
from minicnn.training.history import History


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "history.jsonl"


def strict(line):
    """Parse as JSON parsers outside of Python do: NaN and Infinity are errors."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


def filled(path, steps=(1, 2, 3)):
    history = History(path)
    for step in steps:
        history.append(kind="step", step=step, loss=1 / step)
    return history


def test_each_record_is_a_whole_line_at_once(path):
    history = History(path)
    for step in range(3):
        history.append(step=step, loss=0.1 * step)
        assert [strict(line) for line in path.read_text().splitlines()] == history.records
        assert path.read_bytes().endswith(b"\n")
    assert len(history) == 3


def test_a_history_without_a_path_stays_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = filled(None)
    assert history.truncate(1) == 2
    assert history.column("step") == [1]
    assert not list(tmp_path.iterdir())


def test_opening_an_existing_file_continues_it(path):
    filled(path)
    again = History(path)
    again.append(kind="step", step=4, loss=0.25)
    assert again.column("step") == [1, 2, 3, 4]
    assert History.read(path).records == again.records


def test_column(path):
    history = History(path)
    history.append(kind="step", step=1, loss=3.0)
    history.append(kind="epoch", step=1, loss=2.0, accuracy=0.5)
    history.append(kind="epoch", step=2, loss=1.0)
    assert history.column("loss") == [3.0, 2.0, 1.0]
    assert history.column("loss", kind="epoch") == [2.0, 1.0]
    assert history.column("accuracy", kind="epoch") == [0.5]
    assert history.column("loss", kind="test") == []


def test_non_finite_numbers_are_null(path):
    history = History(path)
    history.append(
        step=1, loss=math.nan, lr=[math.inf, np.float32(-np.inf)], nested={"a": (np.nan, 1)}
    )
    assert strict(path.read_text()) == {
        "step": 1,
        "loss": None,
        "lr": [None, None],
        "nested": {"a": [None, 1]},
    }
    assert History.read(path).records == history.records
    assert math.isnan(history.column("loss")[0])


def test_numpy_numbers_are_written_as_numbers(path):
    history = History(path)
    history.append(
        loss=np.float32(0.1), step=np.int64(7), best=np.bool_(True), name="ü", lr=np.array(0.5)[()]
    )
    assert strict(path.read_text()) == {
        "loss": float(np.float32(0.1)),
        "step": 7,
        "best": True,
        "name": "ü",
        "lr": 0.5,
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(3), r"append: loss is a numpy.ndarray of shape \(3,\), which JSON cannot hold"),
        ({1: 2}, r"loss has the key 1 \(int\)"),
        ([1, {2}], r"loss\[1\] is a builtins.set"),
    ],
)
def test_values_that_json_cannot_hold(path, value, message):
    history = History(path)
    with pytest.raises(CheckpointError, match=message):
        history.append(step=1, loss=value)
    assert len(history) == 0
    assert not path.exists()


@pytest.mark.parametrize("position", range(1, 20))
def test_a_torn_last_line_is_dropped_and_then_replaced(path, position):
    filled(path)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: last + position])
    history = History.read(path)
    assert history.column("step") == [1, 2]
    assert path.read_bytes() == whole[: last + position]  # reading changes nothing
    history.append(kind="step", step=3, loss=1 / 3)
    assert path.read_bytes() == whole


def test_a_last_line_that_only_lacks_its_newline_counts(path):
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    history = History(path)
    assert history.column("step") == [1, 2, 3]
    history.append(kind="step", step=4, loss=0.25)
    assert path.read_bytes() == whole + b'{"kind": "step", "step": 4, "loss": 0.25}\n'


@pytest.mark.parametrize("tail", [b"\0\0\0\0\0\0", b"\xff\xfe\n", b"{\n", b"3\n", b"[" * 100_000])
def test_garbage_in_the_last_line_is_dropped(path, tail):
    filled(path)
    with path.open("ab") as file:
        file.write(tail)
    assert History(path).column("step") == [1, 2, 3]


@pytest.mark.parametrize("garbage", [b'{"step": 2, "lo', b"\xff\xfe", b"17", b"nonsense"])
def test_a_corrupt_line_elsewhere_is_an_error(path, garbage):
    filled(path)
    lines = path.read_bytes().split(b"\n")
    lines[1] = garbage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(CheckpointError) as caught:
        History.read(path)
    assert f"line 2 of {path} is corrupt" in str(caught.value)
    assert repr(garbage) in str(caught.value)


def test_blank_lines_do_no_harm(path):
    filled(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n\n"))
    assert History(path).column("step") == [1, 2, 3]


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    with contextlib.suppress(CheckpointError):
        assert all(isinstance(record, dict) for record in History(path).records)


def test_a_file_that_is_not_there(path):
    with pytest.raises(CheckpointError, match=r"History\.read: there is no file"):
        History.read(path)
    assert History(path).records == []


def test_a_folder_is_no_history(tmp_path):
    with pytest.raises(CheckpointError, match=r"could not be read: Is a directory"):
        History(tmp_path)


def test_truncate_drops_what_is_beyond_the_checkpoint(path):
    history = filled(path, steps=(1, 2, 3, 4))
    history.append(kind="note", text="no step")
    assert history.truncate(2) == 2
    assert history.column("step") == [1, 2]
    assert History.read(path).records == history.records
    assert history.column("text") == ["no step"]
    assert os.listdir(path.parent) == [path.name]


def test_a_resumed_history_equals_an_undisturbed_one(path):
    filled(path, steps=(1, 2, 3, 4, 5))
    expected = path.read_bytes()
    path.write_bytes(expected[:-7])
    resumed = History(path)
    resumed.truncate(3)
    for step in (4, 5):
        resumed.append(kind="step", step=step, loss=1 / step)
    assert path.read_bytes() == expected


def no_space(*_):
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_no_torn_line(path, monkeypatch):
    history = filled(path)
    before = path.read_bytes()
    write, calls = os.write, []

    def half(file, data):
        calls.append(len(data))
        return write(file, data[: len(data) // 2]) if len(calls) == 1 else no_space()

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(CheckpointError, match=r"history.jsonl could not .*No space left"):
            history.append(step=4)
    assert len(calls) == 2
    assert path.read_bytes() == before
    assert history.column("step") == [1, 2, 3]
    history.append(step=4)
    assert History.read(path).column("step") == [1, 2, 3, 4]


def test_a_truncation_that_fails_changes_nothing(path, monkeypatch):
    history = filled(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(CheckpointError, match="No space left on device"):
        history.truncate(1)
    assert path.read_bytes() == before
    assert history.column("step") == [1, 2, 3]
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"could not be written: (File exists|Not a dir)"):
        History(tmp_path / "file" / "history.jsonl").append(step=1)


WRITER = """
import sys
from minicnn.training.history import History
history = History(sys.argv[1])
step = len(history)
print("ready", flush=True)
while True:
    history.append(kind="step", step=step, loss=1 / (step + 1), text="x" * 200)
    step += 1
"""


def test_a_killed_writer_loses_no_whole_line(path):
    random = np.random.default_rng(0)
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0.01, 0.1))
            process.kill()
        steps = History.read(path).column("step")
        assert steps == list(range(len(steps)))
    assert len(steps) > 3


# files.atomic_write ------------------------------------------------------------------------------


def test_atomic_write_replaces_the_whole_file(tmp_path):
    path = tmp_path / "deep" / "er" / "config.toml"
    files.atomic_write(path, "é" * 100)
    files.atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["config.toml"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_atomic_write_keeps_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "config.toml"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, no_space)
        with pytest.raises(CheckpointError) as caught:
            files.atomic_write(path, "new")
    assert f"{path} could not be written: No space left on device" in str(caught.value)
    assert "The file that was there is untouched" in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["config.toml"]


def test_atomic_write_overwrites_what_a_killed_process_left(tmp_path):
    (tmp_path / ".a.txt.tmp").write_text("a very long half-written file")
    files.atomic_write(tmp_path / "a.txt", "short")
    assert (tmp_path / "a.txt").read_text() == "short"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_device_that_is_full(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        files.write_durably(Path("/dev/full"), b"data")


def test_file_systems_that_cannot_sync_a_folder(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    files.sync_folder(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no such bits there")
def test_written_files_have_the_rights_of_any_new_file(tmp_path):
    files.atomic_write(tmp_path / "ours.txt", "x")
    (tmp_path / "plain.txt").write_text("x")
    ours, plain = ((tmp_path / name).stat().st_mode for name in ("ours.txt", "plain.txt"))
    assert ours == plain


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_history_is_not_executable(tmp_path):
    history = History(tmp_path / "history.jsonl")
    history.append(kind="epoch", epoch=1)
    assert (tmp_path / "history.jsonl").stat().st_mode & 0o111 == 0
