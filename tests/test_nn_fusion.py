"""Fused layers: the same results, and only where nobody could tell the difference."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.errors import GraphError, ShapeError
from minicnn.nn.fusion import is_fusing
from minicnn.testing.tolerance import tolerance
from minicnn_kernels import registry

CPU = [name for name, why in registry.availability().items() if why is None and name != "cupy"]


def chain():
    minicnn.seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.MaxPool2d(2)
    )


def normalised_chain():
    minicnn.seed(2)
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(48, 5), nn.BatchNorm1d(5), nn.ReLU()),
    )
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.weight.array[:] = np.linspace(-2, 2, module.num_features)
            module.bias.array[:] = np.linspace(1, -1, module.num_features)
            module.running_var[:] = np.linspace(0.5, 2, module.num_features)
    return model


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        minicnn.seed(3)
        self.body = nn.Sequential(
            *(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()),
            *(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2)),
        )
        self.relu = nn.ReLU()

    def forward(self, x):
        return nn.residual(self.body, x, x, self.relu)


def gradients(model, x):
    x = Tensor(x, requires_grad=True)
    y = model(x)
    y.backward(np.random.default_rng(2).standard_normal(y.shape).astype(np.float32))
    return [y.array, x.grad, *(p.grad for p in model.parameters())]


def image(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def assert_alike(fused, plain):
    """Alike but for rounding; the bias before a batch norm has a gradient of rounding alone."""
    largest = max(float(np.abs(b).max()) for b in plain)
    allowed = tolerance(np.dtype(np.float32), 3 * 8 * 8 * 9, largest)
    for a, b in zip(fused, plain, strict=True):
        assert np.abs(a - b).max() <= allowed


def running_statistics(model):
    return [b for name, b in model.state_dict().items() if "running" in name]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("build", [chain, normalised_chain, Block])
@pytest.mark.parametrize("backend", CPU)
def test_fusion_changes_no_result(backend, build, training):
    x = image(3, 2, 8, 8)
    with minicnn.use_backend(backend):
        models = build().train(training), build().train(training)
        fused = gradients(models[0], x) + running_statistics(models[0])
        with nn.unfused():
            plain = gradients(models[1], x) + running_statistics(models[1])
    assert_alike(fused, plain)


@pytest.mark.parametrize("build", [chain, normalised_chain, Block])
@pytest.mark.parametrize("backend", CPU)
def test_fusion_changes_no_result_of_inference(backend, build):
    x, model = Tensor(image(3, 2, 8, 8)), build().eval()
    with minicnn.use_backend(backend), minicnn.no_grad():
        fused = model(x).array
        with nn.unfused():
            plain = model(x).array
    assert_alike([fused], [plain])


def ops_of(tensor):
    """Names of the ops that made a tensor, the newest first."""
    ops, op = [], tensor.op
    while op is not None and hasattr(op, "parents"):
        ops.append(op.name)
        op = next((parent for parent in op.parents if parent is not None), None)
    return ops


def test_every_pattern_becomes_one_operation():
    assert ops_of(normalised_chain()(Tensor(image(3, 2, 8, 8)))) == [
        *("batch_norm_relu", "linear", "reshape"),
        *("batch_norm_relu", "conv2d"),
        *("batch_norm_relu_max_pool2d", "conv2d"),
    ]
    assert ops_of(Block()(Tensor(image(3, 2, 8, 8))))[:3] == [
        *("batch_norm_add_relu", "conv2d", "batch_norm_relu"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda block: block.body.append(nn.Identity()),
        lambda block: setattr(block, "relu", nn.LeakyReLU(0.0)),
        lambda block: block.body.register_forward_hook(lambda *args: None),
        lambda block: block.body[4].register_forward_hook(lambda *args: None),
        lambda block: block.relu.register_forward_hook(lambda *args: None),
    ],
)
def test_a_residual_block_that_is_not_fused_gives_the_same(change):
    x, block, other = image(3, 2, 8, 8), Block(), Block()
    change(other)
    assert "batch_norm_add_relu" not in ops_of(other(Tensor(x)))
    assert_alike(gradients(Block(), x), gradients(other, x))
    assert "batch_norm_add_relu" in ops_of(block(Tensor(x)))


def test_a_residual_sum_of_unlike_maps_is_an_error():
    with pytest.raises(ShapeError, match=r"skip is \(3, 1, 8, 8\) but x is \(3, 2, 8, 8\)"):
        nn.residual(Block().body, Tensor(image(3, 2, 8, 8)), Tensor(image(3, 1, 8, 8)), nn.ReLU())


def test_inference_runs_the_norm_inside_the_convolution(monkeypatch):
    calls, model = [], normalised_chain().eval()
    original = F.conv2d_batch_norm
    monkeypatch.setattr(
        F, "conv2d_batch_norm", lambda *args: calls.append(args[-1]) or original(*args)
    )
    x = Tensor(image(3, 2, 8, 8))
    model(x)
    assert calls == []  # gradients are recorded
    with minicnn.no_grad():
        model(x), Block().eval()(x)
        assert calls == [True, True, True]  # with ReLU; the second norm of the block ends it
        model.train()(x)
    assert len(calls) == 3


def test_a_fused_norm_of_constants_records_no_gradient():
    model = normalised_chain().eval()
    arguments = model[1].running_mean, model[1].running_var
    with pytest.raises(GraphError, match=r"conv2d_batch_norm: .* inside no_grad\(\)"):
        F.conv2d_batch_norm(Tensor(image(1, 2, 8, 8)), model[0].weight, None, *arguments)
    with pytest.raises(ShapeError, match=r"weight has 4 filters, but .* \(4,\), \(4,\), \(3,\)"):
        F.conv2d_batch_norm(
            Tensor(image(1, 2, 8, 8)), model[0].weight, None, *arguments, Tensor(np.ones(3))
        )


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
def test_a_forward_of_one_layer_alone_is_called(layer):
    """Somebody replaced it, on the object: it knows no fusion."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
    model[layer].forward = lambda x: x * 0 + 3
    x = Tensor(np.ones((1, 1, 2, 2), np.float32))
    assert model(x).array.tolist() == [[[[3.0, 3.0], [3.0, 3.0]]]]


def test_a_forward_of_a_chain_alone_is_called():
    block = Block()
    block.body.forward = lambda x: x * 0
    x = Tensor(image(1, 2, 4, 4))
    assert np.array_equal(block(x).array, np.maximum(x.array, 0))


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


def test_blocks_of_two_threads_that_overlap_know_nothing_of_each_other():
    began, ended = threading.Event(), threading.Event()

    def other():
        with nn.unfused():
            began.set()
            assert ended.wait(60)
            assert not is_fusing()

    with ThreadPoolExecutor(1) as thread:
        with nn.unfused():
            running = thread.submit(other)
            assert began.wait(60)
        assert is_fusing()
        ended.set()
        running.result()
    assert is_fusing()
