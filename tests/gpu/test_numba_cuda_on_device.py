"""The Numba CUDA set on a device: the cases of the simulator, and a step in a CUDA graph."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from gpu_sim.cases import CASES
from gpu_sim.simulator import arrays_of, wide

from minicnn.testing import assert_close
from minicnn_kernels import registry
from minicnn_kernels.reference import Kernels

REASON = registry.availability()["numba_cuda"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.filterwarnings("ignore:overflow encountered in scalar:RuntimeWarning"),
]
REFERENCE = Kernels(np)


def on_device(value: Any) -> Any:
    """Arguments on the device, but for the tables of a pooling layer, which stay with NumPy."""
    import cupy

    if type(value) in (list, tuple):
        return type(value)(on_device(v) for v in value)
    is_table = isinstance(value, np.ndarray) and value.dtype == np.float64 and value.ndim
    return cupy.asarray(value) if isinstance(value, np.ndarray) and not is_table else value


def found(values: Any) -> list[Any]:
    """The arrays of a result or of arguments, in order."""
    if isinstance(values, (list, tuple)):
        return [a for value in values for a in found(value)]
    return [values] if hasattr(values, "dtype") else []


@pytest.mark.parametrize("name", CASES)
def test_the_device_agrees_with_the_reference(name):
    case = CASES[name]
    kernels = registry.load("numba_cuda", strict=True)
    args, exact = on_device(case.build()), wide(case.build())
    result = getattr(kernels, case.primitive)(*args)
    with np.errstate(all="ignore"):
        expected = getattr(REFERENCE, case.primitive)(*exact)
    actual, correct = (args, exact) if expected is None else (result, expected)
    for ours, theirs in zip(found(actual), arrays_of(correct), strict=True):
        assert_close(ours, theirs, terms=case.terms, condition=case.condition)


@pytest.mark.skipif("NUMBA_ENABLE_CUDASIM" in os.environ, reason="the simulator captures nothing")
def test_a_graph_reads_its_numbers_anew():
    import cupy

    kernels = registry.load("numba_cuda", strict=True)
    rng = np.random.default_rng(4)
    p, g = rng.normal(size=(2, 3, 5)).astype(np.float32)
    param, grad, lr = cupy.asarray(p), cupy.asarray(g), cupy.asarray(0.5)
    warm = param.copy()
    kernels.sgd_step([warm], [grad], None, lr, 0.0, 0.0, 0.0, False)  # compiles
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.get_current_stream().synchronize()
    with stream:
        stream.begin_capture()
        kernels.sgd_step([param], [grad], None, lr, 0.0, 0.0, 0.0, False)
        graph = stream.end_capture()
        for rate in (0.5, 0.25):
            lr.set(np.array(rate), stream=stream)
            graph.launch(stream)
            p = p - np.float32(rate) * g
            assert_close(param.get(stream=stream), p, terms=4)
