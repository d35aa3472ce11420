"""Fused layers: the same results, and only where nobody could tell the difference."""

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.errors import ShapeError
from minicnn.testing.tolerance import tolerance
from minicnn_kernels import registry

CPU = [name for name, why in registry.availability().items() if why is None and name != "cupy"]


def chain():
    minicnn.seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.MaxPool2d(2)
    )


def gradients(model, x):
    x = Tensor(x, requires_grad=True)
    y = model(x)
    y.backward(np.random.default_rng(2).standard_normal(y.shape).astype(np.float32))
    return [y.array, x.grad, *(p.grad for p in model.parameters())]


def image(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("backend", CPU)
def test_fusion_changes_no_result(backend):
    x = image(2, 2, 8, 9)
    with minicnn.use_backend(backend):
        fused = gradients(chain(), x)
        with nn.unfused():
            plain = gradients(chain(), x)
    for a, b in zip(fused, plain, strict=True):
        allowed = tolerance(np.dtype(np.float32), 2 * 8 * 9 * 9, float(np.abs(b).max()))
        assert np.abs(a - b).max() <= allowed


def count_fused(monkeypatch):
    calls = []
    original = F.conv2d_relu
    monkeypatch.setattr(F, "conv2d_relu", lambda *args: calls.append(1) or original(*args))
    return calls


def test_pairs_are_fused_and_the_switch_turns_it_off(monkeypatch):
    calls = count_fused(monkeypatch)
    chain()(Tensor(image(1, 2, 8, 8)))
    assert len(calls) == 2
    with nn.unfused():
        chain()(Tensor(image(1, 2, 8, 8)))
    assert len(calls) == 2


@pytest.mark.parametrize("layer", [0, 1])
def test_a_hook_sees_the_output_of_its_own_layer(monkeypatch, layer):
    calls, seen, model = count_fused(monkeypatch), [], chain()
    with model[layer].register_forward_hook(lambda module, args, output: seen.append(output.array)):
        model(Tensor(image(1, 2, 8, 8)))
    assert len(calls) == 1  # the other pair
    assert (seen[0] < 0).any() == (layer == 0)


def test_heirs_are_left_alone(monkeypatch):
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * 2

    calls = count_fused(monkeypatch)
    nn.Sequential(Doubled(2, 3, 1), nn.ReLU())(Tensor(image(1, 2, 3, 3)))
    assert not calls


def test_an_error_still_names_the_layer():
    with pytest.raises(ShapeError, match="x has 5 channels") as caught:
        chain()(Tensor(image(1, 5, 8, 8)))
    assert "in 0 Conv2d(2, 4" in caught.value.__notes__[0]
