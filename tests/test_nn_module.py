"""What `nn.Module` keeps: parameters, buffers and parts."""

import copy
import pickle

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.errors import (
    ArgumentError,
    BackendError,
    DeviceError,
    DTypeError,
    MiniCNNError,
)


@pytest.fixture(autouse=True)
def numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


class Net(nn.Module):
    """A small network with everything: parts in parts, an own parameter, buffers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU())
        self.scale = nn.Parameter(np.ones(1, np.float32))
        self.fc = nn.Linear(8, 3)
        self.register_buffer("offset", np.zeros(3, np.float32))

    def forward(self, x):
        return self.fc(self.features(x).flatten(1)) * self.scale + self.offset


def batch(dtype=np.float32):
    return minicnn.tensor(np.random.default_rng(0).normal(size=(4, 1, 4, 4)).astype(dtype))


# -- registration


def test_assigning_registers_in_order():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale",
        "features.0.weight",
        "features.1.weight",
        "features.1.bias",
        "fc.weight",
        "fc.bias",
    ]
    assert [name for name, _ in net.named_buffers()] == [
        "offset",
        "features.1.running_mean",
        "features.1.running_var",
        "features.1.num_batches_tracked",
    ]
    assert [name for name, _ in net.named_modules()] == [
        "",
        "features",
        "features.0",
        "features.1",
        "features.2",
        "fc",
    ]
    assert [name for name, _ in net.named_children()] == ["features", "fc"]
    assert list(net.children()) == [net.features, net.fc]
    assert list(net.parameters(recurse=False)) == [net.scale]
    assert [b.tolist() for b in net.buffers(recurse=False)] == [[0, 0, 0]]
    assert [name for name, _ in net.fc.named_parameters(prefix="head")] == [
        "head.weight",
        "head.bias",
    ]


def test_num_parameters_counts_shared_ones_once():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert net.num_parameters() == 2 * 20
    net[1].weight = net[0].weight
    assert net.num_parameters() == 20 + 4


def test_shared_modules_and_parameters_come_once_but_have_two_keys():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(net.parameters())) == 2
    assert [name for name, _ in net.named_modules()] == ["", "0", "1"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_assigned_arrays_stay_buffers_and_are_copied():
    module = nn.Module()
    start = np.zeros(2)
    module.register_buffer("mean", start)
    module.mean += 1
    assert start.tolist() == [0, 0]
    given = np.full(2, 5.0)
    module.mean = given
    given[0] = 0
    assert [(name, b.tolist()) for name, b in module.named_buffers()] == [("mean", [5, 5])]
    module.mean = np.float64(3)
    assert module.mean.shape == ()
    module.mean = None
    assert list(module.named_buffers()) == []
    module.mean = np.ones(1)
    assert "mean" in module.state_dict()
    with pytest.raises(
        ArgumentError, match=r"Module.mean: a buffer holds an array or None, not a l"
    ):
        module.mean = [1.0]


def test_none_keeps_the_place_of_a_parameter():
    layer = nn.Linear(2, 3)
    layer.weight, weight = None, layer.weight
    assert list(layer.state_dict()) == ["bias"]
    layer.weight = weight
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert nn.Linear(2, 3, bias=False).bias is None


def test_a_name_changes_its_kind_with_what_is_assigned():
    module = nn.Module()
    module.thing = 3
    module.thing = nn.ReLU()
    assert list(module.named_children()) == [("thing", module.thing)]
    module.thing = nn.Parameter([1.0])
    assert not list(module.named_children())
    assert len(list(module.parameters())) == 1
    module.register_buffer("thing", np.zeros(1))
    assert not list(module.parameters())
    assert "thing" not in vars(module)


def test_deleting_attributes():
    net = Net()
    net.note = "plain"
    for name in ("fc", "scale", "offset", "note"):
        delattr(net, name)
        assert not hasattr(net, name)
    assert not any(key.startswith(("fc", "scale", "offset")) for key in net.state_dict())
    with pytest.raises(AttributeError, match="missing"):
        del net.missing


def test_names_are_offered_for_completion():
    assert {"features", "scale", "offset", "forward"} <= set(dir(Net()))


def test_a_module_can_be_replaced_by_another():
    net = Net()
    net.fc = nn.Identity()
    assert [name for name, _ in net.named_children()] == ["features", "fc"]
    net.fc = None
    assert [name for name, _ in net.named_modules()] == [
        "",
        "features",
        "features.0",
        "features.1",
        "features.2",
    ]
    assert "fc" not in repr(net)


# -- mistakes


def test_unknown_attributes_name_the_nearest():
    with pytest.raises(
        AttributeError, match=r"Net has no attribute 'featurs'; did you mean 'featu"
    ):
        _ = Net().featurs
    with pytest.raises(AttributeError, match=r"Net has no attribute 'qqqqqq'$"):
        _ = Net().qqqqqq
    assert not hasattr(Net(), "qqqqqq")


def test_a_failing_property_shows_its_own_error():
    class Broken(nn.Module):
        @property
        def width(self):
            return {}.missing

    with pytest.raises(AttributeError, match="'dict' object has no attribute 'missing'"):
        _ = Broken().width


@pytest.mark.parametrize("value", [nn.Parameter([1.0]), nn.ReLU()])
def test_forgetting_super_init_is_explained(value):
    class Forgetful(nn.Module):
        def __init__(self):
            self.count = 3
            self.part = value

    with pytest.raises(
        AttributeError, match=r"Forgetful.part: .* call super\(\).__init__\(\) first"
    ):
        Forgetful()


def test_forgetting_super_init_shows_at_the_call_at_the_latest():
    class Forgetful(nn.Module):
        def __init__(self):
            pass

        def forward(self, x):
            return x

    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\) first"):
        Forgetful()(1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weight", 3, r"Linear.weight: must be a Parameter, not int; assign None or delete"),
        ("weight", np.zeros(1), r"Linear.weight: must be a Parameter, not ndarray"),
        ("train", nn.ReLU(), r"Linear: 'train' cannot name a module, because the class has"),
        ("forward", nn.Parameter([1.0]), r"Linear: 'forward' cannot name a parameter, because"),
        ("a.b", nn.ReLU(), r"Linear: 'a.b' cannot name a module; use a string without dots"),
    ],
)
def test_what_cannot_be_assigned(name, value, message):
    with pytest.raises(ArgumentError, match=message):
        setattr(nn.Linear(1, 1), name, value)


def test_registering_the_wrong_kind():
    module = nn.Module()
    with pytest.raises(
        ArgumentError, match=r"Module.a: must be a Module, not the class ReLU; write"
    ):
        module.add_module("a", nn.ReLU)
    with pytest.raises(ArgumentError, match=r"Module.a: must be a Parameter, not Tensor"):
        module.register_parameter("a", minicnn.tensor([1.0]))
    with pytest.raises(ArgumentError, match=r"Module: '' cannot name a buffer"):
        module.register_buffer("", np.zeros(1))


def test_a_module_cannot_hold_itself():
    net = Net()
    with pytest.raises(ArgumentError, match="a module cannot be a part of itself"):
        net.features.parent = net


def test_get_submodule():
    net = Net()
    assert net.get_submodule("features.1") is net.features[1]
    assert net.get_submodule("") is net
    with pytest.raises(
        ArgumentError, match=r"no part 'feature.1'; did you mean 'features.1'\? it h"
    ):
        net.get_submodule("feature.1")


def test_no_forward():
    with pytest.raises(NotImplementedError, match=r"ModuleList has no forward\(\); define it"):
        nn.ModuleList([nn.ReLU()])(1)


# -- changing all parts


def test_train_and_eval_reach_all_parts():
    net = Net()
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.features.train()
    assert net.features[1].training
    assert not net.training


def test_zero_grad_and_requires_grad():
    net = Net()
    net(batch()).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert net.features.requires_grad_(False) is net.features
    net(batch()).sum().backward()
    with_gradient = [name for name, p in net.named_parameters() if p.grad is not None]
    assert with_gradient == ["scale", "fc.weight", "fc.bias"]


def test_apply_visits_children_first():
    seen = []
    net = Net()
    assert net.apply(seen.append) is net
    assert seen == [*net.features, net.features, net.fc, net]


def test_astype_converts_parameters_and_floating_buffers_in_place():
    net = Net()
    parameters = list(net.parameters())
    net(batch()).sum().backward()
    assert net.astype(np.float64) is net
    assert all(p.dtype == np.float64 and p.grad is None for p in parameters)
    assert net.offset.dtype == np.float64
    assert net.features[1].num_batches_tracked.dtype == np.int64
    assert net(batch(np.float64)).dtype == np.float64
    with pytest.raises(DTypeError, match="astype: int32 is not a floating-point type"):
        net.astype(np.int32)


def test_to_a_device():
    net = Net()
    arrays = [p.array for p in net.parameters()]
    assert net.to("cpu") is net
    assert all(p.array is a for p, a in zip(net.parameters(), arrays, strict=True))
    with pytest.raises(DeviceError, match=r"to: unknown device 'cudo'; did you mean 'cuda'\?"):
        net.to("cudo")


def test_to_cuda_without_a_gpu_changes_nothing():
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount():
            pytest.skip("this machine has a GPU")
    except ImportError:
        pass
    net = Net()
    with pytest.raises(BackendError):
        net.to("cuda")
    assert all(isinstance(p.array, np.ndarray) for p in net.parameters())


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_independent_and_equal(twin):
    net = Net()
    net(batch())
    other = twin(net.eval())
    assert not other.training
    assert list(other.state_dict()) == list(net.state_dict())
    np.testing.assert_array_equal(other(batch()).array, net(batch()).array)
    next(other.parameters()).array += 1
    other.offset += 1
    assert next(net.parameters()).array.item() == 1
    assert not net.offset.any()


def test_a_copy_keeps_sharing():
    layer = nn.Linear(2, 2)
    other = copy.deepcopy(nn.Sequential(layer, layer))
    assert other[0] is other[1]


# -- printing


def test_repr_nests():
    class Scaled(nn.Sequential):
        def extra_repr(self):
            return "scale=2"

    net = nn.Sequential(nn.Linear(2, 3), Scaled(nn.ReLU()), nn.Sequential())
    assert repr(net) == "\n".join(
        [
            "Sequential(",
            "  (0): Linear(2, 3)",
            "  (1): Scaled(",
            "    scale=2",
            "    (0): ReLU()",
            "  )",
            "  (2): Sequential()",
            ")",
        ]
    )


def test_every_error_is_a_minicnn_error_too():
    assert issubclass(ArgumentError, MiniCNNError)
    with pytest.raises(MiniCNNError):
        nn.Conv2d(0, 1, 1)
