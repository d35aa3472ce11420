"""Layers: settings reach the functions, states are PyTorch's, mistakes are named."""

import copy
import pickle
import re

import numpy as np
import pytest

import minicnn
import minicnn.functional as F
from minicnn import nn
from minicnn.errors import ArgumentError, MiniCNNError, ShapeError
from minicnn.testing import assert_close


@pytest.fixture(autouse=True)
def numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def maps(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def tolerance(expected, terms, dtype=np.float64):
    return 8 * np.finfo(dtype).eps * np.sqrt(terms) * max(1.0, float(np.abs(expected).max()))


# name in torch.nn, positional and named settings, shape of the input, numbers added up
LIKE_TORCH = [
    ("Conv2d", (4, 6, 3), {}, (2, 4, 7, 8), 36),
    ("Conv2d", (4, 6, (3, 2), 2, 1, 2, 2, False), {}, (2, 4, 9, 8), 12),
    ("Conv2d", (4, 6, 2), {"padding": "same"}, (2, 4, 5, 6), 16),
    ("Linear", (5, 3), {}, (2, 4, 5), 5),
    ("Linear", (5, 3, False), {}, (2, 5), 5),
    ("Flatten", (), {}, (2, 3, 4, 5), 1),
    ("Flatten", (2, 3), {}, (2, 3, 4, 5), 1),
    ("Identity", (54, "ignored"), {"unused": 1}, (2, 3), 1),
    ("MaxPool2d", (3, 2, 1, 2), {"ceil_mode": True}, (2, 3, 9, 8), 1),
    ("MaxPool2d", ((2, 3),), {}, (2, 3, 9, 8), 1),
    ("AvgPool2d", (3, 2, 1, True, False), {}, (2, 3, 9, 8), 9),
    ("AvgPool2d", (3, 2, 1), {}, (2, 3, 9, 8), 9),
    ("AdaptiveAvgPool2d", ((2, 3),), {}, (2, 3, 7, 8), 16),
    ("AdaptiveMaxPool2d", (3,), {}, (2, 3, 7, 8), 1),
    ("ReLU", (), {}, (2, 3), 1),
    ("LeakyReLU", (0.3,), {}, (2, 3), 1),
    ("Sigmoid", (), {}, (2, 3), 1),
    ("Tanh", (), {}, (2, 3), 1),
    ("Softmax", (1,), {}, (2, 3, 4), 3),
    ("LogSoftmax", (0,), {}, (2, 3), 3),
    ("BatchNorm1d", (3,), {"eps": 0.1, "momentum": 0.3}, (4, 3), 4),
    ("BatchNorm1d", (3,), {"affine": False}, (4, 3, 5), 20),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, (4, 3, 2, 2), 16),
    ("BatchNorm2d", (3,), {"momentum": None}, (4, 3, 2, 2), 16),
    ("LocalResponseNorm", (4, 0.5, 0.6, 2.0), {}, (2, 6, 3, 3), 4),
    ("ZeroPad2d", ((1, 2, 3, 0),), {}, (2, 3, 4, 5), 1),
    ("ZeroPad2d", (2,), {}, (2, 3, 4, 5), 1),
    ("Dropout", (0.0,), {}, (2, 3), 1),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize(("name", "positional", "named", "shape", "terms"), LIKE_TORCH)
def test_layers_equal_torch(name, positional, named, shape, terms):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(*positional, **named).double()
    ours = getattr(nn, name)(*positional, **named).astype(np.float64)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        for seed in range(3):
            x = maps(*shape, seed=seed)
            expected = theirs(torch.from_numpy(x)).detach().numpy()
            y = ours(minicnn.tensor(x)).array
            np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(expected, terms))
    for key, value in theirs.state_dict().items():
        expected = value.numpy()
        got = ours.state_dict()[key]
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance(expected, terms))


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (
            nn.MinPool2d(3, 2, 1, 1, ceil_mode=True),
            lambda x: F.min_pool2d(x, 3, 2, 1, 1, ceil_mode=True),
        ),
        (nn.L2Pool2d(3, 2, 1, True), lambda x: F.l2_pool2d(x, 3, 2, 1, True)),
        (
            nn.DistanceWeightedPool2d(3, 2, 1, True, True, "gaussian"),
            lambda x: F.distance_weighted_pool2d(x, 3, 2, 1, True, True, "gaussian"),
        ),
        (nn.MaxPool2d(3, 1, "same"), lambda x: F.max_pool2d(x, 3, 1, 1)),
        (nn.GlobalAvgPool2d(), F.global_avg_pool2d),
        (
            nn.LocalResponseNorm(5, 0.1, k=2.0, divide_alpha_by_n=False),
            lambda x: F.local_response_norm(x, 5, 0.1, k=2.0, divide_alpha_by_n=False),
        ),
    ],
)
def test_layers_pass_their_settings_on(layer, function):
    x = minicnn.tensor(maps(2, 6, 8, 9))
    np.testing.assert_array_equal(layer(x).array, function(x).array)


