"""What every architecture of the registry must do, at the size that it has for Fashion-MNIST."""

import functools
import inspect

import numpy as np
import pytest

import minicnn
from minicnn import data, models, nn, optim
from minicnn import functional as F
from minicnn.autograd import Tensor, no_grad
from minicnn.inspect import summary

BATCH = 4  # as many pictures, each of a class of its own
# Multiply-adds for an image, up to which a network takes a step, and learns a batch by heart.
LIGHT = 25e6
VERY_LIGHT = 6e6
LEARNED = 0.2  # a loss; guessing among the pictures' classes has log(4) = 1.39
each = pytest.mark.parametrize("name", models.names())


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def build(name, **options):
    """The network with nothing random in training, so that one step follows from another."""
    model = models.create(name, preset="fashion-mnist", **options)
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.DropPath | nn.StochasticDepth):
            module.p = 0.0
    return model


def narrow_options(name):
    """A quarter of the width, for networks that have such an option."""
    entry = models.find(name)
    option = inspect.signature(entry.builder).parameters.get("width")
    if option is None:
        return {}
    width = entry.preset("fashion-mnist").options.get("width", option.default)
    return {"width": width / 4 if isinstance(width, float) else max(width // 4, 1)}


def multiply_adds(name, **options):
    with nn.without_weights():
        model = models.create(name, preset="fashion-mnist", **options)
    return summary(model, model.input_shape).multiply_adds


@functools.cache
def pictures():
    """A picture of each of the first classes, with values around 0."""
    clothes = data.fashion_mnist("test", source="sample")
    chosen = [int(np.flatnonzero(clothes.labels == label)[0]) for label in range(BATCH)]
    return Tensor((clothes.images[chosen] / np.float32(127.5) - 1).astype(np.float32))


def loss_of(model):
    """Cross-entropy, the mean over the outputs: in training some networks have auxiliary ones."""
    y = model(pictures())
    losses = [F.cross_entropy(o, np.arange(BATCH)) for o in (y if isinstance(y, tuple) else (y,))]
    return sum(losses[1:], losses[0]) / len(losses)


def gradients(model):
    model.zero_grad()
    loss = loss_of(model)
    loss.backward()
    return loss.item()


def biases_without_effect(name):
    """Names of biases whose layer feeds a batch norm directly, which subtracts them again."""
    with nn.without_weights():
        model = models.create(name, preset="fashion-mnist").eval()
    names = {module: path for path, module in model.named_modules()}
    makers, found = {}, set()

    def made(module, arguments, output):
        makers[id(output)] = names[module], output  # the output too, lest its id be used again

    def normalised(module, arguments):
        if id(arguments[0]) in makers:
            found.add(f"{makers[id(arguments[0])][0]}.bias")

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(made)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.register_forward_pre_hook(normalised)
    with no_grad(), minicnn.use_backend("shapes"):
        model(pictures())
    return found


def test_a_bias_in_front_of_a_batch_norm_is_found():
    assert biases_without_effect("notes_cnn") == {"features.0.bias", "features.4.bias"}


@each
def test_the_paper_comes_first_and_fashion_mnist_is_a_preset(name):
    presets = models.find(name).presets
    assert next(iter(presets)) != "fashion-mnist" or name == "notes_cnn"
    assert presets["fashion-mnist"].input_shape == (1, 28, 28)
    assert presets["fashion-mnist"].num_classes == 10


@each
def test_every_preset_has_a_row_of_scores_for_each_image(name):
    for key, preset in models.find(name).presets.items():
        with nn.without_weights():
            model = models.create(name, preset=key).eval()
        with no_grad(), minicnn.use_backend("shapes"):
            y = model(Tensor(np.zeros((3, *preset.input_shape), np.float32)))
        assert y.shape == (3, preset.num_classes), key


@each
def test_every_parameter_gets_a_gradient_and_following_it_lowers_the_loss(name):
    model = build(name)
    excepted = biases_without_effect(name)
    before = gradients(model)
    assert np.isfinite(before)
    norm = 0.0
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert np.isfinite(parameter.grad).all(), path
        assert path in excepted or np.abs(parameter.grad).max() > 0, path
        norm += float(np.square(parameter.grad, dtype=np.float64).sum())
    if multiply_adds(name) < LIGHT:
        # A step that would lower the loss by 1 % if the loss were straight.
        optim.SGD(model.parameters(), lr=0.01 * before / norm).step()
        with no_grad():
            assert loss_of(model).item() < before


@each
def test_a_batch_is_learned_by_heart(name):
    options = narrow_options(name)
    if (cost := multiply_adds(name, **options)) > VERY_LIGHT:
        pytest.skip(f"{cost / 1e6:.0f} million multiply-adds for an image are too many for this")
    model = build(name, **options)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    while len(losses) < 80 and (not losses or losses[-1] > LEARNED):
        losses.append(gradients(model))
        optimizer.step()
    assert losses[-1] <= LEARNED, f"from {losses[0]:.3f} after {len(losses)} steps"


@each
def test_the_state_goes_round(name):
    model, other, x = build(name).eval(), build(name).eval(), pictures()[:1]
    state = model.state_dict()
    with no_grad():
        y = model(x).array
        assert not np.array_equal(other(x).array, y)
        other.load_state_dict(state)
        assert np.array_equal(other(x).array, y)
    assert all(np.array_equal(state[key], value) for key, value in other.state_dict().items())
