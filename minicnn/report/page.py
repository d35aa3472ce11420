"""The page itself: facts go into a template, every text of them escaped.

A page is one file without a script. A content security policy in its head forbids it to load
anything at all, so that it stays private and readable where there is no network, and so that a
class called ``<script>`` could do nothing even if it were not escaped.

Its size is bounded, because each part is: so many rows, points, pictures, bytes of a diagram at
most. Together they stay below 2 MB; a run on Fashion-MNIST takes a twentieth of that.
"""

from __future__ import annotations

import base64
import shlex
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minicnn import plot
from minicnn.errors import ArgumentError, MiniCNNError
from minicnn.nn import Module
from minicnn.report import classes, colors, tables
from minicnn.report.chart import Chart, Line, chart
from minicnn.report.facts import Answers, Facts, facts
from minicnn.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_RUNS = 8
MOST_DIAGRAM = 400_000  # bytes of a block diagram; a larger one is left out


class Diagram(NamedTuple):
    """A block diagram for light and dark pages: data URIs, words, and its width in pixels."""

    light: str
    dark: str
    alt: str
    width: int


def run_page(found: Facts, tested: Answers | None, note: str = "", now: str = "") -> str:
    """The page of one run.

    tested : what the network says of the test set; None leaves out what follows from it
    note : a sentence on how the training ended, or why something is missing
    now : when the page is made; by default the time
    """
    model = found.skeleton()
    size = found.summary(model)
    diagram, fault = (None, "") if model is None else _diagram(model, found)
    changed, others = tables.settings(found.config)
    values: dict[str, Any] = {
        "run": found,
        "note": note,
        "state": _state(found),
        "figures": _figures(found, tested, size),
        "charts": _charts(found),
        "epochs": tables.epochs(found) if found.epochs else None,
        "layers": None if size is None else tables.layers(size),
        "diagram": diagram,
        "diagram_fault": fault,
        "changed": changed,
        "others": others,
        "times": tables.times(found, tested),
        "machine": tables.machine(found) if found.sessions else None,
        "config": shlex.quote(str(found.folder / "config.toml")),
    }
    if tested is not None:
        values["tested"] = _tested(tested)
    return _rendered("run.html", values, now)


def comparison_page(folders: Sequence[Path], now: str = "") -> str:
    """The page that compares several runs; nothing is measured for it.

    Raises `ArgumentError` for more than eight runs, whose curves could not be told apart.
    """
    if not 2 <= len(folders) <= MOST_RUNS:
        raise ArgumentError(
            f"report.compare: got {len(folders)} run(s); give 2 to {MOST_RUNS}, more curves "
            "cannot be told apart."
        )
    runs = [facts(folder) for folder in folders]
    names = _names(runs)
    sizes = [run.summary(run.skeleton()) for run in runs]
    values = {
        "names": names,
        "runs": runs,
        "results": tables.results(runs, names, sizes),
        "charts": _overlaid(runs, names),
        "differences": tables.differences(runs, names),
    }
    return _rendered("comparison.html", values, now)


def _rendered(template: str, values: dict[str, Any], now: str) -> str:
    now = now or time.strftime("%Y-%m-%d %H:%M %z")
    page = _environment().get_template(template)
    return page.render(**values, colors=colors.css(), version=__version__, now=now)


