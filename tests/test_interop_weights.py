"""Weight files in and out: what they hold, what does not fit, and what must never be run."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicnn
from minicnn import load_weights, nn, save_weights
from minicnn.errors import ArgumentError, CheckpointError, DTypeError, MiniCNNError, StateDictError
from minicnn.interop import read_weights
from minicnn.interop.torch_writer import pack_torch_zip
from minicnn.training.packing import pack_weights

ENDINGS = ("safetensors", "pth", "pt")


@pytest.fixture(autouse=True)
def _numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def net(seed=0):
    """A small network whose numbers, counter included, are drawn from a seed."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    rng = np.random.default_rng(seed)
    model.load_state_dict(
        {
            name: rng.standard_normal(a.shape).astype(a.dtype) if a.ndim else np.array(seed)
            for name, a in model.state_dict().items()
        }
    )
    return model


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def refused(path, message, error=CheckpointError):
    """Loading fails with a message of one sentence and leaves the model as it was."""
    model = net(1)
    before = model.state_dict()
    with pytest.raises(error, match=message) as caught:
        load_weights(model, path)
    assert_same(model.state_dict(), before)
    return caught.value


def records_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def archive_of(records, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def torch_file(path, pickled, storages=(), **others):
    """A file as torch.save lays it out, around a pickle of our choice."""
    records = {"net/data.pkl": pickled}
    records |= {f"net/data/{i}": data for i, data in enumerate(storages)}
    records |= {f"net/{name}": data for name, data in others.items()}
    path.write_bytes(archive_of(records))
    return path


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# Round trips -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_model_gets_back_what_was_saved(tmp_path, ending):
    path = tmp_path / "new" / f"weights.{ending}"
    source, target = net(1), net(2)
    save_weights(source, path)
    parameters = list(target.parameters())
    assert load_weights(target, path) == ([], [])
    assert_same(target.state_dict(), source.state_dict())
    assert all(p is q for p, q in zip(target.parameters(), parameters, strict=True))
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_content_counts_and_not_the_name(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    save_weights(net(1), path)
    disguised = path.rename(tmp_path / "weights.h5")
    target = net(2)
    load_weights(target, disguised)
    assert_same(target.state_dict(), net(1).state_dict())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("ours", "given"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_precision_is_cast_to_the_models(tmp_path, ending, ours, given):
    path = tmp_path / f"weights.{ending}"
    source = net(1).astype(given)
    save_weights(source, path)
    target = net(2).astype(ours)
    load_weights(target, path)
    assert_same(target.state_dict(), source.astype(ours).state_dict())


@pytest.mark.parametrize("pack", [pack_weights, pack_torch_zip])
def test_the_same_weights_give_the_same_bytes(pack):
    assert pack(net(1).state_dict()) == pack(net(1).state_dict())


@pytest.mark.parametrize("pack", [pack_weights, pack_torch_zip])
def test_any_layout_and_byte_order_is_saved(tmp_path, pack):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {
        "turned": array.T,
        "columns": np.asfortranarray(array),
        "every other": array[:, ::-2],
        "one for all": np.broadcast_to(array[0, 0, 0], (2, 2)),
        "other order": array.astype(array.dtype.newbyteorder()),
        "empty": array[:0],
        "scalar": np.array(7),
    }
    path = tmp_path / "weights"
    path.write_bytes(pack(arrays))
    found = read_weights(path)
    assert found.keys() == arrays.keys()
    for name, expected in arrays.items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].shape == expected.shape


def test_half_precision_of_safetensors(tmp_path):
    header = (
        b'{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},'
        b'"b":{"dtype":"BF16","shape":[1,3],"data_offsets":[4,10]}}'
    )
    numbers = np.float16([0.1, -2]).tobytes() + bytes.fromhex("803f 00c0 8040")
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + numbers)
    found = read_weights(path)
    assert_same(found, {"h": np.float16([0.1, -2]), "b": np.float32([[1, -2, 4]])})


def test_a_big_endian_file(tmp_path):
    records = records_of(pack_torch_zip(net(1).state_dict()))
    records["weights/byteorder"] = b"big"
    arrays = net(1).state_dict().values()
    for key, array in enumerate(arrays):
        records[f"weights/data/{key}"] = array.astype(array.dtype.newbyteorder(">")).tobytes()
    path = tmp_path / "big.pth"
    path.write_bytes(archive_of(records))
    assert_same(read_weights(path), net(1).state_dict())
    records["weights/byteorder"] = b"middle"
    path.write_bytes(archive_of(records))
    refused(path, "its byte order is b'middle'")


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "net", "weights"])
def test_wrapped_weights_are_unwrapped(tmp_path, wrapper):
    whole = records_of(pack_torch_zip(net(1).state_dict()))
    inner = whole["weights/data.pkl"][2:-1]
    key = pickle.BINUNICODE + struct.pack("<I", len(wrapper)) + wrapper.encode()
    epoch = pickle.dumps({"epoch": 3, "loss": 0.5, "sizes": [1, (2, None, True)]}, 2)[2:-1]
    whole["weights/data.pkl"] = b"\x80\x02" + epoch + key + inner + pickle.SETITEM + pickle.STOP
    path = tmp_path / "wrapped.pth"
    path.write_bytes(archive_of(whole))
    assert_same(read_weights(path), net(1).state_dict())


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
@pytest.mark.parametrize("pack", [pack_weights, pack_torch_zip])
def test_prefixes_of_wrapping_modules_are_taken_off(tmp_path, pack, prefix):
    path = tmp_path / "weights"
    path.write_bytes(pack({prefix + name: a for name, a in net(1).state_dict().items()}))
    model = net(2)
    load_weights(model, path)
    assert_same(model.state_dict(), net(1).state_dict())


