"""The tables of a page: epochs, settings, machine and times; and of several runs side by side."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from minicnn.inspect import Summary
from minicnn.inspect._sheet import Sheet
from minicnn.report.chart import thinned
from minicnn.report.facts import Answers, Facts
from minicnn.training.config import TrainConfig

MOST_EPOCHS = 200  # rows
MOST_LAYERS = 600  # rows; ResNet-1001 has more
_COLUMNS = (
    ("loss", "training loss", ".4f"), ("accuracy", "training accuracy", ".4f"),
    ("val_loss", "validation loss", ".4f"), ("val_accuracy", "validation accuracy", ".4f"),
    ("lr", "learning rate", ".3g"), ("seconds", "seconds", ",.1f"),
    ("images_per_second", "images/s", ",.0f"),
)  # fmt: skip
_PLACES = ("output", "name")  # where a run is kept makes no difference to it


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of the run, the default, and what it means."""

    name: str
    value: str
    default: str
    help: str


def epochs(facts: Facts) -> Sheet:
    """The history, epoch by epoch; of very many epochs, an even choice."""
    columns = [c for c in _COLUMNS if any(c[0] in record for record in facts.epochs)]
    chosen = thinned(len(facts.epochs), MOST_EPOCHS)
    rows = [
        (f"{record.get('epoch', i + 1)}", *(_number(record.get(n), form) for n, _, form in columns))
        for i, record in ((i, facts.epochs[i]) for i in chosen)
    ]
    left = len(facts.epochs) - len(chosen)
    notes = [f"{left:,} epochs between them are not listed."] if left else []
    return Sheet("Epochs", ("epoch", *(title for _, title, _ in columns)), rows, (), notes)


def settings(config: TrainConfig) -> tuple[list[Setting], list[Setting]]:
    """The settings that are not the default, and the others.

    >>> [setting.name for setting in settings(TrainConfig(lr=0.2))[0]]
    ['lr']
    """
    changed: list[Setting] = []
    others: list[Setting] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        one = Setting(field.name, _shown(value), _shown(field.default), field.metadata["help"])
        (others if value == field.default else changed).append(one)
    return changed, others


def layers(found: Summary) -> Sheet:
    """The layers of the network; of very many, the first and the last ones."""
    sheet = found.sheet()
    over = len(sheet.rows) - MOST_LAYERS
    if over <= 0:
        return sheet
    half = MOST_LAYERS // 2
    note = f"{over:,} layers in the middle are not listed; minicnn summary has them."
    rows = [*sheet.rows[:half], *sheet.rows[-half:]]
    return dataclasses.replace(sheet, rows=rows, notes=[*sheet.notes, note])


def times(facts: Facts, tested: Answers | None) -> Sheet:
    """How long it took."""
    rows: list[tuple[str, str]] = []
    seconds, rates = facts.column("seconds"), facts.column("images_per_second")
    if seconds:
        rows += [
            ("training steps, all epochs", duration(facts.seconds)),
            ("an epoch, median", duration(statistics.median(seconds))),
            ("fastest and slowest epoch", f"{duration(min(seconds))}, {duration(max(seconds))}"),
        ]
    if rates:
        rows.append(("images in a second, median", f"{statistics.median(rates):,.0f}"))
    if tested is not None:
        count = f"{len(tested.labels):,} images"
        rows.append(("the test set, for this report", f"{duration(tested.seconds)} ({count})"))
    notes = ["Validation and checkpoints are not in the time of an epoch."] if seconds else []
    return Sheet("Times", ("what", "time"), rows, (), notes)


def machine(facts: Facts) -> Sheet:
    """Machine and versions, one column for each start of the training."""
    found = facts.sessions[-4:]
    names = list(dict.fromkeys(name for entry in found for name in entry))
    names = [name for name in names if name != "epochs planned"]
    rows = [(name, *(entry.get(name, "") for entry in found)) for name in names]
    titles = ("training",) if len(found) == 1 else tuple(
        f"from step {entry.get('from step', '?')}" for entry in found)  # fmt: skip
    before = len(facts.sessions) - len(found)
    notes = [f"{before} earlier starts are not listed."] if before else []
    return Sheet("Machine and versions", ("", *titles), rows, (), notes, left=len(found) + 1)


def results(runs: Sequence[Facts], names: Sequence[str], sizes: Sequence[Summary | None]) -> Sheet:
    """What each run reached, with its size and its time."""
    rows = []
    for run, name, size in zip(runs, names, sizes, strict=True):
        result, rates = run.result or {}, run.column("images_per_second")
        rows.append((
            name, run.config.model, _number(result.get("test_accuracy"), ".4f"),
            _number(result.get("test_loss"), ".4f"), _number(run.best("val_accuracy"), ".4f"),
            _number(size and size.parameters, ","), _number(size and size.multiply_adds, ","),
            f"{len(run.epochs)} of {run.planned}", duration(run.seconds),
            f"{statistics.median(rates):,.0f}" if rates else "",
        ))  # fmt: skip
    headings = ("run", "network", "test accuracy", "test loss", "best validation accuracy",
                "parameters", "multiply-adds", "epochs", "training", "images/s")  # fmt: skip
    notes = [
        "Test scores are those of the best weights by validation; a run that was not finished has "
        "none. Multiply-adds are for one image, training is the time in steps."
    ]
    return Sheet("Results", headings, rows, (), notes, left=2)


def differences(runs: Sequence[Facts], names: Sequence[str]) -> Sheet:
    """The settings in which the runs differ, and versions and machines where these do."""
    rows: list[tuple[str, ...]] = []
    for field in dataclasses.fields(TrainConfig):
        values = [_shown(getattr(run.config, field.name)) for run in runs]
        if len(set(values)) > 1 and field.name not in _PLACES:
            rows.append((field.name, *values))
    last = [run.sessions[-1] if run.sessions else {} for run in runs]
    for name in dict.fromkeys(name for entry in last for name in entry):
        values = [entry.get(name, "") for entry in last]
        if len(set(filter(None, values))) > 1 and name not in (
            "started",
            "from step",
            "epochs planned",
            "kernels",
        ):
            rows.append((name, *values))
    return Sheet("Settings that differ", ("setting", *names), rows, (), (), left=len(runs) + 1)


def duration(seconds: float) -> str:
    """A time in the units that a person would use.

    >>> duration(0.25), duration(75), duration(7265)
    ('0.25 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        parts = [f"{v[0]}={v[1]}" if isinstance(v, tuple) else str(v) for v in value]
        return ", ".join(parts) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value == "" else f"{value:g}" if isinstance(value, float) else str(value)
