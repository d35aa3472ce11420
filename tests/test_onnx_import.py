"""ONNX files read back: as networks that compute, train and have names; bad files are refused."""

import importlib.util
import shutil
import tempfile
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import torchvision_models

import minicnn
from minicnn import Tensor, models, nn, optim
from minicnn import functional as F
from minicnn.autograd import no_grad
from minicnn.errors import CheckpointError
from minicnn.interop import export_onnx, import_onnx
from minicnn.interop.onnx_nodes import READERS
from minicnn.testing import assert_close

onnx = pytest.importorskip("onnx", reason='the package onnx is the extra "onnx"')
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT

ROUND_TRIPS = (
    *("lenet5_1998", "alexnet_2012", "vgg11_lrn", "squeezenet1_1", "resnet20", "preact_resnet20"),
    *("densenet_bc40", "notes_cnn", "nin"),
)
CLOSE = 1e-4  # of the largest logit


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def images(shape, N=3, seed=0):
    return np.random.default_rng(seed).standard_normal((N, *shape)).astype(np.float32)


def run(model, x):
    with no_grad(), nn.evaluating(model):
        return model(Tensor(x)).numpy()


def assert_alike(one, other):
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= CLOSE * np.abs(other).max()


@pytest.mark.parametrize("name", ROUND_TRIPS)
@pytest.mark.parametrize("fold", [True, False])
def test_an_exported_network_comes_back(tmp_path, name, fold):
    presets = models.find(name).presets
    preset = min(presets, key=lambda key: np.prod(presets[key].input_shape))
    model = models.create(name, preset=preset)
    with no_grad():
        model(Tensor(images(model.input_shape, 8)))  # statistics of their own for the norms
    export_onnx(model, tmp_path / "model.onnx", fold_batch_norm=fold)
    back = import_onnx(tmp_path / "model.onnx")
    assert not back.training
    x = images(model.input_shape, seed=1)
    assert_alike(run(back, x), run(model, x))
    if not fold and name != "lenet5_1998":  # whose filters are computed
        assert back.state_dict().keys() == model.state_dict().keys()
    assert back.metadata["architecture"] == name