@pytest.mark.parametrize("name", ["module", "_orig_mod"])
def test_a_part_of_that_name_keeps_it(tmp_path, name):
    path = tmp_path / "weights.pth"
    save_weights(nn.ModuleDict({name: net(1)}), path)
    model = nn.ModuleDict({name: net(2)})
    load_weights(model, path)
    assert_same(model[name].state_dict(), net(1).state_dict())


def test_one_name_without_the_prefix_keeps_them_all(tmp_path):
    state = {"module." + name: a for name, a in net(1).state_dict().items()}
    state["epoch"] = np.array(3)
    path = tmp_path / "weights.pth"
    path.write_bytes(pack_torch_zip(state))
    error = refused(path, "8 missing, 10 unexpected", StateDictError)
    assert "module.0.weight" in str(error)


# What does not fit -------------------------------------------------------------------------------


def test_everything_that_does_not_fit_is_reported_at_once(tmp_path):
    state = net(1).state_dict()
    state["head.weight"] = state.pop("0.bias")
    state["3.weight"] = np.zeros((3, 9), np.float32)
    state["3.bias"] = np.zeros(3, np.int64)
    path = tmp_path / "other.pth"
    path.write_bytes(pack_torch_zip(state))
    error = refused(path, r"1 missing, 1 unexpected, 2 mismatched", StateDictError)
    assert error.__notes__ == [f"load_weights: the state is that of {path}."]
    refused(path, "2 mismatched", StateDictError)


def test_not_strict_leaves_the_rest_alone(tmp_path):
    state = net(1).state_dict()
    state["head.weight"] = state.pop("0.bias")
    path = tmp_path / "other.safetensors"
    path.write_bytes(pack_weights(state))
    model = net(2)
    assert load_weights(model, path, strict=False) == (["0.bias"], ["head.weight"])
    expected = net(1).state_dict() | {"0.bias": net(2).state_dict()["0.bias"]}
    assert_same(model.state_dict(), expected)


def test_entries_that_are_no_arrays_are_listed(tmp_path):
    whole = records_of(pack_torch_zip(net(1).state_dict()))
    extra = pickle.dumps({"epoch": 3}, 2)[2:-1]
    items = whole["weights/data.pkl"][3:-1]  # without PROTO, EMPTY_DICT and STOP
    whole["weights/data.pkl"] = b"\x80\x02" + extra + items + pickle.STOP
    path = tmp_path / "extra.pth"
    path.write_bytes(archive_of(whole))
    refused(path, r"1 unexpected\);[^\n]*\n  unexpected: epoch", StateDictError)


# Models without weights --------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_model_without_weights_gets_them(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    source = net(1)
    save_weights(source, path)
    with nn.without_weights():
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    load_weights(model, path)
    assert_same(model.state_dict(), source.state_dict())
    x = minicnn.Tensor(np.random.default_rng(0).standard_normal((4, 1, 4, 4)).astype(np.float32))
    np.testing.assert_array_equal(model(x).array, source(x).array)
    optimizer = minicnn.optim.SGD(model.parameters(), lr=0.1)
    model(x).sum().backward()
    optimizer.step()
    assert not np.array_equal(model[0].weight.array, source[0].weight.array)


