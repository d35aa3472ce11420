"""What the experiments of this folder share: options, runs that can be continued, plots.

Every network is a run in a folder of its own (see `minicnn.training.run`), so that an experiment
that was stopped or killed continues when it is started again, and a finished part is not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from minicnn.training.callbacks import Callback
from minicnn.training.config import TrainConfig, resolve
from minicnn.training.files import atomic_write
from minicnn.training.progress import ProgressBar
from minicnn.training.run import Run, eval_loader, opened_run
from minicnn_kernels import registry

# What --quick sets: a look at whether everything runs, not a result.
QUICK = {"epochs": 1, "images": 500, "batch_size": 50, "source": "sample"}


def parser(text: str, output: str, **defaults: Any) -> argparse.ArgumentParser:
    """The options that every experiment has; ``defaults`` are those of this one."""
    made = argparse.ArgumentParser(
        description=text.split("\n\n")[0],
        epilog="Start it again with the same options to continue where it was stopped.",
    )
    settings = {"epochs": 10, "images": 0, "batch_size": 128, "seed": 0, "threads": 0, **defaults}
    for name, default in settings.items():
        shown = f"default {default}" + (", all" if name == "images" and not default else "")
        option = "--" + name.replace("_", "-")
        made.add_argument(option, type=type(default), default=default, metavar="N", help=shown)
    made.add_argument("--source", choices=("auto", "full", "sample"), default="auto")
    made.add_argument("--backend", default=registry.selected("cpu"), help="kernel set")
    made.add_argument("--output", type=Path, default=Path(output), help=f"default {output}")
    made.add_argument("--quick", action="store_true", help="a smoke test on 500 images, one epoch")
    return made


def common_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of `TrainConfig` that the common options give."""
    names = ("epochs", "images", "batch_size", "seed", "threads", "source", "backend")
    values = {name: getattr(options, name) for name in names}
    return {**values, "output": str(options.output), **(QUICK if options.quick else {})}


def trained(settings: dict[str, Any], *callbacks: Callback, on_test: bool = False) -> Run:
    """Train the run ``settings["name"]``, or what is left of it.

    on_test : measure the test set after each epoch, for a curve, in place of held-out images
    """
    config: TrainConfig = resolve({}, settings)
    print(f"\n{config.name}", flush=True)
    run = opened_run(config, (ProgressBar(), *callbacks))
    if on_test:
        test = run.source.load("test", source=config.source)
        run.validation = eval_loader(test, run.source, config)
    run.fit()
    return run


def write_json(path: Path, value: Any) -> None:
    """Write plain data, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(value, indent=2) + "\n")


def pyplot() -> Any:
    """matplotlib's pyplot drawing into files, or None with a note where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        print('no plot: install matplotlib, with pip install "minicnn[plot]"', file=sys.stderr)
        return None
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    return plt


def save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG file and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    print(f"plot: {path}")
