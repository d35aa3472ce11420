"""The command line: ``minicnn train | evaluate | predict | export | models | ...``.

Settings of a run are the fields of `TrainConfig`; an option, a line of a TOML file and a field are
three ways to say the same thing. A mistake gets one sentence on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from minicnn.errors import MiniCNNError, nearest

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one sentence that names the nearest right word."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **kwargs})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; an unknown option is an error that names the nearest one."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = getattr(parsed, "parser", self)
            known = [o for action in command._actions for o in action.option_strings]
            word = unknown[0].split("=")[0]
            command.error(
                f"unknown option {word!r}; {nearest(word, known)}see {command.prog} --help."
                if word.startswith("-")
                else f"unexpected argument {word!r}; see {command.prog} --help."
            )
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print one sentence and exit with code 2."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(EXIT_MISTAKE)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            what = action.metavar or action.dest
            raise argparse.ArgumentError(
                None,
                f"unknown {what} {value!r}; {nearest(str(value), choices)}"
                f"choose one of {', '.join(choices)}.",
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except MiniCNNError as error:
        print(f"minicnn {options.command}: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"  {note}", file=sys.stderr)
        return EXIT_MISTAKE
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> Parser:
    from minicnn.version import __version__

    parser = Parser(prog="minicnn", description="Convolutional networks written by hand.")
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)

    train = _command(commands, "train", _train, "train a network and keep the run in a folder")
    train.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    train.add_argument(
        "--recipe", metavar="NAME", help="the settings of a paper, before those of --config"
    )
    train.add_argument(
        "--share", type=float, metavar="X", help="share of the recipe's length, such as 0.05"
    )
    train.add_argument(
        "--resume", type=Path, metavar="RUN", help="continue the run of this folder, bit for bit"
    )
    train.add_argument(
        "--tensorboard", action="store_true", help="write event files for TensorBoard"
    )
    _add_settings(train)

    evaluate = _command(
        commands, "evaluate", _evaluate, "measure a run, or several together, on the test set"
    )
    evaluate.add_argument(
        "folders", type=Path, nargs="*", metavar="RUN", help="run folders; default: the newest run"
    )
    evaluate.add_argument("--source", choices=("auto", "full", "sample"), help="which data")
    evaluate.add_argument(
        "--crops",
        type=int,
        default=1,
        choices=(1, 10),
        metavar="N",
        help="1, or 10: corners and centre, and mirrored; the mean counts (default 1)",
    )
    evaluate.add_argument(
        "--crop-size", type=int, metavar="N", help="side of the ten crops (default: as in training)"
    )
    evaluate.add_argument(
        "--crop-padding", type=int, metavar="N", help="pixels added around a picture before"
    )

    predict = _command(commands, "predict", _predict, "name what is on pictures")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture file")
    predict.add_argument(
        "--run", type=Path, metavar="RUN", dest="folder", help="default: the newest"
    )
    predict.add_argument(
        "--top", type=int, default=3, metavar="N", help="classes shown (default 3)"
    )
    predict.add_argument(
        "--invert", action="store_true", help="for dark things on a light background"
    )

    export = _command(commands, "export", _export, "write the network of a run as an ONNX file")
    export.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    export.add_argument("file", type=Path, metavar="FILE", help="such as model.onnx")

    models = _command(commands, "models", _models, "list the architectures")
    models.add_argument(
        "word", nargs="?", default="", metavar="WORD", help="only names that contain it"
    )

    summary = _command(commands, "summary", _summary, "list the layers of a network")
    summary.add_argument("model", metavar="NAME", help="name of the architecture")
    summary.add_argument("--preset", metavar="PRESET", help="default: the paper's")
    summary.add_argument("--input", metavar="CxHxW", help="size of one image, like 3x224x224")
    summary.add_argument("--classes", type=int, metavar="K", help="default: the preset's")
    summary.add_argument("--memory", action="store_true", help="what a training step holds instead")
    summary.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="for --memory (default 1)"
    )

    recipes = _command(commands, "recipes", _recipes, "list the papers' settings, or show one")
    recipes.add_argument("name", nargs="?", metavar="NAME", help="default: list all")

    _command(commands, "info", _info, "show versions, backends and threads")
    return parser


def _command(commands: Any, name: str, run: Any, help: str) -> Parser:
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    parser.set_defaults(run=run, parser=parser)
    return parser


def _add_settings(parser: Parser) -> None:
    """One option for each field of `TrainConfig`; no default, so that a file's value can stand."""
    from minicnn.training.config import TrainConfig, field_types
    from minicnn.training.setting_checks import Options

    group = parser.add_argument_group("settings")
    types = field_types()
    for field in dataclasses.fields(TrainConfig):
        option = "--" + field.name.replace("_", "-")
        help = f"{field.metadata['help']} (default {_shown(field.default)})".replace("%", "%%")
        common: dict[str, Any] = {"dest": field.name, "default": None, "help": help}
        if types[field.name] is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, **common)
        elif types[field.name] == Options:
            group.add_argument(
                "--option", action="append", type=_option, metavar="NAME=VALUE", **common
            )
        elif types[field.name] == tuple[int, ...]:
            group.add_argument(option, type=int, nargs="+", metavar="N", **common)
        else:
            metavar = {int: "N", float: "X", str: "NAME"}[types[field.name]]
            choices = field.metadata.get("choices")
            if choices:
                common["help"] = f"{field.metadata['help']}: {', '.join(choices)} " + (
                    f"(default {field.default})"
                )
            group.add_argument(
                option, type=types[field.name], choices=choices, metavar=metavar, **common
            )


