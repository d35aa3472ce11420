"""``minicnn train``: train a network and keep the run in a folder."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minicnn.commands.parser import EXIT_INTERRUPTED
from minicnn.commands.settings import add_settings
from minicnn.commands.streams import lasting_output

if TYPE_CHECKING:
    from minicnn.training.parallel import Group
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
    from minicnn.training import parallel
    from minicnn.training.config import TrainConfig, load_config
    from minicnn.training.interrupts import ending_signals

    names = [field.name for field in dataclasses.fields(TrainConfig)]
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if "model_options" in given:
        given["model_options"] = dict(given["model_options"])
    file = {**_recipe(options), **(load_config(options.config) if options.config else {})}
    asked = {**file, **given}
    group = parallel.join(
        asked.get("parallel", TrainConfig.parallel),
        asked.get("parallel_timeout", TrainConfig.parallel_timeout),
    )
    with lasting_output(), parallel.member(group), ending_signals():
        return _trained(options, file, given, group)


def _trained(
    options: argparse.Namespace, file: dict[str, Any], given: dict[str, Any], group: Group | None
) -> int:
    """Train, alone or as a process of a group, and measure what came of it."""
    from minicnn.interop.tensorboard import TensorBoard
    from minicnn.report.writing import finish, fit
    from minicnn.training.config import resolve
    from minicnn.training.parallel_run import continue_run, start_run
    from minicnn.training.pictures import is_path
    from minicnn.training.progress import ProgressBar

    shown: tuple[Any, ...] = ()
    if group is None or group.rank == 0:
        shown = (ProgressBar(), *([TensorBoard()] if options.tensorboard else []))
    if options.resume is None:
        config = resolve(file, given)
        if is_path(config.data):
            print(f"looking through the pictures of {config.data}", flush=True)
        run = start_run(config, shown, group)
    else:
        run = continue_run(options.resume, {**file, **given}, shown, group)
    try:
        _announce(run, group)
        fit(run)
        result, epoch = run.test()
    except KeyboardInterrupt:
        if run.writes:
            print(f"\nminicnn train: {_interrupted(run)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception:
        _forget_unbegun(run)
        raise
    print(
        f"test accuracy {result.accuracy:.4f}, loss {result.loss:.4f} "
        f"({result.confusion.matrix.sum():,} images, weights of epoch {epoch})"
    )
    if path := finish(run, epoch=epoch):
        print(f"report: {path}")
    return 0


def _interrupted(run: Run) -> str:
    """What is left of a run that was interrupted: a folder to go on with, or none."""
    if _forget_unbegun(run):
        return "interrupted before it began; nothing is left of it."
    quoted = shlex.quote(str(run.folder))
    return f"interrupted and saved; continue with: minicnn train --resume {quoted}"


def _forget_unbegun(run: Run) -> bool:
    """Remove the new folder of a run whose settings were never written, and tell if it was one."""
    has_trained = any((run.folder / "checkpoints").glob("*"))  # whatever became of config.toml
    if not run.writes or has_trained or (run.folder / "config.toml").exists():
        return False
    shutil.rmtree(run.folder, ignore_errors=True)
    return True


def _announce(run: Run, group: Group | None) -> None:
    from minicnn_kernels.threads import get_num_threads

    if run.source.pictures is not None:
        print(run.source.pictures.report())
    for note in run.notes:
        print(note)
    if group is not None:
        print(
            f"{group.size} processes, {group.local_size} of them on this host, with "
            f"{get_num_threads()} CPU threads each; each batch of {run.config.batch_size} divided"
        )
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
