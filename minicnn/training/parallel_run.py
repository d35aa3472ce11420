"""A training run of several processes: rank 0 has the run folder, all have everything else.

Every process builds the same run from the same settings. Rank 0 alone makes the folder, writes the
history and the checkpoints, and reads them when the run is continued; the others get what it has
read, so only its host needs the folder. Which images a process trains on follows from its rank, see
`minicnn.data.sharded`; a run can be continued by another number of processes.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from minicnn import random
from minicnn.data import ArrayDataset, DeviceLoader, ImageFolder, Loader
from minicnn.errors import ConfigError
from minicnn.training.build import DataSource
from minicnn.training.callbacks import Callback, EarlyStopping
from minicnn.training.checkpoint import Checkpoint, newest_checkpoint
from minicnn.training.config import TrainConfig, load_config, resolve
from minicnn.training.history import History
from minicnn.training.parallel import Group
from minicnn.training.parallel_nccl import use_own_gpu
from minicnn.training.parallel_trainer import ParallelTrainer, deciding
from minicnn.training.pictures import settled
from minicnn.training.resuming import check_resumable, naming_changes
from minicnn.training.run import Run, new_run, resumed_run
from minicnn.training.run_folder import fresh_folder, inside
from minicnn.training.trainer import Trainer
from minicnn_kernels import registry, threads


class ParallelRun(Run):
    """A `Run` in one process of a group.

    Without a number of threads in the settings or the environment, the processes of a host divide
    its cores; with a backend of a GPU, its GPUs.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        callbacks: tuple[Callback, ...],
        group: Group,
        before: Checkpoint | None = None,
    ) -> None:
        self.group = group
        self.writes = group.rank == 0
        if config.batch_size < group.size:
            raise ConfigError(
                f"batch_size = {config.batch_size} is smaller than the number of processes, "
                f"{group.size}; it is divided among them, so raise it or start fewer."
            )
        if config.graph:
            raise ConfigError(
                "graph = true does not go with several processes, whose steps wait for each other."
            )
        if not config.threads and not threads.chosen_by_environment():
            threads.set_num_threads(group.threads(threads.usable_cores()))
        if registry.load(config.backend).device != "cpu":
            use_own_gpu(group)
        super().__init__(config, folder, callbacks, before)
        random.use_stream(group.rank)

    def _source(self, before: Checkpoint | None) -> DataSource:
        with self.group.first_of_host():  # which may download and unpack it
            return super()._source(before)

    def _load(self, part: str) -> ArrayDataset | ImageFolder:
        with self.group.first_of_host():
            return super()._load(part)

    def _moved(self, loader: Loader) -> tuple[Loader | DeviceLoader, str | None]:
        on_cpu = registry.load(self.config.backend).device == "cpu"
        return loader, None if on_cpu else "several processes divide each batch"

    def _best(self) -> Checkpoint | None:
        best = super()._best() if self.writes else None
        return self.group.broadcast(best, "the best checkpoint")

    def _assembled(self, *parts: Any, **settings: Any) -> Trainer:
        if not self.writes:
            settings["callbacks"] = deciding(settings["callbacks"], (EarlyStopping,))
            settings["history"] = History()
        return ParallelTrainer(self.group, *parts, sync_bn=self.config.sync_bn, **settings)


def start_run(config: TrainConfig, callbacks: tuple[Callback, ...], group: Group | None) -> Run:
    """Build a new run, of all processes of the group; as `new_run` without one."""
    if group is None:
        return new_run(config, callbacks)
    config = settled(config)
    made = fresh_folder(config) if group.rank == 0 else None
    folder = group.broadcast(made, "the run folder")
    try:
        return ParallelRun(config, folder, callbacks, group)
    except BaseException:
        if made is not None:
            made.rmdir()
        raise


def continue_run(
    folder: Path, overrides: dict[str, Any], callbacks: tuple[Callback, ...], group: Group | None
) -> Run:
    """Build the run of a folder and continue it in all processes; as `resumed_run` without any."""
    if group is None:
        return resumed_run(folder, overrides, callbacks)
    before = resolve(load_config(inside(folder, "config.toml"))) if group.rank == 0 else None
    before = group.broadcast(before, "the settings of the run")
    config = settled(resolve(asdict(before), overrides))
    check_resumable(before, config)
    newest = newest_checkpoint(folder) if group.rank == 0 else None
    checkpoint = group.broadcast(newest, "the newest checkpoint")
    run = ParallelRun(config, folder, callbacks, group, checkpoint)
    if checkpoint is not None:
        with naming_changes(before, config):
            run.resume(checkpoint)
    return run
