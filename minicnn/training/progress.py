"""What a person sees of a training: a bar for the running epoch, a line for each finished one."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from minicnn.training.callbacks import Callback

if TYPE_CHECKING:
    from minicnn.training.trainer import Trainer


class ProgressBar(Callback):
    """Shows loss, accuracy, images/s and the time left while an epoch runs.

    On a terminal a bar moves; elsewhere (a file, a pipe, a notebook's log) each epoch leaves one
    line and the bar is left out. ``file`` is where it goes, stdout if None.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file
        self._bar: Any = None
        self._task: Any = None
        self._started = 0.0
        self._images = 0

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open the bar where there is a terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=self.file or sys.stdout, highlight=False)
        if not console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._bar.start()

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Start the epoch's bar where the epoch starts or resumes."""
        self._started, self._images = time.perf_counter(), 0
        if self._bar is None:
            return
        position = trainer.position
        self._task = self._bar.add_task(
            f"epoch {position.epoch + 1}/{trainer.epochs}",
            total=trainer.batches,
            completed=position.batch,
            numbers="",
        )

    def on_step_end(self, trainer: Trainer, images: int) -> None:
        """Move the bar."""
        self._images += images
        if self._bar is None:
            return
        rate = self._images / max(time.perf_counter() - self._started, 1e-9)
        loss, accuracy = (trainer.running[name].value for name in ("loss", "accuracy"))
        numbers = f"loss {loss:.4f}  accuracy {accuracy:.4f}  {rate:,.0f} images/s"
        self._bar.update(self._task, completed=trainer.position.batch, numbers=numbers)

    def on_epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Replace the bar by the epoch's line."""
        line = epoch_line(record, trainer.epochs)
        if self._bar is None:
            print(line, file=self.file or sys.stdout, flush=True)
        else:
            self._bar.remove_task(self._task)
            self._bar.console.print(line)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the bar, after an error too."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def epoch_line(record: dict[str, Any], epochs: int) -> str:
    """One line of text for one record of the history.

    >>> epoch_line({"epoch": 3, "loss": 0.5, "accuracy": 0.8, "lr": 0.1, "seconds": 2.0,
    ...             "images_per_second": 5000.0}, epochs=10)
    'epoch  3/10  loss 0.5000  accuracy 0.8000  lr 0.1  2.0 s  5,000 images/s'
    """
    width = len(str(epochs))
    parts = [f"epoch {record['epoch']:{width}}/{epochs}"]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        if name in record:
            parts.append(f"{name} {record[name]:.4f}")
    parts += [f"lr {record['lr']:.3g}", f"{record['seconds']:.1f} s"]
    parts.append(f"{record['images_per_second']:,.0f} images/s")
    return "  ".join(parts)
