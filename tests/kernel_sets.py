"""The kernel sets that tests run on, here: each that this machine can use.

Sets of a GPU are marked ``gpu``, so that ``pytest -m gpu`` runs exactly what needs the device. Two
environment variables serve such a run: MINICNN_TEST_SETS names the device sets to test ("cupy
cupy_cuda"; empty: what is bound to no set), and MINICNN_TEST_SEED draws other numbers for maps of
real sizes and whole networks. The small cases of the specs keep theirs, which lie away from kinks
and from sums that are 0 by chance.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from specs import SPECS

from minicnn_kernels import registry

USABLE = [name for name, reason in registry.availability().items() if reason is None]
ON_DEVICE = [name for name in USABLE if registry.load(name).device != "cpu"]
FRESH_SEED = int(os.environ.get("MINICNN_TEST_SEED", "0"))


def marked(name: str) -> Any:
    """A kernel set as a parameter of a test."""
    return pytest.param(name, marks=[pytest.mark.gpu] if name in ON_DEVICE else [])


each_backend = pytest.mark.parametrize("backend", [marked(name) for name in USABLE])
each_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
each_device_set = pytest.mark.parametrize(
    "backend",
    [marked(name) for name in ON_DEVICE]
    or [pytest.param("none", marks=[pytest.mark.gpu, pytest.mark.skip("no CUDA device")])],
)


def on_set(backend: str, array: np.ndarray) -> Any:
    """The array where the kernel set computes."""
    return registry.load(backend).xp.asarray(array)


def spec_of(name: str) -> Any:
    """The spec of a public function."""
    return next(spec for spec in SPECS if spec.name == name)
