"""The Inception networks: auxiliary heads, branches, and torchvision's results."""

import numpy as np
import pytest
from networks import images
from torchvision_twins import assert_same_logits, twins

import minicnn
from minicnn import functional as F
from minicnn import models, nn
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError, ShapeError
from minicnn.inspect import summary
from minicnn.models import googlenet, inception_block, inception_v3
from minicnn.models.inception_block import Branches, Conv
from minicnn.testing import assert_close


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


PLAIN = {"init_weights": False}  # torchvision's own initialisation takes long


@pytest.mark.parametrize(("name", "size"), [("googlenet", 64), ("inception_v3", 75)])
def test_same_weights_give_torchvisions_logits(name, size):
    assert_same_logits(*twins(name, size, PLAIN))


def test_transform_input_equals_torchvisions():
    theirs = {**PLAIN, "transform_input": True}
    assert_same_logits(*twins("googlenet", 32, theirs, transform_input=True))


def test_heads_of_googlenet_equal_torchvisions():
    theirs = {**PLAIN, "dropout": 0.0, "dropout_aux": 0.0}
    model, other = twins("googlenet", 64, theirs)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    import torch

    x = np.random.default_rng(1).standard_normal((4, 3, 64, 64))
    expected, actual = other.train()(torch.tensor(x)), model.train()(Tensor(x))
    assert actual._fields == expected._fields
    terms = summary(model, (3, 64, 64)).multiply_adds
    for mine, wanted in zip(actual, expected, strict=True):
        assert_close(mine, wanted.detach().numpy(), terms=terms)


def test_head_of_inception_v3_equals_torchvisions():
    model, other = twins("inception_v3", 75, PLAIN)
    import torch

    x = np.random.default_rng(1).standard_normal((2, 768, 17, 17))
    expected = other.eval().AuxLogits(torch.tensor(x)).detach().numpy()
    terms = 25 * 768 * 128 * 25 * 768  # one after the other: pooling, three matrices
    assert_close(model.eval().AuxLogits(Tensor(x)), expected, terms=terms)


@pytest.mark.parametrize(
    ("name", "outputs", "weights"),
    [
        ("googlenet", models.GoogLeNetOutputs, (0.3, 0.3)),
        ("inception_v3", models.InceptionOutputs, (0.4,)),
    ],
)
def test_auxiliary_logits_come_in_training_alone(name, outputs, weights):
    model = models.create(name, preset="fashion-mnist")
    x = Tensor(images(model, 2))
    trained = model.train()(x)
    assert isinstance(trained, outputs)
    assert model.auxiliary_weights == weights
    assert [y.shape for y in trained] == [(2, 10)] * (1 + len(weights))
    with no_grad():
        assert isinstance(model.eval()(x), Tensor)
    without = models.create(name, preset="fashion-mnist", aux_logits=False)
    assert without.auxiliary_weights == ()
    assert isinstance(without.train()(x), Tensor)


def test_each_head_trains_the_layers_beneath_it():
    model = models.create("googlenet", preset="fashion-mnist")
    reached = []
    for i in range(3):
        model.zero_grad()
        F.cross_entropy(model(Tensor(images(model, 2)))[i], np.arange(2)).backward()
        reached.append(
            [
                name
                for name in ("inception4a", "inception4d", "inception4e", "aux1", "aux2", "fc")
                if all(p.grad is not None for p in model.get_submodule(name).parameters())
            ]
        )
    assert reached[0] == ["inception4a", "inception4d", "inception4e", "fc"]
    assert reached[1] == ["inception4a", "inception4d", "aux2"]
    assert reached[2] == ["inception4a", "aux1"]


