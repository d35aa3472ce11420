"""Whole training steps as one CUDA graph: launched by one call instead of a hundred.

A GPU works through a queue. For each kernel the CPU puts one entry into it, which takes Python and
the driver some microseconds; a small network has kernels that run no longer than that, so the GPU
waits for the CPU most of the time. A *CUDA graph* is a recording of such entries: while a stream is
*captured*, launches are written down and not run, with the kernel, the addresses and every number
they were called with. Launching the graph later puts all of them into the queue at once.

So the second time nothing is decided any more. What is written down stays, and three things follow:

- **Addresses.** Each replay reads and writes the same memory. A batch is therefore copied into
  buffers that never move, and all that the captured steps compute lies in a memory pool of their
  own, which lives as long as the graph: the usual pool would give the same memory to others.
- **Numbers.** The learning rate, the step that Adam counts, and the keys of dropout masks change
  with each step. As numbers they would be frozen, so they stand in a table on the GPU and kernels
  get the place of each: an array of no dimensions. Before a replay the CPU computes the numbers of
  all its steps (the schedule moves, `Optimizer.advance` counts, `minicnn.random` draws the keys, in
  the order of ordinary steps) and one copy of a few hundred bytes brings them over.
- **Decisions.** Python ran once. A forward pass that throws dice on the CPU or looks at a value
  would repeat the first outcome for ever. Looking at a value is impossible during capture (CuPy
  raises), dice are refused by `minicnn.random`, and hooks are refused because they would not run.

Nothing is read back in between: a replay holds several steps, writes the loss and the number of
hits of each into a small array, and the CPU reads that once. The means in the history are those of
the same numbers as without graphs. A loss that is not finite is seen after the replay, when the
steps behind it are done too; the error names the step and the span.

The kernels and their arguments are those of ordinary ("eager") steps, so the weights are the same
bit for bit, if each kernel gives the same for a number and for a place that holds it. The first
`WARM_UP` steps of a fit are eager, because the first call of a kernel compiles it and the first
step of an optimizer makes its state, and so are what is left of an epoch and batches of another
size. Checkpoints come between replays and hold nothing of the graph: a run may be resumed with
graphs or without. When the network, its mode, the optimizer's settings other than the learning rate
or the arrays themselves have changed, the steps are captured anew.

What to expect: the time of a step falls to what its kernels take, so the gain is large for small
networks and batches and nothing for large ones. The memory of one step and of ``steps`` batches is
held as long as the fit lasts. See NVIDIA's CUDA C++ programming guide, "CUDA Graphs".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn import random
from minicnn.errors import CaptureError
from minicnn.optim.lr_scheduler import ReduceLROnPlateau
from minicnn_kernels import registry
from minicnn_kernels.precision import tf32_allowed

if TYPE_CHECKING:
    from minicnn.training.trainer import Trainer

WARM_UP = 2
CAPACITY = 2**15  # numbers and keys of one replay

Batch = tuple[Any, Any]


class GraphedSteps:
    """The captured steps of a trainer; captures when it must, replays when it can."""

    def __init__(self, trainer: Trainer, steps: int) -> None:
        check(trainer)
        self.trainer = trainer
        self.steps = steps
        self.recording: _Recording | None = None
        self._done = 0

    def groups(self, batches: Iterable[Batch], batch_size: int) -> Iterator[list[Batch]]:
        """Cut an epoch into lists of ``steps`` batches for `run`, and of one for an eager step."""
        waiting: list[Batch] = []
        for batch in batches:
            self._done += 1
            if self._done <= WARM_UP or len(batch[1]) != batch_size:
                yield from ([one] for one in (*waiting, batch))
                waiting = []
                continue
            waiting.append(batch)
            if len(waiting) == self.steps:
                yield waiting
                waiting = []
        yield from ([one] for one in waiting)

    def run(self, batches: Sequence[Batch]) -> list[tuple[float, int]]:
        """Train on ``steps`` batches; returns the loss and the hits of each."""
        circumstances = _circumstances(self.trainer, batches)
        if self.recording is None or not self.recording.fits(circumstances):
            self.recording = None  # its memory is given back before more is taken
            self.recording = _Recording(self.trainer, batches, circumstances)
        else:
            self.recording.prepare(batches)
        return self.recording.launch()


def check(trainer: Trainer) -> None:
    """Raise `CaptureError` where it is known beforehand that steps cannot be captured."""
    if trainer.model.device == "cpu":
        raise CaptureError(
            "Trainer: graph=True records what is launched on a GPU, but the model is on the CPU, "
            "where nothing is launched; use model.to('cuda') (a backend such as 'cupy_cuda'), or "
            "graph=False."
        )
    k = registry.kernels("cuda")
    if k.capture_fault:
        raise CaptureError(
            f"Trainer: graph=True cannot be used with the kernels {k.name!r}: {k.capture_fault} "
            "Choose the backend 'cupy_cuda', or graph=False."
        )
    if trainer.schedule_every == "step" and isinstance(trainer.scheduler, ReduceLROnPlateau):
        raise CaptureError(
            "Trainer: graph=True cannot be used with ReduceLROnPlateau after every step, which "
            "needs each loss before the next step; use schedule_every='epoch', or graph=False."
        )
    for path, module in trainer.model.named_modules():
        if module.has_hooks:
            raise CaptureError(
                f"Trainer: the hooks of {path or 'the model'} would not run when a graph is "
                "replayed; remove them, or use graph=False."
            )


class _Table:
    """Numbers and keys, 64 bits each, on the device, in the order in which steps ask for them."""

    def __init__(self, xp: Any) -> None:
        self._words = xp.zeros(CAPACITY, np.uint64)
        self._numbers = self._words.view(np.float64)
        self._host = np.zeros(CAPACITY, np.uint64)
        self.kinds: list[str] = []

    def clear(self) -> None:
        self.kinds = []

    def number(self, value: float) -> Any:
        """The place of a number that a kernel reads: an array of no dimensions."""
        place = self._next("number")
        self._host.view(np.float64)[place] = value
        return self._numbers[place]

    def key(self, value: int) -> Any:
        """The place of a key."""
        place = self._next("key")
        self._host[place] = value
        return self._words[place]

    def upload(self) -> None:
        used = len(self.kinds)
        if used:
            self._words[:used].set(self._host[:used])

    def _next(self, kind: str) -> int:
        if len(self.kinds) == CAPACITY:
            raise CaptureError(
                f"Trainer: the steps of one graph use more than {CAPACITY:,} changing numbers and "
                "keys; lower graph_steps, or use graph=False."
            )
        self.kinds.append(kind)
        return len(self.kinds) - 1


class _Recording:
    """Captured steps: the graph, the memory it works on, and what fills its inputs."""

    def __init__(
        self, trainer: Trainer, batches: Sequence[Batch], circumstances: dict[str, Any]
    ) -> None:
        xp = registry.kernels("cuda").xp
        self.trainer = trainer
        self.circumstances = circumstances
        self.stream = xp.cuda.Stream()  # waits for the usual stream, and that for it
        self.pool = xp.cuda.MemoryPool()
        self.keys: list[int] = []
        with self.stream, xp.cuda.using_allocator(self.pool.malloc):
            self.table = _Table(xp)
            self.inputs = [tuple(xp.empty(a.shape, a.dtype) for a in batch) for batch in batches]
            self.results = xp.zeros((2, len(batches)), np.float64)
            self._fill(batches)
            self.graph = self._capture()
        self.kinds = list(self.table.kinds)
        self.gradients = [p.grad for p in trainer.model.parameters()]

    def fits(self, circumstances: dict[str, Any]) -> bool:
        """Whether what was captured is still what a step would do now."""
        before = dict(self.circumstances)
        now = dict(circumstances)
        arrays = before.pop("arrays"), now.pop("arrays")
        same = len(arrays[0]) == len(arrays[1]) and all(
            a is b for a, b in zip(*arrays, strict=True)
        )
        return same and before == now

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Bring in the batches and count the steps, as eager steps would."""
        optimizer = self.trainer.optimizer
        for p, gradient in zip(self.trainer.model.parameters(), self.gradients, strict=True):
            p.grad = gradient
        self.table.clear()
        with self._held():
            for count in self.keys:
                for _ in range(count):
                    random.next_key()
                optimizer.advance()
                self.trainer.move_step_schedule()
        if self.table.kinds != self.kinds:
            raise CaptureError(
                "Trainer: the optimizer takes other numbers than in the step that was captured; "
                "use graph=False."
            )
        with self.stream:
            self._fill(batches)

    def launch(self) -> list[tuple[float, int]]:
        """Run the steps; returns the loss and the hits of each, when the GPU is done."""
        with self.stream:
            self.table.upload()
            self.graph.launch()
            losses, hits = self.results.get()
        return [(float(loss), int(count)) for loss, count in zip(losses, hits, strict=True)]

    def _fill(self, batches: Sequence[Batch]) -> None:
        for places, batch in zip(self.inputs, batches, strict=True):
            for place, values in zip(places, batch, strict=True):
                if isinstance(values, np.ndarray):
                    place.set(np.ascontiguousarray(values, place.dtype))
                else:
                    place[...] = values

    def _capture(self) -> Any:
        """Run the steps once in Python, while the stream writes down what they launch."""
        take_back = _host_state(self.trainer)
        self.stream.begin_capture()
        try:
            with self._held():
                for number, (images, labels) in enumerate(self.inputs):
                    self._step(number, images, labels)
        except Exception as error:
            with contextlib.suppress(Exception):  # the stream may have given up by itself
                self.stream.end_capture()
            take_back()
            if isinstance(error, CaptureError):
                raise
            raise CaptureError(
                f"Trainer: the training step cannot be captured as a CUDA graph ({error}). Looking "
                "at values, copies between CPU and GPU and cuBLAS through CuPy are impossible "
                "inside it; use graph=False."
            ) from error
        return self.stream.end_capture()

    def _step(self, number: int, images: Any, labels: Any) -> None:
        drawn = self.table.kinds.count("key")
        logits, loss = self.trainer.forward(images, labels)
        self.results[0, number] = loss.array
        self.results[1, number] = (logits.array.argmax(axis=1) == labels).sum()
        self.trainer.update(loss)
        self.trainer.move_step_schedule()
        self.keys.append(self.table.kinds.count("key") - drawn)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Changing numbers and keys go into the table and kernels get their places."""
        optimizer = self.trainer.optimizer
        optimizer.changing = self.table.number
        try:
            with random.keys_through(self.table.key):
                yield
        finally:
            optimizer.changing = float


def _host_state(trainer: Trainer) -> Callable[[], None]:
    """What Python counts in a step; call the result to forget the steps since."""
    optimizer, scheduler = trainer.optimizer, trainer.scheduler
    generator = random.get_state()
    schedule = scheduler.state_dict() if scheduler else {}
    groups = [dict(group) for group in optimizer.param_groups]
    states = [(state, dict(state)) for state in optimizer.state.values()]

    def take_back() -> None:
        random.set_state(generator)
        if scheduler is not None:
            scheduler.load_state_dict(schedule)
        for group, before in zip(optimizer.param_groups, groups, strict=True):
            group.update(before)
        for state, old in states:
            state.update(old)
        optimizer.zero_grad()

    return take_back


def _circumstances(trainer: Trainer, batches: Sequence[Batch]) -> dict[str, Any]:
    """All that captured steps depend on besides the table and the inputs; arrays by identity."""
    model, optimizer = trainer.model, trainer.optimizer
    states = (optimizer.state.get(p, {}) for p in model.parameters())
    return {
        "arrays": [
            *(p.array for p in model.parameters()),
            *model.buffers(),
            *(state[name] for state in states for name in optimizer.state_arrays if name in state),
        ],
        "batches": [(a.shape, np.dtype(a.dtype)) for batch in batches for a in batch],
        "modes": [module.training for module in model.modules()],
        "trained": [p.requires_grad for p in model.parameters()],
        "hyperparameters": [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in optimizer.param_groups
        ],
        "kernels": (registry.kernels("cuda"), tf32_allowed()),
        "loss": (trainer.loss, trainer.clip_norm),
    }
