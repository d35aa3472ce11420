"""Every picture: as it was, in light and dark, described in words, with all its words on it."""

import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason='pictures need the extra "plot"')

import matplotlib
from matplotlib.image import imread
from matplotlib.text import Text
from picture_cases import (
    CASES,
    FOLDER,
    LABELS,
    MORE,
    SURE,
    computation,
    difference,
    history,
    network,
    pictures,
    rendered,
)
from PIL import Image

from minicnn import models, nn, plot
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError, CheckpointError, ShapeError
from minicnn.plot.attention import grad_cam
from minicnn.plot.style import DARK, LIGHT, contrast, rgb, theme
from minicnn.training.history import History

ALL = {**CASES, **MORE}
KEPT = ("architecture", "confusion_matrix", "graph", "learning_curves", "mistakes", "window")


def fields(path):
    with Image.open(path) as picture:
        return dict(picture.info)


def kept_by(name):
    """The version of matplotlib, such as (3, 11), that drew a picture that is kept."""
    words = fields(FOLDER / f"{name}.png")["Software"]
    version = words.partition("version")[2].split(",")[0]
    return tuple(map(int, version.split(".")[:2]))


@pytest.mark.parametrize("name", KEPT)
def test_pictures_are_as_they_were(name):
    now = tuple(map(int, matplotlib.__version__.split(".")[:2]))
    if kept_by(name) != now:
        pytest.skip(f"kept by matplotlib {kept_by(name)}, whose letters differ from those of {now}")
    before = np.asarray(imread(FOLDER / f"{name}.png"), np.float64)[..., :3]
    picture = CASES[name](dark=name in ("graph", "learning_curves"))
    assert difference(rendered(picture), before) == ""


def test_pictures_that_are_kept_are_small():
    files = sorted(FOLDER.glob("*.png"))
    assert [file.stem for file in files] == sorted(KEPT)
    assert all(file.stat().st_size < 40_000 for file in files)


def remove_title(picture):
    picture.texts[0].remove()


def move_axes(picture):
    axes = picture.axes[0]
    x, y, width, height = axes.get_position().bounds
    axes.set_position((x + 0.02, y, width, height))


def change_color(picture):
    picture.axes[0].lines[0].set_color("#cc79a7")


def solid_line(picture):
    picture.axes[0].lines[0].set_linestyle("-")


def forget_label(picture):
    picture.axes[0].set_xlabel("")


@pytest.mark.parametrize("fault", [remove_title, move_axes, change_color, solid_line, forget_label])
def test_comparing_catches_faults(fault):
    good, bad = (CASES["learning_curves"]() for _ in range(2))
    fault(bad)
    assert difference(rendered(good), rendered(good)) == ""
    assert "tiles differ" in difference(rendered(bad), rendered(good))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ALL)
def test_every_picture_in_light_and_dark(name, dark):
    picture = ALL[name](dark=dark)
    colors = theme(dark)
    assert picture.get_facecolor()[:3] == pytest.approx(rgb(colors.page))
    assert picture.title
    assert picture.alt.endswith((".", "…"))
    assert 2.5 <= picture.get_figwidth() <= 13
    assert 1.2 <= picture.get_figheight() <= 12
    pixels = rendered(picture, 40)
    assert pixels[0, 0] == pytest.approx(rgb(colors.page), abs=0.01)
    assert pixels.std() > 0.02


def words(picture):
    """Texts that are seen, with their places in pixels."""
    picture.canvas.draw()
    for text in picture.findobj(Text):
        if text.get_visible() and text.get_text().strip():
            yield text, text.get_window_extent()


