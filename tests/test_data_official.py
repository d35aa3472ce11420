"""Where Fashion-MNIST and MNIST come from: folder, cache, mirrors, sample; and what goes wrong."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minicnn.data import (
    FASHION_MNIST_MEAN,
    FASHION_MNIST_STD,
    _download,
    _official,
    fashion_mnist,
    mnist,
    read_idx,
    write_idx,
)
from minicnn.data._official import CHECKSUMS, OfficialDataset, idx_files, load
from minicnn.data.make_sample import main as make_sample_main
from minicnn.errors import ArgumentError, DataError

FASHION_MNIST = sys.modules["minicnn.data.fashion_mnist"].FASHION_MNIST
FULL = Path(os.environ.get("MINICNN_DATA", "absent")) / "fashion-mnist"
needs_full = pytest.mark.skipif(
    not FULL.is_dir(), reason="MINICNN_DATA names no folder that holds fashion-mnist/"
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No cache, no settings, no memory of the process, no proxy."""
    import pooch

    for name in ("MINICNN_DATA", "MINICNN_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(_download, "_failed_in_this_process", {})
    monkeypatch.setattr(_official, "_announced", set())
    pooch.get_logger().setLevel("WARNING")


class Mirror:
    """A web server on this machine that serves a folder, well or badly."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[tuple[str, str]] = []
        self.replacements: dict[str, bytes | int] = {}
        self.cut_short = False
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                mirror.answer(self, folder, with_body=False)

            def do_GET(self):
                mirror.answer(self, folder, with_body=True)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, handler, folder: Path, with_body: bool) -> None:
        name = handler.path.lstrip("/")
        self.requests.append((handler.command, name))
        content = self.replacements.get(name)
        if content is None:
            path = folder / name
            content = path.read_bytes() if path.is_file() else 404
        if isinstance(content, int):
            handler.send_error(content)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if with_body:
            handler.wfile.write(content[: len(content) // 2] if self.cut_short else content)

    def gets(self) -> list[str]:
        return [name for method, name in self.requests if method == "GET"]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def published(tmp_path) -> Path:
    """A folder with a tiny data set: 4 training and 2 test images of 2x2."""
    folder = tmp_path / "published"
    folder.mkdir()
    names = [file.name for pair in idx_files(("", "", "", "")).values() for file in pair]
    contents = [np.arange(16).reshape(4, 2, 2), [0, 1, 1, 0], np.ones((2, 2, 2)), [1, 0]]
    for name, content in zip(names, contents, strict=True):
        write_idx(folder / name, np.array(content, dtype=np.uint8))
    return folder


@pytest.fixture
def mirrors(published):
    pair = [Mirror(published), Mirror(published)]
    yield pair
    for mirror in pair:
        mirror.close()


@pytest.fixture
def spec(published, mirrors) -> OfficialDataset:
    names = [file.name for pair in idx_files(("", "", "", "")).values() for file in pair]
    sums = tuple(md5(published / name) for name in names)
    return OfficialDataset(
        title="Tiny",
        function="tiny",
        folder="tiny",
        files=idx_files(sums),
        counts={"train": 4, "test": 2},
        mirrors=tuple(mirror.url for mirror in mirrors),
        classes=("no", "yes"),
    )


@pytest.fixture
def sampled(spec) -> OfficialDataset:
    """The same with a bundled sample: that of Fashion-MNIST."""
    return replace(
        spec,
        sample=FASHION_MNIST.sample,
        sample_counts=FASHION_MNIST.sample_counts,
        classes=FASHION_MNIST.classes,
    )


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache" / "minicnn" / "tiny"


def files_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


ALL_FILES = sorted(file.name for file in FASHION_MNIST.all_files)


class TestDownload:
    def test_fills_the_cache_from_the_first_mirror_once(self, spec, mirrors, cache, published):
        dataset = load(spec, "train", "auto", None)
        np.testing.assert_array_equal(dataset.images.ravel(), np.arange(16))
        assert dataset.images.shape == (4, 1, 2, 2)
        assert dataset.labels.tolist() == [0, 1, 1, 0]
        assert dataset.classes == ("no", "yes")
        assert (dataset.name, dataset.source) == ("tiny train", "full")
        assert dataset.note == f"the full Tiny in {cache}"
        assert files_in(cache) == ALL_FILES
        assert sorted(mirrors[0].gets()) == ALL_FILES
        asked = len(mirrors[0].requests)
        assert load(spec, "test", "full", None).labels.tolist() == [1, 0]
        assert len(mirrors[0].requests) == asked
        assert mirrors[1].gets() == []

    @pytest.mark.parametrize("bad", [b"<html>log in first</html>", b"", 404, 503])
    def test_next_mirror_where_the_first_is_wrong(self, spec, mirrors, cache, bad):
        for name in ALL_FILES:
            mirrors[0].replacements[name] = bad
        load(spec, "train", "full", None)
        assert files_in(cache) == ALL_FILES
        assert sorted(mirrors[1].gets()) == ALL_FILES

    def test_next_mirror_where_the_first_stops_midway(self, spec, mirrors, cache):
        mirrors[0].cut_short = True
        load(spec, "train", "full", None)
        assert files_in(cache) == ALL_FILES

    def test_wrong_everywhere_leaves_no_file(self, spec, mirrors, cache):
        for mirror in mirrors:
            mirror.replacements[ALL_FILES[2]] = b"other bytes"
        with pytest.raises(DataError, match=r"tiny: Tiny is not here and .*: the file there has a"):
            load(spec, "train", "full", None)
        assert files_in(cache) == ["download-failed.txt"]

    def test_a_damaged_file_in_the_cache_is_replaced(self, spec, mirrors, cache, published):
        load(spec, "train", "full", None)
        (cache / ALL_FILES[0]).write_bytes(b"bit rot")
        load(spec, "train", "full", None)
        assert md5(cache / ALL_FILES[0]) == md5(published / ALL_FILES[0])
        assert mirrors[0].gets().count(ALL_FILES[0]) == 2
        assert mirrors[0].gets().count(ALL_FILES[1]) == 1

    def test_failure_is_remembered_by_the_process_and_by_others(self, spec, mirrors, cache):
        for mirror in mirrors:
            for name in ALL_FILES:
                mirror.replacements[name] = 404
        asked = []
        for forget in (False, False, True):
            if forget:
                _download._failed_in_this_process.clear()
            with pytest.raises(DataError, match="HTTP status 404") as caught:
                load(spec, "train", "auto", None)
            asked.append(len(mirrors[0].requests))
        assert asked == [1, 1, 1]
        assert "a download failed 0 minutes ago" in str(caught.value)
        with pytest.raises(DataError):
            load(spec, "train", "full", None)  # which always tries again
        assert len(mirrors[0].requests) == 2

    @pytest.mark.parametrize("age", [3601, -60])
    def test_an_old_or_future_failure_is_forgotten(self, spec, cache, age):
        cache.mkdir(parents=True)
        marker = cache / "download-failed.txt"
        marker.write_text("no network\n")
        when = marker.stat().st_mtime - age
        os.utime(marker, (when, when))
        assert load(spec, "train", "auto", None).source == "full"
        assert files_in(cache) == ALL_FILES

    def test_success_forgets_the_failure(self, spec, mirrors, cache):
        for mirror in mirrors:
            mirror.replacements = dict.fromkeys(ALL_FILES, 404)
        with pytest.raises(DataError):
            load(spec, "train", "full", None)
        for mirror in mirrors:
            mirror.replacements = {}
        load(spec, "train", "full", None)
        assert _download._failed_in_this_process == {}
        assert files_in(cache) == ALL_FILES

    def test_a_silent_mirror_costs_one_deadline(self, spec, mirrors, monkeypatch):
        monkeypatch.setattr(_download, "_PROBE_SECONDS", 2.0)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            load(replace(spec, mirrors=(url, mirrors[1].url)), "train", "full", None)
        assert sorted(mirrors[1].gets()) == ALL_FILES

    def test_all_mirrors_are_asked_at_once(self, monkeypatch):
        monkeypatch.setattr(_download, "_PROBE_SECONDS", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            urls = [f"http://127.0.0.1:{silent.getsockname()[1]}/{i}" for i in range(3)]
            assert sorted(_download._unreachable(urls)) == urls

    def test_a_cache_that_cannot_be_made(self, sampled, mirrors, tmp_path, capsys):
        (tmp_path / "cache").write_text("a file where the folder should be")
        assert load(sampled, "test", "auto", None).source == "sample"
        asked = len(mirrors[0].requests)
        assert load(sampled, "test", "auto", None).source == "sample"
        assert len(mirrors[0].requests) == asked  # remembered, though no marker could be written
        assert "because the full set is not here and it could not be" in capsys.readouterr().err

    def test_offline_asks_nobody(self, spec, mirrors, monkeypatch):
        monkeypatch.setenv("MINICNN_OFFLINE", "1")
        for source in ("auto", "full"):
            with pytest.raises(DataError, match="MINICNN_OFFLINE=1 forbids a download; to get it"):
                load(spec, "train", source, None)
        assert mirrors[0].requests == []
        monkeypatch.setenv("MINICNN_OFFLINE", "0")
        assert load(spec, "train", "auto", None).source == "full"

    def test_offline_uses_the_cache(self, spec, monkeypatch):
        load(spec, "train", "full", None)
        monkeypatch.setenv("MINICNN_OFFLINE", "1")
        assert load(spec, "test", "auto", None).source == "full"


class TestSample:
    def test_stands_in_with_one_line_once(self, sampled, capsys, monkeypatch):
        monkeypatch.setenv("MINICNN_OFFLINE", "1")
        train = load(sampled, "train", "auto", None)
        test = load(sampled, "test", "auto", None)
        printed = capsys.readouterr().err
        assert printed == train.note + "\n" == test.note + "\n"
        assert printed == (
            "minicnn: using the bundled sample of Tiny (10,000 of 4 train images and 2,000 of 2 "
            "test images) because the full set is not here and MINICNN_OFFLINE=1 forbids a "
            "download; to get it, connect and call tiny(source='full'), or put the four official "
            ".gz files in DIR/tiny and set MINICNN_DATA=DIR.\n"
        )
        assert (train.source, test.source) == ("sample", "sample")

    def test_full_never_falls_back(self, sampled, monkeypatch):
        monkeypatch.setenv("MINICNN_OFFLINE", "1")
        with pytest.raises(DataError, match="tiny: Tiny is not here and MINICNN_OFFLINE=1"):
            load(sampled, "train", "full", None)

    @pytest.mark.parametrize(("split", "each"), [("train", 1000), ("test", 200)])
    def test_contents(self, split, each, capsys):
        dataset = fashion_mnist(split, source="sample")
        assert dataset.class_counts().tolist() == [each] * 10
        assert dataset.images.shape == (10 * each, 1, 28, 28)
        assert dataset.images.dtype == np.uint8
        assert dataset.source == "sample"
        assert dataset.note == "the bundled sample of Fashion-MNIST, as asked for"
        assert dataset.classes[0] == "T-shirt/top"
        assert dataset.classes[9] == "Ankle boot"
        assert len(np.unique(dataset.images.reshape(len(dataset), -1), axis=0)) > 0.99 * len(
            dataset
        )
        assert capsys.readouterr().err == ""

    def test_is_used_whatever_else_is_set(self, monkeypatch):
        monkeypatch.setenv("MINICNN_DATA", "/nowhere")
        assert len(fashion_mnist("test", source="sample")) == 2000

    def test_is_small_and_licensed(self):
        folder = FASHION_MNIST.sample
        expected = sorted([*ALL_FILES, CHECKSUMS, "LICENSE", "README.md"])
        assert files_in(folder) == expected
        assert "Copyright (c) 2017 Zalando SE" in (folder / "LICENSE").read_text()
        assert sum((folder / name).stat().st_size for name in expected) < 6 * 2**20

    @pytest.mark.parametrize("damage", ["change", "remove", "unlist"])
    def test_damage_is_seen(self, tmp_path, damage):
        folder = tmp_path / "sample"
        shutil.copytree(FASHION_MNIST.sample, folder)
        name = FASHION_MNIST.files["test"][1].name
        if damage == "change":
            write_idx(folder / name, np.zeros(2000, dtype=np.uint8))
        elif damage == "remove":
            (folder / name).unlink()
        else:
            (folder / CHECKSUMS).write_text("")
        spec = replace(FASHION_MNIST, sample=folder)
        with pytest.raises(
            DataError, match=r"the bundled .* has SHA-256 .*; install minicnn again"
        ):
            load(spec, "test", "sample", None)

    def test_missing_checksums(self, tmp_path):
        spec = replace(FASHION_MNIST, sample=tmp_path)
        with pytest.raises(DataError, match=r"SHA256SUMS cannot be read .*; install minicnn again"):
            load(spec, "test", "sample", None)


class TestNamedFolder:
    @pytest.mark.parametrize("nested", [True, False])
    @pytest.mark.parametrize("by", ["folder", "environment"])
    def test_is_read_and_nothing_else(
        self, spec, published, mirrors, tmp_path, monkeypatch, nested, by
    ):
        root = tmp_path / "mine"
        place = root / "tiny" if nested else root
        shutil.copytree(published, place)
        if by == "environment":
            monkeypatch.setenv("MINICNN_DATA", str(root))
        dataset = load(spec, "train", "auto", root if by == "folder" else None)
        assert (dataset.source, dataset.note) == ("full", f"the full Tiny in {place}")
        assert mirrors[0].requests == []

    def test_argument_goes_before_environment(self, spec, published, monkeypatch):
        monkeypatch.setenv("MINICNN_DATA", "/nowhere")
        assert len(load(spec, "train", "auto", published)) == 4

    def test_tilde(self, spec, published, monkeypatch):
        monkeypatch.setenv("HOME", str(published.parent))
        monkeypatch.setenv("USERPROFILE", str(published.parent))
        monkeypatch.setenv("MINICNN_DATA", f"~/{published.name}")
        assert len(load(spec, "train", "auto", None)) == 4

    @pytest.mark.parametrize("source", ["auto", "full"])
    def test_missing_file_is_an_error(self, sampled, published, mirrors, monkeypatch, source):
        (published / ALL_FILES[3]).unlink()
        monkeypatch.setenv("MINICNN_DATA", str(published))
        with pytest.raises(DataError) as caught:
            load(sampled, "train", source, None)
        assert f"{published / ALL_FILES[3]} does not exist (MINICNN_DATA=" in str(caught.value)
        assert mirrors[0].requests == []

    def test_missing_folder_is_an_error(self, sampled):
        with pytest.raises(DataError, match=r"does not exist \(folder='/nowhere'\); put the offic"):
            load(sampled, "train", "auto", "/nowhere")

    @pytest.mark.parametrize("number", [2, 3])
    def test_other_content_is_an_error(self, sampled, published, number):
        path = published / ALL_FILES[number]
        expected = md5(path)
        write_idx(path, np.zeros(4, dtype=np.uint8))
        with pytest.raises(DataError) as caught:
            load(sampled, "train", "auto", published)
        message = f"tiny: {path} has MD5 {md5(path)} but the official file has {expected}"
        assert message in str(caught.value)
        assert "read_idx and ArrayDataset" in str(caught.value)

    def test_a_folder_in_the_place_of_a_file(self, spec, published):
        (published / ALL_FILES[2]).unlink()
        (published / ALL_FILES[2]).mkdir()
        with pytest.raises(DataError, match=r"cannot be read .*; make it a readable file"):
            load(spec, "train", "auto", published)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            fashion_mnist,
            {"split": "tset"},
            "fashion_mnist: split='tset' is unknown; did you mean 't",
        ),
        (fashion_mnist, {"source": "fulll"}, "did you mean 'full'? choose source from 'auto', 'fu"),
        (fashion_mnist, {"source": "sample", "folder": "x"}, "does not read folder='x'; drop one"),
        (mnist, {"split": "validation"}, "choose split from 'train', 'test'"),
        (mnist, {"source": "sample"}, "no sample of MNIST is bundled; use source='auto' or 'full'"),
    ],
)
def test_bad_arguments(function, arguments, message):
    with pytest.raises(ArgumentError) as caught:
        function(**arguments)
    assert message in str(caught.value)


def test_mnist_offline(monkeypatch):
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    with pytest.raises(
        DataError, match=r"mnist: MNIST is not here and MINICNN_OFFLINE=1 .*DIR/mnist"
    ):
        mnist()


def test_import_is_light():
    code = (
        "import sys, minicnn.data\n"
        "heavy = {'pooch', 'PIL', 'requests', 'torch', 'matplotlib'} & set(sys.modules)\n"
        "print(', '.join(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_make_sample_command(tmp_path, capsys):
    assert make_sample_main([]) == 2
    assert "SOURCE_FOLDER TARGET_FOLDER" in capsys.readouterr().out
    assert make_sample_main([str(tmp_path / "none"), str(tmp_path / "new")]) == 2
    assert "does not exist (SOURCE_FOLDER is" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@needs_full
class TestFull:
    def test_loads(self):
        train, test = (fashion_mnist(split, folder=FULL.parent) for split in ("train", "test"))
        assert (len(train), len(test)) == (60_000, 10_000)
        assert train.source == test.source == "full"
        assert train.class_counts().tolist() == [6000] * 10
        assert test.class_counts().tolist() == [1000] * 10
        assert train.classes[int(train.labels[0])] == "Ankle boot"

    def test_mean_and_deviation(self):
        pixels = fashion_mnist("train", folder=FULL).images
        counts = np.bincount(pixels.ravel(), minlength=256).tolist()
        total = sum(counts)
        first = sum(value * count for value, count in enumerate(counts))
        second = sum(value**2 * count for value, count in enumerate(counts))
        variance = (total * second - first**2) / (total * 255) ** 2
        eps = 8 * np.finfo(np.float64).eps
        assert abs(FASHION_MNIST_MEAN - first / (total * 255)) <= eps
        assert abs(FASHION_MNIST_STD - np.sqrt(variance)) <= eps

    def test_the_sample_is_made_again(self, tmp_path):
        assert make_sample_main([str(FULL), str(tmp_path / "new")]) == 0
        assert files_in(tmp_path / "new") == sorted([*ALL_FILES, CHECKSUMS])
        for name in ALL_FILES:
            made, bundled = (read_idx(f / name) for f in (tmp_path / "new", FASHION_MNIST.sample))
            np.testing.assert_array_equal(made, bundled)

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_the_sample_is_part_of_the_set(self, split):
        full = fashion_mnist(split, folder=FULL)
        sample = fashion_mnist(split, source="sample")
        known = {image.tobytes() + bytes([label]) for image, label in full}
        assert all(image.tobytes() + bytes([label]) in known for image, label in sample)
