"""What the heirs of ResNet change: pre-activation, width and dropout, groups, dropped blocks."""

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import models, nn
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError
from minicnn.models.preact_resnet import PreActBasic, PreActBlock, PreActBottleneck
from minicnn.models.resnet import Bottleneck
from minicnn.models.stochastic_depth import StochasticBlock
from minicnn.testing import assert_close


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def maps(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def blocks_of(model, kind):
    return [part for part in model.modules() if isinstance(part, kind)]


def inputs_of(layer):
    """A list that gets the input of each pass through a layer."""
    seen = []
    layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    return seen


# -- pre-activation


@pytest.mark.parametrize(("kind", "last"), [(PreActBasic, "conv2"), (PreActBottleneck, "conv3")])
def test_nothing_follows_the_sum_of_a_pre_activation_block(kind, last):
    block = kind(4 * kind.expansion, 4).astype(np.float64)
    assert block.downsample is None
    nn.init.zeros_(block.get_submodule(last).weight)
    x = maps(2, 4 * kind.expansion, 5, 5)
    assert np.array_equal(block(Tensor(x)).array, x)  # negative values too


def test_an_identity_block_normalises_its_branch_and_adds_x_itself():
    block = PreActBasic(4, 4).astype(np.float64)
    x = maps(3, 4, 6, 6)
    a = F.batch_norm_relu(Tensor(x), None, None, block.bn1.weight, block.bn1.bias, True)
    b = F.conv2d(a, block.conv1.weight, padding=1)
    b = F.batch_norm_relu(b, None, None, block.bn2.weight, block.bn2.bias, True)
    expected = F.conv2d(b, block.conv2.weight, padding=1).array + x
    assert_close(block(Tensor(x)), expected, terms=2 * 4 * 9 + 2 * 3 * 36)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("kind", [PreActBasic, PreActBottleneck])
def test_a_block_that_changes_the_shape_shares_one_activation(kind, shortcut):
    block = kind(3, 4, 2, shortcut=shortcut).astype(np.float64)
    body, skip = inputs_of(block.conv1), inputs_of(block.downsample)
    x = maps(2, 3, 6, 6)
    assert block(Tensor(x)).shape == (2, 4 * kind.expansion, 3, 3)
    assert body[0] is skip[0]
    assert_close(body[0], F.relu(block.bn1(Tensor(x))), terms=2 * 36)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in block.downsample)


def test_the_first_imagenet_block_has_no_activation_of_its_own_and_the_last_sum_gets_one():
    model = models.create("preact_resnet18", width=2)
    assert [b.bn1 is None for b in blocks_of(model, PreActBlock)] == [True] + [False] * 7
    assert model.norm.num_features == 16
    bare = models.create("preact_resnet20")
    assert bare.bn1 is None
    assert all(b.bn1 is not None for b in blocks_of(bare, PreActBlock))
    pooled = inputs_of(bare.avgpool)
    bare(Tensor(maps(2, 3, 8, 8).astype(np.float32)))
    assert pooled[0].array.min() == 0  # after a ReLU


@pytest.mark.parametrize(("name", "strides"), [("50", (1, 2)), ("164", (2, 1))])
def test_the_stride_of_a_pre_activation_bottleneck(name, strides):
    model = models.create(f"preact_resnet{name}", width=2)
    halving = [b for b in blocks_of(model, PreActBottleneck) if b.downsample is not None][1:]
    assert halving
    for block in halving:
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


# -- wide


def test_dropout_of_a_wide_block_acts_between_its_convolutions():
    model = models.create("wrn16_4", dropout=0.25)
    blocks = blocks_of(model, PreActBasic)
    assert [b.dropout.p for b in blocks] == [0.25] * 6
    assert not blocks_of(models.create("wrn16_4"), nn.Dropout)
    block = PreActBasic(4, 4, dropout=0.5)
    x = maps(2, 4, 6, 6).astype(np.float32)
    before, after = inputs_of(block.dropout), inputs_of(block.conv2)
    block(Tensor(x))
    assert before[0].array.min() == 0  # after a ReLU
    kept = after[0].array != 0
    assert np.array_equal(after[0].array[kept], 2 * before[0].array[kept])
    assert kept.sum() < (before[0].array != 0).sum()


def test_dropout_of_a_wide_block_leaves_the_shortcut_alone():
    block = PreActBasic(4, 4, dropout=1.0)
    x = maps(2, 4, 6, 6).astype(np.float32)
    assert np.array_equal(block(Tensor(x)).array, x)  # the whole branch is zero
    assert not np.array_equal(block.eval()(Tensor(x)).array, x)


def test_depths_that_cannot_be_are_refused():
    with pytest.raises(ArgumentError, match=r"depth is 20, but it must be 6n \+ 4; use 16 or 22"):
        models.create("wrn28_10", depth=20)
    with pytest.raises(ArgumentError, match=r"must be 9n \+ 2; use 164 or 173"):
        models.create("preact_resnet164", depth=165)
    with pytest.raises(ArgumentError, match=r"p_last is 1\.5; give a probability"):
        models.create("stochastic_depth_resnet110", p_last=1.5)


# -- groups


