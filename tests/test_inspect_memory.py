"""What a training step holds: measured by `inspect.memory`, counted by hand, and by a plain run."""

import gc
import threading
import tracemalloc

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import models, nn, random
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.inspect import memory
from minicnn_kernels import registry
from minicnn_kernels.threads import apply_num_threads

AVAILABLE = [name for name in ("numpy", "numba") if registry.availability()[name] is None]
BOOKKEEPING = 2048  # bytes of Python objects for each layer, which tracemalloc counts with arrays
# Between two whole runs, for each layer: 3,337 were seen on another machine. The smallest map of
# the networks compared has 43,264 bytes, twice as many as their allowance.
BETWEEN_RUNS = 5000


@pytest.fixture(params=AVAILABLE)
def kernels(request):
    with minicnn.use_backend(request.param):
        yield


@pytest.fixture
def same_objects():
    """No collection empties Python's lists of free objects in one of two runs to compare."""
    gc.disable()
    yield
    gc.enable()


class Residual(nn.Module):
    """x + relu(conv(x)), then a ReLU."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.last = nn.ReLU()

    def forward(self, x):
        return self.last(x + self.body(x))


def networks():
    chain = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return {
        "notes_cnn": (models.create("notes_cnn"), (1, 28, 28)),
        "fused chain": (chain.append(nn.Linear(8 * 13 * 13, 10)), (1, 28, 28)),
        "residual": (nn.Sequential(Residual(4), Residual(4)), (4, 20, 20)),
    }


def plain_peak(model, shape, batch_size):
    """Most bytes that tracemalloc sees in a step that nothing watches, beside what was there."""
    x = Tensor(np.zeros((batch_size, *shape), np.float32))
    gradient = np.ones_like(model(x).array)
    peak = []

    def step():
        apply_num_threads()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        model(x).backward(gradient)
        peak.append(tracemalloc.get_traced_memory()[1] - before)

    for measured in (False, True):
        model.zero_grad()
        if measured:
            tracemalloc.start()
        thread = threading.Thread(target=step if measured else lambda: model(x).backward(gradient))
        thread.start()
        thread.join()
    tracemalloc.stop()
    model.zero_grad()
    return peak[0] + gradient.nbytes


@pytest.mark.parametrize("name", networks())
def test_peak_is_that_of_a_plain_step(kernels, same_objects, name):
    model, shape = networks()[name]
    expected = plain_peak(model, shape, 8)  # first: it loads the kernels' code
    found = memory(model, shape, batch_size=8)
    there = found.parameters + found.buffers + found.batch
    assert abs(found.peak - there - expected) <= BETWEEN_RUNS * len(found.layers)
    peaks = {"forward": "forward_peak", "backward": "backward_peak"}[found.peak_pass]
    assert found.peak == max(getattr(row, peaks) for row in found.layers)
    (row,) = (r for r in found.layers if getattr(r, peaks) == found.peak)
    assert row.name == found.peak_layer


def test_rows_of_the_notes_cnn_counted_by_hand(kernels):
    N = 4
    with nn.unfused():
        found = memory(models.create("notes_cnn"), (1, 28, 28), N)
    rows = {row.name: row for row in found.layers}
    first, second = 4 * N * 16 * 28 * 28, 4 * N * 32 * 14 * 14
    per_channel = 2 * 4 * 16  # mean and variance
    assert rows["features.0"].output == first
    assert rows["features.0"].saved == 0  # the batch, which is there anyway
    assert rows["features.1"].saved == first + per_channel  # its input
    assert rows["features.2"].saved == first  # its output
    assert rows["features.3"].saved == first // 16  # a byte a window
    assert rows["features.4"].saved == first // 4  # its input
    assert rows["features.7"].output == second // 4
    assert rows["flatten"].saved == 0
    assert rows["classifier"].saved == second // 4  # a view of the last pooling's output
    assert rows["classifier"].parameters == rows["classifier"].gradients == 4 * 15_690


def test_a_network_that_saves_twice_is_counted_once():
    with minicnn.use_backend("numpy"):
        shared = nn.ReLU()
        found = memory(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Identity(), shared, shared), (1, 8, 8))
    size = 4 * 2 * 8 * 8
    assert [row.kind for row in found.layers] == ["Conv2d", "Identity", "ReLU", "ReLU"]
    assert [row.saved for row in found.layers] == [0, 0, size, size]


def test_fused_layers_stay_fused_and_own_work_of_a_block_has_a_row(kernels):
    found = memory(nn.Sequential(Residual(4)), (4, 8, 8))
    assert [(row.name, row.kind) for row in found.layers] == [
        ("0.body.0", "Conv2d+ReLU"),
        ("0", "Residual"),
        ("0.last", "ReLU"),
    ]
    with nn.unfused():
        kinds = [row.kind for row in memory(nn.Sequential(Residual(4)), (4, 8, 8)).layers]
    assert kinds == ["Conv2d", "ReLU", "Residual", "ReLU"]


def test_held_grows_by_what_is_saved_in_a_chain():
    with minicnn.use_backend("numpy"):
        found = memory(
            nn.Sequential(*(nn.Sigmoid() for _ in range(3)), nn.Linear(64, 2)), (64,), 50
        )
    before, after = (row.held for row in found.layers[1:3])
    assert abs(after - before) <= BOOKKEEPING, "nothing is kept where nothing needs gradients"
    with minicnn.use_backend("numpy"):
        chain = nn.Sequential(nn.Linear(64, 64), *(nn.Sigmoid() for _ in range(5)))
        found = memory(chain, (64,), 50)
    steps = np.diff([row.held for row in found.layers])[2:]  # the output of Linear is let go there
    assert all(abs(step - 4 * 50 * 64) <= BOOKKEEPING for step in steps)


def test_the_model_and_the_random_generator_stay_as_they_are():
    model = models.create("notes_cnn").eval()
    F.cross_entropy(
        model(Tensor(np.zeros((2, 1, 28, 28), np.float32))), np.array([1, 2])
    ).backward()
    state, generator = model.state_dict(), random.get_state()
    gradients = [p.grad for p in model.parameters()]
    with minicnn.use_backend("numpy"):
        memory(nn.Sequential(model, nn.Dropout(0.5)), (1, 28, 28))
    assert not model.training
    assert all(np.array_equal(state[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert random.get_state() == generator
    assert "forward" not in vars(model)
    assert not tracemalloc.is_tracing()


def test_a_forward_of_one_layer_alone_is_watched_and_kept():
    model, calls = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU()), []

    def own(x):
        calls.append(x.shape)
        return nn.BatchNorm2d.forward(model[0], x)

    model[0].forward = own
    with minicnn.use_backend("numpy"):
        found = memory(model, (1, 8, 8), 4)
    assert [row.kind for row in found.layers] == ["BatchNorm2d", "ReLU"]
    assert calls
    assert model[0].forward is own


def test_it_works_inside_no_grad_and_while_tracing():
    tracemalloc.start()
    try:
        with minicnn.use_backend("numpy"), minicnn.no_grad():
            found = memory(nn.Linear(64, 64), (64,), 16)
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
    assert found.gradients == found.parameters == 4 * 65 * 64


def test_the_table_names_the_peak():
    with minicnn.use_backend("numpy"):
        found = memory(models.create("notes_cnn"), (1, 28, 28), 16)
    text = str(found)
    assert "NotesCNN, 16 x 1x28x28; in 10^6 bytes" in text
    assert f"peak {found.peak / 1e6:,.2f} in {found.peak_layer}, {found.peak_pass}" in text
    assert f"{found.saved / 1e6:,.2f}" in text


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_batch_sizes_that_are_none(batch_size):
    with pytest.raises(ArgumentError, match="batch_size is"):
        memory(nn.Linear(2, 2), (2,), batch_size)


def test_auxiliary_heads_are_part_of_the_step():
    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.flatten = nn.Flatten()
            self.head, self.fc = nn.Linear(16, 5), nn.Linear(16, 5)

        def forward(self, x):
            x = self.flatten(x)
            return (self.fc(x), self.head(x)) if self.training else self.fc(x)

    found = memory(Headed(), (1, 4, 4), batch_size=3)
    rows = {row.name: row for row in found.layers}
    assert rows["head"].gradients == rows["fc"].gradients == (16 * 5 + 5) * 4
    assert rows["head"].backward_peak > 0
    assert found.gradients == 2 * rows["fc"].gradients
