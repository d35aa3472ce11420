"""The training loop: it learns, resumes bit for bit, stops when told, and loses nothing."""

import math
import os
import signal

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import nn, optim
from minicnn.data import ArrayDataset, Compose, Loader, RandomHorizontalFlip, ToFloat
from minicnn.errors import (
    ArgumentError,
    CheckpointError,
    NonFiniteError,
    StateDictError,
)
from minicnn.optim import lr_scheduler
from minicnn.training.callbacks import Callback, Checkpointer, EarlyStopping
from minicnn.training.checkpoint import best_checkpoint, newest_checkpoint
from minicnn.training.history import History
from minicnn.training.progress import ProgressBar
from minicnn.training.trainer import Trainer


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def stripes(count=48, seed=0):
    """8x8 images of two classes: a light row or a light column."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, 1, 8, 8)).astype(np.uint8)
    labels = np.arange(count) % 2
    for image, label, place in zip(images, labels, rng.integers(0, 8, count), strict=True):
        if label:
            image[0, :, place] = 250
        else:
            image[0, place, :] = 250
    return ArrayDataset(images, labels)


def small_model():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def make_trainer(folder=None, optimizer="sgd", epochs=3, callbacks=(), **checkpointing):
    """A training with every source of randomness: init, shuffle, flips, dropout."""
    minicnn.seed(5)
    model = small_model()
    if optimizer == "sgd":
        rule = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    else:
        rule = optim.Adam(model.parameters(), lr=0.01)
    train = Loader(
        stripes(),
        8,
        shuffle=True,
        seed=3,
        transform=Compose([RandomHorizontalFlip(), ToFloat()]),
        prefetch=2,
    )
    cycle = lr_scheduler.OneCycleLR(
        rule, max_lr=0.1, total_steps=epochs * len(train), cycle_momentum=False
    )
    saving = (Checkpointer(folder, **checkpointing),) if folder else ()
    trainer = Trainer(
        model,
        rule,
        scheduler=cycle,
        schedule_every="step",
        callbacks=(*callbacks, *saving),
        history=History(folder / "history.jsonl") if folder else None,
    )
    return trainer, train, Loader(stripes(16, seed=1), 8)


class StopAfter(Callback):
    """Dies in the middle of a run, as a crash would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, images):
        if trainer.position.step == self.step:
            raise RuntimeError("crash")


def assert_same_state(a, b):
    weights_a, arrays_a, meta_a = a.state()
    weights_b, arrays_b, meta_b = b.state()
    for x, y in ((weights_a, weights_b), (arrays_a, arrays_b)):
        assert x.keys() == y.keys()
        for name in x:
            assert x[name].tobytes() == y[name].tobytes(), name
    for name in ("epoch", "batch", "step", "optimizer", "scheduler", "random", "running"):
        assert meta_a[name] == meta_b[name], name


def test_learns_and_records():
    trainer, train, validation = make_trainer(epochs=8)
    history = trainer.fit(train, validation, epochs=8)
    assert [r["epoch"] for r in history.records] == list(range(1, 9))
    assert history.records[-1]["step"] == 8 * len(train)
    losses = history.column("val_loss")
    assert losses[-1] < losses[0] / 2
    assert trainer.evaluate(validation).accuracy == history.records[-1]["val_accuracy"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("crash", [1, 6, 9, 17])
def test_resume_is_bit_for_bit(tmp_path, optimizer, crash):
    undisturbed, train, validation = make_trainer(optimizer=optimizer)
    expected = undisturbed.fit(train, validation, epochs=3)

    trainer, train, validation = make_trainer(
        tmp_path, optimizer, callbacks=[StopAfter(crash)], seconds=1e-9
    )
    with pytest.raises(RuntimeError, match="crash"):
        trainer.fit(train, validation, epochs=3)

    resumed, train, validation = make_trainer(tmp_path, optimizer, seconds=1e-9)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint.meta["step"] == crash - 1  # the crash came before the step's checkpoint
    resumed.load_state(checkpoint)
    history = resumed.fit(train, validation, epochs=3)
    assert_same_state(undisturbed, resumed)
    for name in ("epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy", "lr"):
        assert history.column(name) == expected.column(name), name


class Signals(Callback):
    """Sends signals to the own process after a step."""

    def __init__(self, step, *numbers):
        self.step, self.numbers = step, numbers

    def on_step_end(self, trainer, images):
        if trainer.position.step == self.step:
            for number in self.numbers:
                os.kill(os.getpid(), number)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGTERM, signal.SIGTERM],
        [getattr(signal, "SIGHUP", signal.SIGTERM)],  # which Windows lacks
    ],
)
def test_interrupt_finishes_the_step_saves_and_resumes(tmp_path, numbers):
    trainer, train, validation = make_trainer(tmp_path, callbacks=[Signals(7, *numbers)])
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train, validation, epochs=3)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    checkpoint = newest_checkpoint(tmp_path)
    assert (checkpoint.meta["step"], checkpoint.meta["batch"]) == (7, 1)
    resumed, train, validation = make_trainer(tmp_path)
    resumed.load_state(checkpoint)
    resumed.fit(train, validation, epochs=3)
    undisturbed, train, validation = make_trainer()
    undisturbed.fit(train, validation, epochs=3)
    assert_same_state(undisturbed, resumed)