def test_an_imported_network_trains(tmp_path):
    model = models.create("notes_cnn")
    export_onnx(model, tmp_path / "model.onnx", fold_batch_norm=False)
    back = import_onnx(tmp_path / "model.onnx").train()
    assert back.num_parameters() == model.num_parameters()
    optimizer = optim.SGD(back.parameters(), lr=0.05, momentum=0.9)
    x, labels = Tensor(images((1, 28, 28), 8)), np.arange(8)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = F.cross_entropy(back(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None for p in back.parameters())
    with pytest.raises(CheckpointError):  # and what was trained can be exported again
        import_onnx(tmp_path / "again.onnx")
    export_onnx(back, tmp_path / "again.onnx")
    x = images((1, 28, 28))
    assert_alike(run(import_onnx(tmp_path / "again.onnx"), x), run(back, x))


# -- files that PyTorch wrote

NETWORKS = {"alexnet": 224, "resnet18": 64, "squeezenet1_1": 64}  # image sizes


@pytest.fixture(scope="module", params=NETWORKS)
def theirs(request):
    """A torchvision network with random weights, and images for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages say while PyTorch is imported
        torch = pytest.importorskip("torch", reason='PyTorch is the extra "parity"')
        if importlib.util.find_spec("torchvision") is None:
            pytest.skip('torchvision is in the extra "parity"')
        build = torchvision_models().get_model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(request.param, weights=None, num_classes=10)
        x = torch.randn(2, 3, NETWORKS[request.param], NETWORKS[request.param])
        with torch.no_grad():
            if request.param == "resnet18":
                model.train()(torch.randn_like(x))  # running statistics
    return request.param, model.eval(), x


@pytest.mark.parametrize("dynamo", [False, True], ids=["classic", "dynamo"])
def test_files_of_pytorchs_exporters(tmp_path, theirs, dynamo):
    import torch

    name, model, x = theirs
    if dynamo:
        pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs onnxscript")
    form = {"dynamic_shapes": ({0: torch.export.Dim("n")},)} if dynamo else {}
    form |= {} if dynamo else {"dynamic_axes": {"x": {0: "n"}}}
    path = tmp_path / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (x,), path, input_names=["x"], dynamo=dynamo, verbose=False, **form
        )
    back = import_onnx(path)
    with torch.no_grad():
        assert_alike(run(back, x.numpy()), model(x).numpy())
    weights = {name for name, p in model.named_parameters() if p.ndim > 1}
    assert weights <= back.state_dict().keys()


# -- single nodes


def file(path, nodes, arrays=(), shape=("N", 2, 5, 5), opset=17, outputs=("y",), **more):
    """A file of some nodes, from x to y."""
    initializers = [
        onnx.numpy_helper.from_array(np.asarray(array), name)
        for name, array in dict(arrays).items()
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **more)
    path.write_bytes(model.SerializeToString())
    return path


def node(kind, *inputs, **attributes):
    return helper.make_node(kind, ["x", *inputs], ["y"], name=f"the_{kind}", **attributes)


def array(*numbers):
    return np.array(numbers, np.int64)


def weight(*shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


FILTERS = {"w": weight(4, 2, 3, 3), "b": weight(4)}
NODES = {
    "conv": (node("Conv", "w", "b", pads=[1, 0, 2, 1], strides=[2, 1]), FILTERS),
    "conv upper": (node("Conv", "w", auto_pad="SAME_UPPER", strides=[2, 2]), FILTERS),
    "conv lower": (node("Conv", "w", auto_pad="SAME_LOWER", strides=[2, 2]), FILTERS),
    "conv valid": (node("Conv", "w", auto_pad="VALID", dilations=[2, 1]), FILTERS),
    "max": (node("MaxPool", kernel_shape=[2, 3], pads=[0, 1, 1, 1]), {}),
    "max ceil": (node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), {}),
    "max hanging": (node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]), {}),
    "mean": (node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {}),
    "mean counted": (
        node("AveragePool", kernel_shape=[3, 3], pads=[1, 0, 1, 1], count_include_pad=1),
        {},
    ),
    "global mean": (node("GlobalAveragePool"), {}),
    "global max": (node("GlobalMaxPool"), {}),
    "leaky": (node("LeakyRelu", alpha=0.3), {}),
    "sigmoid": (node("Sigmoid"), {}),
    "clip": (node("Clip", "lo", "hi"), {"lo": np.float32(0), "hi": np.float32(0.5)}),
    "clip both": (node("Clip", "lo", "hi"), {"lo": np.float32(-0.2), "hi": np.float32(0.5)}),
    "mean of axes": (node("ReduceMean", axes=[-1], keepdims=0), {}),
    "mean of maps": (node("ReduceMean", axes=[2, 3], keepdims=0), {}),
    "sum": (node("ReduceSum", "a", keepdims=1), {"a": array(1)}),
    "unsqueeze": (node("Unsqueeze", "a"), {"a": array(1, -1)}),
    "transpose": (node("Transpose", perm=[0, 2, 3, 1]), {}),
    "slice": (
        node("Slice", "s", "e", "a", "t"),
        {"s": array(-1, 1), "e": array(-99, 9), "a": array(2, 3), "t": array(-2, 1)},
    ),
    "pad": (node("Pad", "p", "v"), {"p": array(0, 0, 1, 0, 0, 1, 0, 2), "v": np.float32(3)}),
    "reshape": (node("Reshape", "s"), {"s": array(0, -1, 5)}),
    "flatten": (node("Flatten"), {}),
    "softmax": (node("Softmax", axis=1), {}),
    "scale": (node("Mul", "w"), {"w": weight(2, 1, 1)}),
    "one minus": (helper.make_node("Sub", ["w", "x"], ["y"]), {"w": np.float32(1)}),
    "matmul": (node("MatMul", "w"), {"w": weight(5, 3)}),
    "matmul left": (helper.make_node("MatMul", ["w", "x"], ["y"]), {"w": weight(3, 5)}),
    "power": (node("Pow", "w"), {"w": np.float32(2)}),
    "concat": (node("Concat", "x", axis=1), {}),
    "norm": (
        node("BatchNormalization", "w", "b", "m", "v", epsilon=0.1),
        {"w": weight(2), "b": weight(2), "m": weight(2), "v": abs(weight(2))},
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_single_nodes_agree_with_the_definition(tmp_path, name):
    """onnx's own reference evaluator, plain NumPy, is the definition."""
    from onnx.reference import ReferenceEvaluator

    proto, arrays = NODES[name]
    path = file(tmp_path / "model.onnx", [proto], arrays)
    x = images((2, 5, 5))
    (expected,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})
    found = run(import_onnx(path), x)
    terms = max((int(np.prod(a.shape[1:])) for a in arrays.values()), default=1) * 25
    assert_close(found, expected.astype(np.float32), terms=terms)


