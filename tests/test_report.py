"""The page of a run: what is on it, that it is escaped, bounded and never in a training's way."""

import itertools
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from html_rules import Page

import minicnn
from minicnn import data, report
from minicnn.cli import main
from minicnn.errors import ArgumentError, CheckpointError, MiniCNNError, NonFiniteError
from minicnn.plot.style import contrast
from minicnn.report import chart as charts
from minicnn.report import classes, colors, environment, page, tables, writing
from minicnn.report.facts import Answers, Facts, facts, measure
from minicnn.training import build
from minicnn.training.callbacks import Callback
from minicnn.training.config import TrainConfig
from minicnn.training.metrics import ConfusionMatrix
from minicnn.training.run import new_run, resumed_run

pytest.importorskip("jinja2")

NAMES = ("<script>alert(1)</script>", 'quote"d', "a & b", "Dress", "Coat", "Sandal", "Shirt",
         "Sneaker", "Bag", "Ankle <b>boot</b>")  # fmt: skip


def small(split, source):
    whole = data.fashion_mnist(split, source="sample").subset(range(300))
    return data.ArrayDataset(whole.images, whole.labels, NAMES, "small", "sample")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a finished run called "<i>one</i>" and another that was interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    source = build.DATA_SOURCES["fashion_mnist"]
    with pytest.MonkeyPatch.context() as patch, minicnn.use_backend("numpy"):
        patch.setitem(
            build.DATA_SOURCES, "fashion_mnist", build.DataSource(small, source.mean, source.std)
        )
        run = new_run(config(folder, name="<i>one<_i>", epochs=2))
        report.fit(run)
        _, epoch = run.test()
        assert writing.finish(run, epoch=epoch) == run.folder / "report.html"
        stopped = new_run(config(folder, name="stopped", epochs=3, lr=0.01), (Stop(),))
        with pytest.raises(KeyboardInterrupt):
            report.fit(stopped)
        yield folder


def config(folder, **settings):
    return TrainConfig("lenet5", backend="numpy", batch_size=90, output=str(folder), **settings)


class Stop(Callback):
    """Interrupts the second epoch."""

    def on_step_end(self, trainer, images):
        if trainer.position.epoch == 1:
            raise KeyboardInterrupt


@pytest.fixture
def one(runs):
    return runs / "<i>one<_i>"


def read(path):
    return Page(Path(path).read_text())


def test_the_page_keeps_the_rules_and_shows_every_part(one):
    found = read(one / "report.html")
    assert found.faults == []
    for heading in ("Learning curves", "Classes", "Confusion", "The most certain mistakes",
                    "Network", "Settings", "Machine and times"):  # fmt: skip
        assert heading in found.text
    result = json.loads((one / "result.json").read_text())
    assert f"test accuracy {result['test_accuracy']:.2%}" in found.text
    assert "finished, 2 epochs" in found.text
    assert "61,706" in found.text  # parameters
    assert "training images 270" in found.text
    assert f"numpy {np.__version__}" in found.text
    assert "lr" in found.text
    assert len(found.all("svg")) >= 3
    assert len([a for a in found.all("img") if a["alt"].startswith("Test image")]) == 20
    assert "Block diagram of lenet5" in next(
        a["alt"] for a in found.all("img") if a["src"].startswith("data:image/svg")
    )


def test_texts_from_outside_are_escaped(one):
    text = (one / "report.html").read_text()
    assert "<script" not in text
    assert "<i>" not in text
    assert "<b>boot" not in text
    found = Page(text)
    for name in NAMES:
        assert name in found.text
    assert "<i>one<_i>" in found.text
    assert "'" + str(one / "config.toml") + "'" in found.text  # the shell's marks too


def test_it_is_written_again_from_the_folder_alone(one, tmp_path):
    with minicnn.use_backend("numpy"):
        path = report.write(one, tmp_path / "again.html")
    old, new = (one / "report.html").read_text(), path.read_text()

    def timeless(text):
        return re.sub(r"<td class=\"number\">[^<]*images\)</td>|<time>.*?</time>", "", text)

    assert timeless(old) == timeless(new)


def test_an_interrupted_run_has_a_page_of_what_there_is(runs):
    found = read(runs / "stopped" / "report.html")
    assert found.faults == []
    assert "not finished, 1 of 3 epochs done" in found.text
    assert "interrupted" in found.text
    assert "not measured" in found.text
    assert "Confusion" not in found.text
    assert "Network" in found.text


def test_a_run_killed_at_once_has_a_page_of_its_settings(runs, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "config.toml").write_text("epochs = 7\n")
    found = read(report.write(folder))
    assert found.faults == []
    assert "0 of 7 epochs" in found.text
    assert "no checkpoint yet" in found.text
    assert "Network" not in found.text
    with pytest.raises(CheckpointError, match="not a run folder"):
        report.write(tmp_path)


def test_a_failed_training_says_why(runs, tmp_path):
    run = new_run(config(tmp_path, name="diverged", epochs=1, lr=1e30, schedule="constant"))
    with pytest.raises(NonFiniteError):
        report.fit(run)
    assert "the loss is" in read(run.folder / "report.html").text


