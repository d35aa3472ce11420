"""A run that is continued with other settings trains with them, or says that it cannot."""

import pytest
import stored_run

import minicnn
from minicnn.errors import ConfigError
from minicnn.models import registry
from minicnn.training.callbacks import Callback
from minicnn.training.checkpoint import newest_checkpoint
from minicnn.training.config import TrainConfig, load_config
from minicnn.training.run import new_run, resumed_run


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_architectures", dict(registry._architectures))
    stored_run.known()
    monkeypatch.chdir(tmp_path)
    with minicnn.use_backend("numpy"):
        yield


def config(**changes):
    values = {
        "model": stored_run.NAME, "backend": "numpy", "batch_size": 20, "epochs": 1, "lr": 0.05,
        "images": 100, "validation": 0.5, "prefetch": 0, "name": "run", "source": "sample",
        "schedule": "constant",
    }  # fmt: skip
    return TrainConfig(**{**values, **changes})


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [
        ("sgd", {"momentum": 0.5, "nesterov": False, "weight_decay": 0.0, "lr": 0.01}),
        ("rmsprop", {"alpha": 0.5, "epsilon": 1e-3, "momentum": 0.1}),
    ],
)
def test_the_optimizer_does_what_the_settings_say(optimizer, changes):
    run = new_run(config(optimizer=optimizer))
    run.fit()
    resumed = resumed_run(run.folder, {**changes, "epochs": 2})
    resumed.fit()
    (group,) = newest_checkpoint(run.folder).meta["optimizer"]["groups"]
    written = load_config(run.folder / "config.toml")
    for name, value in changes.items():
        assert group[{"epsilon": "eps"}.get(name, name)] == written[name] == value


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 0.01},
        {"gamma": 0.5},
        {"step_size": 2},
        {"schedule": "cosine"},
        {"name": "another"},
        {"output": "elsewhere"},
        {"weights": "runs/run"},
        {"seed": 1},
    ],
)
def test_what_would_be_without_effect_is_refused(changes):
    run = new_run(config(schedule="step", schedule_unit="step"))
    run.fit()
    before = (run.folder / "config.toml").read_bytes()
    (name,) = changes
    with pytest.raises(ConfigError, match=f"cannot change {name} from"):
        resumed_run(run.folder, {**changes, "epochs": 2})
    assert (run.folder / "config.toml").read_bytes() == before
    resumed = resumed_run(run.folder, {"schedule": "constant", "lr": 0.01})
    assert resumed.trainer.lr == 0.01


@pytest.mark.parametrize(
    "changes",
    [{"model": "lenet5"}, {"optimizer": "adam"}, {"decay": "weights"}],
)
def test_what_the_arrays_do_not_fit_is_refused_by_name(changes):
    run = new_run(config())
    run.fit()
    files = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    ((name, value),) = changes.items()
    with pytest.raises(ConfigError, match=f"cannot change {name} from .* to {value!r}"):
        resumed_run(run.folder, {**changes, "epochs": 2})
    assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} == files


def test_early_stopping_is_asked_again():
    stopped = {"lr": 1e-12, "epochs": 9, "early_stopping": 1, "weight_decay": 0.0}
    run = new_run(config(**stopped))
    run.fit()
    done = run.trainer.position.epoch
    assert done < 9
    again = resumed_run(run.folder, {})
    assert again.notes[0].startswith("early stopping has ended this run")
    assert again.trainer.should_stop
    for patience, end in ((2, done + 1), (0, 9)):
        longer = resumed_run(run.folder, {"early_stopping": patience})
        longer.fit()
        assert longer.notes == []
        assert longer.trainer.position.epoch == end


def test_another_callback_that_ended_the_training_has_the_last_word():
    class Enough(Callback):
        def on_epoch_end(self, trainer, record):
            trainer.should_stop = True

    run = new_run(config(epochs=3, early_stopping=5), (Enough(),))
    run.fit()
    resumed = resumed_run(run.folder, {})
    resumed.fit()
    assert resumed.trainer.position.epoch == 1
