"""Event files: read back record by record, as the format is defined."""

import struct

import numpy as np
import pytest

import minicnn
from minicnn import data, nn, optim
from minicnn.errors import ArgumentError
from minicnn.interop.tensorboard import TAGS, TensorBoard
from minicnn.training.history import History
from minicnn.training.trainer import Trainer

pytest.importorskip("tensorboardX", reason='tensorboardX is the extra "tensorboard"')


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def events(folder):
    """Every event of the files in a folder: a record is length, its crc, data, the data's crc."""
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def masked(text):
        crc = crc32c(text)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        text, at = path.read_bytes(), 0
        while at < len(text):
            (length,) = struct.unpack_from("<Q", text, at)
            body = text[at + 12 : at + 12 + length]
            assert struct.unpack_from("<I", text, at + 8)[0] == masked(text[at : at + 8])
            assert struct.unpack_from("<I", text, at + 12 + length)[0] == masked(body)
            found.append(Event.FromString(body))
            at += length + 16
    return found


def scalars(folder, tag):
    """(step, value) of each point of a curve."""
    return [
        (event.step, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.tag == tag
    ]


def training(folder, callback, steps_an_epoch=4):
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((steps_an_epoch * 8, 1, 1, 2)).astype(np.float32)
    dataset = data.ArrayDataset(pixels, (pixels[:, 0, 0, 0] > 0).astype(int))
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=0.5),
        callbacks=[callback],
        history=History(folder / "history.jsonl"),
    )
    return trainer, data.Loader(dataset, 8)


def test_curves_are_those_of_the_history(tmp_path):
    trainer, loader = training(tmp_path, TensorBoard(every=2))
    history = trainer.fit(loader, loader, epochs=3)
    for name, tag in TAGS.items():
        expected = list(zip(history.column("step"), history.column(name), strict=True))
        found = scalars(tmp_path, tag)
        if tag == "learning_rate":  # within epochs too
            found = [(step, value) for step, value in found if step % 4 == 0][::2]
        assert [step for step, _ in found] == [4, 8, 12]
        for (_, value), (_, wanted) in zip(found, expected, strict=True):
            assert value == np.float32(wanted), tag
    assert [step for step, _ in scalars(tmp_path, "epoch_so_far/loss")] == [2, 4, 6, 8, 10, 12]


def test_a_resumed_training_overwrites_what_came_after_its_checkpoint(tmp_path):
    trainer, loader = training(tmp_path, TensorBoard())
    trainer.fit(loader, epochs=2)
    trainer.fit(loader, epochs=3)
    starts = [e.step for e in events(tmp_path) if e.session_log.status == e.session_log.START]
    assert starts == [9]
    assert [step for step, _ in scalars(tmp_path, "loss/training")] == [4, 8, 12]


def test_histograms_and_pictures(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 5), np.uint8)
    callback = TensorBoard(tmp_path / "events", every=0, histograms=True, images=pictures)
    trainer, loader = training(tmp_path, callback)
    trainer.fit(loader, epochs=1)
    values = {v.tag: v for e in events(tmp_path / "events") for v in e.summary.value}
    assert values["weights/1.weight"].histo.num == trainer.model[1].weight.size
    assert values["gradients/1.bias"].histo.num == 2
    assert (values["images"].image.height, values["images"].image.width) == (4, 3 * 5)
    assert "epoch_so_far/loss" not in values
    assert not list(tmp_path.glob("events*tfevents*"))


def test_mistakes(tmp_path):
    with pytest.raises(ArgumentError, match="every is -1"):
        TensorBoard(every=-1)
    with pytest.raises(ArgumentError, match="1 or 3 channels"):
        TensorBoard(images=np.zeros((2, 2, 4, 4)))
    trainer, loader = training(tmp_path, TensorBoard())
    trainer.history = History()
    with pytest.raises(ArgumentError, match="has no folder"):
        trainer.fit(loader, epochs=1)


def test_weights_without_a_finite_number_do_not_end_the_training(tmp_path):
    watch = TensorBoard(tmp_path, histograms=True)
    trainer = Trainer(layer := nn.Linear(2, 2), optim.SGD(layer.parameters(), lr=0.1))
    layer.weight.array[...] = np.nan
    layer.bias.array[...] = (np.inf, 1.0)
    watch.on_fit_begin(trainer)
    watch.on_epoch_end(trainer, {})
    watch.on_fit_end(trainer)
    tags = [value.tag for event in events(tmp_path) for value in event.summary.value]
    assert tags == ["weights/bias"]


def test_pictures_may_be_a_list_and_every_is_a_whole_number(tmp_path):
    assert TensorBoard(tmp_path, images=[[[[0.5]]]]).images.shape == (1, 1, 1, 1)
    for every in "5", 2.5, -1:
        with pytest.raises(ArgumentError, match=r"every is .*give a number of steps"):
            TensorBoard(tmp_path, every=every)
    with pytest.raises(ArgumentError, match=r"images are \(1,\)"):
        TensorBoard(tmp_path, images=[1])
