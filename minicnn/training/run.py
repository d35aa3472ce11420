"""A training run from its settings: data, model, optimizer, schedule, and the run folder.

runs/notes_cnn-20260102-150405/
    config.toml      the resolved settings
    history.jsonl    one line an epoch
    checkpoints/     the newest ones and the best; see `minicnn.training.checkpoint`
    result.json      what the finished run reached on the test set
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minicnn import data, models, optim, random
from minicnn import functional as F
from minicnn.autograd import Tensor
from minicnn.data import ArrayDataset, Loader
from minicnn.errors import CheckpointError, ConfigError, nearest
from minicnn.nn import Module
from minicnn.optim import lr_scheduler
from minicnn.training.callbacks import Callback, Checkpointer, EarlyStopping
from minicnn.training.checkpoint import Checkpoint, best_checkpoint, newest_checkpoint
from minicnn.training.config import TrainConfig, dump, load_config, resolve
from minicnn.training.evaluation import Evaluation, evaluate
from minicnn.training.files import atomic_write
from minicnn.training.history import History
from minicnn.training.trainer import Trainer
from minicnn_kernels.registry import use_backend
from minicnn_kernels.threads import set_num_threads


@dataclass(frozen=True)
class DataSource:
    """A data set that can be trained on by name: its loader and its pixel statistics in 0..1."""

    load: Callable[..., ArrayDataset]
    mean: float
    std: float


DATA_SOURCES = {
    "fashion_mnist": DataSource(
        data.fashion_mnist, data.FASHION_MNIST_MEAN, data.FASHION_MNIST_STD
    ),
    "mnist": DataSource(data.mnist, data.MNIST_MEAN, data.MNIST_STD),
}


class Run:
    """Everything that one training run consists of, built from its settings.

    config : the settings; folder : the run folder; callbacks : more of them for the trainer.
    Selects the backend and the number of threads for the process and seeds `minicnn.random`.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, callbacks: tuple[Callback, ...] = ()
    ) -> None:
        self.config = config
        self.folder = folder
        apply_machine_settings(config)
        random.seed(config.seed)
        self.source = _data_source(config.data)
        dataset = self.source.load("train", source=config.source)
        self.classes = dataset.classes
        self.image_shape = dataset.image_shape
        self.train, self.validation = self._loaders(dataset)
        self.model = create_model(config.model, self.classes, self.image_shape)
        self.trainer = self._trainer(callbacks)

    def fit(self) -> History:
        """Write the settings down and train to the end."""
        atomic_write(self.folder / "config.toml", dump(self.config))
        return self.trainer.fit(self.train, self.validation, self.config.epochs)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of this run's folder; later lines of the history go."""
        self.trainer.load_state(checkpoint)
        if self.trainer.scheduler is None:  # a constant rate is the one asked for now
            for group in self.trainer.optimizer.param_groups:
                group["lr"] = self.config.lr
        position = self.trainer.position
        # The epoch's own line has the step of a checkpoint made after its last batch.
        self.trainer.history.truncate(position.step - (1 if position.batch else 0))

    def test(self) -> tuple[Evaluation, int]:
        """Measure the best epoch's weights on the test set; returns that epoch's number too."""
        epoch = self.trainer.position.epoch
        if (best := best_checkpoint(self.folder)) is not None:
            self.model.load_state_dict(best.weights)
            epoch = best.meta["epoch"]
        test = self.source.load("test", source=self.config.source)
        result = self.trainer.evaluate(eval_loader(test, self.source, self.config))
        report = {"epoch": epoch, "test_loss": result.loss, "test_accuracy": result.accuracy}
        atomic_write(self.folder / "result.json", json.dumps(report, indent=2) + "\n")
        return result, epoch

    def _loaders(self, dataset: ArrayDataset) -> tuple[Loader, Loader | None]:
        config = self.config
        validation = None
        if config.validation:
            held_out, dataset = dataset.split(config.validation, seed=config.seed)
            validation = eval_loader(held_out, self.source, config)
        train = Loader(
            dataset,
            config.batch_size,
            shuffle=True,
            seed=config.seed,
            transform=_training_transform(config.augment, self.source, self.image_shape),
            prefetch=config.prefetch,
        )
        return train, validation

    def _trainer(self, callbacks: tuple[Callback, ...]) -> Trainer:
        config = self.config
        optimizer = _optimizer(config, self.model)
        scheduler, every = _scheduler(config, optimizer, len(self.train))
        stopping = (EarlyStopping(config.early_stopping),) if config.early_stopping else ()
        meta = {
            "model": config.model,
            "data": config.data,
            "classes": list(self.classes),
            "image_shape": list(self.image_shape),
            "mean": self.source.mean,
            "std": self.source.std,
        }
        # The checkpointer is last: it saves what the others have made of the epoch.
        saving = Checkpointer(self.folder, config.checkpoint_seconds, config.keep, meta)

        def loss(logits: Tensor, labels: Any) -> Tensor:
            smoothing = config.label_smoothing if self.model.training else 0.0
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)

        return Trainer(
            self.model,
            optimizer,
            loss=loss,
            scheduler=scheduler,
            schedule_every=every,
            clip_norm=config.clip_norm,
            callbacks=(*stopping, *callbacks, saving),
            history=History(self.folder / "history.jsonl"),
        )


