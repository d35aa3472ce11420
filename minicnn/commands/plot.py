"""``minicnn plot``: pictures of networks and of runs, written to files.

What can be drawn, and from what, is the table `PICTURES`; `minicnn.plot` draws it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minicnn.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from minicnn.nn import Module
    from minicnn.plot.picture import Picture

HELP = "draw a network, or what a run has learned"
USAGE = """
    architecture NAME|RUN      block diagram of a network
    curves [RUN ...]           loss and accuracy by epoch
    confusion [RUN ...]        which classes are taken for which; several runs: their mean
    samples, mistakes [RUN]    test images with the run's answers; the most certain wrong ones
    filters [RUN]              the first convolution
    maps, cam [RUN]            of an image: the maps of --layer; where the class is seen (Grad-CAM)
    field NAME|RUN             what a cell of --layer sees of an image
    timeline                   ImageNet's errors, 2012 to 2015
    zoo [FILE]                 parameters and arithmetic of all networks; or a league table's JSON

Without RUN the newest run is meant. maps, cam and field take --image, or a test image.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = USAGE
    parser.add_argument("what", choices=tuple(PICTURES), metavar="WHAT", help="see below")
    parser.add_argument("sources", nargs="*", metavar="NAME|RUN", help="network or run folders")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=".png, .svg or .pdf (default WHAT.png)"
    )
    parser.add_argument("--dark", action="store_true", help="for dark pages")
    parser.add_argument("--layer", metavar="PATH", help="layer of the network, like features.0")
    parser.add_argument("--image", type=Path, metavar="FILE", help="picture file")
    parser.add_argument("--index", type=int, default=0, metavar="N", help="which test image")
    parser.add_argument("--label", type=int, metavar="N", help="for cam (default: most probable)")
    parser.add_argument("--preset", metavar="PRESET", help="of a network given by name")


def run(options: argparse.Namespace) -> int:
    """Draw the picture and write it."""
    name, most, draw = options.what, *PICTURES[options.what]
    if len(options.sources) > most:
        takes = "nothing" if most == 0 else "one" if most == 1 else f"at most {most}"
        raise ConfigError(
            f"plot {name} takes {takes} to draw, not {len(options.sources)}: "
            f"leave out {options.sources[most]!r}."
        )
    picture = draw(options)
    path = picture.save(options.output or Path(f"{name}.png"))
    print(f"{path}: {picture.alt}")
    return 0


class _Tested(NamedTuple):
    """A run's network, and what it says of the test images."""

    model: Module
    classes: list[str]
    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


def _folder(options: argparse.Namespace) -> Path:
    from minicnn.training.run import newest_run

    return Path(options.sources[0]) if options.sources else newest_run()


def _tested(options: argparse.Namespace) -> _Tested:
    from minicnn.training.build import data_source
    from minicnn.training.config import load_config, resolve
    from minicnn.training.evaluation import probabilities
    from minicnn.training.run import apply_machine_settings, eval_loader, load_model
    from minicnn.training.run_folder import inside

    folder = _folder(options)
    config = resolve(load_config(inside(folder, "config.toml")), {})
    model, checkpoint = load_model(folder)
    apply_machine_settings(config)
    source = data_source(config.data)
    test = source.load("test", source=config.source)
    found, labels = probabilities(model, eval_loader(test, source, config))
    return _Tested(model, checkpoint.meta["classes"], test.images, labels, found)


def _network(options: argparse.Namespace) -> tuple[Any, Any]:
    """A run's model with its checkpoint, or the name of an architecture and None."""
    from minicnn.training.run import load_model

    if not options.sources:
        return load_model(_folder(options))
    source = options.sources[0]
    return load_model(Path(source)) if Path(source).is_dir() else (source, None)


def _built(options: argparse.Namespace) -> tuple[Any, Any]:
    """As `_network`, but an architecture is built, with weights drawn at random."""
    from minicnn import models

    model, checkpoint = _network(options)
    return (models.create(model, preset=options.preset), None) if checkpoint is None else (
        model, checkpoint)  # fmt: skip


