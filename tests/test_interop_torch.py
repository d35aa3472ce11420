"""Weight files that PyTorch writes and reads."""

import io
import pickle
import warnings
import zipfile

import numpy as np
import pytest

import minicnn
from minicnn import load_weights, nn, save_weights
from minicnn.errors import CheckpointError
from minicnn.interop import read_weights

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other packages say while PyTorch is imported
    torch = pytest.importorskip("torch", reason='PyTorch is the extra "parity"')


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def theirs(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.BatchNorm2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 3),
    )


def ours():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def assert_is(arrays, state):
    """Names, types, shapes and bits are those of PyTorch's tensors."""
    assert list(arrays) == list(state)
    for name, tensor in state.items():
        expected = tensor.detach().resolve_conj().numpy()
        assert arrays[name].dtype == expected.dtype, name
        assert arrays[name].shape == expected.shape, name
        assert arrays[name].tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_state_dict_of_any_protocol(tmp_path, protocol):
    path = tmp_path / "net.pth"
    source = theirs(1)
    torch.save(source.state_dict(), path, pickle_protocol=protocol)
    model = ours()
    load_weights(model, path)
    assert_is(model.state_dict(), source.state_dict())
    x = torch.randn(4, 1, 4, 4)
    y = model(minicnn.Tensor(x.numpy())).array
    np.testing.assert_allclose(y, source(x).detach().numpy(), rtol=1e-4, atol=1e-5)


DTYPES = [
    *("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8"),
    *("uint16", "uint32", "uint64", "bool", "complex64", "complex128"),
]


@pytest.mark.parametrize("name", DTYPES)
def test_types_of_numbers(tmp_path, name):
    path = tmp_path / "w.pt"
    tensor = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(getattr(torch, name))
    torch.save({"w": tensor, "one": tensor[1, 1].clone(), "none": tensor[:0].clone()}, path)
    assert_is(read_weights(path), torch.load(path))


def test_bfloat16_keeps_its_values(tmp_path):
    path = tmp_path / "w.pt"
    numbers = torch.tensor([1.0, -2.5, 3e38, 1e-40, float("inf"), float("nan"), -0.0])
    torch.save({"w": numbers.to(torch.bfloat16)}, path)
    assert_is(read_weights(path), {"w": numbers.to(torch.bfloat16).float()})


