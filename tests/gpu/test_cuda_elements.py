"""The CUDA C++ kernels but convolutions and products, against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
from element_cases import CASES
from element_checks import check, drawn, run, same_bits

from minicnn.testing.tolerance import to_host
from minicnn_kernels import registry
from minicnn_kernels.reference import Kernels

REASON = registry.availability()["cupy_cuda"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
EVERY = pytest.mark.parametrize("case", CASES, ids=str)
# What a device would do with few arrays at a time is not of interest for each layout and order.
SOME = pytest.mark.parametrize("case", CASES[::3], ids=str)


@pytest.fixture(scope="module")
def kernels():
    return registry.load("cupy_cuda", strict=True)


@pytest.fixture
def walking(monkeypatch):
    """Grids of two blocks, so that each thread takes many steps, and slices of few numbers."""
    from minicnn_kernels.cupy_cuda import batch_norm, dropout, modules

    monkeypatch.setattr(modules, "WALKERS", 2)
    monkeypatch.setattr(dropout, "WALKERS", 2)
    monkeypatch.setattr(batch_norm, "SLICE", 64)


@EVERY
def test_matches_the_reference(kernels, case):
    check(kernels, case)


@EVERY
def test_matches_the_reference_in_many_steps(kernels, case, walking):
    check(kernels, case)


@EVERY
def test_arrays_may_start_at_an_odd_address(kernels, case):
    check(kernels, case, "odd")


@pytest.mark.parametrize("case", [c for c in CASES[1::3] if not c.in_place], ids=str)
def test_views_with_strides_are_served(kernels, case):
    check(kernels, case, "strided")


@SOME
def test_every_order_of_threads_gives_the_same_bits(kernels, case, walking, monkeypatch):
    runs = []
    for order in ("0", "1", "5"):
        monkeypatch.setenv("MINICNN_CUDA_ORDER", order)  # on a GPU this is one more run
        runs.append(same_bits(kernels, case))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("case", [c for c in CASES if c.name == "dropout"], ids=str)
def test_masks_have_the_bits_of_the_reference(kernels, case):
    x, p, key, unit = drawn(case)
    with np.errstate(invalid="ignore"):
        expected = Kernels(np).dropout(x.astype(np.float32), p, getattr(key, "value", key), unit)
    np.testing.assert_array_equal(to_host(run(kernels, case)[0]), expected)


@pytest.mark.parametrize("case", [c for c in CASES if c.in_place][:1], ids=str)
def test_float64_goes_to_array_code(case):
    import cupy

    x = np.linspace(-1, 1, 12).reshape(3, 4)
    y = registry.load("cupy_cuda", strict=False).relu(cupy.asarray(x))
    assert y.dtype == np.float64
    np.testing.assert_array_equal(to_host(y), Kernels(np).relu(x))
