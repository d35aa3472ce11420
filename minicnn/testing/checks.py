"""Every check of an operation, derived from its `OpSpec`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minicnn.autograd import Op, Tensor, no_grad
from minicnn.testing.gradcheck import gradcheck
from minicnn.testing.spec import Case, OpSpec
from minicnn.testing.tolerance import CheckError, assert_close, is_float, to_host
from minicnn_kernels import registry
from minicnn_kernels.precision import allow_tf32

Array = Any


def check_op(
    spec: OpSpec, backend: str | None = None, dtype: npt.DTypeLike = np.float64, seed: int = 0
) -> None:
    """Raise `CheckError` unless an operation does in every case what its spec declares.

    In each case: the result is the oracle's, in the right shape and dtype, twice the same bit by
    bit, of memory of its own, and the same for inputs that are not contiguous; a NaN shows. The
    gradients are right (in float64 by `gradcheck` under a random upstream gradient, in float32 by
    those of float64), the same for each argument alone, twice the same, of memory of their own.
    Inputs, upstream gradient and saved arrays are left as they were. An empty batch works.
    Products on a GPU are those of float32, not of TF32, while the checks run.

    spec : the operation
    backend : kernel set to use, by default the one in use on the CPU; with a set of a GPU all
        arrays live there
    dtype : np.float64 or np.float32
    seed : of the upstream gradients

    >>> from minicnn import functional as F
    >>> case = Case("plain", lambda rng: (rng.normal(size=(2, 3)),))
    >>> check_op(OpSpec("exp", F.exp, [case], oracle=np.exp))
    >>> check_op(OpSpec("exp", F.exp, [case], oracle=np.exp2), "numpy")
    Traceback (most recent call last):
    ...
    minicnn.testing.tolerance.CheckError: exp, case 'plain' (numpy, float64): the result differs
    at 6 of 6 places, ...
    """
    for case in spec.cases:
        check_case(spec, case, backend, dtype, seed)


def check_case(
    spec: OpSpec,
    case: Case,
    backend: str | None = None,
    dtype: npt.DTypeLike = np.float64,
    seed: int = 0,
) -> None:
    """Run the checks of `check_op` for one case.

    >>> from minicnn import functional as F
    >>> case = Case("plain", lambda rng: (rng.normal(size=(2, 3)),))
    >>> check_case(OpSpec("exp", F.exp, [], oracle=np.exp), case)
    """
    name = registry.selected() if backend is None else backend
    with registry.use_backend(name), allow_tf32(False):
        checker = _Checker(spec, case, name, np.dtype(dtype), seed)
        try:
            checker.run()
        except CheckError as error:
            place = f"{spec.name}, case {case.name!r} ({name}, {checker.dtype})"
            raise type(error)(f"{place}: {error}") from error


@dataclass
class _Run:
    """One forward and backward pass."""

    arguments: list[Any]
    y: Tensor
    grads: dict[int, Array | None]


class _Checker:
    """The checks of one case with one kernel set and dtype."""

    def __init__(
        self, spec: OpSpec, case: Case, backend: str, dtype: np.dtype[Any], seed: int
    ) -> None:
        self.spec, self.case, self.dtype, self.seed = spec, case, dtype, seed
        self.xp = registry.load(backend).xp
        self.drawn = case.draw()
        self.wanted = case.with_gradient(self.drawn)

    def run(self) -> None:
        """Every check; the cheap and telling ones first."""
        first = self.check_forward()
        self.check_graph(first)
        if self.wanted:
            self.check_gradients()
        self.check_layouts(first)
        if self.case.nan:
            self.check_nan()
        if self.case.batch:
            self.check_empty_batch(first)

    # -- values

    def check_forward(self) -> Tensor:
        """Values, dtype and shape against the oracle; determinism; memory."""
        arguments = self.arguments()
        before = _copies(arguments)
        y = self.call(arguments)
        expected = self.spec.expected(self.case, before)
        rounding = self.spec.rounding(self.case, before)
        if not self.spec.integer and y.dtype != self.dtype:
            raise CheckError(f"the result is {y.dtype} for {self.dtype} arguments.")
        if self.spec.integer and y.dtype.kind not in "iu":
            raise CheckError(f"the result is {y.dtype}, expected integers.")
        assert_close(y, expected[0], **rounding)
        for i, new in zip(self.case.updates, expected[1:], strict=True):
            assert_close(arguments[i], new, what=f"updated argument {i}", **rounding)
        self.check_untouched(arguments, before)
        if not self.case.view and any(self.shares(y.array, a) for a in arguments):
            raise CheckError("the result shares memory with an argument.")
        if not _equal(y.array, self.call(self.arguments()).array):
            raise CheckError("two runs give different results.")
        return y

    def check_nan(self) -> None:
        """A NaN in the first element of the first array must show in the result."""
        arguments = self.arguments()
        i = next(i for i, a in enumerate(arguments) if is_float(a))
        arguments[i][(0,) * arguments[i].ndim] = np.nan
        if not np.isnan(to_host(self.call(arguments))).any():
            raise CheckError(f"a NaN in the first element of argument {i} is lost.")

    def check_layouts(self, first: Tensor) -> None:
        """Arguments and an upstream gradient with gaps and reversed axes change nothing."""
        scattered = [self.scatter(a) if is_float(a) else a for a in self.arguments()]
        rounding = self.spec.rounding(self.case, self.arguments())
        y = self.call([a.copy() if i in self.case.updates else a for i, a in enumerate(scattered)])
        assert_close(y, first, what="the result for non-contiguous arguments", **rounding)
        if not self.wanted:
            return
        gy = self.upstream(first.shape)
        reference = self.differentiate(self.arguments(), gy)
        other = self.differentiate(scattered, self.scatter(gy))
        self.compare_gradients(other, reference, "for non-contiguous arrays")

    def check_empty_batch(self, first: Tensor) -> None:
        """No samples in, no samples out, and gradients of the right shapes."""
        empty = [a[:0] if i in self.case.batch else a for i, a in enumerate(self.arguments())]
        shape = (0, *first.shape[1:])
        y = self.call(empty)
        if y.shape != shape:
            raise CheckError(f"an empty batch gives shape {y.shape}, expected {shape}.")
        if not self.wanted:
            return
        result = self.differentiate(empty, self.upstream(shape))
        for i, gx in self.gradients_of(result):
            if gx.shape != empty[i].shape or to_host(gx).any():
                raise CheckError(
                    f"the gradient of argument {i} for an empty batch is not zeros of shape "
                    f"{empty[i].shape}."
                )

    # -- gradients

    def check_graph(self, first: Tensor) -> None:
        """Gradients are asked for exactly where an argument asks and no_grad does not forbid."""
        if first.requires_grad:
            raise CheckError("the result requires gradients, though no argument does.")
        if not self.wanted:
            if self.call(self.arguments(), range(len(self.drawn))).requires_grad:
                raise CheckError("the result requires gradients, though it has none.")
            return
        with no_grad():
            if self.call(self.arguments(), self.wanted).op is not None:
                raise CheckError("the result has a graph inside no_grad.")
        if not self.call(self.arguments(), self.wanted).requires_grad:
            raise CheckError("the result does not require gradients, though an argument does.")

    def check_gradients(self) -> None:
        """Values, dtypes and shapes; memory; each argument alone."""
        arguments = self.arguments()
        gy = self.upstream(self.call(arguments).shape)
        arguments = self.arguments()
        before, gy_before = _copies(arguments), gy.copy()
        one = self.differentiate(arguments, gy)
        self.check_untouched(arguments, before)
        if not _equal(gy, gy_before):
            raise CheckError("backward changes the upstream gradient.")
        self.check_memory(one, gy)
        self.check_repetition(one, gy)
        self.check_needs(one, gy)
        self.check_values(one, gy)

    def check_values(self, run: _Run, gy: Array) -> None:
        """float64 against differences of function values, other types against float64."""
        for i, gx in self.gradients_of(run):
            if gx.dtype != self.dtype or gx.shape != run.arguments[i].shape:
                raise CheckError(
                    f"the gradient of argument {i} is {gx.dtype} {gx.shape}, expected {self.dtype} "
                    f"{run.arguments[i].shape}."
                )
        if self.dtype == np.float64:
            gradcheck(
                lambda *tensors: self.spec.function(*tensors, **self.case.kwargs),
                *self.arguments(),
                differentiable=self.wanted,
                rng=self.seed,
            )
            return
        doubles = [a.astype(np.float64) if is_float(a) else a for a in self.arguments()]
        self.compare_gradients(run, self.differentiate(doubles, gy.astype(np.float64)), "")

    def check_repetition(self, one: _Run, gy: Array) -> None:
        """A second pass gives the same gradients in other memory, and leaves the first alone."""
        kept = {i: gx.copy() for i, gx in self.gradients_of(one)}
        two = self.differentiate(self.arguments(), gy)
        for i, gx in self.gradients_of(two):
            if not _equal(gx, kept[i]):
                raise CheckError(f"two runs give different gradients of argument {i}.")
            if self.shares(gx, one.grads[i]):
                raise CheckError(f"two runs share the memory of the gradient of argument {i}.")

    def check_needs(self, everything: _Run, gy: Array) -> None:
        """An argument that alone needs a gradient gets the same one; the others get none."""
        for i in self.wanted if len(self.wanted) > 1 else ():
            alone = self.differentiate(self.arguments(), gy, (i,))
            what = f"the gradient of argument {i} wanted alone"
            assert_close(
                alone.grads[i], everything.grads[i], what=what, **self.gradient_rounding(gy)
            )
            others = [j for j, gx in alone.grads.items() if j != i and gx is not None]
            if others:
                raise CheckError(f"argument {others[0]} got a gradient that was not asked for.")

    def check_memory(self, run: _Run, gy: Array) -> None:
        """A gradient shares memory with nothing else."""
        owners = {f"argument {i}": a for i, a in enumerate(run.arguments)}
        owners |= {"the upstream gradient": gy, "the result": run.y.array}
        owners |= {f"the gradient of argument {i}": g for i, g in run.grads.items()}
        for i, gx in self.gradients_of(run):
            mine = f"the gradient of argument {i}"
            for name, array in owners.items():
                if name != mine and self.shares(gx, array):
                    raise CheckError(f"{mine} shares memory with {name}.")

    # -- what the checks are made of

    def arguments(self) -> list[Any]:
        """Fresh copies of the arguments, on the device and in the dtype of the check."""
        return [
            self.xp.asarray(np.array(a, self.dtype if is_float(a) else a.dtype))
            if isinstance(a, np.ndarray)
            else a
            for a in self.drawn
        ]

    def call(self, arguments: Sequence[Any], wanted: Sequence[int] = ()) -> Tensor:
        """The function's result; tensors share the memory of the arguments."""
        return self.apply(arguments, wanted)[0]

    def apply(self, arguments: Sequence[Any], wanted: Sequence[int]) -> tuple[Tensor, list[Any]]:
        tensors = [
            Tensor(a, requires_grad=i in wanted) if is_float(a) else a
            for i, a in enumerate(arguments)
        ]
        y = self.spec.function(*tensors, **self.case.kwargs)
        if not isinstance(y, Tensor):
            raise CheckError(f"the function returned a {type(y).__name__}, expected a tensor.")
        return y, tensors

    def differentiate(
        self, arguments: list[Any], gy: Array, wanted: Sequence[int] | None = None
    ) -> _Run:
        """Forward and backward; what the graph saved must be left as it was."""
        wanted = self.wanted if wanted is None else wanted
        arguments = [a.copy() if i in self.case.updates else a for i, a in enumerate(arguments)]
        y, tensors = self.apply(arguments, wanted)
        saved = _saved_arrays(y)
        before = [a.copy() for a in saved]
        y.backward(gy)
        if not all(_equal(a, b) for a, b in zip(saved, before, strict=True)):
            raise CheckError("backward changes an array that forward saved.")
        grads = {i: tensors[i].grad for i in self.wanted}
        return _Run(arguments, y, grads)

    def gradients_of(self, run: _Run) -> list[tuple[int, Array]]:
        """(number of the argument, its gradient)."""
        missing = [i for i, gx in run.grads.items() if gx is None]
        if missing:
            raise CheckError(f"argument {missing[0]} got no gradient.")
        return list(run.grads.items())

    def compare_gradients(self, run: _Run, reference: _Run, situation: str) -> None:
        rounding = self.gradient_rounding(run.y.array)
        for i, gx in self.gradients_of(run):
            what = f"the gradient of argument {i} {situation}".rstrip()
            assert_close(gx, reference.grads[i], what=what, **rounding)

    def gradient_rounding(self, y: Array) -> dict[str, Any]:
        """An element of a gradient adds up at most one term for each result and each tap."""
        rounding = self.spec.rounding(self.case, self.drawn)
        return {**rounding, "terms": max(rounding["terms"], 1) + y.size}

    def upstream(self, shape: tuple[int, ...]) -> Array:
        """A random gradient of the result: never ones."""
        values = np.random.default_rng(self.seed).standard_normal(shape)
        return self.xp.asarray(values.astype(self.dtype))

    def scatter(self, a: Array) -> Array:
        """The same values with reversed axes in memory and NaN between them."""
        if not a.ndim:
            return a
        memory = self.xp.full(tuple(2 * n + 1 for n in reversed(a.shape)), np.nan, a.dtype)
        view = memory[(slice(1, None, 2),) * a.ndim].transpose()
        view[...] = a
        return view

    def shares(self, a: Any, b: Any) -> bool:
        arrays = isinstance(a, self.xp.ndarray) and isinstance(b, self.xp.ndarray)
        return arrays and bool(self.xp.may_share_memory(a, b))

    def check_untouched(self, arguments: list[Any], before: list[Any]) -> None:
        for i, (a, old) in enumerate(zip(arguments, before, strict=True)):
            if i not in self.case.updates and hasattr(a, "astype") and not _equal(a, old):
                raise CheckError(f"argument {i} is changed in place.")


def _saved_arrays(y: Tensor) -> list[Array]:
    """Every array that the graph behind a result keeps for backward."""
    found: list[Array] = []
    seen: set[int] = set()
    ops: list[Any] = [y.op]
    while ops:
        op = ops.pop()
        if isinstance(op, Op) and id(op) not in seen:
            seen.add(id(op))
            found += [a for a in op.saved if hasattr(a, "astype")]
            ops += op.parents
    return found


def _copies(arguments: Sequence[Any]) -> list[Any]:
    return [a.copy() if hasattr(a, "astype") else a for a in arguments]


def _equal(a: Array, b: Array) -> bool:
    a, b = to_host(a), to_host(b)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
