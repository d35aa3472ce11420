"""Predicting with a model that others use at the same time, and the same bits in any company.

Three things go wrong where a network answers questions for a living, and each has its cure here.

*The mode.* Dropout and batch norm behave in another way while training. Switching a shared model to
eval mode for a moment would switch it under the feet of a thread that trains it, or switch it back
under a thread that still predicts. `eval_copy` makes a second tree of modules, in eval mode, whose
parameters and buffers are the very same arrays: a copy of the bookkeeping, not of the weights.

*The batch.* Floating-point sums depend on their order, and a matrix product chooses its order by
the shape: the last digits of an image's result change with the number of images beside it. So a
prediction always computes batches of one size, and fills up the last one with copies of its last
image. The place in the batch matters too: a product is computed in tiles, and the rows of a tile at
the edge that is not full take another way. So the size is 1 or a multiple of `TILE`, which the
tiles divide. Then an image gives the same bits, alone or among thousands, in any order.

*The memory.* A batch at a time, however many images there are.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from minicnn import functional as F
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError, ShapeError
from minicnn.nn._arrays import on_device
from minicnn.nn.module import Module

__all__ = ["computed_together", "eval_copy", "predict"]

TILE = 32


def eval_copy(model: Module) -> Module:
    """Return the model in eval mode, as other modules around the same parameters and buffers.

    What changes the arrays, such as an optimizer's step, changes both; the modes of the two are
    apart. Hooks are shared.

    >>> from minicnn import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    >>> twin = eval_copy(model)
    >>> twin.training, model.training, twin[0].weight is model[0].weight
    (False, True, True)
    """
    shared: list[Any] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        shared += [module._forward_hooks, module._forward_pre_hooks]
    try:
        return copy.deepcopy(model, {id(value): value for value in shared}).eval()
    except TypeError as error:
        raise ArgumentError(
            f"predict: {type(model).__name__} holds something that cannot be copied ({error}); "
            "keep it outside the module, or give the class a __deepcopy__."
        ) from error


def computed_together(batch_size: int) -> int:
    """How many images `predict` computes at a time: 1, or the next multiple of `TILE`.

    >>> computed_together(1), computed_together(33)
    (1, 64)
    """
    return 1 if batch_size == 1 else -(-batch_size // TILE) * TILE


def predict(model: Module, images: Any, batch_size: int = 32) -> np.ndarray:
    """Return class probabilities (N, K) for prepared images (N, C, H, W), in eval mode.

    Several threads may predict with one model, and train it meanwhile: its mode is not touched. For
    one ``batch_size`` and one number of threads the result for an image has the same bits whatever
    other images there are and wherever it stands among them; `batch_norm` without running
    statistics, which looks at the whole batch, is the exception.

    images : array of any length; up to the next whole batch it costs the same
    batch_size : images that are computed together; rounded up to a multiple of 32, but 1, which
        answers a single question soonest, stays

    Raises `ArgumentError`, `ShapeError`.

    >>> from minicnn import nn
    >>> predict(nn.Identity(), np.zeros((2, 4), np.float32))
    array([[0.25, 0.25, 0.25, 0.25],
           [0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ArgumentError(f"predict: batch_size is {batch_size!r}; give a whole number >= 1.")
    if not hasattr(images, "shape"):
        images = np.asarray(images)
    if not images.shape:
        raise ShapeError("predict: images is a single number; give an array (N, C, H, W).")
    if len(images) == 0:
        return np.empty((0, 0), np.float32)
    size = computed_together(batch_size)
    twin, parts = eval_copy(model), []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        if len(batch) < size:
            batch = batch[np.minimum(np.arange(size), len(batch) - 1)]
        with no_grad():
            logits = twin(Tensor(on_device(batch, twin.device)))
            parts.append(F.softmax(logits, 1).numpy())
    return np.concatenate(parts)[: len(images)]
