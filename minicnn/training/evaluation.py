"""Measuring a model: scores, loss, accuracy and confusion matrix over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn import functional as F
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import DataError
from minicnn.nn import Module
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
    with eval_mode(model), no_grad():
        for images, labels in batches:
            logits = model(Tensor(images))
            scores, labels = logits.numpy(), np.asarray(labels)
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


def predict(model: Module, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return class probabilities (N, K) for prepared images (N, C, H, W), in eval mode.

    >>> from minicnn import nn
    >>> predict(nn.Identity(), np.zeros((2, 4), np.float32))
    array([[0.25, 0.25, 0.25, 0.25],
           [0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    parts = []
    with eval_mode(model), no_grad():
        for start in range(0, len(images), batch_size):
            logits = model(Tensor(images[start : start + batch_size]))
            parts.append(F.softmax(logits, 1).numpy())
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


@contextmanager
def eval_mode(model: Module) -> Iterator[None]:
    """Put a model into eval mode for a ``with`` block; every module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
