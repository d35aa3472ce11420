"""Compare analytic gradients with differences of function values, in float64.

For a function f, a random upstream gradient gy and a direction d, the slope at t = 0 of

    phi(t) = sum(gy * f(x + t * d))

must be sum(gx * d), with gx from backward. The slope is measured by central differences with steps
h, 2h and 4h, extrapolated (Richardson) to an error of order h**4; the disagreement of two such
estimates bounds what truncation and rounding can explain. The upstream gradient is always random:
one of ones hides every fault of a softmax or a batch norm, whose gradient is then 0.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from minicnn import random
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.testing.tolerance import CheckError, is_float, largest, show_index, to_host, tolerance
from minicnn_kernels import registry

Array = Any

EPS = float(np.finfo(np.float64).eps)
STEP = EPS**0.25  # of the spread of an argument; rounding then errs by eps**0.75 of the result
DIRECTIONS = 2
SHORTER_STEPS = 4
JACOBIAN_SIZE = 144  # arguments x results up to which every single derivative is measured


class GradientError(CheckError):
    """An analytic gradient that the function's values contradict."""


def gradcheck(
    function: Callable[..., Tensor],
    *arrays: Any,
    differentiable: Sequence[int] | None = None,
    rng: int | np.random.Generator = 0,
) -> None:
    """Raise `GradientError` unless backward agrees with differences of function values.

    function : takes a tensor for each floating-point array and other arguments as they are, returns
        one tensor; equal inputs must give equal results (pass ``key`` to dropout)
    arrays : the arguments; floating-point ones are converted to float64
    differentiable : numbers of the arguments to check; by default every floating-point array
    rng : seed or generator of the upstream gradient and the directions

    Checks slopes along random directions, and for tiny arguments every derivative of every result.
    Raises `ArgumentError` where there is no gradient to check. The inputs must lie away from kinks,
    where no slope exists: take them from `distinct`.

    >>> gradcheck(lambda x, y: (x * y).sum(), np.array([1.0, 2.0]), np.array([3.0, -4.0]))
    >>> gradcheck(lambda x: x * x.detach(), np.array([1.0, 2.0]))
    Traceback (most recent call last):
    ...
    minicnn.testing.gradcheck.GradientError: the gradient of argument 0 at [0] is 0.125730221, but
    central differences give 0.251460442 (allowed difference ...).
    """
    doubles = [_double(a) for a in arrays]
    wanted = [i for i, a in enumerate(doubles) if is_float(a)]
    if differentiable is not None:
        if not set(differentiable) <= set(wanted):
            raise ArgumentError(
                f"gradcheck: differentiable is {tuple(differentiable)}, but the floating-point "
                f"arrays are the arguments {tuple(wanted)}."
            )
        wanted = list(differentiable)
    if not wanted:
        given = "()" if differentiable is not None else ", ".join(map(_described, arrays))
        name = "arrays" if differentiable is None else "differentiable"
        raise ArgumentError(
            f"gradcheck: there is no gradient to check, {name} is {given or 'nothing'}; pass "
            "floating-point arrays, one after the other."
        )
    _check(_Function(function, wanted), doubles, wanted, np.random.default_rng(rng))


def gradcheck_module(module: Any, x: Any, rng: int | np.random.Generator = 0) -> None:
    """Raise `GradientError` unless the gradients by x and by every trained parameter are right.

    The module computes in float64 and, where it draws random masks, draws the same ones each time;
    afterwards parameters, gradients, buffers and the random generator are as they were.

    module : an `nn.Module` that takes one tensor and returns one
    x : floating-point array, the input

    >>> from minicnn import nn
    >>> gradcheck_module(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), np.ones((4, 3)))
    """
    generator = np.random.default_rng(rng)
    parameters = dict(module.named_parameters())
    with _restored(module, list(parameters.values())):
        subject = _Module(module, parameters)
        arrays = [_double(x), *(_double(p.array) for p in parameters.values())]
        trained = [i for i, p in enumerate(parameters.values(), 1) if p.requires_grad]
        _check(subject, arrays, [0, *trained], generator)


class _Subject(Protocol):
    def evaluate(self, arrays: Sequence[Array]) -> Array: ...

    def gradients(self, arrays: Sequence[Array], gy: Array) -> dict[int, Array | None]: ...

    def label(self, i: int) -> str: ...


