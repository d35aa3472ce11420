"""ONNX files: ONNX Runtime computes from them what minicnn computes, for every architecture."""

import json

import numpy as np
import pytest

import minicnn
from minicnn import Tensor, models, nn
from minicnn import functional as F
from minicnn.autograd import no_grad
from minicnn.errors import ArgumentError, CheckpointError
from minicnn.interop import export_onnx

onnx = pytest.importorskip("onnx", reason='the package onnx is the extra "onnx"')

REPRESENTATIVE = (
    *("lenet5_1998", "alexnet_2012", "nin", "googlenet", "vgg11_lrn", "squeezenet1_1", "zfnet"),
    *("resnet20", "preact_resnet20", "densenet_bc40", "fractalnet", "notes_cnn"),
)
ALL = [
    pytest.param(name, marks=[] if name in REPRESENTATIVE else [pytest.mark.sampled(0)])
    for name in models.names()
]
#: of norms: hundreds of residual blocks that each add as much as they get overflow float32
VARIANCES = {"resnet1202": 10.0, "preact_resnet1001": 10.0}
CLOSE = 1e-4  # of the largest logit: what the deployment of a network has to keep


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def norms(model):
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return [m for m in model.modules() if isinstance(m, kinds) and m.running_mean is not None]


def used(model, variance=1.0, seed=0):
    """The model with norms as after training: statistics, factors and shifts of no kind.

    They are not those of its maps: a plain network of 110 layers that normalises every map to
    variance 1 multiplies rounding errors along with everything else, beyond any comparison.
    """
    rng = np.random.default_rng(seed)
    for norm in norms(model):
        C = norm.num_features
        norm.running_mean = rng.normal(0, 0.1, C).astype(np.float32)
        norm.running_var = (variance * rng.uniform(0.5, 1.5, C)).astype(np.float32)
        if norm.weight is not None:
            norm.weight.array[:] = rng.uniform(0.8, 1.2, C)
            norm.bias.array[:] = rng.normal(0, 0.1, C)
    return model.eval()


def smallest(name):
    presets = models.find(name).presets
    preset = min(presets, key=lambda key: np.prod(presets[key].input_shape))
    model = models.create(name, preset=preset)
    return used(model, VARIANCES.get(name, 1.0))


