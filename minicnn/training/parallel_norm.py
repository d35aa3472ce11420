"""Batch normalisation with the statistics of the batch of all processes.

Each of four processes that train on 8 images of a batch of 32 sees 8 images, and normalises by
their mean and variance, which are noisier than those of 32. Often that is fine, and it costs
nothing: gradients and weights are shared, statistics are each one's own. Where it is not (small
parts of a batch, or a result that must not depend on the number of processes) the statistics are
those of the whole batch.

Forward. A process with n values a channel, of mean m and mean squared deviation v, contributes
n, n m and n (v + m²). The sums N, S1 and S2 of these over all processes give

    mean = S1 / N          variance = S2 / N - mean²

which is Chan, Golub and LeVeque's rule for combining parts (1979), for all parts at once. The
difference of two nearly equal numbers would lose what the mean is larger than the deviation, so
these few numbers are float64, which has digits to spare: they come from float32.

Backward. With xhat = (x - mean) / sqrt(variance + eps) the gradient by x (see
`Kernels.batch_norm_grad`) is

    gx = w / sqrt(variance + eps) * (gy - sum(gy) / N - xhat * sum(gy * xhat) / N)

where both sums run over all values of all processes: each adds its own, and they are added in one
all-reduce. The gradients by weight and bias are these sums too, but only of the own values, because
they are added with all other gradients later. gy must be the gradient of the loss of the *whole*
batch, which the share of `GradientBuckets.backward` sees to.

The op is written with primitives of the kernel contract, so it runs with every kernel set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minicnn.autograd import Tensor, apply
from minicnn.errors import ShapeError
from minicnn.functional import max_pool2d, relu
from minicnn.functional.normalization import BatchNorm
from minicnn.nn import BatchNorm1d, BatchNorm2d, Module
from minicnn.nn._arrays import to_numpy
from minicnn.training.parallel import Group
from minicnn_kernels.reference import Array, Kernels


class Statistics:
    """The sums over processes that synchronised layers ask for.

    ``counts`` is False in a step in which this process has no images of its own.
    """

    def __init__(self, group: Group) -> None:
        self._group = group.channel()
        self._together = True
        self.counts = True

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over all processes; inside `alone` the values themselves."""
        if not self._together:
            return values
        return self._group.sum(values, "the statistics of a batch norm")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Use the statistics of this process in the ``with`` block, in which others do not run."""
        self._together = False
        try:
            yield
        finally:
            self._together = True


class SynchronisedBatchNorm(BatchNorm):
    """Normalise by the statistics of the batches of all processes together."""

    def __init__(self, eps: float, statistics: Statistics) -> None:
        super().__init__(eps)
        self.statistics = statistics
        self.count = 0

    def find_statistics(self, k: Kernels, x: Array) -> None:
        """Those of all processes; the running statistics move towards them."""
        C = x.shape[1]
        mean, var = (to_numpy(a).astype(np.float64) for a in k.batch_norm_statistics(x))
        n = x.size // C
        parts = np.concatenate([[n], n * mean, n * (var + mean * mean)])
        total = self.statistics.sum(parts if self.statistics.counts else np.zeros_like(parts))
        self.count = int(total[0])
        if self.count < 2:
            raise ShapeError(
                "batch_norm: statistics of a batch need more than one value a channel, but all "
                f"processes together have {self.count}; use a larger batch."
            )
        mean = total[1 : C + 1] / self.count
        var = np.maximum(total[C + 1 :] / self.count - mean * mean, 0.0)
        self.mean, self.var = (k.xp.asarray(a.astype(x.dtype)) for a in (mean, var))
        if self.running is not None:
            k.batch_norm_move(*self.running, self.mean, self.var, self.momentum, self.count)

    def gradients(
        self, k: Kernels, gy: Array, x: Array, weight: Array | None
    ) -> tuple[Array, Array, Array]:
        """Of x, weight and bias: see the module's docstring."""
        C = x.shape[1]
        gx, gw, gb = k.batch_norm_eval_grad(gy, x, weight, self.mean, self.var, self.eps)
        parts = np.concatenate([to_numpy(gw), to_numpy(gb)]).astype(np.float64)
        means = (self.statistics.sum(parts) / self.count).astype(x.dtype)
        if not self.statistics.counts:  # the statistics do not depend on this x
            return gx, gw, gb
        factor = (self.var + self.eps) ** -0.5
        if weight is not None:
            factor = factor * weight
        scale, shift = (factor * k.xp.asarray(part) for part in (means[:C], means[C:]))
        gx -= k.batch_norm_eval(x, scale, shift, self.mean, self.var, self.eps)
        return gx, gw, gb


class _Synchronised:
    """What a batch norm layer becomes: its class changes, its parameters and buffers stay."""

    statistics: Statistics

    def forward(
        self: Any,
        x: Tensor,
        relu: bool = False,
        skip: Tensor | None = None,
        pool: tuple[Any, ...] | None = None,
    ) -> Tensor:
        """As `BatchNorm2d.forward`; in training the statistics are those of all processes."""
        running_mean, running_var, momentum, batches = self.running_statistics()
        if not self.training and running_mean is not None:
            return super().forward(x, relu, skip, pool)  # type: ignore[misc]
        if len(x.shape) not in self.axes:
            raise ShapeError(f"{type(self).__name__}: x must be {self.layout}, but is {x.shape}.")
        op = SynchronisedBatchNorm(self.eps, self.statistics)
        op.moving(running_mean, running_var, momentum)
        y = apply(op, x, self.weight, self.bias)
        if batches is not None:
            batches += 1
        return _finished(y, relu, skip, pool)


class SynchronisedBatchNorm1d(_Synchronised, BatchNorm1d):
    """A `BatchNorm1d` of several processes."""


class SynchronisedBatchNorm2d(_Synchronised, BatchNorm2d):
    """A `BatchNorm2d` of several processes."""


_BECOMES: dict[type[Module], type[Module]] = {
    BatchNorm1d: SynchronisedBatchNorm1d,
    BatchNorm2d: SynchronisedBatchNorm2d,
}


def synchronise(model: Module, statistics: Statistics) -> int:
    """Let the batch norms of a model use the statistics of all processes; returns their number.

    >>> from minicnn import nn
    >>> synchronise(nn.Sequential(nn.Linear(2, 2)), None)
    0
    """
    norms = [m for m in model.modules() if type(m) in _BECOMES]
    for module in norms:
        module.__class__ = _BECOMES[type(module)]
        module.statistics = statistics
    return len(norms)


def _finished(
    y: Tensor, with_relu: bool, skip: Tensor | None, pool: tuple[Any, ...] | None
) -> Tensor:
    """What a fused layer does behind the normalisation."""
    if skip is not None:
        y = y + skip
    if with_relu or pool is not None:
        y = relu(y)
    return y if pool is None else max_pool2d(y, *pool)
