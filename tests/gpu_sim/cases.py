"""Calls of every primitive of the set, small enough for the simulator, which needs about 0.1 ms for
a thread and several for one that waits at barriers.

Small does not mean simple: in the simulator a block has 8 threads, a tile is 4 by 4 and a
grid-stride loop has 4 blocks at most, so that these sizes meet several blocks, unfull tiles, second
turns of the loops and sums in slices.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.reference import Kernels

EPS = 1e-5
UNEVEN = Window2d.of((5, 6), (3, 2), (2, 1), padding=1, dilation=(1, 2))
SAME = Window2d.of((4, 5), 3, padding=1)
STRIDED = Window2d.of((4, 5), 1, 2)
OVERHANG = Window2d.of((6, 4), 3, 2, ceil_mode=True)
POOL = Window2d.of((5, 4), (3, 2), (2, 1), padding=1, dilation=(1, 2))
WIDE = Window2d.of((17, 17), 17)


@dataclass(frozen=True)
class Case:
    """One call: ``build`` makes its arguments anew; see `minicnn.testing.assert_close`."""

    primitive: str
    build: Callable[[], tuple[Any, ...]]
    terms: float
    condition: float = 1.0


class Numbers:
    """Repeatable float32 arrays for the case of that name."""

    def __init__(self, name: str) -> None:
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32)

    def positive(self, *shape: int) -> np.ndarray:
        return self.rng.uniform(0.5, 1.5, shape).astype(np.float32)

    def special(self, *shape: int) -> np.ndarray:
        """With equal values, NaN and both infinities."""
        x = self.rng.integers(-2, 3, shape).astype(np.float32)
        some = x.flat[5 :: x.size // 4].size
        x.flat[5 :: x.size // 4] = np.resize([np.nan, np.inf, -np.inf, 1], some)
        return x

    def lists(self, count: int) -> list[list[np.ndarray]]:
        """Lists of 18 tensors (more than one launch takes), one of them long, one empty."""
        shapes = [(3, 5), (40,), (0,), ()] + [(i,) for i in range(1, 15)]
        return [[self.positive(*shape) for shape in shapes] for _ in range(count)]


CASES: dict[str, Case] = {}


def case(name: str, terms: float, condition: float = 1.0) -> Callable[[Any], Any]:
    """Enter a function of `Numbers` that gives the arguments of the primitive of its name."""

    def enter(build: Callable[[Numbers], tuple[Any, ...]]) -> Any:
        primitive = name.split(":")[0]
        CASES[name] = Case(primitive, lambda: build(Numbers(name)), terms, condition)
        return build

    return enter


def activations() -> None:
    for primitive in ("relu", "sigmoid", "tanh"):
        case(primitive, 4)(lambda d: (d.normal(7, 11),))
        case(f"{primitive}: special", 4)(lambda d: (d.special(9),))
        case(f"{primitive}_grad", 4)(lambda d: (d.normal(37), np.tanh(d.normal(37))))
    case("sigmoid: large", 4)(lambda d: (np.array([-200, -20, 20, 200], np.float32),))
    case("leaky_relu", 1)(lambda d: (d.normal(3, 15), 0.1))
    case("leaky_relu_grad", 1)(lambda d: (d.normal(37), d.normal(37), 0.1))


def convolutions() -> None:
    case("im2col", 0)(lambda d: (d.normal(1, 2, 5, 6), UNEVEN))
    case("col2im", UNEVEN.taps)(lambda d: (d.normal(1, 2, 3, 2, UNEVEN.oh, UNEVEN.ow), UNEVEN))
    for name, window, C, F, groups in (
        ("uneven", UNEVEN, 4, 6, 2),
        ("same", SAME, 1, 5, 1),
        ("depthwise", SAME, 2, 2, 2),
        ("strided", STRIDED, 5, 3, 1),
    ):
        terms = C // groups * window.taps
        shape, out = (1, C, window.h, window.w), (1, F, window.oh, window.ow)
        weights = F, C // groups, window.kh, window.kw
        fixed = window, groups

        def forward(d, shape=shape, weights=weights, fixed=fixed):
            return d.normal(*shape), d.normal(*weights), d.normal(weights[0]), *fixed

        def by_input(d, out=out, weights=weights, fixed=fixed):
            return d.normal(*out), d.normal(*weights), *fixed

        def by_weight(d, out=out, shape=shape, fixed=fixed):
            return d.normal(*out), d.normal(*shape), *fixed

        case(f"conv2d: {name}", terms)(forward)
        case(f"conv2d_grad_input: {name}", F // groups * window.taps)(by_input)
        case(f"conv2d_grad_weight: {name}", window.oh * window.ow)(by_weight)

    @case("conv2d: two images", 18)
    def _(d):
        return d.normal(2, 2, 4, 5), d.normal(2, 2, 3, 3), None, SAME, 1

    @case("conv2d_grad_weight: two images", 40)
    def _(d):
        return d.normal(2, 2, 4, 5), d.normal(2, 1, 4, 5), SAME, 1

    @case("conv2d_affine", 9)
    def _(d):
        return d.normal(1, 1, 4, 5), d.normal(3, 1, 3, 3), d.normal(3), d.normal(3), SAME, 1, True

    case("conv2d_grad_bias", 40)(lambda d: (d.normal(2, 3, 4, 5),))


def fully_connected() -> None:
    case("linear", 6)(lambda d: (d.normal(5, 6), d.normal(7, 6), d.normal(7)))
    case("linear: three axes", 3)(lambda d: (d.normal(2, 3, 3), d.normal(2, 3), None))
    case("linear_grad_input", 7)(lambda d: (d.normal(5, 7), d.normal(7, 6)))
    case("linear_grad_weight", 5)(lambda d: (d.normal(5, 7), d.normal(5, 6)))
    case("linear_grad_bias", 45)(lambda d: (d.normal(45, 3),))


def pooling() -> None:
    for primitive in ("max_pool2d", "min_pool2d"):
        case(primitive, 0)(lambda d: (d.normal(2, 2, 5, 4), POOL))
        case(f"{primitive}: special", 0)(lambda d: (d.special(1, 2, 6, 4), OVERHANG))
        worst = np.full((1, 1, 5, 4), -np.inf if primitive == "max_pool2d" else np.inf, np.float32)
        case(f"{primitive}: nothing better than the padding", 0)(lambda d, x=worst: (x, POOL))
    case("max_pool2d: wide", 0)(lambda d: (d.normal(1, 1, 17, 17), WIDE))

    @case("max_pool2d_grad", 9)
    def _(d):
        _, tap = Kernels(np).max_pool2d(d.normal(1, 2, 6, 4), OVERHANG)
        return d.normal(*tap.shape), tap, OVERHANG

    def weights(d):
        return d.normal(3, 2).astype(np.float64), d.positive(POOL.oh, POOL.ow).astype(np.float64)

    case("weighted_pool2d", 6, 2)(lambda d: (d.normal(1, 2, 5, 4), *weights(d), POOL))
    case("weighted_pool2d_grad", 6, 2)(
        lambda d: (d.normal(1, 2, POOL.oh, POOL.ow), *weights(d), POOL)
    )
    case("adaptive_avg_pool2d", 9)(lambda d: (d.normal(1, 2, 7, 5), (3, 2)))
    case("adaptive_avg_pool2d_grad", 4)(lambda d: (d.normal(1, 2, 3, 2), (7, 5)))
    case("adaptive_max_pool2d", 0)(lambda d: (d.special(1, 2, 7, 5), (3, 2)))

    @case("adaptive_max_pool2d_grad", 4)
    def _(d):
        _, position = Kernels(np).adaptive_max_pool2d(d.normal(1, 2, 7, 5), (3, 2))
        return d.normal(1, 2, 3, 2), position, (7, 5)


def batch_norm() -> None:
    def affine(d):
        w = d.normal(3)
        w[0] = -abs(w[0])  # so that a channel is turned round
        return w, d.normal(3)

    def statistics(d):
        return d.normal(3), d.positive(3), EPS

    def x(d):
        return d.normal(2, 3, 4, 2)

    case("batch_norm_statistics", 16, 4)(lambda d: (x(d) + np.float32(1),))
    case("batch_norm_statistics: matrix", 21, 4)(lambda d: (d.normal(21, 2),))
    case("batch_norm_move", 4)(
        lambda d: (d.normal(11), d.positive(11), d.normal(11), d.positive(11), 0.1, 40)
    )
    for primitive, skip in (("batch_norm_eval", ()), ("batch_norm_relu", (None,))):
        case(primitive, 4, 4)(lambda d, s=skip: (x(d), *affine(d), *statistics(d), *s))
        case(f"{primitive}: plain", 4, 4)(lambda d, s=skip: (x(d), None, None, *statistics(d), *s))
    case("batch_norm_relu: skip", 4, 4)(lambda d: (x(d), *affine(d), *statistics(d), x(d)))
    for primitive in ("batch_norm_eval_grad", "batch_norm_grad"):
        case(primitive, 16, 8)(lambda d: (x(d), x(d), affine(d)[0], *statistics(d)))
        case(f"{primitive}: plain", 16, 8)(lambda d: (x(d), x(d), None, *statistics(d)))
    case("batch_norm_relu_grad", 16, 8)(lambda d: (x(d), x(d), *affine(d), *statistics(d)))
    window = Window2d.of((4, 2), 2, 1)
    pooled = 4, 4
    case("batch_norm_relu_max_pool2d", *pooled)(
        lambda d: (x(d), *affine(d), *statistics(d), window)
    )

    @case("batch_norm_relu_max_pool2d_grad", 32, 8)
    def _(d):
        args = x(d), *affine(d), *statistics(d), window
        _, best, tap = Kernels(np).batch_norm_relu_max_pool2d(*args)
        return d.normal(*best.shape), best, tap, *args

    case("local_response_norm", 5, 2)(lambda d: (d.normal(1, 5, 2, 4), 4, 0.1, 0.75, 2.0))

    @case("local_response_norm_grad", 9, 4)
    def _(d):
        x = d.normal(1, 5, 2, 4)
        _, s = Kernels(np).local_response_norm(x, 4, 0.1, 0.75, 2.0)
        return d.normal(1, 5, 2, 4), x, s, 4, 0.1, 0.75


def softmax() -> None:
    for primitive in ("softmax", "log_softmax"):
        case(primitive, 5, 4)(lambda d: (d.normal(2, 5), 1))
        case(f"{primitive}: first axis", 3, 4)(lambda d: (d.normal(3, 2), 0))
        case(f"{primitive}: large", 5, 4)(
            lambda d: (np.float32([[300, -300, 299, 0, -np.inf]]), -1)
        )
        case(f"{primitive}: not a number", 5)(
            lambda d: (np.float32([[1, np.nan, 2, 0, 1], [0, 1, 2, 3, 4]]), 1)
        )

        @case(f"{primitive}_grad", 5, 4)
        def _(d, primitive=primitive):
            y = getattr(Kernels(np), primitive)(d.normal(2, 5), 1)
            return d.normal(2, 5), y, 1

    @case("softmax_cross_entropy", 5, 4)
    def _(d):
        x, q = d.normal(3, 5), d.positive(3, 5)
        x[0, 2], q[0, 2] = -np.inf, 0.0
        return x, q

    case("softmax_cross_entropy_grad", 5, 4)(
        lambda d: (d.normal(2), d.positive(2, 5), d.positive(2, 5))
    )


def dropout() -> None:
    key = 0x9E3779B97F4A7C15
    case("dropout", 1)(lambda d: (d.normal(5, 9), 0.4, key, 1))
    case("dropout: units", 1)(lambda d: (d.normal(6, 7), 0.4, 7, 7))
    case("dropout: everything", 0)(lambda d: (d.normal(3), 1.0, 7, 1))
    case("dropout: key in memory", 1)(lambda d: (d.normal(5, 9), 0.4, np.array(key, np.uint64), 1))
    case("random_keep", 0)(lambda d: (50, 0.5, key))


def batches() -> None:
    def images(d, placement):
        pixels = d.rng.integers(0, 256, (3, 2, 4, 5)).astype(np.uint8)
        return pixels, np.array([2, 0]), np.array(placement, np.int32)

    shifted = [[-1, -2, 1], [2, 5, -1]]  # the second one is turned round
    case("gather_images", 0)(lambda d: (*images(d, shifted), (4, 5), False, d.normal(2, 256)))
    case("gather_images: reflected", 0)(
        lambda d: (*images(d, shifted), (4, 5), True, d.normal(2, 256))
    )


def steps() -> None:
    sgd = 0.9, 0.1, 0.01
    case("sgd_step", 4)(lambda d: (*d.lists(3), 0.1, *sgd, False))
    case("sgd_step: nesterov", 4)(lambda d: (*d.lists(3), np.array(0.1), *sgd, True))
    case("sgd_step: plain", 4)(lambda d: (*d.lists(2), None, 0.1, 0.0, 0.0, 0.0, False))
    adam = (0.9, 0.99), 1e-8, 0.1
    case("adam_step", 8)(lambda d: (*d.lists(4), 3, 0.1, *adam, False))
    case("adam_step: decoupled", 8)(
        lambda d: (*d.lists(4), np.array(3.0), np.array(0.1), *adam, True)
    )
    case("rmsprop_step", 8)(lambda d: (*d.lists(4), 0.1, 0.9, 1e-8, 0.1, 0.9))
    case("squared_norm", 1)(lambda d: (d.lists(1)[0],))
    case("scale_by", 1)(lambda d: (d.lists(1)[0], np.array(0.5)))


for enter_all in (
    activations, convolutions, fully_connected, pooling, batch_norm, softmax, dropout, batches,
    steps,
):  # fmt: skip
    enter_all()