@pytest.mark.parametrize(
    ("form", "expected"),
    [("paper", [2.0, 5.0, 8.0, 11.0]), ("torchvision", [1.5, 4.5, 8.5, 11.5])],
)
def test_heads_of_googlenet_pool_as_their_form_says(form, expected):
    head = googlenet.AuxiliaryHead(1, 10, 1.0, googlenet.FORMS[form])
    seen = []
    head.conv.register_forward_pre_hook(lambda module, args: seen.append(args[0].array))
    x = np.broadcast_to(np.arange(14, dtype=np.float32), (1, 1, 14, 14))
    with no_grad():
        head(Tensor(x))
        head(Tensor(x[:, :, :7, :7]))  # no 4x4 by windows of 5x5
    assert seen[0].shape == seen[1].shape == (1, 1, 4, 4)
    np.testing.assert_array_equal(seen[0][0, 0], [expected] * 4)


def test_head_of_inception_v3_takes_maps_of_every_size():
    head = inception_v3.AuxiliaryHead(2, 10, 0.25).eval()
    for side in (1, 6, 16, 17, 20):
        with no_grad():
            assert head(Tensor(np.zeros((1, 2, side, side), np.float32))).shape == (1, 10)


def test_branches_of_unequal_maps_cannot_be_joined():
    block = Branches(2, [[Conv("one", 2)], [Conv("three", 2, 3, padding=0)]])
    with pytest.raises(ShapeError, match=r"tensor 1 is \(1, 2, 4, 4\).*padding='same'"):
        block(Tensor(np.zeros((1, 2, 6, 6), np.float32)))


def test_branches_are_joined_in_order_with_forks():
    block = Branches(2, [[nn.MaxPool2d(3, 1, 1)], [Conv("a", 3), (Conv("b", 1), Conv("c", 4, 3))]])
    block.eval()
    x = Tensor(np.random.default_rng(0).standard_normal((1, 2, 5, 5)).astype(np.float32))
    inner = block.a(x)
    expected = [F.max_pool2d(x, 3, 1, 1), block.b(inner), block.c(inner)]
    assert block.out_channels == 7
    np.testing.assert_array_equal(block(x).array, F.cat(expected, 1).array)


@pytest.mark.parametrize("size", [28, 29, 30, 33])
def test_inception_v2_takes_maps_of_odd_height(size):
    with nn.without_weights():
        model = models.create("inception_v2", preset="fashion-mnist")
    assert summary(model, (1, size, size)).layers[-1].output_shape == (10,)


def test_naive_modules_only_add_channels():
    block = googlenet.Inception(192, googlenet.MODULES["3a"], googlenet.FORMS["naive"])
    block.eval()
    x = Tensor(np.random.default_rng(0).standard_normal((1, 192, 5, 5)).astype(np.float32))
    y = block(x)
    assert y.shape == (1, 64 + 128 + 32 + 192, 5, 5)
    np.testing.assert_array_equal(y.array[:, -192:], F.max_pool2d(x, 3, 1, 1).array)


def test_the_paper_form_starts_alive_without_batch_norm():
    model = models.create("googlenet", preset="fashion-mnist", form="paper").eval()
    with no_grad():
        logits = model(Tensor(images(model, 4))).array
    assert np.ptp(logits, axis=0).max() > 1e-3
    assert (model.conv1.conv.bias.array == np.float32(0.2)).all()
    assert not model.fc.bias.array.any()


def test_initial_weights_of_inception_v3():
    model = models.create("inception_v3", preset="fashion-mnist")
    deviation = model.Mixed_7c.branch3x3_1.conv.weight.array.std()
    n = model.Mixed_7c.branch3x3_1.conv.weight.size
    assert abs(deviation - 0.1) < 5 * 0.1 / np.sqrt(2 * n)  # five of its standard errors
    assert np.abs(model.AuxLogits.fc.weight.array).max() < 0.01


def test_renormalized_images_have_mean_and_deviation_of_a_half():
    x = np.broadcast_to(np.array([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1), (1, 3, 2, 2))
    y = inception_block.renormalized(Tensor(np.zeros_like(x)))  # the mean picture of ImageNet
    assert_close(y, (x - 0.5) / 0.5, terms=1)


def test_unknown_form_names_the_nearest():
    with pytest.raises(ArgumentError, match="did you mean 'paper'"):
        models.create("googlenet", form="papr")
