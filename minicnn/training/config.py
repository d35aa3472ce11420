"""Every setting of a training run: its type, default, range and one line of help, in one place.

`TrainConfig` is the single source: the command line is generated from its fields (``batch_size``
becomes ``--batch-size``), a TOML file sets the same names, and the run folder keeps the resolved
values. Each field's ``metadata`` holds ``help`` and, where they apply, ``choices``, ``minimum`` and
``maximum`` (allowed values), ``above`` and ``below`` (values just out of range).
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from minicnn.errors import ConfigError, nearest

__all__ = ["TrainConfig", "dump", "field_types", "load_config", "resolve"]


def _setting(default: Any, help: str, **limits: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run; the help of each is in its field's metadata.

    Whole numbers given for a float become floats and lists become tuples; everything else is taken
    as it is and judged by `validate`.

    >>> config = TrainConfig(epochs=3, lr=1)
    >>> config.epochs, config.lr, config.optimizer
    (3, 1.0, 'sgd')
    """

    model: str = _setting("notes_cnn", "name of the architecture")
    data: str = _setting("fashion_mnist", "name of the data set")
    source: str = _setting(
        "auto",
        "which data: the full set, the bundled sample, or the full set where it can be had",
        choices=("auto", "full", "sample"),
    )
    epochs: int = _setting(10, "passes over the training set", minimum=1)
    batch_size: int = _setting(128, "examples in a step", minimum=1)
    optimizer: str = _setting("sgd", "update rule", choices=("sgd", "adam", "adamw"))
    lr: float = _setting(0.1, "learning rate; with a schedule, its peak", above=0.0)
    momentum: float = _setting(0.9, "momentum of sgd", minimum=0.0, below=1.0)
    nesterov: bool = _setting(True, "look ahead along the momentum (sgd with momentum)")
    weight_decay: float = _setting(5e-4, "L2 penalty; decoupled with adamw", minimum=0.0)
    schedule: str = _setting(
        "onecycle",
        "how the learning rate changes over the run",
        choices=("constant", "step", "multistep", "plateau", "cosine", "onecycle"),
    )
    warmup: float = _setting(
        0.25,
        "share of all steps at the start in which the rate rises to lr (onecycle, cosine)",
        minimum=0.0,
        below=1.0,
    )
    step_size: int = _setting(10, "epochs between two drops of the rate (step)", minimum=1)
    milestones: tuple[int, ...] = _setting(
        (), "epochs after which the rate drops (multistep)", minimum=1
    )
    gamma: float = _setting(
        0.1, "factor of a drop of the rate (step, multistep, plateau)", above=0.0, below=1.0
    )
    patience: int = _setting(
        5, "epochs without a better validation loss before a drop (plateau)", minimum=0
    )
    clip_norm: float = _setting(
        0.0, "longest gradient, over all parameters; longer ones are scaled; 0: off", minimum=0.0
    )
    label_smoothing: float = _setting(
        0.0, "share of a label spread evenly over all classes", minimum=0.0, below=1.0
    )
    augment: str = _setting(
        "flip",
        "random changes to training pictures: mirrored; mirrored, padded and cropped",
        choices=("none", "flip", "flip-crop"),
    )
    validation: float = _setting(
        0.1, "share of the training set kept for validation; 0: none", minimum=0.0, below=1.0
    )
    early_stopping: int = _setting(
        0, "epochs without a better validation loss before stopping; 0: off", minimum=0
    )
    seed: int = _setting(
        0, "seed of everything random: same seed, same run", minimum=0, maximum=2**63 - 1
    )
    backend: str = _setting("numba", "kernel set that computes")
    threads: int = _setting(0, "CPU threads; 0: one for each core", minimum=0)
    prefetch: int = _setting(
        2, "batches prepared ahead in the background; 0: none, in the foreground", minimum=0
    )
    checkpoint_seconds: float = _setting(
        60.0,
        "seconds between checkpoints within an epoch; 0: only at the end of each epoch",
        minimum=0.0,
    )
    keep: int = _setting(2, "newest checkpoints kept, beside the best one", minimum=1)
    output: str = _setting("runs", "folder in which the run gets its own folder")
    name: str = _setting("", "name of the run's folder; empty: made from date and model")

    def __post_init__(self) -> None:
        for name, kind in field_types().items():
            object.__setattr__(self, name, _coerce(kind, getattr(self, name)))

    def validate(self) -> TrainConfig:
        """Return the config itself if every setting can be used.

        Raises
        ------
        ConfigError : one message that lists every problem.

        >>> TrainConfig(epochs=0, optimizer="sgdd").validate()
        Traceback (most recent call last):
        minicnn.errors.ConfigError: TrainConfig: 2 settings cannot be used:
        epochs = 0 must be at least 1;
        optimizer = 'sgdd' must be one of sgd, adam, adamw (did you mean 'sgd'?).
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        problems = _problems(values) or _conflicts(self)
        if problems:
            raise ConfigError(_message("TrainConfig", problems))
        return self


def load_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read settings from a TOML file; each is checked, those it does not name are left out.

    Parameters
    ----------
    path : file of ``name = value`` lines, the names being the fields of `TrainConfig`

    Returns
    -------
    dict setting -> value, for `resolve`

    Raises
    ------
    ConfigError : the file cannot be read or is not TOML (with the line), or a setting is unknown
        (with the nearest name), of the wrong type or out of range; all problems in one message.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "run.toml")
    ...     _ = path.write_text('epochs = 3\\nlr = 1')
    ...     load_config(path)
    {'epochs': 3, 'lr': 1.0}
    """
    import tomllib

    try:
        # The newline more lets every message name a line instead of the end of the document.
        values = tomllib.loads(Path(path).read_bytes().decode("utf-8") + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"load_config: {path} could not be read: {reason}.") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError names the line
        raise ConfigError(f"load_config: {path} is not valid TOML: {error}.") from error
    problems = _problems(values)
    if problems:
        raise ConfigError(_message(f"load_config: {path}", problems))
    types = field_types()
    return {name: _coerce(types[name], value) for name, value in values.items()}


