"""The architectures and their tables."""

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import models
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError, ShapeError
from minicnn.inspect import summary


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def test_notes_cnn_has_the_notes_shapes_and_counts():
    table = summary(models.create("notes_cnn"), (1, 28, 28))
    shapes = {row.name: row.output_shape for row in table.layers}
    assert shapes["features.0"] == (16, 28, 28)
    assert shapes["features.3"] == (16, 14, 14)
    assert shapes["features.4"] == (32, 14, 14)
    assert shapes["features.7"] == (32, 7, 7)
    assert shapes["flatten"] == (1568,)
    assert shapes["classifier"] == (10,)
    assert [row.parameters for row in table.layers if row.parameters] == [416, 32, 12832, 64, 15690]
    assert table.parameters == 29_034
    assert table.multiply_adds == 2_838_080


def test_summary_text_leaves_the_model_alone():
    model = models.create("notes_cnn").train()
    before = model.state_dict()
    text = str(summary(model, (1, 28, 28)))
    assert "29,034" in text
    assert "2,838,080" in text
    assert "32x7x7" in text
    assert model.training
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())


def test_every_parameter_of_the_notes_cnn_gets_a_gradient():
    minicnn.seed(0)
    model = models.create("notes_cnn")
    x = np.random.default_rng(0).standard_normal((8, 1, 28, 28)).astype(np.float32)
    F.cross_entropy(model(Tensor(x)), np.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        if not name.endswith("bias") or "classifier" in name:
            assert np.abs(parameter.grad).max() > 0, name


def test_one_batch_overfits():
    minicnn.seed(0)
    model = models.create("notes_cnn", num_classes=4, in_channels=2, image_size=9)
    x = Tensor(np.random.default_rng(0).standard_normal((8, 2, 9, 9)).astype(np.float32))
    labels = np.arange(8) % 4
    optimizer = minicnn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_unknown_model_names_the_nearest():
    with pytest.raises(ArgumentError, match="did you mean 'notes_cnn'"):
        models.create("notes_cn")


def test_wrong_channels_name_the_layer():
    with pytest.raises(ShapeError, match="x has 3 channels") as caught:
        models.create("notes_cnn")(Tensor(np.zeros((1, 3, 28, 28), np.float32)))
    notes = "\n".join(caught.value.__notes__)
    assert "features.0" in notes
    assert "Conv2d(1, 16" in notes


def test_tiny_images_are_refused():
    with pytest.raises(ShapeError, match="image_size is 3"):
        models.create("notes_cnn", image_size=3)
