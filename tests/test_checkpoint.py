from __future__ import annotations

import hashlib
import io
import itertools
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
from hypothesis.extra import numpy as hnp

from minicnn.errors import ArgumentError, CheckpointError
from minicnn.training import files, packing
from minicnn.training.checkpoint import (
    best_checkpoint,
    load_checkpoint,
    mark_best,
    newest_checkpoint,
    prune,
    save_checkpoint,
)

FILES = ("model.safetensors", "state.npz", "checkpoint.json")


def weights_of(step):
    return {
        "conv.weight": np.full((2, 1, 3, 3), step, dtype=np.float32),
        "conv.bias": np.arange(2, dtype=np.float32) + step,
        "bn.num_batches_tracked": np.array(step, dtype=np.int64),
    }


def arrays_of(step):
    return {"momentum/conv.weight": np.full((2, 1, 3, 3), -step, dtype=np.float64)}


def save(run, step, name=None):
    meta = {"step": step, "epoch": 1}
    return save_checkpoint(run, name or f"step-{step}", weights_of(step), arrays_of(step), meta)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        array = np.asarray(array)
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.writeable, name


def assert_is_step(checkpoint, step):
    assert checkpoint.meta["step"] == step
    assert_same(checkpoint.weights, weights_of(step))
    assert_same(checkpoint.arrays, arrays_of(step))


def entries(run):
    return sorted(os.listdir(Path(run) / "checkpoints"))


# Round trips -------------------------------------------------------------------------------------


def test_a_checkpoint_holds_what_was_saved(tmp_path):
    folder = save(tmp_path / "run", 100)
    assert folder == tmp_path / "run" / "checkpoints" / "step-100"
    assert sorted(os.listdir(folder)) == sorted(FILES)
    checkpoint = load_checkpoint(folder)
    assert_is_step(checkpoint, 100)
    assert checkpoint.path == folder
    assert checkpoint.skipped == ()


DTYPES = st.sampled_from(
    [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.uint64, np.bool_]
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
LAYOUTS = st.sampled_from(
    [
        lambda a: a,
        lambda a: a.T,
        lambda a: np.asfortranarray(a) if a.ndim else a,
        lambda a: a[::-1, ...] if a.ndim else a,
        lambda a: a[..., ::2] if a.ndim else a,
        lambda a: np.broadcast_to(a, (2, *a.shape)),
    ]
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text("abc./-ü", min_size=1), ARRAYS, max_size=4), LAYOUTS)
def test_arrays_round_trip_bit_for_bit(tmp_path_factory, arrays, layout):
    arrays = {name: layout(array) for name, array in arrays.items()}
    run = tmp_path_factory.getbasetemp() / "round-trip"
    checkpoint = load_checkpoint(save_checkpoint(run, "a", arrays, arrays, {"step": 0}))
    assert_same(checkpoint.weights, arrays)
    assert_same(checkpoint.arrays, arrays)


@pytest.mark.parametrize("value", [math.nan, -0.0, math.inf, 5e-324, 1 / 3, 2**53 + 1, True])
def test_scalars_become_arrays_of_no_dimension(tmp_path, value):
    arrays = {"python": value, "numpy": np.float64(value), "payload": np.array([np.nan, -np.nan])}
    checkpoint = load_checkpoint(save_checkpoint(tmp_path, "a", arrays, arrays, {"step": 0}))
    assert_same(checkpoint.weights, arrays)
    assert_same(checkpoint.arrays, arrays)


