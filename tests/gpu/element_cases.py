"""Arguments for every primitive of the CUDA C++ set but convolutions and products.

Sizes are odd, or 1, or just above a warp, a block or a vector, and small otherwise: on the CPU a
thread costs about a microsecond. The numbers are fresh for each case, and exact in float32, so that
the reference in float64 sees the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn_kernels.geometry import Window2d

Rng = np.random.Generator
EPS = 1e-5


@dataclass(frozen=True)
class Host:
    """An array that stays on the host: constants of a layer."""

    array: np.ndarray


@dataclass(frozen=True)
class Scalar:
    """A number that lies on the device."""

    value: float | int


@dataclass(frozen=True)
class Case:
    """A primitive with arguments: ``make`` draws them, ``terms`` are added up for one result."""

    name: str
    what: str
    make: Callable[[Rng], tuple[Any, ...]]
    terms: float = 4
    condition: float = 1
    in_place: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def normal(rng: Rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def positive(rng: Rng, *shape: int) -> np.ndarray:
    return np.abs(normal(rng, *shape)) + 0.5


def ties(rng: Rng, *shape: int) -> np.ndarray:
    """Many equal numbers, and two planes of the least there is."""
    x = rng.integers(0, 3, shape).astype(np.float64)
    x[0, 0], x[-1, -1] = -np.inf, np.inf
    return x


def broken(rng: Rng, *shape: int) -> np.ndarray:
    """Normal numbers with a NaN and both infinities among them."""
    x = normal(rng, *shape)
    places = rng.choice(x.size, 3, replace=False)
    x.reshape(-1)[places] = np.nan, np.inf, -np.inf
    return x


def _elementwise() -> list[Case]:
    cases = []
    for size in ((1,), (4097,), (3, 5, 7), (0, 4)):
        for name in ("relu", "sigmoid", "tanh"):
            cases.append(Case(name, f"{size}", lambda r, s=size: (normal(r, *s),)))
        for name in ("relu_grad", "sigmoid_grad", "tanh_grad", "add", "subtract", "multiply"):
            cases.append(Case(name, f"{size}", lambda r, s=size: (normal(r, *s), normal(r, *s))))
        cases += [
            Case("divide", f"{size}", lambda r, s=size: (normal(r, *s), positive(r, *s))),
            Case("leaky_relu", f"{size}", lambda r, s=size: (normal(r, *s), 0.25)),
            Case(
                "leaky_relu_grad",
                f"{size}",
                lambda r, s=size: (normal(r, *s), normal(r, *s), 0.25),
            ),
        ]
    for name in ("relu", "sigmoid", "tanh"):
        cases.append(Case(name, "NaN", lambda r: (broken(r, 37),)))
    for name in ("relu_grad", "sigmoid_grad", "tanh_grad", "add", "subtract", "multiply", "divide"):
        cases.append(Case(name, "NaN", lambda r: (broken(r, 37), broken(r, 37))))
    cases.append(Case("leaky_relu", "NaN", lambda r: (broken(r, 37), 0.25)))
    cases.append(Case("leaky_relu_grad", "NaN", lambda r: (broken(r, 37), broken(r, 37), 0.25)))
    return cases


WINDOWS = {
    "2x2": Window2d.of((6, 10), 2, 2),
    "2x2 with a row left over": Window2d.of((7, 10), 2, 2),
    "2x2 on an odd width": Window2d.of((6, 9), 2, 2),
    "3x3 overlapping, padded": Window2d.of((9, 7), 3, 2, 1),
    "dilated": Window2d.of((11, 10), (3, 2), (2, 3), (1, 0), (2, 3)),
    "ceil": Window2d.of((8, 11), 3, 2, 0, 1, True),
    "gaps": Window2d.of((10, 10), 2, 5),
    "1x1 map": Window2d.of((1, 1), 3, 1, 1),
    "wide taps": Window2d.of((20, 19), 17, 2),
}


def _pooling() -> list[Case]:
    cases = []
    for what, window in WINDOWS.items():
        shape, out = (2, 3, window.h, window.w), (2, 3, window.oh, window.ow)
        scale = np.linspace(0.5, 1, window.oh * window.ow).reshape(out[2:]).astype(np.float32)
        taps = np.linspace(-1, 2, window.taps).reshape(window.kh, window.kw).astype(np.float32)
        weights = Host(taps.astype(np.float64)), Host(scale.astype(np.float64))
        kind = np.uint8 if window.taps <= 256 else np.int32

        def grad(r: Rng, w: Window2d = window, o: Any = out, kind: Any = kind) -> Any:
            return normal(r, *o), r.integers(0, w.taps, o).astype(kind), w

        terms = window.taps
        for name in ("max_pool2d", "min_pool2d"):
            for kind_of, draw in (("", normal), (", ties", ties), (", NaN", broken)):
                cases.append(
                    Case(name, what + kind_of, lambda r, s=shape, w=window, d=draw: (d(r, *s), w))
                )
        cases += [
            Case("max_pool2d_grad", what, grad, terms),
            Case(
                "weighted_pool2d",
                what,
                lambda r, s=shape, w=window, h=weights: (normal(r, *s), *h, w),
                terms,
            ),
            Case(
                "weighted_pool2d_grad",
                what,
                lambda r, s=out, w=window, h=weights: (normal(r, *s), *h, w),
                terms,
            ),
        ]
    cases.append(Case("max_pool2d", "empty", lambda r: (normal(r, 0, 3, 6, 10), WINDOWS["2x2"])))
    return cases


def _adaptive() -> list[Case]:
    cases = []
    for h, w, oh, ow in ((7, 5, 3, 2), (6, 9, 6, 3), (3, 4, 5, 7), (9, 15, 1, 1), (1, 1, 1, 1)):
        what = f"{h}x{w} to {oh}x{ow}"
        cells = h * w

        def position(r: Rng, s: Any = (h, w), o: Any = (oh, ow)) -> Any:
            return normal(r, 3, 5, *o), r.integers(0, s[0] * s[1], (3, 5, *o), np.int32), s

        def forward(draw: Any, s: Any = (3, 5, h, w), o: Any = (oh, ow)) -> Any:
            return lambda r: (draw(r, *s), o)

        def backward(r: Rng, s: Any = (3, 5, oh, ow), o: Any = (h, w)) -> Any:
            return normal(r, *s), o

        cases += [
            Case("adaptive_avg_pool2d", what, forward(normal), cells),
            Case("adaptive_avg_pool2d_grad", what, backward, cells),
            Case("adaptive_max_pool2d", what, forward(normal)),
            Case("adaptive_max_pool2d", what + ", ties", forward(ties)),
            Case("adaptive_max_pool2d_grad", what, position, cells),
            Case("adaptive_avg_pool2d", what + ", NaN", forward(broken), cells),
            Case("adaptive_max_pool2d", what + ", NaN", forward(broken)),
        ]
    # a bin whose winner is put where the bin lies, as the function itself would
    return [c for c in cases if not ("grad" not in c.name and "1x1 to" in c.what and "," in c.what)]


SHAPES = {
    "maps": (3, 5, 7, 9),
    "wide maps": (3, 5, 6, 10),
    "many numbers": (7, 2, 23, 20),
    "small maps": (70, 3, 2, 3),
    "vectors": (70, 37),
    "one cell": (2, 1, 1, 1),
    "more channels than a block": (2, 300, 4, 4),
}


def _affine(r: Rng, C: int, *, w: bool = True, b: bool = True) -> tuple[Any, ...]:
    return (
        normal(r, C) if w else None,
        normal(r, C) if b else None,
        normal(r, C),
        positive(r, C),
    )


def _batch_norm() -> list[Case]:
    cases = []
    for what, shape in SHAPES.items():
        N, C = shape[:2]
        count = int(np.prod(shape)) // C

        def statistics(draw: Any, s: Any = shape, far: float = 0.0) -> Any:
            return lambda r: (draw(r, *s) + far,)

        def forward(s: Any = shape, C: int = C, **given: bool) -> Any:
            return lambda r: (normal(r, *s), *_affine(r, C, **given), EPS)

        def skipping(s: Any = shape, C: int = C) -> Any:
            return lambda r: (normal(r, *s), *_affine(r, C), EPS, normal(r, *s))

        def backward(s: Any = shape, C: int = C, b: bool = False, **given: bool) -> Any:
            def make(r: Rng) -> Any:
                w, shift, mean, var = _affine(r, C, **given)
                return (
                    normal(r, *s), normal(r, *s), w, *((shift,) if b else ()), mean, var, EPS
                )  # fmt: skip

            return make

        cases += [
            Case("batch_norm_statistics", what, statistics(normal), count),
            # the variance of 1 is what remains of squares of a million
            Case("batch_norm_statistics", what + ", far off",
                 lambda r, s=shape: (np.round(normal(r, *s) * 8) / 8 + 1024.0,), count),
            Case("batch_norm_eval", what, forward(), condition=4),
            Case("batch_norm_eval", what + ", plain", forward(w=False, b=False), condition=4),
            Case("batch_norm_relu", what, skipping(), condition=4),
            Case("batch_norm_relu", what + ", no skip",
                 lambda r, f=forward(): (*f(r), None), condition=4),
            Case("batch_norm_grad", what, backward(), count, 4),
            Case("batch_norm_grad", what + ", plain", backward(w=False), count, 4),
            Case("batch_norm_eval_grad", what, backward(), count, 4),
            Case("batch_norm_relu_grad", what, backward(b=True), count, 4),
        ]  # fmt: skip
        if count > 20:
            cases.append(Case("batch_norm_statistics", what + ", NaN", statistics(broken), count))

        def move(r: Rng, C: int = C) -> Any:
            return normal(r, C), positive(r, C), normal(r, C), positive(r, C), 0.1, 17

        cases.append(Case("batch_norm_move", what, move, in_place=True))
    for what, window in WINDOWS.items():
        shape, out = (2, 3, window.h, window.w), (2, 3, window.oh, window.ow)
        kind = np.uint8 if window.taps <= 256 else np.int32

        def pool_grad(r: Rng, s: Any = shape, o: Any = out, w: Any = window, k: Any = kind) -> Any:
            taps = r.integers(0, w.taps, o).astype(k)
            return normal(r, *o), normal(r, *o), taps, normal(r, *s), *_affine(r, 3), EPS, w

        cases += [
            Case(
                "batch_norm_relu_max_pool2d",
                what,
                lambda r, s=shape, w=window: (normal(r, *s), *_affine(r, 3), EPS, w),
                condition=4,
            ),
            Case(
                "batch_norm_relu_max_pool2d_grad",
                what,
                pool_grad,
                window.taps + 6 * window.oh * window.ow,
                4,
            ),
        ]
    return cases


def _response_norm() -> list[Case]:
    cases = []
    for C, size, beta in ((1, 5, 0.75), (7, 5, 0.75), (33, 4, 0.6), (5, 1, 1.0), (40, 32, 0.75)):
        for cells in ((3, 5), (1, 1)):
            s = (2, C, *cells)
            what = f"{C} channels, size {size}, {cells[0]}x{cells[1]}"

            def forward(r: Rng, s: Any = s, size: int = size, beta: float = beta) -> Any:
                return normal(r, *s), size, 0.5, beta, 2.0

            def backward(r: Rng, s: Any = s, size: int = size, beta: float = beta) -> Any:
                return normal(r, *s), normal(r, *s), positive(r, *s) + 1, size, 0.5, beta

            cases += [
                Case("local_response_norm", what, forward, size),
                Case("local_response_norm_grad", what, backward, size),
            ]
    cases.append(
        Case("local_response_norm", "NaN", lambda r: (broken(r, 2, 40, 1, 2), 5, 0.5, 0.75, 2.0), 5)
    )
    return cases


def _rows() -> list[Case]:
    cases = []
    for rows, K in ((1, 1), (9, 10), (3, 33), (2, 1025), (2, 0), (0, 10)):
        what = f"{rows}x{K}"

        def one(draw: Any, far: float = 1.0, s: Any = (rows, K)) -> Any:
            return lambda r: (far * draw(r, *s), -1)

        def two(r: Rng, s: Any = (rows, K)) -> Any:
            return normal(r, *s), normal(r, *s), -1

        def loss(r: Rng, s: Any = (rows, K)) -> Any:
            q = positive(r, *s)
            q[:, ::3] = 0
            return normal(r, *s), q

        def loss_grad(r: Rng, s: Any = (rows, K)) -> Any:
            return normal(r, s[0]), normal(r, *s), positive(r, *s)

        cases += [
            Case("softmax_cross_entropy_grad", what, loss_grad, max(K, 1), 4),
            Case("softmax_grad", what, two, max(K, 1), 4),
            Case("log_softmax_grad", what, two, max(K, 1), 4),
        ]
        if not rows or not K:
            continue
        cases += [
            Case("softmax", what, one(normal), K, 4),
            Case("softmax", what + ", large", one(normal, 1024.0), K, 4),
            Case("log_softmax", what, one(normal), K),
            Case("log_softmax", what + ", large", one(normal, 1024.0), K),
            Case("softmax_cross_entropy", what, loss, K, 4),
        ]
        if K > 3:
            cases += [
                Case("softmax", what + ", NaN", one(broken), K, 4),
                Case("log_softmax", what + ", NaN", one(broken), K),
            ]
    least = [[-np.inf, 1.0, 2.0], [-np.inf] * 3, [np.inf, 0.0, 1.0]]
    cases.append(Case("softmax", "infinities", lambda r: (np.array(least), -1)))
    cases.append(
        Case("softmax_cross_entropy", "infinities", lambda r: (np.array(least), np.eye(3)[::-1]))
    )
    return cases


LISTS = {
    "one": [(1,)],
    "odd sizes": [(3, 5), (4097,), (1,), (0, 2), (9000,), (16,)],
    "more than a launch holds": [(2, 1 + i % 3) for i in range(170)],
}


def _lists() -> list[Case]:
    cases = []
    for what, sizes in LISTS.items():

        def some(r: Rng, draw: Any = normal, sizes: Any = sizes) -> Any:
            return [draw(r, *s) for s in sizes]

        def sgd(wd: float, nesterov: bool, velocities: bool = True, lr: Any = 0.1, f: Any = some):
            return lambda r: (
                f(r), f(r), f(r) if velocities else None, lr, 0.9, 0.1, wd, nesterov
            )  # fmt: skip

        def adam(step: Any, lr: Any, wd: float, decoupled: bool, f: Any = some):
            return lambda r: (
                f(r), f(r), f(r), f(r, positive), step, lr, (0.9, 0.999), 1e-8, wd, decoupled
            )  # fmt: skip

        def rms(lr: Any, wd: float, f: Any = some):
            return lambda r: (f(r), f(r), f(r, positive), f(r), lr, 0.99, 1e-8, wd, 0.9)

        cases += [
            Case("sgd_step", what, sgd(0.0, False), in_place=True),
            Case("sgd_step", what + ", Nesterov", sgd(0.01, True, True, Scalar(0.1)), 6,
                 in_place=True),
            Case("sgd_step", what + ", plain", sgd(0.01, False, False), in_place=True),
            Case("adam_step", what, adam(1, 0.01, 0.0, False), 8, in_place=True),
            Case("adam_step", what + ", decay", adam(Scalar(7.0), Scalar(0.01), 0.1, False), 8,
                 in_place=True),
            Case("adam_step", what + ", decoupled", adam(7, 0.01, 0.1, True), 8, in_place=True),
            Case("rmsprop_step", what, rms(0.01, 0.0), 8, in_place=True),
            Case("rmsprop_step", what + ", decay", rms(Scalar(0.01), 0.1), 8, in_place=True),
            Case("squared_norm", what, lambda r, f=some: (f(r),), 20000),
            Case("scale_by", what, lambda r, f=some: (f(r), 0.3), in_place=True),
            Case("scale_by", what + ", device", lambda r, f=some: (f(r), Scalar(0.3)),
                 in_place=True),
        ]  # fmt: skip
    return cases


def _masks() -> list[Case]:
    huge = 2**64 - 3
    cases = [
        Case("random_keep", "many", lambda r: (1000, 0.3, huge)),
        Case("random_keep", "none", lambda r: (0, 0.3, 5)),
        Case("random_keep", "key on the device", lambda r: (300, 0.5, Scalar(huge))),
    ]
    for shape, unit in (
        ((4099,), 1), ((0, 3), 1), ((6, 5, 7), 7), ((3, 4, 300), 300), ((9, 8), 8), ((5, 7), 35),
        ((600, 2), 2),
    ):  # fmt: skip
        for p in (0.4, 1.0):
            cases.append(
                Case("dropout", f"{shape} by {unit}, p {p}",
                     lambda r, s=shape, u=unit, p=p: (normal(r, *s), p, huge, u))
            )  # fmt: skip
    cases.append(Case("dropout", "key on the device", lambda r: (broken(r, 50), 0.5, Scalar(9), 1)))
    return cases


CASES = [
    *_elementwise(),
    *_pooling(),
    *_adaptive(),
    *_batch_norm(),
    *_response_norm(),
    *_rows(),
    *_lists(),
    *_masks(),
]