def test_min_and_max_pooling_are_unrelated_classes():
    assert not isinstance(nn.MinPool2d(2), nn.MaxPool2d)
    assert not isinstance(nn.LogSoftmax(), nn.Softmax)


# -- losses


def test_cross_entropy_loss_equals_torch():
    torch = pytest.importorskip("torch")
    x, labels, weight = maps(5, 3), np.array([0, 2, 1, 1, 0]), np.array([1.0, 2.0, 0.5])
    for reduction in ("mean", "sum", "none"):
        theirs = torch.nn.CrossEntropyLoss(
            torch.from_numpy(weight), ignore_index=2, reduction=reduction, label_smoothing=0.1
        )
        ours = nn.CrossEntropyLoss(weight, ignore_index=2, reduction=reduction, label_smoothing=0.1)
        expected = theirs(torch.from_numpy(x), torch.from_numpy(labels)).numpy()
        np.testing.assert_allclose(
            ours(minicnn.tensor(x), labels).array, expected, atol=tolerance(expected, 15), rtol=0
        )
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight"]


def test_mse_loss():
    x, target = minicnn.tensor(maps(2, 3)), maps(2, 3, seed=1)
    for reduction in ("mean", "sum", "none"):
        np.testing.assert_array_equal(
            nn.MSELoss(reduction=reduction)(x, target).array,
            F.mse_loss(x, target, reduction=reduction).array,
        )


# -- batch normalisation


def test_running_statistics_are_moved_only_in_training():
    layer = nn.BatchNorm2d(3)
    layer(minicnn.tensor(maps(2, 3, 2, 2, dtype=np.float32)))
    moved = layer.state_dict()
    assert moved["num_batches_tracked"] == 1
    assert moved["running_mean"].any()
    layer.eval()
    layer(minicnn.tensor(maps(2, 3, 2, 2, dtype=np.float32, seed=1)))
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, moved[name])


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_tracks_when_torch_does(track, later, momentum):
    """``track_running_stats`` may be switched while training, which freezes the statistics."""
    torch = pytest.importorskip("torch")
    settings = {"momentum": momentum, "track_running_stats": track}
    ours, theirs = nn.BatchNorm2d(3, **settings), torch.nn.BatchNorm2d(3, **settings)
    for step, (training, tracking) in enumerate([(1, track), (1, later), (0, later), (1, track)]):
        x = maps(2, 3, 4, 5, dtype=np.float32, seed=step)
        for layer in (ours.train(bool(training)), theirs.train(bool(training))):
            layer.track_running_stats = tracking
        y, expected = ours(minicnn.tensor(x)), theirs(torch.from_numpy(x)).detach().numpy()
        assert_close(y, expected, terms=40)
    state = {name: array.numpy() for name, array in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    for name, array in ours.state_dict().items():
        assert_close(array, state[name], terms=40, what=name)


def test_a_refused_batch_is_not_counted():
    layer = nn.BatchNorm2d(3)
    with pytest.raises(ShapeError, match="x has 4 channels"):
        layer(minicnn.tensor(maps(2, 4, 2, 2, dtype=np.float32)))
    assert layer.num_batches_tracked == 0


def test_one_value_a_channel_is_refused_without_running_statistics_in_eval_too():
    layer = nn.BatchNorm1d(3, track_running_stats=False).eval()
    with pytest.raises(ShapeError, match="more than one value a channel"):
        layer(minicnn.tensor(maps(1, 3, dtype=np.float32)))


def test_reset_parameters_keeps_the_statistics():
    layer = nn.BatchNorm1d(2)
    layer.weight.array[...] = 5
    layer.running_mean = np.ones(2, np.float32)
    layer.reset_parameters()
    assert layer.weight.array.tolist() == [1, 1]
    assert layer.running_mean.tolist() == [1, 1]


# -- noise


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.5), nn.StochasticDepth(0.5), nn.StochasticDepth(0.5, "batch")]
)
def test_noise_is_reproduced_by_the_seed_and_absent_in_evaluation(layer):
    x = minicnn.tensor(np.ones((64, 8), np.float32))
    draws = []
    for seed in (3, 3, 4):
        minicnn.seed(seed)
        draws.append(np.concatenate([layer(x).array for _ in range(32)]))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    assert set(np.unique(draws[0])) == {0.0, 2.0}
    state = minicnn.random.get_state()
    assert copy.deepcopy(layer).eval()(x) is x
    assert minicnn.random.get_state() == state


