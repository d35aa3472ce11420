"""The kernel set that finds shapes without computing, and parameters without memory."""

import tracemalloc

import numpy as np
import pytest
from specs import SPECS

import minicnn
from minicnn import Tensor, nn
from minicnn.autograd import no_grad
from minicnn.errors import BackendError
from minicnn.inspect import summary
from minicnn.testing.tolerance import is_float
from minicnn_kernels import registry
from minicnn_kernels.fields import Field, Seen
from minicnn_kernels.shapes import blank


def results(spec, case, backend):
    arguments = [Tensor(a) if is_float(a) else a for a in case.draw()]
    if backend == "fields":
        for a in arguments:
            if isinstance(a, Tensor) and a.ndim == 4:
                a.array = a.array.view(Seen)
                a.array.field = Field.of_image(a.shape[2:])
    with minicnn.use_backend(backend), no_grad():
        y = spec.function(*arguments, **case.kwargs)
    return [getattr(t, "array", t) for t in (y if isinstance(y, tuple) else (y,))]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_shapes_and_dtypes_are_those_of_the_reference(spec):
    for case in spec.cases:
        real = [(a.shape, a.dtype) for a in results(spec, case, "numpy")]
        for name in ("shapes", "fields"):
            found = results(spec, case, name)
            assert [(a.shape, a.dtype) for a in found] == real, (case.name, name)


def test_nothing_is_computed_and_gradients_are_refused():
    x = Tensor(blank((1, 3, 224, 224), np.float32), requires_grad=True)
    weight = blank((10**6, 3, 3, 3), np.float32)
    with minicnn.use_backend("shapes"):
        y = minicnn.functional.conv2d(x, weight)
        assert y.shape == (1, 10**6, 222, 222)
        assert set(y.array.strides) == {0}
        with pytest.raises(BackendError, match="conv2d_grad_input: the 'shapes' kernels know"):
            y.backward(y.array)


def test_they_are_in_no_list_of_kernel_sets():
    for name in ("shapes", "fields"):
        assert name not in registry.names()
        assert name not in registry.describe()


def test_a_network_of_any_size_is_summed_up_without_memory():
    tracemalloc.start()
    with nn.without_weights():
        model = nn.Sequential(nn.Linear(10**5, 10**6), nn.ReLU(), nn.Linear(10**6, 3))
    table = summary(model, (10**5,))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert table.parameters == 10**11 + 10**6 + 3 * 10**6 + 3
    assert table.multiply_adds == 10**11 + 3 * 10**6
    assert most < 10e6, most


def test_parameters_without_memory_draw_no_numbers():
    minicnn.seed(3)
    expected = minicnn.random.next_key()
    minicnn.seed(3)
    with nn.without_weights():
        layer = nn.Conv2d(3, 4, 5)
        nn.init.trunc_normal_(layer.weight)
    assert minicnn.random.next_key() == expected
    assert not layer.weight.array.any()
    assert nn.Conv2d(3, 4, 5).weight.array.any()
