"""FractalNet: joins, columns and drop-path."""

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import models, nn, random
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError
from minicnn.models.fractalnet import FractalBlock, FractalNet, survivors
from minicnn.testing import assert_close

DRAWS = 20_000


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def small(**options):
    """A network of two blocks of three columns whose batch norms have statistics of their own."""
    net = FractalNet(in_channels=2, widths=(4, 6), **options).astype(np.float64)
    rng = np.random.default_rng(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * rng.standard_normal(module.num_features)
            module.running_var = rng.uniform(0.5, 1.5, module.num_features)
    return net


def pictures(count=3, size=8, seed=1):
    return Tensor(np.random.default_rng(seed).standard_normal((count, 2, size, size)))


def unit_by_hand(unit, x):
    y = F.conv2d(x, unit.conv.weight, unit.conv.bias, padding=1).array
    norm = unit.norm
    shape = (1, -1, 1, 1)
    y = (y - norm.running_mean.reshape(shape)) / np.sqrt(norm.running_var.reshape(shape) + norm.eps)
    return Tensor(np.maximum(y, 0.0))


def within(count, trials, probability):
    """Whether a count lies within five standard deviations of the binomial distribution."""
    deviation = np.sqrt(trials * probability * (1 - probability))
    return abs(count - trials * probability) <= 5 * deviation


@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("p", [0.15, 0.5, 0.9])
def test_a_join_keeps_each_input_as_often_as_it_should(count, p):
    kept = np.array([survivors(count, p) for _ in range(DRAWS)])
    assert kept.any(axis=1).all()
    one = 1 - p + p**count / count  # survived, or was revived after all were dropped
    assert all(within(kept[:, i].sum(), DRAWS, one) for i in range(count))
    alone = p**count + count * (1 - p) * p ** (count - 1) if count > 1 else 1.0
    assert within((kept.sum(axis=1) == 1).sum(), DRAWS, alone)


def test_evaluation_draws_nothing():
    net = small().eval()
    state = random.get_state()
    net(pictures())
    assert survivors(4, 0.0) == [True] * 4
    assert random.get_state() == state


def test_evaluation_is_the_mean_over_the_whole_fractal():
    block = small().eval().blocks[0]
    one, two, three = (list(column.children()) for column in block.columns)
    x = pictures()
    with no_grad():
        first = unit_by_hand(three[0], x)
        middle = (unit_by_hand(three[1], first) + unit_by_hand(two[0], x)) / 2
        third = unit_by_hand(three[2], middle)
        ends = [
            unit_by_hand(one[0], x),
            unit_by_hand(two[1], middle),
            unit_by_hand(three[3], third),
        ]
        expected = sum(F.max_pool2d(y, 2).array for y in ends) / 3
        assert_close(block(x), expected, terms=9 * 4 * 4 * 4)


@pytest.mark.parametrize("c", [0, 1, 2])
def test_a_column_alone_is_its_convolutions_in_a_row(c):
    net = small().eval()
    x = y = pictures()
    with no_grad():
        for block in net.blocks:
            for unit in block.columns[c].children():
                y = unit_by_hand(unit, y)
            y = F.max_pool2d(y, 2)
        expected = F.linear(F.global_avg_pool2d(y), net.fc.weight, net.fc.bias)
        assert_close(net.column(c)(x), expected, terms=9 * 6 * 8)
    assert sum(isinstance(m, nn.Conv2d) for m in net.column(c).modules()) == 2 * 2**c


def test_a_column_shares_its_parameters_with_the_network():
    net = small()
    own = {id(p) for p in net.parameters()}
    for c in range(3):
        assert all(id(p) in own for p in net.column(c).parameters())
        assert net.eval().column(c).training is False
        assert net.train().column(c).training is True


def run(net, x):
    """Train mode: how many convolutions each column of each block ran."""
    ran = {}
    handles = []
    for b, block in enumerate(net.blocks):
        for c, column in enumerate(block.columns):
            ran[b, c] = 0

            def count(module, args, y, key=(b, c)):
                ran[key] += 1

            handles += [unit.register_forward_hook(count) for unit in column.children()]
    y = net.train()(x)
    for handle in handles:
        handle.remove()
    return ran, y


def test_global_drop_path_trains_one_column_of_all_blocks():
    net = small(global_share=1.0, dropout=0.0)
    chosen = np.zeros(3)
    trials, x = 300, pictures(2, size=4)
    for _ in range(trials):
        ran, y = run(net, x)
        active = {c for (_, c), n in ran.items() if n}
        assert len(active) == 1
        (c,) = active
        assert all(n == 2**c for (_, column), n in ran.items() if column == c)
        with no_grad():
            np.testing.assert_array_equal(y.array, net.column(c)(x).array)
        chosen[c] += 1
    assert all(within(n, trials, 1 / 3) for n in chosen)


def test_half_of_the_batches_have_global_drop_path():
    net = small(drop_path=0.0, dropout=0.0)  # then all columns run in the other half
    trials, x = 300, pictures(2, size=4)
    columns = [len({c for (_, c), n in run(net, x)[0].items() if n}) for _ in range(trials)]
    assert set(columns) == {1, 3}
    assert within(columns.count(1), trials, 0.5)


def test_local_drop_path_does_not_compute_what_is_dropped():
    net = FractalBlock(2, 2, 3, dropout=0.0, bias=True, affine=False)
    ran = {}
    for name, unit in net.named_modules():
        if name.count(".") == 2:
            unit.register_forward_hook(
                lambda module, args, y, name=name: ran.update({name: ran.get(name, 0) + 1})
            )
    trials, p = 400, 0.3
    for _ in range(trials):
        net(pictures(2, size=4).array.astype(np.float32), drop_path=p)
    # The first step of column 1 is a join of one input, the second joins two.
    assert ran["columns.1.0"] == trials
    for name in ("columns.0.0", "columns.1.1"):
        assert within(ran[name], trials, 1 - p + p**2 / 2)


def test_a_seed_repeats_the_paths():
    net = small()
    x, runs = pictures(), []
    for _ in range(2):
        minicnn.seed(7)
        with no_grad():
            runs.append([run(net, x) for _ in range(12)])
    for (ran, y), (again, z) in zip(*runs, strict=True):
        assert ran == again
        np.testing.assert_array_equal(y.array, z.array)
    assert len({tuple(ran.values()) for ran, _ in runs[0]}) > 3


def test_dropout_grows_from_block_to_block():
    with nn.without_weights():
        net = models.create("fractalnet")
    rates = [{m.p for m in block.modules() if isinstance(m, nn.Dropout)} for block in net.blocks]
    assert [len(rate) for rate in rates] == [1] * 5
    np.testing.assert_allclose([rate.pop() for rate in rates], [0.0, 0.1, 0.2, 0.3, 0.4])


def test_only_used_paths_get_gradients():
    net = small(global_share=1.0)
    F.cross_entropy(run(net, pictures())[1], np.arange(3)).backward()
    trained = {
        c
        for block in net.blocks
        for c, column in enumerate(block.columns)
        if all(p.grad is not None for p in column.parameters())
    }
    assert len(trained) == 1


def test_mistakes_are_named():
    with pytest.raises(ArgumentError, match="c is 3; choose from 0 to 2"):
        small().column(3)
    with pytest.raises(ArgumentError, match="columns is 0"):
        FractalNet(columns=0)
    with pytest.raises(ArgumentError, match=r"fractalnet: p is 1\.5"):
        FractalNet(drop_path=1.5)
