"""What a classifier gets right and wrong: confusion matrix, samples, most certain mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.errors import ArgumentError, ShapeError
from minicnn.plot.images import (
    bare,
    batch,
    class_names,
    grid,
    grid_size,
    numbers,
    pixels,
    show,
)
from minicnn.plot.style import Theme, style
from minicnn.training.evaluation import Evaluation
from minicnn.training.metrics import ConfusionMatrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture

MOST_NUMBERED = 25  # classes; in larger matrices the numbers could not be read
RIGHT, WRONG = "✓", "✗"
CELL, TOP, WORDS = 1.02, 0.56, 0.34


def confusion_matrix(
    matrix: ConfusionMatrix | Evaluation | Any,
    classes: Sequence[str] | None = None,
    dark: bool = False,
) -> Picture:
    """Draw how often each class (row) was taken for each other (column).

    matrix : an `Evaluation`, a `ConfusionMatrix`, or its counts (C, C)
    classes : C names; by default the numbers

    Colours are shares of a row, so that rare classes show too; the numbers are counts.
    Raises `ShapeError`, `ArgumentError`.

    >>> print(confusion_matrix([[3, 1], [0, 4]], ["cat", "dog"]).alt)
    Confusion matrix of 8 images in 2 classes, accuracy 0.8750. Most frequent mistake: cat taken
    for dog (1).
    """
    counts = _counts(matrix)
    names = class_names(classes, len(counts), "confusion_matrix")[: len(counts)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.42 * len(counts), 2.4, 7.2))
    shown = [_cut(name, 40) for name in names]
    label = 0.085 * max(map(len, shown)) + 0.45
    total, hits = int(counts.sum()), int(np.trace(counts))
    with style(dark) as colors:
        from minicnn.plot.picture import headed, inches, new

        size = max(side + label + 1.0, 4.4), side + label + 0.78
        picture = new(*size, colors, "Confusion matrix", _described(counts, names))
        headed(picture, f"{hits:,} of {total:,} right, {hits / max(total, 1):.2%}")
        axes = picture.add_axes(inches(picture, label, label, side, side))
        drawn = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1, aspect="equal")
        _numbers(axes, counts, shares)
        _name_axes(axes, shown)
        bar = picture.add_axes(inches(picture, label + side + 0.16, label, 0.13, side))
        picture.colorbar(drawn, cax=bar).set_label("share of the true class")
        bar.grid(visible=False)
        return picture


def _counts(matrix: Any) -> np.ndarray:
    if isinstance(matrix, Evaluation):
        matrix = matrix.confusion
    counts = matrix.matrix if isinstance(matrix, ConfusionMatrix) else numbers(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ShapeError(
            f"plot.confusion_matrix: matrix has shape {counts.shape}; pass counts (C, C), rows the "
            "true class, a ConfusionMatrix or an Evaluation."
        )
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ArgumentError(
            "plot.confusion_matrix: matrix must hold counts, whole numbers from 0 on; shares are "
            "computed here."
        )
    return counts


def _numbers(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    if len(counts) > MOST_NUMBERED:
        return
    size = 8.0 if counts.max() < 1000 else 6.6
    for (row, column), count in np.ndenumerate(counts):
        if count:
            bright = shares[row, column] > 0.55
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=size,
                      color="black" if bright else "white",
                      fontweight="bold" if row == column else "normal")  # fmt: skip


def _name_axes(axes: Axes, names: Sequence[str]) -> None:
    axes.grid(visible=False)
    step = -(-len(names) // 40)
    places = range(0, len(names), step)
    axes.set_xticks(places, [names[i] for i in places], rotation=90)
    axes.set_yticks(places, [names[i] for i in places])
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")


def _described(counts: np.ndarray, names: Sequence[str]) -> str:
    total, hits = int(counts.sum()), int(np.trace(counts))
    text = (
        f"Confusion matrix of {total:,} images in {len(names)} classes, accuracy "
        f"{hits / max(total, 1):.4f}."
    )
    wrong = counts - np.diag(np.diag(counts))
    if wrong.any():
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        text += f" Most frequent mistake: {names[row]} taken for {names[column]} ({wrong.max()})."
    return text


def samples(
    images: Any,
    labels: Any,
    predictions: Any = None,
    classes: Sequence[str] | None = None,
    count: int = 20,
    columns: int = 5,
    dark: bool = False,
) -> Picture:
    """Draw the first images with their classes, and what was predicted, if that is given.

    images : (N, C, H, W) or (N, H, W); labels : (N,)
    predictions : (N,) classes, or (N, K) probabilities, which are then written down too

    Raises `ShapeError`, `ArgumentError`.

    >>> samples(np.zeros((3, 1, 8, 8)), [0, 1, 1], [0, 1, 0], ["cat", "dog"]).alt
    '3 images with their classes; 2 of 3 predictions are right.'
    """
    shown = batch(images, "samples")
    truth, guesses, sure = _predicted(shown, labels, predictions, "samples")
    chosen = np.arange(min(count, len(shown)))
    alt = f"{len(chosen)} images with their classes"
    if guesses is not None:
        hits = int((guesses[chosen] == truth[chosen]).sum())
        alt += f"; {hits} of {len(chosen)} predictions are right"
    return _pictures(shown, truth, guesses, sure, chosen, classes, columns, dark, "Samples",
                     f"{alt}.", "samples")  # fmt: skip


def mistakes(
    images: Any,
    labels: Any,
    probabilities: Any,
    classes: Sequence[str] | None = None,
    count: int = 20,
    columns: int = 5,
    dark: bool = False,
) -> Picture:
    """Draw the wrong answers of which the network was most certain, the most certain first.

    images : (N, C, H, W) or (N, H, W); labels : (N,); probabilities : (N, K)

    They show mislabelled images, and what the network takes a class for.
    Raises `ShapeError`, `ArgumentError`.

    >>> sure = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> mistakes(np.zeros((3, 1, 8, 8)), [0, 0, 1], sure, ["cat", "dog"]).alt
    '2 of 3 images are classified wrongly. The most certain mistake: cat taken for dog with 80%.'
    """
    shown = batch(images, "mistakes")
    truth, guesses, sure = _predicted(shown, labels, probabilities, "mistakes")
    if guesses is None or sure is None:
        raise ShapeError(
            f"plot.mistakes: probabilities has shape {numbers(probabilities).shape}; pass (N, K), "
            "such as Module.predict returns."
        )
    wrong = np.flatnonzero(guesses != truth)
    if not wrong.size:
        raise ArgumentError(f"plot.mistakes: all {len(truth)} images are classified correctly.")
    order = wrong[np.argsort(-sure[wrong], kind="stable")]
    first, most = order[0], int(max(truth.max(), guesses.max()))
    names = class_names(classes, most + 1, "mistakes")
    alt = (
        f"{len(wrong)} of {len(truth)} images are classified wrongly. The most certain mistake: "
        f"{names[truth[first]]} taken for {names[guesses[first]]} with {sure[first]:.0%}."
    )
    return _pictures(shown, truth, guesses, sure, order[:count], classes, columns, dark,
                     "The most certain mistakes", alt, "mistakes")  # fmt: skip


def _predicted(
    images: np.ndarray, labels: Any, predictions: Any, caller: str
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Labels, predicted classes, and how probable these were."""
    truth = numbers(labels)
    if truth.shape != (len(images),):
        raise ShapeError(
            f"plot.{caller}: labels has shape {truth.shape}, but there are {len(images)} images; "
            "give one class to each."
        )
    if predictions is None:
        return truth, None, None
    found = numbers(predictions)
    if found.ndim not in (1, 2) or len(found) != len(images):
        raise ShapeError(
            f"plot.{caller}: predictions has shape {found.shape}, but there are {len(images)} "
            "images; give one class, or one row of probabilities, to each."
        )
    if found.ndim == 1:
        return truth, found, None
    return truth, found.argmax(axis=1), found.max(axis=1)