def _option(text: str) -> tuple[str, Any]:
    """``name=value``, the value as TOML reads it, or as text where that is no TOML."""
    import tomllib

    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value, like depth=20")
    try:
        return name.strip(), tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value


def _shown(value: Any) -> str:
    return "none" if value in ("", ()) else str(value)


def _train(options: argparse.Namespace) -> int:
    from minicnn.interop.tensorboard import TensorBoard
    from minicnn.training.config import TrainConfig, load_config, resolve
    from minicnn.training.progress import ProgressBar
    from minicnn.training.run import new_run, resumed_run

    names = [field.name for field in dataclasses.fields(TrainConfig)]
    overrides = {name: getattr(options, name) for name in names}
    if overrides["model_options"] is not None:
        overrides["model_options"] = dict(overrides["model_options"])
    bar = (ProgressBar(), *([TensorBoard()] if options.tensorboard else []))
    file = {**_recipe(options), **(load_config(options.config) if options.config else {})}
    if options.resume is None:
        run = new_run(resolve(file, overrides), bar)
    else:
        given = {name: value for name, value in overrides.items() if value is not None}
        run = resumed_run(options.resume, {**file, **given}, bar)
    position = run.trainer.position
    held_out = len(run.validation.dataset) if run.validation else 0
    print(
        f"{run.config.model}: {run.model.num_parameters():,} parameters; "
        f"{len(run.train.dataset):,} images to train on, {held_out:,} to validate"
    )
    print(
        f"run folder: {run.folder}" + (f" (from step {position.step:,})" if position.step else "")
    )
    try:
        run.fit()
    except KeyboardInterrupt:
        print(
            f"\nminicnn train: interrupted and saved; continue with: "
            f"minicnn train --resume {run.folder}",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    result, epoch = run.test()
    print(
        f"test accuracy {result.accuracy:.4f}, loss {result.loss:.4f} "
        f"({result.confusion.matrix.sum():,} images, weights of epoch {epoch})"
    )
    return 0


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


def _recipes(options: argparse.Namespace) -> int:
    from minicnn.training import recipes

    if options.name is not None:
        print(recipes.text(options.name), end="")
        return 0
    for name in recipes.names():
        values = recipes.load(name)
        length = f"{values['steps']:,} steps" if "steps" in values else f"{values['epochs']} epochs"
        print(
            f"{name:18} {values['model']:27} {values['optimizer']:8} lr {values['lr']:<7g} "
            f"{values['schedule']:12} batch {values['batch_size']:<4} {length}"
        )
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from minicnn.training.ensemble import evaluate_runs
    from minicnn.training.metrics import classification_report
    from minicnn.training.run import newest_run

    folders = options.folders or [newest_run()]
    measured = evaluate_runs(
        folders, options.source, options.crops, options.crop_size, options.crop_padding
    )
    several = len(folders) > 1
    for folder, one, checkpoint in zip(folders, measured.each, measured.checkpoints, strict=True):
        alone = f": {_scores(one)}" if several else ""
        print(f"{folder}, weights of epoch {checkpoint.meta['epoch']}{alone}")
    print(classification_report(measured.together.confusion, measured.classes))
    name = f"mean of {len(folders)} networks: " if several else ""
    print(f"{name}{_scores(measured.together)}")
    return 0


def _scores(result: Any) -> str:
    top5 = "" if result.top5_error is None else f", top-5 error {result.top5_error:.4f}"
    return f"accuracy {result.accuracy:.4f}, loss {result.loss:.4f}{top5}"


def _predict(options: argparse.Namespace) -> int:
    from minicnn.training.evaluation import predict
    from minicnn.training.run import load_model, newest_run, prepared_images

    model, checkpoint = load_model(options.folder or newest_run())
    images = prepared_images(options.images, checkpoint.meta, options.invert)
    classes = checkpoint.meta["classes"]
    for path, row in zip(options.images, predict(model, images), strict=True):
        best = row.argsort()[::-1][: max(options.top, 1)]
        print(f"{path}: " + ", ".join(f"{classes[i]} {row[i]:.1%}" for i in best))
    return 0


def _export(options: argparse.Namespace) -> int:
    from minicnn.interop.onnx_export import export_run

    print(export_run(options.folder, options.file))
    return 0


def _models(options: argparse.Namespace) -> int:
    from minicnn.errors import ArgumentError
    from minicnn.inspect import catalogue
    from minicnn.models import names

    found = [name for name in names() if options.word in name]
    if not found:
        raise ArgumentError(
            f"no architecture's name contains {options.word!r}; "
            f"{nearest(options.word, names())}leave the word out to see all."
        )
    _show(catalogue(found))
    return 0


def _summary(options: argparse.Namespace) -> int:
    from minicnn.inspect import memory, summary
    from minicnn.models import create, find, nearest_preset
    from minicnn.nn import without_weights

    shape = _image_shape(options.input) if options.input else None
    preset = options.preset
    if shape and not preset:
        preset = nearest_preset(options.model, shape[1])
    shape = shape or find(options.model).preset(preset).input_shape
    channels, height, _ = shape
    with nullcontext() if options.memory else without_weights():
        model = create(options.model, options.classes, channels, preset, height)
    _show(memory(model, shape, options.batch_size) if options.memory else summary(model, shape))
    return 0


def _show(found: Any) -> None:
    """Print a table; wide where nobody looks at it, such as in a file."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 130
    Console(highlight=False, width=width).print(found.table())


def _image_shape(text: str) -> tuple[int, ...]:
    from minicnn.errors import ArgumentError

    parts = text.lower().split("x")
    if len(parts) != 3 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise ArgumentError(
            f"--input is {text!r}; write channels x height x width, like 3x224x224."
        )
    return tuple(int(p) for p in parts)


def _info(options: argparse.Namespace) -> int:
    import importlib.metadata
    import platform

    from minicnn.version import __version__
    from minicnn_kernels import registry, threads

    print(f"minicnn {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in ("numpy", "numba", "cupy-cuda13x"):
        try:
            print(f"  {package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {package} not installed")
    print("backends")
    for name, reason in registry.availability().items():
        print(f"  {name}: {'available' if reason is None else reason}")
    print(f"  in use on the CPU: {registry.selected('cpu')}")
    print(f"threads: {threads.get_num_threads()} of {threads.usable_cores()} usable cores")
    return 0