def session(path):
    """ONNX Runtime on one thread."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(model, x):
    with no_grad(), nn.evaluating(model):
        return model(Tensor(x)).numpy()


def assert_same_numbers(model, path, input_shape, batches=(1, 3)):
    """One file, several batches: the same logits, which are not all alike."""
    theirs = session(path)
    for N in batches:
        x = np.random.default_rng(N).standard_normal((N, *input_shape)).astype(np.float32)
        ours = run(model, x)
        (found,) = theirs.run(None, {"images": x})
        assert found.shape == ours.shape
        assert np.isfinite(ours).all()
        assert ours.std() > 0
        assert np.abs(found - ours).max() <= CLOSE * np.abs(ours).max()


@pytest.mark.parametrize("name", ALL)
def test_every_architecture_in_onnx_runtime(tmp_path, name):
    model = smallest(name)
    before = {key: value.copy() for key, value in model.state_dict().items()}
    export_onnx(model, tmp_path / "model.onnx")
    assert_same_numbers(model, tmp_path / "model.onnx", model.input_shape)
    assert all((model.state_dict()[key] == value).all() for key, value in before.items())


def test_norms_go_into_the_convolutions_unless_they_are_to_stay(tmp_path):
    model = smallest("resnet20")
    for fold, expected in (True, 0), (False, len(norms(model))):
        path = tmp_path / f"{fold}.onnx"
        export_onnx(model, path, fold_batch_norm=fold)
        kinds = [node.op_type for node in onnx.load(path).graph.node]
        assert kinds.count("BatchNormalization") == expected
        assert_same_numbers(model, path, model.input_shape)
    names = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert {name for name in model.state_dict() if "num_batches" not in name} <= names


class Everything(nn.Module):
    """Every op that has an ONNX form, and more than one way into some."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, dilation=1, groups=3)
        self.even = nn.Conv2d(6, 6, 4, padding="same")
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)
        self.flat = nn.BatchNorm1d(5)

    def forward(self, x):
        x = self.norm(self.even(self.conv(x, relu=True)), relu=True, skip=self.conv(x))
        pooled = [
            F.max_pool2d(x, 3, 2, ceil_mode=True),
            F.min_pool2d(x, 3, 2, ceil_mode=True),
            F.avg_pool2d(x, 3, 2, padding=1),
            F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
            F.avg_pool2d(x, 3, 2, ceil_mode=True),
            F.l2_pool2d(x, 3, 2, padding=1),
            F.distance_weighted_pool2d(x, 3, 2, padding=1),
            F.adaptive_avg_pool2d(x, (4, 4)),
            F.adaptive_avg_pool2d(x, (3, 4)),
            F.adaptive_max_pool2d(x, (4, 2)),
            F.adaptive_max_pool2d(x, (3, 4)),
            F.pad(x, (1, 0, 2, 1), value=0.5),
            F.local_response_norm(x, 3, alpha=0.5),
            F.local_response_norm(x, 4, alpha=0.5, k=2.0),
            x[:, 1:3, ::2, -1],
            x[:, None, ..., ::-1][:, :, 2],
            F.leaky_relu(x - 1.0, 0.2),
            F.sigmoid(x) / (1.0 + F.exp(-x)),
            F.log(x * x + 1.0) ** 1.5,
            F.softmax(x, 1) + F.log_softmax(x, 2),
            x.permute(0, 2, 3, 1) @ Tensor(np.full((6, 2), 0.5, np.float32)),
            self.fc(x.permute(0, 2, 3, 1)),
            F.tanh(F.adaptive_max_pool2d(x, 1) - F.adaptive_avg_pool2d(x, 1)),
            x.var(dim=(1, 2)),
            x.amax((2, 3)),
            x.amax(1, keepdim=True),
            x.sum((1, 2), keepdim=True).sqrt(),
        ]
        sums = F.stack([part.reshape(part.shape[0], -1).mean(1) for part in pooled], 1)
        return F.concat([self.flat(self.fc(x.mean((2, 3)))), sums], 1)


def test_every_op_by_itself(tmp_path):
    model = used(Everything())
    export_onnx(model, tmp_path / "model.onnx", input_shape=(3, 8, 8))
    assert_same_numbers(model, tmp_path / "model.onnx", (3, 8, 8))


def test_fused_convolution_and_norm_called_by_hand(tmp_path):
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            if self.training:
                return self.norm(self.conv(x))
            return self.conv(x, relu=True, norm=self.norm) - self.conv(x, norm=self.norm)

    model = used(Fused())
    export_onnx(model, tmp_path / "model.onnx", input_shape=(1, 6, 6))
    assert_same_numbers(model, tmp_path / "model.onnx", (1, 6, 6))


