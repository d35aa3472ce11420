"""Measuring a model: loss and accuracy, probabilities, and what its layers see in a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn import functional as F
from minicnn.autograd import Tensor, no_grad
from minicnn.data import ArrayDataset, Loader, ten_crop
from minicnn.errors import ArgumentError, DataError
from minicnn.nn import Module, capture, evaluating
from minicnn.nn._arrays import is_array, on_device, to_numpy
from minicnn.training.metrics import ConfusionMatrix, RunningMean, topk_error

Loss = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured: mean loss, accuracy, top-5 error (or None), confusion matrix."""

    loss: float
    accuracy: float
    top5_error: float | None
    confusion: ConfusionMatrix


def evaluate(
    model: Module, batches: Iterable[tuple[Any, Any]], loss: Loss = F.cross_entropy
) -> Evaluation:
    """Run the model in eval mode over batches of (images, labels); its mode comes back.

    ``loss`` takes logits (N, K) and labels (N,) and returns the mean loss. The top-5 error is None
    for models with fewer than six classes.

    >>> from minicnn import nn
    >>> images, labels = np.eye(3, dtype=np.float32), np.arange(3)
    >>> evaluate(nn.Identity(), [(images, labels)]).accuracy
    1.0
    """
    mean_loss, top5 = RunningMean(), RunningMean()
    confusion: ConfusionMatrix | None = None
    with evaluating(model), no_grad():
        for images, labels in batches:
            logits = model(Tensor(on_device(images, model.device)))
            scores, labels = logits.numpy(), _on_host(labels)
            mean_loss.update(loss(logits, labels).item(), len(labels))
            if confusion is None:
                confusion = ConfusionMatrix(scores.shape[1])
            confusion.update(scores.argmax(axis=1), labels)
            if scores.shape[1] > 5:
                top5.update(topk_error(scores, labels, 5), len(labels))
    if confusion is None:
        raise DataError("evaluate: there are no batches; give a data set with images.")
    top5_error = top5.value if top5.weight else None
    return Evaluation(mean_loss.value, float(confusion.accuracy), top5_error, confusion)


def probabilities(
    model: Module, batches: Iterable[tuple[Any, Any]], crop_size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return class probabilities, float64 (N, K), and labels (N,) of a data set, in eval mode.

    batches : pairs of images (N, C, H, W) and labels (N,), such as a `Loader`
    crop_size : then the mean over ten crops of that size of each image, see `data.ten_crop`

    >>> from minicnn import nn
    >>> images, labels = np.zeros((2, 1, 3, 3), np.float32), np.array([0, 1])
    >>> probabilities(nn.Flatten(), [(images, labels)], crop_size=2)[0]
    array([[0.25, 0.25, 0.25, 0.25],
           [0.25, 0.25, 0.25, 0.25]])
    """
    found, truth = [], []
    with evaluating(model), no_grad():
        for images, labels in batches:
            views = [images] if crop_size is None else ten_crop(_on_host(images), crop_size)
            contiguous = (view if view is images else np.ascontiguousarray(view) for view in views)
            parts = [_softmax(model(Tensor(on_device(v, model.device)))) for v in contiguous]
            found.append(np.mean(parts, axis=0))
            truth.append(_on_host(labels))
    if not found:
        raise DataError("probabilities: there are no batches; give a data set with images.")
    return np.concatenate(found), np.concatenate(truth)


def evaluate_probabilities(found: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Measure class probabilities (N, K) as `evaluate` measures a model; labels are (N,).

    The loss is the mean of -log of the probability of the label, whose least value is 1e-300.

    >>> evaluate_probabilities(np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([1, 1])).accuracy
    0.5
    """
    right = np.clip(found[np.arange(len(labels)), labels], 1e-300, None)
    confusion = ConfusionMatrix(found.shape[1])
    confusion.update(found.argmax(axis=1), labels)
    top5_error = topk_error(found, labels, 5) if found.shape[1] > 5 else None
    return Evaluation(
        float(-np.log(right).mean()), float(confusion.accuracy), top5_error, confusion
    )


def features(
    model: Module, images: ArrayDataset | Iterable[tuple[Any, Any]], layer: str
) -> np.ndarray:
    """Return what a layer makes of each image, flattened: (N, D), in eval mode.

    The 4,096 numbers of AlexNet's second hidden layer, "FC7", are the known example: pictures whose
    features are near each other look alike, and a linear classifier on them serves other data.

    images : batches of (images, labels) prepared as for the model, or a data set, whose pixels are
        only scaled to 0..1
    layer : path of a part, such as "classifier.4"; `Module.named_modules` lists them

    Raises `ArgumentError` for an unknown layer, or one that does not run in eval mode.

    >>> from minicnn import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> dataset = ArrayDataset(np.zeros((5, 1, 2, 2), np.uint8), [0, 1, 1, 0, 1])
    >>> features(model, dataset, "2").shape
    (5, 3)
    """
    if isinstance(images, ArrayDataset):
        images = Loader(images, min(256, len(images)))
    parts = []
    with evaluating(model), no_grad(), capture(model, [layer]) as maps:
        for batch, _ in images:
            maps.clear()
            model(Tensor(on_device(batch, model.device)))
            if layer not in maps:
                raise ArgumentError(
                    f"features: the layer {layer!r} of {type(model).__name__} does not run in "
                    "eval mode; name one that does."
                )
            parts.append(maps[layer].reshape(len(batch), -1))
    if not parts:
        raise DataError("features: there are no batches; give a data set with images.")
    return np.concatenate(parts)


def _on_host(values: Any) -> np.ndarray:
    return to_numpy(values) if is_array(values) else np.asarray(values)


def _softmax(logits: Tensor) -> np.ndarray:
    scores = logits.numpy().astype(np.float64)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)
