"""Predictions: the same bits in any company, in several threads; streams of files, errors apart."""

from __future__ import annotations

import io
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import stored_run
from PIL import Image

import minicnn
from minicnn import models, nn
from minicnn.autograd import Tensor, no_grad
from minicnn.cli import main
from minicnn.errors import ArgumentError, DataError, ShapeError
from minicnn.models import registry
from minicnn.nn.prediction import eval_copy, predict
from minicnn.training import inference
from minicnn.training.inference import lines, pictures, predict_files
from minicnn_kernels import registry as kernel_sets

SETS = [name for name in ("numpy", "numba") if kernel_sets.availability()[name] is None]
RUN = stored_run.STORED / "format-1"
META = {"image_shape": (1, 6, 6), "mean": 0.5, "std": 0.5}


@pytest.fixture(autouse=True)
def _numpy_kernels(monkeypatch):
    monkeypatch.setattr(registry, "_architectures", dict(registry._architectures))
    stored_run.known()
    with minicnn.use_backend("numpy"):
        yield


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small_model(channels=1):
    minicnn.seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 9, 3),
    )  # fmt: skip


# The same bits -----------------------------------------------------------------------------------

NETWORKS = {
    "lenet5": (1, 28, 28),
    "notes_cnn": (1, 28, 28),
    "resnet20": (3, 16, 16),
    "alexnet": (3, 67, 67),
    "squeezenet1_1": (3, 33, 33),
}
SLOW_IN_NUMPY = ("alexnet", "squeezenet1_1")
CASES = [(k, n) for k in SETS for n in NETWORKS if k == "numba" or n not in SLOW_IN_NUMPY]


@pytest.mark.parametrize(("kernels", "name"), CASES)
def test_an_image_gives_the_same_bits_in_any_company(kernels, name):
    minicnn.seed(0)
    shape = NETWORKS[name]
    preset = models.nearest_preset(name, shape[1])
    model = models.create(name, 10, shape[0], preset, shape[1])
    images = normal(9, *shape)
    with minicnn.use_backend(kernels):
        for size in (1, 5, 33) if name in ("lenet5", "resnet20") else (1, 32):
            whole = predict(model, images, size)
            for chosen in ([3], [8, 0], [5, 5, 1, 7, 2, 0, 8, 3, 4, 6, 1, 2, 3]):
                found = predict(model, images[chosen], size)
                assert found.tobytes() == whole[chosen].tobytes(), (size, chosen)


def test_without_batches_of_one_size_the_bits_differ():
    """The reason for all this: where it fails, the fixed size has become superfluous."""
    minicnn.seed(0)
    model, images = models.create("lenet5").eval(), normal(40, 1, 28, 28)
    with no_grad():
        alone = np.concatenate([model(Tensor(images[i : i + 1])).numpy() for i in range(40)])
        together = model(Tensor(images)).numpy()
    assert alone.tobytes() != together.tobytes()


# Modes and threads -------------------------------------------------------------------------------


def test_the_mode_of_every_part_stays():
    model = small_model()
    model[1].eval()
    before = [module.training for module in model.modules()]
    seen = []
    model[3].register_forward_hook(lambda module, *_: seen.append(module.training))
    model.predict(normal(3, 1, 6, 6))
    assert [module.training for module in model.modules()] == before
    assert seen == [False]
    assert model[1].num_batches_tracked == 0


def test_a_copy_shares_the_weights_and_sees_them_change():
    model = small_model()
    model.in_a_list = [model[0]]
    model.at_home = model[6].forward
    twin = eval_copy(model)
    shared = zip(model.parameters(), twin.parameters(), strict=True)
    assert all(one is other for one, other in shared)
    assert all(a is b for a, b in zip(model.buffers(), twin.buffers(), strict=True))
    assert twin.at_home.__self__ is twin[6]
    assert twin.in_a_list[0] is twin[0]
    assert twin[0] is not model[0]
    images = normal(2, 1, 6, 6)
    before = predict(twin, images)
    model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})
    assert not np.array_equal(predict(twin, images), before)


@pytest.mark.parametrize("kernels", SETS)
def test_threads_predict_while_the_mode_changes(kernels):
    model, images = small_model(), normal(50, 1, 6, 6)
    with minicnn.use_backend(kernels):
        expected = model.predict(images)
        stop, wrong = threading.Event(), []

        def ask():
            wrong.extend(
                i for i in range(20) if not np.array_equal(model.predict(images), expected)
            )

        def switch():
            for mode in itertools.cycle((True, False)):
                model.train(mode)
                if stop.is_set():
                    return

        askers = [threading.Thread(target=ask) for _ in range(3)]
        switcher = threading.Thread(target=switch)
        for thread in (*askers, switcher):
            thread.start()
        for thread in askers:
            thread.join()
        stop.set()
        switcher.join()
    assert not wrong


def test_predict_mistakes():
    model = small_model()
    assert model.predict(normal(0, 1, 6, 6)).shape == (0, 0)
    for size in (0, True, 2.0):
        with pytest.raises(ArgumentError, match="batch_size is"):
            model.predict(normal(1, 1, 6, 6), size)
    with pytest.raises(ShapeError, match="single number"):
        model.predict(3.0)
    model.lock = threading.Lock()
    with pytest.raises(ArgumentError, match="Sequential holds something that cannot be copied"):
        model.predict(normal(1, 1, 6, 6))


# Streams of files --------------------------------------------------------------------------------


