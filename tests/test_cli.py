"""The command line: what it prints, and one sentence with exit code 2 for every mistake."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minicnn
import minicnn.commands.models
from minicnn import data, inspect, models
from minicnn.cli import main
from minicnn.data import write_idx
from minicnn.nn.parameter import has_weights
from minicnn.training.config import load_config

SAMPLE = Path(data.__file__).parent / "sample" / "fashion-mnist"


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No test depends on the network, on a cache, or on an earlier run."""
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MINICNN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    backend = minicnn.use_backend("numpy")
    with backend:
        yield


def mistake(capsys, *arguments):
    """Run a command that must fail; returns the sentence it printed."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2, captured
    assert "Traceback" not in captured.err
    lines = [line for line in captured.err.splitlines() if "compiling kernels" not in line]
    assert lines[0].startswith("minicnn"), captured.err
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trian"], ["'trian'", "did you mean 'train'"]),
        (["train", "--epoch", "3"], ["'--epoch'", "did you mean '--epochs'"]),
        (["train", "--epochs", "many"], ["--epochs", "'many'"]),
        (["train", "--epochs", "0"], ["epochs = 0", "at least 1"]),
        (["train", "--optimizer", "sdg"], ["'sdg'", "did you mean 'sgd'"]),
        (["train", "--model", "notes-cn"], ["'notes-cn'", "did you mean 'notes_cnn'"]),
        (["train", "--data", "fashion-mnis"], ["did you mean 'fashion_mnist'"]),
        (["train", "--backend", "nunba"], ["'nunba'", "did you mean 'numba'"]),
        (["train", "--backend", "cupy"], ["'cupy'", "cannot be used here"]),
        (["train", "--threads", "1000"], ["set_num_threads", "1000"]),
        (["train", "--batch-size", "20000"], ["20,000", "9,000"]),
        (["train", "--epochs", "1" + "0" * 23], ["epochs = 1", "must be at most 1000000000"]),
        (["train", "--images", "1"], ["validation = 0.1 keeps 0 of 1 training images"]),
        (
            ["train", "--augment", "flip-crop", "--crop-padding", "28"],
            ["crop_padding = 28", "28x28 pictures of fashion_mnist"],
        ),
        (["train", "--config", "none.toml"], ["none.toml", "could not be read"]),
        (["train", "--resume", "nowhere"], ["nowhere", "not a run folder"]),
        (["train", "surplus"], ["unexpected argument 'surplus'"]),
        (["evaluate"], ["there is no run in 'runs'"]),
        (["evaluate", "nowhere"], ["nowhere", "not a run folder"]),
        (["predict", "x.png"], ["there is no run in 'runs'"]),
        (["summary", "notes_cn"], ["did you mean 'notes_cnn'"]),
        (["summary", "notes_cnn", "--input", "28"], ["'28'", "3x224x224"]),
        (["summary", "notes_cnn", "--memory", "--batch-size", "0"], ["batch_size is 0"]),
        (["summary", "notes_cnn", "--preset", "fashion"], ["did you mean 'fashion-mnist'"]),
        (["summary", "notes_cnn", "--input", "1x28x36"], ["classifier", "pass images of 28x28"]),
        (["models", "ntes"], ["'ntes'", "did you mean 'notes_cnn'"]),
    ],
)
def test_mistakes_get_one_sentence(capsys, arguments, parts):
    sentence = mistake(capsys, *arguments)
    for part in parts:
        assert part in sentence


def test_memory_that_does_not_suffice_is_a_sentence(capsys, monkeypatch):
    def all_of_it(options):
        np.empty((2**20, 2**20, 2**20), np.uint8)

    monkeypatch.setattr(minicnn.commands.models, "run", all_of_it)
    sentence = mistake(capsys, "models")
    assert "the memory does not suffice: Unable to allocate" in sentence


def test_config_file_mistakes_name_file_and_line(capsys, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('epochs = 3\nepoch = 4\nlr = "fast"\n')
    sentence = mistake(capsys, "train", "--config", path)
    for part in ("run.toml", "'epoch'", "did you mean 'epochs'", "lr", "must be a number"):
        assert part in sentence
    path.write_text("epochs = = 3\n")
    assert "line 1" in mistake(capsys, "train", "--config", path)


def full_folder(folder):
    """A folder laid out like the official one, holding the bundled sample's files."""
    target = folder / "fashion-mnist"
    shutil.copytree(SAMPLE, target)
    return target


