"""The whole set over the stand-in for CuPy, in the simulator: ``python -m gpu_sim.stand_in``.

The stand-in's arrays are no NumPy arrays, so this shows that the set treats CuPy's as CuPy's. Its
streams capture, which the simulator knows nothing of: here each start of a kernel is handed to the
stand-in, which records it with its arguments, as CUDA would.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import cupy
import numpy as np
from cupy import _capture

from minicnn.testing.tolerance import assert_close
from minicnn_kernels import registry
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cuda import device
from minicnn_kernels.reference import Kernels

REFERENCE = Kernels(np)
WINDOW = Window2d.of((4, 5), 3, padding=1)


def on_device(x: Any) -> Any:
    return cupy.asarray(np.asarray(x))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def results_are_arrays_of_cupy() -> None:
    kernels = registry.load("numba_cuda", strict=False)
    x, w = normal(1, 1, 2, 4, 5), normal(2, 3, 2, 3, 3)
    y = kernels.conv2d(on_device(x), on_device(w), None, WINDOW, 1)
    assert isinstance(y, cupy.ndarray)
    assert_close(y, REFERENCE.conv2d(x, w, None, WINDOW, 1), terms=18)
    _, var = kernels.batch_norm_statistics(on_device(x))
    assert_close(var, REFERENCE.batch_norm_statistics(x)[1], terms=20, condition=4)
    taps, scale = np.ones((3, 3)), np.full((4, 5), 1 / 9)
    pooled = kernels.weighted_pool2d(on_device(x), taps, scale, WINDOW)
    assert_close(pooled, REFERENCE.weighted_pool2d(x, taps, scale, WINDOW), terms=9, condition=4)
    assert_close(kernels.squared_norm([y]), (y.get().astype(np.float64) ** 2).sum(), terms=60)
    np.testing.assert_array_equal(
        kernels.random_keep(40, 0.5, on_device(np.array(7, np.uint64))).get(),
        REFERENCE.random_keep(40, 0.5, 7),
    )


def the_rest_is_computed_by_cupy() -> None:
    kernels = registry.load("numba_cuda", strict=False)
    x = normal(3, 4, 5)
    np.testing.assert_array_equal(kernels.add(on_device(x), 1.0).get(), x + np.float32(1))
    wide = kernels.relu(on_device(x.astype(np.float64)))
    assert wide.dtype == np.float64


def a_captured_step_reads_its_numbers_anew() -> None:
    kernels = registry.load("numba_cuda", strict=True)
    device.start = lambda kernel, grid, block, args: _capture.perform(
        lambda: kernel[grid, block](*args)
    )
    p, g = normal(4, 3, 5), normal(5, 3, 5)
    param, lr, key = on_device(p.copy()), on_device(np.array(0.5)), on_device(np.uint64(1))
    grad, keep = on_device(g), []
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        keep.append(kernels.dropout(grad, 0.5, key, 1))
        kernels.sgd_step([param], keep, None, lr, 0.0, 0.0, 0.0, False)
        graph = stream.end_capture()
    np.testing.assert_array_equal(param.get(), p)  # nothing has run yet
    for rate, number in ((0.5, 1), (0.25, 2)):
        lr.set(np.array(rate))
        key.set(np.array(number, np.uint64))
        graph.launch()
        p -= np.float32(rate) * REFERENCE.dropout(g, 0.5, number, 1)
        assert_close(param, p, terms=4)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "overflow encountered in scalar", RuntimeWarning)
    verdicts: dict[str, str | None] = {}
    for test in (
        results_are_arrays_of_cupy,
        the_rest_is_computed_by_cupy,
        a_captured_step_reads_its_numbers_anew,
    ):
        try:
            test()
            verdicts[test.__name__] = None
        except Exception as error:
            verdicts[test.__name__] = f"{type(error).__name__}: {error}"
    print(json.dumps(verdicts))