def new_run(config: TrainConfig, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Build a run in a fresh folder under ``config.output``; a mistake leaves no folder behind."""
    folder = _fresh_folder(config)
    try:
        return Run(config, folder, callbacks)
    except BaseException:
        folder.rmdir()
        raise


def resumed_run(
    folder: Path, overrides: dict[str, Any], callbacks: tuple[Callback, ...] = ()
) -> Run:
    """Build the run of an existing folder and continue from its newest good checkpoint."""
    before = resolve(load_config(_inside(folder, "config.toml")))
    config = resolve(asdict(before), overrides)
    _check_resumable(before, config)
    run = Run(config, folder, callbacks)
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None:
        run.resume(checkpoint)
    return run


def load_model(folder: Path) -> tuple[Module, Checkpoint]:
    """Return the model of a run with its best weights (else its newest), and their checkpoint."""
    _inside(folder, "checkpoints")
    checkpoint = best_checkpoint(folder) or newest_checkpoint(folder)
    if checkpoint is None:
        raise CheckpointError(f"{folder} holds no checkpoint yet; train first.")
    meta = checkpoint.meta
    model = create_model(meta["model"], meta["classes"], tuple(meta["image_shape"]))
    model.load_state_dict(checkpoint.weights)
    return model.eval(), checkpoint


def newest_run(output: str = "runs") -> Path:
    """Return the run folder under ``output`` that was written to last."""
    runs = [p.parent for p in Path(output).glob("*/checkpoints")]
    if not runs:
        raise CheckpointError(
            f"there is no run in {output!r}; train first (minicnn train), or name a run folder."
        )
    return max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime)


def evaluate_run(folder: Path, source: str | None = None) -> tuple[Evaluation, Checkpoint]:
    """Measure a run's best weights on the test set of its data."""
    config = resolve(load_config(_inside(folder, "config.toml")), {"source": source})
    apply_machine_settings(config)
    model, checkpoint = load_model(folder)
    origin = _data_source(config.data)
    test = origin.load("test", source=config.source)
    return evaluate(model, eval_loader(test, origin, config)), checkpoint


def create_model(name: str, classes: Any, image_shape: tuple[int, ...]) -> Module:
    """Build an architecture for the classes and images of a data set, by the preset nearest it."""
    C, H, _ = image_shape
    preset = models.nearest_preset(name, H)
    return models.create(name, len(classes), C, preset=preset, image_size=H)


def eval_loader(dataset: ArrayDataset, source: DataSource, config: TrainConfig) -> Loader:
    """Batches in order, without augmentation."""
    return Loader(
        dataset,
        min(256, len(dataset)),
        transform=data.Compose([data.ToFloat(), data.Normalize(source.mean, source.std)]),
        prefetch=config.prefetch,
    )


def apply_machine_settings(config: TrainConfig) -> None:
    """Select the run's backend and number of threads for this process."""
    if config.threads:
        set_num_threads(config.threads)
    use_backend(config.backend)


def _training_transform(
    augment: str, source: DataSource, image_shape: tuple[int, ...]
) -> data.Compose:
    steps: list[Any] = []
    if augment in ("flip", "flip-crop"):
        steps.append(data.RandomHorizontalFlip())
    if augment == "flip-crop":
        steps.append(data.RandomCrop((image_shape[1], image_shape[2]), padding=2))
    return data.Compose([*steps, data.ToFloat(), data.Normalize(source.mean, source.std)])


def _data_source(name: str) -> DataSource:
    if name not in DATA_SOURCES:
        raise ConfigError(
            f"data = {name!r} is unknown; {nearest(name, DATA_SOURCES)}"
            f"choose one of {', '.join(DATA_SOURCES)}."
        )
    return DATA_SOURCES[name]


def _optimizer(config: TrainConfig, model: Module) -> optim.Optimizer:
    parameters = model.parameters()
    if config.optimizer == "sgd":
        return optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov and config.momentum > 0,
        )
    kind = {"adam": optim.Adam, "adamw": optim.AdamW}[config.optimizer]
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay)