@pytest.mark.usefixtures("heard")
def test_the_second_ctrl_c_strikes_at_once():
    passed = []

    class Later(Callback):
        def on_step_end(self, trainer, images):
            passed.append(trainer.position.step)

    signals = Signals(3, signal.SIGINT, signal.SIGINT)
    trainer, train, validation = make_trainer(callbacks=[signals, Later()])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train, validation, epochs=3)
    assert passed == [1, 2]


@pytest.mark.usefixtures("heard")
def test_a_ctrl_c_that_is_ignored_stays_ignored(tmp_path):
    """A shell without job control ignores it for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trainer, train, validation = make_trainer(callbacks=[Signals(2, signal.SIGINT)])
    assert len(trainer.fit(train, validation, epochs=1)) == 1
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signals = Signals(2, signal.SIGINT, signal.SIGTERM)
    trainer, train, validation = make_trainer(tmp_path, callbacks=[signals])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train, validation, epochs=1)
    assert newest_checkpoint(tmp_path).meta["step"] == 2


def test_a_program_keeps_its_own_handler_of_sigterm():
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        trainer, train, validation = make_trainer(callbacks=[Signals(2, signal.SIGTERM)])
        trainer.fit(train, validation, epochs=1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_initial_state_is_saved_before_the_first_step(tmp_path):
    trainer, train, _ = make_trainer(tmp_path, callbacks=[StopAfter(1)], seconds=0)
    with pytest.raises(RuntimeError, match="crash"):
        trainer.fit(train, epochs=1)
    assert newest_checkpoint(tmp_path).meta["step"] == 0


def test_best_epoch_survives_pruning(tmp_path):
    trainer, train, validation = make_trainer(tmp_path, epochs=6, keep=1)
    history = trainer.fit(train, validation, epochs=6)
    accuracies = history.column("val_accuracy")
    best = best_checkpoint(tmp_path)
    assert best.meta["epoch"] == accuracies.index(max(accuracies)) + 1
    kept = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()}
    assert kept == {best.path.name, newest_checkpoint(tmp_path).path.name}


def test_checkpoint_of_another_architecture_is_refused_whole(tmp_path):
    trainer, train, _ = make_trainer(tmp_path)
    trainer.fit(train, epochs=1)
    minicnn.seed(0)
    other = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.Flatten(), nn.Linear(320, 2))
    before = other.state_dict()
    second = Trainer(other, optim.SGD(other.parameters()))
    with pytest.raises(StateDictError) as caught:
        second.load_state(newest_checkpoint(tmp_path))
    for part in ("0.weight", "(4, 1, 3, 3)", "(5, 1, 3, 3)", "1.running_mean", "2.weight"):
        assert part in str(caught.value)
    assert all(np.array_equal(before[k], v) for k, v in other.state_dict().items())
    assert second.position.step == 0


def test_checkpoint_of_another_optimizer_is_refused_whole(tmp_path):
    trainer, train, _ = make_trainer(tmp_path)
    trainer.fit(train, epochs=1)
    other, _, _ = make_trainer(optimizer="adam")
    before = other.model.state_dict()
    with pytest.raises((CheckpointError, StateDictError)):
        other.load_state(newest_checkpoint(tmp_path))
    assert all(np.array_equal(before[k], v) for k, v in other.model.state_dict().items())


class Overflow(nn.Module):
    """Turns its input into infinity after some calls."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, x):
        self.calls -= 1
        return x if self.calls >= 0 else x * math.inf


def test_nonfinite_loss_names_epoch_step_and_layer():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Overflow(8), nn.ReLU(), nn.Linear(8, 2))
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.01))
    with pytest.raises(NonFiniteError, match=r"epoch 2, batch 3 \(step 9\).*is 2 Overflow"):
        trainer.fit(Loader(stripes(), 8), epochs=3)
    assert all(np.isfinite(w).all() for w in model.state_dict().values())


