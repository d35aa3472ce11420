"""Sequential, ModuleList and ModuleDict."""

from collections import OrderedDict

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.errors import ArgumentError


@pytest.fixture(autouse=True)
def numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def names(module):
    return [name for name, _ in module.named_children()]


def test_a_chain_runs_in_order():
    net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    x = minicnn.tensor(np.arange(-4, 4, dtype=np.float32).reshape(2, 1, 2, 2))
    np.testing.assert_array_equal(net(x).array, net[2](x.relu().flatten(1)).array)
    assert nn.Sequential()(x) is x


def test_a_chain_with_names():
    net = nn.Sequential(OrderedDict(body=nn.Linear(2, 3), act=nn.ReLU()))
    assert names(net) == ["body", "act"]
    assert net.act is net[1]
    assert list(net.state_dict()) == ["body.weight", "body.bias"]
    assert names(net.append(nn.ReLU())) == ["body", "act", "2"]


def test_indexing_slicing_and_iterating():
    layers = [nn.Linear(1, 1) for _ in range(4)]
    net = nn.Sequential(*layers)
    assert len(net) == 4
    assert list(net) == layers
    assert net[-1] is layers[3]
    part = net[1:3]
    assert isinstance(part, nn.Sequential)
    assert list(part) == layers[1:3]
    assert names(part) == ["1", "2"]
    part.append(nn.ReLU())
    assert names(part) == ["1", "2", "3"]
    assert names(net) == ["0", "1", "2", "3"]
    with pytest.raises(IndexError, match=r"Sequential: no module 4; it has 4, numbered from 0"):
        net[4]


def test_replacing_and_deleting():
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    net[-1] = head = nn.Linear(1, 7)
    assert net[2] is head
    del net[1]
    assert names(net) == ["0", "1"]
    assert net[1] is head
    del net[:]
    assert len(net) == 0
    named = nn.Sequential({"a": nn.ReLU(), "b": nn.ReLU()})
    del named[0]
    assert names(named) == ["b"]


def test_deleting_while_looping_over_a_copy():
    net = nn.Sequential(nn.ReLU(), nn.Tanh())
    for _ in net:
        del net[0]
    assert len(net) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.Sequential(nn.ReLU),
            r"Sequential: '0' must be a Module, not the class ReLU; w",
        ),
        (
            lambda: nn.Sequential(nn.ReLU(), abs),
            r"Sequential: '1' must be a Module, not builtin_fu",
        ),
        (
            lambda: nn.Sequential([nn.ReLU()]),
            r"Sequential: '0' must be a Module, not list; give mo",
        ),
        (lambda: nn.ModuleList([None]), r"ModuleList: '0' must be a Module, not NoneType"),
        (lambda: nn.ModuleDict({"a": 1}), r"ModuleDict: 'a' must be a Module, not int"),
        (lambda: nn.ModuleDict({"keys": nn.ReLU()}), r"'keys' cannot name a module, because the c"),
    ],
)
def test_what_is_no_module(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_module_list_registers():
    blocks = nn.ModuleList([nn.Linear(1, 1)])
    assert blocks.append(nn.Linear(1, 1)) is blocks
    blocks.extend(nn.Linear(1, 1) for _ in range(2))
    assert [name for name, _ in blocks.named_parameters()][-1] == "3.bias"
    assert names(blocks[2:]) == ["0", "1"]
    assert isinstance(blocks[2:], nn.ModuleList)
    assert len(blocks) == 4


def test_a_list_extended_by_itself_ends():
    blocks = nn.ModuleList([nn.ReLU()])
    blocks.extend(blocks)
    assert len(blocks) == 2


def test_a_module_dict_is_a_dict():
    heads = nn.ModuleDict([("a", nn.ReLU()), ("b", nn.Tanh())])
    heads["c"] = nn.Identity()
    assert list(heads) == list(heads.keys()) == ["a", "b", "c"]
    assert len(heads) == 3
    assert "a" in heads
    assert "z" not in heads
    assert list(heads.values()) == [heads["a"], heads["b"], heads["c"]]
    assert dict(heads.items())["b"] is heads.b
    del heads["a"]
    heads.update({"b": nn.ReLU()})
    assert names(heads) == ["b", "c"]
    assert isinstance(heads["b"], nn.ReLU)
    for missing in (lambda: heads["cc"], lambda: heads.__delitem__("cc")):
        with pytest.raises(KeyError, match=r"no module 'cc'; did you mean 'c'\? it has b, c"):
            missing()