def test_a_failed_load_gives_no_memory(tmp_path):
    path = tmp_path / "weights.pth"
    save_weights(nn.Linear(2, 3), path)
    with nn.without_weights():
        model = nn.Linear(2, 4)
    with pytest.raises(StateDictError, match="2 mismatched"):
        load_weights(model, path)
    assert not model.weight.array.flags.writeable


def test_shared_parameters_stay_shared():
    with nn.without_weights():
        layer = nn.Linear(2, 2)
        model = nn.Sequential(layer, layer, nn.Linear(2, 2))
    first = {name: np.ones(a.shape, a.dtype) for name, a in layer.state_dict().items()}
    state = {f"{i}.{name}": a * (i + 1) for i in (0, 1) for name, a in first.items()}
    model.load_state_dict(state, strict=False)
    assert model[0].weight is model[1].weight
    assert (layer.weight.array == 2).all()
    assert not model[2].weight.array.flags.writeable  # missing: left alone


def test_a_model_without_weights_is_not_saved(tmp_path):
    with nn.without_weights():
        model = nn.Linear(2, 2)
    with pytest.raises(ArgumentError, match="weight has no values"):
        save_weights(model, tmp_path / "w.pth")
    assert os.listdir(tmp_path) == []


# Files that cannot be read -----------------------------------------------------------------------


def test_files_that_are_not_there_or_not_files(tmp_path):
    refused(tmp_path / "none.pth", "load_weights: .*none.pth could not be read: No such file")
    refused(tmp_path, "is a folder; pass the path of a file")
    refused("/dev/null", "is a device or pipe") if os.path.exists("/dev/null") else None
    with pytest.raises(CheckpointError, match=r"read_weights: .*none could not be read"):
        read_weights(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n", "begins with .*neither a .safetensors nor a PyTorch file"),
        (b"PK\x03\x04", "its zip archive cannot be read"),
        (pickle.dumps({"a": 1}, 2), r"before version 1\.6, .*weights_only=True"),
        (pickle.dumps({"a": 1}, 4), r"before version 1\.6, .*weights_only=True"),
        (struct.pack("<Q", 2**60) + b"{}", "is not a whole .safetensors file"),
        (archive_of({"a.npy": b""}), "is a zip archive, but not one of torch.save"),
        (archive_of({"a/data.pkl": b"", "b/data.pkl": b""}), "not one of torch.save"),
    ],
)
def test_other_files(tmp_path, content, message):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    error = refused(path, message)
    assert str(error).startswith(f"load_weights: {path} ")
    assert "\n" not in str(error)


def test_another_type_of_safetensors(tmp_path):
    header = b'{"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    refused(path, r"that NumPy can hold: .*F8_E4M3")


@pytest.mark.parametrize(
    "value", [[1, 2], 3, {}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": {"a": 1}}, {1: 2}]
)
def test_pickles_without_weights(tmp_path, value):
    path = torch_file(tmp_path / "w.pth", pickle.dumps(value, 2))
    refused(path, "holds a .*, not weights by name; save them with torch.save")


def test_names_that_are_no_text(tmp_path):
    records = records_of(pack_torch_zip({"5": np.zeros(1)}))
    name = pickle.BINUNICODE + struct.pack("<I", 1) + b"5"
    records["weights/data.pkl"] = records["weights/data.pkl"].replace(name, b"K\x05", 1)
    path = tmp_path / "w.pth"
    path.write_bytes(archive_of(records))
    refused(path, "under the name 5, not a text")


# Pickles that would do something -----------------------------------------------------------------


def marker_calls(marker):
    """Objects whose unpickling creates the file ``marker``."""
    touch, write = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, touch),
        "eval": Call(eval, write),
        "exec": Call(exec, write),
        "open": Call(open, str(marker), "w"),
        "subprocess": Call(subprocess.check_call, ["touch", str(marker)]),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "nested": Call(dict, [("a", Call(os.system, touch))]),
        "in a list": [1, {"state_dict": Call(eval, write)}],
        "path": Call(Path.touch, marker),
    }


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", marker_calls(Path("m")))
def test_nothing_of_a_pickle_is_run(tmp_path, kind, protocol):
    marker = tmp_path / "executed"
    pickled = pickle.dumps(marker_calls(marker)[kind], protocol)
    path = torch_file(tmp_path / "evil.pth", pickled)
    message = "asks for .*not run" if protocol > 1 else "asks for|has the instruction"
    error = refused(path, message)
    assert "\n" not in str(error)
    assert not marker.exists()
    path.write_bytes(pickled)  # bare, as before version 1.6
    refused(path, "load_weights: .*evil.pth")
    assert not marker.exists()