def test_drop_path_drops_whole_samples():
    minicnn.seed(0)
    y = nn.DropPath(0.25)(minicnn.tensor(np.ones((40, 3, 2), np.float32))).array
    kept = y.reshape(40, -1)
    assert (kept == kept[:, :1]).all()
    assert 0 < (kept[:, 0] == 0).sum() < 40


# -- text and mistakes


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(1, 6, 5), "Conv2d(1, 6, kernel_size=5)"),
        (
            nn.Conv2d(2, 4, (3, 1), 2, (1, 0), 3, 2, bias=False),
            "Conv2d(2, 4, kernel_size=(3, 1), stride=2, padding=(1, 0), dilation=3, groups=2, "
            "bias=False)",
        ),
        (nn.Conv2d(1, 1, 3, padding="same"), "Conv2d(1, 1, kernel_size=3, padding='same')"),
        (nn.Linear(2, 3, bias=False), "Linear(2, 3, bias=False)"),
        (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2)"),
        (
            nn.MaxPool2d((2, 3), 1, dilation=2),
            "MaxPool2d(kernel_size=(2, 3), stride=1, dilation=2)",
        ),
        (nn.AvgPool2d(2, ceil_mode=True), "AvgPool2d(kernel_size=2, ceil_mode=True)"),
        (nn.AdaptiveAvgPool2d((1, 2)), "AdaptiveAvgPool2d(output_size=(1, 2))"),
        (nn.BatchNorm2d(4, momentum=None), "BatchNorm2d(4, momentum=None)"),
        (nn.LocalResponseNorm(5), "LocalResponseNorm(5)"),
        (nn.LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)"),
        (nn.Softmax(1), "Softmax(dim=1)"),
        (nn.Dropout(), "Dropout(p=0.5)"),
        (nn.DropPath(0.1), "DropPath(p=0.1)"),
        (nn.Flatten(), "Flatten()"),
        (nn.ZeroPad2d((1, 2, 3, 4)), "ZeroPad2d((1, 2, 3, 4))"),
        (nn.CrossEntropyLoss(ignore_index=0), "CrossEntropyLoss(ignore_index=0)"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), "CrossEntropyLoss(label_smoothing=0.1)"),
        (nn.MSELoss(reduction="sum"), "MSELoss(reduction='sum')"),
    ],
)
def test_repr(layer, text):
    assert repr(layer) == text
    assert repr(pickle.loads(pickle.dumps(layer))) == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.Conv2d(3, 4, 3, groups=2),
            "Conv2d: in_channels=3 is not divisible by groups=2",
        ),
        (
            lambda: nn.Conv2d(4, 3, 3, groups=2),
            "Conv2d: out_channels=3 is not divisible by groups=",
        ),
        (lambda: nn.Conv2d(1.5, 3, 3), "Conv2d: in_channels is 1.5; give a whole number >= 1."),
        (lambda: nn.Conv2d(1, True, 3), "Conv2d: out_channels is True; give a whole number >= 1."),
        (lambda: nn.Conv2d(1, 1, 0), "Conv2d: kernel_size is 0; give a whole number >= 1, or a"),
        (lambda: nn.Conv2d(1, 1, 3, stride=(1, 2, 3)), "Conv2d: stride is (1, 2, 3); give"),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "Conv2d: padding is -1; give a whole number >= 0"),
        (lambda: nn.Conv2d(1, 1, 3, padding="full"), "Conv2d: padding is 'full'; use 'same', 'val"),
        (
            lambda: nn.Conv2d(1, 1, 3, 2, "same"),
            "padding='same' keeps the size of the map, which s",
        ),
        (lambda: nn.Linear(0, 1), "Linear: in_features is 0; give a whole number >= 1."),
        (lambda: nn.MinPool2d("2"), "MinPool2d: kernel_size is '2'; give a whole number >= 1"),
        (lambda: nn.AvgPool2d(2, 0), "AvgPool2d: stride is 0; give a whole number >= 1"),
        (lambda: nn.AdaptiveMaxPool2d(None), "AdaptiveMaxPool2d: output_size is None; give"),
        (
            lambda: nn.DistanceWeightedPool2d(2, falloff="x"),
            "falloff is 'x'; use 'inverse' or 'gau",
        ),
        (lambda: nn.BatchNorm1d(0), "BatchNorm1d: num_features is 0; give a whole number >= 1."),
        (lambda: nn.BatchNorm2d(1, eps=-1), "BatchNorm2d: eps is -1; give a number >= 0."),
        (lambda: nn.BatchNorm2d(1, momentum=2), "BatchNorm2d: momentum is 2; give the weight of a"),
        (lambda: nn.LocalResponseNorm(0), "LocalResponseNorm: size is 0; give a whole number >= 1"),
        (lambda: nn.Dropout(1.5), "Dropout: p is 1.5; give a probability from 0 to 1."),
        (lambda: nn.DropPath(-1), "DropPath: p is -1; give a probability from 0 to 1."),
        (lambda: nn.StochasticDepth(2), "StochasticDepth: p is 2; give a probability from 0 to 1."),
        (lambda: nn.StochasticDepth(0, "x"), "StochasticDepth: mode is 'x'; use 'row' or 'batch'."),
        (lambda: nn.ZeroPad2d((1, 2)), "ZeroPad2d: padding is (1, 2); give a whole number >= 0"),
        (lambda: nn.ZeroPad2d(-1), "ZeroPad2d: padding is -1; give a whole number >= 0, or four"),
        (
            lambda: nn.CrossEntropyLoss(reduction="x"),
            "CrossEntropyLoss: reduction is 'x'; use 'mea",
        ),
        (
            lambda: nn.CrossEntropyLoss(label_smoothing=2),
            "label_smoothing is 2; give a number from",
        ),
        (
            lambda: nn.CrossEntropyLoss(label_smoothing="a"),
            "CrossEntropyLoss: label_smoothing is 'a'",
        ),
        (lambda: nn.Dropout("0.5"), "Dropout: p is '0.5'; give a probability from 0 to 1"),
        (lambda: nn.BatchNorm2d(2, eps="a"), "BatchNorm2d: eps is 'a'; give a number >= 0"),
        (lambda: nn.BatchNorm2d(2, momentum="a"), "BatchNorm2d: momentum is 'a'; give the weight"),
        (lambda: nn.Softmax("a"), "Softmax: dim is 'a'; give the number of an axis"),
        (lambda: nn.CrossEntropyLoss(np.ones((1, 2))), "CrossEntropyLoss: weight is (1, 2); give"),
        (lambda: nn.MSELoss(reduction="max"), "MSELoss: reduction is 'max'; use 'mean', 'sum' or"),
    ],
)
def test_mistakes_in_settings(make, message):
    with pytest.raises(MiniCNNError, match=re.escape(message)) as caught:
        make()
    assert isinstance(caught.value, (ArgumentError, ShapeError))


def test_batch_norm_wants_its_number_of_axes():
    with pytest.raises(ShapeError, match=r"BatchNorm2d: x must be \(N, C, H, W\), but is \(4, 3\)"):
        nn.BatchNorm2d(3)(minicnn.tensor(maps(4, 3)))
    with pytest.raises(ShapeError, match=r"BatchNorm1d: x must be \(N, C\) or \(N, C, L\), but is"):
        nn.BatchNorm1d(3)(minicnn.tensor(maps(4, 3, 2, 2)))


def test_numpy_integers_are_numbers_too():
    layer = nn.Conv2d(np.int64(2), np.int32(4), np.int64(3))
    assert layer.weight.shape == (4, 2, 3, 3)
    assert repr(layer) == "Conv2d(2, 4, kernel_size=3)"
