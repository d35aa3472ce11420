"""ResNet: shortcuts, blocks that begin as the identity, place of the stride, PyTorch's weights."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from networks import torchvision_models

import minicnn
from minicnn import models, nn
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError
from minicnn.models.resnet import BasicBlock, Block, Bottleneck, he_initialisation, shortcut_path
from minicnn.testing import assert_close


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def maps(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def blocks_of(model):
    return [part for part in model.modules() if isinstance(part, Block)]


def ops_of(tensor):
    """Names of all ops that made a tensor, each op once."""
    seen, waiting, names = set(), [tensor.op], []
    while waiting:
        op = waiting.pop()
        if op is None or id(op) in seen or not hasattr(op, "parents"):
            continue
        seen.add(id(op))
        names.append(op.name)
        waiting.extend(op.parents)
    return names


def fan_ins(model):
    """The terms of the sums of all convolutions, added up: the rounding of a pass through them."""
    convolutions = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    return sum(part.weight.size // part.out_channels for part in convolutions)


@pytest.mark.parametrize("size", [(6, 6), (7, 5)])
def test_shortcut_a_takes_every_second_pixel_and_appends_zeros(size):
    x = maps(2, 3, *size)
    path = shortcut_path("A", 3, 5, 2)
    y = path(Tensor(x)).array
    assert y.shape == BasicBlock(3, 5, 2).conv1(Tensor(x.astype(np.float32))).shape
    assert np.array_equal(y[:, :3], x[:, :, ::2, ::2])
    assert not y[:, 3:].any()
    assert not list(path.parameters())


def test_shortcut_b_projects_where_the_shape_changes_and_c_everywhere():
    def projections(kind):
        blocks = blocks_of(models.create("resnet18", shortcut=kind, width=2))
        return [block.downsample is not None for block in blocks]

    changes = [False, False, True, False, True, False, True, False]
    assert projections("A") == projections("B") == changes
    assert projections("C") == [True] * 8
    assert projections("none") == [False] * 8
    widening = Bottleneck(8, 8)  # the map stays, the channels do not
    assert [type(layer) for layer in widening.downsample] == [nn.Conv2d, nn.BatchNorm2d]


def test_shortcuts_that_cannot_be_are_refused():
    with pytest.raises(ArgumentError, match=r"shortcut is 'D'.*'A', 'B', 'C', 'none'"):
        models.create("resnet18", shortcut="D")
    with pytest.raises(ArgumentError, match="from 4 to 2 channels; use shortcut='B'"):
        shortcut_path("A", 4, 2, 1)
    with pytest.raises(ArgumentError, match=r"stem is '5x5'"):
        models.create("resnet18", stem="5x5")
    with pytest.raises(ArgumentError, match=r"depth is 19, but it must be 6n \+ 2; use 14 or 20"):
        models.create("resnet20", depth=19)
    with pytest.raises(ArgumentError, match="less than one channel a group; give at least 8"):
        models.create("resnet50", width_per_group=4, width=8)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_adds_its_shortcut_before_the_last_relu_and_a_plain_one_does_not(stride):
    x = Tensor(maps(3, 4, 6, 6))
    for channels in (4, 6):
        block = BasicBlock(4, channels, stride, "A").astype(np.float64)
        plain = BasicBlock(4, channels, stride, "none").astype(np.float64)
        plain.load_state_dict(block.state_dict())
        f = nn.run_chain(block.body(), x).array
        changes = stride == 2 or channels == 6
        skip = shortcut_path("A", 4, channels, stride)(x).array if changes else x.array
        terms = 4 * 9 + 3 * 6 * 6
        assert_close(block(x), np.maximum(f + skip, 0), terms=terms)
        assert_close(plain(x), np.maximum(f, 0), terms=terms)


def test_a_plain_network_has_the_parameters_of_the_residual_one_without_projections():
    plain, residual = models.create("plain20"), models.create("resnet20")
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (plain, residual)]
    assert shapes[0] == shapes[1]
    assert all(block.is_plain for block in blocks_of(plain))
    plain.load_state_dict(residual.state_dict())
    x = Tensor(maps(2, 3, 8, 8).astype(np.float32))
    with no_grad():
        assert not np.allclose(plain.eval()(x).array, residual.eval()(x).array)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_zero_initialised_blocks_return_their_input(name):
    options = {"preset": "fashion-mnist", "width": 4, "zero_init_residual": True}
    for training in (True, False):
        unchanged = 0
        for block in blocks_of(models.create(name, **options).train(training)):
            channels = next(p for n, p in block.named_parameters() if n == "conv1.weight").shape[1]
            x = maps(2, channels, 4, 4).astype(np.float32)
            if block.downsample is None:
                unchanged += 1
                assert np.array_equal(block(Tensor(x)).array, np.maximum(x, 0))
            else:
                y = np.maximum(block.downsample(Tensor(x)).array, 0)
                assert np.array_equal(block(Tensor(x)).array, y)
        assert unchanged == {"resnet18": 5, "resnet50": 12}[name]
    weights = [b.body()[-1].weight.array for b in blocks_of(models.create(name, width=4))]
    assert all((w == 1).all() for w in weights)


@pytest.mark.parametrize(("stride_in", "strides"), [("3x3", (1, 2, 1)), ("1x1", (2, 1, 1))])
def test_the_stride_of_a_bottleneck_is_in_one_convolution(stride_in, strides):
    model = models.create("resnet50", stride_in=stride_in, width=4)
    for i, block in enumerate(blocks_of(model)):
        halves = i in (3, 7, 13)  # the first blocks of the stages after the first
        found = [block.conv1.stride[0], block.conv2.stride[0], block.conv3.stride[0]]
        assert found == (list(strides) if halves else [1, 1, 1])
        if block.downsample is not None:
            assert block.downsample[0].stride[0] == (2 if halves else 1)


def test_he_initialisation_has_the_deviation_of_the_fan():
    layer = nn.Conv2d(16, 64, 3, bias=True)
    for mode, fan in (("fan_out", 64 * 9), ("fan_in", 16 * 9)):
        he_initialisation(layer, mode)
        n = layer.weight.size
        # The standard error of a deviation from n draws is 1 / sqrt(2n) of it.
        assert abs(layer.weight.array.std() / np.sqrt(2 / fan) - 1) < 5 / np.sqrt(2 * n)
        assert not layer.bias.array.any()


CASES = {
    "resnet18": {"layers": (1, 2)},
    "resnet50": {"layers": (1, 2)},
    "plain18": {"layers": (1, 2)},
    "resnet20": {"depth": 8},
    "preact_resnet18": {"layers": (1, 2)},
    "preact_resnet50": {"layers": (1, 2)},
    "preact_resnet20": {"depth": 8},
    "wrn28_10": {"depth": 10, "k": 2},
    "resnext29_8x64d": {"layers": (1, 2)},
    "stochastic_depth_resnet110": {"depth": 8},
}


def results(name, options, training):
    """Output, gradients and running statistics of a small network, and the ops that made it."""
    minicnn.seed(1)
    model = models.create(name, preset="fashion-mnist", **{"width": 4, **options})
    model.astype(np.float64).train(training)
    x = Tensor(maps(4, 1, 8, 8), requires_grad=True)
    y = model(x)
    ops = ops_of(y)
    y.backward(maps(*y.shape, seed=2))
    state = {n: b for n, b in model.state_dict().items() if "running" in n}
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"y": y.array, "x": x.grad, **gradients, **state}, ops, model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_fusion_changes_no_result(name, training):
    fused, ops, model = results(name, CASES[name], training)
    with nn.unfused():
        plain, single_ops, _ = results(name, CASES[name], training)
    assert fused.keys() == plain.keys()
    terms = fan_ins(model) + 4 * 8 * 8
    scale = max(float(np.abs(a).max()) for a in plain.values())
    for key, expected in plain.items():
        largest = float(np.abs(expected).max()) or 1.0
        assert_close(fused[key], expected, terms=terms, condition=scale / largest, what=key)
    assert len(ops) < len(single_ops)
    if training:
        assert "relu" not in ops or name.startswith("stochastic")
        residual = [b for b in blocks_of(model) if not b.is_plain and getattr(b, "is_active", True)]
        assert ops.count("batch_norm_add_relu") == len(residual)


def shuffled_weights(model):
    """Give a network of torchvision statistics and scales that no two channels share."""
    for name, array in model.state_dict().items():
        if "running_var" in name or ("bn" in name and name.endswith("weight")):
            array.uniform_(0.5, 1.5)
        elif "running_mean" in name or name.endswith("bias"):
            array.normal_(0.0, 0.1)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_logits_with_torchvisions_weights(name):
    if find_spec("torchvision") is None:
        pytest.skip('torchvision is the extra "parity"')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages say while PyTorch is imported
        import torch

        torch.manual_seed(0)
        theirs = getattr(torchvision_models(), name)(num_classes=7).double().eval()
    shuffled_weights(theirs)
    x = maps(2, 3, 64, 64)
    ours = models.create(name, num_classes=7).astype(np.float64).eval()
    ours.load_state_dict({key: a.numpy() for key, a in theirs.state_dict().items()})
    with no_grad(), torch.no_grad():
        logits, expected = ours(Tensor(x)), theirs(torch.tensor(x)).numpy()
    assert np.ptp(expected, axis=0).max() > 0.01 * np.abs(expected).max()  # depends on the image
    terms = fan_ins(ours)
    assert_close(logits, expected, terms=terms)