def _pictures(
    images: np.ndarray, truth: np.ndarray, guesses: np.ndarray | None, sure: np.ndarray | None,
    chosen: np.ndarray, classes: Sequence[str] | None, columns: int, dark: bool, title: str,
    alt: str, caller: str,
) -> Picture:  # fmt: skip
    most = int(max(truth.max(), truth.max() if guesses is None else guesses.max()))
    names = class_names(classes, most + 1, caller)
    columns = min(columns, len(chosen))
    words = WORDS if guesses is not None else WORDS / 2
    cell = (CELL, CELL * images.shape[2] / images.shape[3])
    top = TOP if guesses is not None else TOP - 0.26
    width, height = grid_size(len(chosen), columns, cell, top, words)
    with style(dark) as colors:
        from minicnn.plot.picture import headed, new

        note = f"{RIGHT} right  {WRONG} wrong, true class below" if guesses is not None else ""
        picture = new(max(width, 3.0), height, colors, title, alt)
        headed(picture, note)
        axes = grid(picture, len(chosen), columns, cell, top, words)
        for one, i in zip(axes, chosen, strict=True):
            show(one, pixels(images[i]), colors)
            guess = None if guesses is None else int(guesses[i])
            _caption(one, names, int(truth[i]), guess, None if sure is None else sure[i], colors)
        return picture


def _caption(
    axes: Axes, names: Sequence[str], truth: int, guess: int | None, sure: float | None,
    colors: Theme,
) -> None:  # fmt: skip
    if guess is None:
        axes.set_title(_cut(names[truth], 15), fontsize=7.5, pad=3, loc="left")
        return
    right = guess == truth
    percent = "" if sure is None else f" {sure:.0%}"
    text = f"{RIGHT if right else WRONG} {_cut(names[guess], 14 - len(percent))}{percent}"
    below = "" if right else f"{_cut(names[truth], 15)}"
    axes.annotate(f"{text}\n{below}".rstrip(), (0, 1), xytext=(0, 2.5), fontsize=7.2, va="bottom",
                  xycoords="axes fraction", textcoords="offset points",
                  linespacing=1.1)  # fmt: skip
    bare(axes, colors.good if right else colors.bad, width=1.6)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
