"""Class by class: scores, the confusion matrix as a table, and the most certain mistakes.

The matrix is a table of numbers and not a picture of one, so that it can be read aloud, searched
and copied. Its colours are shares of a row, in steps: right answers in one colour, mistakes in the
other. Most mistakes are rare, so their colour grows with the square root: at 1 % it is a tenth of
the way, at 25 % half of it.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicnn.inspect._sheet import Sheet
from minicnn.report.facts import Answers
from minicnn.training.metrics import ConfusionMatrix

MOST_IN_MATRIX = 30  # classes; a larger table can be neither read nor printed
MOST_SCORED = 100  # rows of the table of scores
MOST_MISTAKES = 20
MOST_PAIRS = 8
SIDE = 128  # pixels of a mistake's longer side; larger pictures are scaled down
LEVELS = 10  # steps of a colour, beside none at all


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix: its count, and the class of its colour ("" for none)."""

    count: int
    look: str


@dataclass(frozen=True)
class Row:
    """A row of the matrix: the true class and how often it was taken for each."""

    name: str
    cells: list[Cell]


@dataclass(frozen=True)
class Pair:
    """How often images of a class were taken for another, and which share of them that is."""

    truth: str
    guess: str
    count: int
    share: float


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: which test image it is, and the picture as a data URI."""

    index: int
    truth: str
    guess: str
    sure: float
    for_truth: float
    uri: str
    width: int
    height: int


def scores(counts: ConfusionMatrix, classes: Sequence[str]) -> Sheet:
    """Precision, recall, F1 and examples of each class; of very many, those with the lowest F1.

    >>> counts = ConfusionMatrix(2)
    >>> counts.update([0, 0, 1, 1], [0, 0, 0, 1])
    >>> scores(counts, ["cat", "dog"]).rows
    [('cat', '1.000', '0.667', '0.800', '3'), ('dog', '0.500', '1.000', '0.667', '1')]
    """
    chosen, notes = scored(counts), []
    if len(chosen) < len(classes):
        notes.append(f"The {MOST_SCORED} of {len(classes):,} classes with the lowest F1.")
    support = counts.matrix.sum(axis=1)
    columns = (counts.precision, counts.recall, counts.f1)
    rows = [
        (classes[i], *(f"{column[i]:.3f}" for column in columns), f"{support[i]:,}") for i in chosen
    ]
    means = (f"{column.mean():.3f}" for column in columns)
    notes.append(
        "precision: of the answers with this class, the share that is right; recall: of the images "
        "of this class, the share that was found; F1: their harmonic mean."
    )
    return Sheet(
        "Scores by class", ("class", "precision", "recall", "F1", "examples"), rows,
        [("mean of classes", *means, f"{support.sum():,}")], notes,
    )  # fmt: skip


def scored(counts: ConfusionMatrix) -> list[int]:
    """The classes in the table of scores: all, or of very many those with the lowest F1."""
    if counts.num_classes <= MOST_SCORED:
        return list(range(counts.num_classes))
    return [int(i) for i in np.argsort(counts.f1, kind="stable")[:MOST_SCORED]]


def matrix(counts: ConfusionMatrix, classes: Sequence[str]) -> list[Row] | None:
    """The rows of the table, or None where it would be too large."""
    if len(classes) > MOST_IN_MATRIX:
        return None
    shares = counts.matrix / np.maximum(counts.matrix.sum(axis=1, keepdims=True), 1)
    return [
        Row(name, [_cell(int(n), shares[i, j], i == j) for j, n in enumerate(counts.matrix[i])])
        for i, name in enumerate(classes)
    ]


def pairs(counts: ConfusionMatrix, classes: Sequence[str]) -> list[Pair]:
    """The most frequent mistakes, the most frequent first.

    >>> counts = ConfusionMatrix(2)
    >>> counts.update([0, 0, 1, 1], [0, 0, 0, 1])
    >>> pairs(counts, ["cat", "dog"])
    [Pair(truth='cat', guess='dog', count=1, share=0.3333333333333333)]
    """
    wrong = counts.matrix - np.diag(np.diag(counts.matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    found = []
    for place in order:
        i, j = divmod(int(place), len(classes))
        if wrong[i, j]:
            share = wrong[i, j] / counts.matrix[i].sum()
            found.append(Pair(classes[i], classes[j], int(wrong[i, j]), float(share)))
    return found


def mistakes(tested: Answers) -> list[Mistake]:
    """The wrong answers of which the network was most certain, the most certain first."""
    found, labels = tested.probabilities, tested.labels
    guesses, sure = found.argmax(axis=1), found.max(axis=1)
    wrong = np.flatnonzero(guesses != labels)
    order = wrong[np.argsort(-sure[wrong], kind="stable")][:MOST_MISTAKES]
    return [_mistake(tested, int(i), int(guesses[i])) for i in order]


def _mistake(tested: Answers, i: int, guess: int) -> Mistake:
    truth, row = int(tested.labels[i]), tested.probabilities[i]
    uri, width, height = thumbnail(tested.images[i])
    return Mistake(
        i, tested.classes[truth], tested.classes[guess], float(row[guess]), float(row[truth]),
        uri, width, height,
    )  # fmt: skip


def thumbnail(image: np.ndarray) -> tuple[str, int, int]:
    """A picture (C, H, W) as a small data URI, with its width and height.

    uint8 as it is; floats are spread from their least to their largest value. A small picture is
    kept exactly, as PNG; one that must be scaled down is a photo, and a JPEG of it is smaller.

    >>> thumbnail(np.zeros((3, 256, 512), np.uint8))[1:]
    (128, 64)
    """
    from PIL import Image

    pixels = image if image.dtype == np.uint8 else _spread(image)
    pixels = pixels[0] if len(pixels) != 3 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    picture, kind = Image.fromarray(pixels), "png"
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE))
        kind = "jpeg"
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind};base64,{data}", picture.width, picture.height


def _spread(image: np.ndarray) -> np.ndarray:
    low, high = float(image.min()), float(image.max())
    return np.round((image - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)


def _cell(count: int, share: float, right: bool) -> Cell:
    if not count:
        return Cell(0, "")
    amount = share if right else math.sqrt(share)
    return Cell(count, f"{'right' if right else 'wrong'}-{max(math.ceil(amount * LEVELS), 1)}")