def test_the_pickles_above_do_create_the_file(tmp_path):
    for kind in ("os.system", "eval", "in a list"):
        marker = tmp_path / kind
        pickle.loads(pickle.dumps(marker_calls(marker)[kind]))
        assert marker.exists()


def test_the_refused_global_is_named(tmp_path):
    for function, name in (
        (os.system, f"{os.system.__module__}.system"),
        (eval, "builtins.eval"),
        (shutil.rmtree, "shutil.rmtree"),
    ):
        path = torch_file(tmp_path / "evil.pth", pickle.dumps(Call(function, "x"), 2))
        refused(
            path, f"asks for {name}, which no dictionary of weights needs and which was not run"
        )


ODD_PICKLES = {
    "no STOP": b"\x80\x02}",
    "nothing": b"",
    "STOP alone": b".",
    "unknown instruction": b"\xff.",
    "class instruction": b"(ios\nsystem\n.",
    "object instruction": b"(cos\nsystem\no.",
    "new object": b"ccollections\nOrderedDict\n)\x81.",
    "extension": b"\x82\x01.",
    "call of a dict": b"})R.",
    "call of a text": b"X\x01\x00\x00\x00a)R.",
    "call of a storage class": b"ctorch\nFloatStorage\n)R.",
    "arguments in a list": b"ccollections\nOrderedDict\n]R.",
    "attributes of a list": b"]}b.",
    "attributes of a constructor": b"ccollections\nOrderedDict\n}b.",
    "global without a name": b"K\x01K\x02\x93.",
    "memo that is empty": b"h\x05.",
    "mark that is missing": b"t.",
    "two values of one": b"N\x86.",
    "items of a tuple": b")Na.",
    "entries of a list": b"]NNs.",
    "half an entry": b"}(Nu.",
    "list as a key": b"}]Ns.",
    "deep tuple as a key": b"})" + b"\x85" * 300_000 + b"Ns.",
    "deep list": b"]" + b"]" * 300_000 + b"a" * 300_000 + b".",
    "list in itself": b"]q\x00h\x00a.",
    "text longer than the file": b"X\xff\xff\xff\x7fabc.",
    "longest of texts": b"\x8d" + b"\xff" * 8 + b".",
    "text that is not UTF-8": b"X\x02\x00\x00\x00\xff\xfe.",
    "number without end": b"I" + b"9" * 100_000 + b"\n.",
    "no number": b"Iabc\n.",
    "long error": b"I" + b"x" * 10**6 + b"\n.",
    "global with a line break": b"\x8c\x02o\ns\x8c\x06system\x93.",
    "long global": b"c" + b"o" * 10**6 + b"\nsystem\n.",
    "far place in the memo": b"Nr\xff\xff\xff\xff.",
    "persistent id of a number": b"K\x01Q.",
    "persistent text": b"Pabc\n.",
    "out of band": b"\x97.",
}


@pytest.mark.parametrize("name", ODD_PICKLES)
def test_odd_pickles(tmp_path, name):
    error = refused(torch_file(tmp_path / "odd.pth", ODD_PICKLES[name]), "load_weights: ")
    assert "\n" not in str(error)
    assert len(str(error)) < 600 + len(str(tmp_path))


# Tensors that reach outside their storage --------------------------------------------------------


def pickled_tensor(kind="Float", key="0", count=6, offset=0, size=(2, 3), stride=(3, 1)):
    """The pickle of ``{"w": tensor}``, numbers as given."""

    def plain(value):
        return pickle.dumps(value, 2)[2:-1]

    storage = [plain("storage"), f"ctorch\n{kind}Storage\n".encode(), plain(key), plain("cpu")]
    reference = b"(" + b"".join([*storage, plain(count)]) + b"tQ"
    arguments = [reference, *map(plain, (offset, size, stride)), b"\x89N"]
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"".join(arguments) + b"tR"
    return b"\x80\x02}" + plain("w") + call + b"s."