def hidden_ticks(picture):
    """The words at ticks beyond the ends of an axis, which are not drawn."""
    for axes in picture.axes:
        for i, axis in enumerate((axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.majorTicks, *axis.minorTicks):
                for text in (tick.label1, tick.label2):
                    if not (axes.axison and low <= text.get_position()[i] <= high):
                        yield text


@pytest.mark.parametrize("name", ALL)
def test_all_words_are_on_the_picture(name):
    picture = ALL[name]()
    width, height = picture.canvas.get_width_height()
    seen = 0
    found = list(words(picture))
    hidden = {id(text) for text in hidden_ticks(picture)}
    for text, box in found:
        if id(text) in hidden:
            continue
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
        seen += 1
    assert seen >= 1


@pytest.mark.parametrize("name", ["learning_curves", "error_timeline", "zoo_scatter", "histograms",
                                  "confusion_matrix", "lines"])  # fmt: skip
def test_axes_have_names(name):
    picture = CASES[name]()
    assert picture.axes[0].get_xlabel()
    assert picture.axes[0].get_ylabel() or picture.axes[0].get_yticklabels()


@pytest.mark.parametrize(("name", "count"), [
    ("learning_curves", 2), ("confusion_matrix", 2), ("samples", 6), ("mistakes", 2),
    ("filters", 7), ("feature_maps", 7), ("class_activation", 3), ("histograms", 3),
    ("zoo_scatter", 2), ("architecture", 1),
])  # fmt: skip
def test_number_of_axes(name, count):
    assert len(CASES[name]().axes) == count


@pytest.mark.parametrize("name", ["graph", "mistakes"])
def test_files_say_what_is_on_them(name, tmp_path):
    picture = CASES[name]()
    path = picture.save(tmp_path / "a.svg")
    root = ET.parse(path).getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    (title,), (described,) = (root.findall(f"{space}{tag}") for tag in ("title", "desc"))
    assert (title.text, described.text) == (picture.title, picture.alt)
    assert root.get("aria-labelledby") == f"{title.get('id')} {described.get('id')}"
    info = fields(picture.save(tmp_path / "a.png"))
    assert info["Title"] == picture.title
    assert info["Description"] == picture.alt
    assert picture.save(tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert f'alt="{picture.alt[:20]}' in picture._repr_html_()


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_same_picture_gives_the_same_bytes(kind):
    assert CASES["window"]().as_bytes(kind) == CASES["window"]().as_bytes(kind)


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out(colors):
    for color in colors.series:
        assert contrast(color, colors.page) >= 3.0  # WCAG 2.1, 1.4.11
    assert contrast(colors.text, colors.page) >= 7.0
    for page in (colors.page, colors.card):
        assert contrast(colors.faint, page) >= 4.5


def test_settings_of_the_caller_are_left_alone():
    before = dict(matplotlib.rcParams)
    CASES["learning_curves"](dark=True).as_bytes("svg")
    assert dict(matplotlib.rcParams) == before


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_pyplot_is_not_imported():
    code = (
        "import sys; from minicnn import plot; plot.error_timeline().as_bytes(); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert run(code).stdout == "False\n"


def test_without_matplotlib_the_extra_is_named():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from minicnn import plot\n"
        "try: plot.window((4, 4), 2)\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    done = run(code)
    assert done.stdout.startswith("MissingExtraError"), done.stderr
    assert 'pip install "minicnn[plot]"' in done.stdout


def no_epochs():
    found = History()
    found.append(kind="step", loss=1.0)
    return found


MISTAKES = [
    (lambda: plot.learning_curves([]), ArgumentError, ["runs", "0 histories"]),
    (lambda: plot.learning_curves(no_epochs()), ArgumentError, ["no epoch"]),
    (lambda: plot.learning_curves("nowhere.jsonl"), CheckpointError, ["nowhere.jsonl"]),
    (lambda: plot.confusion_matrix([[1, 2]]), ShapeError, ["matrix", "(1, 2)", "(C, C)"]),
    (lambda: plot.confusion_matrix([[0.5]]), ArgumentError, ["counts"]),
    (lambda: plot.confusion_matrix([[1, 0], [0, 1]], ["a"]), ArgumentError, ["classes", "1 names"]),
    (lambda: plot.samples(np.zeros((2, 5, 4, 4)), [0, 1]), ShapeError, ["images", "(2, 5, 4, 4)"]),
    (lambda: plot.samples(pictures(), [0]), ShapeError, ["labels", "(1,)", "6 images"]),
    (lambda: plot.samples(pictures(), LABELS, [1]), ShapeError, ["predictions", "(1,)"]),
    (lambda: plot.mistakes(pictures(), LABELS, LABELS), ShapeError, ["probabilities", "(N, K)"]),
    (lambda: plot.mistakes(pictures(), SURE.argmax(1), SURE), ArgumentError, ["6 images", "corr"]),
    (lambda: plot.filters(np.zeros(3)), ShapeError, ["(3,)", "(F, C, H, W)"]),
    (lambda: plot.filters(nn.Linear(2, 2)), ArgumentError, ["no Conv2d"]),
    (lambda: plot.feature_maps(network(), pictures()[0], "features.C"), ArgumentError,
     ["no layer 'features.C'", "did you mean 'features.C"]),
    (lambda: plot.feature_maps(network(), pictures()[0], "flatten"), ArgumentError, ["(1, 400)"]),
    (lambda: plot.feature_maps(network(), np.zeros(4), "features.C1"), ShapeError, ["image"]),
    (lambda: plot.receptive_field(network(), "features.C1", pictures()[0], (28, 0)), ArgumentError,
     ["cell is (28, 0)", "rows 0 to 27"]),
    (lambda: plot.class_activation(network(), pictures()[0], label=10), ArgumentError,
     ["label is 10", "10 classes"]),
    (lambda: plot.class_activation(network(), pictures()[0], "flatten"), ArgumentError,
     ["no maps"]),
    (lambda: plot.graph(Tensor([1.0])), ArgumentError, ["not computed"]),
    (lambda: plot.window((6, 6), 3, at=(4, 0)), ArgumentError, ["at is (4, 0)", "4x4"]),
    (lambda: plot.window((60, 6), 3), ArgumentError, ["60x6", "24"]),
    (lambda: plot.window((6, 6), 3, output=np.zeros((2, 2))), ShapeError, ["output", "4x4"]),
    (lambda: plot.maps({}), ArgumentError, ["arrays has 0 maps"]),
    (lambda: plot.maps({"x": [1, 2]}), ShapeError, ["'x' is (2,)", "(H, W)"]),
    (lambda: plot.maps({"x": [[1]]}, columns=0), ArgumentError, ["columns is 0"]),
    (lambda: plot.lines([1, 2], {}), ArgumentError, ["series has 0 lines"]),
    (lambda: plot.lines([1, 2], {"a": [1]}), ShapeError, ["'a' is (1,)", "x is (2,)"]),
    (lambda: plot.zoo_scatter([{"model": "a"}]), ArgumentError, ["row 0", "multiply_adds"]),
    (lambda: plot.zoo_scatter([]), ArgumentError, ["rows is empty"]),
    (lambda: plot.error_timeline(()), ArgumentError, ["results is empty"]),
    (lambda: plot.architecture("resnet17"), ArgumentError, ["did you mean 'resnet18'"]),
    (lambda: plot.architecture(nn.Linear(2, 2)), ArgumentError, ["input_shape", "(C, H, W)"]),
    (lambda: plot.window((4, 4), 2).save("a.gif"), ArgumentError, ["'.gif'", ".svg"]),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "parts"), MISTAKES)
def test_mistakes_name_argument_and_cure(call, kind, parts):
    with pytest.raises(kind) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


def test_a_freed_graph_is_an_error():
    y = computation()
    y.backward()
    with pytest.raises(ArgumentError, match="freed"):
        plot.graph(y)
    with no_grad(), pytest.raises(ArgumentError, match="no_grad"):
        plot.graph(computation())


def test_grad_cam_of_a_linear_end_is_the_class_activation_map():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.GlobalAvgPool2d(), nn.Linear(3, 2))
    image = pictures()[3]
    heat, layer, label, share = grad_cam(net, image, "1", label=1)
    with nn.capture(net, ["1"]) as maps, no_grad():
        scores = net(Tensor(image[None])).numpy()[0]
    expected = np.maximum(np.tensordot(net[3].weight.numpy()[1], maps["1"][0], 1), 0)
    np.testing.assert_allclose(heat, expected / (expected.max() or 1), rtol=1e-5, atol=1e-6)
    assert (layer, label) == ("1", 1)
    assert share == pytest.approx(np.exp(scores[1]) / np.exp(scores).sum(), rel=1e-5)


@pytest.mark.parametrize("name", ["class_activation", "histograms"])
def test_looking_changes_nothing(name):
    net = models.create("notes_cnn")
    for parameter in net.parameters():
        parameter.grad = np.ones_like(parameter.array)
    before = net.state_dict()
    if name == "histograms":
        plot.histograms(net, pictures(), LABELS)
    else:
        plot.class_activation(net.requires_grad_(False), pictures()[0])
    assert all(np.array_equal(before[key], value) for key, value in net.state_dict().items())
    assert all(np.array_equal(p.grad, np.ones(p.shape)) for p in net.parameters())
    assert net.training
    assert not any(module.has_hooks for module in net.modules())


def test_curves_are_read_from_run_folders(tmp_path):
    for name in ("a", "b"):
        kept = History(tmp_path / name / "history.jsonl")
        for record in history().records:
            kept.append(**record)
    picture = plot.learning_curves([tmp_path / "a", tmp_path / "b" / "history.jsonl"])
    assert "a: loss 1.6" in picture.alt
    assert "b: loss 1.6" in picture.alt


def test_values_that_are_not_finite_leave_a_gap():
    found = History()
    for epoch, loss in enumerate((1.0, float("nan"), 0.5), start=1):
        found.append(kind="epoch", epoch=epoch, loss=loss)
    (line,) = plot.learning_curves(found).axes[0].lines
    assert line.get_xdata().tolist() == [1, 3]


def test_what_is_counted_has_whole_ticks():
    def whole(x):
        picture = plot.lines(x, {"loss": np.ones(len(x))})
        picture.canvas.draw()
        return all(float(tick).is_integer() for tick in picture.axes[0].get_xticks())

    assert whole(range(1, 5))
    assert whole([1, 2])
    assert not whole([1.0, 2.0])


def test_the_timeline_says_of_how_many_networks_each_number_is():
    shown = {text.get_text() for text, _ in words(plot.error_timeline())}
    assert {"16.4 %", "11.7 %", "7.3 %", "6.7 %", "3.57 %", "5 networks, validation"} <= shown
