"""The kernel set that finds shapes without computing, and parameters without memory."""

import contextlib
import tempfile
import threading
import tracemalloc

import numpy as np
import pytest
from specs import SPECS

import minicnn
from minicnn import Tensor, nn, plot
from minicnn import functional as F
from minicnn.autograd import no_grad
from minicnn.errors import ArgumentError, BackendError
from minicnn.inspect import memory, receptive_fields, summary
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


class Elsewhere(nn.Module):
    """Notes what another thread computes while this layer runs."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        def work():
            self.seen.append((registry.selected(), (Tensor([2.0]) * 3).numpy().tolist()))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return F.relu(x)


def export(model, shape):
    interop = pytest.importorskip("minicnn.interop")
    pytest.importorskip("onnx")
    with tempfile.TemporaryDirectory() as folder:
        interop.export_onnx(model, f"{folder}/model.onnx", input_shape=shape)


def draw(model, shape):
    pytest.importorskip("matplotlib")
    plot.architecture(model, shape)


@pytest.mark.parametrize("watch", [summary, nn.dry_run, draw, export])
def test_other_threads_compute_numbers_while_a_network_is_watched(watch):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), Elsewhere())
    before = registry.selected()
    watch(model, (1, 5, 5))
    assert model[1].seen
    assert all(seen == (before, [6.0]) for seen in model[1].seen)
    assert registry.selected() == before


def test_threads_that_watch_at_once_leave_the_selection_alone():
    """The first to start ends first, so that the second puts back what it found."""
    before = registry.selected()
    with contextlib.ExitStack() as second, registry.in_this_thread("shapes"):
        started, go = threading.Event(), threading.Event()
        found = []

        def other():
            with registry.in_this_thread("fields"):
                started.set()
                go.wait(30)
                found.append(registry.selected())
            found.append(registry.selected())

        thread = threading.Thread(target=other)
        second.callback(thread.join)
        thread.start()
        assert started.wait(30)
        assert registry.selected() == registry.kernels().name == "shapes"
        second.callback(go.set)
    assert found == ["fields", before]
    assert registry.selected() == before


def test_a_set_of_this_thread_ends_with_its_block():
    before = registry.selected()
    with registry.in_this_thread("fields"):
        with pytest.raises(ZeroDivisionError), registry.in_this_thread("shapes"):
            raise ZeroDivisionError
        assert registry.selected() == "fields"
    assert registry.selected() == before


def test_other_threads_build_networks_with_weights():
    built = []
    thread = threading.Thread(target=lambda: built.append(nn.Linear(2, 3)))
    with nn.without_weights():
        thread.start()
        thread.join()
        assert not nn.Linear(2, 3).weight.array.flags.writeable
    assert built[0].weight.array.flags.writeable
    assert built[0].weight.array.any()


@pytest.mark.parametrize("shape", [(1, -28, 28), (1, 28.0, 28), 28, "1x28x28", (), None])
@pytest.mark.parametrize("watch", [summary, nn.dry_run, receptive_fields, memory])
def test_what_is_no_shape_is_an_error_in_words(watch, shape):
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    with pytest.raises(ArgumentError, match=f"{watch.__name__}: input_shape is .* such as"):
        watch(model, shape)
