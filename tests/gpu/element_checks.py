"""How a case is run on a device and compared with the reference in float64."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from element_cases import Case, Host, Scalar

from minicnn.testing.tolerance import assert_close, to_host
from minicnn_kernels.reference import Kernels


def drawn(case: Case) -> tuple[Any, ...]:
    return case.make(np.random.default_rng(zlib.crc32(str(case).encode())))


def run(kernels: Any, case: Case, layout: str = "plain") -> list[Any]:
    """Everything the primitive gives back, and what it leaves in its arguments."""
    args = [_on_device(a, layout) for a in drawn(case)]
    return _flat([getattr(kernels, case.name)(*args), args])


def check(kernels: Any, case: Case, layout: str = "plain") -> None:
    args = [_on_host(a) for a in drawn(case)]
    with np.errstate(all="ignore"):
        expected = _flat([getattr(Kernels(np), case.name)(*args), args])
    actual = run(kernels, case, layout)
    assert len(actual) == len(expected)
    for number, (a, e) in enumerate(zip(actual, expected, strict=True)):
        what = f"output {number} of {case} ({layout})"
        assert a.dtype.kind == e.dtype.kind, what
        assert_close(a, e, terms=case.terms, condition=case.condition, what=what)


def same_bits(kernels: Any, case: Case) -> list[bytes]:
    return [to_host(a).tobytes() for a in run(kernels, case)]


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple) and not hasattr(value, "taps"):
        return [a for part in value for a in _flat(part)]
    return [value] if hasattr(value, "dtype") and not isinstance(value, np.uint64) else []


def _on_host(value: Any) -> Any:
    if isinstance(value, list):
        return [_on_host(a) for a in value]
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Host):
        return value.array
    return value.value if isinstance(value, Scalar) else value


def _on_device(value: Any, layout: str) -> Any:
    import cupy

    if isinstance(value, list):
        return [_on_device(a, layout) for a in value]
    if isinstance(value, Scalar):
        dtype = np.uint64 if isinstance(value.value, int) else np.float64
        return cupy.asarray(np.array(value.value, dtype))
    if not isinstance(value, np.ndarray):
        return _on_host(value)
    if value.dtype == np.float64:
        value = value.astype(np.float32)
    if layout == "odd":
        room = cupy.empty(value.size + 1, value.dtype)
        view = room[1:].reshape(value.shape)
        view[...] = cupy.asarray(value)
        return view
    if layout == "strided":
        return cupy.asarray(np.ascontiguousarray(value.T)).T
    return cupy.asarray(value)
