"""Every setting of a training run: its type, default, range and one line of help, in one place.

`TrainConfig` is the single source: the command line is generated from its fields (``batch_size``
becomes ``--batch-size``), a TOML file sets the same names, and the run folder keeps the resolved
values. Each field's ``metadata`` holds ``help`` and, where they apply, ``choices``, ``minimum`` and
``maximum`` (allowed values), ``above`` and ``below`` (values just out of range).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from minicnn.errors import ConfigError
from minicnn.training.setting_checks import (
    coerce,
    conflicts,
    help_line,
    message,
    problems_of,
    unknown_setting,
)
from minicnn_kernels import registry

__all__ = ["TrainConfig", "dump", "field_types", "load_config", "resolve"]


#: of a whole number without a limit of its own: more is a slip of the finger, which would train for
#: ever or give a schedule numbers that no float can hold
_MOST = 10**9
_MOST_PIXELS = 2**14  # of a picture's side


def _setting(default: Any, help: str, **limits: Any) -> Any:
    if type(default) is int:
        limits.setdefault("maximum", _MOST)
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
    preset: str = _setting(
        "", "preset of the architecture; empty: the one whose images are nearest in size"
    )
    data: str = _setting(
        "fashion_mnist",
        "name of the data set; or a folder with a sub-folder of pictures for each class, a .zip or "
        ".tar of one, or the URL of that",
    )
    size: int = _setting(
        0,
        "side of a folder's pictures, scaled and cut; 0: what the architecture takes",
        minimum=0,
        maximum=_MOST_PIXELS,
    )
    channels: int = _setting(
        3, "channels of a folder's pictures: 3 for colours, 1 for gray", minimum=1, maximum=3
    )
    test: float = _setting(
        0.2, "share of a folder's pictures kept for the test", above=0.0, below=1.0
    )
    cache_mb: int = _setting(
        1024, "MiB of memory for a folder's decoded pictures", minimum=0, maximum=2**30
    )
    source: str = _setting(
        "auto",
        "which data: the full set, the bundled sample, or the full set where it can be had",
        choices=("auto", "full", "sample"),
    )
    images: int = _setting(
        0, "training images used, the same share of every class; 0: all", minimum=0
    )
    epochs: int = _setting(10, "passes over the training set", minimum=1)
    steps: int = _setting(
        0, "batches to train on, rounded up to whole epochs; 0: as many as epochs says", minimum=0
    )
    batch_size: int = _setting(128, "examples in a step", minimum=1)
    optimizer: str = _setting("sgd", "update rule", choices=("sgd", "adam", "adamw", "rmsprop"))
    lr: float = _setting(0.1, "learning rate; with a schedule, its peak", above=0.0)
    lr_batch: int = _setting(
        0, "batch that lr was chosen for; lr grows in proportion with batch_size; 0: not", minimum=0
    )
    momentum: float = _setting(0.9, "momentum of sgd and rmsprop", minimum=0.0, below=1.0)
    nesterov: bool = _setting(True, "look ahead along the momentum (sgd with momentum)")
    weight_decay: float = _setting(5e-4, "L2 penalty; decoupled with adamw", minimum=0.0)
    decay: str = _setting(
        "all",
        "what the penalty acts on: all parameters, or weights without biases and norms",
        choices=("all", "weights"),
    )
    alpha: float = _setting(
        0.9, "memory of the squared gradients (rmsprop)", minimum=0.0, below=1.0
    )
    epsilon: float = _setting(
        1e-8, "added to the root that divides the step (adam, adamw, rmsprop)", minimum=0.0
    )
    schedule: str = _setting(
        "onecycle",
        "how the learning rate changes over the run",
        choices=(
            "constant",
            "step",
            "multistep",
            "exponential",
            "poly",
            "plateau",
            "cosine",
            "onecycle",
        ),
    )
    schedule_unit: str = _setting(
        "epoch",
        "what step_size and milestones count, and how often an exponential rate drops",
        choices=("epoch", "step"),
    )
    warmup: float = _setting(
        0.25,
        "share of all steps at the start in which the rate rises to lr (onecycle, cosine)",
        minimum=0.0,
        below=1.0,
    )
    warmup_steps: int = _setting(
        0,
        "first steps, in which the rate rises from a tenth, or from lr where lr_batch raises it",
        minimum=0,
    )
    step_size: int = _setting(10, "schedule units between two drops of the rate (step)", minimum=1)
    milestones: tuple[int, ...] = _setting(
        (), "schedule units after which the rate drops (multistep)", minimum=1, maximum=_MOST
    )
    gamma: float = _setting(
        0.1,
        "factor of a drop of the rate (step, multistep, exponential, plateau)",
        above=0.0,
        below=1.0,
    )
    power: float = _setting(
        1.0, "exponent of the share of steps left; 1: the rate falls on a line (poly)", above=0.0
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
        "random changes to training pictures: mirrored; mirrored, padded and cropped; mirrored, "
        "and a random part of random shape",
        choices=("none", "flip", "flip-crop", "flip-area"),
    )
    crop_area: float = _setting(
        0.08, "smallest share of the area that such a part has (flip-area)", above=0.0, maximum=1.0
    )
    crop_size: int = _setting(
        0,
        "side of what the network sees of a picture, its middle in evaluation; 0: all of it",
        minimum=0,
        maximum=_MOST_PIXELS,
    )
    crop_padding: int = _setting(
        2,
        "pixels added on each side before a random crop (flip-crop)",
        minimum=0,
        maximum=_MOST_PIXELS,
    )
    padding_mode: str = _setting(
        "constant",
        "what those pixels are: black, or the picture mirrored at its border",
        choices=("constant", "reflect"),
    )
    color_jitter: float = _setting(
        0.0,
        "largest random change of brightness, contrast, saturation; 0: off",
        minimum=0.0,
        maximum=100.0,
    )
    lighting: float = _setting(
        0.0,
        "spread of random light along the principal colours (AlexNet: 0.1)",
        minimum=0.0,
        maximum=100.0,
    )
    balance: str = _setting(
        "none",
        "what makes classes of few pictures count as much as others: nothing, or weights in the "
        "loss",
        choices=("none", "loss"),
    )
    weights: str = _setting(
        "", "file of weights, or run folder, to start from; a last layer of other classes is left"
    )
    freeze: bool = _setting(False, "train the last layer only (with weights)")
    validation: float = _setting(
        0.1, "share of the training set kept for validation; 0: none", minimum=0.0, below=1.0
    )
    early_stopping: int = _setting(
        0, "epochs without a better validation loss before stopping; 0: off", minimum=0
    )
    seed: int = _setting(
        0, "seed of everything random: same seed, same run", minimum=0, maximum=2**63 - 1
    )
    backend: str = _setting(
        os.environ.get(registry.ENVIRONMENT_VARIABLE) or "numba", "kernel set that computes"
    )
    graph: bool = _setting(False, "run several steps at once as a CUDA graph (on a GPU)")
    graph_steps: int = _setting(8, "steps that a graph holds", minimum=2, maximum=1024)
    threads: int = _setting(0, "CPU threads; 0: one for each core", minimum=0)
    parallel: str = _setting(
        "auto",
        "train in all processes that an MPI launcher has started, dividing each batch",
        choices=("auto", "on", "off"),
    )
    parallel_timeout: float = _setting(
        600.0, "seconds that a process waits for the others before it ends the job", above=0.0
    )
    sync_bn: bool = _setting(False, "batch norms use the statistics of all processes' images")
    prefetch: int = _setting(
        2,
        "batches prepared ahead in the background; 0: none, in the foreground",
        minimum=0,
        maximum=1024,
    )
    checkpoint_seconds: float = _setting(
        60.0,
        "seconds between checkpoints within an epoch; 0: only at the end of each epoch",
        minimum=0.0,
    )
    keep: int = _setting(2, "newest checkpoints kept, beside the best one", minimum=1)
    output: str = _setting("runs", "folder in which the run gets its own folder")
    name: str = _setting("", "name of the run's folder; empty: made from date and model")
    # A table of TOML ends with the next one, so this stays the last.
    model_options: tuple[tuple[str, Any], ...] = _setting(
        (), "options of the architecture, such as a dropout rate, in place of the preset's"
    )

    def __post_init__(self) -> None:
        for name, kind in field_types().items():
            object.__setattr__(self, name, coerce(kind, getattr(self, name)))

    def validate(self) -> TrainConfig:
        """Return the config itself if every setting can be used.

        Raises
        ------
        ConfigError : one message that lists every problem.

        >>> TrainConfig(epochs=0, optimizer="sgdd").validate()
        Traceback (most recent call last):
        minicnn.errors.ConfigError: TrainConfig: 2 settings cannot be used:
        epochs = 0 must be at least 1;
        optimizer = 'sgdd' must be one of sgd, adam, adamw, rmsprop (did you mean 'sgd'?).
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        problems = problems_of(values, _fields(), field_types()) or conflicts(self)
        if problems:
            raise ConfigError(message("TrainConfig", problems))
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
        values = tomllib.loads(Path(path).read_bytes().decode("utf-8-sig") + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"load_config: {path} could not be read: {reason}.") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError names the line
        raise ConfigError(f"load_config: {path} is not valid TOML: {error}.") from error
    problems = problems_of(values, _fields(), field_types())
    if problems:
        raise ConfigError(message(f"load_config: {path}", problems))
    types = field_types()
    return {name: coerce(types[name], value) for name, value in values.items()}


