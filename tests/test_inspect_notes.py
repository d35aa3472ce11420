"""The notes' tables and calculators: their printed numbers, and the exact ones where they err."""

import pytest

from minicnn import functional as F
from minicnn import nn
from minicnn.errors import ArgumentError, ShapeError
from minicnn.inspect import (
    bottleneck_costs,
    factorised_costs,
    inception_costs,
    notes_alexnet,
    notes_bottleneck,
    notes_inception,
    notes_vgg16,
    output_size,
    stacked_costs,
    summary,
)
from minicnn.models import Network


def alexnet(groups=1, shape=(3, 227, 227), first=96):
    def conv(inputs, outputs, kernel, stride, padding, groups=1):
        return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups), nn.ReLU()

    with nn.without_weights():
        pool, norm = nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5)
        layers = [
            *conv(3, first, 11, 4, 0), norm, pool, *conv(first, 256, 5, 1, 2, groups), norm, pool,
            *conv(256, 384, 3, 1, 1), *conv(384, 384, 3, 1, 1, groups),
            *conv(384, 256, 3, 1, 1, groups), pool, nn.Flatten(),
            nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, 1000),
        ]  # fmt: skip
    return summary(nn.Sequential(*layers), shape)


def vgg16(classes=1000):
    with nn.without_weights():
        layers, inputs = [], 3
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Flatten(), nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout()]
        layers += [nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, classes)]
    return summary(nn.Sequential(*layers), (3, 224, 224))


def column(table, index):
    return [row.values[index].exact for row in table.rows if row.values[index]]


def test_vgg16_agrees_with_the_notes_row_by_row_and_not_in_the_total():
    table = notes_vgg16(vgg16())
    assert [row.name for row in table.rows] == [
        "input", "conv1_1", "conv1_2", "pool1", "conv2_1", "conv2_2", "pool2", "conv3_1", "conv3_2",
        "conv3_3", "pool3", "conv4_1", "conv4_2", "conv4_3", "pool4", "conv5_1", "conv5_2",
        "conv5_3", "pool5", "fc6", "fc7", "fc8",
    ]  # fmt: skip
    assert column(table, 0) == [
        150_528, 3_211_264, 3_211_264, 802_816, 1_605_632, 1_605_632, 401_408, 802_816, 802_816,
        802_816, 200_704, 401_408, 401_408, 401_408, 100_352, 100_352, 100_352, 100_352, 25_088,
        4096, 4096, 1000,
    ]  # fmt: skip
    values, weights = table.total.values
    assert (values.exact, weights.exact) == (15_237_608, 138_344_128)
    assert sum(column(table, 0)) == values.exact
    assert sum(column(table, 1)) == weights.exact
    assert (values.printed, values.footnote) == ("24M", 1)
    assert "15,237,608 values" in table.footnotes[0]
    assert "60.95 MB" in table.footnotes[0]
    assert "28,7" in table.footnotes[0]  # 28.79M where each ReLU has a map of its own
    assert "138,357,544" in table.footnotes[1]
    assert "2,359,296" in str(table)
    assert "24M [1]" in table._repr_html_()


@pytest.mark.parametrize(("groups", "total"), [(1, 62_378_344), (2, 60_965_224)])
def test_alexnet_has_footnotes_where_the_notes_err(groups, total):
    found = alexnet(groups)
    assert found.parameters == total
    table = notes_alexnet(found)
    assert column(table, 0) == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert column(table, 1) == [
        34_848, 614_400 // groups, 884_736, 1_327_104 // groups, 884_736 // groups, 37_748_736,
        16_777_216, 4_096_000,
    ]  # fmt: skip
    assert table.total.values[0].exact == 659_272
    assert table.rows[1].values[0].footnote == 1
    assert "add up to 622,312" in table.footnotes[1]
    assert table.rows[6].values[1].printed == "87M"
    assert "37,748,736, not 87M" in table.footnotes[table.rows[6].values[1].footnote - 1]
    last = table.footnotes[-1]
    shares = {1: ("6.01%", "94.8%", "94.0%"), 2: ("3.83%", "91.9%", "96.2%")}
    for part in (f"{total:,}", "58,621,952", *shares[groups]):
        assert part in last
    assert found.multiply_adds == {1: 1_135_256_096, 2: 724_406_816}[groups]


def test_every_footnote_is_referred_to():
    for table in (notes_vgg16(vgg16()), notes_alexnet(alexnet())):
        rows = (*table.rows, table.total)
        marks = {v.footnote for row in rows for v in row.values if v} | {r.footnote for r in rows}
        assert marks == set(range(len(table.footnotes) + 1))


