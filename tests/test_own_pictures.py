"""A folder of one's own pictures becomes a trained classifier, with one settings file."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from image_files import JUNK, drawn, write_junk, write_shapes

import minicnn
from minicnn import models, nn, save_weights
from minicnn.cli import main
from minicnn.data import ImageFolder, RandomResizedCrop
from minicnn.errors import ArgumentError, ConfigError, DataError, StateDictError
from minicnn.training.build import loss_weights, make_loss
from minicnn.training.config import TrainConfig, load_config
from minicnn.training.ensemble import evaluate_runs
from minicnn.training.pictures import is_path, measured, settled, source_of, stored_size
from minicnn.training.run import load_model, new_run, opened_run, resumed_run
from minicnn.training.transfer import freeze, last_layer, transfer


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """48 pictures of each of three shapes, with junk of every kind among the discs."""
    root = tmp_path_factory.mktemp("own") / "shapes"
    write_shapes(root, 48)
    write_junk(root / "disc")
    return root


@pytest.fixture(autouse=True)
def _numpy_kernels():
    """A run selects its kernel set for the process."""
    with minicnn.use_backend("numpy"):
        yield


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


APP = """
data = "{data}"
size = 28
channels = 3
test = 0.25
model = "lenet5"
epochs = 25
batch_size = 16
lr = 0.05
augment = "flip"
balance = "loss"
backend = "numpy"
output = "kept"
name = "shapes"
"""


def test_from_a_folder_to_a_classifier(home, shapes, capsys):
    (home / "app.toml").write_text(APP.format(data=shapes))
    assert main(["train", "--config", "app.toml", "--epochs", "24"]) == 0
    out = capsys.readouterr().out
    assert "shapes: 144 pictures of 3 classes (bar 48, cross 48, disc 48)" in out
    assert "report: " in out
    page = (home / "kept" / "shapes" / "report.html").read_text()
    assert all(f">{name}<" in page for name in ("bar", "cross", "disc"))
    assert f"{len(JUNK)} skipped:" in out
    assert "  disc/empty.jpg: empty, it has no bytes" in out
    run = home / "kept" / "shapes"
    report = (run / "pictures.txt").read_text()
    for name in JUNK:
        assert f"  disc/{name}: " in report
    result = json.loads((run / "result.json").read_text())
    assert result["test_accuracy"] >= 0.9, out  # 36 pictures; guessing gives a third

    picture = home / "photo.JPG"
    drawn("cross", np.random.default_rng(99)).save(picture)
    assert main(["predict", str(picture), "--run", str(run)]) == 0
    out = capsys.readouterr().out
    assert re.match(r".*photo\.JPG: cross \d+\.\d%, \w+ \d+\.\d%, \w+ \d+\.\d%\n", out)

    assert main(["evaluate", str(run)]) == 0
    out = capsys.readouterr().out
    for word in ("precision", "recall", "f1", "bar", "cross", "disc"):
        assert word in out.lower()
    assert f"accuracy {result['test_accuracy']:.4f}" in out

    more = ["train", "--resume", str(run), "--epochs", "25", "--schedule", "constant"]
    assert main([*more, "--lr", "0.001"]) == 0
    assert "epoch 25/25" in capsys.readouterr().out
    assert len((run / "history.jsonl").read_text().splitlines()) == 25


def settings(data, **values):
    common = {"size": 28, "backend": "numpy", "epochs": 1, "lr": 0.01, "batch_size": 16}
    return TrainConfig(**{"data": str(data), **common, "model": "lenet5", **values})


def weights_of(run):
    return {name: array.copy() for name, array in run.model.state_dict().items()}


def test_an_interrupted_run_goes_on_bit_for_bit(home, shapes):
    config = settings(shapes, epochs=2, schedule="constant", augment="flip-area")
    whole = new_run(config)
    whole.fit()
    half = new_run(TrainConfig(**{**vars(config), "epochs": 1}))
    half.fit()
    resumed = resumed_run(half.folder, {"epochs": 2})
    resumed.fit()
    for name, array in weights_of(whole).items():
        np.testing.assert_array_equal(array, resumed.model.state_dict()[name], err_msg=name)


def test_a_resume_with_other_pictures_is_refused(home, shapes):
    shutil.copytree(shapes, home / "mine")
    run = new_run(settings("mine", schedule="constant"))  # the whole path is kept
    assert load_config_of(run)["data"] == str(home / "mine")
    drawn("bar", np.random.default_rng(5)).save(home / "mine" / "bar" / "new.png")
    with pytest.raises(ConfigError, match="are not those that the run was made with"):
        resumed_run(run.folder, {"epochs": 2})
    with pytest.raises(ConfigError, match="are not those that the run was made with"):
        evaluate_runs([run.folder])
    with pytest.raises(ConfigError, match="cannot change size from 28 to 32"):
        resumed_run(run.folder, {"size": 32})


def load_config_of(run):
    run.fit()
    return load_config(run.folder / "config.toml")


def test_a_run_is_not_written_among_the_pictures(home):
    write_shapes(home, 2)
    with pytest.raises(ConfigError, match="'runs' lies in the folder of pictures"):
        new_run(settings("."))
    assert sorted(path.name for path in home.iterdir()) == ["bar", "cross", "disc"]


def test_few_pictures_are_one_batch(home):
    write_shapes(home / "few", 10, ("cross", "disc"))
    run = new_run(settings(home / "few", batch_size=128))
    assert len(run.train) == 1
    assert run.notes == ["all 14 pictures are one batch, fewer than 128"]
    run.fit()
    result, _ = run.test()
    assert result.confusion.matrix.sum() == 4


def test_the_parts_do_not_share_pictures(home, shapes):
    run = new_run(settings(shapes))
    parts = [run.train.dataset, run.validation.dataset, run.source.load("test")]
    paths = [{path for path, _ in part.samples} for part in parts]
    assert sum(map(len, paths)) == len(set.union(*paths)) == 144
    assert [len(p) for p in paths] == [103, 12, 29]


def test_a_folder_that_is_divided_stays_so(home):
    for part, count in {"train": 8, "Val": 2, "test": 4}.items():
        write_shapes(home / "divided" / part, count)
    run = new_run(settings(home / "divided", name="divided"))
    parts = [run.train.dataset, run.validation.dataset, run.source.load("test")]
    for dataset, part, count in zip(parts, ("train", "Val", "test"), (8, 2, 4), strict=True):
        assert dataset.class_counts().tolist() == [count] * 3
        assert all(f"/{part}/" in path for path, _ in dataset.samples)
    before = run.source.pictures.fingerprint()
    picture = home / "divided" / "test" / "bar" / "003.bmp"
    picture.rename(home / "divided" / "train" / "bar" / "moved.bmp")
    assert ImageFolder(home / "divided", size=28).fingerprint() != before
    shutil.rmtree(home / "divided" / "test")
    shutil.rmtree(home / "divided" / "Val")
    shutil.copytree(home / "divided" / "train", home / "divided" / "test")
    run = new_run(settings(home / "divided", name="two"))
    assert len(run.source.load("test")) == 25
    assert len(run.train.dataset) + len(run.validation.dataset) == 25


def test_an_archive_trains_as_its_folder(home, shapes, monkeypatch):
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda project: home / "cache" / project)
    archive = shutil.make_archive(str(home / "shapes"), "zip", shapes.parent, "shapes")
    one, other = new_run(settings(archive)), new_run(settings(shapes))
    one.fit()
    other.fit()
    for name, array in weights_of(one).items():
        np.testing.assert_array_equal(array, other.model.state_dict()[name])


def test_names_and_paths():
    assert is_path("no/such/folder")
    assert not is_path("fashion_mnist")
    assert settled(TrainConfig(data="https://x.org/a.zip")).data == "https://x.org/a.zip"
    with pytest.raises(ConfigError, match=r"'minst' is unknown; did you mean 'mnist'.*the path of"):
        source_of(TrainConfig(data="minst"))
    with pytest.raises(DataError, match="does not exist"):
        source_of(TrainConfig(data="no/such/folder"))
    assert stored_size(TrainConfig(size=40)) == 40
    assert stored_size(TrainConfig(crop_size=224)) == 256
    assert stored_size(TrainConfig(model="resnet18")) == 224
    assert stored_size(TrainConfig(model="resnet18", preset="cifar10")) == 32
    for bad in ({"channels": 2}, {"freeze": True}, {"test": 0.0}, {"crop_area": 0.0}):
        with pytest.raises(ConfigError):
            TrainConfig(**bad).validate()


def test_pixel_statistics(home, shapes):
    dataset = ImageFolder(shapes, size=8, cache_bytes=0)
    mean, std = measured(dataset)
    pixels = dataset.images / 255.0
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), atol=1e-6)
    source = source_of(settings(shapes, weights="some.pth"))
    assert source.mean == (0.485, 0.456, 0.406)
    source = source_of(settings(shapes, channels=1))
    assert len(source.mean) == 1


def test_rare_classes_count_as_much():
    labels = np.array([0] * 6 + [1] * 3 + [3])
    np.testing.assert_allclose(
        loss_weights(labels, 4), np.float32([10 / 18, 10 / 9, 10 / 3, 10 / 3])
    )
    from minicnn import Tensor

    model = nn.Linear(2, 4)
    loss = make_loss(TrainConfig(balance="loss"), model, labels, 4)
    logits = np.zeros((10, 4), np.float32)
    logits[0, 1] = 3.0  # one error in the class of six
    weighted = loss(Tensor(logits), labels).item()
    model.eval()
    plain = loss(Tensor(logits), labels).item()
    wrong, right = math.log(3 + math.exp(3)), math.log(4)
    assert plain == pytest.approx((wrong + 9 * right) / 10)
    assert weighted == pytest.approx((wrong * 10 / 18 + right * (10 - 10 / 18)) / 10)


def test_weights_of_other_classes_are_taken_over_but_for_the_last_layer(home):
    minicnn_model = models.create("notes_cnn", 10, 3, image_size=28)
    save_weights(minicnn_model, home / "ten.safetensors")
    model = models.create("notes_cnn", 3, 3, image_size=28)
    start = {name: array.copy() for name, array in model.state_dict().items()}
    last = last_layer(model, 3)
    said = transfer(model, home / "ten.safetensors", ["a", "b", "c"])
    assert re.search(rf"\d+ of {len(start)} arrays, and {re.escape(last)} anew", said)
    theirs = minicnn_model.state_dict()
    for name, array in model.state_dict().items():
        is_last = name.rpartition(".")[0] == last
        np.testing.assert_array_equal(array, (start if is_last else theirs)[name])
    same = models.create("notes_cnn", 10, 3, image_size=28)
    assert "anew" not in transfer(same, home / "ten.safetensors", list("abcdefghij"))
    gray = models.create("notes_cnn", 3, 1, image_size=28)
    with pytest.raises(StateDictError) as caught:
        transfer(gray, home / "ten.safetensors", ["a", "b", "c"])
    assert "--channels and --model must be theirs" in caught.value.__notes__[0]
    with pytest.raises(ConfigError, match="no layer with 7 outputs"):
        last_layer(nn.Linear(2, 3), 7)


def test_freezing_trains_the_last_layer_alone(home, shapes):
    first = new_run(settings(shapes, name="first"))
    first.fit()
    two = home / "two"
    for kind in ("bar", "disc"):
        shutil.copytree(shapes / kind, two / kind)
    config = settings(two, weights=str(first.folder), freeze=True, epochs=2, schedule="constant")
    run = new_run(config)
    last = last_layer(run.model, 2)
    assert f"{last} anew" in run.notes[0]
    assert f"frozen but for {last}" in run.notes[1]
    assert run.source.mean == first.source.mean
    before = weights_of(run)
    run.fit()
    parameters = {name for name, _ in run.model.named_parameters()}
    for name in parameters:
        changed = not np.array_equal(before[name], run.model.state_dict()[name])
        assert changed == (name.rpartition(".")[0] == last), name
    shutil.rmtree(first.folder)  # a resume needs it no more
    again = resumed_run(run.folder, {"epochs": 3})
    again.fit()
    frozen = next(iter(parameters - {f"{last}.weight", f"{last}.bias"}))
    np.testing.assert_array_equal(again.model.state_dict()[frozen], before[frozen])
    _, checkpoint = load_model(run.folder)
    assert checkpoint.meta["classes"] == ["bar", "disc"]


def test_classes_of_other_names_start_anew_too(home, shapes):
    first = new_run(settings(shapes, name="first"))
    first.fit()
    model = models.create("lenet5", 3, 3, image_size=28)
    assert "anew" in transfer(model, first.folder, ["x", "y", "z"])
    assert "anew" not in transfer(model, first.folder, ["bar", "cross", "disc"])
    assert "parameters are trained" in freeze(model, 3)


def test_a_run_opened_by_name_is_found_from_its_short_path(home, shapes):
    shutil.copytree(shapes, home / "mine")
    config = settings("mine", name="a")
    opened_run(config).fit()
    assert opened_run(config).trainer.position.epoch == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_windows_of_random_area(dtype):
    crop = RandomResizedCrop((20, 30), scale=(0.25, 0.5))
    rng = np.random.default_rng(0)
    windows = crop.choose(500, 40, 60, rng)
    top, left, height, width = windows.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 40).all()
    assert (left + width <= 60).all()
    area, ratio = height * width / 2400, width / height
    assert ((area > 0.22) & (area < 0.54)).all()
    assert ((ratio > 0.7) & (ratio < 1.45)).all()
    assert np.ptp(area) > 0.2
    # a ramp stays a ramp, whatever the window
    ramp = np.broadcast_to(np.arange(60) * 4.0, (3, 1, 40, 60)).astype(dtype)
    y = crop(ramp, rng).astype(float)
    assert y.shape == (3, 1, 20, 30)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1], y.shape))
    assert (np.diff(y, axis=3) >= 0).all()
    whole = RandomResizedCrop((40, 60), (1.0, 1.0), (1.5, 1.5))
    np.testing.assert_array_equal(whole(ramp), ramp)
    half = RandomResizedCrop((20, 30), (1.0, 1.0), (1.5, 1.5))(ramp)
    np.testing.assert_array_equal(half[0, 0, 0], (np.arange(30) * 8 + 2).astype(dtype))


def test_windows_that_cannot_fit_are_the_middle():
    crop = RandomResizedCrop(4, scale=(1.0, 1.0))
    windows = crop.choose(3, 10, 100, np.random.default_rng(0))
    np.testing.assert_array_equal(windows, [[0, 43, 10, 13]] * 3)
    for bad in ({"scale": (0.0, 1.0)}, {"scale": (0.5, 2.0)}, {"ratio": (0.0, 1.0)}, {"size": 0}):
        with pytest.raises(ArgumentError):
            RandomResizedCrop(**{"size": 4, **bad})