class _Function:
    """A function of tensors; every call gets copies, so that nothing it does to them matters."""

    def __init__(self, function: Callable[..., Tensor], wanted: Sequence[int]) -> None:
        self.function = function
        self.wanted = wanted

    def evaluate(self, arrays: Sequence[Array]) -> Array:
        return _result(self.function(*self._tensors(arrays))).array

    def gradients(self, arrays: Sequence[Array], gy: Array) -> dict[int, Array | None]:
        tensors = self._tensors(arrays)
        _backward(self.function(*tensors), gy)
        return {i: tensors[i].grad for i in self.wanted}

    def label(self, i: int) -> str:
        return f"argument {i}"

    def _tensors(self, arrays: Sequence[Array]) -> list[Any]:
        return [
            Tensor(a.copy(), requires_grad=i in self.wanted)
            if is_float(a)
            else (a.copy() if hasattr(a, "copy") else a)
            for i, a in enumerate(arrays)
        ]


class _Module:
    """A module as a function of its input and parameters."""

    def __init__(self, module: Any, parameters: dict[str, Tensor]) -> None:
        self.module = module
        self.names = list(parameters)
        self.parameters = list(parameters.values())
        self.random_state = random.get_state()

    def evaluate(self, arrays: Sequence[Array]) -> Array:
        return self._run(arrays)[1].array

    def gradients(self, arrays: Sequence[Array], gy: Array) -> dict[int, Array | None]:
        x, y = self._run(arrays)
        _backward(y, gy)
        return {i: t.grad for i, t in enumerate((x, *self.parameters))}

    def label(self, i: int) -> str:
        return f"parameter {self.names[i - 1]!r}" if i else "the input"

    def _run(self, arrays: Sequence[Array]) -> tuple[Tensor, Tensor]:
        for parameter, array in zip(self.parameters, arrays[1:], strict=True):
            parameter.array, parameter.grad = array.copy(), None
        random.set_state(self.random_state)
        x = Tensor(arrays[0].copy(), requires_grad=True)
        return x, _result(self.module(x))


@contextlib.contextmanager
def _restored(module: Any, parameters: list[Tensor]) -> Iterator[None]:
    state, random_state = module.state_dict(), random.get_state()
    before = [(p.array, p.grad) for p in parameters]
    try:
        yield
    finally:
        for parameter, (array, grad) in zip(parameters, before, strict=True):
            parameter.array, parameter.grad = array, grad
        module.load_state_dict(state)
        random.set_state(random_state)


def _check(
    subject: _Subject, arrays: list[Array], wanted: Sequence[int], rng: np.random.Generator
) -> None:
    y = subject.evaluate(arrays)
    if not np.isfinite(to_host(y)).all():
        raise GradientError("the result holds NaN or infinity; move the input into the domain.")
    if not np.array_equal(to_host(y), to_host(subject.evaluate(arrays))):
        raise GradientError(
            "the function gives different results for equal inputs, so it has no slope to measure; "
            "fix its random key."
        )
    gy = rng.standard_normal(y.shape)
    analytic = subject.gradients(arrays, _like(y, gy))
    for i in wanted:
        gx = _known(subject, i, analytic[i], arrays[i])
        measured = _Measured(subject, arrays, i)
        for _ in range(DIRECTIONS if gx.size else 0):
            _check_slope(measured, gx, gy, rng.standard_normal(gx.shape))
        if 0 < gx.size * y.size <= JACOBIAN_SIZE:
            _check_jacobian(measured, y)


def _known(subject: _Subject, i: int, gx: Array | None, x: Array) -> np.ndarray:
    if gx is None:
        raise GradientError(f"{subject.label(i)} got no gradient.")
    host = to_host(gx)
    if host.shape != x.shape or host.dtype != np.float64:
        raise GradientError(
            f"the gradient of {subject.label(i)} is {host.dtype} {host.shape}, expected float64 "
            f"{x.shape}."
        )
    return host