NUMBERS = np.arange(6, dtype="<f4")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, NUMBERS.reshape(2, 3)),
        ({"size": (3, 2), "stride": (1, 3)}, NUMBERS.reshape(2, 3).T),
        ({"size": (2,), "stride": (2,), "offset": 1}, NUMBERS[1:5:2]),
        ({"size": (), "stride": (), "offset": 5}, NUMBERS[5]),
        ({"size": (4, 2), "stride": (0, 1)}, np.broadcast_to(NUMBERS[:2], (4, 2))),
        ({"size": (0, 5), "stride": (5, 1)}, np.zeros((0, 5), np.float32)),
        ({"size": (1, 6), "stride": (10**30, 1)}, NUMBERS[None]),
        ({"count": 4, "size": (4,), "stride": (1,)}, NUMBERS[:4]),
    ],
)
def test_views_of_a_storage(tmp_path, changes, expected):
    path = torch_file(tmp_path / "w.pth", pickled_tensor(**changes), [NUMBERS.tobytes()])
    found = read_weights(path)["w"]
    np.testing.assert_array_equal(found, expected)
    assert found.shape == expected.shape
    assert not found.size or not found.flags.writeable


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**70},
        {"offset": True},
        {"offset": 0.0},
        {"size": (2, 4)},
        {"size": (-2, -3)},
        {"size": (2**62, 2**62), "stride": (0, 0)},
        {"size": (0, 2**62, 2**62), "stride": (0, 0, 0)},
        {"size": (2**70,), "stride": (0,)},
        {"size": (1,) * 100, "stride": (1,) * 100},
        {"stride": (3, -1)},
        {"stride": (2**62, 1)},
        {"stride": (3,)},
        {"size": [2, 3]},
        {"size": None},
        {"size": ("2", 3)},
        {"count": 7},
        {"count": -1},
        {"count": 2**80},
        {"count": None},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"key": 0.5},
        {"key": None},
        {"kind": "Double"},
    ],
)
def test_tensors_that_cannot_be(tmp_path, changes):
    path = torch_file(tmp_path / "w.pth", pickled_tensor(**changes), [NUMBERS.tobytes()])
    refused(path, "is damaged: its pickle cannot be read")


def test_an_expanded_tensor_takes_no_memory(tmp_path):
    """A shape of 2^50 numbers costs nothing; only a model of that shape could ask for them."""
    pickled = pickled_tensor(size=(2**25, 2**25), stride=(0, 0))
    path = torch_file(tmp_path / "w.pth", pickled, [NUMBERS.tobytes()])
    assert read_weights(path)["w"].shape == (2**25, 2**25)
    refused(path, "1 unexpected", StateDictError)


# Archives that claim too much --------------------------------------------------------------------


def test_compressed_records_are_refused(tmp_path):
    records = records_of(pack_torch_zip({"w": np.zeros(10**6, np.float32)}))
    path = tmp_path / "bomb.pth"
    path.write_bytes(archive_of(records, zipfile.ZIP_DEFLATED))
    refused(path, "records claim more than its")
    records["weights/data/0"] = np.random.default_rng(0).bytes(4 * 10**6)
    path.write_bytes(archive_of(records, zipfile.ZIP_DEFLATED))
    refused(path, r"has a compressed record \('weights/data.pkl'\)")


def test_records_of_one_name_and_of_one_place_are_refused(tmp_path):
    path = tmp_path / "twice.pth"
    records = records_of(pack_torch_zip(net(1).state_dict()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO(archive_of(records))
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("weights/data/0", b"")
    path.write_bytes(buffer.getvalue())
    refused(path, "or the same name")
    # the directory has a thousand entries, all for the same bytes
    big = zipfile.ZipInfo("net/data.pkl")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(big, bytes(10**5))
        for i in range(1000):
            archive.filelist.append(entry := zipfile.ZipInfo(f"net/data/{i}"))
            entry.file_size = entry.compress_size = big.file_size
            entry.CRC, entry.header_offset = big.CRC, big.header_offset
    path.write_bytes(buffer.getvalue())
    refused(path, "records claim more than its")


def test_an_encrypted_record(tmp_path):
    data = bytearray(pack_torch_zip({"w": np.zeros(1)}))
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1  # the flag of the first entry
    path = tmp_path / "locked.pth"
    path.write_bytes(data)
    refused(path, "zip archive cannot be read .*password")


# Damage of any kind ------------------------------------------------------------------------------


def whole_file(ending):
    state = net(1).state_dict()
    return pack_weights(state) if ending == "safetensors" else pack_torch_zip(state)


def same_or_refused(path, data):
    """The file's numbers, all of them, or a MiniCNNError and the model as it was."""
    path.write_bytes(data)
    model = net(2)
    before = model.state_dict()
    try:
        load_weights(model, path)
    except MiniCNNError:
        assert_same(model.state_dict(), before)
        return False
    assert_same(model.state_dict(), net(1).state_dict())
    return True


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, ending):
    whole = whole_file(ending)
    path = tmp_path / "short"
    assert same_or_refused(path, whole)
    for length in range(0, len(whole), 7 if len(whole) > 2000 else 1):
        assert not same_or_refused(path, whole[:length]), length


# The format .safetensors has no checksum: in its numbers a flipped bit is another number.
def damageable(ending, whole):
    return 8 + struct.unpack("<Q", whole[:8])[0] if ending == "safetensors" else len(whole)


@settings(max_examples=300)
@given(data=st.data())
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_flipped_bits_never_load_other_numbers(tmp_path_factory, ending, data):
    whole = bytearray(whole_file(ending))
    places = st.integers(0, damageable(ending, whole) - 1)
    for place, bits in data.draw(
        st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=3)
    ):
        whole[place] ^= bits
    same_or_refused(tmp_path_factory.getbasetemp() / "flipped", bytes(whole))