def _scheduler(config: TrainConfig, optimizer: optim.Optimizer, batches: int) -> tuple[Any, str]:
    """The schedule and whether it moves each "step" or each "epoch"."""
    steps = config.epochs * batches
    if config.schedule == "onecycle":
        cycle = lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=config.lr,
            total_steps=steps,
            pct_start=config.warmup,
            cycle_momentum=False,
        )
        return cycle, "step"
    if config.schedule == "cosine":
        warm = round(config.warmup * steps)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps - warm, 1))
        return (lr_scheduler.WarmUp(cosine, warm) if warm else cosine), "step"
    if config.schedule == "step":
        return lr_scheduler.StepLR(optimizer, config.step_size, config.gamma), "epoch"
    if config.schedule == "multistep":
        return lr_scheduler.MultiStepLR(optimizer, config.milestones, config.gamma), "epoch"
    if config.schedule == "plateau":
        plateau = lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=config.gamma, patience=config.patience
        )
        return plateau, "epoch"
    return None, "epoch"


def _check_resumable(before: TrainConfig, config: TrainConfig) -> None:
    """Refuse, before anything is written, what would make the rest of a run another run."""
    for name in ("data", "source", "validation", "batch_size", "seed"):
        old, new = getattr(before, name), getattr(config, name)
        if old != new:
            raise ConfigError(
                f"a run cannot change {name} from {old!r} to {new!r} half-way, because it decides "
                "which images come next; resume without it, or start a new run."
            )
    if config.epochs != before.epochs and config.schedule in ("onecycle", "cosine"):
        raise ConfigError(
            f"the {config.schedule} schedule of this run is spread over {before.epochs} epochs and "
            f"cannot be stretched to {config.epochs}; add --schedule constant and an --lr to go on "
            "beyond them, or start a new run."
        )


def _fresh_folder(config: TrainConfig) -> Path:
    """A folder that no other run has: by name, or by model and time with a number if needed."""
    output = Path(config.output)
    if config.name:
        folder = output / config.name
        if folder.exists():
            raise ConfigError(
                f"the run folder {folder} exists already; choose another --name, or continue it "
                f"with --resume {folder}."
            )
        return _made(folder)
    stamp = f"{config.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        try:
            return _made(output / (stamp if number == 1 else f"{stamp}-{number}"))
        except FileExistsError:
            number += 1


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if folder.is_dir():
            raise
        raise CheckpointError(
            f"{folder} is a file, not a folder; choose another --output."
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"the run folder {folder} cannot be made: {error.strerror or error}; choose another "
            "--output."
        ) from error
    return folder


def _inside(folder: Path, name: str) -> Path:
    if not (folder / name).exists():
        raise CheckpointError(
            f"{folder} is not a run folder: it has no {name}; name a folder that minicnn "
            "train made."
        )
    return folder / name


def prepared_images(paths: list[Path], meta: dict[str, Any], invert: bool) -> np.ndarray:
    """Read pictures as a model of a run wants them: size, channels, scale and normalisation."""
    from minicnn.data.picture import read_picture

    C, H, W = meta["image_shape"]
    pictures = np.stack([read_picture(path, C, H, W) for path in paths])
    pixels = data.ToFloat()(pictures)
    if invert:
        pixels = 1.0 - pixels
    return data.Normalize(meta["mean"], meta["std"])(pixels)
