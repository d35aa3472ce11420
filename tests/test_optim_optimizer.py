"""SGD, Adam and AdamW: PyTorch's trajectories, exact resumption, and named mistakes."""

import copy
import json
import math

import numpy as np
import pytest

import minicnn
from minicnn import Tensor, nn, optim
from minicnn.errors import (
    DTypeError,
    GraphError,
    ShapeError,
)

STEPS = 12
SHAPES = ((4, 3), (5,), ())


@pytest.fixture(autouse=True)
def numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def parameters(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [nn.Parameter(np.asarray(rng.normal(size=shape), dtype)) for shape in SHAPES]


def gradients(step, dtype=np.float64):
    rng = np.random.default_rng(100 + step)
    return [np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]


def run(optimizer, params, steps, dtype=np.float64):
    for step in steps:
        optimizer.zero_grad()
        for p, g in zip(params, gradients(step, dtype), strict=True):
            p.grad = g
        optimizer.step()


def arrays(params):
    return [p.array.copy() for p in params]


STATE = {"SGD": {"velocity"}, "RMSprop": {"square", "velocity"}}
VARIANTS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3, "nesterov": True}),
    ("SGD", {}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.8), "eps": 0.1, "weight_decay": 0.3}),
    ("AdamW", {}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.5, "eps": 1.0, "weight_decay": 0.3, "momentum": 0.8}),
    ("AdamW", {"lr": 0.1, "betas": (0.5, 0.8), "eps": 0.1, "weight_decay": 0.3}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_trajectories_equal_torch(name, settings, dtype):
    torch = pytest.importorskip("torch")
    ours = parameters(dtype)
    theirs = [torch.nn.Parameter(torch.from_numpy(p.array.copy())) for p in ours]
    optimizer = getattr(optim, name)(ours, **settings)
    oracle = getattr(torch.optim, name)(theirs, **settings)
    for step in range(STEPS):
        run(optimizer, ours, [step], dtype)
        for p, g in zip(theirs, gradients(step, dtype), strict=True):
            p.grad = torch.from_numpy(g)
        oracle.step()
        for p, q in zip(ours, theirs, strict=True):
            expected = q.detach().numpy()
            # a dozen roundings a step, each relative to the largest value on the way
            scale = max(1.0, float(np.abs(expected).max()))
            atol = 8 * np.finfo(dtype).eps * (step + 1) * scale
            np.testing.assert_allclose(p.array, expected, rtol=0, atol=atol)
            assert p.dtype == dtype


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_resuming_is_bit_exact(name, settings):
    make = getattr(optim, name)
    params = parameters(np.float32)
    optimizer = make(params, **settings)
    run(optimizer, params, range(STEPS), np.float32)

    half = parameters(np.float32)
    first = make(half, **settings)
    run(first, half, range(5), np.float32)
    state = copy.deepcopy(first.state_dict())
    saved = arrays(half)
    run(first, half, range(5, 8), np.float32)  # a state is a copy: going on does not change it

    rest = [nn.Parameter(array) for array in saved]
    second = make(rest, lr=123.0)
    second.load_state_dict(state)
    run(second, rest, range(5, STEPS), np.float32)
    for p, q in zip(params, rest, strict=True):
        np.testing.assert_array_equal(p.array, q.array)


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_a_state_is_arrays_and_plain_data(name, settings):
    params = parameters(np.float32)
    optimizer = getattr(optim, name)(params, **settings)
    run(optimizer, params, range(2), np.float32)
    state = optimizer.state_dict()
    plain = {
        "groups": state["groups"],
        "state": {
            i: {n: v for n, v in entry.items() if not isinstance(v, np.ndarray)}
            for i, entry in state["state"].items()
        },
    }
    assert json.loads(json.dumps(plain)) == plain
    assert state["groups"][0]["params"] == [0, 1, 2]
    uses_state = name != "SGD" or "momentum" in settings
    assert list(state["state"]) == (["0", "1", "2"] if uses_state else [])
    for entry in state["state"].values():
        assert set(entry) == STATE.get(name, {"m", "v", "step"})
    with_json = {**plain, "state": state["state"]}
    getattr(optim, name)(parameters(np.float32)).load_state_dict(
        {**with_json, "groups": json.loads(json.dumps(plain["groups"]))}
    )


def test_loading_casts_to_the_parameters_and_copies():
    params = parameters(np.float64)
    optimizer = optim.Adam(params)
    run(optimizer, params, range(1))
    state = optimizer.state_dict()
    narrow = parameters(np.float32)
    other = optim.Adam(narrow)
    other.load_state_dict(state)
    m = other.state[narrow[0]]["m"]
    assert m.dtype == np.float32
    state["state"]["0"]["m"] += 1
    np.testing.assert_array_equal(m, optimizer.state[params[0]]["m"].astype(np.float32))
    assert other.param_groups[0]["betas"] == (0.9, 0.999)


def test_loading_forgets_what_the_state_does_not_have():
    params = parameters()
    optimizer = optim.Adam(params)
    fresh = optimizer.state_dict()
    run(optimizer, params, [0])
    optimizer.load_state_dict(fresh)
    assert optimizer.state == {}


# -- groups


def test_groups_have_hyperparameters_of_their_own():
    a, b, c = parameters()
    optimizer = optim.SGD([{"params": [a], "lr": 0.5}, {"params": b}], lr=0.1)
    optimizer.add_param_group({"params": iter([c]), "weight_decay": 2.0})
    before = arrays([a, b, c])
    run(optimizer, [a, b, c], [0])
    g = gradients(0)
    np.testing.assert_array_equal(a.array, before[0] - 0.5 * g[0])
    np.testing.assert_array_equal(b.array, before[1] - 0.1 * g[1])
    np.testing.assert_array_equal(c.array, before[2] - 0.1 * (g[2] + 2.0 * before[2]))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1, 0.1]
    assert [group["params"] for group in optimizer.state_dict()["groups"]] == [[0], [1], [2]]


