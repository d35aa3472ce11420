"""From settings to objects: the model, the transforms of its pictures, optimizer and schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn import data, models, optim
from minicnn import functional as F
from minicnn.autograd import Tensor
from minicnn.data import ArrayDataset, ImageFolder
from minicnn.errors import ConfigError, nearest
from minicnn.nn import Module
from minicnn.nn._arrays import on_device
from minicnn.optim import lr_scheduler
from minicnn.training.config import TrainConfig
from minicnn.training.setting_checks import UNIT_SCHEDULES

_WARMUP_START = 0.1  # the share of the rate at which a warm-up begins (He et al. 2015: .01 of .1)


def peak_rate(config: TrainConfig) -> float:
    """The learning rate for the size of the batch.

    A batch k times as large as the one that the rate was chosen for takes k times the rate, because
    it makes one step where the other made k (Goyal et al. 2017, section 2.1).
    """
    return config.lr * (config.batch_size / config.lr_batch if config.lr_batch else 1.0)


def warmup_start(config: TrainConfig) -> float:
    """The share of the peak at which a warm-up begins: for a rate that was raised, the old rate.

    In the first epochs the weights change too fast for the k steps to be like one (Goyal et al.
    2017, section 2.2).
    """
    raised = peak_rate(config) / config.lr
    return 1.0 / raised if raised > 1.0 else _WARMUP_START


@dataclass(frozen=True)
class DataSource:
    """A data set that can be trained on: its loader and its pixel statistics in 0..1.

    The statistics are one number for all channels, or one for each. ``pictures`` is the whole
    folder where the data are pictures of one's own, and ``validation`` those that it sets apart.
    """

    load: Callable[..., ArrayDataset | ImageFolder]
    mean: float | Sequence[float]
    std: float | Sequence[float]
    pictures: ImageFolder | None = None
    validation: ImageFolder | None = None


DATA_SOURCES = {
    "fashion_mnist": DataSource(
        data.fashion_mnist, data.FASHION_MNIST_MEAN, data.FASHION_MNIST_STD
    ),
    "mnist": DataSource(data.mnist, data.MNIST_MEAN, data.MNIST_STD),
}


def data_source(name: str) -> DataSource:
    """The data set of that name, or `ConfigError` with the nearest one."""
    if name not in DATA_SOURCES:
        raise ConfigError(
            f"data = {name!r} is unknown; {nearest(name, DATA_SOURCES)}"
            f"choose one of {', '.join(DATA_SOURCES)}, or the path of a folder of pictures."
        )
    return DATA_SOURCES[name]


def create_model(
    name: str,
    classes: Any,
    image_shape: tuple[int, ...],
    preset: str = "",
    options: Iterable[tuple[str, Any]] = (),
) -> Module:
    """Build an architecture for the classes and images of a data set.

    preset : its name, or "" for the one whose images are nearest in size
    options : (name, value) pairs of builder arguments, in place of the preset's
    """
    C, H, _ = image_shape
    chosen = preset or models.nearest_preset(name, H)
    own = dict(options)
    if given := sorted(own.keys() & {"num_classes", "in_channels", "image_size"}):
        raise ConfigError(
            f"model_options sets {given[0]}, which the data decide; leave it out, or choose "
            "another data set or crop_size."
        )
    return models.create(name, len(classes), C, preset=chosen, image_size=H, **own)


def used_images(
    dataset: ArrayDataset | ImageFolder, config: TrainConfig
) -> ArrayDataset | ImageFolder:
    """The training images that ``images`` leaves, the same share of every class."""
    if not config.images or config.images == len(dataset):
        return dataset
    if config.images > len(dataset):
        raise ConfigError(
            f"images = {config.images:,} is more than the {len(dataset):,} training images of "
            f"{config.data}; lower it, or use 0 for all."
        )
    return dataset.split(config.images / len(dataset), seed=config.seed)[0]


def held_out_images(
    dataset: ArrayDataset | ImageFolder, config: TrainConfig
) -> tuple[ArrayDataset | ImageFolder, ArrayDataset | ImageFolder]:
    """The training images as two parts: those for validation, and those that are trained on."""
    count = round(config.validation * len(dataset))
    if not 0 < count < len(dataset):
        raise ConfigError(
            f"validation = {config.validation} keeps {count:,} of {len(dataset):,} training images "
            "for validation, and both parts need one; change it, use 0 for no validation, or train "
            "on more images."
        )
    return dataset.split(config.validation, seed=config.seed)


def input_shape(image_shape: tuple[int, ...], config: TrainConfig) -> tuple[int, int, int]:
    """What the network gets of a picture: (C, H, W), smaller where there is a crop_size."""
    C, H, W = image_shape
    if config.augment == "flip-crop" and config.crop_padding >= min(H, W):
        raise ConfigError(
            f"crop_padding = {config.crop_padding} is not smaller than the {H}x{W} pictures of "
            f"{config.data}, so that a crop could miss the picture; lower it."
        )
    size = config.crop_size
    if not size:
        return C, H, W
    if size > min(H, W):
        raise ConfigError(
            f"crop_size = {size} is larger than the {H}x{W} pictures of {config.data}; lower it, "
            "or use 0 for whole pictures."
        )
    return C, size, size


def training_transform(
    config: TrainConfig, source: DataSource, shape: tuple[int, int, int]
) -> data.Compose:
    """Augmentation as the settings say, and the preparation that evaluation does too."""
    C, H, W = shape
    steps: list[Any] = []
    if config.augment in ("flip", "flip-crop", "flip-area"):
        steps.append(data.RandomHorizontalFlip())
    if config.augment == "flip-crop":
        steps.append(data.RandomCrop((H, W), config.crop_padding, config.padding_mode))
    elif config.augment == "flip-area":
        steps.append(data.RandomResizedCrop((H, W), (config.crop_area, 1.0)))
    elif config.crop_size:
        steps.append(data.CenterCrop((H, W)))
    steps.append(data.ToFloat())
    if config.color_jitter:
        steps.append(data.ColorJitter(*[config.color_jitter] * 3))
    if config.lighting:
        # The one principal component of gray pixels is their brightness, with its variance.
        gray = () if C == 3 else ([float(np.mean(source.std)) ** 2], [[1.0]])
        steps.append(data.PCALighting(config.lighting, *gray))
    return data.Compose([*steps, data.Normalize(source.mean, source.std)])


def loss_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """The weight of each class in the loss, float32 (K,): classes of few pictures count as much.

    N / (K * number of the class), so that the mean over the pictures is 1.

    >>> loss_weights(np.array([0, 0, 0, 1]), 2)
    array([0.6666667, 2.       ], dtype=float32)
    """
    counts = np.bincount(labels, minlength=classes)
    present = np.maximum(counts, 1)
    return (len(labels) / (np.count_nonzero(counts) * present)).astype(np.float32)


def make_loss(
    config: TrainConfig, model: Module, labels: np.ndarray, classes: int
) -> Callable[[Tensor, Any], Tensor]:
    """Cross-entropy; while the model trains with smoothed labels and weights of classes."""
    weights: Any = None
    if config.balance == "loss":
        weights = on_device(loss_weights(labels, classes), model.device)

    def loss(logits: Tensor, labels: Any) -> Tensor:
        if not model.training:
            return F.cross_entropy(logits, labels)
        return F.cross_entropy(logits, labels, weights, label_smoothing=config.label_smoothing)

    return loss


def make_optimizer(config: TrainConfig, model: Module) -> optim.Optimizer:
    """The update rule; with ``decay = "weights"``, biases and norms are a group without penalty."""
    groups: Any = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.decay == "weights":
        weights = [p for p in groups if len(p.shape) > 1]
        others = [p for p in groups if len(p.shape) <= 1]
        groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
    common: dict[str, Any] = {"lr": peak_rate(config), "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return optim.SGD(groups, momentum=config.momentum, nesterov=nesterov, **common)
    common["eps"] = config.epsilon
    if config.optimizer == "rmsprop":
        return optim.RMSprop(groups, alpha=config.alpha, momentum=config.momentum, **common)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[config.optimizer](groups, **common)


def total_epochs(config: TrainConfig, batches: int) -> int:
    """How many epochs of so many batches the run takes."""
    return -(-config.steps // batches) if config.steps else config.epochs


def make_schedule(config: TrainConfig, optimizer: optim.Optimizer, batches: int) -> tuple[Any, str]:
    """The schedule and whether it moves each "step" or each "epoch"."""
    steps = total_epochs(config, batches) * batches
    if config.schedule == "constant":
        return None, "epoch"
    if config.schedule == "onecycle":
        cycle = lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=peak_rate(config),
            total_steps=steps,
            pct_start=config.warmup,
            cycle_momentum=False,
        )
        return cycle, "step"
    if config.schedule == "plateau":
        plateau = lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=config.gamma, patience=config.patience
        )
        return plateau, "epoch"
    every = config.schedule_unit if config.schedule in UNIT_SCHEDULES else "step"
    warm = config.warmup_steps
    if config.schedule == "cosine":
        warm = warm or round(config.warmup * steps)
    schedule = _falling(config, optimizer, max(steps - warm, 1))
    start = warmup_start(config)
    return (lr_scheduler.WarmUp(schedule, warm, start) if warm else schedule), every


def _falling(config: TrainConfig, optimizer: optim.Optimizer, steps: int) -> Any:
    """A schedule that only lowers the rate, ``steps`` long where its length matters."""
    if config.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    if config.schedule == "poly":
        return lr_scheduler.PolynomialLR(optimizer, steps, config.power)
    if config.schedule == "step":
        return lr_scheduler.StepLR(optimizer, config.step_size, config.gamma)
    if config.schedule == "multistep":
        # Milestones count from the first step of the run, and a warm-up holds the schedule back.
        milestones = [max(m - config.warmup_steps, 0) for m in config.milestones]
        return lr_scheduler.MultiStepLR(optimizer, milestones, config.gamma)
    return lr_scheduler.ExponentialLR(optimizer, config.gamma)
