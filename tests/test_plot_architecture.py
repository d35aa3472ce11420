"""Block diagrams of all architectures: true to the model, and nothing on top of anything else."""

import itertools
from dataclasses import replace

import pytest

pytest.importorskip("matplotlib", reason='pictures need the extra "plot"')

import minicnn
from minicnn import inspect, models, nn, plot
from minicnn.cli import main
from minicnn.plot.layout import TITLE, Line, Point, text_width
from minicnn.plot.sheet import sheet
from minicnn.plot.structure import Parallel, stages
from minicnn.plot.trace import INPUT, trace


@pytest.fixture(scope="module")
def planned():
    """Stages and sheet of an architecture, made once."""
    known = {}

    def plan(name):
        if name not in known:
            with nn.without_weights():
                model = models.create(name)
            found = stages(model, trace(model, model.input_shape))
            known[name] = model, found, sheet(found, model.input_shape)
        return known[name]

    return plan


def overlap(a, b, slack=1e-6):
    """Whether two rectangles have more than an edge in common."""
    return (
        min(a.x + a.width, b.x + b.width) - max(a.x, b.x) > slack
        and min(a.y + a.height, b.y + b.height) - max(a.y, b.y) > slack
    )


def inside(part, whole, slack=1e-6):
    return (
        part.x >= whole.x - slack
        and part.y >= whole.y - slack
        and part.x + part.width <= whole.x + whole.width + slack
        and part.y + part.height <= whole.y + whole.height + slack
    )


def crosses(line, box, slack=0.012):
    """Whether a line of straight pieces runs through a box, beyond touching its edge."""
    for a, b in itertools.pairwise(line.points):
        x0, x1 = sorted((a.x, b.x))
        y0, y1 = sorted((a.y, b.y))
        if min(x1, box.x + box.width - slack) >= max(x0, box.x + slack) and min(
            y1, box.y + box.height - slack
        ) >= max(y0, box.y + slack):
            return True
    return False


@pytest.mark.parametrize("name", models.names())
def test_nothing_lies_on_anything_else(planned, name):
    _, _, found = planned(name)
    boxes, cards = found.drawing.boxes, found.cards
    for a, b in itertools.combinations(boxes, 2):
        assert not overlap(a, b), (a, b)
    for a, b in itertools.combinations(cards, 2):
        assert not overlap(a, b), (a, b)
    for a, b in itertools.combinations(found.frames, 2):
        assert not overlap(a, b), (a, b)
    for part in (*boxes, *found.frames):
        assert sum(inside(part, card) for card in cards) == 1, part
    for frame in found.frames:
        for box in boxes:
            assert inside(box, frame) or not overlap(box, frame), (box, frame)
    for line, box in itertools.product(found.drawing.lines, boxes):
        assert not crosses(line, box), (line, box)


def test_the_checks_see_what_they_look_for(planned):
    _, _, found = planned("lenet5")
    first, second = found.drawing.boxes[:2]
    moved = replace(second, x=first.x, y=first.y + first.height / 2)
    assert overlap(first, moved)
    assert not overlap(first, second)
    through = Line((Point(first.x - 1, first.y + 0.1), Point(first.x + 9, first.y + 0.1)))
    assert crosses(through, first)
    assert not inside(moved, first)


@pytest.mark.parametrize("name", models.names())
def test_sheets_are_of_a_size_to_read(planned, name):
    _, _, found = planned(name)
    assert 3 < found.width < 18
    assert 2.5 < found.height < 12.5
    assert len(found.drawing.boxes) <= 80
    for card in found.cards:
        assert card.x >= 0
        assert card.x + card.width <= found.width
        assert card.y + card.height <= found.height
        assert text_width(card.heading, TITLE, bold=True) < card.width