def resolve(
    config_file_values: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Return the config of a run: overrides before the file's values before the defaults.

    Parameters
    ----------
    config_file_values : what `load_config` returned
    overrides : what the command line gave; None for a setting means that it gave none. Epochs
        replace steps of the file, and options of the model join those of the file.

    Raises
    ------
    ConfigError : an unknown name, or a value that cannot be used.

    >>> resolve({"epochs": 3, "lr": 0.1}, {"epochs": 5, "lr": None}).epochs
    5
    """
    given = {k: v for k, v in (overrides or {}).items() if v is not None}
    from_file = dict(config_file_values or {})
    if "epochs" in given and "steps" not in given:
        from_file.pop("steps", None)  # the length that was asked for last
    values = {**from_file, **given}
    if "model_options" in from_file and "model_options" in given:
        values["model_options"] = {
            **dict(from_file["model_options"]),
            **dict(given["model_options"]),
        }
    fields = _fields()
    unknown = [p for name, value in values.items() if (p := unknown_setting(name, value, fields))]
    if unknown:
        raise ConfigError(message("resolve", unknown))
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
        value = dict(value) if field.name == "model_options" else value
        lines += ["", f"# {help_line(field)}", tomli_w.dumps({field.name: value}).rstrip("\n")]
    return "\n".join(lines) + "\n"


def field_types() -> dict[str, Any]:
    """Return the type of each setting: str, int, float, bool, tuple[int, ...] or Options.

    >>> field_types()["batch_size"]
    <class 'int'>
    """
    return get_type_hints(TrainConfig)


def _fields() -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(TrainConfig)}
