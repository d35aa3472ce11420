"""What one process of the parallel tests does: ``python parallel_program.py CASE FOLDER``.

Started by mpiexec it is one of several; without a launcher it does the same alone. Rank 0 writes
what it found into FOLDER, as CASE-1.npz for one process, CASE-2.npz for two.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import minicnn
from minicnn import Tensor, nn, optim
from minicnn.data import (
    ArrayDataset,
    CenterCrop,
    Compose,
    Loader,
    RandomCrop,
    RandomHorizontalFlip,
    ToFloat,
)
from minicnn.data.sharded import ShardedLoader
from minicnn.errors import NonFiniteError, ParallelError
from minicnn.training.parallel import join, member
from minicnn.training.parallel_gradients import GradientBuckets
from minicnn.training.parallel_norm import Statistics, synchronise
from minicnn.training.parallel_trainer import ParallelTrainer
from minicnn.training.trainer import Trainer

BATCH = 128
MIDDLE = Compose([CenterCrop((10, 10)), ToFloat()])


def images(count):
    """Noise in which the class of a picture is the brightest of four quarters."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, count)
    pixels = rng.integers(0, 128, (count, 1, 12, 12))
    for i, label in enumerate(labels):
        y, x = divmod(int(label), 2)
        pixels[i, 0, 6 * y : 6 * y + 6, 6 * x : 6 * x + 6] += 60
    return ArrayDataset(pixels.astype(np.uint8), labels)


def network():
    minicnn.seed(7)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * 25, 32), nn.ReLU(), nn.Linear(32, 4)),
    )


def trainer_of(group, model, sync_bn=True, **settings):
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    if group is None:
        return Trainer(model, optimizer, **settings)
    return ParallelTrainer(group, model, optimizer, sync_bn=sync_bn, **settings)


def training(group):
    """50 steps in two epochs, whose last batches have one image: fewer than there are processes."""
    model = network()
    # No padding: where all pixels are equal, rounding decides which of equal numbers a pool takes.
    moves = Compose([RandomHorizontalFlip(), RandomCrop((10, 10)), ToFloat()])
    train = Loader(images(24 * BATCH + 1), BATCH, shuffle=True, seed=3, transform=moves)
    trainer = trainer_of(group, model, clip_norm=5.0)
    trainer.fit(train, Loader(images(301), 64, transform=MIDDLE), epochs=2)
    assert trainer.position.step == 50
    record = trainer.history.records[-1]
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return {**model.state_dict(), **{f"record/{name}": record[name] for name in names}}


def uneven(group):
    """A few steps on batches that two processes cannot halve: 7 images, and at last 3."""
    model = network()
    train = Loader(images(24), 7, shuffle=True, transform=MIDDLE)
    trainer_of(group, model).fit(train, epochs=1)
    return model.state_dict()


def local(group):
    """Training whose batch norms are each process's own ends with equal weights and statistics."""
    model = network()
    trainer = trainer_of(group, model, sync_bn=False)
    train = Loader(images(BATCH * 4), BATCH, shuffle=True, transform=MIDDLE)
    trainer.fit(train, epochs=1)  # which compares weights
    return model.state_dict()


def norms(group):
    """Outputs and gradients of both norms, of uneven parts of one batch."""
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((5, 3, 4, 4)) * [[[[1]], [[10]], [[0.1]]]] + [
        [[[0]], [[1e3]], [[-1]]]
    ]
    gy = rng.standard_normal(maps.shape)
    rank, size = (0, 1) if group is None else (group.rank, group.size)
    cut = [0, 5] if size == 1 else [0, 3, 5]
    own = slice(cut[rank], cut[rank + 1])
    found = {}
    for name, layer, x, upstream in (
        ("maps", nn.BatchNorm2d(3), maps, gy),
        ("rows", nn.BatchNorm1d(3), maps[:, :, 0, 0], gy[:, :, 0, 0]),
    ):
        layer.astype(np.float64)
        layer.weight.array[:] = [1.0, -2.0, 0.5]
        layer.bias.array[:] = [0.1, 0.2, 0.3]
        if group is not None:
            assert synchronise(layer, Statistics(group)) == 1
        part = Tensor(x[own].copy(), requires_grad=True)
        y = layer(part)
        y.backward(upstream[own].copy())
        parts = {"y": y.array, "gx": part.grad}
        if group is not None:
            parts = {k: np.concatenate(group.gather(v)) for k, v in parts.items()}
            for parameter in (layer.weight, layer.bias):
                parameter.grad = group.sum(parameter.grad)
        parts |= {"gw": layer.weight.grad, "gb": layer.bias.grad}
        parts |= {"mean": layer.running_mean, "var": layer.running_var}
        found |= {f"{name}/{k}": v for k, v in parts.items()}
    return found


def absent(group):
    """A parameter that only one process uses gets a gradient everywhere; one of nobody's, none."""
    a, b, c = (Tensor(np.full(2, v, np.float32), requires_grad=True) for v in (1.0, 2.0, 3.0))
    buckets = GradientBuckets(group, [a, b, c], first_bytes=8, limit_bytes=8)
    assert len(buckets.buckets) == 3
    loss = (a * a + a).sum() if group.rank == 0 else (a * a + a + b).sum()
    buckets.backward(loss, 0.5)
    assert c.grad is None
    return {"a": a.grad, "b": b.grad}


def not_finite(group):
    """A loss that is not finite in one process is an error of all, which names the process."""
    model = network()
    if group.rank == 1:
        model[4].register_forward_hook(lambda module, args, y: y * float("nan"))
    try:
        trainer_of(group, model).fit(Loader(images(8), 8, transform=MIDDLE), epochs=1)
    except NonFiniteError as error:
        return {"said": np.array(str(error))}
    raise AssertionError("no error")


def diverged(group):
    """Weights that are no longer equal are noticed at the end of the epoch."""
    model = network()
    trainer = trainer_of(group, model)
    trainer.fit(Loader(images(8), 8, transform=MIDDLE), epochs=1)
    model[0].bias.array[0] += group.rank
    try:
        trainer.check_equal()
    except ParallelError as error:
        return {"noticed": int("processes 1 differ" in str(error))}
    raise AssertionError("no error")


def order(group):
    """The labels of each batch, put together from the processes, of sizes that do not divide."""
    data = ArrayDataset(np.zeros((23, 1, 1, 1), np.uint8), range(23))
    loader = Loader(data, 7, shuffle=True, seed=5)
    if group is None:
        return {str(i): labels for i, (_, labels) in enumerate(loader.iterate(2))}
    part = ShardedLoader(loader, group.rank, group.size)
    own = [labels[: part.count(i)] for i, (_, labels) in enumerate(part.iterate(2))]
    parts = group.gather(own)
    return {str(i): np.concatenate(p) for i, p in enumerate(zip(*parts, strict=True))}


def late(group):
    """A process that never comes is given up; the one that waits says so."""
    if group.rank == 0:
        group.sum(np.zeros(1), "a test")
    else:
        import time

        time.sleep(600)


def raising(group):
    """An exception of one process ends the others, which wait for it."""
    if group.rank == 1:
        raise ValueError("a reason of its own")
    group.sum(np.zeros(1))


def main(case, folder):
    group = join("auto", timeout=2.0 if case == "late" else 60.0)
    with member(group):
        found = globals()[case](group)
        if group is None or group.rank == 0:
            np.savez(Path(folder) / f"{case}-{1 if group is None else group.size}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