@pytest.mark.parametrize("name", models.names())
def test_nothing_of_the_network_is_missing(planned, name):
    model, found, _ = planned(name)
    table = inspect.summary(model, model.input_shape)
    assert sum(stage.parameters for stage in found) == table.parameters - table.unused_parameters
    drawn = [node.path for stage in found for unit in stage.units for node in unit.nodes()
             if node.layer is not None]  # fmt: skip
    weighted = [row.name for row in table.layers if row.part != "other"]
    assert sorted(path for path in drawn if path in set(weighted)) == sorted(weighted)
    assert found[-1].shape == table.layers[-1].output_shape


@pytest.mark.parametrize(("name", "repeats"), [
    ("resnet50", [3, 4, 6, 3]), ("resnet1202", [200, 200, 200]), ("googlenet", [2, 5, 2]),
    ("densenet121", [6, 12, 24, 16]), ("squeezenet1_1", [2, 2, 4]), ("plain34", [3, 4, 6, 3]),
    ("inception_v3", [3, 1, 4, 1, 2]), ("preact_resnet164", [1, 17, 1, 17, 1, 17]),
    ("wrn28_10", [1, 3, 1, 3, 1, 3]), ("fractalnet", [1, 1, 1, 1, 1]),
    ("stochastic_depth_resnet110", [18, 18, 18]), ("resnext50_32x4d", [3, 4, 6, 3]),
])  # fmt: skip
def test_equal_blocks_are_drawn_once(planned, name, repeats):
    _, found, _ = planned(name)
    units = [unit for stage in found for unit in stage.units if unit.name]
    assert [len(unit.repeats) for unit in units] == repeats


def parallels(chain):
    for part in chain:
        if isinstance(part, Parallel):
            yield part
            for branch in part.branches:
                yield from parallels(branch)


@pytest.mark.parametrize(("name", "branches", "join"), [
    ("googlenet", 4, "concat"), ("squeezenet1_1", 2, "concat"), ("resnet18", 1, "add"),
    ("densenet121", 1, "concat"), ("preact_resnet20", 1, "add"), ("fractalnet", 2, "mean of maps"),
])  # fmt: skip
def test_branches_and_what_joins_them(planned, name, branches, join):
    _, found, _ = planned(name)
    unit = next(unit for stage in found for unit in stage.units if unit.name)
    outermost = next(parallels(unit.repeats[0]))
    assert (len(outermost.branches), outermost.join.kind) == (branches, join)
    assert (outermost.shortcut is not None) == (branches == 1)


def test_the_first_block_of_a_stage_has_a_projection(planned):
    _, found, plan = planned("resnet50")
    first, second = (next(parallels(chain)) for chain in found[1].units[1].repeats[:2])
    assert [part.core.layer.kernel_size for part in first.shortcut] == [(1, 1)]
    assert second.shortcut == []
    assert sum(box.dashed for box in plan.drawing.boxes) == 4
    assert sum(box.dashed for box in planned("resnet20")[2].drawing.boxes) == 2
    assert not any(box.dashed for box in planned("preact_resnet164")[2].drawing.boxes)


def test_a_dense_block_is_a_chain_in_standard_form():
    model = models.create("densenet_bc40")
    nodes = trace(model, model.input_shape)
    joins = [node for node in nodes.values() if node.kind == "concat"]
    assert len(joins) == 18
    assert all(len(node.inputs) == 2 for node in joins)


def test_batch_norm_is_written_where_it_is(planned):
    def notes(name):
        return [box.note for box in planned(name)[2].drawing.boxes if box.kind == "conv"]

    assert set(notes("resnet18")) == {"→ BN · ReLU", "→ BN", "first /2  → BN · ReLU"}
    assert "BN · ReLU →" in notes("densenet121")
    assert "2 groups  → ReLU · LRN" in notes("alexnet_2012")


class Twice(nn.Module):
    """A layer that runs twice, and a branch that ends in the image itself."""

    input_shape = (2, 6, 6)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(self.conv(x)) + x


