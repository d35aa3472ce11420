"""Auxiliary heads: classifiers half-way up a deep network that only help to train it.

In a deep network without batch norm or shortcuts little of the gradient reaches the lower layers.
GoogLeNet hangs small classifiers on two inner maps; each has a loss of its own, and the network
learns from

    loss(main logits) + sum over heads of weight * loss(logits of the head)

so the layers below a head get a gradient by a short way. In eval mode the heads are not computed.

A network with heads returns in training mode the tuple (main logits, logits of head 1, ...), in
eval mode the main logits alone, and has ``auxiliary_weights``, one number a head. Source: Szegedy
et al. 2014, "Going deeper with convolutions", arXiv 1409.4842, section 5, where the weight is 0.3.
"""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.nn import Module
from minicnn.training.evaluation import Loss


def total_loss(model: Module, output: Any, labels: Any, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return the main logits and the loss of an output with or without auxiliary heads.

    Raises `ArgumentError` where the model has not as many ``auxiliary_weights`` as heads.

    >>> from minicnn import functional as F, nn, tensor
    >>> model = nn.Identity()
    >>> model.auxiliary_weights = (0.3,)
    >>> even = tensor([[0.0, 0.0]])
    >>> _, loss = total_loss(model, (even, even), [1], F.cross_entropy)
    >>> round(loss.item() / 1.3, 6)
    0.693147
    """
    if isinstance(output, Tensor):
        return output, loss(output, labels)
    logits, *heads = output
    weights = getattr(model, "auxiliary_weights", ())
    if len(weights) != len(heads):
        raise ArgumentError(
            f"train: {type(model).__name__} returned {len(heads)} auxiliary outputs, but its "
            f"auxiliary_weights are {weights}; give it one weight a head, such as 0.3."
        )
    total = loss(logits, labels)
    for weight, head in zip(weights, heads, strict=True):
        total = total + loss(head, labels) * float(weight)
    return logits, total
