"""Pooling over windows."""

from __future__ import annotations

import math

import numpy as np

import minicnn.functional as F
from minicnn.functional import pooling
from minicnn.testing import (
    Case,
    OpSpec,
    broken_attribute,
    broken_function,
    broken_kernel,
    distinct,
)
from specs._oracles import as_pair, indices, inside, pooled, windows
from specs.convolution import dilation_ignored, other_window, padding_swapped, stride_swapped

# ------------------------------------------------------------------ oracles


def selecting(pick):
    """The oracle of max and min pooling."""

    def oracle(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        size = x.shape[2:]
        stride = kernel_size if stride is None else stride
        grid = windows(size, kernel_size, stride, padding, dilation, ceil_mode)
        return pooled(
            x, grid, lambda m, taps: pick(m[r, c] for *_, r, c in taps if inside(r, c, size))
        )

    return oracle


def weighing(weight, counted_by_default: bool):
    """The oracle of average and distance-weighted pooling, of weights weight(u, v, KH, KW)."""

    def oracle(
        x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=None, **kw
    ):
        size, (KH, KW) = x.shape[2:], as_pair(kernel_size)
        counted = counted_by_default if count_include_pad is None else count_include_pad
        margin = padding if counted else 0
        stride = kernel_size if stride is None else stride

        def average(m, taps):
            weighted = [(weight(u, v, KH, KW, **kw), r, c) for u, v, r, c in taps]
            total = math.fsum(w for w, r, c in weighted if inside(r, c, size, margin))
            return math.fsum(w * m[r, c] for w, r, c in weighted if inside(r, c, size)) / total

        return pooled(x, windows(size, kernel_size, stride, padding, 1, ceil_mode), average)

    return oracle


def equal_weight(u, v, KH, KW):
    return 1.0


def distance_weight(u, v, KH, KW, falloff="inverse"):
    distance = math.dist((u, v), ((KH - 1) / 2, (KW - 1) / 2))
    return 1 / (1 + distance) if falloff == "inverse" else math.exp(-distance * distance / 2)


def l2_oracle(x, kernel_size, stride=None, padding=0, ceil_mode=False):
    size = x.shape[2:]
    stride = kernel_size if stride is None else stride
    return pooled(
        x,
        windows(size, kernel_size, stride, padding, 1, ceil_mode),
        lambda m, taps: math.hypot(*(m[r, c] for *_, r, c in taps if inside(r, c, size))),
    )


# ------------------------------------------------------------------ cases


def case(name: str, shape: tuple[int, ...], shift: float = 0.0, **kwargs) -> Case:
    return Case(name, lambda rng: (distinct(shape, rng) + shift,), kwargs, batch=(0,))


def geometries(shift: float = 0.0) -> list[Case]:
    """Windows for any pooling: disjoint, overlapping, padded, inexact, hanging over."""
    ceil = {"ceil_mode": True}
    return [
        case("2x2", (2, 2, 4, 6), shift, kernel_size=2),
        case("overlapping 3/2", (2, 2, 5, 7), shift, kernel_size=3, stride=2),
        case("stride 1", (1, 2, 4, 4), shift, kernel_size=2, stride=1),
        case("unequal", (2, 1, 6, 5), shift, kernel_size=(2, 3), stride=(2, 1), padding=(0, 1)),
        case("padded", (1, 2, 3, 4), shift, kernel_size=3, stride=2, padding=1),
        case("inexact, floor", (1, 1, 6, 6), shift, kernel_size=3, stride=2),
        case("inexact, ceil", (1, 2, 6, 6), shift, kernel_size=3, stride=2, **ceil),
        case("ceil, padded", (1, 1, 5, 6), shift, kernel_size=3, stride=3, padding=1, **ceil),
        case(
            "ceil, larger than the map", (2, 1, 1, 2), shift, kernel_size=(2, 3), stride=2, **ceil
        ),
        case("ceil, last dropped", (1, 1, 4, 3), shift, kernel_size=2, padding=1, **ceil),
        case("1x1 maps", (3, 2, 1, 1), shift, kernel_size=1),
        case("3x3 on 1x1 maps", (2, 2, 1, 1), shift, kernel_size=3, padding=1),
    ]


def dilated(shift: float) -> list[Case]:
    return [
        case("dilated", (1, 2, 5, 6), shift, kernel_size=2, stride=1, dilation=(2, 3)),
        case(
            "dilated, padded", (1, 1, 5, 5), shift, kernel_size=3, dilation=2, padding=2, stride=2
        ),
    ]


def uncounted() -> list[Case]:
    """Both ways of counting the padding."""
    settings = [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 2), "stride": 2, "padding": 1, "ceil_mode": True},
    ]
    return [
        case(f"padding {name} {i}", (1, 1, 5, 6), 0.0, count_include_pad=count, **kwargs)
        for name, count in (("counted", True), ("not counted", False))
        for i, kwargs in enumerate(settings)
    ]