def test_half_precision_loads_into_a_model(tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        path, source = tmp_path / "half.pth", theirs().to(dtype)
        torch.save(source.state_dict(), path)
        model = ours()
        load_weights(model, path)
        assert_is(model.state_dict(), source.float().state_dict())


def test_views_strides_and_shared_storages(tmp_path):
    path = tmp_path / "views.pth"
    base = torch.arange(60.0).reshape(3, 4, 5)
    state = {
        "base": base,
        "turned": base.permute(2, 0, 1),
        "slice": base[1:, ::2, 3],
        "last": base[2, 3, 4],
        "expanded": base[0, :1].expand(6, 5),
        "channels last": torch.arange(120.0)
        .reshape(2, 3, 4, 5)
        .to(memory_format=torch.channels_last),
        "empty": base[:0],
    }
    torch.save(state, path)
    assert_is(read_weights(path), state)
    with zipfile.ZipFile(path) as archive:
        assert sum("/data/" in name for name in archive.namelist()) == 2


def test_parameters_and_attributes(tmp_path):
    path = tmp_path / "w.pth"
    parameter = torch.nn.Parameter(torch.arange(3.0))
    tagged = torch.nn.Parameter(torch.arange(2.0))
    tagged.note = "kept by _rebuild_parameter_with_state"
    torch.save({"w": parameter, "tagged": tagged}, path)
    assert_is(read_weights(path), {"w": parameter, "tagged": tagged})


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net"])
def test_a_checkpoint_of_a_training_script(tmp_path, key):
    path = tmp_path / "checkpoint.pth"
    source = torch.nn.DataParallel(theirs(2))
    optimizer = torch.optim.Adam(source.parameters())
    source(torch.randn(4, 1, 4, 4)).sum().backward()
    optimizer.step()
    whole = {"epoch": 3, "best": torch.tensor(0.5), "optimizer": optimizer.state_dict()}
    whole |= {"device": torch.device("cpu"), "dtype": torch.float32, "shape": torch.Size([1, 2])}
    torch.save({**whole, key: source.state_dict()}, path)
    model = ours()
    load_weights(model, path)
    assert_is(model.state_dict(), source.module.state_dict())


def test_a_large_model_s_names_and_shapes_survive(tmp_path):
    path = tmp_path / "deep.pth"
    source = torch.nn.Sequential(*[torch.nn.Linear(3, 3) for _ in range(300)])  # LONG_BINPUT
    torch.save(source.state_dict(), path)
    assert_is(read_weights(path), source.state_dict())


def test_a_whole_module_is_refused_by_name(tmp_path):
    path = tmp_path / "module.pth"
    torch.save(theirs(), path)
    message = r"asks for torch.nn.modules.container.Sequential, .* not run"
    with pytest.raises(CheckpointError, match=message):
        load_weights(ours(), path)


def test_the_format_before_version_1_6_is_refused_with_the_cure(tmp_path):
    path = tmp_path / "old.pth"
    torch.save(theirs(1).state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"before version 1\.6") as caught:
        load_weights(ours(), path)
    cure = "torch.save(torch.load(path, weights_only=True), path)"
    assert cure in str(caught.value)
    exec(cure, {"torch": torch, "path": path})
    model = ours()
    load_weights(model, path)
    assert_is(model.state_dict(), theirs(1).state_dict())


def test_sparse_and_quantized_tensors_are_refused_by_name(tmp_path):
    path = tmp_path / "sparse.pth"
    torch.save({"w": torch.eye(3).to_sparse()}, path)
    with pytest.raises(CheckpointError, match=r"asks for torch._utils._rebuild_sparse_tensor"):
        read_weights(path)


def test_a_flipped_bit_in_every_third_byte(tmp_path):
    """The checksums of the archive and the checks of the reader leave no other numbers."""
    buffer = io.BytesIO()
    state = torch.nn.Linear(2, 2).state_dict()
    torch.save(state, buffer)
    whole = buffer.getvalue()
    path = tmp_path / "flipped.pth"
    refused = 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert_is(read_weights(path), state)
        except CheckpointError:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("ending", ["pth", "pt"])
@pytest.mark.parametrize("settings", [{"weights_only": True}, {"mmap": True}])
def test_pytorch_reads_what_is_saved(tmp_path, ending, settings):
    path = tmp_path / f"ours.{ending}"
    source = ours().astype(np.float64 if ending == "pt" else np.float32)
    save_weights(source, path)
    state = torch.load(path, **settings)
    assert_is(source.state_dict(), state)
    theirs().to(state["0.weight"].dtype).load_state_dict(state)


def test_pytorch_reads_every_type_of_numbers(tmp_path):
    module = nn.Module()
    for i, code in enumerate(("f2", "i4", "i2", "i1", "u1", "?")):
        module.register_buffer(f"b{i}", np.arange(3).astype(code))
    module.register_buffer("none", np.zeros((0, 2), np.float32))
    path = tmp_path / "types.pth"
    save_weights(module, path)
    assert_is(module.state_dict(), torch.load(path, weights_only=True))


def test_safetensors_go_both_ways(tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "w.safetensors"
    source = theirs(3).to(torch.bfloat16)
    save_file(source.state_dict(), path)
    model = ours()
    load_weights(model, path)
    assert_is(model.state_dict(), source.float().state_dict())
    save_weights(model, path)
    back = load_file(path)
    assert_is(model.state_dict(), {name: back[name] for name in model.state_dict()})


def test_pickles_that_pytorch_refuses_are_refused_too(tmp_path):
    """A call that `torch.load(weights_only=True)` does not allow."""
    path = tmp_path / "evil.pth"
    torch.save({"w": torch.zeros(1), "f": print}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match=r"asks for builtins\.print"):
        read_weights(path)
