"""Steps as CUDA graphs: the same bits as eager steps, no growing memory, clear refusals."""

from __future__ import annotations

import numpy as np
import pytest
from device_runs import OPTIMIZERS, REASON, loader, network, outcome, trainer

from minicnn import functional as F
from minicnn import nn, optim, random
from minicnn.autograd import Tensor
from minicnn.data import DeviceLoader
from minicnn.errors import CaptureError, NonFiniteError
from minicnn.training.callbacks import Callback
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.config import TrainConfig
from minicnn.training.run import new_run, resumed_run
from minicnn_kernels import registry
from minicnn_kernels.precision import allow_tf32, tf32_allowed

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

EPOCHS = 2  # of 12 batches of two images and one of one: 26 steps


@pytest.fixture(autouse=True)
def backend():
    with registry.use_backend("cupy_cuda"):
        yield


def trained(optimizer="momentum", epochs=EPOCHS, batches=None, validation=False, **settings):
    one = trainer("cuda", optimizer, **settings)
    one.fit(
        loader(25) if batches is None else batches, loader(9, 4) if validation else None, epochs
    )
    return one


def saved(one):
    """The state as a checkpoint holds it."""
    weights, arrays, meta = one.state()
    return Checkpoint(path="here", weights=weights, arrays=arrays, meta=meta)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_graph_gives_the_bits_of_eager_steps(optimizer):
    """Weights, momenta, counts, schedule, random state and every number of the history."""
    eager = outcome(trained(optimizer))
    assert outcome(trained(optimizer, graph=True)) == eager
    assert eager["meta"]["step"] == 26


def test_without_clipping_and_with_a_schedule_of_epochs():
    settings = {"clip_norm": 0.0, "schedule": False, "validation": True}
    assert outcome(trained(graph=True, **settings)) == outcome(trained(**settings))


def test_a_constant_rate_may_be_changed_by_hand_between_epochs():
    class Halve(Callback):
        def on_epoch_end(self, trainer, record):
            trainer.optimizer.param_groups[0]["lr"] /= 2
            trainer.optimizer.param_groups[0]["weight_decay"] = 0.1

    results = [
        outcome(trained(graph=graph, schedule=False, callbacks=(Halve(),)))
        for graph in (False, True)
    ]
    assert results[0] == results[1]


def test_two_runs_give_the_same_bits():
    assert outcome(trained("adam", graph=True)) == outcome(trained("adam", graph=True))


def test_the_number_of_steps_in_a_graph_changes_nothing():
    expected = outcome(trained(graph=True, graph_steps=2))
    assert outcome(trained(graph=True, graph_steps=5)) == expected


def test_batches_made_on_the_device_change_nothing():
    expected = outcome(trained())
    assert outcome(trained(batches=DeviceLoader(loader(25)))) == expected
    assert outcome(trained(batches=DeviceLoader(loader(25)), graph=True)) == expected


class Watch(Callback):
    """Notes what a step leaves behind."""

    def __init__(self, note):
        self.note, self.notes = note, []

    def on_step_end(self, trainer, images):
        self.notes.append(self.note(trainer, images))


def test_memory_does_not_grow():
    pool = registry.kernels("cuda").xp.get_default_memory_pool()

    def held(trainer, images):
        own = trainer.graphed.recording.pool if trainer.graphed.recording else None
        return pool.used_bytes(), pool.total_bytes(), own and own.total_bytes()

    watch = Watch(held)
    trained(graph=True, callbacks=(watch,), epochs=3, batches=DeviceLoader(loader(24)))
    # Two eager steps, then three replays and a rest of an eager step in an epoch of twelve.
    settled = watch.notes[6:]
    assert settled[0][2] > 0
    assert len({note[1:] for note in settled}) == 1
    assert max(note[0] for note in settled) == max(note[0] for note in settled[:5])


def test_the_graph_is_captured_once_and_replayed(monkeypatch):
    forwards = []
    original = F.cross_entropy

    def counting(*arguments):
        forwards.append(1)
        return original(*arguments)

    watch = Watch(lambda trainer, images: images)
    one = trained(graph=True, loss=counting, callbacks=(watch,), epochs=1, batches=loader(24))
    # 12 batches: 2 eager, 3 replays of 3 of which the first is captured, 1 eager.
    assert len(forwards) == 2 + 3 + 1
    assert watch.notes == [2, 2, 6, 6, 6, 2]
    assert one.position.step == 12


def test_what_changes_the_steps_has_them_captured_anew():
    def run(graph):
        class Change(Callback):
            def on_epoch_end(self, trainer, record):
                trainer.optimizer.load_state_dict(trainer.optimizer.state_dict())
                trainer.model.load_state_dict(trainer.model.state_dict())
                trainer.model[0].weight.requires_grad = trainer.position.epoch % 2 == 0
                trainer.model[1].eval() if trainer.position.epoch == 2 else None
                trainer.clip_norm = 0.5
                changes.append(allow_tf32(trainer.position.epoch == 1))

        changes = []
        before = tf32_allowed()
        try:
            return outcome(trained(graph=graph, epochs=3, callbacks=(Change(),)))
        finally:
            allow_tf32(before)

    assert run(True) == run(False)