def test_nonfinite_input_and_parameter_are_told_apart():
    from minicnn.training.nonfinite import find_nonfinite

    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.ReLU())
    images = np.ones((2, 1, 2, 2), np.float32)
    buffers, state = [b.copy() for b in model.buffers()], minicnn.random.get_state()
    assert "only the loss" in find_nonfinite(model, images)
    assert all(np.array_equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert minicnn.random.get_state() == state
    model[0].weight.array[0] = np.nan
    assert "parameter 0.weight" in find_nonfinite(model, images)
    images[0, 0, 0, 0] = np.inf
    assert "input already" in find_nonfinite(model, images)


def test_early_stopping_counts_epochs_without_improvement():
    class Fixed(Callback):  # writes the validation loss that the test wants
        losses = (3.0, 2.0, 2.5, 2.1, 1.0, 0.5)

        def on_epoch_end(self, trainer, record):
            record["val_loss"] = self.losses[record["epoch"] - 1]

    stopping = EarlyStopping(patience=2)
    trainer, train, validation = make_trainer(callbacks=[Fixed(), stopping], epochs=6)
    history = trainer.fit(train, validation, epochs=6)
    assert len(history) == 4
    assert (stopping.best, stopping.waited) == (2.0, 2)


def test_early_stopping_refuses_a_missing_monitor():
    trainer, train, _ = make_trainer(callbacks=[EarlyStopping(1)])
    with pytest.raises(ArgumentError, match="no 'val_loss', only kind, epoch"):
        trainer.fit(train, epochs=1)


def test_plateau_watches_the_validation_loss():
    trainer, train, validation = make_trainer()
    trainer.schedule_every = "epoch"
    trainer.scheduler = lr_scheduler.ReduceLROnPlateau(
        trainer.optimizer, factor=0.5, patience=0, threshold=10.0
    )
    trainer.loss = lambda x, y: F.cross_entropy(x, y) * 0.0 + 1.0  # never improves
    lr = trainer.lr
    trainer.fit(train, validation, epochs=3)
    assert trainer.lr == lr * 0.25


def test_clipping_bounds_the_update():
    trainer, train, _ = make_trainer()
    trainer.optimizer = optim.SGD(trainer.model.parameters(), lr=1.0)
    trainer.scheduler, trainer.clip_norm = None, 1e-3
    before = np.concatenate([p.array.ravel().copy() for p in trainer.model.parameters()])
    trainer._run_step(*next(iter(train)))
    after = np.concatenate([p.array.ravel() for p in trainer.model.parameters()])
    length = float(np.linalg.norm((after - before).astype(np.float64)))
    assert 0 < length <= 1e-3 * (1 + 1e-3)


class Headed(nn.Module):
    """A linear layer and two heads on its input, which only training computes."""

    def __init__(self, weights=(0.3, 0.5)):
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, 2)
        self.heads = nn.ModuleList([nn.Linear(64, 2) for _ in range(2)])
        self.auxiliary_weights = weights

    def forward(self, x):
        x = self.flatten(x)
        return (self.fc(x), *[head(x) for head in self.heads]) if self.training else self.fc(x)


def test_auxiliary_losses_count_with_their_weights():
    minicnn.seed(1)
    model = Headed()
    images, labels = next(iter(Loader(stripes(), 8)))
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=1.0))
    before = model.state_dict()
    expected, gradients = 0.0, {}
    for name, weight in (("fc", 1.0), ("heads.0", 0.3), ("heads.1", 0.5)):
        layer = model.get_submodule(name)
        layer.zero_grad()
        loss = F.cross_entropy(layer(nn.Flatten()(minicnn.Tensor(images))), labels)
        loss.backward()
        expected += weight * loss.item()
        gradients[f"{name}.weight"] = weight * layer.weight.grad
    trainer.model.train()
    trainer._run_step(images, labels)
    assert trainer.running["loss"].value == pytest.approx(expected, rel=1e-6)
    for name, gradient in gradients.items():
        step = before[name] - model.state_dict()[name]
        np.testing.assert_allclose(step, gradient, rtol=1e-4, atol=1e-6)
    history = trainer.fit(Loader(stripes(), 8), Loader(stripes(16, seed=1), 8), epochs=1)
    assert history.records[-1]["loss"] > history.records[-1]["val_loss"]


def test_auxiliary_heads_without_their_weights_are_refused():
    model = Headed(weights=(0.3,))
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=1.0))
    with pytest.raises(ArgumentError, match=r"Headed returned 2 auxiliary outputs.*\(0.3,\)"):
        trainer.fit(Loader(stripes(), 8), epochs=1)


def test_progress_prints_one_line_an_epoch_without_a_terminal(capsys):
    trainer, train, validation = make_trainer(callbacks=[ProgressBar()])
    trainer.fit(train, validation, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  loss ")
    for word in ("accuracy", "val_loss", "val_accuracy", "lr", " s ", "images/s"):
        assert word in lines[1]


def test_training_in_a_thread_works():
    import threading

    trainer, train, _ = make_trainer()
    thread = threading.Thread(target=trainer.fit, args=(train,), kwargs={"epochs": 1})
    thread.start()
    thread.join()
    assert trainer.position.epoch == 1


def test_a_resume_marks_the_best_epoch_that_a_kill_left_unmarked(tmp_path):
    trainer, train, validation = make_trainer(tmp_path)
    trainer.fit(train, validation, epochs=2)
    best = best_checkpoint(tmp_path).path.name
    (tmp_path / "checkpoints" / "best.json").unlink()
    resumed, train, validation = make_trainer(tmp_path)
    resumed.load_state(newest_checkpoint(tmp_path))
    resumed.fit(train, validation, epochs=2)
    assert best_checkpoint(tmp_path).path.name == best
