"""Batch normalisation and local response normalisation."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Op, Tensor, apply
from minicnn.errors import ArgumentError, ShapeError
from minicnn.functional._checks import check_float
from minicnn.functional.pooling import max_pool2d, pool_window
from minicnn_kernels.geometry import IntPair, Padding, Window2d
from minicnn_kernels.reference import Array, Kernels


class BatchNorm(Op):
    """Normalise by the statistics of the batch itself, or by given ones, which are constants."""

    mean: Array
    var: Array
    running: tuple[Array, Array] | None = None
    momentum = 0.0

    def __init__(self, eps: float, running: tuple[Array, Array] | None = None) -> None:
        self.eps = eps
        self.is_constant = running is not None
        if running is not None:  # copies, because training may move them before backward
            self.mean, self.var = (statistic.copy() for statistic in running)

    def forward(self, k: Kernels, x: Array, weight: Array | None, bias: Array | None) -> Array:
        """x and two numbers a channel are saved, not the normalised maps."""
        self.find_statistics(k, x)
        self.save(x, weight)
        return k.batch_norm_eval(x, weight, bias, self.mean, self.var, self.eps)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """See `Kernels.batch_norm_grad`."""
        x, weight = self.saved
        return self.gradients(k, gy, x, weight)

    def moving(
        self, running_mean: Array | None, running_var: Array | None, momentum: float
    ) -> BatchNorm:
        """This op, which in its forward pass moves the running statistics, in place."""
        if running_mean is not None and running_var is not None:
            self.running = running_mean, running_var
            self.momentum = momentum
        return self

    def find_statistics(self, k: Kernels, x: Array) -> None:
        """Those of x where none are given; the running statistics move towards them."""
        if self.is_constant:
            return
        self.mean, self.var = k.batch_norm_statistics(x)
        if self.running is not None:
            count = x.size // x.shape[1]
            k.batch_norm_move(*self.running, self.mean, self.var, self.momentum, count)

    def gradients(
        self, k: Kernels, gy: Array, x: Array, weight: Array | None
    ) -> tuple[Array, Array, Array]:
        """Of x, weight and bias; statistics that are not constant depend on x too."""
        gradient = k.batch_norm_eval_grad if self.is_constant else k.batch_norm_grad
        return gradient(gy, x, weight, self.mean, self.var, self.eps)


class BatchNormRelu(BatchNorm):
    """Normalise by the statistics of the batch, then rectify, in one pass."""

    def forward(self, k: Kernels, x: Array, weight: Array | None, bias: Array | None) -> Array:
        """The result is not saved: where it is positive is computed again."""
        self.find_statistics(k, x)
        self.save(x, weight, bias)
        return k.batch_norm_relu(x, weight, bias, self.mean, self.var, self.eps, None)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """See `Kernels.batch_norm_relu_grad`."""
        x, weight, bias = self.saved
        return k.batch_norm_relu_grad(gy, x, weight, bias, self.mean, self.var, self.eps)


class BatchNormAddRelu(BatchNorm):
    """Normalise, add another map and rectify, in one pass: the end of a residual block."""

    def forward(
        self, k: Kernels, x: Array, weight: Array | None, bias: Array | None,
        skip: Array | None = None,
    ) -> Array:  # fmt: skip
        """The result is saved, which the next layer keeps anyway; skip is not."""
        self.find_statistics(k, x)
        y = k.batch_norm_relu(x, weight, bias, self.mean, self.var, self.eps, skip)
        self.save(x, weight, y)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gskip = gy where y > 0, and from it the rest."""
        x, weight, y = self.saved
        gskip = k.relu_grad(gy, y)
        return *self.gradients(k, gskip, x, weight), gskip


class BatchNormReluMaxPool2d(BatchNorm):
    """Normalise by the statistics of the batch, rectify and pool; only winners are normalised."""

    def __init__(self, eps: float, window: Window2d) -> None:
        super().__init__(eps)
        self.window = window

    def forward(self, k: Kernels, x: Array, weight: Array | None, bias: Array | None) -> Array:
        """x, the winners among its numbers and their taps are saved."""
        self.find_statistics(k, x)
        y, best, tap = k.batch_norm_relu_max_pool2d(
            x, weight, bias, self.mean, self.var, self.eps, self.window
        )
        self.save(best, tap, x, weight, bias)
        return y

    def backward(self, k: Kernels, gy: Array) -> Any:
        """See `Kernels.batch_norm_relu_max_pool2d_grad`."""
        best, tap, x, weight, bias = self.saved
        return k.batch_norm_relu_max_pool2d_grad(
            gy, best, tap, x, weight, bias, self.mean, self.var, self.eps, self.window
        )


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
    if (running := _constants(training, running_mean, running_var)) is not None:
        return apply(BatchNorm(eps, running), x, weight, bias)
    _check_count(x)
    return apply(BatchNorm(eps).moving(running_mean, running_var, momentum), x, weight, bias)