def resolve(
    config_file_values: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Return the config of a run: overrides before the file's values before the defaults.

    Parameters
    ----------
    config_file_values : what `load_config` returned
    overrides : what the command line gave; None for a setting means that it gave none

    Raises
    ------
    ConfigError : an unknown name, or a value that cannot be used.

    >>> resolve({"epochs": 3, "lr": 0.1}, {"epochs": 5, "lr": None}).epochs
    5
    """
    given = {k: v for k, v in (overrides or {}).items() if v is not None}
    values = {**(config_file_values or {}), **given}
    unknown = [problem for name in values if (problem := _unknown(name, values[name]))]
    if unknown:
        raise ConfigError(_message("resolve", unknown))
    return TrainConfig(**values).validate()


def dump(config: TrainConfig) -> str:
    """Return the config as a TOML file that `load_config` reads back to the same values.

    >>> print(dump(TrainConfig()))
    # The settings of a minicnn training run. ...
    <BLANKLINE>
    # name of the architecture
    model = "notes_cnn"
    ...
    """
    import tomli_w

    config.validate()
    lines = [
        "# The settings of a minicnn training run. To train with the same ones again:",
        "# minicnn train --config FILE",
    ]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        lines += ["", f"# {_help(field)}", tomli_w.dumps({field.name: value}).rstrip("\n")]
    return "\n".join(lines) + "\n"


def field_types() -> dict[str, Any]:
    """Return the type of each setting, in order: str, int, float, bool or tuple[int, ...].

    >>> field_types()["batch_size"]
    <class 'int'>
    """
    return get_type_hints(TrainConfig)


def _coerce(kind: Any, value: Any) -> Any:
    """Return ``value`` as the setting's type where nothing is lost by it, else as it is."""
    if isinstance(value, bool):
        return value
    if kind is int and isinstance(value, numbers.Integral):
        return int(value)
    if kind is float and isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            return value
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind == tuple[int, ...] and isinstance(value, list | tuple):
        return tuple(_coerce(int, item) for item in value)
    return value


def _problems(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with each value by itself."""
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    types = field_types()
    problems = []
    for name, given in values.items():
        problem = _unknown(name, given)
        if not problem:
            value = _coerce(types[name], given)
            problem = _type_problem(types[name], value)
            problem = problem or _range_problem(fields[name].metadata, value)
            problem = problem and f"{name} = {_show(value)} {problem}"
        if problem:
            problems.append(problem)
    return problems


def _unknown(name: str, value: Any) -> str:
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    if name in names:
        return ""
    if isinstance(value, Mapping):
        return f"[{name}] is a table, but settings stand at the top of the file, outside of tables"
    hint = nearest(name, names).strip()
    return f"there is no setting {name!r}" + (f" ({hint})" if hint else "")


def _type_problem(kind: Any, value: Any) -> str:
    if kind == tuple[int, ...]:
        whole = isinstance(value, tuple) and not any(_type_problem(int, item) for item in value)
        return "" if whole else "must be a list of whole numbers"
    if kind is not bool and isinstance(value, bool):
        return f"must be {_NAMES[kind]}, not true or false"
    if kind is float and isinstance(value, int | float) and not _is_finite(value):
        return "must be finite"
    if not isinstance(value, kind):
        return f"must be {_NAMES[kind]}, not {type(value).__name__}"
    if kind is str and any("\ud800" <= character <= "\udfff" for character in value):
        return "must be text that UTF-8 can hold"
    return ""


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _range_problem(limits: Mapping[str, Any], value: Any) -> str:
    if isinstance(value, tuple):
        return next((p for item in value if (p := _range_problem(limits, item))), "")
    if "choices" in limits and value not in limits["choices"]:
        hint = nearest(value, limits["choices"]).strip()
        return f"must be one of {', '.join(limits['choices'])}" + (f" ({hint})" if hint else "")
    if "minimum" in limits and value < limits["minimum"]:
        return f"must be at least {limits['minimum']}"
    if "maximum" in limits and value > limits["maximum"]:
        return f"must be at most {limits['maximum']}"
    if "above" in limits and value <= limits["above"]:
        return f"must be above {limits['above']}"
    if "below" in limits and value >= limits["below"]:
        return f"must be below {limits['below']}"
    return ""


def _conflicts(config: TrainConfig) -> list[str]:
    """Return which settings, good by themselves, do not go together."""
    problems = [
        f"{name} must not be empty" for name in _NEEDED if not getattr(config, name).strip()
    ]
    if config.name in (".", "..") or any(c in config.name for c in "/\\\0"):
        problems.append(f"name = {config.name!r} must be the name of one folder, without slashes")
    if config.schedule == "multistep" and not config.milestones:
        problems.append("schedule = 'multistep' needs milestones, such as [5, 8]")
    if any(a >= b for a, b in zip(config.milestones, config.milestones[1:], strict=False)):
        problems.append(f"milestones = {list(config.milestones)} must increase")
    if config.early_stopping and not config.validation:
        problems.append("early_stopping watches the validation loss, but validation = 0")
    if config.schedule == "plateau" and not config.validation:
        problems.append("schedule = 'plateau' watches the validation loss, but validation = 0")
    return problems


_NEEDED = ("model", "data", "backend", "output")


def _message(where: str, problems: list[str]) -> str:
    count = "1 setting" if len(problems) == 1 else f"{len(problems)} settings"
    return f"{where}: {count} cannot be used: {'; '.join(problems)}."


def _show(value: Any) -> str:
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _help(field: dataclasses.Field[Any]) -> str:
    choices = field.metadata.get("choices")
    return field.metadata["help"] + (f" ({' / '.join(choices)})" if choices else "")
