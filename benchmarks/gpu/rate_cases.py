"""The calls that the stage ``kernels`` times: primitives at sizes that occupy a whole device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn_kernels.geometry import Window2d

Make = Callable[[Any, np.random.Generator], tuple[Any, ...]]  # takes xp and a generator

EPS = 1e-5
PERIOD = 4_194_301  # a prime, so that no row repeats another
#: name, N, C, H, F, kernel, stride: 3x3 layers at three batches, then layers that exist
SQUARE = ((1, 28, 32), (32, 28, 64), (64, 14, 128), (64, 32, 64), (256, 16, 256))
BATCHES = (64, 512, 2000)
LAYERS = (
    ("notes, conv1", 512, 1, 28, 16, 5, 1),
    ("notes, conv2", 512, 16, 14, 32, 5, 1),
    ("resnet20, conv2 3x3", 256, 16, 32, 16, 3, 1),
    ("resnet50, conv1 7x7", 64, 3, 224, 64, 7, 2),
    ("resnet50, conv2 1x1", 64, 256, 56, 64, 1, 1),
    ("resnet50, conv3 3x3 stride 2", 64, 128, 56, 128, 3, 2),
    ("resnet50, conv5 1x1", 64, 2048, 7, 512, 1, 1),
)
LINEARS = {"notes, top": (2048, 1568, 10), "4096 x 4096": (512, 4096, 4096)}
MAPS = {
    "notes, first stage": (2048, 16, 28, 28),
    "resnet50, stem": (64, 64, 112, 112),
    "resnet50, third stage": (64, 1024, 14, 14),
}
PARAMETERS = {"resnet50": [(256, 64, 3, 3)] * 20 + [(512, 512, 3, 3)] * 8 + [(64,)] * 60}
ROWS = {"1000 classes": (4096, 1000)}
PICTURES = {"cifar-10, batch 8192": (8192, 3, 32, 32)}


@dataclass(frozen=True)
class Case:
    """A primitive at one size: makes its arguments; operations; numbers added for one result.

    ``in_place`` are the arguments that the call changes. ``tf32`` says that its products may be
    rounded to TF32. ``main_only``: of several batches of one layer, the teaching sets run one.
    """

    primitive: str
    size: str
    make: Make
    operations: int = 0
    terms: int = 1
    in_place: tuple[int, ...] = ()
    tf32: bool = False
    main_only: bool = False

    def results(self, k: Any, arguments: tuple[Any, ...]) -> list[Any]:
        """The arrays that a call makes or changes."""
        result = getattr(k, self.primitive)(*arguments)
        if self.in_place:
            return list(arrays(arguments[i] for i in self.in_place))
        return list(arrays(result if isinstance(result, tuple) else (result,)))

    def bytes_moved(self, arguments: tuple[Any, ...], results: list[Any]) -> int:
        """What has to be read once and written once; arguments are read, results written."""
        return sum(a.nbytes for a in arrays((*arguments, *results)))


def arrays(values: Any) -> Iterator[Any]:
    """The device arrays among values and in the lists among them."""
    for value in values:
        if isinstance(value, list):
            yield from arrays(value)
        elif hasattr(value, "nbytes") and not isinstance(value, np.ndarray | np.generic):
            yield value


def normal(*shapes: tuple[int, ...]) -> Make:
    """Normally distributed float32 maps; those of a hundred million numbers repeat some."""

    def make(xp: Any, rng: np.random.Generator) -> tuple[Any, ...]:
        return tuple(_filled(xp, rng, shape) for shape in shapes)

    return make


def _filled(xp: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    flat = xp.empty(math.prod(shape), np.float32)
    drawn = xp.asarray(rng.standard_normal(min(flat.size, PERIOD), np.float32))
    for start in range(0, flat.size, PERIOD):
        flat[start : start + PERIOD] = drawn[: flat.size - start]
    return flat.reshape(shape)


def cases(quick: bool) -> Iterator[Case]:
    """All of them; small ones where ``quick``."""
    shrink = _tiny if quick else lambda *sizes: sizes
    yield from _convolutions(quick, shrink)
    for name, sizes in LINEARS.items():
        yield from _linear(name, *shrink(*sizes))
    for name, shape in list(MAPS.items())[: 1 if quick else None]:
        yield from _maps(name, shrink(*shape))
    for name, shapes in PARAMETERS.items():
        yield from _steps(name, [shrink(*shape) for shape in shapes[:: 29 if quick else 1]])
    for name, shape in ROWS.items():
        yield from _losses(name, *shrink(*shape))
    for name, shape in PICTURES.items():
        yield _gathering(name, *shrink(*shape))


def _tiny(*sizes: int) -> tuple[int, ...]:
    """The same geometry with a few numbers: batch 2, up to 4 channels, maps up to 8."""
    limits = (2, 4, 8, 8, 4) if len(sizes) > 2 else (4, 8)
    return tuple(min(size, limit) for size, limit in zip(sizes, limits, strict=False))


def _convolutions(quick: bool, shrink: Any) -> Iterator[Case]:
    for N in BATCHES[:1] if quick else BATCHES:
        for C, H, F in SQUARE[:2] if quick else SQUARE:
            sizes = shrink(N, C, H, H, F)
            yield from _convolution(f"{C} to {F} at {H}, batch {N}", sizes, 3, 1, BATCHES[1] != N)
    for name, N, C, H, F, kernel, stride in LAYERS[1::3] if quick else LAYERS:
        yield from _convolution(name, shrink(N, C, H, H, F), kernel, stride)


def _convolution(
    name: str, sizes: tuple[int, ...], kernel: int, stride: int, main_only: bool = False
) -> Iterator[Case]:
    N, C, H, W, F = sizes
    last: dict[str, Any] = {"tf32": True, "main_only": main_only}
    window = Window2d.of((H, W), kernel, stride, kernel // 2)
    x, w, gy = (N, C, H, W), (F, C, kernel, kernel), (N, F, window.oh, window.ow)
    pixels, products = N * window.oh * window.ow, C * window.taps
    work = 2 * pixels * F * products
    rest = (window, 1)
    yield Case("conv2d", name, _with(normal(x, w, (F,)), *rest), work, products, **last)
    products = F * window.taps
    yield Case("conv2d_grad_input", name, _with(normal(gy, w), *rest), work, products, **last)
    yield Case("conv2d_grad_weight", name, _with(normal(gy, x), *rest), work, pixels, **last)


def _with(make: Make, *rest: Any) -> Make:
    return lambda xp, rng: (*make(xp, rng), *rest)


def _linear(name: str, N: int, K: int, F: int) -> Iterator[Case]:
    work = 2 * N * K * F
    yield Case("linear", name, normal((N, K), (F, K), (F,)), work, K, tf32=True)
    yield Case("linear_grad_input", name, normal((N, F), (F, K)), work, F, tf32=True)
    yield Case("linear_grad_weight", name, normal((N, F), (N, K)), work, N, tf32=True)


def _maps(name: str, shape: tuple[int, ...]) -> Iterator[Case]:
    N, _, H, W = shape
    cells = N * H * W
    half = Window2d.of((H, W), 2)
    overlapping = Window2d.of((H, W), 3, 2, 1)
    yield Case("relu", name, normal(shape))
    yield Case("relu_grad", name, normal(shape, shape))
    yield Case("add", name, normal(shape, shape))
    yield Case("tanh", name, normal(shape), terms=4)
    yield Case("dropout", name, _with(normal(shape), 0.5, 12345, 1))
    for window, kind in ((half, "2x2"), (overlapping, "3x3 stride 2")):
        yield Case("max_pool2d", f"{name}, {kind}", _with(normal(shape), window))
        yield Case("max_pool2d_grad", f"{name}, {kind}", _taps(shape, window), 0, window.taps)
    mean = np.ones((2, 2)), np.full((half.oh, half.ow), 0.25), half
    yield Case("weighted_pool2d", f"{name}, 2x2", _with(normal(shape), *mean), 0, 4)
    yield Case("batch_norm_statistics", name, normal(shape), 0, cells)
    yield Case("batch_norm_eval", name, _statistics(shape, with_gy=False), 0, 4)
    yield Case("batch_norm_relu", name, _with(_statistics(shape, with_gy=False), None), 0, 4)
    yield Case("batch_norm_grad", name, _statistics(shape, with_gy=True), 0, cells)
    yield Case(
        "batch_norm_relu_max_pool2d", f"{name}, 2x2",
        _with(_statistics(shape, with_gy=False), half), 0, 4,
    )  # fmt: skip


def _taps(shape: tuple[int, ...], window: Window2d) -> Make:
    def make(xp: Any, rng: np.random.Generator) -> tuple[Any, ...]:
        N, C = shape[:2]
        gy = rng.standard_normal((N, C, window.oh, window.ow), np.float32)
        inner = window.kh // 2 * window.kw + window.kw // 2  # a tap that is never in the padding
        return xp.asarray(gy), xp.full(gy.shape, inner, np.uint8), window

    return make


def _statistics(shape: tuple[int, ...], with_gy: bool) -> Make:
    """Arguments of batch norm: (gy,) x, w, (b,) mean, var, eps."""

    def make(xp: Any, rng: np.random.Generator) -> tuple[Any, ...]:
        C = shape[1]
        x, w, b, mean, var = normal(shape, *[(C,)] * 4)(xp, rng)
        var = 1 + var * var
        if not with_gy:
            return x, w, b, mean, var, EPS
        (gy,) = normal(shape)(xp, rng)
        return gy, x, w, mean, var, EPS

    return make


def _steps(name: str, shapes: list[tuple[int, ...]]) -> Iterator[Case]:
    sgd, adam = (1e-6, 0.9, 0.0, 5e-4, False), (10, 1e-6, (0.9, 0.999), 1e-8, 0.0, False)

    def lists(count: int) -> Make:
        def make(xp: Any, rng: np.random.Generator) -> tuple[Any, ...]:
            *others, last = (list(normal(*shapes)(xp, rng)) for _ in range(count))
            return *others, [0.1 + a * a for a in last]  # a second moment is positive

        return make

    yield Case("sgd_step", name, _with(lists(3), *sgd), 0, 4, in_place=(0, 2))
    yield Case("adam_step", name, _with(lists(4), *adam), 0, 4, in_place=(0, 2, 3))


def _losses(name: str, N: int, K: int) -> Iterator[Case]:
    def targets(xp: Any, rng: np.random.Generator) -> tuple[Any, ...]:
        q = np.eye(K, dtype=np.float32)[rng.integers(0, K, N)]
        return xp.asarray(rng.standard_normal((N, K), np.float32)), xp.asarray(q)

    def probabilities(xp: Any, rng: np.random.Generator) -> tuple[Any, ...]:
        x, q = targets(np, rng)
        e = np.exp(x)
        p = e / e.sum(axis=1, keepdims=True)
        return tuple(xp.asarray(a) for a in (rng.standard_normal(N, np.float32), p, q))

    yield Case("softmax", name, _with(normal((N, K)), 1), 0, K)
    yield Case("softmax_cross_entropy", name, targets, 0, K)
    yield Case("softmax_cross_entropy_grad", name, probabilities, 0, K)


def _gathering(name: str, N: int, C: int, H: int, W: int) -> Case:
    """The pictures of a batch, moved and mirrored, out of as many bytes; each is read once."""

    def make(xp: Any, rng: np.random.Generator) -> tuple[Any, ...]:
        images = rng.integers(0, 256, (N, C, H, W), np.uint8)
        mirrored = rng.integers(0, 2, N)
        top, step = rng.integers(-2, 3, N), 1 - 2 * mirrored
        placement = np.stack([top, (W - 1) * mirrored, step], axis=1).astype(np.int32)
        table = rng.standard_normal((C, 256), np.float32)
        moved = (xp.asarray(a) for a in (images, rng.permutation(N), placement))
        return *moved, (H, W), False, xp.asarray(table)

    return Case("gather_images", name, make, terms=0)