class _Measured:
    """Measured derivatives of a function by one argument."""

    def __init__(self, subject: _Subject, arrays: list[Array], i: int) -> None:
        self.subject, self.arrays, self.i = subject, arrays, i
        self.label = subject.label(i)
        self.spread = _spread(arrays[i])
        self.magnitude = largest(arrays[i])
        self.y = to_host(subject.evaluate(arrays))

    def along(self, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-> the derivative of every result, and the errors that rounding and truncation explain.

        A step too long for the curvature of the function is shortened a few times.
        """
        h = STEP * self.spread
        for _ in range(SHORTER_STEPS):
            slope, rounding, doubt = self._with_step(h, direction)
            scale = max(float(np.abs(self.y).max(initial=0.0)) / self.spread, largest(slope))
            if (doubt <= math.sqrt(EPS) * scale + 8 * rounding).all():
                return slope, rounding + 8 * doubt
            h /= 8
        raise GradientError(
            f"the function is not smooth in {self.label}: even with steps of {8 * h:.1g} the slope "
            "depends on the step; move the input away from kinks (minicnn.testing.distinct)."
        )

    @functools.cache  # noqa: B019 - lives as long as one check
    def element(self, place: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The derivative of every result by one element, and its error."""
        direction = np.zeros(self.arrays[self.i].shape)
        direction[place] = 1.0
        return self.along(direction)

    def _with_step(self, h: float, direction: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """-> slopes, what rounding explains of their errors, and how far two estimates disagree."""
        d = _like(self.arrays[self.i], h * direction)
        y = {t: self._moved(t, d) for t in (-4, -2, -1, 1, 2, 4)}
        one, two, four = ((y[t] - y[-t]) / (2 * t * h) for t in (1, 2, 4))
        coarse, slope = (4 * two - four) / 3, (4 * one - two) / 3
        # both the results and the moved arguments are rounded
        rounded = np.abs(y[1]).max(initial=0.0) + self.magnitude * np.abs(slope).max(initial=0.0)
        # the slopes on the two sides differ by h * f'' where f is smooth, by a constant at a kink
        near, far = (np.abs(y[t] - 2 * self.y + y[-t]) / (t * h) for t in (1, 2))
        kink = np.where(near > 0.75 * far, near, 0.0)
        rounding = tolerance(slope.dtype, 1, rounded / h)
        return slope, rounding, np.maximum(np.abs(slope - coarse), np.maximum(kink - rounding, 0))

    def _moved(self, t: float, d: Array) -> np.ndarray:
        arrays = [a.copy() if j == self.i else a for j, a in enumerate(self.arrays)]
        arrays[self.i] += t * d
        return to_host(self.subject.evaluate(arrays))


def _check_slope(
    measured: _Measured, gx: np.ndarray, gy: np.ndarray, direction: np.ndarray
) -> None:
    if _agrees(measured, gx, gy, direction):
        return
    # some part of the direction disagrees: halve it until one element is left
    places = np.arange(gx.size)
    while len(places) > 1:
        first, second = np.array_split(places, 2)
        right = _agrees(measured, gx, gy, _only(direction, first))
        places = second if right else first
    slope, error = measured.along(_only(np.ones_like(direction), places))
    place = np.unravel_index(int(places[0]), gx.shape)
    raise GradientError(
        f"the gradient of {measured.label} at {show_index(place)} is {gx[place]:.9g}, but central "
        f"differences give {(gy * slope).sum():.9g} (allowed difference "
        f"{(abs(gy) * error).sum():.1g})."
    )


def _agrees(measured: _Measured, gx: np.ndarray, gy: np.ndarray, direction: np.ndarray) -> bool:
    slope, error = measured.along(direction)
    products = gx * direction
    allowed = (abs(gy) * error).sum() + tolerance(gx.dtype, gx.size, abs(products).sum())
    return bool(abs((gy * slope).sum() - products.sum()) <= allowed)


def _only(direction: np.ndarray, places: np.ndarray) -> np.ndarray:
    part = np.zeros_like(direction)
    part.flat[places] = direction.flat[places]
    return part


def _check_jacobian(measured: _Measured, y: Array) -> None:
    """Every derivative of every result by every element of the argument."""
    i, x, subject = measured.i, measured.arrays[measured.i], measured.subject
    for o, place in enumerate(np.ndindex(*y.shape)):
        gy = np.zeros(y.shape)
        gy[place] = 1.0
        gradient = subject.gradients(measured.arrays, _like(y, gy))[i]
        rows = _known(subject, i, gradient, x)
        for where in np.ndindex(*x.shape):
            numeric, error = measured.element(where)
            if not abs(rows[where] - numeric.flat[o]) <= error.flat[o]:
                raise GradientError(
                    f"the gradient of {measured.label} at {show_index(where)} by result "
                    f"{show_index(place)} is {rows[where]:.9g}, but central differences give "
                    f"{numeric.flat[o]:.9g} (allowed difference {error.flat[o]:.1g})."
                )


def _spread(x: Array) -> float:
    """Standard deviation; for a constant the magnitude, and for zeros 1."""
    host = to_host(x)
    if not host.size:
        return 1.0
    deviation, size = float(host.std()), float(np.abs(host).max())
    return deviation if deviation > math.sqrt(EPS) * size else size or 1.0


def _result(y: Any) -> Tensor:
    if not isinstance(y, Tensor):
        raise GradientError(f"the function returned a {type(y).__name__}, expected one tensor.")
    return y


def _backward(y: Tensor, gy: Array) -> None:
    if not _result(y).requires_grad:
        raise GradientError("the result does not require gradients, though the inputs do.")
    y.backward(gy)


def _described(a: Any) -> str:
    return f"an array of {a.dtype}" if hasattr(a, "ndim") and a.ndim else f"a {type(a).__name__}"


def _double(a: Any) -> Any:
    if isinstance(a, Tensor):
        a = a.array
    return a.astype(np.float64) if is_float(a) else a


def _like(array: Array, values: np.ndarray) -> Array:
    """NumPy values on the device of an array."""
    return registry.kernels_for("gradcheck", (array,)).xp.asarray(values)