def save_picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_order_is_kept_and_errors_stand_in_their_place(tmp_path, batch_size):
    paths = [save_picture(tmp_path / f"{i}.png", i) for i in range(11)]
    for i in (0, 4, 10):
        paths[i].write_bytes(b"no picture")
    found = list(predict_files(small_model(), META, paths, batch_size=batch_size))
    assert [one.path for one in found] == paths
    assert [i for i, one in enumerate(found) if one.error] == [0, 4, 10]
    assert all("not a picture" in found[i].error for i in (0, 4, 10))
    alone = [next(predict_files(small_model(), META, [p], batch_size=batch_size)) for p in paths]
    for one, other in zip(found, alone, strict=True):
        if not one.error:
            assert one.probabilities.tobytes() == other.probabilities.tobytes()


def test_the_feeder_is_never_far_ahead(tmp_path):
    path, taken = save_picture(tmp_path / "a.png", 0), itertools.count()
    reached = []

    def endless():
        for number in taken:
            reached.append(number)
            yield path

    found = predict_files(small_model(), META, endless(), batch_size=4)
    for _ in range(40):
        next(found)
    assert len(reached) <= 2 * 32 + (2 * 32 + 16) + 2  # answered or in work, in the queue, in hand
    found.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("minicnn-pictures")]


def test_one_path_at_a_time_gets_one_answer_at_a_time(tmp_path):
    path, asked = save_picture(tmp_path / "a.png", 0), queue.Queue()
    found = predict_files(small_model(), META, iter(asked.get, None))
    for _ in range(2):
        asked.put(path)
        assert next(found).path == path
    asked.put(None)
    assert list(found) == []


def test_folders_are_walked_in_order(tmp_path):
    names = ["b/2.JPG", "b/1.png", "a.webp", "c/d/e.tiff"]
    for name in (*names, "notes.txt", "b/data.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [p.relative_to(tmp_path).as_posix() for p in pictures([tmp_path])]
    assert found == ["a.webp", "b/1.png", "b/2.JPG", "c/d/e.tiff"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        list(predict_files(small_model(), META, pictures([empty])))


def test_lines_of_any_length_and_ending():
    reader, writer = os.pipe()
    expected = ["a b.png", "ü.png", "x" * 3000, "last"]
    os.write(writer, "a b.png\r\n\nü.png\n".encode() + b"x" * 3000 + b"\nlast")
    os.close(writer)
    assert [str(path) for path in lines(reader)] == expected
    os.close(reader)


def test_a_model_that_fails_ends_the_stream_and_its_threads(tmp_path):
    paths = [save_picture(tmp_path / f"{i}.png", i) for i in range(3)]
    with pytest.raises(ShapeError):
        list(predict_files(small_model(channels=3), META, paths))
    assert not [t for t in threading.enumerate() if t.name.startswith("minicnn-pictures")]


# The command -------------------------------------------------------------------------------------


def test_the_command_writes_json_lines_and_tells_of_errors(tmp_path, capsys):
    good = [save_picture(tmp_path / "in" / f"{i}.png", i) for i in range(3)]
    bad = tmp_path / "in" / "bad.png"
    bad.write_bytes(b"no")
    assert main(["predict", str(RUN), str(tmp_path / "in"), "--json", "--top", "2"]) == 1
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["path"] for record in records] == [str(p) for p in (*good, bad)]
    assert "not a picture" in records[3]["error"]
    assert not err
    for record in records[:3]:
        first, second = record["top"]
        assert set(first) == {"class", "probability"}
        assert 1 > first["probability"] >= second["probability"] > 0
    assert main(["predict", "--run", str(RUN), str(bad), str(good[1])]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{good[1]}: ")
    assert err.startswith("minicnn predict: ")
    assert main(["predict", str(RUN), str(good[0])]) == 0
    assert main(["predict", str(RUN), str(bad)]) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_of_two_lines_is_printed_on_one(tmp_path, capsys):
    good = save_picture(tmp_path / "a\nb.png", 0)
    bad = tmp_path / "c\nd.png"
    bad.write_bytes(b"no")
    assert main(["predict", str(RUN), str(good), str(bad)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path}/a\\nb.png: ")
    assert "c\\nd.png" in err
    assert len(out.splitlines()) == len(err.splitlines()) == 1


def test_a_run_without_checkpoints_is_still_taken_for_a_run(tmp_path, capsys):
    (tmp_path / "config.toml").write_text("")
    assert main(["predict", str(tmp_path), "x.png"]) == 2
    assert f"{tmp_path} is not a run folder: it has no checkpoints" in capsys.readouterr().err


def test_the_command_reads_paths_from_standard_input(tmp_path, capsys, monkeypatch):
    good = [save_picture(tmp_path / f"{i}.png", i) for i in range(2)]
    reader, writer = os.pipe()
    os.write(writer, "\n".join(map(str, good)).encode())
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert main(["predict", str(RUN), "-", "--json"]) == 0
    found = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert found == [str(path) for path in good]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [([str(RUN)], "name pictures beside the run"), ([str(RUN), "x", "--batch-size", "0"], "is 0")],
)
def test_mistakes_of_the_command(capsys, arguments, part):
    assert main(["predict", *arguments]) == 2
    assert part in capsys.readouterr().err


ANSWERS = """
import sys
import stored_run
stored_run.known()
from minicnn.cli import main
sys.exit(main(["predict", sys.argv[1], "-", "--json", "--backend", "numpy"]))
"""


def test_a_pipe_that_stays_open_is_answered_and_its_reader_may_leave(tmp_path):
    """As with ``| head``: the end of the output ends the command, though the input stays open."""
    path = save_picture(tmp_path / "a.png", 0)
    folder = str(Path(stored_run.__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", ANSWERS, str(RUN)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment,
    ) as process:  # fmt: skip
        assert isinstance(process.stdin, io.TextIOBase)
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["path"] == str(path)
        process.stdout.close()
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


def test_the_constants_fit_each_other():
    assert 0 < inference.PATIENCE < 1
    assert all(ending == ending.lower() and ending.startswith(".") for ending in inference.ENDINGS)