@settings(max_examples=200)
@given(data=st.data())
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_junk_in_the_middle(tmp_path_factory, ending, data):
    whole = whole_file(ending)
    place = data.draw(st.integers(0, damageable(ending, whole)))
    junk, skip = data.draw(st.binary(min_size=1, max_size=40)), data.draw(st.integers(0, 40))
    changed = whole[:place] + junk + whole[place + skip :]
    path = tmp_path_factory.getbasetemp() / "junk"
    if changed != whole and ending == "pth":
        same_or_refused(path, changed)
    else:  # may move numbers into the place of others
        path.write_bytes(changed)
        with contextlib.suppress(MiniCNNError):
            assert isinstance(read_weights(path), dict)


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_pickle_whose_checksum_is_right(tmp_path_factory, data):
    """As a forger would write it: any bytes, well packed."""
    records = records_of(whole_file("pth"))
    pickled = bytearray(records["weights/data.pkl"])
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(pickled) - 1), st.integers(0, 255)), max_size=4)
    ):
        pickled[place] = byte
    records["weights/data.pkl"] = bytes(pickled)
    path = tmp_path_factory.getbasetemp() / "forged"
    path.write_bytes(archive_of(records))
    model = net(2)
    before = model.state_dict()
    try:
        load_weights(model, path)
    except MiniCNNError:
        assert_same(model.state_dict(), before)


# Writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, ending, call):
    path = tmp_path / f"weights.{ending}"
    save_weights(net(1), path)

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(CheckpointError, match=r"No space left.*that was there is untouched"):
            save_weights(net(2), path)
    assert_same(read_weights(path), net(1).state_dict())
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("name", "hint"), [("w", "'nothing'"), ("w.npz", "'.npz'")])
def test_another_ending_is_refused(tmp_path, name, hint):
    with pytest.raises(ArgumentError, match=f"ends in {hint}; .*choose .safetensors, .pth, .pt"):
        save_weights(net(), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_type_that_pytorch_does_not_have(tmp_path):
    model = nn.Sequential()
    model.register_buffer("long", np.zeros(2, np.clongdouble))
    with pytest.raises(DTypeError, match="save_weights: long is complex256"):
        save_weights(model, tmp_path / "w.pth")


# Importing ---------------------------------------------------------------------------------------


def test_importing_minicnn_leaves_interop_for_later():
    code = (
        "import sys, minicnn; assert 'minicnn.interop' not in sys.modules;"
        "assert {'interop', 'load_weights'} <= set(dir(minicnn));"
        "assert minicnn.load_weights is minicnn.interop.load_weights;"
        "print(not {'torch', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_other_attributes_are_still_missing():
    with pytest.raises(AttributeError, match="module 'minicnn' has no attribute 'load_weight'"):
        minicnn.load_weight  # noqa: B018


def test_endings_in_capitals_and_a_name_in_place_of_a_model(tmp_path):
    source = net(1)
    for name in "A.PTH", "b.Pt", "c.SafeTensors":
        save_weights(source, tmp_path / name)
        assert not load_weights(net(2), tmp_path / name).missing_keys
    for function in save_weights, load_weights:
        with pytest.raises(ArgumentError, match=rf"{function.__name__}: model is 'lenet5', not a"):
            function("lenet5", tmp_path / "A.PTH")