def test_big_endian_weights_keep_their_values(tmp_path):
    weights = {"w": np.arange(5, dtype=">f4")}
    checkpoint = load_checkpoint(save_checkpoint(tmp_path, "a", weights, weights, {"step": 0}))
    assert checkpoint.weights["w"].tolist() == [0, 1, 2, 3, 4]
    assert checkpoint.arrays["w"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a.npy", "a/b", "arr_0", "日本"])
def test_names_that_numpy_savez_stumbles_over(tmp_path, name):
    arrays = {name: np.arange(3), "a": np.arange(2)}
    checkpoint = load_checkpoint(save_checkpoint(tmp_path, "x", {}, arrays, {"step": 0}))
    assert_same(checkpoint.arrays, arrays)


def test_the_files_are_what_their_names_say(tmp_path):
    from safetensors.numpy import load_file

    folder = save(tmp_path, 3)
    assert_same(load_file(folder / "model.safetensors"), weights_of(3))
    with np.load(folder / "state.npz", allow_pickle=False) as archive:
        assert_same(dict(archive), arrays_of(3))
    head = json.loads((folder / "checkpoint.json").read_text())
    assert head["format"] == 1
    for name in FILES[:2]:
        data = (folder / name).read_bytes()
        expected = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert head["files"][name] == expected


def test_equal_states_give_equal_bytes(tmp_path, monkeypatch):
    one = save(tmp_path / "one", 3)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    two = save(tmp_path / "two", 3)
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes()


KEYS = st.text().filter(lambda key: key != "$float")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_meta_round_trips(tmp_path_factory, meta):
    run = tmp_path_factory.getbasetemp() / "meta"
    meta["step"] = 3
    found = load_checkpoint(save_checkpoint(run, "a", {}, {}, meta)).meta
    assert repr(found) == repr(meta)  # repr, so that NaN equals itself and -0.0 differs from 0.0


def test_meta_holds_the_state_of_a_generator_and_of_a_plateau(tmp_path):
    state = np.random.default_rng(0).bit_generator.state
    meta = {"step": np.int64(3), "random": state, "best": math.inf, "betas": (0.9, np.float32(0.5))}
    found = load_checkpoint(save_checkpoint(tmp_path, "a", {}, {}, meta)).meta
    assert found == {"step": 3, "random": state, "best": math.inf, "betas": [0.9, 0.5]}


def test_checkpoint_json_is_strict_json(tmp_path):
    folder = save_checkpoint(tmp_path, "a", {}, {}, {"step": 0, "best": -math.inf, "x": [math.nan]})

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((folder / "checkpoint.json").read_text(), parse_constant=refuse)


# What cannot be saved ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", ".hidden", "a b", "a\0", "-x", "a\n", "a" * 201]
)
def test_names_that_are_no_file_names(tmp_path, name):
    with pytest.raises(ArgumentError, match=r"save_checkpoint: the name .* must be at most 200 "):
        save(tmp_path, 1, name or "\t")
    with pytest.raises(ArgumentError, match="mark_best: the name"):
        mark_best(tmp_path, name)


@pytest.mark.parametrize("meta", [{}, {"step": -1}, {"step": 1.0}, {"step": True}, {"step": "1"}])
def test_meta_needs_a_step(tmp_path, meta):
    with pytest.raises(ArgumentError, match=r"meta\['step'\] must be the number of training steps"):
        save_checkpoint(tmp_path, "a", {}, {}, meta)


@pytest.mark.parametrize(
    ("weights", "arrays", "meta", "message"),
    [
        ({"w": [1, 2]}, {}, {}, r"weights\['w'\] is a builtins.list, not a NumPy array"),
        ({}, {"m": None}, {}, r"arrays\['m'\] is a builtins.NoneType"),
        ({"w": np.zeros(2, np.complex128)}, {}, {}, r"safetensors: .*types: complex128"),
        ({"w": np.array(["a"])}, {}, {}, r"cannot be saved as safetensors"),
        ({"__metadata__": np.zeros(2)}, {}, {}, r"reserves this name"),
        ({}, {"m": np.array([{}])}, {}, r"arrays\['m'\] cannot be saved as object"),
        ({}, {"a\0b": np.zeros(1)}, {}, r"must be text without NUL"),
        ({}, {"\ud800": np.zeros(1)}, {}, r"must be text without NUL"),
        ({3: np.zeros(1)}, {}, {}, r"weights has the name 3"),
        ({}, {}, {"a": {"b": {0: 1}}}, r"meta\['a'\]\['b'\] has the key 0 \(int\)"),
        ({}, {}, {"a": [np.zeros(2)]}, r"meta\['a'\]\[0\] is a numpy.ndarray of shape \(2,\)"),
        ({}, {}, {"a": [{"$float": 1}]}, r"meta\['a'\]\[0\] has the key '\$float'"),
    ],
)
def test_values_that_cannot_be_saved(tmp_path, weights, arrays, meta, message):
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path, "step-2", weights, arrays, {"step": 2, **meta})
    assert entries(tmp_path) == ["step-1"]


# Corruption --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("saved"), 7)


@pytest.fixture(scope="module")
def copy(saved, tmp_path_factory):
    """A folder whose files a test may break; `broken` restores them first."""
    folder = tmp_path_factory.mktemp("copy") / "step-7"
    folder.mkdir()
    return folder


def broken(saved, copy, file, data):
    for name in FILES:
        (copy / name).write_bytes((saved / name).read_bytes() if name != file else data)
    return copy