def test_grouped_bottleneck_equals_parallel_paths():
    """The three forms of figure 3: paths that are added, paths that are joined, groups."""
    groups, width, channels = 4, 3, 16
    block = Bottleneck(channels, 4, groups=groups, width_per_group=48).astype(np.float64).eval()
    x = Tensor(maps(2, channels, 6, 6))
    w1, w2, w3 = block.conv1.weight.array, block.conv2.weight.array, block.conv3.weight.array
    assert w2.shape == (groups * width, width, 3, 3)
    joined, added = [], 0
    for g in range(groups):
        own = slice(g * width, (g + 1) * width)
        a = F.relu(F.conv2d(x, Tensor(w1[own])) / np.sqrt(1 + block.bn1.eps))
        a = F.relu(F.conv2d(a, Tensor(w2[own]), padding=1) / np.sqrt(1 + block.bn2.eps))
        joined.append(a)
        added = added + F.conv2d(a, Tensor(w3[:, own])).array
    together = F.conv2d(F.cat(joined, dim=1), Tensor(w3)).array
    terms = channels + 9 * width + groups * width
    for branch in (added, together):
        expected = np.maximum(branch / np.sqrt(1 + block.bn3.eps) + x.array, 0)
        assert_close(block(x), expected, terms=terms)


# -- stochastic depth


@pytest.fixture
def deep():
    return models.create("stochastic_depth_resnet110", width=1, in_channels=1)


def test_survival_falls_by_equal_steps_to_a_half(deep):
    p = [block.survival for block in deep.blocks()]
    assert len(p) == 54
    assert p[-1] == 0.5
    assert_close(np.diff(p), np.full(53, -0.5 / 54), terms=2, condition=54 / 0.5)
    assert_close(sum(p), 40.25, terms=54)


def test_blocks_are_active_as_often_as_their_probability_says(deep):
    passes, x = 100, Tensor(np.zeros((2, 1, 4, 4), np.float32))
    active = np.empty((passes, 54))
    with no_grad():
        for row in active:
            deep(x)
            row[:] = [block.is_active for block in deep.blocks()]
    p = np.array([block.survival for block in deep.blocks()])
    deviation = np.sqrt((p * (1 - p)).sum() / passes)  # of the mean of independent draws
    assert abs(active.sum(axis=1).mean() - 40.25) < 4 * deviation
    assert (np.abs(active.mean(axis=0) - p) < 5 * np.sqrt(p * (1 - p) / passes)).all()
    variance = (p * (1 - p)).sum()  # blocks that were drawn together would have a larger one
    assert abs(active.sum(axis=1).var() / variance - 1) < 5 * np.sqrt(2 / passes)


def test_a_seed_repeats_the_blocks(deep):
    x = Tensor(np.zeros((2, 1, 4, 4), np.float32))

    def pattern(seed):
        minicnn.seed(seed)
        deep(x)
        return [block.is_active for block in deep.blocks()]

    assert pattern(3) == pattern(3) != pattern(4)


def test_a_dropped_block_runs_neither_forward_nor_backward():
    model = models.create("stochastic_depth_resnet110", depth=14, p_last=1.0, width=4)
    dropped = model.blocks()[2:4]  # one that halves the map is among them
    for block in dropped:
        block.survival = 0.0
    x = maps(2, 3, 8, 8).astype(np.float32)
    ran = [inputs_of(block.conv1) for block in model.blocks()]
    y = model(Tensor(x))
    y.backward(maps(*y.shape, seed=1).astype(np.float32))
    assert [bool(seen) for seen in ran] == [True, True, False, False, True, True]
    for block in model.blocks():
        idle = block in dropped
        assert all((p.grad is None) == idle for p in block.parameters())
        assert int(block.bn1.num_batches_tracked) == (0 if idle else 1)
        assert block.bn2.running_mean.any() != idle
    assert model.conv1.weight.grad.any()  # through the shortcuts


@pytest.mark.parametrize("stride", [1, 2])
def test_evaluation_scales_the_branch_by_the_probability(stride):
    x = maps(2, 3, 6, 6)
    block = StochasticBlock(3, 3 * stride, stride, survival=0.7).astype(np.float64).eval()
    mean = x.reshape(2, 3, 6 // stride, stride, 6 // stride, stride).mean(axis=(3, 5))
    skip = np.concatenate([mean] + [np.zeros_like(mean)] * (stride - 1), axis=1)
    f = nn.run_chain(block.body(), Tensor(x)).array
    y = block(Tensor(x)).array
    assert_close(y, np.maximum(0.7 * f + skip, 0), terms=3 * 9)
    assert np.array_equal(y, block(Tensor(x)).array)
    block.train().survival = 1.0
    f = nn.run_chain(block.body(), Tensor(x)).array
    assert_close(block(Tensor(x)), np.maximum(f + skip, 0), terms=3 * 9 + 2 * 36)
    block.survival = 0.0
    assert_close(block(Tensor(x)), np.maximum(skip, 0), terms=4)


def test_evaluation_of_the_whole_network_is_deterministic(deep):
    x = Tensor(maps(2, 1, 8, 8).astype(np.float32))
    deep.eval()
    with no_grad():
        first = deep(x).array
        minicnn.seed(9)
        assert np.array_equal(first, deep(x).array)
