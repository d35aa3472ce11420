"""The parts of parallel training that need no MPI: shares, buckets, threads, rates, the model."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

import minicnn
from minicnn import Tensor, nn, random
from minicnn.data import (
    ArrayDataset,
    ColorJitter,
    Compose,
    Loader,
    RandomCrop,
    RandomHorizontalFlip,
    ToFloat,
)
from minicnn.data.sharded import ShardedLoader
from minicnn.errors import ArgumentError, ConfigError
from minicnn.functional import dropout
from minicnn.testing import assert_close
from minicnn.training import parallel
from minicnn.training.build import make_optimizer, make_schedule
from minicnn.training.config import TrainConfig
from minicnn.training.parallel_gradients import GradientBuckets, uses_of_leaves
from minicnn.training.parallel_norm import synchronise

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import scaling

# -- the shares of a batch


def pictures(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 6, 6), np.uint8)
    return ArrayDataset(pixels, np.arange(count))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("shuffle", [False, True])
def test_shares_put_together_are_the_batches_augmentation_included(size, shuffle):
    moves = Compose(
        [RandomHorizontalFlip(), RandomCrop((5, 5), 1), ToFloat(), ColorJitter(0.4, 0.4, 0.4)]
    )
    whole = Loader(pictures(25), 8, shuffle=shuffle, seed=4, transform=moves)
    parts = [ShardedLoader(whole, rank, size) for rank in range(size)]
    assert {len(part) for part in parts} == {len(whole)} == {4}
    streams = [part.iterate(epoch=1) for part in parts]
    for index, (images, labels) in enumerate(whole.iterate(epoch=1)):
        own = [(part.count(index), *next(s)) for part, s in zip(parts, streams, strict=True)]
        assert sum(count for count, *_ in own) == len(labels) == parts[0].total(index)
        np.testing.assert_array_equal(np.concatenate([i[:n] for n, i, _ in own]), images)
        np.testing.assert_array_equal(np.concatenate([x[:n] for n, _, x in own]), labels)
        assert all(len(i) == max(n, 1) for n, i, _ in own)


def test_a_share_can_start_in_the_middle_of_an_epoch():
    part = ShardedLoader(Loader(pictures(25), 8, shuffle=True), 1, 3)
    rest = [labels.tolist() for _, labels in part.iterate(epoch=2, start=2)]
    assert rest == [labels.tolist() for _, labels in part.iterate(epoch=2)][2:]


def test_a_rank_that_there_is_not():
    with pytest.raises(ArgumentError, match="rank is 2 of 2 processes; give a number from 0 to 1"):
        ShardedLoader(Loader(pictures(4), 2), 2, 2)


# -- buckets


class Alone:
    """A group of one that notes when sums start and what they are asked for."""

    def __init__(self):
        self.started = []

    def start_sum(self, array, what=""):
        self.started.append(array.copy())
        self.array = array
        return self

    def done(self):
        return True

    def wait(self):
        return self.array


def chain(layers):
    return nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(layers)))


def test_gradients_through_buckets_are_those_of_backward():
    minicnn.seed(1)
    model, x = chain(5), np.ones((2, 4), np.float32)
    model(Tensor(x)).sum().backward()
    wanted = [p.grad for p in model.parameters()]
    model.zero_grad()
    buckets = GradientBuckets(Alone(), model.parameters(), first_bytes=64, limit_bytes=128)
    assert [len(b.parameters) for b in buckets.buckets] == [1, 2, 2]
    for _ in range(2):
        model.zero_grad()
        buckets.backward(model(Tensor(x)).sum(), 0.5)
        for p, gradient in zip(model.parameters(), wanted, strict=True):
            assert_close(p.grad, 0.5 * gradient, terms=4)


def test_sums_start_while_backward_runs_last_layer_first():
    minicnn.seed(1)
    model, channel = chain(4), Alone()
    buckets = GradientBuckets(channel, model.parameters(), first_bytes=64, limit_bytes=64)
    seen = []
    output = model[1](model[0](Tensor(np.ones((1, 4), np.float32))))

    class Note(minicnn.Op):
        """Between the second and the third layer: how many sums have started when it is passed."""

        def forward(self, k, x):
            return x + 0

        def backward(self, k, gy):
            seen.append(len(channel.started))
            return gy + 0

    buckets.backward(model[3](model[2](minicnn.apply(Note(), output))).sum(), 1.0)
    assert seen == [2]
    assert buckets.early == len(channel.started) == 4
    for bucket, layer in zip(channel.started, [3, 2, 1, 0], strict=True):
        np.testing.assert_array_equal(bucket[:16], model[layer].weight.grad.ravel())
        assert bucket[16:].tolist() == [1.0]


def test_a_parameter_used_twice_goes_out_when_both_uses_have_added():
    layer, channel = nn.Linear(3, 3, bias=False), Alone()
    x = Tensor(np.ones((1, 3), np.float32))
    loss = layer(layer(x)).sum()
    assert uses_of_leaves(loss)[layer.weight] == 2
    GradientBuckets(channel, layer.parameters()).backward(loss, 1.0)
    assert len(channel.started) == 1
    sent = channel.started[0][:9].reshape(3, 3)
    layer.weight.grad = None
    layer(layer(x)).sum().backward()
    np.testing.assert_array_equal(sent, layer.weight.grad)


def test_a_parameter_without_gradient_keeps_none_and_holds_nothing_up():
    used, unused = (Tensor(np.ones(2, np.float32), requires_grad=True) for _ in range(2))
    channel = Alone()
    buckets = GradientBuckets(channel, [used, unused], first_bytes=8, limit_bytes=8)
    buckets.backward((used * used).sum(), 1.0)
    assert unused.grad is None
    assert used.grad.tolist() == [2.0, 2.0]
    assert (buckets.early, len(channel.started)) == (0, 2)  # the unused one's bucket is the first


def test_a_gradient_that_an_op_leaves_out_is_sent_at_the_end():
    class First(minicnn.Op):
        def forward(self, k, x, y):
            return x + y

        def backward(self, k, gy):
            return gy + 0, None

    a, b = (Tensor(np.ones(2, np.float32), requires_grad=True) for _ in range(2))
    GradientBuckets(Alone(), [a, b]).backward(minicnn.apply(First(), a, b).sum(), 1.0)
    assert a.grad.tolist() == [1.0, 1.0]
    assert b.grad is None


def test_buckets_need_something_to_train():
    with pytest.raises(ArgumentError, match="no parameter requires gradients"):
        GradientBuckets(Alone(), nn.Linear(2, 2).requires_grad_(False).parameters())


# -- synchronised norms of one process


class Own:
    counts = True

    def sum(self, values):
        return values


@pytest.mark.parametrize("momentum", [0.1, None])
def test_synchronised_norms_of_one_process_are_batch_norms(momentum):
    x = np.random.default_rng(2).standard_normal((6, 3, 4, 4))
    results = []
    for synchronised in (False, True):
        minicnn.seed(5)
        norm = nn.BatchNorm2d(3, momentum=momentum)
        model = nn.Sequential(nn.Conv2d(3, 3, 3), norm, nn.ReLU(), nn.MaxPool2d(2))
        model.astype(np.float64)
        if synchronised:
            assert synchronise(model, Own()) == 1
        for _ in range(2):
            model.zero_grad()
            model(Tensor(x)).sum().backward()
        gradients = [p.grad for p in model[1].parameters()]
        state = model.state_dict()
        results.append([*gradients, *state.values(), model.eval()(Tensor(x)).array])
        assert list(state)[2:] == [f"1.{n}" for n in norm.state_dict()]
    for plain, together in zip(*results, strict=True):
        assert_close(together, plain, terms=100, condition=10)


# -- who takes part, and with how much of the machine


def test_the_launchers_that_are_known():
    assert parallel.launched_size({"OMPI_COMM_WORLD_SIZE": "3"}) == 3
    assert parallel.launched_size({"SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "16"}) == 8
    assert parallel.launched_size({"SLURM_NTASKS": "16", "PMI_SIZE": ""}) == 1


def test_alone_nothing_of_mpi_is_imported(monkeypatch):
    for name in parallel._SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert parallel.join("auto") is None
    monkeypatch.setenv("PMI_SIZE", "4")
    assert parallel.join("off") is None
    with pytest.raises(ConfigError, match=r"one of 4 processes, but mpi4py .* --parallel off"):
        parallel.join("auto")


@pytest.mark.parametrize(
    ("mine", "everyone", "usable", "threads"),
    [
        (range(8), [range(8)] * 4, 8, 2),
        (range(8), [range(8)] * 3, 8, 2),
        (range(2), [range(8)] * 4, 2, 1),
        ([0], [[0], [1]], 1, 1),
        (range(64), [range(64)] * 2, 4, 2),  # a container with a quota of four cores
    ],
)
def test_cores_are_divided_among_those_who_share_them(mine, everyone, usable, threads):
    sets = [set(cores) for cores in everyone]
    assert parallel.threads_of_rank(set(mine), sets, usable) == threads


def test_processes_drop_different_values_and_keep_one_state():
    x, states, masks = Tensor(np.ones(64, np.float32)), [], []
    try:
        for rank in (0, 1, 2):
            random.use_stream(rank)
            minicnn.seed(3)
            masks.append(dropout(x, 0.5).array.tolist())
            states.append(random.get_state())
    finally:
        random.use_stream(0)
    assert states[0] == states[1] == states[2]
    assert masks[0] != masks[1] != masks[2] != masks[0]
    minicnn.seed(3)
    assert dropout(x, 0.5).array.tolist() == masks[0]


# -- the learning rate of a larger batch


def rates(config, steps):
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(config, model)
    schedule, _ = make_schedule(config, optimizer, batches=10)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        if schedule is not None:
            schedule.step()
    return found


def test_the_rate_grows_with_the_batch_and_warms_up_from_the_rate_that_was_given():
    plain = {"lr": 0.1, "epochs": 3, "schedule": "step", "schedule_unit": "step", "step_size": 20}
    config = TrainConfig(**plain, batch_size=1024, lr_batch=256, warmup_steps=4).validate()
    assert rates(config, 6) == pytest.approx([0.1, 0.175, 0.25, 0.325, 0.4, 0.4])
    assert rates(TrainConfig(**plain, batch_size=64, lr_batch=256), 1) == pytest.approx([0.025])
    assert rates(TrainConfig(**plain, batch_size=1024), 1) == pytest.approx([0.1])


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "cosine"])
def test_every_schedule_has_the_larger_rate(schedule):
    config = TrainConfig(lr=0.1, schedule=schedule, batch_size=512, lr_batch=128, epochs=3)
    assert max(rates(config, 30)) == pytest.approx(0.4, rel=0.02)


# -- the model on paper


def test_all_reduce_on_paper():
    machine = scaling.Machine(
        nvlink=1e9, network=1e8, ring_base=0, ring_nvlink=1e-3, ring_network=2e-3
    )
    assert scaling.ring_seconds(1e6, 1, machine) == scaling.tree_seconds(1e6, 1, machine) == 0
    assert scaling.ring_seconds(1e6, 4, machine) == pytest.approx(6e-3 + 1.5e-3)
    # 16 GPUs on two hosts: 30 steps, 2 of them between the hosts
    assert scaling.ring_seconds(1e6, 16, machine) == pytest.approx(0.028 + 0.004 + 1.875 * 1e-2)
    tree = scaling.Machine(tree_nvlink=1e-3, tree_network=1e-2, tree_bandwidth=1e9)
    assert scaling.tree_seconds(1e6, 64, tree) == pytest.approx(2 * (7e-3 + 3e-2) + 1e-3)


def test_steps_on_paper_lose_with_the_number_of_gpus():
    found = [scaling.step(n, 32, scaling.Machine(), scaling.Work()) for n in (1, 8, 64, 1024)]
    efficiencies = [one["efficiency"] for one in found]
    assert efficiencies[0] == 1.0
    assert efficiencies == sorted(efficiencies, reverse=True)
    slow = scaling.Machine(decoded=1.0)
    assert scaling.step(8, 32, slow, scaling.Work())["step"] == pytest.approx(256 / 128)
    assert math.isclose(sum(scaling.buckets(1e8)), 1e8)
    table = scaling.paper_table()
    assert "| 64 | 256 |" in table
    assert "| 1,024 | 32 |" in table
