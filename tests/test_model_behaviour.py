"""What every architecture of the registry must do, at the size that it has for Fashion-MNIST."""

import functools
import inspect

import numpy as np
import pytest

import minicnn
from minicnn import data, models, nn, optim
from minicnn import functional as F
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError
from minicnn.inspect import summary

BATCH = 4  # as many pictures, each of a class of its own
# Multiply-adds for an image, up to which a network takes a step, and learns a batch by heart.
LIGHT = 25e6
VERY_LIGHT = 9e6
DEEP = 35  # convolutions, up to which a network learns a batch by heart within the steps given
LEARNED = 0.2  # a loss; guessing among the pictures' classes has log(4) = 1.39
each = pytest.mark.parametrize("name", models.names())
# Options without which a step trains a part of the network, drawn at random.
WHOLE = {
    "fractalnet": {"drop_path": 0.0, "global_share": 0.0},
    "stochastic_depth_resnet110": {"p_last": 1.0},
}
# One of each family that has no light or shallow member, with options that make it so.
SMALL = {
    "densenet_bc40": {"growth_rate": 4},
    "fractalnet": {"widths": (8, 16, 16)},
    "googlenet": {"width": 0.1},
    "inception_v2": {"width": 0.1},
    "inception_v3": {"width": 0.1},
    "resnet50": {"layers": (1, 1, 1, 1), "width": 4},
    "stochastic_depth_resnet110": {"depth": 20},
}


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def build(name, **options):
    """The network with nothing random in training, so that one step follows from another."""
    model = models.create(name, preset="fashion-mnist", **WHOLE.get(name, {}), **options)
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.DropPath | nn.StochasticDepth):
            module.p = 0.0
    return model


def light_options(name):
    """Nothing for a light network, else the options of the widest that is light, and its size.

    A size is multiply-adds and convolutions.
    """
    entry = models.find(name)
    option = inspect.signature(entry.builder).parameters.get("width")
    width = entry.preset("fashion-mnist").options.get("width", option.default) if option else None
    options, size = {}, size_of(name)
    for n in (2, 4):
        if size[0] > VERY_LIGHT and width is not None:
            options = {"width": width / n if isinstance(width, float) else max(width // n, 2)}
            try:
                size = size_of(name, **options)
            except ArgumentError:  # too narrow for its groups
                break
    return options, size


def size_of(name, **options):
    """Multiply-adds for one image, and the number of convolutions."""
    with nn.without_weights():
        model = models.create(name, preset="fashion-mnist", **options)
    rows = summary(model, model.input_shape).layers
    return sum(row.multiply_adds for row in rows), sum("Conv2d" in row.kind for row in rows)


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
    if size_of(name)[0] < LIGHT:
        # A step that would lower the loss by 1 % if the loss were straight.
        optim.SGD(model.parameters(), lr=0.01 * before / norm).step()
        with no_grad():
            assert loss_of(model).item() < before


@each
def test_a_batch_is_learned_by_heart(name):
    options, (cost, convolutions) = (SMALL[name], (0, 0)) if name in SMALL else light_options(name)
    if cost > VERY_LIGHT:
        pytest.skip(f"{cost / 1e6:.0f} million multiply-adds for an image are too many for this")
    if convolutions > DEEP:
        pytest.skip(f"{convolutions} convolutions in a row learn slowly")
    model = build(name, **options)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    while len(losses) < 120 and (not losses or losses[-1] > LEARNED):
        losses.append(gradients(model))
        optimizer.step()
    assert losses[-1] <= LEARNED, f"from {losses[0]:.3f} after {len(losses)} steps"


@each
def test_the_state_goes_round(name):
    model, other, x = build(name), build(name), pictures()
    for module in (*model.modules(), *other.modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 0.0  # the running statistics stay
    state = model.state_dict()
    with no_grad():
        y = logits(model(x))
        assert not np.array_equal(logits(other(x)), y)
        other.load_state_dict(state)
        assert np.array_equal(logits(other(x)), y)
    for key, value in other.state_dict().items():
        assert np.array_equal(state[key], value) or "num_batches" in key, key


def logits(y):
    return (y[0] if isinstance(y, tuple) else y).array