def test_other_networks_are_refused():
    with pytest.raises(ArgumentError, match="is not the notes' VGG-16"):
        notes_vgg16(vgg16(classes=10))
    with pytest.raises(ArgumentError, match="is not the notes' VGG-16"):
        notes_vgg16(alexnet())
    with pytest.raises(ArgumentError, match="is not the notes' AlexNet"):
        notes_alexnet(alexnet(first=64))
    with pytest.raises(ArgumentError, match="pass its summary"):
        notes_alexnet(Network())


def test_inception_operations_are_the_notes_but_for_one_sum():
    naive, reduced = notes_inception(naive=True), notes_inception()
    assert [term.multiply_adds for term in naive.terms] == [25_690_112, 346_816_512, 481_689_600]
    assert naive.multiply_adds == 854_196_224
    assert sorted(term.multiply_adds for term in reduced.terms) == sorted(
        [12_845_056, 12_845_056, 25_690_112, 86_704_128, 120_422_400, 12_845_056]
    )
    assert reduced.multiply_adds == 271_351_808
    assert "526,848 values" in naive.notes[0]
    assert "376,320 values" in reduced.notes[0]
    assert "358,055,936" in reduced.notes[1]
    assert inception_costs(256, 128, 192, 96, 128, 32, 64).multiply_adds == 304_267_264  # 3b
    assert "271,351,808" in str(reduced)
    assert "358M" in str(reduced)


def test_a_reduced_module_counts_what_the_network_costs():
    costs = inception_costs(16, 4, 6, 5, 3, 2, 7, size=9)

    def conv(*sizes):
        return nn.Conv2d(*sizes, padding="same", bias=False)

    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList(
                [
                    conv(16, 4, 1),
                    nn.Sequential(conv(16, 3, 1), conv(3, 6, 3)),
                    nn.Sequential(conv(16, 2, 1), conv(2, 5, 5)),
                    nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(16, 7, 1)),
                ]
            )

        def forward(self, x):
            return F.cat([branch(x) for branch in self.branches], 1)

    found = summary(Inception(), (16, 9, 9))
    assert (found.parameters, found.multiply_adds) == (costs.weights, costs.multiply_adds)
    values = f"{4 * 81 + 6 * 81 + 5 * 81 + 7 * 81:,} values"
    assert values in costs.notes[0]


def test_the_bottleneck_saves_not_quite_ten_times():
    found = notes_bottleneck()
    assert found.direct.multiply_adds == 120_422_400
    assert [term.multiply_adds for term in found.cheaper.terms] == [2_408_448, 10_035_200]
    assert found.cheaper.multiply_adds == 12_443_648
    assert (found.direct.weights, found.cheaper.weights) == (153_600, 15_872)
    assert found.ratio == pytest.approx(9.67741935483871, rel=1e-15)
    assert "9.677" in found.notes[0]
    assert bottleneck_costs(192, 16, 32).direct == found.direct
    assert "9.677" in str(found)


def test_small_and_factorised_filters_have_fewer_weights():
    seven = stacked_costs(7, channels=64)
    assert (seven.direct.weights, seven.cheaper.weights) == (200_704, 110_592)
    assert "49 C^2 and 27 C^2" in seven.title
    five = stacked_costs(5, channels=64)
    assert (five.direct.weights, five.cheaper.weights) == (102_400, 73_728)
    three = factorised_costs(3, channels=64)
    assert (three.direct.weights, three.cheaper.weights) == (36_864, 24_576)
    assert three.direct.multiply_adds == three.direct.weights
    assert factorised_costs(7, 2, size=17).cheaper.multiply_adds == 14 * 4 * 17**2
    with pytest.raises(ArgumentError, match="kernel_size is 4"):
        stacked_costs(4)


def test_output_sizes_of_the_notes():
    assert output_size(227, 11, stride=4).output == 55
    assert output_size(227, 11, stride=4).is_exact
    assert not output_size(224, 11, stride=4).is_exact
    assert str(output_size(224, 11, stride=4)).endswith("= 54.25, rounded to 54")
    assert output_size(28, 3).output == 26
    assert output_size(28, 3, padding=1).output == 28
    assert output_size(112, 3, stride=2, ceil_mode=True).output == 56
    assert output_size(112, 3, stride=2).output == 55
    with pytest.raises(ShapeError, match="output_size: kernel_size 3"):
        output_size(2, 3)
    with pytest.raises(ShapeError, match="half of the window"):
        output_size(8, 3, padding=2, ceil_mode=True)
