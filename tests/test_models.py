"""The architectures and their tables."""

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import models, nn
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError, ShapeError
from minicnn.inspect import catalogue, memory, receptive_fields, summary
from minicnn.models.fitting import smallest_size
from minicnn_kernels import registry
from minicnn_kernels.geometry import Window2d


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


def zeros(*shape):
    return Tensor(np.zeros(shape, np.float32))


def complaint(model, x):
    """The message of the error that a network raises, and its notes."""
    with pytest.raises(ShapeError) as caught:
        model(x)
    return str(caught.value), "\n".join(caught.value.__notes__)


def test_wrong_channels_name_both_numbers_and_the_layer():
    message, notes = complaint(models.create("notes_cnn"), zeros(1, 3, 28, 28))
    assert message == (
        "notes_cnn: the images have 3 channels, shape 3x28x28, but it was built with "
        "in_channels=1; build it with models.create('notes_cnn', in_channels=3), or pass images "
        "of 1 channel."
    )
    assert "features.0" in notes
    assert "Conv2d(1, 16" in notes
    assert "x has 3 channels" in notes  # the message of the operation


class Pyramid(models.Network):
    """Five halvings, then a global mean or a matrix of 7 x 7 cells."""

    def __init__(self, num_classes=10, in_channels=3, poolings=5, flat=False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 2, 3, padding=1)
        for i in range(1, poolings + 1):
            setattr(self, f"pool{i}", nn.MaxPool2d(2))
        self.poolings = poolings
        self.head = nn.Flatten() if flat else nn.GlobalAvgPool2d()
        self.classifier = nn.Linear(2 * 7 * 7 if flat else 2, num_classes)

    def forward(self, x):
        x = self.conv(x)
        for i in range(1, self.poolings + 1):
            x = getattr(self, f"pool{i}")(x)
        return self.classifier(self.head(x))


@pytest.fixture
def pyramids():
    presets = {
        "imagenet": models.Preset((3, 224, 224), 1000),
        "cifar10": models.Preset((3, 32, 32), 10, {"poolings": 2}),
        "fashion-mnist": models.Preset((1, 28, 28), 10, {"poolings": 2}),
    }
    models.register("pyramid", presets)(Pyramid)
    flat = models.Preset((3, 224, 224), 1000, {"flat": True})
    models.register("flat_pyramid", {"imagenet": flat})(Pyramid)
    yield
    for name in ("pyramid", "flat_pyramid"):
        models.registry._architectures.pop(name)


def test_images_that_are_too_small_name_the_layer_the_smallest_size_and_the_presets(pyramids):
    message, notes = complaint(models.create("pyramid"), zeros(2, 3, 24, 40))
    assert message == (
        "pyramid: an input of 3x24x40 is too small: pool5 (MaxPool2d) would return a map of 0x1; "
        "pass images of 32x32 or larger, or build it with models.create('pyramid', "
        "preset='cifar10') or models.create('pyramid', preset='fashion-mnist', in_channels=3)."
    )
    assert "max_pool2d: kernel_size 2" in notes
    assert "in pool5 MaxPool2d" in notes
    with nn.without_weights():
        model = models.create("pyramid", image_size=16)
    message, _ = complaint(model, zeros(1, 3, 16, 16))
    assert "is too small: pool5" in message
    assert "pass images of 32x32 or larger, or build it with" in message
    assert smallest_size(model, 3) == 32
    assert smallest_size(models.create("pyramid", preset="cifar10"), 3) == 4


def test_a_builder_that_finds_a_map_empty_says_the_smallest_image_size():
    def build(num_classes, in_channels, image_size, kernel_size=5):
        Window2d.of((image_size, image_size), kernel_size, caller="sized")
        return models.NotesCNN(num_classes, in_channels, 28)

    presets = {
        "imagenet": models.Preset((3, 224, 224), 10, {"kernel_size": 11}),
        "tiny": models.Preset((1, 8, 8), 10),
    }
    models.register("sized", presets)(build)
    try:
        assert models.create("sized", image_size=11)
        with pytest.raises(ShapeError) as caught:
            models.create("sized", image_size=9)
    finally:
        models.registry._architectures.pop("sized")
    assert str(caught.value) == (
        "sized: image_size=9 is too small: a map would be empty; use image_size=11 or more or the "
        "preset 'tiny'."
    )
    assert caught.value.__notes__[0].startswith("sized: kernel_size 11")


def test_an_unnamed_network_says_the_smallest_size_too():
    message, _ = complaint(Pyramid(), zeros(1, 3, 16, 16))
    assert message == (
        "Pyramid: an input of 3x16x16 is too small: pool5 (MaxPool2d) would return a map of 0x0; "
        "pass images of 32x32 or larger."
    )