def test_gemm_flatten_and_shared_weights(tmp_path):
    arrays = {"fc.weight": weight(50, 50), "fc.bias": weight(50)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["h"], name="first", transB=1),
        helper.make_node("Gemm", ["h", "fc.weight", "fc.bias"], ["g"], name="second", transB=1),
        helper.make_node("Dropout", ["g"], ["y"]),
    ]
    model = import_onnx(file(tmp_path / "model.onnx", nodes, arrays))
    assert list(model.state_dict()) == ["fc.weight", "fc.bias"]
    assert model.num_parameters() == 50 * 51
    x = images((2, 5, 5))
    once = x.reshape(3, 50) @ arrays["fc.weight"].T + arrays["fc.bias"]
    expected = once @ arrays["fc.weight"].T + arrays["fc.bias"]
    assert_close(run(model, x), expected, terms=100 * 50)


def test_a_batch_of_one_in_the_file_is_any_batch(tmp_path):
    arrays = {"s": array(1, 50)}
    path = file(tmp_path / "model.onnx", [node("Reshape", "s")], arrays, shape=(1, 2, 5, 5))
    assert run(import_onnx(path), images((2, 5, 5))).shape == (3, 50)


def test_open_sizes_need_an_input_shape(tmp_path):
    path = file(tmp_path / "model.onnx", [node("Relu")], shape=("N", 2, "H", "W"))
    with pytest.raises(CheckpointError, match="say which with input_shape"):
        import_onnx(path)
    assert import_onnx(path, (2, 4, 6)).input_shape == (2, 4, 6)


def test_names_that_an_attribute_cannot_have(tmp_path):
    nodes = [
        helper.make_node("Mul", ["x", "train"], ["a"]),
        helper.make_node("Mul", ["a", "x/y:0.train"], ["b"]),
        helper.make_node("Mul", ["b", "."], ["c"]),
        helper.make_node("Mul", ["c", ".".join("a" * 5000)], ["y"]),
    ]
    scale = weight(2, 1, 1)
    names = ("train", "x/y:0.train", ".", ".".join("a" * 5000))
    model = import_onnx(file(tmp_path / "model.onnx", nodes, dict.fromkeys(names, scale)))
    assert model.num_parameters() == 8
    assert len(model.state_dict()) == 4
    x = images((2, 5, 5))
    assert_close(run(model, x), x * scale**4, terms=4)


def test_every_node_that_cannot_be_read_is_listed(tmp_path):
    nodes = [
        helper.make_node("Einsum", ["x"], ["a"], name="strange", equation="abcd->abdc"),
        helper.make_node("Relu", ["a"], ["b"], name="behind"),
        helper.make_node("LRN", ["x"], ["c"], name="even", size=4),
        helper.make_node("Conv", ["x", "x"], ["d"], name="computed"),
        helper.make_node("Relu", ["x"], ["y"], name="foreign", domain="com.example"),
    ]
    with pytest.raises(CheckpointError) as caught:
        import_onnx(file(tmp_path / "model.onnx", nodes))
    message = str(caught.value)
    assert "has 4 nodes that cannot be read" in message
    for part in ("Einsum (strange)", "LRN (even)", "Conv (computed)", "Relu (foreign)"):
        assert part in message
    assert "behind" not in message


