"""A training run from its settings: data, model, optimizer, schedule, and the run folder.

runs/notes_cnn-20260102-150405/
    config.toml      the resolved settings
    history.jsonl    one line an epoch
    checkpoints/     the newest ones and the best; see `minicnn.training.checkpoint`
    result.json      what the finished run reached on the test set
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from minicnn import data, random
from minicnn import functional as F
from minicnn.autograd import Tensor
from minicnn.data import ArrayDataset, DeviceLoader, Loader, device_loader
from minicnn.errors import CheckpointError, ConfigError
from minicnn.nn import Module
from minicnn.training.build import (
    DataSource,
    create_model,
    data_source,
    input_shape,
    make_optimizer,
    make_schedule,
    total_epochs,
    training_transform,
    used_images,
)
from minicnn.training.callbacks import Callback, Checkpointer, EarlyStopping
from minicnn.training.checkpoint import Checkpoint, best_checkpoint, newest_checkpoint
from minicnn.training.config import TrainConfig, dump, load_config, resolve
from minicnn.training.evaluation import Evaluation
from minicnn.training.files import atomic_write
from minicnn.training.history import History
from minicnn.training.run_folder import fresh_folder, inside
from minicnn.training.run_lock import only_writer
from minicnn.training.trainer import Trainer
from minicnn_kernels import registry
from minicnn_kernels.registry import use_backend
from minicnn_kernels.threads import set_num_threads


class Run:
    """Everything that one training run consists of, built from its settings.

    config : the settings; folder : the run folder; callbacks : more of them for the trainer.
    Selects the backend and the number of threads for the process and seeds `minicnn.random`. With a
    backend of a GPU the model lives there, and so do the images where `DeviceLoader` can make their
    batches; otherwise ``batches_fault`` says why the CPU makes them.
    """

    def __init__(
        self, config: TrainConfig, folder: Path, callbacks: tuple[Callback, ...] = ()
    ) -> None:
        self.config = config
        self.folder = folder
        apply_machine_settings(config)
        random.seed(config.seed)
        self.source = data_source(config.data)
        dataset = used_images(self.source.load("train", source=config.source), config)
        self.classes = dataset.classes
        self.picture_shape = dataset.image_shape
        self.image_shape = input_shape(dataset.image_shape, config)
        train, validation = self._loaders(dataset)
        self.train, self.batches_fault = self._moved(train)
        self.validation = validation and self._moved(validation)[0]
        self.epochs = total_epochs(config, len(self.train))
        self.model = create_model(
            config.model, self.classes, self.image_shape, config.preset, config.model_options
        ).to(registry.load(config.backend).device)
        self.trainer = self._trainer(callbacks)

    def fit(self) -> History:
        """Write the settings down and train to the end, as the folder's only writer."""
        with only_writer(self.folder):
            atomic_write(self.folder / "config.toml", dump(self.config))
            return self.trainer.fit(self.train, self.validation, self.epochs)

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

    def _moved(self, loader: Loader) -> tuple[Loader | DeviceLoader, str | None]:
        """The loader, on a GPU where that is the backend's device, or why it is not there."""
        if registry.load(self.config.backend).device == "cpu":
            return loader, None
        reason = device_loader.fault(loader)
        return (DeviceLoader(loader) if reason is None else loader), reason

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
            transform=training_transform(config, self.source, self.image_shape),
            prefetch=config.prefetch,
        )
        return train, validation

    def _trainer(self, callbacks: tuple[Callback, ...]) -> Trainer:
        config = self.config
        optimizer = make_optimizer(config, self.model)
        scheduler, every = make_schedule(config, optimizer, len(self.train))
        stopping = (EarlyStopping(config.early_stopping),) if config.early_stopping else ()
        meta = {
            "model": config.model,
            "preset": config.preset,
            "model_options": dict(config.model_options),
            "data": config.data,
            "classes": list(self.classes),
            "image_shape": list(self.image_shape),
            "picture_shape": list(self.picture_shape),
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
            graph=config.graph,
            graph_steps=config.graph_steps,
        )