def test_without_matplotlib_the_page_says_how_to_get_the_diagram(one, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with minicnn.use_backend("numpy"):
        found = read(report.write(one, tmp_path / "plain.html"))
    assert found.faults == []
    assert 'pip install "minicnn[plot]"' in found.text
    assert not [a for a in found.all("img") if a["src"].startswith("data:image/svg")]
    assert "Learning curves" in found.text


def test_nothing_that_goes_wrong_with_a_report_stops_a_training(runs, monkeypatch, capsys):
    run = resumed_run(runs / "stopped", {})
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert writing.finish(run) is None
    assert "pip install jinja2" in capsys.readouterr().err
    with pytest.raises(MiniCNNError, match="pip install jinja2"):
        page.run_page(facts(run.folder), None)
    monkeypatch.setattr(writing, "run_page", lambda *_: 1 / 0)
    assert writing.finish(run) is None

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "run_page", interrupted)
    assert writing.finish(run) is None
    monkeypatch.setattr(environment, "atomic_write", lambda *_: 1 / 0)
    monkeypatch.setattr(type(run), "fit", lambda self: None)
    report.fit(run)
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        "there is no report: ZeroDivisionError: division by zero",
        "there is no report: KeyboardInterrupt",
        "the machine was not noted down: ZeroDivisionError: division by zero",
    ]


def test_each_start_of_a_training_is_noted(runs, tmp_path):
    run = new_run(config(tmp_path, name="twice", epochs=1))
    environment.record(run)
    run.trainer.position.step = 1200
    environment.record(run)
    found = environment.sessions(run.folder)
    assert [entry["from step"] for entry in found] == ["0", "1,200"]
    assert found[0]["kernels"] == "numpy"
    assert found[0]["epochs planned"] == "1"
    for text in ("[1", "{}", '[1, "a"]'):
        (run.folder / environment.FILE).write_text(text)
        assert environment.sessions(run.folder) == []


def test_runs_are_compared_on_one_page(runs, tmp_path, one):
    path = report.compare([one, runs / "stopped"], tmp_path / "both.html")
    found = read(path)
    assert found.faults == []
    assert "2 runs compared" in found.text
    assert "<i>one<_i>" in found.text
    assert "epochs 2 3 lr 0.1 0.01" in found.text  # what differs, and nothing else
    assert "batch_size" not in found.text
    assert "numba" not in found.text
    result = json.loads((one / "result.json").read_text())
    assert f"{result['test_accuracy']:.4f}" in found.text
    same = read(report.compare([one, one], tmp_path / "same.html"))
    assert "the same settings" in same.text
    assert str(one) in same.text  # equal names: paths
    for count in (1, 9):
        with pytest.raises(ArgumentError, match=f"got {count} run"):
            report.compare([one] * count)


