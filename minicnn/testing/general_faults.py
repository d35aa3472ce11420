"""The faults that any operation can have, whatever it computes.

Each runs the right operation inside another op, `Tampered`, and spoils its result, its gradients or
the arrays that it was given.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from minicnn.autograd import Op, Tensor, apply
from minicnn.testing.spec import Fault, OpSpec
from minicnn.testing.tolerance import is_float, to_host

Array = Any


class Tampered(Op):
    """A whole operation as one op: the base of ops that spoil something.

    ``forward`` runs the operation on a graph of its own, ``backward`` walks back through that.
    """

    def __init__(self, spec: OpSpec, kwargs: dict[str, Any]) -> None:
        self.spec, self.kwargs = spec, kwargs

    def forward(self, k: Any, *arguments: Any) -> Array:
        """The operation's own result, spoiled."""
        self.arguments, self.xp = arguments, k.xp
        self.inputs = [
            Tensor(a, requires_grad=needed) if is_float(a) else a
            for a, needed in zip(arguments, self.needs, strict=True)
        ]
        self.inner = self.spec.function(*self.inputs, **self.kwargs)
        return self.result(self.inner.array)

    def backward(self, k: Any, gy: Array) -> Any:
        """The operation's own gradients, spoiled."""
        self.inner.backward(self.upstream(gy))
        grads = [t.grad if isinstance(t, Tensor) else None for t in self.inputs]
        return tuple(None if gx is None else self.gradient(i, gx, gy) for i, gx in enumerate(grads))

    def result(self, y: Array) -> Array:
        """Spoil the result."""
        return y

    def upstream(self, gy: Array) -> Array:
        """Spoil the upstream gradient."""
        return gy

    def gradient(self, i: int, gx: Array, gy: Array) -> Array:
        """Spoil the gradient gx by argument i."""
        return gx


def tampered(name: str, tampering: type[Tampered]) -> Fault:
    """A fault that runs the operation inside a `Tampered` op.

    >>> class Negated(Tampered):
    ...     def gradient(self, i, gx, gy):
    ...         return -gx
    >>> tampered("wrong sign", Negated).name
    'wrong sign'
    """

    @contextlib.contextmanager
    def plant(spec: OpSpec, backend: str) -> Iterator[OpSpec]:
        has_gradient = any(case.with_gradient(case.draw()) for case in spec.cases)

        def function(*arguments: Any, **kwargs: Any) -> Tensor:
            y = apply(tampering(spec, kwargs), *arguments)
            return y if has_gradient and not spec.integer else y.detach()

        yield dataclasses.replace(spec, function=function)

    return Fault(name, plant)


def general_faults(spec: OpSpec) -> list[Fault]:
    """The general faults that an operation can have: gradient faults only where it has gradients.

    >>> any(f.name == "zero gradient" for f in general_faults(OpSpec("f", abs, [], oracle=abs)))
    False
    """
    wanted = [case.with_gradient(case.draw()) for case in spec.cases]
    chosen = [*_RESULT_FAULTS]
    if any(case.nan for case in spec.cases):
        chosen.append(("NaN replaced by 0", _NanSwallowed))
    if any(case.batch for case in spec.cases):
        chosen.append(("empty batch gets a sample", _EmptyBatchGetsOne))
    if any(wanted):
        chosen += _GRADIENT_FAULTS
    if any(len(w) > 1 and w[0] == 0 for w in wanted):
        chosen.append(("gradients only together with that of argument 0", _OnlyTogether))
    return [tampered(name, tampering) for name, tampering in chosen]


class _OneResultOff(Tampered):
    def result(self, y: Array) -> Array:
        y = y.copy()
        y[(-1,) * y.ndim] += 1 if y.dtype.kind in "iu" else 0.01 * abs(y).max() + 0.01
        return y


class _WiderResult(Tampered):
    def result(self, y: Array) -> Array:
        return y.astype(np.float64)


class _InputChanged(Tampered):
    def result(self, y: Array) -> Array:
        y = y.copy()
        first = next(a for a in self.arguments if is_float(a))
        first[...] = 0
        return y


