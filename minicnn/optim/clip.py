"""Clipping gradients between backward and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError, NonFiniteError
from minicnn.nn.module import Module
from minicnn.optim._checks import number_from
from minicnn_kernels import registry
from minicnn_kernels.reference import Kernels


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Any:
    """Scale all gradients down, in place, so that their common norm is at most ``max_norm``.

    The norm, as if the gradients were one vector, is added up in float64 and returned as it was
    before: a float, or for gradients on a GPU an array of no dimensions that stays there, so that
    the CPU need not wait for it. ``norm_type`` math.inf is the largest magnitude, and ``max_norm``
    math.inf measures without clipping. As in PyTorch a NaN or infinite norm spoils the gradients,
    unless ``error_if_nonfinite`` raises `NonFiniteError` first (which waits). Raises
    `ArgumentError`. Source: Pascanu et al. 2013, algorithm 1.

    >>> import numpy as np
    >>> from minicnn import nn
    >>> p = nn.Parameter(np.zeros(2))
    >>> p.grad = np.array([3.0, 4.0])
    >>> clip_grad_norm_([p], 1.0), p.grad.round(5)
    (5.0, array([0.6, 0.8]))
    """
    if max_norm != math.inf:
        max_norm = number_from(0, max_norm, "max_norm", "clip_grad_norm_")
    if norm_type != math.inf:
        norm_type = number_from(0, norm_type, "norm_type", "clip_grad_norm_", above=True)
    gradients = _gradients(parameters, "clip_grad_norm_")
    if not gradients:
        return 0.0
    k = registry.kernels_for("clip_grad_norm_", gradients)
    total = _norm(k, gradients, norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise NonFiniteError(
            f"clip_grad_norm_: the norm of the gradients is {float(total)}; lower the learning "
            "rate or look for the first non-finite loss."
        )
    scale = max_norm / (total + 1e-6)
    if k.device != "cpu":
        k.scale_by(gradients, k.xp.where(scale >= 1.0, 1.0, scale))
    elif not scale >= 1.0:  # a NaN is to be seen, not skipped
        k.scale_by(gradients, scale)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every number in the gradients to -clip_value ... clip_value, in place.

    Raises `ArgumentError`.

    >>> import numpy as np
    >>> from minicnn import nn
    >>> p = nn.Parameter(np.zeros(2))
    >>> p.grad = np.array([-3.0, 0.5])
    >>> clip_grad_value_([p], 1.0)
    >>> p.grad
    array([-1. ,  0.5])
    """
    limit = number_from(0, clip_value, "clip_value", "clip_grad_value_")
    for g in _gradients(parameters, "clip_grad_value_"):
        g.clip(-limit, limit, out=g)


def _gradients(parameters: Tensor | Iterable[Tensor], caller: str) -> list[Any]:
    if isinstance(parameters, Module):
        raise ArgumentError(
            f"{caller}: parameters is a {type(parameters).__name__}; pass model.parameters()."
        )
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in listed if p.grad is not None]


def _norm(k: Kernels, gradients: list[Any], norm_type: float) -> Any:
    """A float, or on a device an array of no dimensions: nothing waits for it."""
    if norm_type == 2.0:
        total = k.squared_norm(gradients)
    else:
        total = k.xp.zeros((), "float64")
        for magnitude in (abs(g.astype("float64")) for g in gradients if g.size):
            if norm_type == math.inf:
                total = k.xp.maximum(total, magnitude.max())
            else:
                total = total + (magnitude**norm_type).sum()
    total = float(total) if k.device == "cpu" else total
    return total if norm_type == math.inf else total ** (1.0 / norm_type)
