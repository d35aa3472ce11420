"""Deeper is worse, until there are shortcuts: plain-20 and -56 against ResNet-20 and -56.

A deeper network can compute all that a shallower one can: its further layers need only pass on what
they get. Yet stochastic gradient descent does not find that: plain-56 ends with a higher error than
plain-20 on the training images too, so it is not overfitting. With shortcuts around each pair of
layers, passing on is what a pair does when its weights are zero, and depth helps again.

Training as in the paper: momentum 0.9, rate 0.1, divided by ten after half and three quarters of
the epochs. He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition",
arXiv 1512.03385, figures 1 and 6.

    python examples/degradation.py --quick
    python examples/degradation.py --epochs 20 --images 10000
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import common_settings, parser, pyplot, save, trained, write_json

from minicnn import models
from minicnn.training import recipes

COLORS = {20: "tab:orange", 56: "tab:red", 32: "tab:green", 44: "tab:blue", 110: "black"}


def main() -> None:
    """Train the networks and show their errors."""
    made = parser(__doc__, "runs/degradation", epochs=20, images=10_000)
    made.add_argument(
        "--width", type=int, default=8, metavar="N", help="maps of the first stage (default 8)"
    )
    made.add_argument(
        "--depths", type=int, nargs="+", default=[20, 56], metavar="N", help="default 20 56"
    )
    options = made.parse_args()
    names = [f"{kind}{depth}" for kind in ("plain", "resnet") for depth in options.depths]
    for name in names:
        if name not in models.names():
            made.error(f"--depths: there is no network {name!r}; minicnn.models.names() lists them")
    settings = {**recipe(common_settings(options)), "model_options": {"width": options.width}}
    curves = {name: errors({**settings, "model": name, "name": name}) for name in names}
    write_json(options.output / "degradation.json", {"settings": settings, "curves": curves})
    print("\n" + table(curves))
    plot(curves, options.output / "degradation.png")


def recipe(settings: dict[str, Any]) -> dict[str, Any]:
    """The paper's settings, its drops of the rate moved to the length that was asked for."""
    values = recipes.load("resnet_cifar")
    del values["steps"]
    epochs = settings["epochs"]
    milestones = sorted({max(epochs // 2, 1), max(3 * epochs // 4, 1)})
    own = {"schedule_unit": "epoch", "milestones": milestones, "validation": 0.0}
    return {**values, "augment": "flip", "crop_padding": 2, **settings, **own}


def errors(settings: dict[str, Any]) -> dict[str, list[float]]:
    """Training error (mean over the epoch) and test error after each epoch."""
    history = trained(settings, on_test=True).trainer.history
    return {
        "training": [1.0 - value for value in history.column("accuracy")],
        "test": [1.0 - value for value in history.column("val_accuracy")],
    }


def table(curves: dict[str, dict[str, list[float]]]) -> str:
    """The errors of the last epoch."""
    lines = ["| network | training error | test error |", "|---|---:|---:|"]
    for name, found in curves.items():
        lines.append(f"| {name} | {found['training'][-1]:.4f} | {found['test'][-1]:.4f} |")
    return "\n".join(lines)


def plot(curves: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Plain networks on the left, residual ones on the right; thin lines are training errors."""
    plt = pyplot()
    if plt is None:
        return
    figure, both = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for axes, kind in zip(both, ("plain", "resnet"), strict=True):
        for name, found in curves.items():
            if not name.startswith(kind):
                continue
            color = COLORS.get(int(name.removeprefix(kind)), "gray")
            epochs = range(1, len(found["test"]) + 1)
            percent = {key: [100 * value for value in values] for key, values in found.items()}
            axes.plot(epochs, percent["training"], "--", lw=1, color=color)
            axes.plot(epochs, percent["test"], lw=2, color=color, label=name)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title("without shortcuts" if kind == "plain" else "with shortcuts")
        axes.grid(True, alpha=0.3)
        axes.legend(title="bold: test, dashed: training")
    both[0].set_ylabel("error, %")
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
