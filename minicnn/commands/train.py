"""``minicnn train``: train a network and keep the run in a folder."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minicnn.commands.parser import EXIT_INTERRUPTED
from minicnn.commands.settings import add_settings

if TYPE_CHECKING:
    from minicnn.training.run import Run

HELP = "train a network and keep the run in a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    parser.add_argument(
        "--recipe", metavar="NAME", help="the settings of a paper, before those of --config"
    )
    parser.add_argument(
        "--share", type=float, metavar="X", help="share of the recipe's length, such as 0.05"
    )
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="continue the run of this folder, bit for bit"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write event files for TensorBoard"
    )
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from minicnn.interop.tensorboard import TensorBoard
    from minicnn.training.config import TrainConfig, load_config, resolve
    from minicnn.training.progress import ProgressBar
    from minicnn.training.run import new_run, resumed_run

    names = [field.name for field in dataclasses.fields(TrainConfig)]
    overrides = {name: getattr(options, name) for name in names}
    if overrides["model_options"] is not None:
        overrides["model_options"] = dict(overrides["model_options"])
    shown = (ProgressBar(), *([TensorBoard()] if options.tensorboard else []))
    file = {**_recipe(options), **(load_config(options.config) if options.config else {})}
    if options.resume is None:
        run = new_run(resolve(file, overrides), shown)
    else:
        given = {name: value for name, value in overrides.items() if value is not None}
        run = resumed_run(options.resume, {**file, **given}, shown)
    _announce(run)
    try:
        run.fit()
        result, epoch = run.test()
    except KeyboardInterrupt:
        print(
            f"\nminicnn train: interrupted and saved; continue with: "
            f"minicnn train --resume {run.folder}",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    print(
        f"test accuracy {result.accuracy:.4f}, loss {result.loss:.4f} "
        f"({result.confusion.matrix.sum():,} images, weights of epoch {epoch})"
    )
    return 0


def _announce(run: Run) -> None:
    position = run.trainer.position
    held_out = len(run.validation.dataset) if run.validation else 0
    print(
        f"{run.config.model}: {run.model.num_parameters():,} parameters; "
        f"{len(run.train.dataset):,} images to train on, {held_out:,} to validate"
    )
    print(
        f"run folder: {run.folder}" + (f" (from step {position.step:,})" if position.step else "")
    )
    if run.batches_fault:
        print(f"batches are made on the CPU: {run.batches_fault}")


def _recipe(options: argparse.Namespace) -> dict[str, Any]:
    from minicnn.errors import ConfigError
    from minicnn.training import recipes

    if options.recipe is None:
        if options.share is not None:
            raise ConfigError("--share shortens a recipe; name one with --recipe.")
        return {}
    if options.resume is not None:
        raise ConfigError("--recipe starts a new run; leave it out to resume one.")
    values = recipes.load(options.recipe)
    return values if options.share is None else recipes.shortened(values, options.share)