def outcome(load, path):
    """Return what loading gives, or the one kind of error that it may raise."""
    try:
        return load(path)
    except CheckpointError as error:
        return error


def assert_refused_or_same(folder):
    found = outcome(load_checkpoint, folder)
    if isinstance(found, CheckpointError):
        assert str(folder) in str(found)
    else:
        assert_is_step(found, 7)


@pytest.mark.parametrize("file", FILES)
def test_every_truncation_is_found(saved, copy, file):
    whole = (saved / file).read_bytes()
    for length in range(len(whole) - 1):  # the last byte of checkpoint.json is only a newline
        with pytest.raises(CheckpointError, match=file):
            load_checkpoint(broken(saved, copy, file, whole[:length]))


@pytest.mark.parametrize("file", FILES[:2])
def test_every_flipped_byte_is_found(saved, copy, file):
    whole = bytearray((saved / file).read_bytes())
    for i in range(len(whole)):
        whole[i] ^= 1 << (i % 8)
        broken(saved, copy, file, bytes(whole))
        with pytest.raises(CheckpointError, match=f"{file} is corrupt: .* bytes with SHA-256"):
            load_checkpoint(copy)
        whole[i] ^= 1 << (i % 8)


def test_every_flipped_byte_of_the_json_is_found_or_changes_nothing(saved, copy):
    whole = bytearray((saved / "checkpoint.json").read_bytes())
    for i, bit in itertools.product(range(len(whole)), (0, 3, 7)):
        whole[i] ^= 1 << bit
        assert_refused_or_same(broken(saved, copy, "checkpoint.json", bytes(whole)))
        whole[i] ^= 1 << bit


@settings(deadline=None)
@given(st.sampled_from(FILES), st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 200))
def test_junk_of_any_kind_is_found(saved, copy, file, junk, place, skip):
    whole = (saved / file).read_bytes()
    data = whole[:place] + junk + whole[place + skip :]
    assert_refused_or_same(broken(saved, copy, file, data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"3",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"sha256": 3}',
        b'{"sha256": "x", "meta": NaN}',
        b'{"sha256": "x", "meta": 1e999}',
        b'{"sha256": "x", "meta": ' + b"9" * 5000 + b"}",
        "{}".encode("utf-16"),
    ],
)
def test_junk_for_checkpoint_json(saved, copy, data):
    with pytest.raises(CheckpointError, match=r"checkpoint\.json is corrupt"):
        load_checkpoint(broken(saved, copy, "checkpoint.json", data))


def test_the_message_names_both_sums(saved, copy):
    data = (saved / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(broken(saved, copy, "model.safetensors", data[:-1] + b"x"))
    message = str(caught.value)
    assert str(copy / "model.safetensors") in message
    assert hashlib.sha256(data).hexdigest() in message
    assert hashlib.sha256(data[:-1] + b"x").hexdigest() in message
    assert message.count(f"{len(data)} bytes") == 2


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file(saved, copy, file):
    (broken(saved, copy, file, b"") / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} could not be read: No such file"):
        load_checkpoint(copy)


def test_a_folder_where_a_file_should_be(tmp_path):
    folder = save(tmp_path, 1)
    (folder / "state.npz").unlink()
    (folder / "state.npz").mkdir()
    with pytest.raises(CheckpointError, match=r"state\.npz could not be read: Is a directory"):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r"every checkpoint .* is broken: .*state\.npz"):
        newest_checkpoint(tmp_path)


def signed(folder, model, state, **changes):
    """Write a checkpoint whose sums are right, whatever its files hold."""
    contents = {"model.safetensors": model, "state.npz": state}
    head = json.loads(packing.pack_head({"step": 7}, contents))
    head = {**head, **changes}
    del head["sha256"]
    head["sha256"] = packing._own_sum(head)
    contents["checkpoint.json"] = json.dumps(head).encode()
    files.write_folder(folder, contents)
    return folder


@settings(deadline=None)
@given(st.booleans(), st.binary(max_size=8), st.integers(0, 700), st.integers(0, 8))
def test_junk_with_the_right_sums_is_no_other_exception(saved, copy, first, junk, place, skip):
    contents = [(saved / name).read_bytes() for name in FILES[:2]]
    whole = contents[not first]
    contents[not first] = whole[:place] + junk + whole[place + skip :]
    folder = signed(copy.with_name("signed"), *contents)
    found = outcome(load_checkpoint, folder)
    if isinstance(found, CheckpointError):
        assert "is not a whole" in str(found)
    else:
        assert all(isinstance(array, np.ndarray) for array in found.weights.values())


