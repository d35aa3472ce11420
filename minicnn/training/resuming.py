"""Continuing a run: what of its settings may have changed, and what then counts.

A checkpoint holds the state of a training and with it hyperparameters of the time when it was
saved, while the run folder's config.toml gets the settings of now. The two must not disagree, or
the file tells of a training that never was. So of each setting one of three things is true. What
decides which images come next, how the learning rate goes on, or where the run lies cannot change,
and the error says so before anything is written. Neither can the architecture, for two of them may
have arrays of the same shapes. Other settings, such as the optimizer, decide which arrays there
are: they may change where those of the checkpoint fit nevertheless. All else, such as the momentum,
the penalty, the augmentation or the patience of early stopping, is as it is set now.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minicnn.errors import CheckpointError, ConfigError, StateDictError
from minicnn.training.build import peak_rate
from minicnn.training.checkpoint import Checkpoint
from minicnn.training.config import TrainConfig
from minicnn.training.trainer import Trainer

#: settings that cannot change, and why
_KEPT = {
    "it decides which images come next": (
        *("data", "size", "channels", "test", "source", "images", "validation"),
        *("batch_size", "seed"),
    ),
    "it is where the folder lies, which can be moved": ("output", "name"),
    "it was for the beginning": ("weights",),
    "it is what the weights belong to": ("model",),
}
#: settings that decide which arrays a checkpoint holds
_OF_ARRAYS = ("preset", "model_options", "crop_size", "freeze", "optimizer", "decay")
_OF_SCHEDULES = (
    *("lr", "lr_batch", "warmup", "warmup_steps", "step_size", "milestones", "schedule_unit"),
    *("gamma", "power", "patience"),
)


def check_resumable(before: TrainConfig, config: TrainConfig) -> None:
    """Refuse, before anything is written, what would make the rest of a run another run."""
    for reason, names in _KEPT.items():
        _check_same(before, config, names, f"because {reason}; resume without it")
    if config.schedule == "constant":
        return
    other = "add --schedule constant and an --lr to go on with a rate of your own"
    _check_same(before, config, ("schedule",), f"because its rate is half-way through it; {other}")
    _check_same(
        before, config, _OF_SCHEDULES, f"because its {config.schedule} schedule has begun; {other}"
    )
    length, new_length = _length(before), _length(config)
    if length != new_length and config.schedule in ("onecycle", "cosine", "poly"):
        raise ConfigError(
            f"the {config.schedule} schedule of this run is spread over {length} and "
            f"cannot be stretched to {new_length}; add --schedule constant and an --lr to go on "
            "beyond them, or start a new run."
        )


@contextmanager
def naming_changes(before: TrainConfig, config: TrainConfig) -> Iterator[None]:
    """Where a checkpoint does not fit in the block, name the settings that are to blame."""
    try:
        yield
    except (StateDictError, CheckpointError) as error:
        changed = [n for n in _OF_ARRAYS if getattr(before, n) != getattr(config, n)]
        if not changed:
            raise
        what = " and ".join(
            f"{n} from {getattr(before, n)!r} to {getattr(config, n)!r}" for n in changed
        )
        raise ConfigError(
            f"this run cannot change {what} half-way, because the arrays of its checkpoint do not "
            "fit then; resume without that, or start a new run."
        ) from error


def take_up(trainer: Trainer, checkpoint: Checkpoint, config: TrainConfig) -> list[str]:
    """Continue from a checkpoint with the settings of now; later lines of the history go.

    Returns what a person should know.
    """
    groups = trainer.optimizer.param_groups
    settings = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in groups]
    trainer.load_state(checkpoint)
    for group, now in zip(groups, settings, strict=True):
        group.update(now)
        if trainer.scheduler is None:  # a constant rate is the one asked for now
            group["lr"] = peak_rate(config)
    position = trainer.position
    # The epoch's own line has the step of a checkpoint made after its last batch.
    trainer.history.truncate(position.step - (1 if position.batch else 0))
    return _stopped_early(trainer, checkpoint.meta, config.early_stopping)


def _stopped_early(trainer: Trainer, meta: dict[str, Any], patience: int) -> list[str]:
    """Whether to stop early is asked again, with the patience of now."""
    stopping = meta["callbacks"].get("EarlyStopping", {"waited": 0})
    waited = stopping["waited"]
    if not trainer.should_stop or waited < stopping.get("patience", 1):
        return []  # or another callback has ended it
    trainer.should_stop = 0 < patience <= waited
    if not trainer.should_stop:
        return []
    return [
        f"early stopping has ended this run (epochs without a better validation loss: {waited}); "
        f"to go on, add --early-stopping with more than {waited}, or 0 for never"
    ]


def _check_same(
    before: TrainConfig, config: TrainConfig, names: tuple[str, ...], reason: str
) -> None:
    for name in names:
        old, new = getattr(before, name), getattr(config, name)
        if old != new:
            raise ConfigError(
                f"a run cannot change {name} from {old!r} to {new!r} half-way, {reason}, or start "
                "a new run."
            )


def _length(config: TrainConfig) -> str:
    return f"{config.steps:,} steps" if config.steps else f"{config.epochs} epochs"