@pytest.mark.parametrize(
    "stale",
    [
        lambda optimizer: lambda value: float(value),  # as a plain number, frozen in the graph
        lambda optimizer: lambda value: value if value < 1 else optimizer(value),  # the rate alone
    ],
)
def test_a_number_that_is_frozen_in_the_graph_is_caught(monkeypatch, stale):
    """The comparison of bits sees a learning rate that did not go through the table."""
    from minicnn.training import graphed

    original = graphed._Table.number

    def number(self, value):
        place = original(self, value)
        return stale(lambda v: place)(value)

    expected = outcome(trained("adam"))
    monkeypatch.setattr(graphed._Table, "number", number)
    assert outcome(trained("adam", graph=True)) != expected


def test_a_mask_that_is_frozen_in_the_graph_is_caught(monkeypatch):
    from minicnn.training import graphed

    original = graphed._Table.key

    def key(self, value):
        original(self, value)
        return value

    expected = outcome(trained())
    monkeypatch.setattr(graphed._Table, "key", key)
    assert outcome(trained(graph=True)) != expected


def test_a_stopped_training_goes_on_to_the_same_bits():
    """From a checkpoint between two replays, in the middle of an epoch, with and without graphs."""

    class Stop(Callback):
        def on_step_end(self, trainer, images):
            if trainer.position.step == 16:
                checkpoints.append(saved(trainer))
                raise KeyboardInterrupt

    checkpoints = []
    expected = outcome(trained("adam", graph=True))
    with pytest.raises(KeyboardInterrupt):
        trained("adam", graph=True, callbacks=(Stop(),))
    for graph in (True, False):
        again = trainer("cuda", "adam", graph=graph)
        again.load_state(checkpoints[0])
        assert again.position.step == 16
        again.fit(loader(25), epochs=EPOCHS)
        found = outcome(again)
        for what in ("weights", "optimizer", "meta"):
            assert found[what] == expected[what]
        assert found["history"] == expected["history"][1:]


def test_a_run_with_graphs_is_interrupted_and_resumed(tmp_path):
    def config(name):
        return TrainConfig(
            model="lenet5", source="sample", images=32, batch_size=4, epochs=2,
            backend="cupy_cuda", graph=True, graph_steps=3, output=str(tmp_path), name=name,
            validation=0.0, prefetch=0, checkpoint_seconds=1e-9, lr=0.02,
        )  # fmt: skip

    class Stop(Callback):
        def on_step_end(self, trainer, images):
            if trainer.position.step >= 5:
                raise KeyboardInterrupt

    whole = new_run(config("whole"))
    whole.fit()
    broken = new_run(config("broken"), (Stop(),))
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    resumed = resumed_run(broken.folder, {})
    assert resumed.trainer.position.step == 5
    resumed.fit()
    assert outcome(resumed.trainer)["weights"] == outcome(whole.trainer)["weights"]


# ---------------------------------------------------------------------- refusals


def test_a_loss_that_is_no_number_names_the_step_and_the_span():
    class Break(Callback):
        def on_step_end(self, trainer, images):
            if trainer.position.step == 8:
                next(trainer.model.parameters()).array[...] = np.nan

    with pytest.raises(
        NonFiniteError,
        match=r"the loss is nan in epoch 1, batch 9 \(step 9, seen after steps 9 to 11, which ran",
    ):
        trained(graph=True, callbacks=(Break(),))


class Peeking(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum().item() > 0 else x


class Tossing(nn.Module):
    def forward(self, x):
        return x * float(random.generator().random())


class Sending(nn.Module):
    def forward(self, x):
        return x + Tensor(registry.kernels("cuda").xp.asarray(np.ones(3, np.float32)))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Peeking, r"cannot be captured as a CUDA graph .*; use graph=False"),
        (Sending, r"cannot be captured as a CUDA graph .*; use graph=False"),
        (Tossing, r"draws random numbers on the CPU.*; use graph=False"),
    ],
)
def test_layers_that_decide_on_the_cpu_are_refused(layer, message):
    states = []
    watch = Watch(lambda trainer, images: states.append(outcome(trainer)))
    model = network()
    model.append(layer())
    one = trainer("cuda", "adam", model=model, graph=True, callbacks=(watch,))
    with pytest.raises(CaptureError, match=message):
        one.fit(loader(25), epochs=1)
    assert len(states) == 2
    assert outcome(one) == states[-1]  # the steps that were not captured have not happened


def test_the_cpu_is_refused():
    with pytest.raises(CaptureError, match="the model is on the CPU, where nothing is launched"):
        trainer("cpu", graph=True)


def test_kernels_that_call_cublas_through_cupy_are_refused():
    with registry.use_backend("cupy"), pytest.raises(CaptureError, match="kernels 'cupy': its mat"):
        trainer("cuda", graph=True)


def test_hooks_are_refused():
    model = network()
    model[2].register_forward_hook(lambda *what: None)
    with pytest.raises(CaptureError, match="the hooks of 2 would not run"):
        trainer("cuda", model=model, graph=True)


def test_a_schedule_that_needs_each_loss_is_refused():
    one = trainer("cuda")
    plateau = optim.lr_scheduler.ReduceLROnPlateau(one.optimizer)
    with pytest.raises(CaptureError, match="ReduceLROnPlateau after every step"):
        type(one)(one.model, one.optimizer, scheduler=plateau, schedule_every="step", graph=True)


def test_more_numbers_than_the_table_holds(monkeypatch):
    from minicnn.training import graphed

    monkeypatch.setattr(graphed, "CAPACITY", 5)
    with pytest.raises(CaptureError, match="use more than 5 changing numbers"):
        trained(graph=True)