class Ladder(nn.Module):
    """Not series-parallel: a -> b, a -> c, b -> c, b -> d, c -> d."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(1, 1, 1) for _ in range(3))

    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        c = self.c(a + b)
        return b * c


def test_networks_of_ones_own():
    picture = plot.architecture(Twice())
    assert picture.title == "Twice"
    nodes = trace(Twice(), (2, 6, 6))
    assert [node.inputs for node in nodes.values()] == [(INPUT,), (0,), (1, INPUT)]
    chain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(0.25), nn.Flatten(), nn.Linear(36, 2))
    found = stages(chain, trace(chain, (1, 5, 5)))
    assert [stage.shape for stage in found] == [(4, 3, 3), (2,)]
    assert "5 × 5" in plot.architecture(chain, (1, 5, 5)).alt


def test_what_cannot_be_taken_apart_is_still_drawn():
    model = Ladder()
    found = stages(model, trace(model, (1, 4, 4)))
    layers = [node.path for unit in found[0].units for node in unit.nodes() if node.path]
    assert sorted(layers) == ["a", "b", "c"]
    assert plot.architecture(model, (1, 4, 4)).alt


@pytest.mark.parametrize("name", ["notes_cnn", "alexnet_2012", "resnext50_32x4d", "densenet121"])
def test_words_fit_into_their_boxes(planned, name):
    picture = plot.architecture(name)
    picture.canvas.draw()
    (axes,) = picture.axes
    boxes = planned(name)[2].drawing.boxes
    words = {text.get_text(): text for text in axes.texts}
    for box in boxes:
        for line in filter(None, (box.text, box.note)):
            width = words[line].get_window_extent().width / picture.dpi
            assert width < box.width - 0.03, line


def test_other_presets_and_sizes():
    assert "1 × 28 × 28" in plot.architecture("resnet50", preset="fashion-mnist").alt
    assert "3 × 64 × 64" in plot.architecture("resnet18", (3, 64, 64)).alt
    model = models.create("lenet5", num_classes=3)
    assert "Stage 3 values" in plot.architecture(model).alt


@pytest.fixture
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with minicnn.use_backend("numpy"):  # a run selects its kernel set for the process
        yield


@pytest.mark.usefixtures("_in_folder")
def test_the_command_draws_networks(tmp_path, capsys):
    assert main(["plot", "architecture", "squeezenet1_1", "-o", "a.svg", "--dark"]) == 0
    assert "Fire × 2" in capsys.readouterr().out
    assert "<title" in (tmp_path / "a.svg").read_text()
    assert main(["plot", "field", "lenet5", "--layer", "features.C3"]) == 0
    assert (tmp_path / "field.png").stat().st_size > 1000


@pytest.mark.usefixtures("_in_folder")
@pytest.mark.parametrize(("arguments", "part"), [
    (["plot", "architectur"], "did you mean 'architecture'"),
    (["plot", "timeline", "x"], "leave out 'x'"),
    (["plot", "maps", "lenet5"], "--layer"),
    (["plot", "architecture", "resnet17"], "did you mean 'resnet18'"),
    (["plot", "curves"], "there is no run"),
    (["plot", "architecture", "lenet5", "-o", "a.gif"], "'.gif'"),
])  # fmt: skip
def test_the_command_explains_mistakes(arguments, part, capsys):
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert part in capsys.readouterr().err


@pytest.mark.usefixtures("_in_folder")
def test_the_command_draws_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    settings = ["--model", "lenet5", "--source", "sample", "--images", "64", "--batch-size", "32",
                "--epochs", "1", "--name", "a", "--backend", "numpy"]  # fmt: skip
    assert main(["train", *settings]) == 0
    capsys.readouterr()
    for what in ("curves", "confusion", "samples", "mistakes", "filters", "cam", "architecture"):
        assert main(["plot", what, "runs/a", "-o", f"{what}.png"]) == 0, what
        assert (tmp_path / f"{what}.png").stat().st_size > 1000
    out = capsys.readouterr().out
    assert "Confusion matrix of 2,000 images in 10 classes" in out
    assert main(["plot", "maps", "--layer", "features.C1", "--index", "5"]) == 0
    assert main(["plot", "cam", "--index", "2000"]) == 2
    assert "choose 0 to 1999" in capsys.readouterr().err
