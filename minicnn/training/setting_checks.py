"""What makes a value of a setting good or bad: its type, its range, and what goes with what."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from minicnn.errors import nearest

if TYPE_CHECKING:
    from minicnn.training.config import TrainConfig

#: options of a builder, sorted by name: a table in TOML, hashable here
Options = tuple[tuple[str, Any], ...]

Fields = Mapping[str, dataclasses.Field[Any]]


def coerce(kind: Any, value: Any) -> Any:
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
        return tuple(coerce(int, item) for item in value)
    if kind == Options and isinstance(value, Mapping | tuple):
        return _as_options(value)
    return value


def _as_options(value: Any) -> Any:
    """Pairs sorted by name, lists as tuples; what is no list of pairs stays as it is."""
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not all(
        isinstance(p, list | tuple) and len(p) == 2 and isinstance(p[0], str) for p in pairs
    ):
        return value
    return tuple(sorted(((k, tuple(v) if isinstance(v, list) else v) for k, v in pairs), key=_name))


def _name(pair: tuple[str, Any]) -> str:
    return pair[0]


def problems_of(values: Mapping[str, Any], fields: Fields, types: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with each value by itself."""
    problems = []
    for name, given in values.items():
        problem = unknown_setting(name, given, fields)
        if not problem:
            value = coerce(types[name], given)
            problem = _type_problem(types[name], value)
            problem = problem or _range_problem(fields[name].metadata, value)
            problem = problem and f"{name} = {_show(value)} {problem}"
        if problem:
            problems.append(problem)
    return problems


def unknown_setting(name: str, value: Any, names: Iterable[str]) -> str:
    """What is wrong with the name of a setting, in words, or nothing."""
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
    if kind == Options:
        return _options_problem(value)
    if kind is not bool and isinstance(value, bool):
        return f"must be {_NAMES[kind]}, not true or false"
    if kind is float and isinstance(value, int | float) and not _is_finite(value):
        return "must be finite"
    if not isinstance(value, kind):
        return f"must be {_NAMES[kind]}, not {type(value).__name__}"
    if kind is str and any("\ud800" <= character <= "\udfff" for character in value):
        return "must be text that UTF-8 can hold"
    if kind is str and "\0" in value:
        return "must be text without the character NUL"
    return ""


def _options_problem(value: Any) -> str:
    """Names that Python can call an argument, and values that TOML can hold."""
    if not isinstance(value, tuple) or not all(isinstance(p, tuple) and len(p) == 2 for p in value):
        return "must be a table of name = value lines"
    for name, entry in value:
        if not isinstance(name, str) or not name.isidentifier():
            return f"has the name {name!r}, which is no name of an option"
        for item in entry if isinstance(entry, tuple) else (entry,):
            kind = next((kind for kind in _NAMES if isinstance(item, kind)), None)
            problem = _type_problem(bool if isinstance(item, bool) else kind, item) if kind else "-"
            if problem:
                return (
                    f"has {name} = {_show(entry)}: use text, numbers, true, false or lists of them"
                )
    return ""


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


_LIMITS = {"choices", "minimum", "maximum", "above", "below"}
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _range_problem(limits: Mapping[str, Any], value: Any) -> str:
    if not limits.keys() & _LIMITS:
        return ""
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


def conflicts(config: TrainConfig) -> list[str]:
    """Return which settings, good by themselves, do not go together."""
    problems = [
        f"{name} must not be empty" for name in _NEEDED if not getattr(config, name).strip()
    ]
    if config.name in (".", "..") or any(c in config.name for c in "/\\"):
        problems.append(f"name = {config.name!r} must be the name of one folder, without slashes")
    if not config.name.isprintable():
        problems.append(f"name = {config.name!r} must be of one line, without control characters")
    if config.schedule == "multistep" and not config.milestones:
        problems.append("schedule = 'multistep' needs milestones, such as [5, 8]")
    if any(a >= b for a, b in zip(config.milestones, config.milestones[1:], strict=False)):
        problems.append(f"milestones = {list(config.milestones)} must increase")
    problems += _schedule_conflicts(config)
    if config.channels == 2:
        problems.append("channels = 2 must be 1 (gray) or 3 (colours)")
    if config.freeze and not config.weights:
        problems.append("freeze = true needs weights, because random layers are no features")
    if config.augment == "flip-crop" and not (config.crop_padding or config.crop_size):
        problems.append("augment = 'flip-crop' needs crop_padding or crop_size above 0")
    if config.early_stopping and not config.validation:
        problems.append("early_stopping watches the validation loss, but validation = 0")
    if config.schedule == "plateau" and not config.validation:
        problems.append("schedule = 'plateau' watches the validation loss, but validation = 0")
    return problems


def _schedule_conflicts(config: TrainConfig) -> list[str]:
    if not config.warmup_steps:
        return []
    if config.schedule in ("constant", "plateau", "onecycle"):
        return [
            f"warmup_steps = {config.warmup_steps} does not go with schedule = "
            f"{config.schedule!r}; choose step, multistep, exponential, poly or cosine"
        ]
    if config.schedule in UNIT_SCHEDULES and config.schedule_unit == "epoch":
        return [
            f"warmup_steps = {config.warmup_steps} needs schedule_unit = 'step', with step_size "
            "and milestones in steps, because a schedule of epochs does not move within them"
        ]
    return []


UNIT_SCHEDULES = ("step", "multistep", "exponential")  # those that count schedule_unit
_NEEDED = ("model", "data", "backend", "output")


def message(where: str, problems: list[str]) -> str:
    """One sentence for all problems."""
    count = "1 setting" if len(problems) == 1 else f"{len(problems)} settings"
    return f"{where}: {count} cannot be used: {'; '.join(problems)}."


def _show(value: Any) -> str:
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def help_line(field: dataclasses.Field[Any]) -> str:
    """The help of a setting, with its choices."""
    choices = field.metadata.get("choices")
    return field.metadata["help"] + (f" ({' / '.join(choices)})" if choices else "")
