"""The complete kernel contract in plain array code: the definition that every other set must match.

`Kernels` implements every primitive for all arguments, in float32 and float64, over ``self.xp``:
NumPy or CuPy. It is written to be read and checked. A faster set subclasses it and overrides what
it speeds up, with the same signatures.

Rules of the contract
    - arrays in, arrays out, of any memory layout; maps are (N, C, H, W);
    - an output never shares memory with an input, and no input is written to; the one exception are
      those whose purpose is to update arguments in place: `batch_norm_move`, `scale_by` and the
      optimizer steps;
    - the result has the dtype of the input; NaN and infinity pass through;
    - no policy: no global state, no random generator. Random masks are a pure function of a key;
    - numbers that change from step to step (learning rate, Adam's step, the key of a mask) may be
      arrays of no dimensions on the device: a captured CUDA graph repeats its arguments for ever,
      but reads memory anew at each replay.

Shape letters: N batch, C input channels, F output channels, H W map, KH KW kernel, OH OW output
map, G groups. ``gy`` is the gradient of the loss by the output ``y``; ``gx gw gb`` are those by
the inputs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from minicnn_kernels.errors import BackendError
from minicnn_kernels.geometry import Window2d, adaptive_bins

Array = Any  # numpy.ndarray or cupy.ndarray; neither library offers a common type
Number = Any  # a float, or a float64 array of no dimensions on the device of the arrays
Key = Any  # an int of 64 bits, or a uint64 array of no dimensions

COLUMN_BYTES = 32 * 2**20  # im2col works through the batch in pieces of about this size


class Kernels:
    """Every primitive over ``xp``; the reference set of its device.

    With ``strict=True`` a primitive that a subclass does not override raises `BackendError` instead
    of running the reference, so that no benchmark times the wrong kernel.

    >>> import numpy as np
    >>> k = Kernels(np)
    >>> window = Window2d.of((3, 3), 2)
    >>> k.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), None, window, 1)[0, 0]
    array([[4., 4.],
           [4., 4.]])
    """

    name = "numpy"
    device = "cpu"
    capture_fault = ""  # why calls cannot be captured as a CUDA graph; empty where they can
    gives_threads_to_blas = True  # False for sets whose own loops use the cores

    def __init__(self, xp: Any = np, *, strict: bool = False) -> None:
        self.xp = xp
        self.strict = strict
        if strict and type(self) is not Kernels:
            for primitive in sorted(PRIMITIVES - self.overridden()):
                setattr(self, primitive, self._refusal(primitive))

    @classmethod
    def overridden(cls) -> frozenset[str]:
        """Names of the primitives that this set implements itself."""
        if cls is Kernels:
            return PRIMITIVES
        return frozenset(p for p in PRIMITIVES if getattr(cls, p) is not getattr(Kernels, p))

    def fall_back(self, primitive: str, reason: str) -> None:
        """Announce that an overridden primitive runs the reference; an error in strict mode."""
        if self.strict:
            raise BackendError(
                f"{primitive}: the {self.name!r} kernels fall back to the reference ({reason}) and "
                "strict mode is on; pass supported arguments or switch strict mode off."
            )

    def _refusal(self, primitive: str) -> Callable[..., NoReturn]:
        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise BackendError(
                f"{primitive}: the {self.name!r} kernels do not implement it and strict mode is "
                "on; use another backend or switch strict mode off."
            )

        return refuse

    # ------------------------------------------------------------------ convolution

    def im2col(self, x: Array, window: Window2d) -> Array:
        """Gather every window: (N, C, H, W) -> (N, C, KH, KW, OH, OW), padding read as 0.

        Needs N*C*KH*KW*OH*OW numbers of memory.
        """
        N, C = x.shape[:2]
        padded = self._padded(x, window, 0.0)
        col = self.xp.empty((N, C, window.kh, window.kw, window.oh, window.ow), x.dtype)
        for i, j, rows, columns in _taps(window):
            col[:, :, i, j] = padded[:, :, rows, columns]
        return col

    def col2im(self, col: Array, window: Window2d) -> Array:
        """Scatter-add every window back: the transpose of `im2col`; -> (N, C, H, W)."""
        N, C = col.shape[:2]
        padded = self.xp.zeros((N, C, *window.reach), col.dtype)
        for i, j, rows, columns in _taps(window):
            padded[:, :, rows, columns] += col[:, :, i, j]
        return self._cropped(padded, window)

    def conv2d(self, x: Array, w: Array, b: Array | None, window: Window2d, groups: int) -> Array:
        """Cross-correlate: y[n,f] = sum_c x[n,c] * w[f,c] + b[f]; -> (N, F, OH, OW).

        ``w`` is (F, C/G, KH, KW). Group g of the output sees only group g of the input. As a matrix
        product, (F/G, C/G*KH*KW) @ (C/G*KH*KW, OH*OW) for each image and group, which leaves y
        contiguous.
        """
        N, F = x.shape[0], w.shape[0]
        w = w.reshape(groups, F // groups, -1)
        y = self.xp.empty((N, groups, F // groups, window.oh * window.ow), x.dtype)
        for piece in _pieces(x, window):
            self.xp.matmul(w, self._columns(x[piece], window, groups), out=y[piece])
        y = y.reshape(N, F, window.oh, window.ow)
        if b is not None:
            y += b.reshape(1, F, 1, 1)
        return y

    def conv2d_affine(
        self, x: Array, w: Array, scale: Array | None, shift: Array | None, window: Window2d,
        groups: int, relu: bool,
    ) -> Array:  # fmt: skip
        """scale * conv2d(x, w) + shift, for each of the F filters, then `relu` if asked.

        For sets that can do that before y leaves the registers.
        """
        y = self.conv2d(x, w, None, window, groups)
        if scale is not None:
            y *= _per_channel(scale, y)
        if shift is not None:
            y += _per_channel(shift, y)
        return self.relu(y) if relu else y

    def conv2d_grad_input(self, gy: Array, w: Array, window: Window2d, groups: int) -> Array:
        """Gradient of `conv2d` by x: col2im(w^T @ gy); -> (N, C, H, W)."""
        N, F = gy.shape[:2]
        C = w.shape[1] * groups
        w_t = w.reshape(groups, F // groups, -1).swapaxes(1, 2)
        gx = self.xp.empty((N, C, window.h, window.w), gy.dtype)
        for piece in _pieces(gx, window):
            # (G, C/G*KH*KW, F/G) @ (n, G, F/G, OH*OW) -> (n, G, C/G*KH*KW, OH*OW)
            col = self.xp.matmul(
                w_t, gy[piece].reshape(-1, groups, F // groups, window.oh * window.ow)
            )
            if window.is_pointwise:
                gx[piece] = col.reshape(-1, C, window.h, window.w)
            else:
                col = col.reshape(-1, C, window.kh, window.kw, window.oh, window.ow)
                gx[piece] = self.col2im(col, window)
        return gx

    def conv2d_grad_weight(self, gy: Array, x: Array, window: Window2d, groups: int) -> Array:
        """Gradient of `conv2d` by w: sum over the batch of gy @ col^T; -> (F, C/G, KH, KW)."""
        N, F = gy.shape[:2]
        C = x.shape[1]
        gw = self.xp.zeros((groups, F // groups, C // groups * window.taps), x.dtype)
        gy = gy.reshape(N, groups, F // groups, window.oh * window.ow)
        for piece in _pieces(x, window):
            col = self._columns(x[piece], window, groups)
            for gy_n, col_n in zip(gy[piece], col, strict=True):
                gw += self.xp.matmul(gy_n, col_n.swapaxes(1, 2))
        return gw.reshape(F, C // groups, window.kh, window.kw)

    def conv2d_grad_bias(self, gy: Array) -> Array:
        """Gradient of `conv2d` by b: the sum over batch and map; -> (F,)."""
        return gy.sum(axis=(0, 2, 3))

    def _columns(self, x: Array, window: Window2d, groups: int) -> Array:
        """The right factor of the matrix product: (n, G, C/G*KH*KW, OH*OW)."""
        col = x if window.is_pointwise else self.im2col(x, window)
        return col.reshape(x.shape[0], groups, -1, window.oh * window.ow)

    # ------------------------------------------------------------------ fully connected

    def linear(self, x: Array, w: Array, b: Array | None) -> Array:
        """y = x @ w^T + b for x (..., K) and w (F, K); -> (..., F)."""
        y = self.xp.matmul(x, w.T)
        if b is not None:
            y += b
        return y

    def linear_grad_input(self, gy: Array, w: Array) -> Array:
        """Gradient of `linear` by x: gy @ w; -> (..., K)."""
        return self.xp.matmul(gy, w)

    def linear_grad_weight(self, gy: Array, x: Array) -> Array:
        """Gradient of `linear` by w: gy^T @ x over all leading axes; -> (F, K)."""
        F, K = gy.shape[-1], x.shape[-1]
        return self.xp.matmul(gy.reshape(-1, F).T, x.reshape(-1, K))

    def linear_grad_bias(self, gy: Array) -> Array:
        """Gradient of `linear` by b: the sum over all leading axes; -> (F,)."""
        return gy.reshape(-1, gy.shape[-1]).sum(axis=0)

    # ------------------------------------------------------------------ pooling

    def max_pool2d(self, x: Array, window: Window2d) -> tuple[Array, Array]:
        """Largest value of each window and which tap held it; both (N, C, OH, OW).

        Padding counts as -inf. The first of equal values wins; a NaN wins over everything. The tap
        is ``i * KW + j``, in uint8 where KH*KW <= 256 and in int32 above.
        """
        return self._select_pool2d(x, window, -math.inf, self.xp.greater)

    def min_pool2d(self, x: Array, window: Window2d) -> tuple[Array, Array]:
        """Smallest value of each window and its tap; padding counts as +inf. See `max_pool2d`."""
        return self._select_pool2d(x, window, math.inf, self.xp.less)

    def _select_pool2d(
        self, x: Array, window: Window2d, padding_value: float, better: Callable[..., Array]
    ) -> tuple[Array, Array]:
        xp = self.xp
        padded = self._padded(x, window, padding_value)
        y = xp.full((*x.shape[:2], window.oh, window.ow), padding_value, x.dtype)
        tap = xp.empty(y.shape, tap_dtype(window))
        tap[...] = xp.asarray(first_taps(window))
        for i, j, rows, columns in _taps(window):
            value = padded[:, :, rows, columns]
            wins = better(value, y) | (xp.isnan(value) & ~xp.isnan(y))
            xp.copyto(y, value, where=wins)
            xp.copyto(tap, xp.asarray(i * window.kw + j, tap.dtype), where=wins)
        return y, tap

    def max_pool2d_grad(self, gy: Array, tap: Array, window: Window2d) -> Array:
        """Gradient of `max_pool2d` and `min_pool2d`: gy goes to the winning tap; -> (N, C, H, W).

        Overlapping windows add up.
        """
        gx = self.xp.zeros((*gy.shape[:2], *window.reach), gy.dtype)
        for i, j, rows, columns in _taps(window):
            gx[:, :, rows, columns] += self.xp.where(tap == i * window.kw + j, gy, 0)
        return self._cropped(gx, window)

    def weighted_pool2d(self, x: Array, taps: Array, scale: Array, window: Window2d) -> Array:
        """Linear pooling: y[o] = scale[o] * sum over taps t of taps[t] * x[o, t].

        ``taps`` is (KH, KW) and ``scale`` (OH, OW), both NumPy. All ones and 1/(cells counted) give
        average pooling; other taps give distance-weighted pooling. Padding reads as 0.
        """
        padded = self._padded(x, window, 0.0)
        y = self.xp.zeros((*x.shape[:2], window.oh, window.ow), x.dtype)
        for i, j, rows, columns in _taps(window):
            y += float(taps[i, j]) * padded[:, :, rows, columns]
        y *= self.xp.asarray(scale, x.dtype)
        return y

    def weighted_pool2d_grad(self, gy: Array, taps: Array, scale: Array, window: Window2d) -> Array:
        """Gradient of `weighted_pool2d`: each window's scaled gy, weighted; -> (N, C, H, W)."""
        scaled = gy * self.xp.asarray(scale, gy.dtype)
        gx = self.xp.zeros((*gy.shape[:2], *window.reach), gy.dtype)
        for i, j, rows, columns in _taps(window):
            gx[:, :, rows, columns] += float(taps[i, j]) * scaled
        return self._cropped(gx, window)

    def adaptive_avg_pool2d(self, x: Array, output_size: tuple[int, int]) -> Array:
        """Mean over the bins of `geometry.adaptive_bins`; -> (N, C, OH, OW)."""
        N, C, H, W = x.shape
        y = self.xp.empty((N, C, *output_size), x.dtype)
        for i, rows in enumerate(adaptive_bins(H, output_size[0])):
            for j, columns in enumerate(adaptive_bins(W, output_size[1])):
                y[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
        return y

    def adaptive_avg_pool2d_grad(self, gy: Array, size: tuple[int, int]) -> Array:
        """Gradient of `adaptive_avg_pool2d`: gy / cells over each bin, overlaps added."""
        N, C, OH, OW = gy.shape
        gx = self.xp.zeros((N, C, *size), gy.dtype)
        for i, rows in enumerate(adaptive_bins(size[0], OH)):
            for j, columns in enumerate(adaptive_bins(size[1], OW)):
                cells = (rows.stop - rows.start) * (columns.stop - columns.start)
                gx[:, :, rows, columns] += gy[:, :, i : i + 1, j : j + 1] / cells
        return gx

    def adaptive_max_pool2d(self, x: Array, output_size: tuple[int, int]) -> tuple[Array, Array]:
        """Largest value of each adaptive bin, and its position ``row * W + column`` (int32)."""
        N, C, H, W = x.shape
        y = self.xp.empty((N, C, *output_size), x.dtype)
        position = self.xp.empty(y.shape, np.int32)
        for i, rows in enumerate(adaptive_bins(H, output_size[0])):
            for j, columns in enumerate(adaptive_bins(W, output_size[1])):
                width = columns.stop - columns.start
                cells = x[:, :, rows, columns].reshape(N, C, (rows.stop - rows.start) * width)
                best = cells.argmax(axis=2)
                y[:, :, i, j] = self.xp.take_along_axis(cells, best[:, :, None], 2)[:, :, 0]
                row, column = self.xp.divmod(best, width)
                position[:, :, i, j] = (row + rows.start) * W + column + columns.start
        return y, position

    def adaptive_max_pool2d_grad(self, gy: Array, position: Array, size: tuple[int, int]) -> Array:
        """Gradient of `adaptive_max_pool2d`: gy goes to the winning cells, overlaps added."""
        N, C, OH, OW = gy.shape
        gx = self.xp.zeros((N * C, size[0] * size[1]), gy.dtype)
        planes = self.xp.arange(N * C)
        for i in range(OH):
            for j in range(OW):
                # one bin hits each plane once, so no two of these additions collide
                gx[planes, position[:, :, i, j].reshape(-1)] += gy[:, :, i, j].reshape(-1)
        return gx.reshape(N, C, *size)

    # ------------------------------------------------------------------ activations

    def relu(self, x: Array) -> Array:
        """max(x, 0); NaN stays NaN."""
        return self.xp.maximum(x, 0)

    def relu_grad(self, gy: Array, y: Array) -> Array:
        """gy where the output was positive, else 0."""
        return self.xp.where(y > 0, gy, 0)

    def leaky_relu(self, x: Array, negative_slope: float) -> Array:
        """x for x > 0, negative_slope * x otherwise."""
        return self.xp.where(x > 0, x, negative_slope * x)

    def leaky_relu_grad(self, gy: Array, x: Array, negative_slope: float) -> Array:
        """gy for x > 0, negative_slope * gy otherwise."""
        return self.xp.where(x > 0, gy, negative_slope * gy)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), through exp(-|x|) so that nothing overflows."""
        e = self.xp.exp(-self.xp.abs(x))
        return self.xp.where(x >= 0, 1 / (1 + e), e / (1 + e))

    def sigmoid_grad(self, gy: Array, y: Array) -> Array:
        """gy * y * (1 - y)."""
        return gy * y * (1 - y)

    def tanh(self, x: Array) -> Array:
        """Hyperbolic tangent."""
        return self.xp.tanh(x)

    def tanh_grad(self, gy: Array, y: Array) -> Array:
        """gy * (1 - y**2)."""
        return gy * (1 - y * y)

    def softmax(self, x: Array, axis: int) -> Array:
        """exp(x) / sum(exp(x)) along ``axis``, shifted by the maximum so that nothing overflows."""
        e = self.xp.exp(x - x.max(axis=axis, keepdims=True))
        e /= e.sum(axis=axis, keepdims=True)
        return e

    def softmax_grad(self, gy: Array, y: Array, axis: int) -> Array:
        """y * (gy - sum(gy * y)) along ``axis``."""
        return y * (gy - (gy * y).sum(axis=axis, keepdims=True))

    def log_softmax(self, x: Array, axis: int) -> Array:
        """x - log(sum(exp(x))) along ``axis``, shifted by the maximum."""
        shifted = x - x.max(axis=axis, keepdims=True)
        shifted -= self.xp.log(self.xp.exp(shifted).sum(axis=axis, keepdims=True))
        return shifted

    def log_softmax_grad(self, gy: Array, y: Array, axis: int) -> Array:
        """gy - exp(y) * sum(gy) along ``axis``."""
        return gy - self.xp.exp(y) * gy.sum(axis=axis, keepdims=True)

    # ------------------------------------------------------------------ normalisation

    def batch_norm_statistics(self, x: Array) -> tuple[Array, Array]:
        """Mean and biased variance of each channel, over every axis but 1; both (C,).

        The variance is taken in a second pass, after the mean, for accuracy (Ioffe & Szegedy 2015,
        algorithm 1).
        """
        axes = _all_but_channel(x)
        mean = x.mean(axis=axes)
        centred = x - _per_channel(mean, x)
        return mean, (centred * centred).mean(axis=axes)

    def batch_norm_grad(
        self, gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        """Gradients of `batch_norm_eval` by x, w and b where mean and var are the statistics of x.

        With xhat = (x - mean) * inv: gb = sum(gy), gw = sum(gy * xhat) and
        gx = w * inv * (gy - mean(gy) - xhat * mean(gy * xhat)).
        """
        gx, gw, gb = self.batch_norm_eval_grad(gy, x, w, mean, var, eps)
        count = x.size // x.shape[1]
        factor = _norm_factor(w, var, eps)
        xhat = (x - _per_channel(mean, x)) * _per_channel((var + eps) ** -0.5, x)
        gx -= _per_channel(factor * gb / count, x) + xhat * _per_channel(factor * gw / count, x)
        return gx, gw, gb

    def batch_norm_move(
        self,
        running_mean: Array,
        running_var: Array,
        mean: Array,
        var: Array,
        momentum: float,
        count: int,
    ) -> None:
        """Bring running statistics nearer to those of a batch of ``count`` a channel, in place.

        running <- running + momentum * (batch - running), with the unbiased variance: divided by
        count - 1 where ``var`` is divided by count.
        """
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (var * (count / (count - 1)) - running_var)

    def batch_norm_eval(
        self, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float
    ) -> Array:
        """Normalise by given statistics: (x - mean) / sqrt(var + eps) * w + b."""
        y = (x - _per_channel(mean, x)) * _per_channel(_norm_factor(w, var, eps), x)
        if b is not None:
            y += _per_channel(b, y)
        return y

    def batch_norm_eval_grad(
        self, gy: Array, x: Array, w: Array | None, mean: Array, var: Array, eps: float
    ) -> tuple[Array, Array, Array]:
        """Gradients of `batch_norm_eval` by x, w and b; mean and var are constants."""
        axes = _all_but_channel(x)
        gb = gy.sum(axis=axes)
        gw = (gy * (x - _per_channel(mean, x))).sum(axis=axes) * (var + eps) ** -0.5
        return gy * _per_channel(_norm_factor(w, var, eps), x), gw, gb

    def batch_norm_relu(
        self, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float,
        skip: Array | None,
    ) -> Array:  # fmt: skip
        """`batch_norm_eval`, plus ``skip`` (like x) where given, then `relu`."""
        y = self.batch_norm_eval(x, w, b, mean, var, eps)
        return self.relu(y if skip is None else self.add(y, skip))

    def batch_norm_relu_grad(
        self, gy: Array, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array,
        eps: float,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """`batch_norm_grad` behind `relu`; where that passed is computed again from x."""
        y = self.batch_norm_relu(x, w, b, mean, var, eps, None)
        return self.batch_norm_grad(self.relu_grad(gy, y), x, w, mean, var, eps)

    def batch_norm_relu_max_pool2d(
        self, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array, eps: float,
        window: Window2d,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """`batch_norm_relu`, then `max_pool2d`: y, the x of each winner, and its tap.

        Normalising and ReLU keep the order of the numbers of a channel, or turn it round where the
        channel's factor is negative. So the winner is found among the x, and only winners are
        normalised. Of numbers that differ by rounding alone another one may win.
        """
        sign = _per_channel(self.xp.where(_norm_factor(w, var, eps) < 0, -1, 1).astype(x.dtype), x)
        best, tap = self.max_pool2d(sign * x, window)
        best = sign * best
        return self.batch_norm_relu(best, w, b, mean, var, eps, None), best, tap

    def batch_norm_relu_max_pool2d_grad(
        self, gy: Array, best: Array, tap: Array, x: Array, w: Array | None, b: Array | None,
        mean: Array, var: Array, eps: float, window: Window2d,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """Gradients of `batch_norm_relu_max_pool2d` by x, w and b, the statistics being x's."""
        y = self.batch_norm_relu(best, w, b, mean, var, eps, None)
        gy = self.max_pool2d_grad(self.relu_grad(gy, y), tap, window)
        return self.batch_norm_grad(gy, x, w, mean, var, eps)

    def local_response_norm(
        self, x: Array, size: int, alpha: float, beta: float, k: float
    ) -> tuple[Array, Array]:
        """y = x / s**beta with s = k + alpha * (sum of x**2 over ``size`` neighbouring channels).

        Channels c - size//2 ... c + (size-1)//2, those outside the map counting 0 (Krizhevsky et
        al. 2012, section 3.3). ``alpha`` is used as given, not divided by ``size``. Returns y, s.
        """
        s = k + alpha * self._channel_window_sum(x * x, size // 2, (size - 1) // 2)
        return x * s**-beta, s

    def local_response_norm_grad(
        self, gy: Array, x: Array, s: Array, size: int, alpha: float, beta: float
    ) -> Array:
        """gx = gy * s**-beta - 2*alpha*beta * x * (windowed sum of gy * x * s**(-beta-1)).

        The sum runs over the channels whose window holds c: the mirrored window.
        """
        power = s**-beta
        inner = self._channel_window_sum(gy * x * power / s, (size - 1) // 2, size // 2)
        return gy * power - (2 * alpha * beta) * x * inner

    def _channel_window_sum(self, x: Array, before: int, after: int) -> Array:
        C = x.shape[1]
        total = self.xp.zeros_like(x)
        for d in range(-min(before, C - 1), min(after, C - 1) + 1):
            total[:, max(0, -d) : C - max(0, d)] += x[:, max(0, d) : C - max(0, -d)]
        return total

    # ------------------------------------------------------------------ random masks

    def dropout(self, x: Array, p: float, key: Key, unit: int) -> Array:
        """Zero each run of ``unit`` neighbours with probability p, scale the rest by 1/(1-p).

        ``unit`` = 1 drops single numbers (dropout); C*H*W whole samples (stochastic depth by row);
        ``x.size`` everything at once. Which runs survive is a pure function of ``key`` and the
        run's number (see `random_keep`): the gradient is this same function of gy, nothing is
        saved, and every kernel set draws the same mask.
        """
        if p >= 1.0:
            return self.xp.zeros(x.shape, x.dtype)
        keep = self.random_keep(x.size // unit if x.size else 0, p, key)
        kept = x.reshape(-1, unit) * keep[:, None].astype(x.dtype)
        kept *= 1.0 / (1.0 - p)
        return kept.reshape(x.shape)

    def random_keep(self, count: int, p: float, key: Key) -> Array:
        """``count`` independent booleans, False with probability p, from a 64-bit key.

        Element i is the SplitMix64 hash (Steele, Lea & Flood 2014) of ``key + (i + 1) * golden``;
        it is kept when the upper 32 bits are at least p * 2**32.
        """
        xp = self.xp
        z = xp.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(key) if isinstance(key, int) else key
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(32)) >= np.uint64(round(p * 2**32))

    # ------------------------------------------------------------------ loss

    def softmax_cross_entropy(self, x: Array, q: Array) -> tuple[Array, Array]:
        """-sum_k q[n,k] * log softmax(x)[n,k] for logits x (N, K) and weights q (N, K).

        ``q`` is the target distribution: one-hot, smoothed, soft or scaled by class weights. A
        class of weight 0 adds nothing even where its probability is 0. Returns losses (N,) and the
        softmax (N, K), which backward needs.
        """
        log_p = self.log_softmax(x, 1)
        loss = -(q * self.xp.where(q == 0, 0, log_p)).sum(axis=1)
        return loss, self.xp.exp(log_p)

    def softmax_cross_entropy_grad(self, gloss: Array, p: Array, q: Array) -> Array:
        """gx[n] = gloss[n] * (p[n] * sum_k q[n,k] - q[n]); -> (N, K)."""
        return gloss[:, None] * (p * q.sum(axis=1, keepdims=True) - q)

    # ------------------------------------------------------------------ arithmetic and shape

    def add(self, a: Array, b: Array) -> Array:
        """a + b with broadcasting."""
        return self.xp.add(a, b)

    def subtract(self, a: Array, b: Array) -> Array:
        """a - b with broadcasting."""
        return self.xp.subtract(a, b)

    def multiply(self, a: Array, b: Array) -> Array:
        """a * b with broadcasting."""
        return self.xp.multiply(a, b)

    def divide(self, a: Array, b: Array) -> Array:
        """a / b with broadcasting."""
        return self.xp.divide(a, b)

    def power(self, x: Array, exponent: float) -> Array:
        """x ** exponent for a number ``exponent``."""
        return x**exponent

    def exp(self, x: Array) -> Array:
        """e ** x."""
        return self.xp.exp(x)

    def log(self, x: Array) -> Array:
        """Natural logarithm."""
        return self.xp.log(x)

    def matmul(self, a: Array, b: Array) -> Array:
        """Matrix product over the last two axes, leading axes broadcast."""
        return self.xp.matmul(a, b)

    def sum(self, x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
        """Sum over ``axis``."""
        return self.xp.asarray(x.sum(axis=axis, keepdims=keepdims))

    def max(self, x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
        """Largest value over ``axis``."""
        return self.xp.asarray(x.max(axis=axis, keepdims=keepdims))

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        """Join arrays along an existing axis."""
        return self.xp.concatenate(arrays, axis=axis)

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], value: float) -> Array:
        """Surround x with ``value``; ``widths`` has (before, after) for each axis."""
        shape = tuple(
            n + before + after for n, (before, after) in zip(x.shape, widths, strict=True)
        )
        y = self.xp.full(shape, value, x.dtype)
        y[tuple(slice(b, b + n) for n, (b, _) in zip(x.shape, widths, strict=True))] = x
        return y

    def getitem_grad(self, gy: Array, index: Any, shape: tuple[int, ...]) -> Array:
        """Gradient of ``x[index]``: gy put back, added up where the index names a cell twice."""
        gx = self.xp.zeros(shape, gy.dtype)
        self.xp.add.at(gx, index, gy)
        return gx

    def gather_images(
        self,
        images: Array,
        index: Array,
        placement: Array,
        size: tuple[int, int],
        reflect: bool,
        table: Array,
    ) -> Array:
        r"""Windows of images (M, C, H, W) of bytes as float32 (N, C, \*size): a training batch.

        y[n, c, i, j] = table[c, images[index[n], c, top + i, start + step * j]] with (top, start,
        step) = placement[n], int32 (N, 3); step is 1 or -1. Outside the image a pixel is 0, or with
        ``reflect`` as far inside the border, which must be there. table is float32 (C, 256), index
        int64 (N,).
        """
        xp = self.xp
        C, H, W = images.shape[1:]
        top, start, step = (placement[:, i, None] for i in range(3))
        row, column = top + xp.arange(size[0]), start + step * xp.arange(size[1])
        if reflect:
            row, column = (
                xp.where(at < n, at, 2 * (n - 1) - at)
                for at, n in ((abs(row), H), (abs(column), W))
            )
        row, column = row[:, None, :, None], column[:, None, None, :]
        inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
        row, column = xp.clip(row, 0, H - 1), xp.clip(column, 0, W - 1)
        channel = xp.arange(C)[:, None, None]
        pixels = images[index[:, None, None, None], channel, row, column]
        return table[channel, xp.where(inside, pixels, 0)]

    # ------------------------------------------------------------------ optimizer steps, in place

    def sgd_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        velocities: Sequence[Array] | None,
        lr: Number,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
    ) -> None:
        """One step of SGD on params and their velocities (Sutskever et al. 2013, torch's form).

        For each p, its gradient g and velocity v, in place:
        d = g + weight_decay * p;  v <- momentum * v + (1 - dampening) * d;
        p <- p - lr * (d + momentum * v if nesterov else v), or p - lr * d without velocities.
        """
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            d = g + weight_decay * p if weight_decay else g
            if velocities is not None:
                velocity = velocities[i]
                velocity *= momentum
                velocity += (1.0 - dampening) * d
                d = d + momentum * velocity if nesterov else velocity
            p -= _as_in(p, lr) * d

    def adam_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        ms: Sequence[Array],
        vs: Sequence[Array],
        step: Number,
        lr: Number,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        """One step of Adam (Kingma & Ba 2015, algorithm 1) on params, ms and vs, in place.

        ``decoupled`` shrinks the weights directly by lr * weight_decay (AdamW, Loshchilov & Hutter
        2019) instead of adding weight_decay * p to the gradient. ``step`` counts from 1.
        """
        shrink = 1.0 - lr * weight_decay
        rate, correction = lr / (1.0 - betas[0] ** step), 1.0 - betas[1] ** step
        for p, g, m, v in zip(params, grads, ms, vs, strict=True):
            if weight_decay and decoupled:
                p *= _as_in(p, shrink)
            elif weight_decay:
                g = g + weight_decay * p
            m *= betas[0]
            m += (1.0 - betas[0]) * g
            v *= betas[1]
            v += (1.0 - betas[1]) * (g * g)
            root = self.xp.sqrt(v / _as_in(p, correction)) + eps
            p -= _as_in(p, rate) * m / root

    def rmsprop_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        squares: Sequence[Array],
        velocities: Sequence[Array],
        lr: Number,
        alpha: float,
        eps: float,
        weight_decay: float,
        momentum: float,
    ) -> None:
        """One step of RMSProp on params, squares, velocities in place; eps is added to the root."""
        for p, g, square, velocity in zip(params, grads, squares, velocities, strict=True):
            if weight_decay:
                g = g + weight_decay * p
            square *= alpha
            square += (1.0 - alpha) * (g * g)
            velocity *= momentum
            velocity += g / (self.xp.sqrt(square) + eps)
            p -= _as_in(p, lr) * velocity

    def squared_norm(self, arrays: Sequence[Array]) -> Array:
        """The sum of the squares of all numbers in all arrays, added up in float64; 0-d."""
        total = self.xp.zeros((), np.float64)
        for a in arrays:
            wide = a.astype(np.float64)
            total = total + (wide * wide).sum()
        return total

    def scale_by(self, arrays: Sequence[Array], factor: Number) -> None:
        """Multiply every array by ``factor``, in place."""
        for a in arrays:
            a *= _as_in(a, factor)

    # ------------------------------------------------------------------ helpers of the reference

    def _padded(self, x: Array, window: Window2d, value: float) -> Array:
        """x inside a map of ``window.reach``, or x itself where nothing is to be added."""
        N, C, H, W = x.shape
        if window.reach == (H, W):
            return x
        padded = self.xp.full((N, C, *window.reach), value, x.dtype)
        padded[:, :, window.ph : window.ph + H, window.pw : window.pw + W] = x
        return padded

    def _cropped(self, padded: Array, window: Window2d) -> Array:
        rows = slice(window.ph, window.ph + window.h)
        columns = slice(window.pw, window.pw + window.w)
        return self.xp.ascontiguousarray(padded[:, :, rows, columns])


