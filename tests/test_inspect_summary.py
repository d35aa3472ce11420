"""The anatomy of networks: receptive fields against facts and gradients, costs, memory, shares."""

import json

import numpy as np
import pytest
from networks import FACTS, known

import minicnn
from minicnn import functional as F
from minicnn import models, nn
from minicnn.autograd import Tensor
from minicnn.inspect import ReceptiveField, receptive_fields, summary
from minicnn_kernels.fields import field_of


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


class Branches(nn.Module):
    """Parts that read the same map, joined."""

    def __init__(self, join, *branches):
        super().__init__()
        self.join = join
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return self.join([branch(x) for branch in self.branches])


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def concatenated(*branches):
    return Branches(lambda maps: F.cat(maps, 1), *branches)


def added(*branches):
    return Branches(lambda maps: sum(maps[1:], maps[0]), *branches)


def conv(inputs, outputs, *settings, **named):
    return nn.Conv2d(inputs, outputs, *settings, **named)


def inception(inputs):
    """The module of GoogLeNet with average pooling, in which every pixel has a gradient."""
    return concatenated(
        conv(inputs, 2, 1),
        nn.Sequential(conv(inputs, 2, 1), conv(2, 2, 3, padding=1)),
        nn.Sequential(conv(inputs, 2, 1), conv(2, 2, 5, padding=2)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(inputs, 2, 1)),
    )


def every_second(x):
    return x[:, :, ::2, ::2]


def gated(maps):
    return maps[0] * maps[1]


NETWORKS = {
    "three 3x3": nn.Sequential(conv(1, 2, 3), conv(2, 2, 3), conv(2, 1, 3)),
    "notes": nn.Sequential(
        conv(1, 2, 5, padding=2), nn.AvgPool2d(2), conv(2, 2, 5, padding=2), nn.AvgPool2d(2)
    ),
    "dilated": nn.Sequential(conv(1, 2, 3, dilation=2), conv(2, 1, 3, 2, 1, 3)),
    "1x7 and 7x1": nn.Sequential(
        conv(1, 2, (1, 7), padding=(0, 3)), nn.AvgPool2d((2, 1)), conv(2, 1, (7, 1))
    ),
    "same": nn.Sequential(conv(1, 2, 4, padding="same"), conv(2, 1, 2, padding="same")),
    "ceil": nn.Sequential(nn.AvgPool2d(3, 2, ceil_mode=True), conv(1, 1, 3, 2)),
    "inception": nn.Sequential(conv(1, 2, 3, 2, 1), inception(2), nn.AvgPool2d(3, 2), inception(8)),
    "residual": nn.Sequential(
        conv(1, 2, 3, padding=1),
        added(
            nn.Sequential(conv(2, 2, 3, 2, 1), nn.BatchNorm2d(2), conv(2, 2, 3, 1, 1)),
            Apply(every_second),
        ),
        added(conv(2, 2, 3, 1, 1), nn.Identity()),
    ),
    "dense block": nn.Sequential(
        concatenated(nn.Identity(), nn.Sequential(nn.BatchNorm2d(1), conv(1, 3, 3, padding=1))),
        concatenated(nn.Identity(), nn.Sequential(conv(4, 2, 1), conv(2, 3, 3, padding=1))),
        nn.AvgPool2d(2, 2),
    ),
    "branches beside each other": concatenated(
        conv(1, 1, 3, 2, 0), nn.Sequential(nn.ZeroPad2d((3, 0, 3, 0)), conv(1, 1, 5, 2))
    ),
    "crop": nn.Sequential(
        nn.AvgPool2d(2), Apply(lambda x: x[:, :, 2:-1, 1:]), conv(1, 1, 3), nn.LocalResponseNorm(1)
    ),
    "bins": nn.Sequential(conv(1, 2, 3, 2), nn.AdaptiveAvgPool2d((4, 2)), conv(2, 2, 2)),
    "global": nn.Sequential(conv(1, 2, 3, 2), nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(2, 3)),
    "mean": nn.Sequential(conv(1, 2, 3, 2, 1), Apply(lambda x: x.mean((2,), keepdim=True))),
    "flat mean": nn.Sequential(conv(1, 2, 3), Apply(lambda x: x.flatten(2).mean(2))),
    "flattened": nn.Sequential(
        conv(1, 2, 3), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(2 * 5 * 5, 4), nn.Linear(4, 3)
    ),
}  # fmt: skip