def test_unofficial_files_are_an_error_not_a_fallback(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path / "data"))
    sentence = mistake(capsys, "train")
    assert "does not exist" in sentence
    target = full_folder(tmp_path / "data")
    assert "MD5" in mistake(capsys, "train")
    images = target / "train-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:1000])
    assert "train-images-idx3-ubyte.gz" in mistake(capsys, "train")


def test_truncated_and_corrupt_idx_files(tmp_path):
    path = tmp_path / "a.gz"
    write_idx(path, np.zeros((4, 28, 28), np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(minicnn.errors.DataError, match=r"a\.gz"):
        data.read_idx(path)
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x05abc"))
    with pytest.raises(minicnn.errors.DataError, match=r"a\.gz"):
        data.read_idx(path)


def test_unwritable_output(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "choose another --output" in mistake(capsys, "train", "--output", tmp_path / "file")
    assert "cannot be made" in mistake(capsys, "train", "--output", tmp_path / "file" / "below")


def test_summary_and_info(capsys):
    assert main(["summary", "notes_cnn"]) == 0
    out = capsys.readouterr().out
    assert "1x28x28" in out
    assert "29,034" in out
    assert main(["summary", "notes_cnn", "--input", "3x32x32", "--classes", "7"]) == 0
    out = capsys.readouterr().out
    assert "32x8x8" in out
    assert f"{32 * 64 * 7 + 7:,}" in out  # the classifier's parameters
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for part in ("numpy: available", "numba: available", "cupy:", "threads:"):
        assert part in out


def test_models_are_listed_with_their_costs(capsys):
    assert main(["models"]) == 0
    every = capsys.readouterr().out
    assert all(name in every for name in models.names())
    assert main(["models", "notes"]) == 0
    out = capsys.readouterr().out
    for part in ("notes_cnn", "fashion-mnist", "1x28x28", "29,034", "2,838,080"):
        assert part in out
    assert len(out.splitlines()) <= len(every.splitlines())


def test_summaries_make_no_weights_unless_memory_is_measured(capsys, monkeypatch):
    seen = []

    def noted(model, *arguments):
        seen.append(has_weights(next(model.parameters())))
        return original(model, *arguments)

    for option, function in ([], "summary"), (["--memory"], "memory"):
        original = getattr(inspect, function)
        monkeypatch.setattr(inspect, function, noted)
        assert main(["summary", "notes_cnn", *option]) == 0
        assert "classifier" in capsys.readouterr().out
    assert seen == [False, True]


def test_module_and_command_are_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "minicnn", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"minicnn {minicnn.__version__}"


@pytest.fixture
def tiny_sample(monkeypatch):
    """Fashion-MNIST's loader, giving the first images of the bundled sample only."""
    from minicnn.training import build

    source = build.DATA_SOURCES["fashion_mnist"]

    def load(split, source):
        whole = data.fashion_mnist(split, source="sample")
        return whole.subset(range(600 if split == "train" else 200))

    monkeypatch.setitem(
        build.DATA_SOURCES, "fashion_mnist", build.DataSource(load, source.mean, source.std)
    )


def test_train_evaluate_predict_resume(capsys, tmp_path, tiny_sample):
    config = tmp_path / "quick.toml"
    config.write_text('epochs = 1\nname = "first"\nbackend = "numpy"\nlr = 0.02\n')
    assert main(["train", "--config", str(config), "--batch-size", "50"]) == 0
    out = capsys.readouterr().out
    assert "29,034 parameters; 540 images to train on, 60 to validate" in out
    assert "epoch 1/1" in out
    assert "test accuracy" in out
    run = tmp_path / "runs" / "first"
    settings = load_config(run / "config.toml")
    assert (settings["batch_size"], settings["lr"], settings["backend"]) == (50, 0.02, "numpy")
    assert {p.name for p in run.iterdir()} == {
        "config.toml",
        "history.jsonl",
        "checkpoints",
        "environment.json",
        "report.html",
        "result.json",
    }
    result = json.loads((run / "result.json").read_text())

    assert main(["evaluate"]) == 0
    out = capsys.readouterr().out
    assert f"accuracy {result['test_accuracy']:.4f}" in out
    assert "Ankle boot" in out
    for word in ("precision", "recall", "f1"):
        assert word in out.lower()

    assert "exists already" in mistake(capsys, "train", "--config", config)

    picture = tmp_path / "boot.png"
    from PIL import Image

    Image.fromarray(data.fashion_mnist("test", source="sample")[0][0][0]).save(picture)
    assert main(["predict", str(picture), str(picture), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{picture}: ")
    assert lines[0].count("%") == 2
    (tmp_path / "text.png").write_text("no picture")
    assert "not a picture" in mistake(capsys, "predict", tmp_path / "text.png")
    assert "does not exist" in mistake(capsys, "predict", tmp_path / "gone.png")

    assert "cannot be stretched to 2" in mistake(capsys, "train", "--resume", run, "--epochs", "2")
    assert "cannot change batch_size from 50 to 60" in mistake(
        capsys, "train", "--resume", run, "--batch-size", "60"
    )
    assert load_config(run / "config.toml") == settings  # a refused resume changes nothing
    assert main(["train", "--resume", str(run), "--epochs", "2", "--schedule", "constant"]) == 0
    out = capsys.readouterr().out
    assert "epoch 2/2" in out
    assert "epoch 1/2" not in out
    assert len((run / "history.jsonl").read_text().splitlines()) == 2


def test_checkpoint_of_another_architecture(capsys, tmp_path, tiny_sample, monkeypatch):
    assert main(["train", "--epochs", "1", "--name", "a", "--backend", "numpy"]) == 0
    capsys.readouterr()
    monkeypatch.setattr("minicnn.models.notes_cnn.WIDTHS", (8, 8, 8))
    sentence = mistake(capsys, "train", "--resume", tmp_path / "runs" / "a")
    for part in ("features.0.weight", "(16, 1, 5, 5)", "(8, 1, 5, 5)", "features.8.weight"):
        assert part in sentence


def test_export_and_event_files(capsys, tmp_path, tiny_sample):
    onnx = pytest.importorskip("onnx", reason='the package onnx is the extra "onnx"')
    pytest.importorskip("tensorboardX", reason='tensorboardX is the extra "tensorboard"')
    options = ["--epochs", "1", "--name", "a", "--backend", "numpy", "--tensorboard"]
    assert main(["train", *options]) == 0
    capsys.readouterr()
    run = tmp_path / "runs" / "a"
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    assert main(["export", str(run), "model.onnx"]) == 0
    assert "model.onnx: notes_cnn, weights of epoch 1" in capsys.readouterr().out
    texts = {entry.key: entry.value for entry in onnx.load("model.onnx").metadata_props}
    assert json.loads(texts["classes"])[-1] == "Ankle boot"
    assert json.loads(texts["mean"]) == data.FASHION_MNIST_MEAN
    assert "not a run folder" in mistake(capsys, "export", "nowhere", "model.onnx")


def test_missing_packages_are_named_with_their_extra(capsys, monkeypatch, tiny_sample):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    options = ["train", "--epochs", "1", "--name", "a", "--backend", "numpy"]
    assert "pip install 'minicnn[tensorboard]'" in mistake(capsys, *options, "--tensorboard")
    assert main(options) == 0
    capsys.readouterr()
    sentence = mistake(capsys, "export", "runs/a", "model.onnx")
    assert "needs the package onnx" in sentence
    assert "pip install 'minicnn[onnx]'" in sentence