def tap_dtype(window: Window2d) -> type[np.unsignedinteger | np.signedinteger]:
    """The integer type in which a pooling kernel stores the winning tap."""
    return np.uint8 if window.taps <= 256 else np.int32


@functools.lru_cache(maxsize=256)
def first_taps(window: Window2d) -> np.ndarray[Any, np.dtype[Any]]:
    """For each output (OH, OW) the first tap that lies on the map: the winner where all are equal.

    >>> first_taps(Window2d.of((2, 2), 2, padding=1))
    array([[3, 2, 2],
           [1, 0, 0],
           [1, 0, 0]], dtype=uint8)
    """
    row = np.arange(window.oh) * window.sh - window.ph
    column = np.arange(window.ow) * window.sw - window.pw
    i = np.maximum(-(row // window.dh), 0)  # rounds up: the first i with row + i * dh >= 0
    j = np.maximum(-(column // window.dw), 0)
    on_map = (row + i * window.dh < window.h)[:, None] & (column + j * window.dw < window.w)
    tap = np.where(
        on_map & (i < window.kh)[:, None] & (j < window.kw), i[:, None] * window.kw + j, 0
    )
    return tap.astype(tap_dtype(window))


def _taps(window: Window2d) -> Iterator[tuple[int, int, slice, slice]]:
    for i in range(window.kh):
        for j in range(window.kw):
            yield i, j, *window.tap_slices(i, j)


def _pieces(x: Array, window: Window2d) -> Iterator[slice]:
    """Slices of the batch whose columns stay below `COLUMN_BYTES`."""
    N, C = x.shape[:2]
    image_bytes = C * window.taps * window.oh * window.ow * x.dtype.itemsize
    step = max(1, COLUMN_BYTES // max(1, image_bytes))
    for start in range(0, N, step):
        yield slice(start, start + step)


def _all_but_channel(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _norm_factor(w: Array | None, var: Array, eps: float) -> Array:
    """What batch norm multiplies each channel by."""
    inv = (var + eps) ** -0.5
    return inv if w is None else inv * w


def _as_in(array: Array, number: Number) -> Number:
    """A number as arithmetic with ``array`` takes it: of its dtype where it is on the device."""
    return number.astype(array.dtype) if hasattr(number, "astype") else number


def _per_channel(v: Array, x: Array) -> Array:
    return v.reshape(1, -1, *(1,) * (x.ndim - 2))


PRIMITIVES = frozenset(
    name
    for name, value in vars(Kernels).items()
    if callable(value) and not name.startswith("_") and name not in {"fall_back", "overridden"}
)
