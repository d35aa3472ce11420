"""ReLU against tanh: after how many epochs a network of four convolutions has learnt its images.

A tanh is flat for inputs of large magnitude, and where it is flat hardly any gradient passes. A
ReLU is not flat for positive inputs, however large, so the same network learns in fewer epochs. On
CIFAR-10 the paper reached a training error of 25 % six times as fast.

The size of the inputs decides. The paper's network got centred pixels of 0 to 255 (section 2), and
that is the default here; `--input-scale 1` gives the usual pixels of variance 1, which leave a tanh
in its steep part, and then it is no slower than a ReLU.

As there, nothing regularises, and each activation has the rate that is best for it, out of a few.
Krizhevsky, Sutskever, Hinton 2012, "ImageNet Classification with Deep Convolutional Neural
Networks", section 3.1 and figure 1.

    python examples/relu_vs_tanh.py --quick
    python examples/relu_vs_tanh.py --error 0.1 --epochs 20 --images 10000
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import common_settings, parser, pyplot, save, trained, write_json

from minicnn import Tensor, models, nn
from minicnn.training.callbacks import Callback
from minicnn.training.trainer import Trainer

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
WIDTHS = (16, 16, 32, 32)
WEIGHTS = 0.05  # standard deviation of the convolutions' first weights
RAW_PIXELS = 90.0  # 255 times the standard deviation of Fashion-MNIST's pixels in 0..1


@models.register("four_convolutions", {"fashion-mnist": models.Preset((1, 28, 28), 10)})
class FourConvolutions(models.Network):
    """Four 3x3 convolutions, max pooling behind the second and the fourth, one linear layer."""

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        activation: str = "relu",
        input_scale: float = RAW_PIXELS,
    ) -> None:
        super().__init__()
        self.input_scale = input_scale
        self.features = nn.Sequential()
        for number, width in enumerate(WIDTHS, 1):
            self.features.append(nn.Conv2d(in_channels, width, 3, padding=1))
            self.features.append(ACTIVATIONS[activation]())
            if number % 2 == 0:
                self.features.append(nn.MaxPool2d(2))
            in_channels = width
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(in_channels * (image_size // 4) ** 2, num_classes)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=WEIGHTS)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.classifier(self.flatten(self.features(x * self.input_scale)))


class StopAt(Callback):
    """Ends the training when the training error is low enough."""

    def __init__(self, error: float) -> None:
        self.error = error

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Look at the error of the epoch."""
        if 1.0 - record["accuracy"] <= self.error:
            trainer.should_stop = True


def main() -> None:
    """Train with both activations and all rates, and show the best of each."""
    made = parser(__doc__, "runs/relu-vs-tanh", epochs=20, images=10_000)
    made.add_argument("--error", type=float, default=0.1, metavar="X", help="default 0.1")
    made.add_argument(
        "--rates", type=float, nargs="+", default=[0.001, 0.003, 0.01], metavar="X", help="to try"
    )
    made.add_argument(
        "--input-scale",
        type=float,
        default=RAW_PIXELS,
        metavar="X",
        help="standard deviation of the pixels that the network gets (default 90)",
    )
    options = made.parse_args()
    if not 0.0 < options.error < 1.0:
        made.error(f"--error is {options.error}; give a share above 0 and below 1, such as 0.1")
    settings = {
        **common_settings(options),
        "model": "four_convolutions",
        "schedule": "constant",
        "nesterov": False,
        "weight_decay": 0.0,
        "augment": "none",
        "validation": 0.0,
    }
    scale = options.input_scale
    found = {
        name: best([race(name, rate, scale, options.error, settings) for rate in options.rates])
        for name in ACTIVATIONS
    }
    write_json(options.output / "relu_vs_tanh.json", {"error": options.error, "best": found})
    print("\n" + verdict(found, options.error))
    plot(found, options.error, options.output / "relu_vs_tanh.png")


def race(
    name: str, rate: float, scale: float, error: float, settings: dict[str, Any]
) -> dict[str, Any]:
    """Train one network; returns its rate, its curve, and when it reached the error."""
    model = {"activation": name, "input_scale": scale}
    own = {"name": f"{name}-{rate:g}-{scale:g}-{error:g}", "lr": rate, "model_options": model}
    history = trained({**settings, **own}, StopAt(error)).trainer.history
    curve = [1.0 - value for value in history.column("accuracy")]
    return {"rate": rate, "curve": curve, "epochs": reached(curve, error)}


def reached(curve: list[float], error: float) -> float | None:
    """The epochs to an error, on the line between two epochs' errors; None if it was not reached.

    >>> reached([0.5, 0.3, 0.1], 0.2)
    2.5
    """
    for number, value in enumerate(curve):
        if value <= error:
            if number == 0:
                return 1.0
            before = curve[number - 1]
            return number + (before - error) / (before - value)
    return None


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run that was there first, or where none was, the one that came nearest."""
    there = [run for run in runs if run["epochs"] is not None]
    return min(there or runs, key=lambda run: run["epochs"] if there else min(run["curve"]))


def verdict(found: dict[str, dict[str, Any]], error: float) -> str:
    """What came out, in words."""
    lines = []
    for name, run in found.items():
        when = f"{run['epochs']:.1f} epochs" if run["epochs"] else "not reached"
        lines.append(f"{name}: training error {error:g} after: {when} (rate {run['rate']:g})")
    relu, tanh = (found[name]["epochs"] for name in ("relu", "tanh"))
    if relu and tanh:
        lines.append(f"tanh takes {tanh / relu:.1f} times as many epochs as ReLU")
    return "\n".join(lines)


def plot(found: dict[str, dict[str, Any]], error: float, path: Path) -> None:
    """Training error against epochs, with the error that was aimed at."""
    plt = pyplot()
    if plt is None:
        return
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for (name, run), style in zip(found.items(), ("-", "--"), strict=True):
        percent = [100 * value for value in run["curve"]]
        epochs = range(1, len(percent) + 1)
        axes.plot(epochs, percent, style, marker=".", label=f"{name}, rate {run['rate']:g}")
    axes.axhline(100 * error, color="gray", lw=1)
    axes.annotate(f"{100 * error:g} %", (1, 100 * error), va="bottom", fontsize=9)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training error, % (mean over the epoch)")
    axes.set_title("Four convolutions on Fashion-MNIST")
    axes.grid(True, alpha=0.3)
    axes.legend()
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
