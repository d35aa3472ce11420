"""What is special about LeNet, AlexNet, ZFNet, VGG, NiN and SqueezeNet."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import models, nn
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError, ShapeError
from minicnn.models import lenet, parts, squeezenet
from minicnn.testing import assert_close


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def outline(name, **options):
    with nn.without_weights():
        return models.create(name, **options)


def random(*shape, dtype=np.float64):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


# ------------------------------------------------------------------ LeNet


def test_c3_is_connected_as_in_table_1():
    sizes = [len(maps) for maps in lenet.CONNECTIONS]
    assert sizes == [3] * 6 + [4] * 9 + [6]
    assert len(set(lenet.CONNECTIONS)) == 16
    # every map of S2 is seen by ten maps of C3: a row of the table has ten crosses
    assert Counter(i for maps in lenet.CONNECTIONS for i in maps) == dict.fromkeys(range(6), 10)


def test_a_partial_convolution_is_one_with_zeros():
    layer = lenet.PartialConv2d(6, lenet.CONNECTIONS, 5).astype(np.float64)
    dense = layer.dense_weight().array
    assert dense.shape == (16, 6, 5, 5)
    kernels = iter(layer.weight.array)
    for row, maps in zip(dense, lenet.CONNECTIONS, strict=True):
        for i in range(6):
            assert np.array_equal(row[i], next(kernels) if i in maps else np.zeros((5, 5)))
    x = random(2, 6, 7, 7)
    picked = [F.conv2d(Tensor(x[:, maps]), Tensor(row[None, maps])).array
              for row, maps in zip(dense, map(list, lenet.CONNECTIONS), strict=True)]  # fmt: skip
    assert_close(layer(Tensor(x)), np.concatenate(picked, 1), terms=150)


def test_only_connections_have_a_gradient():
    layer = lenet.PartialConv2d(3, ((0, 1), (2,)), 1).astype(np.float64)
    x = Tensor(random(1, 3, 2, 2), requires_grad=True)
    layer(x)[:, 1].sum().backward()
    assert_close(layer.weight.grad[2, 0, 0], x.array[0, 2].sum(), terms=4)
    assert not layer.weight.grad[:2].any()
    assert not x.grad[:, :2].any()
    assert_close(x.grad[0, 2], np.full((2, 2), layer.weight.array[2, 0, 0]), terms=1)


def test_the_filters_of_c3_start_within_the_bounds_of_their_own_inputs():
    weight = np.abs(lenet.PartialConv2d(6, lenet.CONNECTIONS, 5).weight.array)
    for kernels, maps in ((weight[:18], 3), (weight[18:54], 4), (weight[54:], 6)):
        assert 0.9 < kernels.max() / (2.4 / (25 * maps)) <= 1


def test_subsampling_has_a_gain_and_an_offset_for_each_map():
    layer = lenet.Subsampling(2).astype(np.float64)
    layer.weight.array[:], layer.bias.array[:] = [2, -1], [0.5, 3]
    x = np.array([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 5.0]]]])
    y = layer(Tensor(x)).array
    assert np.array_equal(y[0, :, 0, 0], [20.5, -2])


def test_the_scaled_tanh_keeps_plus_and_minus_one():
    y = lenet.ScaledTanh()(Tensor(np.array([1.0, 0.0, -1.0]))).array
    assert np.array_equal(np.round(y, 4), [1, 0, -1])


def test_the_scores_are_distances_to_fixed_codes():
    model = models.create("lenet5_1998")
    codes = lenet.output_codes(10)
    assert codes.shape == (10, 84)
    assert np.array_equal(np.abs(codes), np.ones((10, 84)))
    scores = model.classifier.output(Tensor(codes)).array
    # from a code to itself 0, to another 4 for each pixel that differs
    assert np.array_equal(scores, -4 * (codes[:, None] != codes).sum(2, dtype=np.float32))
    assert (scores + np.diag([np.inf] * 10) < 0)[~np.eye(10, dtype=bool)].all()
    assert "classifier.output.weight" in model.state_dict()
    assert "classifier.output.weight" not in dict(model.named_parameters())


def test_more_classes_than_digits_get_codes_of_their_own():
    codes = lenet.output_codes(26)
    assert len(np.unique(codes, axis=0)) == 26
    assert np.array_equal(codes, lenet.output_codes(26))
    assert np.array_equal(codes[:3], lenet.output_codes(3))
    model = models.create("lenet5_1998", num_classes=26)
    assert model(Tensor(np.zeros((1, 1, 28, 28), np.float32))).shape == (1, 26)


@pytest.mark.parametrize("name", ["lenet5", "lenet5_1998"])
def test_padding_in_c1_is_the_paper_s_padding_of_the_picture(name):
    small = models.create(name).astype(np.float64)
    large = models.create(name, image_size=32, padding=0).astype(np.float64)
    large.load_state_dict(small.state_dict())
    x = random(2, 1, 28, 28)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    assert_close(small(Tensor(x)), large(Tensor(padded)).array, terms=1000)


def test_caffe_draws_weights_by_the_number_of_inputs():
    model = models.create("lenet_caffe")
    for path, fan_in in (("features.conv2", 500), ("classifier.ip1", 800)):
        layer = model.get_submodule(path)
        assert 0.99 < np.abs(layer.weight.array).max() / np.sqrt(3 / fan_in) <= 1, path
        assert not layer.bias.array.any()


# ------------------------------------------------------------------ AlexNet and ZFNet


def test_the_paper_normalises_before_it_pools_and_the_notes_after():
    start = ["conv1", "relu1"]
    paper = [name for name, _ in outline("alexnet_2012").features.named_children()]
    notes = [name for name, _ in outline("alexnet_notes").features.named_children()]
    assert paper[:4] == [*start, "norm1", "pool1"]
    assert notes[:4] == [*start, "pool1", "norm1"]
    assert Counter(paper) == Counter(notes)
    assert [name for name in paper if name[:4] in ("norm", "pool")] == [
        *("norm1", "pool1", "norm2", "pool2", "pool5")
    ]
    swapped = outline("alexnet_2012", lrn_order="conv-relu-pool-norm")
    assert [name for name, _ in swapped.features.named_children()] == notes


def test_response_normalisation_has_the_paper_s_constants():
    for name, path in (("alexnet_2012", "norm2"), ("zfnet", "norm1"), ("vgg11_lrn", "2")):
        norm = outline(name).features.get_submodule(path)
        assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 1e-4, 0.75, 2.0), name
        assert not norm.divide_alpha_by_n, name


def test_groups_are_two_towers():
    model = models.create("alexnet_2012", preset="fashion-mnist", width=0.125).astype(np.float64)
    conv = model.features.conv2
    x = random(1, conv.in_channels, 5, 5)
    half_in, half_out = conv.in_channels // 2, conv.out_channels // 2
    towers = [
        F.conv2d(
            Tensor(x[:, gpu * half_in : (gpu + 1) * half_in]),
            Tensor(conv.weight.array[gpu * half_out : (gpu + 1) * half_out]),
            Tensor(conv.bias.array[gpu * half_out : (gpu + 1) * half_out]),
            padding=2,
        ).array
        for gpu in (0, 1)
    ]
    assert_close(conv(Tensor(x)), np.concatenate(towers, 1), terms=25 * half_in)
    groups = [model.features.get_submodule(f"conv{i}").groups for i in range(1, 6)]
    assert groups == [1, 2, 1, 2, 2]
    one = outline("alexnet_notes")
    assert {one.features.get_submodule(f"conv{i}").groups for i in range(1, 6)} == {1}


def test_the_paper_s_input_of_224_does_not_fit():
    model = outline("alexnet_2012")
    x = Tensor(np.zeros((1, 3, 224, 224), np.float32))
    with (
        no_grad(),
        minicnn.use_backend("shapes"),
        pytest.raises(ShapeError, match=r"6400.*9216|9216.*6400"),
    ):
        model.eval()(x)
    padded = outline("alexnet_2012", image_size=224, stem=(11, 4, 2))
    assert padded.num_parameters() == model.num_parameters()


@pytest.mark.parametrize(
    ("init", "hidden_std", "bias"), [("paper", 0.01, 1.0), ("caffe", 0.005, 0.1)]
)
def test_alexnet_starts_with_small_weights_and_some_positive_biases(init, hidden_std, bias):
    model = models.create("alexnet_2012", preset="fashion-mnist", init=init)
    biases = {name: set(p.array) for name, p in model.named_parameters() if name.endswith("bias")}
    positive = {name for name, values in biases.items() if values == {np.float32(bias)}}
    assert positive == {
        *(f"features.conv{i}.bias" for i in (2, 4, 5)),
        *("classifier.0.bias", "classifier.3.bias"),
    }
    assert all(biases[name] == {0} for name in biases.keys() - positive)
    for layer, std in ((model.features.conv3, 0.01), (model.classifier[3], hidden_std)):
        # the standard deviation of a sample of n is off by about 1 / sqrt(2n)
        assert abs(layer.weight.array.std() / std - 1) < 5 / np.sqrt(2 * layer.weight.size)


def test_zfnet_pools_round_up():
    maps = {"pool1": 55, "conv2": 26, "pool2": 13, "pool5": 6}
    table = minicnn.inspect.summary(outline("zfnet"), (3, 224, 224))
    found = {row.name.split(".")[-1]: row.output_shape[-1] for row in table.layers}
    assert {name: found[name] for name in maps} == maps


def test_zfnet_starts_with_small_weights_and_no_biases():
    model = models.create("zfnet", preset="fashion-mnist", init="paper", width=0.25, hidden=64)
    weights = np.concatenate([p.array.ravel() for p in model.parameters() if p.ndim > 1])
    assert abs(weights.std() / 0.01 - 1) < 5 / np.sqrt(2 * weights.size)
    assert not any(p.array.any() for p in model.parameters() if p.ndim == 1)


@pytest.mark.parametrize("name", ["alexnet", "alexnet_2012", "zfnet", "vgg11", "nin"])
def test_dropout_works_in_training_only(name):
    model = models.create(name, preset="fashion-mnist")
    rate = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    assert rate == [0.5, 0.5]
    x = Tensor(random(1, 1, 28, 28, dtype=np.float32))
    with no_grad():
        assert not np.array_equal(model(x).array, model(x).array)
        model.eval()
        assert np.array_equal(model(x).array, model(x).array)


# ------------------------------------------------------------------ VGG


@pytest.mark.parametrize(
    ("name", "convolutions", "pointwise"),
    [("vgg11", 8, 0), ("vgg13", 10, 0), ("vgg16_c", 13, 3), ("vgg16", 13, 0), ("vgg19", 16, 0)],
)
def test_vgg_has_its_layers_of_weights(name, convolutions, pointwise):
    kinds = [m.kernel_size for m in outline(name).features if isinstance(m, nn.Conv2d)]
    assert Counter(kinds) == {(3, 3): convolutions - pointwise, (1, 1): pointwise} or not pointwise
    assert len(kinds) == convolutions
    small = outline(name, preset="fashion-mnist")
    assert [m.kernel_size for m in small.features if isinstance(m, nn.Conv2d)] == kinds


def test_vgg_weights_alone_are_what_the_notes_count():
    model = outline("vgg16")
    assert sum(p.size for p in model.parameters() if p.ndim > 1) == 138_344_128


def test_only_the_first_convolution_of_a_lrn_is_normalised():
    found = [i for i, m in enumerate(outline("vgg11_lrn").features)
             if isinstance(m, nn.LocalResponseNorm)]  # fmt: skip
    assert found == [2]


def test_each_convolution_of_a_bn_network_is_normalised():
    layers = list(outline("vgg16_c_bn").features)
    after = [type(b) for a, b in pairwise(layers) if isinstance(a, nn.Conv2d)]
    assert after == [nn.BatchNorm2d] * 13


def test_vgg_starts_with_he_s_weights():
    model = models.create("vgg11", preset="fashion-mnist")
    for path, fan in (("features.6", 96 * 9), ("classifier.3", 256)):
        weight = model.get_submodule(path).weight.array
        assert abs(weight.std() / np.sqrt(2 / fan) - 1) < 5 / np.sqrt(2 * weight.size), path
    head = models.create("vgg11", preset="fashion-mnist", init="normal").classifier[3].weight.array
    assert abs(head.std() / 0.01 - 1) < 5 / np.sqrt(2 * head.size)


# ------------------------------------------------------------------ NiN and SqueezeNet


def test_nin_has_no_linear_layer():
    for preset, pools in (("cifar10", "MA"), ("mnist", "MM"), ("imagenet", "MMM")):
        model = outline("nin", preset=preset)
        kinds = [type(m).__name__ for m in model.modules()]
        assert "Linear" not in kinds
        assert "".join(k[0] for k in kinds if k in ("MaxPool2d", "AvgPool2d")) == pools
    scores = models.create("nin", preset="mnist").eval()(
        Tensor(random(1, 1, 28, 28, dtype=np.float32))
    )
    assert scores.array.min() >= 0


def test_nin_starts_with_the_authors_weights():
    model = models.create("nin", preset="imagenet", num_classes=10)
    for path, std in (("mlpconv1.0", 0.01), ("mlpconv2.0", 0.05), ("mlpconv4.4", 0.01)):
        weight = model.features.get_submodule(path).weight.array
        assert abs(weight.std() / std - 1) < 5 / np.sqrt(2 * weight.size), path


@pytest.mark.parametrize("version", ["1_0", "1_1"])
def test_bypasses_go_around_the_modules_of_figure_2(version):
    def kinds(bypass):
        model = outline(f"squeezenet{version}", bypass=bypass)
        return [type(m.bypass).__name__ for m in model.modules() if isinstance(m, squeezenet.Fire)]

    assert kinds("none") == ["NoneType"] * 8
    assert kinds("simple") == ["NoneType", "Identity"] * 4  # around modules 3, 5, 7 and 9
    assert kinds("complex") == ["Conv2d", "Identity"] * 4


def test_a_simple_bypass_adds_the_input_and_no_weights():
    plain = squeezenet.Fire(8, 2, 4)
    around = squeezenet.Fire(8, 2, 4, nn.Identity())
    assert plain.state_dict().keys() == around.state_dict().keys()
    around.load_state_dict(plain.state_dict())
    x = Tensor(random(1, 8, 5, 5, dtype=np.float32))
    assert_close(around(x), plain(x).array + x.array, terms=20)


def test_a_complex_bypass_adds_a_convolution_of_the_input():
    plain = squeezenet.Fire(6, 2, 4)
    around = squeezenet.Fire(6, 2, 4, nn.Conv2d(6, 8, 1))
    around.load_state_dict({**around.state_dict(), **plain.state_dict()})
    x = Tensor(random(1, 6, 5, 5, dtype=np.float32))
    assert_close(around(x), plain(x).array + around.bypass(x).array, terms=20)


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenet5", {"activation": "swish"}, "activation is 'swish'; choose one of 'tanh', 'relu'"),
        ("alexnet_2012", {"groups": 3}, "groups is 3; choose one of 1, 2"),
        (
            "alexnet_2012",
            {"lrn_order": "norm"},
            "lrn_order is 'norm'; choose one of 'conv",
        ),
        ("alexnet_2012", {"init": "he"}, "init is 'he'; choose one of 'paper', 'caffe', 'kaiming'"),
        ("alexnet", {"width": 0.001}, "width is 0.001, which leaves 0 of 64 filters"),
        ("alexnet", {"init": "he"}, "init is 'he'; choose one of 'default', 'kaiming'"),
        ("zfnet", {"variant": "c"}, "variant is 'c'; choose one of 'a', 'b'"),
        ("zfnet", {"init": "he"}, "init is 'he'; choose one of 'paper', 'kaiming'"),
        ("vgg11", {"init": "he"}, "init is 'he'; choose one of 'normal', 'kaiming'"),
        ("nin", {"init": "he"}, "init is 'he'; choose one of 'paper', 'kaiming'"),
        ("nin", {"layout": "imagnet"}, "layout is 'imagnet'; did you mean 'imagenet'"),
        (
            "squeezenet1_1",
            {"bypass": "yes"},
            "bypass is 'yes'; choose one of 'none', 'simple'",
        ),
    ],
)
def test_a_wrong_option_is_named_with_its_cure(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        outline(name, **options)


@pytest.mark.parametrize("name", ["lenet5", "lenet5_1998", "lenet_caffe", "alexnet_2012", "zfnet"])
def test_an_image_that_is_too_small_is_refused(name):
    with pytest.raises(ShapeError):
        outline(name, image_size=9)


def test_the_size_of_the_last_map_is_that_of_the_network():
    layers = [nn.Conv2d(1, 1, 5, stride=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, ceil_mode=True)]
    for size in range(9, 20):
        y = nn.Sequential(*layers)(Tensor(np.zeros((1, 1, size, size), np.float32)))
        assert parts.last_map_size(layers, size, "a test") == y.shape[-1]
