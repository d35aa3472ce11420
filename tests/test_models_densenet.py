"""DenseNet: its connections, its dropout, and torchvision's results."""

import numpy as np
import pytest
from networks import images
from torchvision_twins import assert_same_logits, twins

import minicnn
from minicnn import models, nn
from minicnn.autograd import Tensor, no_grad
from minicnn.inspect import summary
from minicnn.models.densenet import DenseBlock, DenseLayer, DenseNet


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def test_same_weights_give_torchvisions_logits():
    assert_same_logits(*twins("densenet121", 40))


def test_layers_of_a_block_are_connected_directly():
    """L (L + 1) / 2 times: what a layer makes is seen by all layers behind it, as it is."""
    L, block = 6, DenseBlock(6, 5, growth_rate=3, bottleneck=0, drop_rate=0.0).eval()
    read, made = [], []
    for layer in block.values():
        layer.norm1.register_forward_pre_hook(lambda module, args: read.append(args[0].array))
        layer.register_forward_hook(lambda module, args, y: made.append(y.array))
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 4)).astype(np.float32)
    with no_grad():
        y = block(Tensor(x)).array
    sources, connections = [x, *made], 0
    for joined in (*read, y):
        for source in sources:
            copies = [
                np.array_equal(joined[:, c : c + source.shape[1]], source)
                for c in range(joined.shape[1] - source.shape[1] + 1)
            ]
            connections += sum(copies)
    assert len(made) == L
    assert connections == L * (L + 1) // 2 + (L + 1)  # and all of them to the output


@pytest.mark.parametrize("bottleneck", [0, 12])
def test_a_layer_is_made_of_the_papers_operations(bottleneck):
    layer = DenseLayer(4, 3, bottleneck, drop_rate=0.0)
    kinds = [type(part).__name__ for part in layer.children()]
    assert kinds == ["BatchNorm2d", "ReLU", "Conv2d"] * (2 if bottleneck else 1)
    sizes = [part.kernel_size for part in layer.children() if isinstance(part, nn.Conv2d)]
    assert sizes == ([(1, 1), (3, 3)] if bottleneck else [(3, 3)])


def test_dropout_stands_behind_each_convolution_but_the_first():
    model = models.create("densenet_bc40", drop_rate=0.2)
    order = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Dropout)]
    kinds = "".join("c" if isinstance(m, nn.Conv2d) else "d" for m in order)
    assert kinds == "c" + "cd" * 38
    assert {m.p for m in order if isinstance(m, nn.Dropout)} == {0.2}


def test_dropout_changes_training_alone():
    model = models.create("densenet_bc40", preset="fashion-mnist", growth_rate=2, drop_rate=0.2)
    x = Tensor(images(model, 2))
    with no_grad():
        assert not np.array_equal(model.train()(x).array, model(x).array)
        assert np.array_equal(model.eval()(x).array, model(x).array)


def test_transitions_of_bc_networks_leave_half_of_the_maps_rounded_down():
    with nn.without_weights():
        model = DenseNet((1, 1), growth_rate=3, num_init_features=4)
        keeps = DenseNet((1, 1), growth_rate=3, num_init_features=4, compression=1.0)
    assert model.features.transition1.conv.weight.shape == (3, 7, 1, 1)
    assert keeps.features.transition1.conv.weight.shape == (7, 7, 1, 1)


@pytest.mark.parametrize("name", [name for name in models.names() if "densenet" in name])
def test_presets_for_small_images_keep_the_depth_at_a_small_cost(name):
    with nn.without_weights():
        full, model = models.create(name), models.create(name, preset="fashion-mnist")
    convolutions = [
        sum(isinstance(m, nn.Conv2d) for m in network.modules()) for network in (full, model)
    ]
    assert convolutions[0] == convolutions[1]
    assert summary(model, (1, 28, 28)).multiply_adds < 60e6


def test_weights_start_with_the_variance_of_he():
    weight = models.create("densenet_bc40").features.denseblock3.denselayer1.conv1.weight
    variance, n = 2 / weight.shape[1], weight.size
    assert abs(weight.array.var() - variance) < 5 * variance * np.sqrt(2 / n)  # standard errors
