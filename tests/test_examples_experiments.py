"""The experiments run on a handful of images, go on where they stopped, and refuse mistakes."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import minicnn
from minicnn import data, models, nn
from minicnn.errors import ConfigError, ShapeError
from minicnn.training import build
from minicnn.training.callbacks import Callback
from minicnn.training.config import TrainConfig
from minicnn.training.run import opened_run

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _small_and_offline(monkeypatch, tmp_path):
    """Numpy kernels, 80 training and 40 test images, and the folder of the examples on the path."""
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    source = build.DATA_SOURCES["fashion_mnist"]

    def load(split, source):
        whole = data.fashion_mnist(split, source="sample")
        return whole.subset(range(80 if split == "train" else 40))

    tiny = build.DataSource(load, source.mean, source.std)
    monkeypatch.setitem(build.DATA_SOURCES, "fashion_mnist", tiny)
    before = dict(models.registry._architectures)
    with minicnn.use_backend("numpy"):
        yield
    models.registry._architectures.clear()
    models.registry._architectures.update(before)


class Tiny(models.Network):
    """A stand-in for networks that would take long."""

    def __init__(self, num_classes=10, in_channels=1, image_size=28, width=3):
        super().__init__()
        self.pool, self.flatten = nn.AvgPool2d(4), nn.Flatten()
        self.hidden = nn.Linear(in_channels * (image_size // 4) ** 2, width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.hidden(self.flatten(self.pool(x))))


def stand_in(*names):
    for name in names:
        models.register(name, {"fashion-mnist": models.Preset((1, 28, 28), 10)})(Tiny)


def run(monkeypatch, script, *arguments):
    common = ["--batch-size", "20", "--output", "out"]
    monkeypatch.setattr(sys, "argv", [script, *common, *map(str, arguments)])
    return runpy.run_path(str(EXAMPLES / script), run_name="__main__")


def assert_plotted(path):
    """A picture, where matplotlib, an optional package, can draw it."""
    if importlib.util.find_spec("matplotlib") is not None:
        assert Path(path).read_bytes().startswith(b"\x89PNG")


def mistake(monkeypatch, capsys, script, *arguments):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, script, *arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


# Runs that can be opened again -------------------------------------------------------------------


class Crash(Callback):
    def on_epoch_begin(self, trainer):
        if trainer.position.epoch == 2:
            raise RuntimeError("killed")


def config(**settings):
    stand_in("tiny")
    common = {"model": "tiny", "batch_size": 20, "backend": "numpy", "name": "a", "epochs": 3}
    return TrainConfig(**{**common, **settings}).validate()


def test_an_opened_run_continues_and_a_finished_one_stays():
    whole = opened_run(config(name="whole"))
    expected = whole.fit().column("loss")
    with pytest.raises(RuntimeError, match="killed"):
        opened_run(config(), (Crash(),)).fit()
    second = opened_run(config())
    assert second.trainer.position.epoch == 2
    assert second.fit().column("loss") == expected
    third = opened_run(config())
    assert third.fit().column("loss") == expected
    for a, b in zip(whole.model.parameters(), third.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_an_opened_run_may_continue_on_other_threads():
    usual = minicnn.get_num_threads()
    opened_run(config(threads=1)).fit()
    assert opened_run(config(threads=usual)).config.threads == usual


def test_an_opened_run_of_other_settings_is_refused():
    opened_run(config()).fit()
    with pytest.raises(ConfigError, match=r"other settings: epochs 3, now 5, lr 0.1, now 0.2\. Ch"):
        opened_run(config(epochs=5, lr=0.2))
    with pytest.raises(ConfigError, match="need a name"):
        opened_run(config(name=""))


def test_a_run_that_was_killed_before_it_began_begins():
    Path("runs/a").mkdir(parents=True)
    assert len(opened_run(config()).fit()) == 3


# The league table --------------------------------------------------------------------------------


def test_the_league_table_is_written_and_continued(monkeypatch, capsys):
    stand_in("lenet5")
    arguments = ("--epochs", 1, "--only", "notes_cnn", "lenet5")
    run(monkeypatch, "league_table.py", *arguments)
    rows = json.loads(Path("out/league_table.json").read_text())["rows"]
    by_name = {row["model"]: row for row in rows}
    assert set(by_name) == {"notes_cnn", "lenet5"}
    notes = by_name["notes_cnn"]
    assert (notes["parameters"], notes["multiply_adds"]) == (29_034, 2_838_080)
    assert 0 <= notes["accuracy"] <= 1
    assert notes["peak_memory"] * 1e6 > 20 * 16 * 28 * 28 * 4  # a batch of the first maps
    assert notes["seconds_per_epoch"] > 0
    text = Path("out/league_table.md").read_text()
    assert "| Notes' CNN | notes_cnn |" in text
    assert "29,034 | 2,838,080" in text
    assert_plotted("out/league_table.png")

    capsys.readouterr()
    run(monkeypatch, "league_table.py", *arguments)
    assert "epoch 1/1" not in capsys.readouterr().out  # nothing was trained again
    assert json.loads(Path("out/league_table.json").read_text())["rows"] == rows
    run(monkeypatch, "league_table.py", *arguments, "--time")
    timed = json.loads(Path("out/league_table.json").read_text())["rows"]
    assert [{**row, "seconds_per_epoch": 0} for row in timed] == [
        {**row, "seconds_per_epoch": 0} for row in rows
    ]
    assert timed != rows
    run(monkeypatch, "league_table.py", *arguments)
    assert json.loads(Path("out/league_table.json").read_text())["rows"] == timed
    rows = timed
    sentence = mistake(monkeypatch, capsys, "league_table.py", "--epochs", 2, "--only", "notes_cnn")
    assert "epochs 1, now 2" in sentence
    assert json.loads(Path("out/league_table.json").read_text())["rows"] == rows


def test_a_network_that_fails_is_a_line_of_the_table(monkeypatch):
    def broken(num_classes, in_channels):
        raise ShapeError("too small an image")

    models.register("lenet5", {"fashion-mnist": models.Preset((1, 28, 28), 10)})(broken)
    stand_in("zfnet")
    run(monkeypatch, "league_table.py", "--epochs", 1, "--only", "lenet5", "zfnet")
    text = Path("out/league_table.md").read_text()
    assert "- lenet5 failed: too small an image" in text
    assert "| ZFNet | zfnet |" in text


def test_mistakes_of_the_league_table(monkeypatch, capsys):
    sentence = mistake(monkeypatch, capsys, "league_table.py", "--only", "notes_cn")
    assert "did you mean 'notes_cnn'" in sentence


def test_without_matplotlib_there_is_a_note_and_the_table(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    stand_in("zfnet")
    run(monkeypatch, "league_table.py", "--epochs", 1, "--only", "zfnet")
    assert "no plot: install matplotlib" in capsys.readouterr().err
    assert "| ZFNet | zfnet |" in Path("out/league_table.md").read_text()


# Degradation -------------------------------------------------------------------------------------


def test_degradation_records_training_and_test_errors(monkeypatch, capsys):
    stand_in("plain20", "resnet20")
    run(monkeypatch, "degradation.py", "--epochs", 4, "--images", 60, "--depths", 20, "--width", 2)
    found = json.loads(Path("out/degradation.json").read_text())
    assert set(found["curves"]) == {"plain20", "resnet20"}
    assert found["settings"]["milestones"] == [2, 3]
    assert found["settings"]["weight_decay"] == 1e-4  # the recipe's
    for curves in found["curves"].values():
        assert len(curves["training"]) == len(curves["test"]) == 4
    out = capsys.readouterr().out
    assert f"| plain20 | {found['curves']['plain20']['training'][-1]:.4f} |" in out
    assert_plotted("out/degradation.png")

    again = opened_run(TrainConfig(**{**found["settings"], "model": "plain20", "name": "plain20"}))
    assert again.model.hidden.weight.shape == (2, 49)
    source = build.DATA_SOURCES["fashion_mnist"]
    test = source.load("test", "sample")
    from minicnn.training.run import eval_loader

    accuracy = again.trainer.evaluate(eval_loader(test, source, again.config)).accuracy
    assert 1.0 - accuracy == found["curves"]["plain20"]["test"][-1]


def test_depths_that_do_not_exist(monkeypatch, capsys):
    sentence = mistake(monkeypatch, capsys, "degradation.py", "--depths", 21)
    assert "there is no network 'plain21'" in sentence


# ReLU against tanh -------------------------------------------------------------------------------


def test_the_race_stops_at_the_error_and_reports_the_best_rate(monkeypatch, capsys):
    arguments = ("--epochs", 2, "--images", 40, "--rates", 0.001, 0.05, "--error", 0.99)
    run(monkeypatch, "relu_vs_tanh.py", *arguments)
    found = json.loads(Path("out/relu_vs_tanh.json").read_text())["best"]
    for name in ("relu", "tanh"):
        assert found[name]["rate"] in (0.001, 0.05)
        assert found[name]["epochs"] == 1.0  # any epoch is below 99 %, so the first ends it
        assert len(found[name]["curve"]) == 1
    assert "tanh takes 1.0 times as many epochs" in capsys.readouterr().out
    assert_plotted("out/relu_vs_tanh.png")


def test_when_the_error_was_reached(monkeypatch):
    import relu_vs_tanh as race

    assert race.reached([0.5, 0.3, 0.1], 0.2) == pytest.approx(2.5)
    assert race.reached([0.5, 0.3], 0.3) == 2.0
    assert race.reached([0.1], 0.2) == 1.0
    assert race.reached([0.5, 0.3], 0.2) is None
    slow = {"epochs": 9.0, "curve": [0.1]}
    fast, never = {"epochs": 4.0, "curve": [0.2]}, {"epochs": None, "curve": [0.3]}
    assert race.best([slow, never, fast]) is fast
    assert race.best([never, {"epochs": None, "curve": [0.25]}])["curve"] == [0.25]
    tanh = race.FourConvolutions(activation="tanh")
    assert sum(isinstance(part, nn.Tanh) for part in tanh.modules()) == 4
    image = minicnn.Tensor(np.ones((1, 1, 28, 28), np.float32))
    with nn.capture(tanh, ["features.0"]) as raw, minicnn.no_grad():
        tanh(image)
    tanh.input_scale = 1.0
    with nn.capture(tanh, ["features.0"]) as small, minicnn.no_grad():
        tanh(image)
    np.testing.assert_allclose(raw["features.0"], 90 * small["features.0"], rtol=1e-4, atol=1e-4)


def test_an_error_that_is_no_share(monkeypatch, capsys):
    assert "--error is 1.5" in mistake(monkeypatch, capsys, "relu_vs_tanh.py", "--error", 1.5)
