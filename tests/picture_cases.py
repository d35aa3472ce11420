"""One small picture of each kind, drawn from fixed numbers, and how pictures are compared."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import minicnn
from minicnn import inspect, models, nn, plot
from minicnn.autograd import Tensor
from minicnn.training.history import History

FOLDER = Path(__file__).parent / "pictures"
DOTS = 60  # an inch, of the pictures that are kept: enough to see a missing word
TILE = 20  # pixels
STEP = 1.5 / 255  # rounding of a colour, on both sides


def history(base: float = 0.7) -> History:
    found = History()
    for epoch in range(1, 9):
        fade = base**epoch
        found.append(kind="epoch", epoch=epoch, loss=2 * fade + 0.2, accuracy=0.95 - fade,
                     val_loss=2.1 * fade + 0.3, val_accuracy=0.9 - fade)  # fmt: skip
    return found


def network() -> Any:
    """A small network with weights that no random generator of any version changes."""
    net = models.create("lenet5")
    for number, parameter in enumerate(net.parameters()):
        waves = np.sin(np.arange(parameter.size) * (number + 1.7)) * 0.3
        parameter.array[...] = waves.reshape(parameter.shape)
    return net


def pictures() -> np.ndarray:
    """Six gray images: rings of different widths."""
    y, x = np.mgrid[:28, :28] - 13.5
    rings = [np.sin(np.hypot(y, x) / (1 + i)) * 0.5 + 0.5 for i in range(6)]
    return np.stack(rings)[:, None].astype(np.float32)


def computation() -> Tensor:
    x, w = (Tensor([v], requires_grad=True) for v in (3.0, 2.0))
    return ((x * w + x).exp() + x).sum()


LABELS = [0, 1, 2, 0, 1, 2]
SURE = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8],
                 [0.1, 0.9, 0.0], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])  # fmt: skip
NAMES = ["cat", "dog", "a wolf in the snow"]
DIGIT = np.array([[-1, 1, 1, 1, -1], [-1, 1, -1, 1, -1], [-1, 1, 1, 1, -1], [-1, -1, -1, 1, -1],
                  [-1, -1, -1, 1, -1], [-1, -1, 1, -1, -1], [-1, 1, -1, -1, -1]])  # fmt: skip
ROWS = [
    {"model": "lenet5", "parameters": 61_706, "multiply_adds": 416_520, "accuracy": 0.88},
    {"model": "resnet20", "parameters": 269_434, "multiply_adds": 31_000_000, "accuracy": 0.92},
]

CASES: dict[str, Callable[..., Any]] = {
    "architecture": partial(plot.architecture, "resnet20"),
    "class_activation": lambda **k: plot.class_activation(network(), pictures()[0], label=3, **k),
    "confusion_matrix": partial(plot.confusion_matrix, [[5, 1, 0], [2, 7, 1], [0, 0, 4]], NAMES),
    "error_timeline": plot.error_timeline,
    "feature_maps": lambda **k: plot.feature_maps(network(), pictures()[1], "features.C1", **k),
    "filters": lambda **k: plot.filters(network(), **k),
    "graph": lambda **k: plot.graph(computation(), **k),
    "histograms": lambda **k: plot.histograms(network(), pictures(), LABELS, **k),
    "learning_curves": lambda **k: plot.learning_curves(
        {"one": history(), "two": history(0.8)}, **k
    ),
    "lines": partial(
        plot.lines,
        [0, 1, 2, 3],
        {"one": [0.1, 1, 2, 0.5], "two": [3, 2, 1, 0]},
        "Two lines",
        "step",
        "size",
    ),
    "maps": partial(plot.maps, {"image": DIGIT, "filter": [[1, 0.25], [-0.5, 10]]}, title="Maps"),
    "mistakes": lambda **k: plot.mistakes(pictures(), LABELS, SURE, NAMES, **k),
    "receptive_field": lambda **k: plot.receptive_field(
        network(), "features.S4", pictures()[2], **k
    ),
    "samples": lambda **k: plot.samples(pictures(), LABELS, SURE, NAMES, columns=3, **k),
    "window": partial(plot.window, DIGIT, 3, at=(1, 2)),
    "zoo_scatter": partial(plot.zoo_scatter, ROWS),
}

MORE: dict[str, Callable[..., Any]] = {
    "one run": lambda **k: plot.learning_curves(history(), **k),
    "colour filters": lambda **k: plot.filters(np.linspace(-1, 1, 81).reshape(3, 3, 3, 3), **k),
    "samples without predictions": lambda **k: plot.samples(pictures(), LABELS, **k),
    "many classes": lambda **k: plot.confusion_matrix(np.eye(60, dtype=int), **k),
    "all networks": lambda **k: plot.zoo_scatter(
        inspect.catalogue(["resnet18", "resnet34", "vgg16"]), **k
    ),
    "size of a window": lambda **k: plot.window((6, 6), 3, 2, 1, at=(1, 2), **k),
    "gradients in the graph": lambda **k: _with_gradients(**k),
    "maps in rows": lambda **k: plot.maps(
        {"a large one": np.sin(np.arange(400)).reshape(20, 20), "zeros": np.zeros((2, 3))}, 1, **k
    ),
    "lines of powers": lambda **k: plot.lines([1, 2], {"a": [1e-9, 1], "b": [0, 1]}, log=True, **k),
    "field beyond the image": lambda **k: plot.receptive_field(
        models.create("resnet20"), "layer3", np.zeros((3, 32, 32)), **k
    ),
}


def _with_gradients(**settings: Any) -> Any:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    for _ in range(2):
        x = Tensor(np.ones((1, 1, 2, 2), np.float32))
        loss = minicnn.functional.cross_entropy(net(x), np.array([1]))
        if net[1].weight.grad is None:
            loss.backward()
    return plot.graph(loss, dict(net.named_parameters()), **settings)


def rendered(picture: Any, dots: int = DOTS) -> np.ndarray:
    """The pixels of a picture, (H, W, 3) from 0 to 1."""
    from matplotlib.image import imread

    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=dots, facecolor=picture.get_facecolor())
    buffer.seek(0)
    return np.asarray(imread(buffer, format="png"), np.float64)[..., :3]


def tiles(pixels: np.ndarray) -> np.ndarray:
    """The root of the mean square in each tile of `TILE` pixels."""
    squares = np.mean(pixels**2, axis=2)
    H, W = (-(-n // TILE) * TILE for n in squares.shape)
    padded = np.zeros((H, W))
    padded[: squares.shape[0], : squares.shape[1]] = squares
    return np.sqrt(padded.reshape(H // TILE, TILE, W // TILE, TILE).mean(axis=(1, 3)))


def tolerance(pixels: np.ndarray) -> np.ndarray:
    """What each tile may differ: as if the picture were moved by half a pixel in any direction.

    Half a pixel is what another version of the font's renderer moves an edge. A half-moved picture
    is the mean of the picture and the one moved by one.
    """
    moved = [np.roll(pixels, step, axis) for axis in (0, 1) for step in (-1, 1)]
    return np.max([tiles((pixels - other) / 2) for other in moved], axis=0) + STEP


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """ "" for equal pictures, else what differs."""
    if one.shape != other.shape:
        return f"sizes differ: {one.shape} and {other.shape}"
    excess = tiles(one - other) / tolerance(other)
    if excess.max() <= 1:
        return ""
    row, column = np.unravel_index(excess.argmax(), excess.shape)
    return (
        f"{(excess > 1).sum()} of {excess.size} tiles differ, most at pixel "
        f"({column * TILE}, {row * TILE}): {excess.max():.2f} times what is allowed"
    )
