"""A training run from its settings: data, model, optimizer, schedule, and the run folder.

runs/notes_cnn-20260102-150405/
    config.toml      the resolved settings
    pictures.txt     with pictures of one's own: what was found, and what was left out and why
    history.jsonl    one line an epoch
    checkpoints/     the newest ones and the best; see `minicnn.training.checkpoint`
    result.json      what the finished run reached on the test set

`minicnn.report` adds environment.json, the machine and versions, and report.html, a page to read.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from minicnn import data, random
from minicnn.data import ArrayDataset, DeviceLoader, ImageFolder, Loader, device_loader
from minicnn.errors import CheckpointError, ConfigError
from minicnn.nn import Module
from minicnn.training.build import (
    DataSource,
    create_model,
    held_out_images,
    input_shape,
    make_loss,
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
from minicnn.training.pictures import (
    check_unchanged,
    settled,
    source_of,
    statistics_of,
)
from minicnn.training.resuming import check_resumable, naming_changes, take_up
from minicnn.training.run_folder import fresh_folder, inside
from minicnn.training.run_lock import only_writer
from minicnn.training.trainer import Trainer
from minicnn.training.transfer import freeze, transfer
from minicnn_kernels import registry
from minicnn_kernels.registry import use_backend
from minicnn_kernels.threads import set_num_threads


class Run:
    """Everything that one training run consists of, built from its settings.

    config : the settings; folder : the run folder; callbacks : more of them for the trainer;
    before : the checkpoint that `resume` will continue from. ``notes`` says what a person should
    know of how it was built.
    Selects the backend and the number of threads for the process and seeds `minicnn.random`. With a
    backend of a GPU the model lives there, and so do the images where `DeviceLoader` can make their
    batches; otherwise ``batches_fault`` says why the CPU makes them.
    """

    writes = True  # into the folder: of several processes that train together, one does

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        callbacks: tuple[Callback, ...] = (),
        before: Checkpoint | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        apply_machine_settings(config)
        random.seed(config.seed)
        self.notes: list[str] = []
        self.source = self._source(before)
        if before is not None:
            check_unchanged(self.source, config, before.meta)
        dataset = used_images(self._load("train"), config)
        self.classes = dataset.classes
        self.picture_shape = dataset.image_shape
        self.image_shape = input_shape(dataset.image_shape, config)
        train, validation = self._loaders(dataset)
        self.train, self.batches_fault = self._moved(train)
        self.validation = validation and self._moved(validation)[0]
        self.epochs = total_epochs(config, len(self.train))
        self.model = self._model(is_new=before is None)
        self.trainer = self._trainer(callbacks)

    def _model(self, is_new: bool) -> Module:
        """The network, with random weights or those to start from, on the backend's device."""
        config = self.config
        model = create_model(
            config.model, self.classes, self.image_shape, config.preset, config.model_options
        )
        if config.weights and is_new:
            self.notes.append(transfer(model, Path(config.weights), self.classes))
        if config.freeze:
            self.notes.append(freeze(model, len(self.classes)))
        return model.to(registry.load(config.backend).device)

    def fit(self) -> History:
        """Write the settings down and train to the end, as the folder's only writer."""
        with only_writer(self.folder) if self.writes else nullcontext():
            if self.writes:
                self._write_settings()
            return self.trainer.fit(self.train, self.validation, self.epochs)

    def _write_settings(self) -> None:
        if self.source.pictures is not None:
            atomic_write(self.folder / "pictures.txt", self.source.pictures.report(None) + "\n")
        atomic_write(self.folder / "config.toml", dump(self.config))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of this run's folder; later lines of the history go."""
        self.notes += take_up(self.trainer, checkpoint, self.config)

    def test(self) -> tuple[Evaluation, int]:
        """Measure the best epoch's weights on the test set; returns that epoch's number too."""
        epoch = self.trainer.position.epoch
        if (best := self._best()) is not None:
            self.model.load_state_dict(best.weights)
            epoch = best.meta["epoch"]
        test = self._load("test")
        result = self.trainer.evaluate(eval_loader(test, self.source, self.config))
        report = {"epoch": epoch, "test_loss": result.loss, "test_accuracy": result.accuracy}
        if self.writes:
            atomic_write(self.folder / "result.json", json.dumps(report, indent=2) + "\n")
        return result, epoch

    def _source(self, before: Checkpoint | None) -> DataSource:
        return source_of(self.config, statistics_of(before.meta) if before else None)

    def _load(self, part: str) -> ArrayDataset | ImageFolder:
        return self.source.load(part, source=self.config.source)

    def _best(self) -> Checkpoint | None:
        return best_checkpoint(self.folder)

    def _assembled(self, *parts: Any, **settings: Any) -> Trainer:
        return Trainer(*parts, **settings)

    def _moved(self, loader: Loader) -> tuple[Loader | DeviceLoader, str | None]:
        """The loader, on a GPU where that is the backend's device, or why it is not there."""
        if registry.load(self.config.backend).device == "cpu":
            return loader, None
        if isinstance(loader.dataset, ImageFolder) and loader.dataset.is_cached:
            loader.dataset = loader.dataset.in_memory()
        reason = device_loader.fault(loader)
        return (DeviceLoader(loader) if reason is None else loader), reason

    def _loaders(self, dataset: ArrayDataset | ImageFolder) -> tuple[Loader, Loader | None]:
        config = self.config
        held_out: ArrayDataset | ImageFolder | None = self.source.validation
        if held_out is None and config.validation:
            held_out, dataset = held_out_images(dataset, config)
        validation = None if held_out is None else eval_loader(held_out, self.source, config)
        size = config.batch_size
        if self.source.pictures is not None and len(dataset) < size:
            size = len(dataset)
            self.notes.append(f"all {size} pictures are one batch, fewer than {config.batch_size}")
        train = Loader(
            dataset,
            size,
            shuffle=True,
            seed=config.seed,
            transform=training_transform(config, self.source, self.image_shape),
            prefetch=config.prefetch,
        )
        return train, validation

    def _trainer(self, callbacks: tuple[Callback, ...]) -> Trainer:
        config = self.config
        optimizer = make_optimizer(config, self.model)
        labels = cast(ArrayDataset | ImageFolder, self.train.dataset).labels
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
        if self.source.pictures is not None:
            meta["pictures"] = self.source.pictures.fingerprint()
        # The checkpointer is last: it saves what the others have made of the epoch.
        saving = Checkpointer(self.folder, config.checkpoint_seconds, config.keep, meta)

        return self._assembled(
            self.model,
            optimizer,
            loss=make_loss(config, self.model, labels, len(self.classes)),
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
    config = settled(config)
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
    config = settled(resolve(asdict(before), overrides))
    check_resumable(before, config)
    with only_writer(folder):
        checkpoint = newest_checkpoint(folder)
        run = Run(config, folder, callbacks, checkpoint)
        if checkpoint is not None:
            with naming_changes(before, config):
                run.resume(checkpoint)
    return run


def opened_run(config: TrainConfig, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Build the run of that name, or continue it where it was stopped: a script can start again.

    Fitting a run that is finished changes nothing. Raises `ConfigError` without a name, and where
    the folder holds a run of other settings; the number of threads alone may change.
    """
    if not config.name:
        raise ConfigError("opened_run: the settings need a name, by which the run is found again.")
    config = settled(config)
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
    dataset: ArrayDataset | ImageFolder,
    source: DataSource,
    config: TrainConfig,
    padding: int | None = None,
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
