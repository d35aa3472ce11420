"""Every family of architectures with the same budget: accuracy, size, arithmetic, time and memory.

Trains the "fashion-mnist" preset of one network of each family for the same number of epochs with
the same settings but the learning rate, and writes a table as Markdown and JSON and a plot of
accuracy against arithmetic. Accuracy is that on the test set, with the weights of the epoch that
was best on held-out images. The time of an epoch is measured after the training, by a few steps;
--time measures it again, for all networks one after the other, on a machine that is idle by then.

    python examples/league_table.py --quick
    python examples/league_table.py --epochs 10 --images 20000
    python examples/league_table.py --only resnet20 vgg16_bn
    python examples/league_table.py --time
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import common_settings, parser, pyplot, trained, write_json

import minicnn
from minicnn import inspect, models, plot
from minicnn.errors import ConfigError, MiniCNNError, nearest
from minicnn.training.auxiliary import total_loss
from minicnn.training.files import atomic_write
from minicnn.training.run import Run


@dataclass(frozen=True)
class Entry:
    """A network of the table: its family, the registered name, and how it is trained."""

    family: str
    model: str
    lr: float = 0.1
    optimizer: str = "sgd"
    options: dict[str, Any] = field(default_factory=dict)


# Without batch norm a network needs a lower rate; where all of it was either too low to get far in
# a few epochs or too high to stay finite, AdamW scales each weight's step.
# Names that are not registered are left out.
ENTRIES = (
    Entry("Notes' CNN", "notes_cnn"),
    Entry("LeNet-5", "lenet5", lr=0.003, optimizer="adamw"),
    Entry("AlexNet", "alexnet_2012", lr=0.02),
    Entry("ZFNet", "zfnet", lr=0.02),
    Entry("VGG", "vgg16_bn"),
    Entry("NiN", "nin", lr=0.001, optimizer="adamw"),
    Entry("GoogLeNet", "googlenet"),
    Entry("Inception v2", "inception_v2"),
    Entry("Inception v3", "inception_v3"),
    Entry("Plain net", "plain20"),
    Entry("ResNet", "resnet20"),
    Entry("Pre-activation ResNet", "preact_resnet20"),
    Entry("Wide ResNet", "wrn16_4"),
    Entry("ResNeXt", "resnext29_8x64d"),
    Entry("Stochastic depth", "stochastic_depth_resnet110"),
    Entry("FractalNet", "fractalnet"),
    Entry("DenseNet", "densenet_bc40"),
    Entry("SqueezeNet", "squeezenet1_1", lr=0.001, optimizer="adamw"),
)

COLUMNS = (
    ("family", "family", "{}"),
    ("network", "model", "{}"),
    ("test accuracy", "accuracy", "{:.4f}"),
    ("parameters", "parameters", "{:,}"),
    ("multiply-adds", "multiply_adds", "{:,}"),
    ("s / epoch", "seconds_per_epoch", "{:.1f}"),
    ("memory of a step, 10^6 bytes", "peak_memory", "{:.1f}"),
)


def main() -> None:
    """Train what is missing and write the table after each network."""
    made = parser(__doc__, "runs/league-table")
    made.add_argument("--only", nargs="+", metavar="NAME", help="networks, by their names")
    made.add_argument("--time", action="store_true", help="measure the time of an epoch again")
    options = made.parse_args()
    settings = common_settings(options)
    rows: list[dict[str, Any]] = []
    for entry in chosen(options.only, made):
        try:
            rows.append(row(entry, settings, options.time))
        except ConfigError as error:  # such as an output that holds runs of other settings
            made.error(str(error))
        except MiniCNNError as error:
            print(f"{entry.model}: {error}")
            rows.append({"family": entry.family, "model": entry.model, "error": str(error)})
        write(rows, settings, options.output)
    print("\n" + markdown(rows, settings))
    draw(rows, options.output / "league_table.png")


def chosen(only: list[str] | None, made: argparse.ArgumentParser) -> list[Entry]:
    """The entries asked for, and of those the registered ones; a mistake ends the program."""
    known = [entry.model for entry in ENTRIES]
    for name in only or ():
        if name not in known:
            made.error(f"--only: {name!r} is not in the table; {nearest(name, known)}")
    asked = [entry for entry in ENTRIES if not only or entry.model in only]
    missing = [entry.model for entry in asked if entry.model not in models.names()]
    if missing:
        print(f"not registered, left out: {', '.join(missing)}")
    return [entry for entry in asked if entry.model not in missing]


def row(entry: Entry, settings: dict[str, Any], again: bool = False) -> dict[str, Any]:
    """Train a network, or read what an earlier start found out; ``again`` repeats the timing."""
    own = {"lr": entry.lr, "optimizer": entry.optimizer, "clip_norm": 5.0}
    own |= {"model": entry.model, "preset": "fashion-mnist", "name": entry.model}
    run = trained({**settings, **own, "model_options": entry.options})
    path = run.folder / "row.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
    else:
        found = {"family": entry.family, "model": entry.model, **reached(run)}
        again = True
    if again:
        found["seconds_per_epoch"] = seconds_of_epoch(run)
        write_json(path, found)
    return found


def reached(run: Run) -> dict[str, Any]:
    """What the trained network can do, and its size."""
    result, epoch = run.test()
    costs = inspect.summary(run.model, run.image_shape)
    return {
        "accuracy": result.accuracy,
        "epoch": epoch,
        "parameters": costs.parameters,
        "multiply_adds": costs.multiply_adds,
        "peak_memory": inspect.memory(run.model, run.image_shape, run.config.batch_size).peak / 1e6,
    }


def seconds_of_epoch(run: Run, steps: int = 12) -> float:
    """The median time of a training step, times the steps of an epoch; run is of no use after."""
    batches = list(itertools.islice(run.train.iterate(0), 3))
    model, optimizer = run.model, run.trainer.optimizer
    model.train()
    taken = []
    for i in range(steps + 2):
        images, labels = batches[i % len(batches)]
        start = time.perf_counter()
        optimizer.zero_grad()
        _, loss = total_loss(model, model(minicnn.Tensor(images)), labels, run.trainer.loss)
        loss.backward()
        optimizer.step()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:]) * len(run.train)


def markdown(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """The table, the most accurate network first, and what did not work below it."""
    images = f"{settings['images']:,}" if settings["images"] else "all"
    lines = [
        f"{settings['epochs']} epochs, {images} training images, batches of "
        f"{settings['batch_size']}, {settings['backend']} kernels",
        "",
        "| " + " | ".join(title for title, _, _ in COLUMNS) + " |",
        "|---|---|" + "---:|" * (len(COLUMNS) - 2),
    ]
    good = [found for found in rows if "error" not in found]
    for found in sorted(good, key=lambda found: -found["accuracy"]):
        cells = (form.format(found[key]) for _, key, form in COLUMNS)
        lines.append("| " + " | ".join(cells) + " |")
    failed = [f"- {found['model']} failed: {found['error']}" for found in rows if "error" in found]
    return "\n".join([*lines, *(["", *failed] if failed else [])])


def write(rows: list[dict[str, Any]], settings: dict[str, Any], output: Path) -> None:
    """Write the table as far as it goes, as Markdown and JSON."""
    asked = {name: value for name, value in settings.items() if name != "output"}
    write_json(output / "league_table.json", {"settings": asked, "rows": rows})
    atomic_write(output / "league_table.md", markdown(rows, settings) + "\n")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy against multiply-adds and parameters, each point with its name."""
    good = [found for found in rows if "error" not in found]
    if good and pyplot() is not None:
        plot.zoo_scatter(good).save(path)


if __name__ == "__main__":
    main()
