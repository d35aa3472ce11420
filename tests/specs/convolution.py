"""Convolution, and the faults of windows that pooling shares."""

from __future__ import annotations

import math

import numpy as np

import minicnn.functional as F
from minicnn.functional import convolution
from minicnn.testing import (
    Case,
    OpSpec,
    broken_attribute,
    broken_function,
    broken_kernel,
    distinct,
)
from specs._oracles import indices, inside, windows


def conv2d_oracle(x, w, b, stride=1, padding=0, dilation=1, groups=1) -> np.ndarray:
    size = x.shape[2:]
    F_, CG, KH, KW = w.shape
    grid = windows(size, (KH, KW), stride, padding, dilation)
    y = np.empty((len(x), F_, len(grid), len(grid[0])))
    for n, f, i, j in indices(y.shape):
        first = f // (F_ // groups) * CG  # first channel of the filter's group
        y[n, f, i, j] = math.fsum(
            w[f, c, u, v] * x[n, first + c, row, column]
            for u, v, row, column in grid[i][j]
            if inside(row, column, size)
            for c in range(CG)
        ) + (0.0 if b is None else b[f])
    return y


def filters(x: tuple[int, ...], w: tuple[int, ...], bias: bool = True):
    """Inputs of a convolution."""

    def draw(rng):
        b = distinct((w[0],), rng) if bias else None
        return distinct(x, rng), distinct(w, rng), b

    return draw


CASES = [
    Case("3x3", filters((2, 2, 5, 6), (3, 2, 3, 3)), batch=(0,)),
    Case(
        "unequal axes",
        filters((2, 2, 6, 9), (3, 2, 2, 3)),
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        batch=(0,),
    ),
    Case(
        "two groups", filters((2, 4, 4, 4), (6, 2, 3, 3)), {"groups": 2, "padding": 1}, batch=(0,)
    ),
    Case("depthwise", filters((2, 3, 4, 4), (3, 1, 3, 3)), {"groups": 3, "padding": 1}),
    Case("same, even kernel", filters((1, 2, 4, 5), (2, 2, 2, 4)), {"padding": "same"}, batch=(0,)),
    Case("same, dilated", filters((1, 1, 5, 6), (2, 1, 2, 3)), {"padding": "same", "dilation": 2}),
    Case("valid", filters((1, 1, 4, 4), (1, 1, 2, 2)), {"padding": "valid"}),
    Case("1x1 maps", filters((3, 4, 1, 1), (2, 4, 1, 1)), batch=(0,)),
    Case("1x1 kernel", filters((2, 3, 4, 3), (4, 3, 1, 1)), batch=(0,)),
    Case("1x1 kernel, stride 2", filters((2, 3, 5, 4), (2, 3, 1, 1)), {"stride": 2}),
    Case("1x1 kernel in groups", filters((2, 4, 3, 3), (4, 2, 1, 1)), {"groups": 2}),
    Case("3x3 on 1x1 maps", filters((2, 2, 1, 1), (2, 2, 3, 3)), {"padding": 1}),
    Case("no bias, inexact", filters((2, 2, 6, 7), (3, 2, 3, 2), False), {"stride": 2}, batch=(0,)),
    Case("gaps between windows", filters((1, 2, 7, 8), (2, 2, 2, 2)), {"stride": (3, 4)}),
    Case("one window", filters((2, 3, 4, 3), (5, 3, 4, 3)), batch=(0,)),
    Case("padding beyond the kernel", filters((1, 1, 2, 2), (1, 1, 2, 2)), {"padding": 3}),
]


def other_window(name: str, primitive: str, change):
    """A primitive that computes with another window of the same output size."""

    def replacement(right, *args):
        return right(*(change(a) if hasattr(a, "sh") else a for a in args))

    return broken_kernel(f"{name} in {primitive}", primitive, replacement)


def stride_swapped(window):
    return window._replace(sh=window.sw, sw=window.sh)


def padding_swapped(window):
    return window._replace(ph=window.pw, pw=window.ph, ph_end=window.pw_end, pw_end=window.ph_end)


def dilation_ignored(window):
    return window._replace(dh=1, dw=1)


def extra_cell_first(window):
    return window._replace(ph=window.ph_end, ph_end=window.ph, pw=window.pw_end, pw_end=window.pw)


def _window_faults():
    changes = {
        "stride of the other axis": stride_swapped,
        "padding of the other axis": padding_swapped,
        "dilation ignored": dilation_ignored,
        "same: the extra cell first": extra_cell_first,
    }
    primitives = ("conv2d", "conv2d_grad_input", "conv2d_grad_weight")
    return [other_window(name, p, change) for name, change in changes.items() for p in primitives]


def without_last_tap(w):
    w = w.copy()
    w[:, :, -1, -1] = 0
    return w


def _square(w):
    return w.shape[2] == w.shape[3]


def assigning_col2im(right, col, window):
    """Overlapping windows overwrite each other: ``=`` in the place of ``+=``."""
    N, C = col.shape[:2]
    padded = np.zeros((N, C, *window.reach), col.dtype)
    for i, j in indices((window.kh, window.kw)):
        rows, columns = window.tap_slices(i, j)
        padded[:, :, rows, columns] = col[:, :, i, j]
    bottom, right_end = window.ph + window.h, window.pw + window.w
    return np.ascontiguousarray(padded[:, :, window.ph : bottom, window.pw : right_end])


