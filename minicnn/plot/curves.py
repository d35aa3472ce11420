"""Learning curves: loss and accuracy by epoch, of one run or of several."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minicnn.errors import ArgumentError
from minicnn.plot.style import DASHES, MARKERS, Theme, style
from minicnn.plot.words import legend_label, readable
from minicnn.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture

PANELS = (
    ("loss", "val_loss", "Loss", "loss (nats)"),
    ("accuracy", "val_accuracy", "Accuracy", "share of images"),
)
MOST = 8
_Source = History | str | os.PathLike[str]


def learning_curves(
    runs: _Source | Sequence[_Source] | Mapping[str, _Source], dark: bool = False
) -> Picture:
    """Draw loss and accuracy by epoch: training dashed, validation solid, the best epoch marked.

    runs : a `History`, a run folder or its history.jsonl; several of these, as a list or by name

    The loss of training is the mean over an epoch, while the weights still move, on augmented
    images: it can lie above that of validation. Raises `ArgumentError`.

    >>> history = History()
    >>> for epoch, loss in enumerate([2.3, 1.1, 0.8, 0.7], start=1):
    ...     history.append(kind="epoch", epoch=epoch, loss=loss, accuracy=1 - loss / 3)
    >>> print(learning_curves(history).alt)
    Learning curves over 4 epochs. run: loss 2.3 to 0.7, accuracy 0.23333 to 0.76667.
    """
    histories = _named(runs)
    records = {name: _epochs(name, history) for name, history in histories.items()}
    panels = [p for p in PANELS if any(_values(r, p[0]) or _values(r, p[1])
                                       for r in records.values())]  # fmt: skip
    if not panels:
        raise ArgumentError(
            "plot.learning_curves: no epoch has a loss or an accuracy; the fields are called "
            "loss, accuracy, val_loss and val_accuracy."
        )
    with style(dark) as colors:
        from minicnn.plot.picture import headed, margins, new

        picture = new(4.6 * len(panels), 3.7, colors, "Learning curves", _described(records))
        headed(picture, "ring: best epoch of validation")
        where = {**margins(picture, 0.68, 0.2, 0.88, 0.78), "wspace": 0.28}
        axes = picture.subplots(1, len(panels), squeeze=False, gridspec_kw=where)[0]
        for panel, one in zip(panels, axes, strict=True):
            _panel(one, panel, records, colors)
        handles, names = _legend(axes)
        picture.legend(handles, names, loc="lower left", ncols=min(len(names), 4),
                       bbox_to_anchor=(0.01, 0.0), handlelength=3.2)  # fmt: skip
        return picture


def _named(runs: Any) -> dict[str, History]:
    if isinstance(runs, (History, str, os.PathLike)):
        runs = [runs]
    if not isinstance(runs, Mapping):
        names = [_name(run) for run in runs]
        runs = {
            name if names.count(name) == 1 else f"{name} {i}": run
            for i, (name, run) in enumerate(zip(names, runs, strict=True), start=1)
        }
    if not 1 <= len(runs) <= MOST:
        raise ArgumentError(
            f"plot.learning_curves: runs has {len(runs)} histories; give 1 to {MOST}, more lines "
            "cannot be told apart."
        )
    return {readable(name): _history(run) for name, run in runs.items()}


def _name(run: Any) -> str:
    path = run.path if isinstance(run, History) else Path(run)
    if path is None:
        return "run"
    return path.parent.name or "run" if path.name.endswith(".jsonl") else path.name or "run"


def _history(run: Any) -> History:
    if isinstance(run, History):
        return run
    path = Path(run)
    return History.read(path / "history.jsonl" if path.is_dir() else path)


def _epochs(name: str, history: History) -> list[dict[str, Any]]:
    records = [r for r in history.records if r.get("kind", "epoch") == "epoch"]
    if not records:
        raise ArgumentError(
            f"plot.learning_curves: the history {name!r} has no epoch; train for one at least."
        )
    return [{"epoch": i, **record} for i, record in enumerate(records, start=1)]


def _values(records: Sequence[Mapping[str, Any]], field: str) -> list[tuple[int, float]]:
    """Epochs and values, without those that are not finite."""
    found = [(r["epoch"], r[field]) for r in records if r.get(field) is not None]
    return [(epoch, value) for epoch, value in found if math.isfinite(value)]


def _panel(axes: Axes, panel: Any, records: dict[str, list[dict[str, Any]]], colors: Theme) -> None:
    field, val_field, title, unit = panel
    for i, (name, found) in enumerate(records.items()):
        lead = f"{name}: " if len(records) > 1 else ""
        look: dict[str, Any] = {"color": colors.series[i % len(colors.series)]}
        training, validation = _values(found, field), _values(found, val_field)
        if training:
            dashes = DASHES[1] if validation or len(records) == 1 else "-"
            axes.plot(*zip(*training, strict=True), label=legend_label(f"{lead}training"),
                      linestyle=dashes, **look)  # fmt: skip
        if validation:
            axes.plot(*zip(*validation, strict=True), label=legend_label(f"{lead}validation"),
                      marker=MARKERS[i], markersize=4, markevery=max(len(found) // 12, 1),
                      **look)  # fmt: skip
            best = (min if field == "loss" else max)(validation, key=lambda pair: pair[1])
            axes.plot(*best, marker="o", markersize=9, fillstyle="none", linestyle="none", **look)
            if len(records) == 1:
                drop = -15 if field == "accuracy" else 9  # away from the line of training
                axes.annotate(f"{best[1]:.3g}", best, xytext=(0, drop), ha="center", fontsize=8,
                              textcoords="offset points")  # fmt: skip
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.set_ylabel(unit)
    axes.margins(y=0.12)
    axes.locator_params(axis="x", integer=True)


def _legend(axes: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for one in axes:
        for handle, name in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    return list(found.values()), list(found)


def _described(records: dict[str, list[dict[str, Any]]]) -> str:
    longest = max(r[-1]["epoch"] for r in records.values())
    parts = [f"Learning curves over {longest} epochs."]
    for name, found in records.items():
        spans = []
        for field, words in (("loss", "loss"), ("accuracy", "accuracy"),
                             ("val_loss", "validation loss"),
                             ("val_accuracy", "validation accuracy")):  # fmt: skip
            values = _values(found, field)
            if values:
                spans.append(f"{words} {values[0][1]:.5g} to {values[-1][1]:.5g}")
        parts.append(f"{name}: {', '.join(spans)}.")
    return " ".join(parts)
