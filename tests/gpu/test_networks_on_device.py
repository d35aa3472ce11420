"""Whole networks on each kernel set of the device, against float64 on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_sets import FRESH_SEED, each_device_set

import minicnn
import minicnn.functional as F
from minicnn import Tensor, models, nn, optim
from minicnn.testing import assert_close
from minicnn.testing.tolerance import to_host
from minicnn_kernels import precision, registry

pytestmark = pytest.mark.gpu

#: name -> options and the shape of a batch; small enough for a thread a microsecond
NETWORKS = {
    "notes_cnn": ({"image_size": 8}, (3, 1, 8, 8)),
    "resnet": ({}, (2, 3, 6, 6)),
}


class SmallResNet(nn.Module):
    """A stem, a block that keeps its shape, one that changes it, and a pooling over the map."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        )
        self.blocks = nn.ModuleList([_block(4, 4, 1), _block(4, 8, 2)])
        shortcut = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
        self.shortcuts = nn.ModuleList([nn.Identity(), shortcut])
        self.relu = nn.ReLU()
        self.top = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, x):
        x = self.stem(x)
        for body, shortcut in zip(self.blocks, self.shortcuts, strict=True):
            x = nn.residual(body, x, shortcut(x), self.relu)
        return self.top(x)


def _block(C, F_, stride):
    return nn.Sequential(
        *(nn.Conv2d(C, F_, 3, stride, 1, bias=False), nn.BatchNorm2d(F_), nn.ReLU()),
        *(nn.Conv2d(F_, F_, 3, 1, 1, bias=False), nn.BatchNorm2d(F_)),
    )


def network(name):
    minicnn.seed(FRESH_SEED)
    options, shape = NETWORKS[name]
    model = SmallResNet() if name == "resnet" else models.create(name, **options)
    rng = np.random.default_rng(FRESH_SEED)
    return model, rng.standard_normal(shape), rng.integers(0, 3, shape[0])


def terms(model):
    """Numbers that are added up on the longest way through all layers, forward and back."""
    return sum(int(np.prod(p.shape)) for p in model.parameters())


def results(model, x, labels):
    """Loss, the gradients, and what else a step changes: the running statistics."""
    loss = F.cross_entropy(model(Tensor(x)), labels)
    loss.backward()
    found = {"loss": to_host(loss)}
    found |= {f"the gradient of {n}": to_host(p.grad) for n, p in model.named_parameters()}
    return found | {n: to_host(b) for n, b in model.named_buffers() if b.dtype.kind == "f"}


def on_device(backend, model, x, labels):
    xp = registry.load(backend).xp
    return model.to("cuda"), xp.asarray(x.astype(np.float32)), xp.asarray(labels)


def compare(found, exact, model):
    """Gradients of one network are on one scale: what nearly vanishes is judged by the largest."""
    scale = max(float(np.abs(a).max()) for n, a in exact.items() if n.startswith("the gradient"))
    for name, right in exact.items():
        own = max(float(np.abs(right).max()), 1e-30)
        condition = max(1.0, scale / own) if name.startswith("the gradient") else 1.0
        assert found[name].dtype == np.float32
        assert_close(found[name], right, terms=terms(model), condition=condition, what=name)


@pytest.fixture(autouse=True)
def exact_products():
    """Strict float32, whatever the environment says."""
    with precision.allow_tf32(False):
        yield


@each_device_set
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_agrees_with_float64_on_the_cpu(name, backend):
    model, x, labels = network(name)
    state = model.state_dict()
    with minicnn.use_backend("numpy"):
        exact = results(model.astype(np.float64), x, labels)
    other, *_ = network(name)
    other.load_state_dict(state)
    with minicnn.use_backend(backend):
        found = results(*on_device(backend, other, x, labels))
    compare(found, exact, other)


@each_device_set
@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_agrees_with_float64_on_the_cpu(name, backend):
    model, x, _ = network(name)
    for buffer in model.buffers():
        if buffer.dtype.kind == "f":
            buffer += 0.5  # statistics that are not those of a new layer
    state = model.state_dict()
    with minicnn.use_backend("numpy"), minicnn.no_grad():
        exact = model.astype(np.float64).eval()(Tensor(x))
    other, *_ = network(name)
    other.load_state_dict(state)
    with minicnn.use_backend(backend), minicnn.no_grad():
        model, x, _ = on_device(backend, other.eval(), x, np.zeros(1))
        assert_close(model(Tensor(x)), exact, terms=terms(model), what="the logits")


@each_device_set
@pytest.mark.parametrize("name", NETWORKS)
def test_two_runs_give_the_same_bits(name, backend):
    runs = []
    for _ in range(2):
        model, x, labels = network(name)
        with minicnn.use_backend(backend):
            model, x, labels = on_device(backend, model, x, labels)
            optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
            for _ in range(2):
                optimizer.zero_grad()
                F.cross_entropy(model(Tensor(x)), labels).backward()
                optimizer.step()
            runs.append(model.state_dict())
    for key, values in runs[0].items():
        assert np.array_equal(values, runs[1][key]), key


@each_device_set
def test_a_state_dict_survives_the_device(backend):
    model, *_ = network("notes_cnn")
    before = model.state_dict()
    with minicnn.use_backend(backend):
        model.to("cuda")
        there = model.state_dict()
        other, *_ = network("notes_cnn")
        for p in other.parameters():
            p.array[...] = 0
        other.to("cuda").load_state_dict(there)
        after = other.to("cpu").state_dict()
    for key, values in before.items():
        assert isinstance(there[key], np.ndarray)
        assert np.array_equal(values, there[key]), key
        assert np.array_equal(values, after[key]), key


@each_device_set
@pytest.mark.parametrize("function", ["conv2d", "linear"])
def test_tf32_rounds_the_factors_and_nothing_else(function, backend):
    """Each factor to 11 bits, an error of at most 2**-11 each; the sums stay float32's."""
    rng = np.random.default_rng(FRESH_SEED)
    shapes = {"conv2d": ((2, 16, 6, 6), (16, 16, 3, 3)), "linear": ((20, 64), (24, 64))}
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in shapes[function])
    call = getattr(F, function)
    with minicnn.use_backend("numpy"):
        right = to_host(call(Tensor(x.astype(np.float64)), Tensor(w.astype(np.float64))))
        most = to_host(call(Tensor(abs(x).astype(np.float64)), Tensor(abs(w).astype(np.float64))))
    results = {}
    for allowed in (False, True):
        with minicnn.use_backend(backend), precision.allow_tf32(allowed):
            xp = registry.load(backend).xp
            results[allowed] = to_host(call(Tensor(xp.asarray(x)), Tensor(xp.asarray(w))))
    added_up = int(np.prod(w.shape[1:]))
    assert_close(results[False], right, terms=added_up, what="without TF32")
    factor = 2 * 2.0**-11 + 2.0**-22 + added_up * 2.0**-23
    assert (np.abs(results[True] - right) <= factor * most).all()