class _NeverTheSame(Tampered):
    calls: ClassVar[list[int]] = [0]

    def result(self, y: Array) -> Array:
        self.calls[0] += 1
        if self.calls[0] % 2:
            return y
        return y + 1 if y.dtype.kind in "iu" else self.xp.nextafter(y, y.dtype.type(np.inf))


class _StridesIgnored(Tampered):
    def forward(self, k: Any, *arguments: Any) -> Array:
        packed = (_packed(k.xp, a) if is_float(a) else a for a in arguments)
        return super().forward(k, *packed)


def _packed(xp: Any, a: Array) -> Array:
    strides = np.empty(a.shape, a.dtype).strides
    if xp is np:
        return np.lib.stride_tricks.as_strided(a, strides=strides)
    return xp.ndarray(a.shape, a.dtype, a.data, strides)


class _NanSwallowed(Tampered):
    def result(self, y: Array) -> Array:
        return self.xp.nan_to_num(y)


class _EmptyBatchGetsOne(Tampered):
    def result(self, y: Array) -> Array:
        return y if y.size else self.xp.zeros((1, *y.shape[1:]), y.dtype)


class _ZeroGradient(Tampered):
    def gradient(self, i: int, gx: Array, gy: Array) -> Array:
        return 0 * gx


class _DoubledGradient(Tampered):
    def gradient(self, i: int, gx: Array, gy: Array) -> Array:
        return 2 * gx


class _NegatedGradient(Tampered):
    def gradient(self, i: int, gx: Array, gy: Array) -> Array:
        return -gx


class _ElementDropped(Tampered):
    def gradient(self, i: int, gx: Array, gy: Array) -> Array:
        gx = gx.copy()
        places = np.argwhere(to_host(gx))
        if len(places):
            gx[tuple(places[-1].tolist())] = 0
        return gx


class _UpstreamOfOnes(Tampered):
    def upstream(self, gy: Array) -> Array:
        return self.xp.ones_like(gy)


class _UpstreamChanged(Tampered):
    def gradient(self, i: int, gx: Array, gy: Array) -> Array:
        gy *= 2
        return gx


class _Baseless(np.ndarray):
    """An array that hides whose memory it shows, so that nobody thinks of copying it."""

    base = None


class _SharedMemory(Tampered):
    def gradient(self, i: int, gx: Array, gy: Array) -> Array:
        a = self.arguments[i]
        if self.xp is np:
            return a.view(_Baseless)
        return self.xp.ndarray(a.shape, a.dtype, a.data, a.strides)  # such an array has no base


class _BufferReused(Tampered):
    buffers: ClassVar[dict[Any, Array]] = {}

    def gradient(self, i: int, gx: Array, gy: Array) -> Array:
        buffer = self.buffers.setdefault((i, gx.shape, gx.dtype), gx.copy())
        buffer[...] = gx
        return buffer


class _OnlyTogether(Tampered):
    def gradient(self, i: int, gx: Array, gy: Array) -> Array:
        return gx if self.needs[0] else 0 * gx


_RESULT_FAULTS: list[tuple[str, type[Tampered]]] = [
    ("one result off by 1 %", _OneResultOff),
    ("float64 result from float32", _WiderResult),
    ("input changed in place", _InputChanged),
    ("another result at every second call", _NeverTheSame),
    ("strides of the arguments ignored", _StridesIgnored),
]
_GRADIENT_FAULTS: list[tuple[str, type[Tampered]]] = [
    ("zero gradient", _ZeroGradient),
    ("doubled gradient", _DoubledGradient),
    ("gradient with the wrong sign", _NegatedGradient),
    ("one element of the gradient dropped", _ElementDropped),
    ("upstream gradient taken as ones", _UpstreamOfOnes),
    ("upstream gradient changed in place", _UpstreamChanged),
    ("gradient in the memory of the argument", _SharedMemory),
    ("gradient in a buffer used again", _BufferReused),
]
