"""Normalisation layers: batch normalisation and local response normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import minicnn.functional as F
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError, ShapeError
from minicnn.functional._checks import lies_between
from minicnn.nn import init
from minicnn.nn._arrays import Array
from minicnn.nn._settings import positive_int, settings
from minicnn.nn.module import Module
from minicnn.nn.parameter import Parameter


class _BatchNorm(Module):
    """What both batch normalisations share; they differ in the shape that they accept."""

    axes: tuple[int, ...]
    layout: str
    optional_state = ("num_batches_tracked",)  # weight files of PyTorch before 0.4.1 lack it

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Array | None
    running_var: Array | None
    num_batches_tracked: Array | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        caller = type(self).__name__
        self.num_features = positive_int(num_features, "num_features", caller)
        if not lies_between(0, eps, math.inf):
            raise ArgumentError(f"{caller}: eps is {eps!r}; give a number >= 0.")
        if momentum is not None and not lies_between(0, momentum, 1):
            raise ArgumentError(
                f"{caller}: momentum is {momentum!r}; give the weight of a new batch, from 0 to 1, "
                "or None for the average of all batches."
            )
        self.eps = float(eps)
        self.momentum = momentum
        self.affine = bool(affine)
        self.track_running_stats = bool(track_running_stats)
        C = self.num_features
        for name in ("weight", "bias"):
            parameter = Parameter(np.zeros(C, np.float32)) if affine else None
            self.register_parameter(name, parameter)
        tracked = self.track_running_stats
        self.register_buffer("running_mean", np.zeros(C, np.float32) if tracked else None)
        self.register_buffer("running_var", np.ones(C, np.float32) if tracked else None)
        self.register_buffer("num_batches_tracked", np.array(0, np.int64) if tracked else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0; the running statistics stay."""
        if self.weight is not None and self.bias is not None:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,
        relu: bool = False,
        skip: Tensor | None = None,
        pool: tuple[Any, ...] | None = None,
    ) -> Tensor:
        """A tensor like x. In training it also moves the running statistics.

        ``relu`` ends with max(y, 0); where given, ``skip`` is added before that and `max_pool2d`
        with the arguments ``pool`` comes after it: see `minicnn.nn.fusion`.
        """
        if len(x.shape) not in self.axes:
            raise ShapeError(
                f"{type(self).__name__}: x must be {self.layout}, but is {x.shape}; reshape it or "
                "use the layer for its number of axes."
            )
        running_mean, running_var, momentum, batches = self.running_statistics()
        settings = (
            *(running_mean, running_var, self.weight, self.bias),
            *(self.training, momentum, self.eps),
        )
        if pool is not None:
            y = F.batch_norm_relu_max_pool2d(x, *settings, *pool)
        elif relu:
            y = F.batch_norm_relu(x, *settings, skip=skip)
        else:
            y = F.batch_norm(x, *settings)
        if batches is not None:
            batches += 1
        return y

    def running_statistics(self) -> tuple[Array | None, Array | None, float, Array | None]:
        """-> running mean and variance, and how fast they move; the counter, if they do.

        In training with ``track_running_stats`` switched off later they rest, and come back in
        evaluation.
        """
        if not self.training:
            return self.running_mean, self.running_var, 0.0, None
        batches = self.num_batches_tracked
        if batches is None or not self.track_running_stats:
            return None, None, 0.0, None
        momentum = 1.0 / (int(batches) + 1) if self.momentum is None else self.momentum
        return self.running_mean, self.running_var, momentum, batches

    def extra_repr(self) -> str:
        """Settings that differ from the defaults."""
        return settings(
            self, "num_features", eps=1e-5, momentum=0.1, affine=True, track_running_stats=True
        )


class BatchNorm1d(_BatchNorm):
    """Normalise every feature over the batch: x (N, C) or (N, C, L).

    Otherwise as `BatchNorm2d`.

    >>> BatchNorm1d(1, eps=0.0)(Tensor([[1.0], [3.0]])).array
    array([[-1.],
           [ 1.]], dtype=float32)
    """

    axes = (2, 3)
    layout = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Normalise every channel over the batch and the map, then scale and shift it: x (N, C, H, W).

    In training with the statistics of the batch, and the running statistics move towards them; in
    evaluation with the running statistics. See `minicnn.functional.batch_norm`.

    momentum : the weight of a new batch in the running statistics; None averages all batches
    affine : whether there are a trained ``weight`` (1 at first) and ``bias`` (0), both (C,)
    track_running_stats : without, every batch is normalised by its own statistics

    Buffers: ``running_mean``, ``running_var`` (C,) and ``num_batches_tracked``, a number.
    Raises `ShapeError`, `ArgumentError`.

    >>> layer = BatchNorm2d(6)
    >>> layer, layer.running_var
    (BatchNorm2d(6), array([1., 1., 1., 1., 1., 1.], dtype=float32))
    """

    axes = (4,)
    layout = "(N, C, H, W)"


class LocalResponseNorm(Module):
    """Damp each value by its neighbours in other channels: see `functional.local_response_norm`.

    AlexNet's, as printed in the paper: ``LocalResponseNorm(5, k=2, divide_alpha_by_n=False)``.

    >>> LocalResponseNorm(5, k=2.0)
    LocalResponseNorm(5, k=2.0)
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        divide_alpha_by_n: bool = True,
    ) -> None:
        super().__init__()
        self.size = positive_int(size, "size", "LocalResponseNorm")
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.k = float(k)
        self.divide_alpha_by_n = bool(divide_alpha_by_n)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor like x."""
        return F.local_response_norm(
            x, self.size, self.alpha, self.beta, self.k, self.divide_alpha_by_n
        )

    def extra_repr(self) -> str:
        """Settings that differ from the defaults."""
        return settings(self, "size", alpha=1e-4, beta=0.75, k=1.0, divide_alpha_by_n=True)
