"""Event files for TensorBoard: a callback that writes the curves of a training.

TensorBoard (tensorboard.dev) shows what it finds in a folder of event files: records of a step, a
time and a value under a tag. The files are written by tensorboardX, which needs neither TensorFlow
nor PyTorch; the history in ``history.jsonl`` is written with and without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.interop._packages import needed
from minicnn.training.callbacks import Callback

if TYPE_CHECKING:
    from minicnn.training.trainer import Trainer

#: tag of each field of an epoch's record
TAGS = {
    "loss": "loss/training",
    "val_loss": "loss/validation",
    "accuracy": "accuracy/training",
    "val_accuracy": "accuracy/validation",
    "lr": "learning_rate",
    "images_per_second": "images_per_second",
}


class TensorBoard(Callback):
    """Writes loss, accuracy, learning rate and images a second of each epoch as TensorBoard reads.

    Within an epoch, every so many steps, it writes the means so far (tags "epoch_so_far/...")
    and the learning rate. A training that is resumed continues its curves: what was written beyond
    the step of the checkpoint is marked as overwritten.

    folder : where the event files go; None is the folder of the training's history, a run folder
    every : steps between two points within an epoch; 0 for none
    histograms : whether the weights, and the gradients of the last step, are counted each epoch
    images : pictures (N, C, H, W), uint8 or float in 0..1, to show once; C is 1 or 3

    Raises `MissingPackageError` without tensorboardX (extra "tensorboard"), at once.

    >>> TensorBoard(every=100)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        every: int = 50,
        histograms: bool = False,
        images: np.ndarray | None = None,
    ) -> None:
        if not hasattr(every, "__index__") or every < 0:
            raise ArgumentError(
                f"TensorBoard: every is {every!r}; give a number of steps, 0: none."
            )
        shape = None if images is None else np.shape(images)
        if shape is not None and (len(shape) != 4 or shape[1] not in (1, 3)):
            raise ArgumentError(
                f"TensorBoard: images are {shape}; give (N, C, H, W) with 1 or 3 channels."
            )
        self.folder = None if folder is None else Path(folder)
        self.every = every
        self.histograms = histograms
        self.images = None if images is None else np.asarray(images)
        self._writer: Any = None
        self._module = needed("tensorboardX", "TensorBoard", "tensorboard")

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open an event file that continues at the training's step."""
        folder = self.folder
        if folder is None:
            if trainer.history.path is None:
                raise ArgumentError(
                    "TensorBoard: this training keeps its history in memory and has no folder; "
                    "give the callback one: TensorBoard(folder)."
                )
            folder = trainer.history.path.parent
        step = trainer.position.step
        more = {"purge_step": step + 1} if step else {}
        # by itself the name holds the second, which a quick resume shares
        suffix = f".from-step-{step}"
        self._writer = self._module.SummaryWriter(str(folder), filename_suffix=suffix, **more)
        if self.images is not None and not step:
            self._writer.add_images("images", self.images, step)

    def on_step_end(self, trainer: Trainer, images: int) -> None:
        """Write the means of the epoch so far, every so many steps."""
        step = trainer.position.step
        if not self.every or step % self.every:
            return
        for name, mean in trainer.running.items():
            self._writer.add_scalar(f"epoch_so_far/{name}", mean.value, step)
        self._writer.add_scalar("learning_rate", trainer.lr, step)

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Write the epoch's record."""
        step = trainer.position.step
        for name, tag in TAGS.items():
            if name in record:
                self._writer.add_scalar(tag, record[name], step)
        if self.histograms:
            for name, parameter in trainer.model.named_parameters():
                self._count(f"weights/{name}", parameter.numpy(), step)
                if parameter.grad is not None:
                    self._count(f"gradients/{name}", Tensor(parameter.grad).numpy(), step)
        self._writer.flush()

    def _count(self, tag: str, values: np.ndarray, step: int) -> None:
        """A histogram of what is finite; the library fails where nothing is."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self._writer.add_histogram(tag, finite, step)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
