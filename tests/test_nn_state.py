"""State dicts: keys, copies, and one error for all that does not fit."""

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.errors import DeviceError, MiniCNNError, StateDictError


@pytest.fixture(autouse=True)
def numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def net():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.BatchNorm2d(6),
        nn.Sequential(nn.ReLU(), nn.Flatten()),
        nn.Linear(24, 10, bias=False),
    )


def test_keys_shapes_and_dtypes_equal_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5),
        torch.nn.BatchNorm2d(6),
        torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten()),
        torch.nn.Linear(24, 10, bias=False),
    ).state_dict()
    ours = net().state_dict()
    assert [(k, v.shape, v.dtype) for k, v in ours.items()] == [
        (k, tuple(v.shape), v.numpy().dtype) for k, v in theirs.items()
    ]


def test_a_state_is_a_copy():
    model = net()
    state = model.state_dict()
    state["0.weight"][...] = 7
    state["1.num_batches_tracked"] += 1
    assert not (model[0].weight.array == 7).any()
    assert model[1].num_batches_tracked == 0


def test_round_trip_in_place():
    source, target = net(), net()
    source(minicnn.tensor(np.random.default_rng(0).normal(size=(3, 1, 6, 6)), np.float32))
    parameters = [(p, p.array) for p in target.parameters()]
    keys = target.load_state_dict(source.state_dict())
    assert keys == ([], [])
    for name, array in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], array)
    assert all(p.array is array for p, array in parameters)
    assert all(p is q for p, (q, _) in zip(target.parameters(), parameters, strict=True))


def test_loading_does_not_keep_the_arrays():
    model = net()
    state = model.state_dict()
    model.load_state_dict(state)
    state["1.running_mean"] += 1
    state["0.weight"][...] = 7
    assert not model[1].running_mean.any()
    assert not (model[0].weight.array == 7).any()


@pytest.mark.parametrize(("ours", "given"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_precision_is_cast_to_the_modules(ours, given):
    model = net().astype(ours)
    state = net().astype(given).state_dict()
    model.load_state_dict(state)
    assert model[0].weight.dtype == ours
    np.testing.assert_array_equal(model[0].weight.array, state["0.weight"].astype(ours))


def test_tensors_are_accepted():
    layer = nn.Linear(2, 2, bias=False)
    layer.load_state_dict({"weight": minicnn.tensor([[1.0, 2.0], [3.0, 4.0]])})
    assert layer.weight.array.tolist() == [[1, 2], [3, 4]]


def test_one_error_lists_everything_and_changes_nothing():
    model = net()
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    del state["0.bias"], state["1.weight"]
    state["head.weight"] = state["head.bias"] = np.zeros(1)
    state["3.weight"] = np.zeros((10, 25), np.float32)
    state["1.bias"] = np.zeros(6, np.int64)
    state["1.running_mean"] = [0.0] * 6
    with pytest.raises(StateDictError) as caught:
        model.load_state_dict(state)
    head, *lines = str(caught.value).splitlines()
    assert head == (
        "load_state_dict: the state does not fit Sequential (2 missing, 2 unexpected, 3 mismatched)"
        "; build the module that it was saved from, or pass strict=False to leave missing and "
        "unexpected entries alone."
    )
    assert lines == [
        "  missing: 0.bias; 1.weight",
        "  unexpected: head.weight; head.bias",
        "  mismatched: 1.bias is (6,) int64 in the state, (6,) float32 in the module; "
        "1.running_mean is a list in the state, (6,) float32 in the module; "
        "3.weight is (10, 25) float32 in the state, (10, 24) float32 in the module",
    ]
    assert isinstance(caught.value, (MiniCNNError, KeyError))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_not_strict_leaves_the_rest_alone_and_returns_it():
    model = net()
    state = model.state_dict()
    bias = state.pop("0.bias")
    state["extra"] = bias
    state["0.weight"] = np.full_like(state["0.weight"], 2)
    keys = model.load_state_dict(state, strict=False)
    assert keys.missing_keys == ["0.bias"]
    assert keys.unexpected_keys == ["extra"]
    assert (model[0].weight.array == 2).all()
    np.testing.assert_array_equal(model[0].bias.array, bias)


def test_not_strict_still_refuses_other_shapes():
    model = net()
    with pytest.raises(
        StateDictError, match=r"1 mismatched\); build the module that it was saved f"
    ) as e:
        model.load_state_dict({"0.bias": np.zeros(7, np.float32)}, strict=False)
    assert "strict=False" not in str(e.value)
    assert "missing" not in str(e.value)


def test_the_batch_counter_may_be_missing():
    model = net()
    model[1].num_batches_tracked = np.array(5)
    state = model.state_dict()
    del state["1.num_batches_tracked"]
    assert model.load_state_dict(state) == ([], [])
    assert model[1].num_batches_tracked == 5


def test_a_state_must_be_a_mapping():
    with pytest.raises(StateDictError, match="the state is a list; pass a dict of arrays"):
        net().load_state_dict([np.zeros(1)])


def test_shared_parameters_load_under_both_names():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, layer)
    state = {name: np.ones_like(a) for name, a in model.state_dict().items()}
    model.load_state_dict(state)
    assert (layer.weight.array == 1).all()


def test_an_array_of_another_library_changes_nothing():
    class Foreign:
        shape, dtype, astype = (10, 24), np.dtype(np.float32), None

    model = net()
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()} | {"3.weight": Foreign()}
    with pytest.raises(DeviceError, match="convert it to NumPy"):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_parameters_without_memory_get_it():
    with nn.without_weights():
        model = net()
    before = [(p, p.array) for p in model.parameters()]
    state = net().state_dict()
    model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert all(p.array is not old for p, old in before)
    assert not any(np.shares_memory(p.array, a) for p, _ in before for a in state.values())


def test_a_state_dict_of_torch_is_taken_as_it_is():
    torch = pytest.importorskip("torch")
    ours = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    theirs = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    ours.load_state_dict(theirs.state_dict())
    for name, array in ours.state_dict().items():
        assert np.array_equal(array, theirs.state_dict()[name].numpy())
    half = {name: t.to(torch.bfloat16) for name, t in theirs.state_dict().items()}
    with pytest.raises(StateDictError, match=r"0\.bias is a Tensor in the state"):
        ours.load_state_dict(half)