BAD = {
    "cycle": (
        [helper.make_node("Add", ["x", "y"], ["y"], name="loop")],
        {},
        "before it is computed",
    ),
    "twice": ([node("Relu"), node("Relu")], {}, "computes a value twice"),
    "shape": ([node("Reshape", "s")], {"s": array(7, 7)}, "does not fit"),
    "huge pad": ([node("Pad", "p")], {"p": array(*[0] * 7, 10**9)}, "cannot be read"),
    "huge kernel": ([node("MaxPool", kernel_shape=[10**12, 1])], {}, "two numbers up to"),
    "wrong type": ([node("LeakyRelu", alpha="a lot")], {}, "has the wrong type"),
    "channels": ([node("Conv", "w")], {"w": weight(4, 3, 3, 3)}, "weight expects 3"),
    "no stride": ([node("Conv", "w", strides=[0, 0])], {"w": weight(4, 2, 3, 3)}, "stride is"),
    "groups": ([node("Conv", "w", group=0)], {"w": weight(4, 2, 3, 3)}, "do not fit its weight"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_cannot_work_say_why(tmp_path, name):
    nodes, arrays, part = BAD[name]
    with pytest.raises(CheckpointError, match=part) as caught:
        import_onnx(file(tmp_path / "model.onnx", nodes, arrays))
    assert str(tmp_path / "model.onnx") in str(caught.value)


def test_other_files(tmp_path):
    for name, content, part in (
        ("empty", b"", "has no nodes"),
        ("text", b"not a network at all", "is not an ONNX file"),
        ("cut", file(tmp_path / "whole", [node("Relu")]).read_bytes()[:-30], "is not an ONNX file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=part):
            import_onnx(tmp_path / name)
    with pytest.raises(CheckpointError, match="is no file"):
        import_onnx(tmp_path)
    with pytest.raises(CheckpointError, match="uses opset 6"):
        import_onnx(file(tmp_path / "old", [node("Relu")], opset=6))
    with pytest.raises(CheckpointError, match="which is too much"):
        import_onnx(file(tmp_path / "large", [node("Relu")], shape=("N", 2, 10**9, 10**9)))


def test_names_that_are_no_text(tmp_path):
    path = file(tmp_path / "model.onnx", [node("Relu")])
    path.write_bytes(path.read_bytes().replace(b"the_Relu", b"the_\x80elu"))
    with pytest.raises(CheckpointError, match="names that are no text"):
        import_onnx(path)


def with_weight(tmp_path, change):
    """A file of one convolution whose weight was changed."""
    path = file(tmp_path / "model.onnx", [node("Conv", "w")], {"w": weight(4, 2, 3, 3)})
    model = onnx.load(path)
    change(model.graph.initializer[0])
    path.write_bytes(model.SerializeToString())
    return path


def test_an_array_that_claims_to_be_larger_than_it_is(tmp_path):
    def huge(tensor):
        tensor.dims[:] = [2**20, 2**20, 2**20, 3]

    def negative(tensor):
        tensor.dims[:] = [-4, -2, 3, 3]

    def typed(tensor):
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0] * 71)

    def unknown(tensor):
        tensor.data_type = 8  # text

    for change, part in (
        (huge, "it is damaged"),
        (negative, "has the shape"),
        (typed, "holds 71 numbers"),
        (unknown, "numbers of type 8"),
    ):
        with pytest.raises(CheckpointError, match=part):
            import_onnx(with_weight(tmp_path, change))


def test_weights_beside_the_file_but_not_elsewhere(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    values = weight(4, 2, 3, 3)

    def external(location, **more):
        def change(tensor):
            tensor.ClearField("raw_data")
            tensor.data_location = 1
            for key, value in {"location": location, **more}.items():
                tensor.external_data.add(key=key, value=str(value))

        return with_weight(folder, change)

    (folder / "weights.bin").write_bytes(b"head" + values.tobytes())
    (tmp_path / "secret.bin").write_bytes(values.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = import_onnx(external("weights.bin", offset=4, length=values.nbytes))
    assert (model.state_dict()["conv_0.weight"] == values).all()
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "", "gone", "a\0b"):
        with pytest.raises(CheckpointError, match=r"no file in its folder|could not be read"):
            import_onnx(external(location))
    for more, part in (
        ({"offset": 8}, "which has"),
        ({"offset": -4}, "which has"),
        ({"length": 10**15}, "it is damaged"),
        ({"offset": "far"}, "could not be read"),
    ):
        with pytest.raises(CheckpointError, match=part):
            import_onnx(external("weights.bin", **more))


# -- any bytes


@cache
def seeds():
    """Whole files, the smaller the likelier that a changed byte matters."""
    folder = Path(tempfile.mkdtemp())
    with minicnn.use_backend("numpy"):
        minicnn.seed(0)
        small = nn.Sequential(
            *(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(8, 2), nn.Softmax(1)),
        )
        export_onnx(small, folder / "net", (1, 6, 6), fold_batch_norm=False)
    for name, (proto, arrays) in NODES.items():
        file(folder / name.replace(" ", "_"), [proto], arrays)
    found = [path.read_bytes() for path in sorted(folder.iterdir())]
    shutil.rmtree(folder)
    return found


@settings(max_examples=300)
@given(data=st.data())
def test_changed_bytes_give_a_network_or_a_clear_error(tmp_path_factory, data):
    blob = bytearray(data.draw(st.sampled_from(seeds())))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(blob) - 1))
        what = data.draw(st.sampled_from(["set", "cut", "insert", "copy"]))
        if what == "set":
            blob[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del blob[at : at + data.draw(st.integers(1, 40))]
        elif what == "insert":
            blob[at:at] = data.draw(st.binary(max_size=12))
        else:
            blob[at:at] = blob[at : at + data.draw(st.integers(1, 60))]
        if not blob:
            break
    path = tmp_path_factory.getbasetemp() / "fuzzed.onnx"
    path.write_bytes(blob)
    with suppress(CheckpointError):
        assert import_onnx(path).num_parameters() <= 10**6


@settings(max_examples=100)
@example(blob=b"\x3a\x00")
@given(blob=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory, blob):
    path = tmp_path_factory.getbasetemp() / "random.onnx"
    path.write_bytes(blob)
    with pytest.raises(CheckpointError):
        import_onnx(path)


def test_the_operators_that_are_read_are_onnxs():
    for kind in READERS:
        onnx.defs.get_schema(kind, 17)
