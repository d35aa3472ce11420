"""The calls that kernels.py times: primitives of the hot path at the sizes of layers that exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from convolution_layers import NETWORKS, Layer

from minicnn_kernels.geometry import Window2d
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)
EPS = 1e-5
LRN = (5, 1e-4, 0.75, 2.0)  # size, alpha, beta, k of AlexNet

CONVOLUTIONS = {
    "notes": ("conv1", "conv2"),
    "vgg16": ("conv3_2",),
    "resnet50": ("conv2 3x3", "conv2 expand", "conv3 stride"),
}
MAPS = {
    "notes, first stage": (128, 16, 28, 28),
    "notes, second stage": (128, 32, 14, 14),
    "resnet18, first stage": (8, 64, 112, 112),
    "resnet18, third stage": (8, 256, 14, 14),
}
POOLS = {
    "notes, first 2x2": ((128, 16, 28, 28), 2, 2, 0),
    "notes, second 2x2": ((128, 32, 14, 14), 2, 2, 0),
    "alexnet, first 3x3 stride 2": ((16, 96, 55, 55), 3, 2, 0),
    "resnet18, 3x3 stride 2": ((8, 64, 112, 112), 3, 2, 1),
}
AVERAGES = {"densenet121, first 2x2": ((4, 128, 56, 56), 2, 2, 0)}
RESPONSES = {"alexnet, first": (16, 96, 55, 55), "alexnet, second": (16, 256, 27, 27)}
LINEARS = {"notes, top": (128, 1568, 10), "alexnet, second": (16, 4096, 4096)}
DROPOUTS = {"alexnet, first": (16, 4096), "1024 maps 14x14": (8, 1024, 14, 14)}
CLASSES = {"notes": (128, 10), "alexnet": (16, 1000)}
PARAMETERS = {"notes, second convolution": (32, 16, 5, 5), "alexnet, second linear": (4096, 4096)}
IN_PLACE = {"sgd_step": (0, 2), "adam_step": (0, 2, 3)}  # the arguments that are the result


@dataclass(frozen=True)
class Case:
    """A primitive at one layer: makes its arguments; operations; numbers added for one result."""

    primitive: str
    layer: str
    make: Callable[[np.random.Generator], tuple[Any, ...]]
    operations: int = 0
    terms: int = 1

    def arguments(self) -> tuple[Any, ...]:
        """Fresh arguments, float32, the same every time."""
        return self.make(np.random.default_rng(0))

    def results(self, kernels: Kernels, arguments: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """The arrays that a call makes or changes."""
        result = getattr(kernels, self.primitive)(*arguments)
        if self.primitive in IN_PLACE:
            return tuple(_arrays(arguments[i] for i in IN_PLACE[self.primitive]))
        return result if isinstance(result, tuple) else (result,)

    def bytes_moved(self, arguments: tuple[Any, ...], results: tuple[np.ndarray, ...]) -> int:
        """What has to be read once and written once, however large the cache."""
        return sum(a.nbytes for a in _arrays((*arguments, *results)))


def _arrays(values: Iterable[Any]) -> Iterator[np.ndarray]:
    """The arrays among values and in the lists among them."""
    for value in values:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, list):
            yield from value


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _convolutions()
    yield from _linears()
    yield from _pools()
    yield from _norms()
    yield from _elementwise()
    yield from _losses_and_steps()


def _normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[np.ndarray, ...]]:
    return lambda rng: tuple(rng.standard_normal(shape, np.float32) for shape in shapes)


def _with(make: Callable[..., tuple[Any, ...]], *rest: Any) -> Callable[..., tuple[Any, ...]]:
    return lambda rng: (*make(rng), *rest)


def _convolutions() -> Iterator[Case]:
    for network, wanted in CONVOLUTIONS.items():
        for layer in NETWORKS[network]:
            if layer.name in wanted:
                yield from _convolution(f"{network}, {layer.name}", layer)


def _convolution(name: str, layer: Layer) -> Iterator[Case]:
    window, depth = layer.window, layer.C // layer.groups
    x, w = (layer.N, layer.C, layer.H, layer.H), (layer.F, depth, layer.kernel, layer.kernel)
    gy, rest = (layer.N, layer.F, window.oh, window.ow), (window, layer.groups)
    pixels = layer.N * window.oh * window.ow
    work = 2 * pixels * layer.F * depth * window.taps
    products = depth * window.taps
    F = (layer.F,)
    yield Case("conv2d", name, _with(_normal(x, w, F), *rest), work, products)
    yield Case("conv2d_affine", name, _with(_normal(x, w, F, F), *rest, True), work, products)
    products = layer.F // layer.groups * window.taps
    yield Case("conv2d_grad_input", name, _with(_normal(gy, w), *rest), work, products)
    yield Case("conv2d_grad_weight", name, _with(_normal(gy, x), *rest), work, pixels)
    yield Case("conv2d_grad_bias", name, _normal(gy), 0, pixels)


def _linears() -> Iterator[Case]:
    for name, (N, K, F) in LINEARS.items():
        work = 2 * N * K * F
        yield Case("linear", name, _normal((N, K), (F, K), (F,)), work, K)
        yield Case("linear_grad_input", name, _normal((N, F), (F, K)), work, F)
        yield Case("linear_grad_weight", name, _normal((N, F), (N, K)), work, N)
        yield Case("linear_grad_bias", name, _normal((N, F)), 0, N)


def _pools() -> Iterator[Case]:
    for name, (shape, *sizes) in POOLS.items():
        window = Window2d.of(shape[2:], *sizes)
        yield Case("max_pool2d", name, _with(_normal(shape), window))
        yield Case("max_pool2d_grad", name, _taps(shape, window), 0, window.taps)
    for name, (shape, *sizes) in AVERAGES.items():
        window = Window2d.of(shape[2:], *sizes)
        taps = np.ones((window.kh, window.kw))
        rest = (taps, np.full((window.oh, window.ow), 1 / window.taps), window)
        y = (*shape[:2], window.oh, window.ow)
        yield Case("weighted_pool2d", name, _with(_normal(shape), *rest), 0, window.taps)
        yield Case("weighted_pool2d_grad", name, _with(_normal(y), *rest), 0, window.taps)


def _taps(shape: tuple[int, ...], window: Window2d) -> Callable[..., tuple[Any, ...]]:
    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        y, tap = REFERENCE.max_pool2d(rng.standard_normal(shape, np.float32), window)
        return rng.standard_normal(y.shape, np.float32), tap, window

    return make


def _norms() -> Iterator[Case]:
    for name, shape in MAPS.items():
        C = shape[1]
        cells = int(np.prod(shape)) // C
        yield Case("batch_norm_statistics", name, _normal(shape), 0, cells)
        yield Case("batch_norm_grad", name, _statistics(shape), 0, cells)
        yield Case("batch_norm_eval", name, _running(shape))
    for name, shape in RESPONSES.items():
        terms = LRN[0]
        yield Case("local_response_norm", name, _with(_normal(shape), *LRN), 0, terms)
        yield Case("local_response_norm_grad", name, _divisor(shape), 0, terms)


def _statistics(shape: tuple[int, ...]) -> Callable[..., tuple[Any, ...]]:
    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        gy, x, w = _normal(shape, shape, (shape[1],))(rng)
        return gy, x, w, x.mean((0, 2, 3)), x.var((0, 2, 3)), EPS

    return make


def _running(shape: tuple[int, ...]) -> Callable[..., tuple[Any, ...]]:
    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        x, w, b, mean, var = _normal(shape, *[(shape[1],)] * 4)(rng)
        return x, w, b, mean, 1 + var * var, EPS

    return make


def _divisor(shape: tuple[int, ...]) -> Callable[..., tuple[Any, ...]]:
    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        gy, x = _normal(shape, shape)(rng)
        s = REFERENCE.local_response_norm(x, *LRN)[1]
        return gy, x, s, *LRN[:3]

    return make


def _elementwise() -> Iterator[Case]:
    for name, shape in MAPS.items():
        yield Case("relu", name, _normal(shape))
        yield Case("relu_grad", name, _normal(shape, shape))
    for name, shape in DROPOUTS.items():
        yield Case("dropout", name, _with(_normal(shape), 0.5, 12345, 1))


def _losses_and_steps() -> Iterator[Case]:
    for name, (N, K) in CLASSES.items():
        yield Case("softmax_cross_entropy", name, _targets(N, K), 0, K)
        yield Case("softmax_cross_entropy_grad", name, _probabilities(N, K), 0, K)
    for name, shape in PARAMETERS.items():
        sgd = (1e-6, 0.9, 0.0, 5e-4, False)
        adam = (10, 1e-6, (0.9, 0.999), 1e-8, 0.0, False)
        yield Case("sgd_step", name, _with(_listed(_normal(*[shape] * 3)), *sgd), 0, 4)
        yield Case("adam_step", name, _moments(shape, adam), 0, 4)


def _targets(N: int, K: int) -> Callable[..., tuple[Any, ...]]:
    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        q = np.eye(K, dtype=np.float32)[rng.integers(0, K, N)]
        return rng.standard_normal((N, K), np.float32), q

    return make


def _probabilities(N: int, K: int) -> Callable[..., tuple[Any, ...]]:
    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        x, q = _targets(N, K)(rng)
        return rng.standard_normal(N, np.float32), REFERENCE.softmax_cross_entropy(x, q)[1], q

    return make


def _listed(make: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    return lambda rng: tuple([array] for array in make(rng))


def _moments(shape: tuple[int, ...], rest: tuple[Any, ...]) -> Callable[..., tuple[Any, ...]]:
    def make(rng: np.random.Generator) -> tuple[Any, ...]:
        p, g, m, v = _normal(*[shape] * 4)(rng)
        return [p], [g], [m], [0.1 + v * v], *rest

    return make
