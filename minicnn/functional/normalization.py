"""Batch normalisation and local response normalisation."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Op, Tensor, apply
from minicnn.errors import ArgumentError, ShapeError
from minicnn_kernels.reference import Array, Kernels


class BatchNormTrain(Op):
    """Normalise by the statistics of the batch itself."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, k: Kernels, x: Array, weight: Array | None, bias: Array | None) -> Array:
        """x and two numbers a channel are saved, not the normalised maps."""
        y, self.mean, self.var = k.batch_norm_train(x, weight, bias, self.eps)
        self.save(x, weight)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """The statistics depend on x too: see `Kernels.batch_norm_grad`."""
        x, weight = self.saved
        return k.batch_norm_grad(gy, x, weight, self.mean, self.var, self.eps)


class BatchNormEval(Op):
    """Normalise by given statistics."""

    def __init__(self, mean: Array, var: Array, eps: float) -> None:
        self.mean = mean.copy()  # training may move the running statistics before backward
        self.var = var.copy()
        self.eps = eps

    def forward(self, k: Kernels, x: Array, weight: Array | None, bias: Array | None) -> Array:
        """x is saved."""
        self.save(x, weight)
        return k.batch_norm_eval(x, weight, bias, self.mean, self.var, self.eps)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """The statistics are constants."""
        x, weight = self.saved
        return k.batch_norm_eval_grad(gy, x, weight, self.mean, self.var, self.eps)


class LocalResponseNorm(Op):
    """Divide by the activity of neighbouring channels."""

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.offset = k

    def forward(self, k: Kernels, x: Array) -> Array:
        """x and the divisor before the power are saved."""
        y, s = k.local_response_norm(x, self.size, self.alpha, self.beta, self.offset)
        self.save(x, s)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """See `Kernels.local_response_norm_grad`."""
        x, s = self.saved
        return k.local_response_norm_grad(gy, x, s, self.size, self.alpha, self.beta)


def batch_norm(
    x: Tensor,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise every channel to mean 0 and variance 1, then scale and shift.

    y = (x - mean) / sqrt(var + eps) * weight + bias, per channel (axis 1).

    In training (or without running statistics) mean and variance are those of the batch, over all
    axes but the channel; the variance is the biased one (divided by n). The running statistics move
    towards them in place: ``running <- (1 - momentum) * running + momentum * batch``, with the
    unbiased variance (divided by n - 1). Otherwise the running statistics are used, as constants.

    x : Tensor (N, C, ...)
    running_mean, running_var : arrays (C,), changed in place in training; or None
    weight, bias : Tensor (C,) or None

    Returns a Tensor like x. Saved for backward: x and the statistics. Raises `ShapeError` where
    training sees one value a channel. Source: Ioffe & Szegedy 2015, algorithms 1 and 2.

    >>> batch_norm(Tensor([[1.0], [3.0]]), None, None, training=True, eps=0.0).array
    array([[-1.],
           [ 1.]], dtype=float32)
    """
    _check_channels(x, weight, bias, running_mean, running_var)
    if not training and running_mean is not None:
        return apply(BatchNormEval(running_mean, running_var, eps), x, weight, bias)
    count = x.size // x.shape[1] if x.shape[1] else 0
    if count < 2:
        raise ShapeError(
            "batch_norm: statistics of a batch need more than one value a channel, but x is "
            f"{x.shape}; use a larger batch, or eval mode with running statistics."
        )
    op = BatchNormTrain(eps)
    y = apply(op, x, weight, bias)
    if running_mean is not None and running_var is not None:
        running_mean += momentum * (op.mean - running_mean)
        running_var += momentum * (op.var * (count / (count - 1)) - running_var)
    return y


def local_response_norm(
    x: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    divide_alpha_by_n: bool = True,
) -> Tensor:
    """Damp each value by the activity of its neighbours in other channels.

    y[c] = x[c] / (k + s * (sum of x[j]**2 for the ``size`` channels j around c)) ** beta

    with s = alpha / size, the convention of PyTorch, Caffe and the code behind the AlexNet paper,
    or s = alpha with ``divide_alpha_by_n=False``, as the paper prints it (there k = 2, size 5,
    alpha = 1e-4, beta = 0.75). Channels outside the map count 0.

    x : Tensor (N, C, ...), size : number of channels. Returns a Tensor like x. Saved for backward:
    x and the divisor. Source: Krizhevsky et al. 2012, section 3.3.

    >>> x = Tensor([[[[1.0]], [[2.0]], [[3.0]], [[4.0]], [[5.0]], [[6.0]]]])
    >>> local_response_norm(x, 5, k=2, divide_alpha_by_n=False).array.ravel().round(4)
    array([0.5943, 1.1879, 1.7801, 2.3704, 2.9635, 3.5574], dtype=float32)
    """
    if len(x.shape) < 2:
        raise ShapeError(f"local_response_norm: x must be (N, C, ...), but is {x.shape}.")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentError(
            f"local_response_norm: size is {size!r}; give the number of channels, a whole number "
            ">= 1."
        )
    scale = alpha / size if divide_alpha_by_n else alpha
    return apply(LocalResponseNorm(size, float(scale), float(beta), float(k)), x)


def _check_channels(x: Tensor, *per_channel: Any) -> None:
    if len(x.shape) < 2:
        raise ShapeError(f"batch_norm: x must be (N, C, ...), but is {x.shape}.")
    C = x.shape[1]
    names = ("weight", "bias", "running_mean", "running_var")
    for name, value in zip(names, per_channel, strict=True):
        if value is not None and value.shape != (C,):
            raise ShapeError(
                f"batch_norm: x has {C} channels (x is {x.shape}) but {name} is {value.shape}. "
                f"Build the layer with num_features={C}."
            )
    if (per_channel[2] is None) != (per_channel[3] is None):
        raise ArgumentError("batch_norm: give both running_mean and running_var, or neither.")