def test_pickles_are_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([{}], dtype=object))
    folder = signed(tmp_path / "a", packing.pack_weights({}), buffer.getvalue())
    with pytest.raises(CheckpointError, match=r"state\.npz .*allow_pickle=False"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, but this version of minicnn reads format 1"),
        ({"format": None}, "has format None"),
        ({"files": {}}, "lacks the size and sum of"),
        ({"files": {"model.safetensors": 3, "state.npz": 3}}, "lacks the size and sum of"),
        ({"meta": {}}, "or its step"),
        ({"meta": []}, "or its step"),
        ({"meta": {"step": "x"}}, "or its step"),
        ({"meta": {"step": 1, "x": {"$float": []}}}, "a number is no number"),
        ({"meta": {"step": 1, "x": {"$float": "y"}}}, "a number is no number"),
    ],
)
def test_a_signed_head_of_another_make(tmp_path, changes, message):
    folder = signed(tmp_path / "a", packing.pack_weights({}), packing.pack_arrays({}), **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_no_checkpoint(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(CheckpointError, match=f"there is no checkpoint at {path}"):
            load_checkpoint(path)


# The newest, the best, the old -------------------------------------------------------------------


def test_newest_goes_by_step_and_not_by_name(tmp_path):
    for step, name in ((900, "a"), (1000, "b"), (50, "z")):
        save(tmp_path, step, name)
    newest = newest_checkpoint(tmp_path)
    assert_is_step(newest, 1000)
    assert newest.path.name == "b"
    assert newest.skipped == ()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("change", ["truncate", "flip", "remove"])
def test_newest_passes_over_broken_ones(tmp_path, file, change):
    for step in (1, 2, 3):
        save(tmp_path, step)
    path = tmp_path / "checkpoints" / "step-3" / file
    data = path.read_bytes()
    if change == "remove":
        path.unlink()
    else:
        flipped = bytes([data[-9] ^ 1]) + data[-8:]
        path.write_bytes(data[:-9] + (flipped if change == "flip" else b""))
    newest = newest_checkpoint(tmp_path)
    assert_is_step(newest, 2)
    assert len(newest.skipped) == 1
    assert str(path) in newest.skipped[0]


def test_newest_when_all_are_broken(tmp_path):
    for step in (1, 2):
        (save(tmp_path, step) / "state.npz").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is broken") as caught:
        newest_checkpoint(tmp_path)
    assert all(str(Path(f"step-{step}", "state.npz")) in str(caught.value) for step in (1, 2))


def test_newest_when_there_is_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".saving-step-1").mkdir()
    (tmp_path / "checkpoints" / "notes.txt").write_text("")
    assert newest_checkpoint(tmp_path) is None
    with pytest.raises(CheckpointError, match="there is no run folder"):
        newest_checkpoint(tmp_path / "none")


def test_prune_keeps_the_newest_the_protected_and_the_best(tmp_path):
    for step in range(1, 8):
        save(tmp_path, step)
    mark_best(tmp_path, "step-2")
    removed = prune(tmp_path, keep=2, protect={"step-4"})
    assert removed == ["step-1", "step-3", "step-5"]
    assert entries(tmp_path) == ["best.json", "step-2", "step-4", "step-6", "step-7"]
    assert prune(tmp_path, keep=2, protect={"step-4"}) == []


def test_prune_does_not_count_broken_ones(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    (tmp_path / "checkpoints" / "step-3" / "state.npz").write_bytes(b"junk")
    assert prune(tmp_path, keep=1) == ["step-1"]
    assert entries(tmp_path) == ["step-2", "step-3"]
    assert_is_step(newest_checkpoint(tmp_path), 2)


def test_prune_without_checkpoints(tmp_path):
    assert prune(tmp_path) == []


@pytest.mark.parametrize("keep", [0, -1, 1.5, True])
def test_prune_keeps_at_least_one(tmp_path, keep):
    with pytest.raises(ArgumentError, match="keep must be an integer of at least 1"):
        prune(tmp_path, keep=keep)


def test_prune_that_fails(tmp_path, monkeypatch):
    for step in (1, 2):
        save(tmp_path, step)
    monkeypatch.setattr(os, "rename", Failing(os.rename, at=1))
    with pytest.raises(CheckpointError, match=r"an old checkpoint in .*No space left"):
        prune(tmp_path, keep=1)
    assert_is_step(newest_checkpoint(tmp_path), 2)


def test_the_best(tmp_path):
    assert best_checkpoint(tmp_path) is None
    for step in (1, 2):
        save(tmp_path, step)
    mark_best(tmp_path, "step-1")
    assert_is_step(best_checkpoint(tmp_path), 1)
    mark_best(tmp_path, "step-2")
    assert_is_step(best_checkpoint(tmp_path), 2)
    assert entries(tmp_path) == ["best.json", "step-1", "step-2"]
    with pytest.raises(CheckpointError, match="mark_best: there is no checkpoint 'step-3'"):
        mark_best(tmp_path, "step-3")


@pytest.mark.parametrize(
    "note", [b"", b"{}", b"[]", b'{"name": 3}', b'{"name": "../x"}', b"\xff", b"[" * 100_000]
)
def test_a_corrupt_note_of_the_best(tmp_path, note):
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "best.json").write_bytes(note)
    with pytest.raises(CheckpointError, match=r"best\.json is corrupt"):
        best_checkpoint(tmp_path)
    mark_best(tmp_path, "step-1")
    assert_is_step(best_checkpoint(tmp_path), 1)


# Full disks --------------------------------------------------------------------------------------

CALLS = ("open", "write", "fsync", "rename", "mkdir", "replace")


class Failing:
    """A system call that fails the given time, shared by all calls of a test."""

    def __init__(self, call, at, count=None):
        self.call, self.at, self.count = call, at, count if count is not None else [0]

    def __call__(self, *args, **kwargs):
        self.count[0] += 1
        if self.count[0] == self.at:
            raise OSError(28, "No space left on device")
        return self.call(*args, **kwargs)


def failing_save(monkeypatch, run, step, name, at):
    """Save while the ``at``-th system call fails; return the error and whether it was reached."""
    count, error = [0], None
    with monkeypatch.context() as patch:
        for call in CALLS:
            patch.setattr(os, call, Failing(getattr(os, call), at, count))
        try:
            save(run, step, name)
        except CheckpointError as raised:
            error = raised
    return error, count[0] >= at


@pytest.mark.parametrize("name", ["step-2", "step-1"], ids=["new", "replacing"])
def test_a_disk_that_fills_at_any_moment(tmp_path, monkeypatch, name):
    failures = 0
    for at in itertools.count(1):
        run = tmp_path / str(at)
        save(run, 0)
        save(run, 1)
        error, reached = failing_save(monkeypatch, run, 2, name, at)
        if not reached:
            break
        newest = newest_checkpoint(run)
        assert newest.skipped == ()
        assert_is_step(newest, 1 if error and newest.meta["step"] == 1 else 2)
        assert_is_step(load_checkpoint(run / "checkpoints" / "step-0"), 0)
        if error:
            failures += 1
            assert f"save_checkpoint: checkpoint {name!r} could not be written" in str(error)
            assert "No space left on device" in str(error)
            assert f"The last good checkpoint, {newest.path}, is untouched" in str(error)
            assert not [entry for entry in entries(run) if entry.startswith(".saving")]
        save(run, 2, name)
        assert entries(run) == sorted({"step-0", "step-1", name})
        assert_is_step(newest_checkpoint(run), 2)
    assert failures >= 10


def test_a_disk_that_stays_full(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(CheckpointError) as caught:
            save(tmp_path, 2)
    assert "model.safetensors" in str(caught.value)
    assert entries(tmp_path) == ["step-1"]


def test_a_real_limit_in_the_middle_of_a_file(tmp_path):
    resource = pytest.importorskip("resource")
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(CheckpointError, match=r"File too large .*model\.safetensors.*step-1"):
            save_checkpoint(tmp_path, "step-2", {"w": np.zeros(5000)}, {}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(tmp_path) == ["step-1"]
    assert_is_step(newest_checkpoint(tmp_path), 1)


def test_the_first_checkpoint_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", Failing(os.fsync, at=1))
    with pytest.raises(CheckpointError, match=r"No space left.*There is no earlier checkpoint\."):
        save(tmp_path, 1)


def test_a_run_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"could not be written into .*Not a directory"):
        save(tmp_path / "file", 1)
    assert (tmp_path / "file").read_text() == ""


def test_an_interrupt_leaves_nothing_half_written(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 2)
    assert entries(tmp_path) == ["step-1"]


# Kills -------------------------------------------------------------------------------------------


def test_what_a_killed_process_left_is_ignored_and_cleaned(tmp_path):
    save(tmp_path, 1)
    folder = tmp_path / "checkpoints"
    for leftover in (".saving-step-2", ".removing-step-0", ".replaced-step-1"):
        (folder / leftover).mkdir()
        (folder / leftover / "state.npz").write_bytes(b"half")
    assert_is_step(newest_checkpoint(tmp_path), 1)
    save(tmp_path, 2)
    assert entries(tmp_path) == ["step-1", "step-2"]


def test_a_replacement_killed_between_its_two_renames(tmp_path):
    folder = save(tmp_path, 1, "last")
    mark_best(tmp_path, "last")
    os.rename(folder, folder.with_name(".replaced-last"))
    assert_is_step(newest_checkpoint(tmp_path), 1)
    assert_is_step(load_checkpoint(folder), 1)
    assert_is_step(best_checkpoint(tmp_path), 1)
    save(tmp_path, 2, "other")
    assert entries(tmp_path) == ["best.json", "last", "other"]
    assert_is_step(load_checkpoint(folder), 1)


KILLED_AT_EVERY_CALL = """
import os, sys
import numpy as np
from minicnn.training.checkpoint import (
    best_checkpoint, mark_best, newest_checkpoint, prune, save_checkpoint
)
from minicnn.training.history import History

def save(run, step, name):
    weights = {"w": np.full(1000, step, dtype=np.float32)}
    History(run + "/history.jsonl").append(step=step)
    save_checkpoint(run, name, weights, {"m": np.full(9, step)}, {"step": step})
    mark_best(run, name)
    prune(run, keep=2)

def kill_at(at):
    count = [0]
    def wrap(name, call):
        def wrapped(*args, **kwargs):
            count[0] += 1
            if count[0] == at:
                if name == "write":
                    call(args[0], args[1][: len(args[1]) // 2])
                os._exit(9)
            return call(*args, **kwargs)
        return wrapped
    for name in ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        setattr(os, name, wrap(name, getattr(os, name)))

for name in ("b", "c"):
    at = code = 0
    while at == 0 or code == 9:
        at += 1
        run = os.path.join(sys.argv[1], f"{name}-{at}")
        save(run, 1, "a")
        save(run, 2, "b")
        child = os.fork()
        if child == 0:
            kill_at(at)
            save(run, 3, name)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        newest = newest_checkpoint(run)
        step = newest.meta["step"]
        assert newest.skipped == () and step in (2, 3), (name, at, newest)
        assert (newest.weights["w"] == step).all() and (newest.arrays["m"] == step).all()
        assert best_checkpoint(run).meta["step"] in (2, 3)
        history = History(run + "/history.jsonl")
        assert history.column("step") in ([1, 2], [1, 2, 3]), (name, at, history.records)
        save(run, 4, "d")
        left = sorted(os.listdir(os.path.join(run, "checkpoints")))
        assert len(left) == 3 and {"best.json", "d"} < set(left), (name, at, left)
    assert code == 0, code
    print(at)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_kill_at_every_system_call(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_AT_EVERY_CALL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(int(calls) > 15 for calls in done.stdout.split())


SAVING_IN_A_LOOP = """
import itertools, sys
import numpy as np
from minicnn.training.checkpoint import mark_best, newest_checkpoint, prune, save_checkpoint
newest = newest_checkpoint(sys.argv[1])
start = 0 if newest is None else newest.meta["step"]
for step in itertools.count(start + 1):
    weights = {"w": np.full(20_000, step, dtype=np.float32)}
    for name in ("last", f"step-{step}"):
        save_checkpoint(sys.argv[1], name, weights, {"m": np.full(9, step)}, {"step": step})
    mark_best(sys.argv[1], f"step-{step}")
    prune(sys.argv[1], keep=2)
    print(step, flush=True)
"""


def test_a_process_killed_while_saving_in_a_loop(tmp_path):
    random = np.random.default_rng(0)
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", SAVING_IN_A_LOOP, str(tmp_path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            announced = process.stdout.readline()
            time.sleep(random.uniform(0, 0.15))
            process.kill()
            announced += process.stdout.read()
        newest = newest_checkpoint(tmp_path)
        step = newest.meta["step"]
        assert newest.skipped == ()
        assert step >= int(announced.split()[-1])
        assert (newest.weights["w"] == step).all()
        assert (newest.arrays["m"] == step).all()
        assert best_checkpoint(tmp_path).meta["step"] <= step


def test_importing_does_not_import_safetensors():
    code = "import sys, minicnn.training.checkpoint; sys.exit('safetensors' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