def _environment() -> Environment:
    try:
        import jinja2
    except ImportError as error:
        raise plot.MissingExtraError(
            "minicnn.report: a report needs Jinja2; install it with: pip install jinja2"
        ) from error
    return jinja2.Environment(
        loader=jinja2.PackageLoader("minicnn.report"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip


def _state(found: Facts) -> str:
    done, planned = len(found.epochs), found.planned
    stopped = bool(found.meta and found.meta.get("stopped"))
    if done >= planned:
        return f"finished, {done} epoch{'s' if done != 1 else ''}"
    if stopped:
        return f"stopped early after {done} of {planned} epochs"
    return f"not finished, {done} of {planned} epochs done"


def _figures(found: Facts, tested: Answers | None, size: Any) -> list[tuple[str, str]]:
    """The few numbers that a reader wants first."""
    figures = []
    if tested is not None:
        measured = tested.evaluation()
        figures = [("test accuracy", f"{measured.accuracy:.2%}"), ("test loss",
                    f"{measured.loss:.4f}")]  # fmt: skip
        if measured.top5_error is not None:
            figures.append(("top-5 error", f"{measured.top5_error:.2%}"))
    elif found.result is not None and "test_accuracy" in found.result:
        figures = [("test accuracy", f"{found.result['test_accuracy']:.2%}")]
    best = found.best("val_accuracy")
    if best is not None:
        figures.append(("best validation accuracy", f"{best:.2%}"))
    if size is not None:
        figures.append(("parameters", f"{size.parameters:,}"))
        figures.append(("multiply-adds an image", f"{size.multiply_adds:,}"))
    if found.epochs:
        figures.append(("time in training steps", tables.duration(found.seconds)))
        rates = found.column("images_per_second")
        if rates:
            figures.append(("images in a second", f"{statistics.median(rates):,.0f}"))
    return figures


def _charts(found: Facts) -> list[Chart]:
    panels = (("loss", "Loss", "nats", "min"), ("accuracy", "Accuracy", "share of images", "max"))
    charts = []
    for name, title, unit, best in panels:
        training, validation = found.points(name), found.points(f"val_{name}")
        lines = [Line("training", training, 1), Line("validation", validation, 0, best)]
        charts.append(chart(name, title, unit, lines, may_log=best == "min"))
    rate = Line("learning rate", found.points("lr"), 0)
    charts.append(chart("rate", "Learning rate", "at the end of the epoch", [rate]))
    return [one for one in charts if one is not None]


def _overlaid(runs: Sequence[Facts], names: Sequence[str]) -> list[Chart]:
    panels = (
        ("val_accuracy", "Validation accuracy", "share of images", "max"),
        ("val_loss", "Validation loss", "nats", "min"),
        ("accuracy", "Training accuracy", "share of images", ""),
        ("loss", "Training loss", "nats", ""),
    )
    charts = []
    for field, title, unit, best in panels:
        lines = [
            Line(name, run.points(field), i, best)
            for i, (run, name) in enumerate(zip(runs, names, strict=True))
        ]
        charts.append(chart(field, title, unit, lines, may_log="loss" in field))
    return [one for one in charts if one is not None]


def _tested(tested: Answers) -> dict[str, Any]:
    measured = tested.evaluation()
    counts, names = measured.confusion, tested.classes
    wrong = int(counts.matrix.sum() - counts.matrix.trace())
    return {
        "classes": names,
        "images": int(counts.matrix.sum()),
        "wrong": wrong,
        "epoch": tested.epoch,
        "scores": classes.scores(counts, names),
        "bars": [float(counts.f1[i]) for i in classes.scored(counts)],
        "matrix": classes.matrix(counts, names),
        "pairs": classes.pairs(counts, names),
        "mistakes": classes.mistakes(tested),
    }


def _diagram(model: Module, found: Facts) -> tuple[Diagram | None, str]:
    """The block diagram, or why there is none."""
    assert found.meta is not None
    shape = tuple(found.meta["image_shape"])
    try:
        light, dark = (plot.architecture(model, shape, dark=dark) for dark in (False, True))
        data = [picture.as_bytes("svg") for picture in (light, dark)]
    except MiniCNNError as error:
        return None, str(error)
    if max(map(len, data)) > MOST_DIAGRAM:
        return None, f"The diagram has {max(map(len, data)):,} bytes; minicnn plot draws it."
    day, night = (f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}" for svg in data)
    return Diagram(day, night, light.alt, round(light.get_size_inches()[0] * 96)), ""


def _names(runs: Sequence[Facts]) -> list[str]:
    """Names of runs; where two are the same, their paths."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else str(run.folder)
        for name, run in zip(names, runs, strict=True)
    ]