def test_a_network_that_flattens_its_maps_says_what_it_was_built_for(pyramids):
    message, notes = complaint(models.create("notes_cnn"), zeros(1, 1, 32, 32))
    assert message == (
        "notes_cnn: an input of 1x32x32 does not fit: classifier (Linear) reads 1,568 values and "
        "would get 2,048; pass images of 28x28, for which it was built, or build it with "
        "models.create('notes_cnn', preset='fashion-mnist', image_size=32)."
    )
    assert "2048" in notes
    models.create("notes_cnn", preset="fashion-mnist", image_size=32)(zeros(1, 1, 32, 32))
    message, _ = complaint(models.create("flat_pyramid"), zeros(1, 3, 16, 16))
    assert "pool5 (MaxPool2d) would return a map of 0x0; pass images of 224x224" in message
    assert smallest_size(models.create("flat_pyramid"), 3) is None


def test_other_mistakes_are_left_as_they_are():
    with pytest.raises(ShapeError, match="must be \\(N, C, H, W\\)"):
        models.create("notes_cnn")(zeros(1, 28, 28))

    class Broken(models.NotesCNN):
        def forward(self, x):
            return super().forward(x) + zeros(3, 3)

    model = Broken()
    with pytest.raises(ShapeError) as caught:
        model(zeros(2, 1, 28, 28))
    assert "Broken" not in str(caught.value)
    outer = Outer()
    with pytest.raises(ShapeError) as caught:
        outer(zeros(2, 3, 8, 8))
    assert str(caught.value).startswith("Outer: an input of 3x8x8 is too small: inner.pool4 ")
    assert len([n for n in caught.value.__notes__ if n.startswith("max_pool2d")]) == 1


def test_a_network_that_cannot_be_tried_out_shows_the_error_of_its_layer():
    class Looking(Pyramid):
        def forward(self, x):
            if not x.array.any():  # the numbers of a dry run
                raise RuntimeError("no image")
            return super().forward(x)

    with pytest.raises(ShapeError, match="max_pool2d: kernel_size 2"):
        Looking()(Tensor(np.ones((1, 3, 16, 16), np.float32)))


class Outer(models.Network):
    """A network inside another."""

    def __init__(self):
        super().__init__()
        self.inner = Pyramid()

    def forward(self, x):
        return self.inner(x)


def test_an_explained_model_keeps_its_mode_and_its_kernels(pyramids):
    model = models.create("pyramid").train()
    complaint(model, zeros(1, 3, 8, 8))
    assert model.training
    assert model.pool5.training
    assert not model.pool5.has_hooks
    assert registry.selected("cpu") == "numpy"


def test_tiny_images_are_refused():
    with pytest.raises(ShapeError, match="image_size is 3"):
        models.create("notes_cnn", image_size=3)


@pytest.mark.parametrize("name", [None, 5, ["lenet5"], models.LeNet5])
def test_a_model_or_preset_that_is_no_name(name):
    with pytest.raises(ArgumentError, match=r"unknown model .*by its name, a text; choose one of"):
        models.create(name)
    if name is not None:  # which is the paper's preset
        with pytest.raises(ArgumentError, match=r"lenet5 has no preset .*choose one of mnist"):
            models.create("lenet5", preset=name)


@pytest.mark.parametrize("size", ["28", (28, 28), 0, -3, 28.5])
def test_an_image_size_that_is_no_size(size):
    for name in "lenet5", "resnet18":  # the second has no weights that depend on it
        with pytest.raises(ArgumentError, match=r"image_size is .*give a whole number >= 1"):
            models.create(name, image_size=size)


def test_the_catalogue_wants_a_list_of_names():
    with pytest.raises(ArgumentError, match=r"names is 'lenet5'.*catalogue\(\['lenet5'\]\)"):
        catalogue("lenet5")
    with pytest.raises(ArgumentError, match="catalogue: names is 5; give a list"):
        catalogue(5)


def test_tables_of_a_name_or_a_class_say_how_to_build_the_network():
    for function in summary, receptive_fields, memory, nn.dry_run:
        with pytest.raises(ArgumentError, match=rf"{function.__name__}: model is 'lenet5', not .*"
                           r"models.create\('lenet5'\)"):  # fmt: skip
            function("lenet5", (1, 28, 28))
        with pytest.raises(ArgumentError, match=r"class LeNet5, .*pass an object, LeNet5\(...\)"):
            function(models.LeNet5, (1, 28, 28))


def test_an_image_without_channels_is_told_so():
    with pytest.raises(ShapeError, match=r"the channel axis with x\[:, None\]") as caught:
        summary(models.create("lenet5"), (28, 28))
    assert "input_shape was (28, 28); that of an image has its channels too, (1, 28, 28)." in (
        caught.value.__notes__
    )