def taps_of(x, kernel_size, **kwargs) -> int:
    return math.prod(as_pair(kernel_size))


# ------------------------------------------------------------------ faults


def zero_padding(pick):
    """Padding that counts as 0 in max and min pooling."""

    def replacement(right, x, window):
        y, tap = right(x, window)
        touches = np.zeros((window.oh, window.ow), bool)
        for i, j in indices((window.kh, window.kw)):
            rows = np.arange(window.oh) * window.sh + i * window.dh - window.ph
            columns = np.arange(window.ow) * window.sw + j * window.dw - window.pw
            outside = (rows < 0) | (rows >= window.h)
            touches |= outside[:, None] | ((columns < 0) | (columns >= window.w))[None]
        return np.where(touches, pick(y, np.zeros_like(y)), y), tap

    return replacement


def assigning(value_at):
    """A scatter whose windows overwrite each other; value_at(i, j, gy, ...) -> (value, where)."""

    def replacement(right, gy, *rest):
        window = rest[-1]
        gx = np.zeros((*gy.shape[:2], *window.reach), gy.dtype)
        for i, j in indices((window.kh, window.kw)):
            rows, columns = window.tap_slices(i, j)
            value, where = value_at(i, j, gy, *rest)
            gx[:, :, rows, columns] = np.where(where, value, gx[:, :, rows, columns])
        bottom, end = window.ph + window.h, window.pw + window.w
        return gx[:, :, window.ph : bottom, window.pw : end].copy()

    return replacement


def winner(i, j, gy, tap, window):
    return gy, tap == i * window.kw + j


def weighted(i, j, gy, taps, scale, window):
    return gy * (taps[i, j] * scale).astype(gy.dtype), True


def last_row_dropped(right, x, window):
    return right(x, window._replace(kh=max(window.kh - 1, 1)))


def other_extreme(right, x, window):
    y, tap = right(-x, window)
    return -y, tap


def to_every_tap(right, gy, tap, window):
    return sum(right(gy, np.full_like(tap, t), window) for t in range(window.taps))


def _stride_one(right, x, kernel_size, stride, *rest):
    return right(x, kernel_size, 1 if stride is None else stride, *rest)


def _floor(right, x, *rest):
    return right(x, *rest[:-2], False, rest[-1])


ARGUMENT_FAULTS = [
    broken_attribute("stride 1 by default", pooling, "pool_window", _stride_one),
    broken_attribute("ceil_mode ignored", pooling, "pool_window", _floor),
]


def selecting_faults(primitive: str, pick) -> list:
    return [
        *ARGUMENT_FAULTS,
        broken_kernel("padding counts as 0", primitive, zero_padding(pick)),
        broken_kernel("last row of the window dropped", primitive, last_row_dropped),
        broken_kernel("the other extreme", primitive, other_extreme),
        broken_kernel("= for += in overlapping windows", "max_pool2d_grad", assigning(winner)),
        broken_kernel("gradient to every tap", "max_pool2d_grad", to_every_tap),
        broken_kernel(
            "gradient to the first tap",
            "max_pool2d_grad",
            lambda right, gy, tap, window: right(gy, 0 * tap, window),
        ),
        broken_kernel(
            "rows and columns of the tap swapped",
            "max_pool2d_grad",
            lambda right, gy, tap, window: right(
                gy, tap % window.kh * window.kw + tap // window.kh, window
            ),
        ),
        *(
            other_window(name, where, change)
            for where in (primitive, "max_pool2d_grad")
            for name, change in (
                ("stride of the other axis", stride_swapped),
                ("padding of the other axis", padding_swapped),
                ("dilation ignored", dilation_ignored),
            )
        ),
    ]


def other_weights(change):
    """weighted_pool2d with other taps and divisors: change(taps, scale) -> (taps, scale)."""
    return lambda right, a, taps, scale, window: right(a, *change(taps, scale), window)


def _full_size(taps, scale):
    return taps, np.full_like(scale, 1 / taps.sum())