def reached(model, size, output_cell):
    """Rows and columns of the image on which one cell of the output depends, by its gradient."""
    model = model.astype(np.float64).eval()
    x = Tensor(np.random.default_rng(0).standard_normal((1, 1, *size)), requires_grad=True)
    y = model(x)
    gradient = np.zeros(y.shape)
    gradient[(0, slice(None), *output_cell)] = np.random.default_rng(1).random(y.shape[1])
    y.backward(gradient)
    rows, columns = np.nonzero(x.grad[0, 0])
    return (rows.min(), rows.max() + 1), (columns.min(), columns.max() + 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_the_pixels_of_the_receptive_field_and_no_others(name):
    minicnn.seed(0)
    model, size = NETWORKS[name], (17, 17)
    y = nn.dry_run(model, (1, *size))
    field, map_size = field_of(y.array), y.shape[2:]
    for cell in np.ndindex(*map_size):
        seen = reached(model, size, cell)
        for axis, length, i, (start, stop) in zip(field, size, (*cell, 0, 0), seen, strict=False):
            first, last = axis.first + i * axis.jump, axis.first + i * axis.jump + axis.size
            assert first <= start < stop <= last, (cell, field)
            if name != "dilated" or (first >= 0 and last <= length):  # the border can hit a hole
                assert (start, stop) == (max(first, 0), min(last, length)), (cell, field)


def test_the_rule_by_hand():
    fields = receptive_fields(NETWORKS["notes"], (1, 28, 28))
    assert [fields[str(i)].size for i in range(4)] == [(5, 5), (6, 6), (14, 14), (16, 16)]
    assert [fields[str(i)].jump for i in range(4)] == [(1, 1), (2, 2), (2, 2), (4, 4)]
    tall_and_wide = receptive_fields(NETWORKS["1x7 and 7x1"], (1, 28, 28))
    assert tall_and_wide["0"] == ReceptiveField((1, 7), (1, 1))
    assert tall_and_wide["2"] == ReceptiveField((2 + 6 * 2, 7), (2, 1))
    dilated = receptive_fields(NETWORKS["dilated"], (1, 28, 28))
    assert dilated[""] == ReceptiveField((5 + 2 * 3, 5 + 2 * 3), (2, 2))
    module = receptive_fields(NETWORKS["inception"], (1, 28, 28))
    assert module["1"].size == (3 + 4 * 2,) * 2  # the 5x5 branch behind a stride of 2
    assert module["1.branches.1"].size == (3 + 2 * 2,) * 2
    assert module[""].size == (11 + 2 * 2 + 4 * 4,) * 2
    assert receptive_fields(NETWORKS["dense block"], (1, 8, 8))["1"].size == (5, 5)


def test_a_gate_of_one_cell_lets_each_cell_see_everything():
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(1, 1, 1), nn.Sigmoid())
    found = receptive_fields(Branches(gated, conv(1, 1, 3, 1, 1), gate), (1, 9, 9))
    assert found["branches.1"] == ReceptiveField((9, 9), (9, 9))
    assert found[""].jump == (1, 1)
    assert found[""].size == (10, 10)  # from -1, where the padding is, to 8


def test_uneven_bins_count_as_the_longest_and_end_with_the_map():
    found = receptive_fields(nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten()), (1, 10, 10))
    assert found["0"] == ReceptiveField((3, 3), (7 / 6, 7 / 6))
    behind = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(49, 2))
    assert receptive_fields(behind, (1, 10, 10))[""].size == (10, 10)
    assert receptive_fields(behind, (1, 1, 1))[""].size == (1, 1)


UNTRACED = {"RBF out (fixed)"}  # outputs to which facts.json gives no field of their own


@pytest.mark.parametrize("entry", known(), ids=lambda entry: entry.fact)
def test_receptive_fields_of_the_architectures(entry):
    facts = {s["stage"]: (s["rf"], s["stride"]) for s in entry.facts["stages"]}
    found = receptive_fields(entry.outline(), tuple(entry.facts["input"]))
    for stage, path in entry.stages.items():
        if stage in UNTRACED:
            continue
        rf, stride = facts[stage]
        assert found[path] == ReceptiveField((rf, rf), (stride, stride)), stage