def test_the_command(runs, one, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with minicnn.use_backend("numpy"):
        assert main(["report", str(one), "-o", "page.html"]) == 0
        assert capsys.readouterr().out == f"page.html: {Path('page.html').stat().st_size:,} bytes\n"
        assert main(["report", str(one), str(runs / "stopped")]) == 0
        assert read("comparison.html").faults == []
        with pytest.raises(CheckpointError, match="is a folder"):
            report.write(one, tmp_path)
    assert main(["report"]) == 2
    assert "there is no run" in capsys.readouterr().err


def test_the_scores_are_those_of_the_matrix(one):
    found = facts(one)
    with minicnn.use_backend("numpy"):
        tested = measure(one, found.config)
    counts = tested.evaluation().confusion
    sheet = classes.scores(counts, tested.classes)
    assert [row[0] for row in sheet.rows] == list(NAMES)
    assert [row[3] for row in sheet.rows] == [f"{value:.3f}" for value in counts.f1]
    rows = classes.matrix(counts, tested.classes)
    assert [[cell.count for cell in row.cells] for row in rows] == counts.matrix.tolist()
    assert sum(pair.count for pair in classes.pairs(counts, NAMES)) <= counts.matrix.sum()
    wrong = classes.mistakes(tested)
    assert [m.sure for m in wrong] == sorted((m.sure for m in wrong), reverse=True)
    for mistake in wrong:
        row = tested.probabilities[mistake.index]
        assert mistake.guess == NAMES[row.argmax()] != mistake.truth
        assert mistake.truth == NAMES[tested.labels[mistake.index]]
        assert mistake.for_truth == row[tested.labels[mistake.index]]


def test_cells_are_coloured_by_their_share():
    counts = ConfusionMatrix(2)
    counts.matrix[:] = [[75, 25], [0, 1]]
    first, second = classes.matrix(counts, ["a", "b"])
    assert [cell.look for cell in first.cells] == ["right-8", "wrong-5"]
    assert [cell.look for cell in second.cells] == ["", "right-10"]


def test_a_page_of_the_largest_run_stays_below_2_mb(tmp_path, runs):
    rng = np.random.default_rng(0)
    K, N = 1000, 500
    images = rng.integers(0, 256, (N, 3, 160, 160), np.uint8)  # noise: nothing is packed worse
    names = [f"n{i:08d} a long name of a class, with a comma" for i in range(K)]
    tested = Answers(
        names, images, rng.integers(0, K, N), rng.dirichlet(np.ones(K), N), 1, 1.0
    )  # fmt: skip
    epochs = [
        {"kind": "epoch", "epoch": i, "lr": 0.1, "loss": rng.random(), "val_loss": rng.random(),
         "accuracy": rng.random(), "val_accuracy": rng.random(), "seconds": 1.0}
        for i in range(1, 2001)
    ]  # fmt: skip
    meta = {"model": "preact_resnet1001", "preset": "", "classes": names,
            "image_shape": [3, 32, 32]}  # fmt: skip
    largest = Facts(tmp_path, TrainConfig("preact_resnet1001"), epochs, None, meta, [])
    text = page.run_page(largest, tested)
    assert len(text.encode()) < 2_000_000
    found = Page(text)
    assert found.faults == []
    assert "the whole matrix is too large" in found.text
    assert "The 100 of 1,000 classes" in found.text
    assert "1,800 epochs between them" in found.text
    assert "layers in the middle are not listed" in found.text


def test_charts_have_gaps_rings_and_words():
    line = charts.Line("loss", [(1, 4.0), (2, math.nan), (3, 1.0), (4, 2.0)], 2, "min")
    found = charts.chart("c", "Loss", "nats", [line])
    (drawn,) = found.lines
    assert len(drawn.paths) == 2
    (ring,) = (dot for dot in drawn.dots if dot.ring)
    assert ring.text == "best loss, epoch 3: 1"
    assert "best 1 at epoch 3, 1 values not finite" in found.alt
    left, top, right, bottom = found.box
    assert all(left <= dot.x <= right and top <= dot.y <= bottom for dot in drawn.dots)
    assert charts.chart("c", "Loss", "nats", [charts.Line("loss", [(1, math.nan)])]) is None
    flat = charts.chart("c", "Loss", "nats", [charts.Line("loss", [(1, 0.0)])])
    assert len(flat.y_ticks) > 1


def test_wide_losses_get_a_logarithmic_scale():
    line = charts.Line("loss", [(1, 100.0), (2, 10.0), (3, 1.0)])
    even = charts.chart("c", "Loss", "nats", [line])
    found = charts.chart("c", "Loss", "nats", [line], may_log=True)
    assert not even.log
    assert found.log
    first, second, third = (dot.y for dot in found.lines[0].dots)
    assert second - first == pytest.approx(third - second)
    assert {"1", "10", "100"} <= {tick.text for tick in found.y_ticks}
    narrow = charts.Line("loss", [(1, 19.0), (2, 1.0)])
    assert not charts.chart("c", "Loss", "nats", [narrow], may_log=True).log


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.001, 0.0011), (-3, 5e6), (1, 1000)])
def test_ticks_are_round_and_few(low, high):
    found = charts.ticks(low, high, 6)
    assert 2 <= len(found) <= 6
    assert all(low <= value <= high for value in found)
    mantissas = {f"{b - a:e}"[0] for a, b in itertools.pairwise(found)}
    assert mantissas <= {"1", "2", "5"}


@pytest.mark.parametrize("dark", [False, True])
def test_colours_stand_out_as_wcag_asks(dark):
    found = colors.variables(dark)
    for back in ("page", "card"):
        for front in ("text", "faint"):
            assert contrast(found[front], found[back]) >= 4.5
    for name, color in found.items():
        if name.startswith("on-"):
            assert contrast(color, found[name.removeprefix("on-")]) >= 4.5
    assert contrast(found["good"], found["page"]) >= 4.5  # links
    for name in ("good", "bad", "series-0", "series-1", "series-2"):
        assert contrast(found[name], found["page"]) >= 3


def test_long_runs_are_listed_in_part(tmp_path):
    epochs = [{"epoch": i, "loss": 1.0} for i in range(1, 1001)]
    sheet = tables.epochs(Facts(tmp_path, TrainConfig(), epochs, None, None, []))
    assert len(sheet.rows) == tables.MOST_EPOCHS
    assert (sheet.rows[0][0], sheet.rows[-1][0]) == ("1", "1000")


FAULTY = {
    "<img src='data:,'>": "without alt",
    "<h4>far down</h4>": "h4 after",
    "<a href='https://example.org'>x</a>": "leads to",
    "<table><tr><th>x</th></tr></table>": "caption",
    "<p id='a'></p><p id='a'></p>": "2 times",
    "<script></script>": "script",
    "<p><b></p></b>": "closes",
    "<div role='region'></div>": "no name",
    "<p onclick='x()'></p>": "runs a script",
    "<svg></svg>": "neither",
}


@pytest.mark.parametrize("fault", FAULTY)
def test_the_rules_find_faults(fault, one):
    text = (one / "report.html").read_text().replace("</main>", f"{fault}</main>")
    assert any(FAULTY[fault] in found for found in Page(text).faults)