def test_changing_a_group_takes_effect_and_keeps_the_dtype():
    p = nn.Parameter(np.ones(2, np.float32))
    optimizer = optim.SGD([p], lr=1.0)
    optimizer.param_groups[0]["lr"] = np.float64(0.25)
    p.grad = np.ones(2, np.float32)
    optimizer.step()
    assert p.array.tolist() == [0.75, 0.75]
    assert p.dtype == np.float32


def test_dampening_does_not_touch_the_first_velocity():
    p = nn.Parameter(np.zeros(1))
    optimizer = optim.SGD([p], lr=1.0, momentum=0.5, dampening=0.5)
    for _ in range(2):
        p.grad = np.ones(1)
        optimizer.step()
    assert optimizer.state[p]["velocity"].tolist() == [0.5 * 1 + 0.5 * 1]
    assert p.array.tolist() == [-2.0]


# -- gradients


def test_parameters_without_gradient_are_skipped():
    params = parameters()
    optimizer = optim.Adam(params)
    before = arrays(params)
    params[1].grad = np.ones(5)
    optimizer.step()
    np.testing.assert_array_equal(params[0].array, before[0])
    assert (params[1].array != before[1]).all()
    assert list(optimizer.state_dict()["state"]) == ["1"]


def test_a_step_without_any_gradient_is_an_error():
    optimizer = optim.SGD(parameters())
    with pytest.raises(
        GraphError, match=r"SGD.step: no parameter has a gradient; call loss.backward"
    ):
        optimizer.step()


def test_zero_grad_forgets():
    params = parameters()
    optimizer = optim.SGD(params)
    run(optimizer, params, [0])
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


@pytest.mark.parametrize("owner", [optim.SGD, nn.Module])
def test_zero_grad_fills_what_exists_where_it_shall_not_forget(owner):
    module = nn.Module()
    module.first, module.second = params = [nn.Parameter(np.ones(2)), nn.Parameter(np.ones(3))]
    params[0].grad = held = np.full(2, np.nan)
    zeroed = module if owner is nn.Module else owner(params)
    zeroed.zero_grad(set_to_none=False)
    assert params[0].grad is held
    assert held.tolist() == [0, 0]
    assert params[1].grad is None
    zeroed.zero_grad(set_to_none=True)
    assert params[0].grad is None


@pytest.mark.parametrize("change", ["step", "load_state_dict"])
def test_a_graph_from_before_the_parameters_changed_is_refused(change):
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))
    optimizer, state = optim.SGD(net.parameters(), lr=1.0), net.state_dict()
    x = Tensor(np.ones((4, 3), np.float32))
    early, late = net(x).sum(), net(x).sum()
    early.backward()
    optimizer.step() if change == "step" else net.load_state_dict(state)
    with pytest.raises(
        GraphError, match=r"linear computed with a parameter of shape \(1, 5\) that an optimizer"
    ):
        late.backward()
    net(x).sum().backward()


def test_a_graph_that_needs_no_changed_parameter_stays_good():
    """The first layer needs x alone, and a sum nothing; frozen parameters do not change."""
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1).requires_grad_(False))
    scale = nn.Parameter(np.ones(1, np.float32))
    optimizer = optim.SGD([*net.parameters(), scale], lr=1.0)
    x = Tensor(np.ones((4, 3), np.float32))
    early, late = ((net(x) + scale).sum() for _ in range(2))
    early.backward()
    expected = [p.grad for p in (*net[0].parameters(), scale)]
    optimizer.step()
    optimizer.zero_grad()
    late.backward()
    for p, g in zip((*net[0].parameters(), scale), expected, strict=True):
        np.testing.assert_array_equal(p.grad, g)


def test_updates_are_in_place_and_leave_the_gradient_alone():
    for make in (optim.SGD, optim.AdamW):
        params = parameters()
        held = [p.array for p in params]
        before = arrays(params)
        optimizer = make(params, lr=0.1, weight_decay=0.1)
        run(optimizer, params, [0])
        assert all(p.array is array for p, array in zip(params, held, strict=True))
        assert all((p.array != b).all() for p, b in zip(params, before, strict=True))
        for p, g in zip(params, gradients(0), strict=True):
            np.testing.assert_array_equal(p.grad, g)


def test_a_gradient_of_any_layout_works():
    g = np.random.default_rng(0).normal(size=(3, 8))
    results = []
    for gradient in (np.ascontiguousarray(g[:, ::2].T), g[:, ::2].T):
        p = nn.Parameter(np.ones((4, 3)))
        optimizer = optim.SGD([p], momentum=0.9, nesterov=True)
        p.grad = gradient
        optimizer.step()
        results.append(p.array)
    assert not gradient.flags.contiguous
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (
            np.ones(3),
            ShapeError,
            r"SGD.step: a gradient is \(3,\) float64, but its parameter is \(2,",
        ),
        (np.ones(2, np.float32), DTypeError, r"a gradient is \(2,\) float32, but its parameter is"),
    ],
)
def test_a_gradient_that_does_not_fit_changes_nothing(gradient, error, message):
    first, second = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    optimizer = optim.SGD([first, second], lr=1.0)
    first.grad, second.grad = np.ones(2), gradient
    with pytest.raises(error, match=message):
        optimizer.step()
    assert first.array.tolist() == [1, 1]


def test_training_a_network():
    minicnn.seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    x = minicnn.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    loss_of = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss = loss_of(model(x), np.array([0, 1, 1, 0]))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * math.log(2)  # half of what guessing costs