def vgg16():
    with nn.without_weights():
        layers, inputs = [], 3
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [conv(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        head = [
            nn.Flatten(),
            nn.Linear(25088, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
        ]
        return nn.Sequential(*layers, *head, nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000))


def test_vgg16_row_by_row():
    table = summary(vgg16(), (3, 224, 224))
    rows = [row for row in table.layers if not row.in_place]
    stages = FACTS["vgg_D"]["stages"]
    assert len(rows) == len(stages)
    for row, stage in zip(rows, stages, strict=True):
        name = stage["stage"]
        assert row.output_shape + (1,) * (3 - len(row.output_shape)) == tuple(stage["out"]), name
        assert (row.parameters, row.multiply_adds) == (stage["params"], stage["macs"]), name
        assert row.receptive_field.size == (stage["rf"],) * 2, name
        assert row.receptive_field.jump == (stage["stride"],) * 2, name
    assert table.activations == 15_237_608
    assert table.activation_bytes == 4 * 15_237_608
    shares = table.shares
    assert shares["conv"].layers == 13
    assert shares["conv"].multiply_adds == FACTS["vgg_D"]["conv_macs"]
    assert shares["fc"].parameters == FACTS["vgg_D"]["fc_params"]
    assert shares["other"].parameters == 0
    assert sum(share.multiply_add_share for share in shares.values()) == pytest.approx(1)
    assert sum(share.parameter_share for share in shares.values()) == pytest.approx(1)


def test_parameters_that_belong_to_no_layer_are_others():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(np.ones((1, 2, 1, 1), np.float32))
            self.layer = conv(1, 2, 3)

        def forward(self, x):
            return self.layer(x) * self.scale

    shares = summary(Scaled(), (1, 8, 8)).shares
    assert (shares["conv"].parameters, shares["other"].parameters) == (20, 2)


def test_fixed_and_shared_weights():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", np.ones((5, 7), np.float32))

        def forward(self, x):
            return F.linear(x, self.weight)

    shared = nn.Linear(7, 7, bias=False)
    table = summary(nn.Sequential(shared, shared, Fixed()), (7,))
    assert [row.weights for row in table.layers] == [49, 0, 35]
    assert [row.parameters for row in table.layers] == [49, 0, 0]
    assert [row.multiply_adds for row in table.layers] == [49, 49, 35]
    assert [row.part for row in table.layers] == ["fc"] * 3


def test_parts_that_do_not_run_are_apart():
    class Headed(models.Network):
        def __init__(self):
            super().__init__()
            self.body = conv(1, 2, 3)
            self.auxiliary = nn.Linear(7, 5)

        def forward(self, x):
            return self.body(x)

    table = summary(Headed(), (1, 8, 8))
    assert (table.parameters, table.unused_parameters) == (60, 40)
    assert table.shares["conv"].parameter_share == 1
    assert table.shares["other"].parameters == 0
    assert "40 of the parameters" in str(table)


def test_a_narrow_terminal_breaks_words_and_no_numbers():
    table = summary(vgg16(), (3, 224, 224))
    text = table.sheet().text(width=72)
    assert max(map(len, text.splitlines())) <= 72
    assert "1,849,688,064" in text
    assert "…" not in text


def test_activations_are_in_the_numbers_of_the_model():
    model = models.create("notes_cnn")
    single, double = summary(model, (1, 28, 28)), summary(model.astype(np.float64), (1, 28, 28))
    assert single.activations == double.activations == 784 + 12544 + 3136 + 6272 + 1568 + 10
    assert double.activation_bytes == 2 * single.activation_bytes == 8 * double.activations
    assert double.layers[0].activation_bytes == 8 * 12544
    assert double.layers[0].activations == 12544


def test_what_is_written_over_its_input_has_no_activations_of_its_own():
    layers = (conv(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.AdaptiveAvgPool2d(6), nn.Dropout(),
              nn.AdaptiveAvgPool2d(3), nn.LocalResponseNorm(2), nn.Flatten())  # fmt: skip
    table = summary(nn.Sequential(*layers), (1, 8, 8))
    counted = [row.kind for row in table.layers if not row.in_place]
    assert counted == ["Conv2d", "AdaptiveAvgPool2d", "LocalResponseNorm"]
    assert table.activations == 64 + 2 * 36 + 2 * 9 + 2 * 9


def test_an_input_that_is_no_image_has_no_field():
    table = summary(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (4,))
    assert [row.receptive_field for row in table.layers] == [None, None]
    assert "field" not in table.sheet().notes[-1]
    assert receptive_fields(nn.Linear(4, 3), (4,)) == {}


def test_the_table_in_terminal_notebook_and_as_data():
    table = summary(NETWORKS["1x7 and 7x1"], (1, 28, 30))
    text, page = str(table), table._repr_html_()
    for part in ("1x28x30", "Conv2d", "14x7", "2x1", "100.00%", "MB"):
        assert part in text, part
        assert part in page, part
    assert page.count("<tr>") == len(text.splitlines()) - text.count("\n\n") - 5
    data = json.loads(json.dumps(table.to_dict()))
    assert data["layers"][2]["receptive_field"] == {"size": [14, 7], "jump": [2, 1]}
    assert data["multiply_adds"] == table.multiply_adds
    assert data["shares"]["conv"]["layers"] == 2
    assert data["activation_bytes"] == table.activation_bytes


def test_text_in_a_page_is_escaped():
    table = summary(nn.Sequential(nn.Identity()), (1, 2, 2))
    assert "&lt;b&gt;" in type(table)("<b>", (1, 2, 2), 16, (), 0)._repr_html_()
