"""Damaged and malicious files: a clear error or a correct result, in bounded memory and time.

`python tests/fuzz.py` tries ten thousand files for each reader; here each gets a few.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest

pytest.importorskip("resource", reason="memory and time are measured as POSIX systems do")

import fuzz_guard
from fuzz import fuzz, main
from fuzz_guard import Misbehaved, outcome
from fuzz_readers import READERS, Reader, picture, unpacked_state

from minicnn.data import read_idx
from minicnn.errors import MiniCNNError
from minicnn.interop import read_weights
from minicnn.training.checkpoint import best_checkpoint, load_checkpoint, save_checkpoint

CASES = 40


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damaged_files(reader, tmp_path):
    count = fuzz(reader, CASES, tmp_path)
    assert count["read"] + count["refused"] >= CASES // 2


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_valid_file_is_read(reader, tmp_path):
    path = reader.prepared(tmp_path)
    whole = [sample for sample in reader.samples() if reader.name != "history"]
    for sample in whole:
        path.write_bytes(reader.frame(sample))
        within = str(path.parent / reader.writes) if reader.writes else None
        value, error = outcome(lambda: reader.read(path), within)
        if "into a model" not in reader.name:
            assert error is None
            reader.check(value, sample)


# Malicious files ---------------------------------------------------------------------------------


class Command:
    """An object whose pickle runs a command when it is loaded."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def torch_zip(pickled, **extra):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled, zipfile.ZIP_STORED)
        for name, data in extra.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def refused(read, path, data):
    path.write_bytes(data)
    found, error = outcome(lambda: read(path))
    assert error is not None, f"{path.name} was read: {found!r:.100}"
    return str(error)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_command(tmp_path, protocol):
    trace = tmp_path / "was-run"
    command = pickle.dumps({"weight": Command(f"touch {trace}")}, protocol)
    message = refused(read_weights, tmp_path / "model.pth", torch_zip(command))
    assert ("posix.system" if protocol else "instruction DICT") in message
    refused(read_weights, tmp_path / "bare.pth", command)
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Command(f"touch {trace}")], object))
    assert "allow_pickle" in refused(unpacked_state, tmp_path / "state.npz", buffer.getvalue())
    assert not trace.exists()


def npz_bomb(megabytes):
    """A compressed .npz of zeros, whose array header is right."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (megabytes * 2**20,)}
    )
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as member,
    ):
        member.write(head.getvalue())
        for _ in range(megabytes):
            member.write(bytes(2**20))
    return buffer.getvalue()


def npz_that_claims(shape):
    """An .npz of one array that declares a shape and has no numbers."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", head.getvalue())
    return buffer.getvalue()


def png(width, height, rows=b""):
    def chunk(kind, body):
        data = kind + body
        return struct.pack(">I", len(body)) + data + struct.pack(">I", zlib.crc32(data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_decompression_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_guard, "MEMORY", 16 * 2**20)
    zeros = bytes(32 * 2**20)
    refused(read_idx, tmp_path / "bomb.gz", gzip.compress(zeros))
    refused(read_idx, tmp_path / "idx.gz", gzip.compress(b"\0\0\x08\1\0\0\0\5" + zeros))
    refused(read_weights, tmp_path / "n.pth", torch_zip(b"\x80\2}.", **{"archive/data/0": zeros}))
    refused(picture, tmp_path / "bomb.png", png(50_000, 50_000, zeros[:999]))
    assert "as no photo does" in refused(picture, tmp_path / "flat.png", png(9_000, 9_000))
    refused(picture, tmp_path / "lie.png", png(2**31 - 1, 2**31 - 1))
    refused(unpacked_state, tmp_path / "state.npz", npz_bomb(32))
    refused(unpacked_state, tmp_path / "claim.npz", npz_that_claims((2**40,)))
    refused(unpacked_state, tmp_path / "less.npz", npz_that_claims((2**23,)))


# A zip archive of weights may name its records as it likes; nothing is ever written.


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "archive/../../evil", "a\\..\\evil"])
def test_names_that_lead_out_of_the_folder(tmp_path, name):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    path = inner / "model.pth"
    path.write_bytes(torch_zip(b"\x80\2}.", **{name: b"evil"}))
    outcome(lambda: read_weights(path))  # the guard sees every file that is opened to write
    folder = save_checkpoint(inner, "a", {}, {name: np.arange(2)}, {"step": 1})
    checkpoint, error = outcome(lambda: load_checkpoint(folder))
    assert error is None
    assert list(checkpoint.arrays) == [name]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["../../two/checkpoints/a", "a" * 5000])
def test_a_note_of_the_best_that_names_no_checkpoint_of_the_run(tmp_path, name):
    for run in ("one", "two"):
        save_checkpoint(tmp_path / run, "a", {}, {}, {"step": 1})
    (tmp_path / "one" / "checkpoints" / "best.json").write_text(json.dumps({"name": name}))
    with pytest.raises(MiniCNNError, match=r"best\.json is corrupt"):
        best_checkpoint(tmp_path / "one")


# The guard itself --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: [][1], "IndexError instead of"),
        (lambda: bytearray(2**29) and None, "bytes taken"),
        (lambda: os.system("true"), "os.system"),
        (lambda: open(os.devnull, "wb").close(), "open"),
        (lambda: pickle.loads(pickle.dumps(os.getcwd)), "pickle.find_class"),
    ],
)
def test_the_guard_sees_mistakes(read, message):
    with pytest.raises(Misbehaved, match=message):
        outcome(read)


def test_the_guard_sees_a_reader_that_does_not_end(monkeypatch):
    monkeypatch.setattr(fuzz_guard, "SECONDS", 1)
    with pytest.raises(Misbehaved, match="no answer"):
        outcome(lambda: time.sleep(60))


def test_the_command_reports_a_mistake_with_its_file(capsys, monkeypatch):
    def careless(path):
        data = path.read_bytes()
        return data[data[0]]

    monkeypatch.setattr("fuzz.READERS", [Reader("careless", lambda: [bytes(300)], careless)])
    assert main(["--cases", "200"]) == 1
    assert "careless: MISTAKE" in capsys.readouterr().out