def test_the_file_tells_what_it_is(tmp_path):
    model = models.create("notes_cnn")
    path = tmp_path / "model.onnx"
    given = {"classes": ["boot", "bag"], "mean": 0.25, "std": [0.5], "metadata": {"epoch": 3}}
    export_onnx(model, path, **given)
    file = onnx.load(path)
    found = {entry.key: entry.value for entry in file.metadata_props}
    assert found["minicnn_version"] == minicnn.__version__
    assert found["architecture"] == "notes_cnn"
    assert [json.loads(found[key]) for key in ("classes", "mean", "std", "epoch")] == [
        *(["boot", "bag"], 0.25, [0.5], 3),
    ]
    assert json.loads(found["image_shape"]) == [1, 28, 28]
    assert (file.opset_import[0].version, file.ir_version) == (17, 8)
    dims = [d.dim_param or d.dim_value for d in file.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["N", 1, 28, 28]


def test_what_only_training_runs_is_left_out(tmp_path):
    model = models.create("googlenet", preset="fashion-mnist").train()
    export_onnx(model, tmp_path / "model.onnx")
    assert model.training
    names = [tensor.name for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert not [name for name in names if name.startswith("aux")]


class Sum(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.function = function

    def forward(self, x):
        return self.function(self.layer(x))


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda y: y + Tensor(y.array.mean(0, keepdims=True)), "depends on the images"),
        (lambda y: y * float(y.array.max()), "depends on the images"),
        (lambda y: y if y.array.max() > 1e9 else y * float(len(y)), "depends on the images"),
        (lambda y: y[:, np.array([0, 2])], "getitem in the network itself has no ONNX form"),
        (lambda y: F.dropout(y, 0.5), "dropout in the network itself (Dropout) has no ONNX form"),
        (lambda y: y.array, "returns something that no op computed"),
        (lambda y: Tensor(np.ones(3, np.float32)), "returns something that no op computed"),
        (
            lambda y: F.batch_norm(y, None, None),
            "batch_norm in the network itself has no ONNX form: it normalises by the statistics",
        ),
    ],
)
def test_what_cannot_be_exported_is_named(tmp_path, function, part):
    path = tmp_path / "model.onnx"
    path.write_text("before")
    with pytest.raises(ArgumentError) as caught:
        export_onnx(Sum(function), path, (4,))
    assert part in str(caught.value)
    assert path.read_text() == "before"


def test_a_layer_without_an_onnx_form_is_named(tmp_path):
    body = nn.Sequential({"norm": nn.BatchNorm2d(1, track_running_stats=False)})
    model = nn.Sequential({"body": body})
    with pytest.raises(ArgumentError, match=r"batch_norm in body\.norm has no ONNX form"):
        export_onnx(model, tmp_path / "model.onnx", (1, 2, 2))


def test_mistakes(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(ArgumentError, match="input_shape is None"):
        export_onnx(nn.Linear(4, 3), path)
    with pytest.raises(ArgumentError, match=r"input_shape is \(0, 4\)"):
        export_onnx(nn.Linear(4, 3), path, (0, 4))
    with pytest.raises(ArgumentError, match="weight is float64"):
        export_onnx(nn.Linear(4, 3).astype(np.float64), path, (4,))
    with nn.without_weights():
        blank = nn.Linear(4, 3)
    with pytest.raises(ArgumentError, match="weight has no values"):
        export_onnx(blank, path, (4,))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        export_onnx(nn.Linear(4, 3), tmp_path / "file" / "model.onnx", (4,))
    assert not path.exists()
    with pytest.raises(CheckpointError, match="it is a folder; give the path of a file"):
        export_onnx(nn.Linear(4, 3), tmp_path, (4,))
    with pytest.raises(ArgumentError, match="input_shape is 28; give the shape of one sample"):
        export_onnx(nn.Linear(4, 3), path, 28)
    with pytest.raises(ArgumentError, match=r"model is 'lenet5', .*models.create\('lenet5'\)"):
        export_onnx("lenet5", path)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_metadata_of_numpy_numbers_and_what_is_none(tmp_path):
    path, layer = tmp_path / "model.onnx", nn.Linear(4, 3)
    export_onnx(layer, path, (4,), mean=np.float32(0.5), std=np.array([0.25]))
    found = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert (found["mean"], found["std"]) == ("0.5", "[0.25]")
    for mistake, words in [
        ({"mean": 0.5}, "give mean and std both or neither"),
        ({"classes": "cat"}, "classes as a list of names"),
        ({"metadata": {"x": object()}}, "'x' is <object .*holds a object"),
        ({"metadata": {5: "x"}}, "metadata has the name 5"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            export_onnx(layer, path, (4,), **mistake)


def test_tracing_leaves_no_trace(tmp_path):
    """Nothing is recorded afterwards, by whatever way the export ended."""
    with pytest.raises(ZeroDivisionError):
        export_onnx(Sum(lambda y: y * (1 / 0)), tmp_path / "model.onnx", (4,))
    assert minicnn.autograd._thread.record is None
    assert (minicnn.Tensor([1.0]) + 1).item() == 2.0