def _image(options: argparse.Namespace, model: Any, checkpoint: Any) -> np.ndarray:
    """The picture of --image, or a test image, prepared for the model; blank without a run."""
    import numpy as np

    from minicnn.training.run import prepared_images

    if checkpoint is None:
        from minicnn.data.picture import read_picture

        if options.image:
            return read_picture(options.image, *model.input_shape)
        return np.full(model.input_shape, 0.5, np.float32)
    if options.image:
        return prepared_images([options.image], checkpoint.meta, invert=False)[0]
    from minicnn.training.build import data_source
    from minicnn.training.config import load_config, resolve
    from minicnn.training.run import eval_loader

    config = resolve(load_config(_folder(options) / "config.toml"), {})
    source = data_source(config.data)
    test = source.load("test", source=config.source)
    if not 0 <= options.index < len(test):
        raise ConfigError(
            f"--index is {options.index}, but there are {len(test):,} test images; choose 0 to "
            f"{len(test) - 1}."
        )
    batch = next(iter(eval_loader(test.subset([options.index]), source, config)))
    return np.asarray(batch[0][0])


def _layer(options: argparse.Namespace) -> str:
    if options.layer is None:
        raise ConfigError(
            f"plot {options.what} needs --layer, the path of a layer with maps, like features.0; "
            "minicnn summary NAME lists them."
        )
    return str(options.layer)


def _architecture(options: argparse.Namespace) -> Picture:
    from minicnn import plot

    model, _ = _network(options)
    return plot.architecture(model, preset=options.preset, dark=options.dark)


def _curves(options: argparse.Namespace) -> Picture:
    from minicnn import plot

    return plot.learning_curves(options.sources or [_folder(options)], dark=options.dark)


def _confusion(options: argparse.Namespace) -> Picture:
    from minicnn import plot
    from minicnn.training.ensemble import evaluate_runs

    folders = [Path(source) for source in options.sources] or [_folder(options)]
    measured = evaluate_runs(folders)
    return plot.confusion_matrix(measured.together, measured.classes, dark=options.dark)


def _samples(options: argparse.Namespace) -> Picture:
    from minicnn import plot

    draw = plot.samples if options.what == "samples" else plot.mistakes
    found = _tested(options)
    return draw(found.images, found.labels, found.probabilities, found.classes, dark=options.dark)


def _filters(options: argparse.Namespace) -> Picture:
    from minicnn import plot

    return plot.filters(_built(options)[0], dark=options.dark)


def _maps(options: argparse.Namespace) -> Picture:
    from minicnn import plot

    model, checkpoint = _built(options)
    layer, image = _layer(options), _image(options, model, checkpoint)
    if options.what == "maps":
        return plot.feature_maps(model, image, layer, dark=options.dark)
    return plot.receptive_field(model, layer, image, dark=options.dark)


def _cam(options: argparse.Namespace) -> Picture:
    from minicnn import plot

    model, checkpoint = _built(options)
    image = _image(options, model, checkpoint)
    classes = None if checkpoint is None else checkpoint.meta["classes"]
    return plot.class_activation(
        model, image, options.layer, options.label, classes, dark=options.dark
    )


def _timeline(options: argparse.Namespace) -> Picture:
    from minicnn import plot

    return plot.error_timeline(dark=options.dark)


def _zoo(options: argparse.Namespace) -> Picture:
    from minicnn import plot

    return plot.zoo_scatter(options.sources[0] if options.sources else None, dark=options.dark)


# What can be drawn: how many sources it takes at most, and the function.
PICTURES: dict[str, tuple[int, Callable[[argparse.Namespace], Picture]]] = {
    "architecture": (1, _architecture),
    "curves": (8, _curves),
    "confusion": (8, _confusion),
    "samples": (1, _samples),
    "mistakes": (1, _samples),
    "filters": (1, _filters),
    "maps": (1, _maps),
    "field": (1, _maps),
    "cam": (1, _cam),
    "timeline": (0, _timeline),
    "zoo": (1, _zoo),
}