def new_run(config: TrainConfig, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Build a run in a fresh folder under ``config.output``; a mistake leaves no folder behind."""
    folder = fresh_folder(config)
    try:
        return Run(config, folder, callbacks)
    except BaseException:
        folder.rmdir()
        raise


def resumed_run(
    folder: Path, overrides: dict[str, Any], callbacks: tuple[Callback, ...] = ()
) -> Run:
    """Build the run of an existing folder and continue from its newest good checkpoint."""
    before = resolve(load_config(inside(folder, "config.toml")))
    config = resolve(asdict(before), overrides)
    _check_resumable(before, config)
    run = Run(config, folder, callbacks)
    with only_writer(folder):
        checkpoint = newest_checkpoint(folder)
        if checkpoint is not None:
            run.resume(checkpoint)
    return run


def opened_run(config: TrainConfig, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Build the run of that name, or continue it where it was stopped: a script can start again.

    Fitting a run that is finished changes nothing. Raises `ConfigError` without a name, and where
    the folder holds a run of other settings; the number of threads alone may change.
    """
    if not config.name:
        raise ConfigError("opened_run: the settings need a name, by which the run is found again.")
    folder = Path(config.output) / config.name
    if not folder.exists():
        return new_run(config, callbacks)
    if not (folder / "config.toml").exists():  # killed before it began
        return Run(config, folder, callbacks)
    before = asdict(resolve(load_config(folder / "config.toml")))
    wanted = {name: value for name, value in asdict(config).items() if name != "threads"}
    if changed := [name for name, value in wanted.items() if before[name] != value]:
        listed = ", ".join(
            f"{name} {before[name]!r}, now {getattr(config, name)!r}" for name in changed
        )
        raise ConfigError(
            f"the run in {folder} was made with other settings: {listed}. Choose another name or "
            "output, or remove the folder."
        )
    return resumed_run(folder, {"threads": config.threads}, callbacks)


def load_model(folder: Path, backend: str | None = None) -> tuple[Module, Checkpoint]:
    """Return the model of a run with its best weights (else its newest), and their checkpoint.

    With ``backend`` that kernel set is selected and the model is on its device, else on the CPU.
    """
    if backend is not None:
        use_backend(backend)
    inside(folder, "checkpoints")
    checkpoint = best_checkpoint(folder) or newest_checkpoint(folder)
    if checkpoint is None:
        raise CheckpointError(f"{folder} holds no checkpoint yet; train first.")
    meta = checkpoint.meta
    model = create_model(
        meta["model"],
        meta["classes"],
        tuple(meta["image_shape"]),
        meta.get("preset", ""),
        meta.get("model_options", {}).items(),
    )
    model.load_state_dict(checkpoint.weights)
    if backend is not None:
        model.to(registry.load(backend).device)
    return model.eval(), checkpoint


def newest_run(output: str = "runs") -> Path:
    """Return the run folder under ``output`` that was written to last."""
    runs = [p.parent for p in Path(output).glob("*/checkpoints")]
    if not runs:
        raise CheckpointError(
            f"there is no run in {output!r}; train first (minicnn train), or name a run folder."
        )
    return max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime)


def eval_loader(
    dataset: ArrayDataset, source: DataSource, config: TrainConfig, padding: int | None = None
) -> Loader:
    """Batches in order, without augmentation; with a crop_size, the middle of each picture.

    With ``padding`` they are whole pictures, with so many pixels on each side.
    """
    steps: list[Any] = []
    if padding is not None:
        steps.append(data.Pad(padding, config.padding_mode))
    elif config.crop_size:
        steps.append(data.CenterCrop(config.crop_size))
    steps += [data.ToFloat(), data.Normalize(source.mean, source.std)]
    return Loader(
        dataset, min(256, len(dataset)), transform=data.Compose(steps), prefetch=config.prefetch
    )


def apply_machine_settings(config: TrainConfig) -> None:
    """Select the run's backend and number of threads for this process."""
    if config.threads:
        set_num_threads(config.threads)
    use_backend(config.backend)


def _check_resumable(before: TrainConfig, config: TrainConfig) -> None:
    """Refuse, before anything is written, what would make the rest of a run another run."""
    for name in ("data", "source", "images", "validation", "batch_size", "seed"):
        old, new = getattr(before, name), getattr(config, name)
        if old != new:
            raise ConfigError(
                f"a run cannot change {name} from {old!r} to {new!r} half-way, because it decides "
                "which images come next; resume without it, or start a new run."
            )
    length, new_length = _length(before), _length(config)
    if length != new_length and config.schedule in ("onecycle", "cosine", "poly"):
        raise ConfigError(
            f"the {config.schedule} schedule of this run is spread over {length} and "
            f"cannot be stretched to {new_length}; add --schedule constant and an --lr to go on "
            "beyond them, or start a new run."
        )


def _length(config: TrainConfig) -> str:
    return f"{config.steps:,} steps" if config.steps else f"{config.epochs} epochs"


def prepared_images(paths: list[Path], meta: dict[str, Any], invert: bool) -> np.ndarray:
    """Read pictures as a model of a run wants them: size, channels, scale and normalisation."""
    from minicnn.data.picture import read_picture

    C, H, W = meta.get("picture_shape", meta["image_shape"])
    pictures = np.stack([read_picture(path, C, H, W) for path in paths])
    middle = data.CenterCrop(tuple(meta["image_shape"][1:]))
    pixels = data.ToFloat()(middle(pictures))
    if invert:
        pixels = 1.0 - pixels
    return data.Normalize(meta["mean"], meta["std"])(pixels)