def _without_last_row(taps, scale):
    return np.vstack([taps[:-1], 0 * taps[-1:]]), scale


WEIGHING_FAULTS = [
    *ARGUMENT_FAULTS,
    broken_kernel("= for += in overlapping windows", "weighted_pool2d_grad", assigning(weighted)),
    broken_kernel("last row dropped", "weighted_pool2d", other_weights(_without_last_row)),
    *(
        other_window(name, where, change)
        for where in ("weighted_pool2d", "weighted_pool2d_grad")
        for name, change in (
            ("stride of the other axis", stride_swapped),
            ("padding of the other axis", padding_swapped),
        )
    ),
]
AVERAGING_FAULTS = [
    *WEIGHING_FAULTS,
    broken_kernel("overhang counted", "weighted_pool2d", other_weights(_full_size)),
    broken_kernel("overhang counted backward", "weighted_pool2d_grad", other_weights(_full_size)),
    broken_kernel("sum", "weighted_pool2d", other_weights(lambda t, s: (t, np.ones_like(s)))),
]


def _with_setting(function, **setting):
    return lambda x, **kwargs: function(x, **{**kwargs, **setting})


def _l2_backward(change):
    """The gradient of L2 pooling computed as change(right gradient, x)."""
    return lambda right, self, k, gy: change(right(self, k, gy), self.saved[0])


SPECS = [
    OpSpec(
        "max_pool2d",
        F.max_pool2d,
        [*geometries(-2.0), *dilated(-2.0), case("both signs", (2, 2, 5, 5), 0.0, kernel_size=3)],
        oracle=selecting(max),
        terms=0,
        faults=selecting_faults("max_pool2d", np.maximum),
    ),
    OpSpec(
        "min_pool2d",
        F.min_pool2d,
        [*geometries(2.0), *dilated(2.0), case("both signs", (2, 2, 5, 5), 0.0, kernel_size=3)],
        oracle=selecting(min),
        terms=0,
        faults=selecting_faults("min_pool2d", np.minimum),
    ),
    OpSpec(
        "avg_pool2d",
        F.avg_pool2d,
        [*geometries(), *uncounted()],
        oracle=weighing(equal_weight, counted_by_default=True),
        terms=taps_of,
        faults=[
            *AVERAGING_FAULTS,
            broken_function(
                "padding always counted", _with_setting(F.avg_pool2d, count_include_pad=True)
            ),
            broken_function(
                "padding never counted", _with_setting(F.avg_pool2d, count_include_pad=False)
            ),
        ],
    ),
    OpSpec(
        "distance_weighted_pool2d",
        F.distance_weighted_pool2d,
        [
            *geometries(),
            *uncounted(),
            case("gaussian", (2, 1, 5, 6), kernel_size=(3, 4), stride=2, falloff="gaussian"),
        ],
        oracle=weighing(distance_weight, counted_by_default=False),
        terms=taps_of,
        faults=[
            *AVERAGING_FAULTS,
            broken_function(
                "falloff ignored", _with_setting(F.distance_weighted_pool2d, falloff="inverse")
            ),
            broken_function(
                "padding always counted",
                _with_setting(F.distance_weighted_pool2d, count_include_pad=True),
            ),
            broken_kernel(
                "weights squared", "weighted_pool2d", other_weights(lambda t, s: (t * t, s))
            ),
            broken_kernel(
                "plain weights backward",
                "weighted_pool2d_grad",
                other_weights(lambda t, s: (np.full_like(t, t.mean()), s)),
            ),
        ],
    ),
    OpSpec(
        "l2_pool2d",
        F.l2_pool2d,
        geometries(),
        oracle=l2_oracle,
        terms=taps_of,
        faults=[
            *WEIGHING_FAULTS,
            broken_attribute(
                "root of the mean square",
                pooling.L2Pool2d,
                "forward",
                lambda right, self, k, x: right(self, k, x) / self.window.taps**0.5,
            ),
            broken_kernel("no root", "power", lambda right, x, exponent: x * 1.0),
            broken_attribute(
                "factor 2 backward",
                pooling.L2Pool2d,
                "backward",
                _l2_backward(lambda gx, x: 2 * gx),
            ),
            broken_attribute(
                "sign lost backward",
                pooling.L2Pool2d,
                "backward",
                _l2_backward(lambda gx, x: gx * (abs(x) / x)),
            ),
        ],
    ),
]