def batch_norm_relu(
    x: Tensor,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    skip: Tensor | None = None,
) -> Tensor:
    """Normalise, add a map and rectify in one pass: ``relu(batch_norm(...) + skip)``.

    skip : Tensor like x, what a residual block passes by its layers; or None

    The other arguments are those of `batch_norm`. Values before the ReLU are never written to
    memory. `nn.Sequential` uses it for a batch norm that a ReLU follows, `nn.residual` with skip.

    >>> x, skip = Tensor([[1.0], [3.0]]), Tensor([[3.0], [-3.0]])
    >>> batch_norm_relu(x, None, None, training=True, eps=0.0, skip=skip).array
    array([[2.],
           [0.]], dtype=float32)
    """
    _check_channels(x, weight, bias, running_mean, running_var)
    if skip is not None and skip.shape != x.shape:
        raise ShapeError(
            f"batch_norm_relu: skip is {skip.shape} but x is {x.shape}; both must be alike. Bring "
            "skip to the shape of x, for example by a 1x1 convolution."
        )
    if (running := _constants(training, running_mean, running_var)) is not None:
        return apply(BatchNormAddRelu(eps, running), x, weight, bias, skip)
    _check_count(x)
    moved = running_mean, running_var, momentum
    if skip is None:
        return apply(BatchNormRelu(eps).moving(*moved), x, weight, bias)
    return apply(BatchNormAddRelu(eps).moving(*moved), x, weight, bias, skip)


def batch_norm_relu_max_pool2d(
    x: Tensor,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Normalise, rectify and pool: ``max_pool2d(relu(batch_norm(...)), ...)``.

    In training only the winners of the pooling are normalised, and the map before the pooling is
    never written to memory. Of numbers that differ by rounding alone another one may win and get
    the gradient. Arguments as in `batch_norm` and `max_pool2d`, in this order.

    >>> x = Tensor([[[[1.0, 3.0], [1.0, 3.0]]]])
    >>> batch_norm_relu_max_pool2d(x, None, None, None, None, True, 0.1, 0.0, 2).item()
    1.0
    """
    pool = kernel_size, stride, padding, dilation, ceil_mode
    if _constants(training, running_mean, running_var) is not None:
        y = batch_norm_relu(x, running_mean, running_var, weight, bias, training, momentum, eps)
        return max_pool2d(y, *pool)
    _check_channels(x, weight, bias, running_mean, running_var)
    _check_count(x)
    op = BatchNormReluMaxPool2d(eps, pool_window(x, *pool, "max_pool2d"))
    return apply(op.moving(running_mean, running_var, momentum), x, weight, bias)


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
    check_float(x, "local_response_norm")
    if len(x.shape) < 2:
        raise ShapeError(f"local_response_norm: x must be (N, C, ...), but is {x.shape}.")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentError(
            f"local_response_norm: size is {size!r}; give the number of channels, a whole number "
            ">= 1."
        )
    scale = alpha / size if divide_alpha_by_n else alpha
    return apply(LocalResponseNorm(size, float(scale), float(beta), float(k)), x)


def _constants(
    training: bool, running_mean: Array | None, running_var: Array | None
) -> tuple[Array, Array] | None:
    """The running statistics where they are used, in evaluation; None: those of the batch are."""
    return None if training or running_mean is None else (running_mean, running_var)


def _check_count(x: Tensor) -> None:
    if x.size // max(x.shape[1], 1) < 2:
        raise ShapeError(
            "batch_norm: statistics of a batch need more than one value a channel, but x is "
            f"{x.shape}; use a larger batch, or eval mode with running statistics."
        )


def _check_channels(x: Tensor, *per_channel: Any) -> None:
    check_float(x, "batch_norm")
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
