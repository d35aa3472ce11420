"""Optimizers refuse settings and states that cannot work, and say what to do."""

import math

import numpy as np
import pytest

import minicnn
from minicnn import nn, optim
from minicnn.errors import ArgumentError, MiniCNNError, StateDictError

SHAPES = ((4, 3), (5,), ())


@pytest.fixture(autouse=True)
def numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def parameters():
    return [nn.Parameter(np.ones(shape)) for shape in SHAPES]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: optim.SGD([]),
            r"SGD: the list of parameters of group 0 is empty; pass model.par",
        ),
        (
            lambda p: optim.SGD(nn.Linear(1, 1)),
            r"SGD: params is a Linear; pass model.parameters\(\)",
        ),
        (lambda p: optim.SGD(p[0]), r"SGD: params is a Parameter; pass a list of parameters"),
        (lambda p: optim.SGD(3), r"SGD: params is a int; pass a list"),
        (lambda p: optim.SGD({"params": p}), r"SGD: params is one dict; pass a list of groups"),
        (
            lambda p: optim.SGD(nn.Linear(1, 1).named_parameters()),
            r"SGD: parameter 0 of group 0 is a tuple, not a Parameter",
        ),
        (
            lambda p: optim.SGD([minicnn.tensor([1.0])]),
            r"is a Tensor, not a Parameter; pass model.p",
        ),
        (
            lambda p: optim.SGD([p[0], p[0]]),
            r"parameter 1 of group 0, of shape \(4, 3\), is listed tw",
        ),
        (
            lambda p: optim.SGD([{"params": p}, {"params": p[1:2]}]),
            r"parameter 0 of group 1, of sh",
        ),
        (lambda p: optim.SGD([{"lr": 1.0}]), r"SGD: group 0 lacks 'params'"),
        (
            lambda p: optim.SGD([{"params": p, "momentun": 1}]),
            r"group 0 sets 'momentun'; did you mean 'momentum'\? the hyperparameters are lr, mom",
        ),
        (lambda p: optim.SGD(p, lr=-1), r"SGD: lr is -1; give a number >= 0"),
        (lambda p: optim.SGD(p, lr=math.nan), r"SGD: lr is nan; give a number >= 0"),
        (lambda p: optim.SGD(p, lr="0.1"), r"SGD: lr is '0.1'; give a number >= 0"),
        (lambda p: optim.SGD(p, momentum=-0.1), r"SGD: momentum is -0.1"),
        (lambda p: optim.SGD(p, weight_decay=True), r"SGD: weight_decay is True"),
        (
            lambda p: optim.SGD(p, nesterov=True),
            r"nesterov=True with momentum=0.0 and dampening=0.0;",
        ),
        (
            lambda p: optim.SGD(p, 1, 0.9, 0.1, 0, True),
            r"nesterov=True with momentum=0.9 and dampen",
        ),
        (lambda p: optim.SGD([{"params": p, "lr": -2}]), r"SGD: lr is -2"),
        (lambda p: optim.Adam(p, betas=0.9), r"Adam: betas is 0.9; give a pair"),
        (
            lambda p: optim.AdamW(p, betas=(0.9, 1)),
            r"AdamW: betas\[1\] is 1; give a number >= 0 and <",
        ),
        (lambda p: optim.RMSprop(p, alpha=1), r"RMSprop: alpha is 1; give a number >= 0 and <"),
        (lambda p: optim.RMSprop(p, momentum=-1), r"RMSprop: momentum is -1"),
        (lambda p: optim.Adam(p, eps=-1), r"Adam: eps is -1"),
        (lambda p: optim.AdamW(p, weight_decay=-1), r"AdamW: weight_decay is -1"),
    ],
)
def test_mistakes_in_settings(make, message):
    with pytest.raises(ArgumentError, match=message):
        make(parameters())


def test_a_refused_group_is_not_added():
    params = parameters()
    optimizer = optim.SGD(params[:1])
    with pytest.raises(ArgumentError):
        optimizer.add_param_group({"params": [params[1], params[0]]})
    assert len(optimizer.param_groups) == 1


def test_one_error_lists_all_that_does_not_fit_and_changes_nothing():
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    for p in params:
        p.grad = np.ones(p.shape)
    optimizer.step()
    state = optimizer.state_dict()
    held = {p: dict(entry) for p, entry in optimizer.state.items()}
    state["groups"][0].update(lr=-1.0, params=[0, 1])
    state["state"]["0"]["m"] = np.zeros((3, 4))
    state["state"]["1"]["v"] = np.zeros(5, np.int64)
    state["state"]["1"]["step"] = -1
    state["state"]["2"] = {"velocity": np.zeros(())}
    state["state"]["9"] = {}
    with pytest.raises(StateDictError) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "Adam.load_state_dict: the state does not fit (7 mismatched); make the optimizer with the "
        "same parameters in the same groups.",
        "  group 0: 2 parameters in the state, 3 in the optimizer",
        "  group 0: Adam: lr is -1.0; give a number >= 0.",
        "  parameter 0: m is (3, 4) in the state, but the parameter is (4, 3)",
        "  parameter 1: v is not an array of floating-point numbers",
        "  parameter 1: step is -1, not a count",
        "  parameter 2: the state holds velocity, expected: m, step, v",
        "  state of parameter 9, but there are 3 parameters",
    ]
    assert optimizer.param_groups[0]["lr"] == 0.1
    for p, entry in held.items():
        assert all(optimizer.state[p][name] is value for name, value in entry.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["groups"].append(s["groups"][0]), "2 groups in the state, 1 in the optimizer"),
        (lambda s: s["groups"][0].pop("lr"), "group 0: hyperparameters that only one side has: lr"),
        (lambda s: s["groups"][0].update(betas=1), "that only one side has: betas"),
        (lambda s: s.pop("state"), "the state must be a dict with 'groups', a list of dicts, and"),
        (lambda s: s.update(groups=None), "'groups', a list of dicts"),
        (lambda s: s.update(groups=[None]), "'groups', a list of dicts"),
        (lambda s: s.update(state=[]), "'state', a dict of dicts"),
        (lambda s: s["state"].update({"0": None}), "'state', a dict of dicts"),
    ],
)
def test_states_of_another_form(change, message):
    optimizer = optim.SGD(parameters())
    state = optimizer.state_dict()
    change(state)
    with pytest.raises(StateDictError, match=message) as caught:
        optimizer.load_state_dict(state)
    assert isinstance(caught.value, MiniCNNError)


def test_repr_lists_the_groups():
    text = repr(optim.SGD([{"params": parameters(), "lr": 0.5}]))
    assert text.splitlines()[:3] == ["SGD (", "  group 0: 3 parameters", "    lr: 0.5"]


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: optim.lr_scheduler.StepLR(optimizer, 2),
        lambda optimizer: optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=9),
        lambda optimizer: optim.lr_scheduler.WarmUp(optim.lr_scheduler.StepLR(optimizer, 2), 3),
        optim.lr_scheduler.ReduceLROnPlateau,
    ],
)
def test_a_group_added_under_a_schedule_is_named(make):
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    scheduler = make(optimizer)
    optimizer.add_param_group({"params": nn.Linear(1, 1).parameters()})
    metric = [1.0] if isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau) else []
    with pytest.raises(
        ArgumentError, match=r"has 2 parameter groups, but had 1 when .* a new schedule after add_"
    ):
        scheduler.step(*metric)