def _grad_input_from_overwritten_columns(right, gy, w, window, groups):
    N, F_ = gy.shape[:2]
    C = w.shape[1] * groups
    w_t = w.reshape(groups, F_ // groups, -1).swapaxes(1, 2)
    col = np.matmul(w_t, gy.reshape(N, groups, F_ // groups, window.oh * window.ow))
    col = col.reshape(N, C, window.kh, window.kw, window.oh, window.ow)
    return assigning_col2im(None, col, window)


def _groups_rolled(right, x, w, b, window, groups):
    N, C, H, W = x.shape
    x = x.reshape(N, groups, C // groups, H, W)
    return right(np.roll(x, 1, axis=1).reshape(N, C, H, W), w, b, window, groups)


def _weight_groups_rolled(right, gy, x, window, groups):
    gw = right(gy, x, window, groups)
    by_group = gw.reshape(groups, -1, *gw.shape[1:])
    return np.roll(by_group, 1, axis=0).reshape(gw.shape)


def _same_as_valid(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    padding = 0 if padding == "same" else padding
    return F.conv2d(x, w, b, stride, padding, dilation, groups)


def _bias_gradient_for_weight(right, self, k, gy):
    gx, gw, gb = right(self, k, gy)
    return gx, gw, gw.sum(axis=(1, 2, 3)) if gw is not None and gb is not None else gb


RECTIFIED = ("3x3", "unequal axes", "two groups", "1x1 kernel", "no bias, inexact")


def _not_rectified(right, x, w, scale, shift, window, groups, relu):
    return right(x, w, scale, shift, window, groups, False)


def _without_result(op):
    op.saved = op.saved[:2]
    return op


SPECS = [
    OpSpec(
        "conv2d",
        F.conv2d,
        CASES,
        oracle=conv2d_oracle,
        terms=lambda x, w, b, **kwargs: w[0].size + 1,
        faults=[
            *_window_faults(),
            broken_kernel(
                "filters flipped", "conv2d", lambda r, x, w, *rest: r(x, w[..., ::-1, ::-1], *rest)
            ),
            broken_kernel(
                "filters transposed",
                "conv2d",
                lambda r, x, w, *rest: r(x, w.swapaxes(2, 3) if _square(w) else w, *rest),
            ),
            broken_kernel(
                "last tap dropped",
                "conv2d",
                lambda r, x, w, *rest: r(x, without_last_tap(w), *rest),
            ),
            broken_kernel("no bias", "conv2d", lambda r, x, w, b, *rest: r(x, w, None, *rest)),
            broken_kernel("groups swapped", "conv2d", _groups_rolled),
            broken_kernel(
                "only the first image",
                "conv2d",
                lambda r, x, *rest: np.repeat(r(x, *rest)[:1], len(x), 0),
            ),
            broken_kernel(
                "filters not flipped backward",
                "conv2d_grad_input",
                lambda r, gy, w, *rest: r(gy, w[..., ::-1, ::-1], *rest),
            ),
            broken_kernel(
                "filters transposed backward",
                "conv2d_grad_input",
                lambda r, gy, w, *rest: r(gy, w.swapaxes(2, 3) if _square(w) else w, *rest),
            ),
            broken_kernel(
                "last tap dropped backward",
                "conv2d_grad_input",
                lambda r, gy, w, *rest: r(gy, without_last_tap(w), *rest),
            ),
            broken_kernel(
                "= for += in overlapping windows",
                "conv2d_grad_input",
                _grad_input_from_overwritten_columns,
            ),
            broken_kernel(
                "weight gradient of the last image only",
                "conv2d_grad_weight",
                lambda r, gy, x, *rest: r(gy[-1:], x[-1:], *rest),
            ),
            broken_kernel(
                "last tap of the weight gradient dropped",
                "conv2d_grad_weight",
                lambda r, *args: without_last_tap(r(*args)),
            ),
            broken_kernel(
                "weight gradient transposed",
                "conv2d_grad_weight",
                lambda r, *args: g.swapaxes(2, 3).copy() if _square(g := r(*args)) else g,
            ),
            broken_kernel(
                "weight gradient of another group", "conv2d_grad_weight", _weight_groups_rolled
            ),
            broken_kernel(
                "bias gradient of one image", "conv2d_grad_bias", lambda r, gy: r(gy[-1:])
            ),
            broken_kernel(
                "mean in the bias gradient",
                "conv2d_grad_bias",
                lambda r, gy: gy.mean(axis=(0, 2, 3)) if gy.size else r(gy),
            ),
            broken_attribute(
                "bias gradient from the weight's",
                convolution.Conv2d,
                "backward",
                _bias_gradient_for_weight,
            ),
            broken_function("same as valid", _same_as_valid),
        ],
    ),
    OpSpec(
        "conv2d_relu",
        F.conv2d_relu,
        [case for case in CASES if case.name in RECTIFIED],
        oracle=lambda *args, **kwargs: np.maximum(conv2d_oracle(*args, **kwargs), 0),
        terms=lambda x, w, b, **kwargs: w[0].size + 1,
        faults=[
            broken_kernel("not rectified", "conv2d_affine", _not_rectified),
            broken_attribute(
                "gradient of what is not rectified",
                convolution.Conv2dRelu,
                "backward",
                lambda r, self, k, gy: convolution.Conv2d.backward(_without_result(self), k, gy),
            ),
        ],
    ),
]
