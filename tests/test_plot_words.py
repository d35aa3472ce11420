"""Pictures of odd names and numbers: words stay words, and what is not finite stays visible."""

import warnings
from xml.dom import minidom

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from minicnn import models, nn, plot
from minicnn.autograd import Tensor
from minicnn.training.history import History

NAMES = {
    "formula": "$x^{2}$", "no formula": "_$\\frac$ <b>&amp;", "emoji": "cat \U0001f600",
    "long": "w" * 3000, "bytes": "a\udcff\x00\x1b\nb",
}  # fmt: skip


def _history():
    history = History()
    for epoch in range(1, 4):
        history.append(kind="epoch", epoch=epoch, loss=1 / epoch, val_loss=1.0)
    return history


def _network(name):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    model.architecture = name
    return plot.architecture(model, input_shape=(1, 8, 8))


def _zoo(name):
    sizes = {"parameters": 10**6, "multiply_adds": 10**8}
    return plot.zoo_scatter([{"model": n, "accuracy": 0.9, **sizes} for n in (name, f"{name}2")])


IMAGES = np.random.default_rng(0).random((2, 1, 4, 4))
SHARES = np.array([[0.1, 0.9], [0.8, 0.2]])
PICTURES = {
    "maps": lambda n: plot.maps({n: [[1, 2]]}, title=n),
    "samples": lambda n: plot.samples(IMAGES, [0, 1], classes=[n, f"{n}2"]),
    "mistakes": lambda n: plot.mistakes(IMAGES, [0, 1], SHARES, classes=[n, f"{n}2"]),
    "confusion": lambda n: plot.confusion_matrix([[1, 2], [3, 4]], classes=[n, f"{n}2"]),
    "lines": lambda n: plot.lines([0, 1], {n: [1, 2], f"{n}2": [2, 3]}, n, n, n),
    "curves": lambda n: plot.learning_curves({n: _history(), f"{n}2": _history()}),
    "zoo": _zoo,
    "architecture": _network,
    "graph": lambda n: plot.graph((x := Tensor([1.0], requires_grad=True)) * 2, {n: x}),
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("function", PICTURES)
def test_names_are_drawn_as_they_are(function, kind):
    name = NAMES[kind]
    svg = PICTURES[function](name).as_bytes("svg")
    document = minidom.parseString(svg)
    words = " ".join(
        node.firstChild.data for node in document.getElementsByTagName("text") if node.firstChild
    )
    if "formula" in kind:
        assert name[:10] in words  # and some functions cut long ones
    elif kind == "bytes":
        assert "a\ufffd" in words


NOTHING, ENDLESS = np.full((4, 4), np.nan), np.array([[np.inf, 1.0], [-np.inf, np.nan]])


@pytest.mark.parametrize("values", [NOTHING, ENDLESS], ids=["NaN", "infinite"])
def test_what_is_not_finite_is_drawn_without_a_warning(values):
    batch = np.stack([values, values])[:, None]
    model = models.create("notes_cnn")
    model.features[0].weight.array[...] = np.resize(values, model.features[0].weight.shape)
    zeros = np.zeros((1, 28, 28), np.float32)
    pictures = [
        plot.maps({"x": values}),
        plot.samples(batch, [0, 1]),
        plot.samples(np.repeat(batch, 3, axis=1), [0, 1]),
        plot.mistakes(batch, [0, 1], SHARES),
        plot.lines(range(len(values)), {"x": values[0]}),
        plot.filters(values[None, None]),
        plot.filters(model),
        plot.receptive_field(model, "features.3", np.resize(values, (1, 28, 28))),
    ]
    with warnings.catch_warnings():  # the network itself computes with these weights
        warnings.simplefilter("ignore", RuntimeWarning)
        pictures.append(plot.feature_maps(model, zeros, "features.0"))
    for picture in pictures:
        minidom.parseString(picture.as_bytes("svg"))
        assert picture.as_bytes("png")


def test_powers_of_ten_stay_powers():
    svg = _zoo("a").as_bytes("svg").decode()
    document = minidom.parseString(svg)
    words = [n.firstChild for n in document.getElementsByTagName("text") if n.firstChild]
    assert not any(getattr(word, "data", "").startswith("$") for word in words)
