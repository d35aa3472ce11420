"""Learning-rate schedules: PyTorch's trajectories, exact resumption, and named mistakes."""

import json
import math

import numpy as np
import pytest

import minicnn
from minicnn import nn, optim
from minicnn.errors import ArgumentError, StateDictError
from minicnn.optim import lr_scheduler

STEPS = 25
LRS = (0.5, 0.02)


@pytest.fixture(autouse=True)
def numpy_kernels():
    with minicnn.use_backend("numpy"):
        yield


def optimizer(kind="SGD", **settings):
    groups = [{"params": [nn.Parameter([0.0])], "lr": lr} for lr in LRS]
    return getattr(optim, kind)(groups, **settings)


def torch_optimizer(torch, kind="SGD", **settings):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in LRS]
    return getattr(torch.optim, kind)(groups, **settings)


def lrs_of(any_optimizer):
    return [float(group["lr"]) for group in any_optimizer.param_groups]


def assert_equal(ours, theirs, steps):
    """A recursive formula adds a rounding or two in each step."""
    atol = 8 * np.finfo(float).eps * (steps + 1) * max(LRS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


FORMULAS = [
    ("StepLR", {"step_size": 4, "gamma": 0.5}),
    ("StepLR", {"step_size": 7}),
    ("MultiStepLR", {"milestones": [3, 3, 11], "gamma": 0.3}),
    ("MultiStepLR", {"milestones": (9, 2)}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("PolynomialLR", {"total_iters": 9, "power": 0.5}),
    ("PolynomialLR", {"total_iters": 30}),
    ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 24}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": STEPS + 1, "cycle_momentum": False}),
    ("OneCycleLR", {"max_lr": [0.3, 0.1], "epochs": 2, "steps_per_epoch": 13, "pct_start": 0.0}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 30, "anneal_strategy": "linear"}),
    (
        "OneCycleLR",
        {
            "max_lr": 0.3,
            "total_steps": 26,
            "pct_start": 0.45,
            "div_factor": 7.0,
            "final_div_factor": 3.0,
            "base_momentum": 0.5,
            "max_momentum": 0.7,
        },
    ),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 26, "pct_start": 1.0}),
]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize(("name", "settings"), FORMULAS)
def test_formulas_equal_torch(name, settings, kind):
    torch = pytest.importorskip("torch")
    extra = {"momentum": 0.9} if kind == "SGD" else {}
    ours, theirs = optimizer(kind, **extra), torch_optimizer(torch, kind, **extra)
    scheduler = getattr(lr_scheduler, name)(ours, **settings)
    oracle = getattr(torch.optim.lr_scheduler, name)(theirs, **settings)
    for step in range(STEPS):
        assert scheduler.last_epoch == step
        assert scheduler.get_last_lr() == lrs_of(ours)
        assert_equal(lrs_of(ours), lrs_of(theirs), step)
        for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
            for key in {"momentum", "betas"} & set(mine):
                assert_equal(mine[key], other[key], step)
        scheduler.step()
        oracle.step()


METRICS = [5.0, 4.0, 4.5, 4.0, 3.99, 3.9899, math.nan, 4.2, 4.1, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.1]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 1},
        {"patience": 0, "factor": 0.5, "cooldown": 2},
        {"patience": 1, "threshold": 0.05, "min_lr": [0.04, 0.01]},
        {"patience": 0, "factor": 0.9, "min_lr": 0.3, "eps": 0.04},
    ],
)
def test_plateau_equals_torch(settings, mode, threshold_mode):
    torch = pytest.importorskip("torch")
    settings = {**settings, "mode": mode, "threshold_mode": threshold_mode}
    ours, theirs = optimizer(), torch_optimizer(torch)
    scheduler = lr_scheduler.ReduceLROnPlateau(ours, **settings)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **settings)
    seen = set()
    for step, metric in enumerate(METRICS):
        scheduler.step(metric)
        oracle.step(metric)
        assert_equal(scheduler.get_last_lr(), lrs_of(theirs), step)
        assert lrs_of(ours) == scheduler.get_last_lr()
        assert scheduler.num_bad_epochs == oracle.num_bad_epochs
        seen.add(tuple(lrs_of(ours)))
    assert len(seen) > 1


def test_plateau_takes_numbers_of_any_kind():
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer(), patience=0, factor=0.5)
    for metric in (np.float32(1.0), minicnn.tensor([1.0]), 1):
        scheduler.step(metric)
    assert scheduler.get_last_lr() == [lr / 4 for lr in LRS]
    assert scheduler.best == 1.0


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize("steps", [1, 5])
def test_warm_up_equals_torch(steps):
    torch = pytest.importorskip("torch")
    ours, theirs = optimizer(), torch_optimizer(torch)
    decay = lr_scheduler.StepLR(ours, 3, 0.5)
    scheduler = lr_scheduler.WarmUp(decay, steps, start_factor=0.2)
    them = torch.optim.lr_scheduler
    rise = them.LinearLR(theirs, start_factor=0.2, total_iters=steps)
    oracle = them.SequentialLR(theirs, [rise, them.StepLR(theirs, 3, 0.5)], [steps])
    for step in range(STEPS):
        assert_equal(scheduler.get_last_lr(), lrs_of(theirs), step)
        scheduler.step()
        oracle.step()


def test_warm_up_before_a_plateau_ignores_the_metric():
    sgd = optimizer()
    plateau = lr_scheduler.ReduceLROnPlateau(sgd, patience=0, factor=0.5)
    scheduler = lr_scheduler.WarmUp(plateau, 2, start_factor=0.0)
    assert lrs_of(sgd) == [0.0, 0.0]
    scheduler.step(1.0)
    assert lrs_of(sgd) == [lr / 2 for lr in LRS]
    scheduler.step()
    assert lrs_of(sgd) == list(LRS)
    assert plateau.best is None
    scheduler.step(1.0)
    scheduler.step(1.0)
    assert lrs_of(sgd) == [lr / 2 for lr in LRS]
    with pytest.raises(ArgumentError, match=r"WarmUp.step: ReduceLROnPlateau needs a metric"):
        scheduler.step()
    assert scheduler.last_epoch == 4


def test_no_warm_up_is_the_schedule_itself():
    sgd, other = optimizer(), optimizer()
    scheduler = lr_scheduler.WarmUp(lr_scheduler.ExponentialLR(sgd, 0.5), 0)
    plain = lr_scheduler.ExponentialLR(other, 0.5)
    for _ in range(4):
        assert scheduler.get_last_lr() == plain.get_last_lr()
        scheduler.step()
        plain.step()


def plateau_or_plain_step(scheduler, step):
    wrapped = getattr(scheduler, "scheduler", scheduler)
    if isinstance(wrapped, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(METRICS[step % len(METRICS)])
    else:
        scheduler.step()


def make(name, sgd, settings):
    if not name.startswith("WarmUp"):
        return getattr(lr_scheduler, name)(sgd, **settings)
    return lr_scheduler.WarmUp(make(name.removeprefix("WarmUp:"), sgd, settings), 6, 0.25)


@pytest.mark.parametrize("stop", [0, 3, 6, 11])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *FORMULAS,
        ("ReduceLROnPlateau", {"patience": 1, "cooldown": 1}),
        ("WarmUp:CosineAnnealingLR", {"T_max": 15}),
        ("WarmUp:ReduceLROnPlateau", {"patience": 0}),
        ("WarmUp:OneCycleLR", {"max_lr": 0.3, "total_steps": 26}),
    ],
)
def test_resuming_through_json_is_exact(name, settings, stop):
    sgd = optimizer(momentum=0.9)
    scheduler = make(name, sgd, settings)
    expected, state = [], None
    for step in range(STEPS):
        if step == stop:
            state = json.dumps(scheduler.state_dict())
        expected.append([(g["lr"], g["momentum"]) for g in sgd.param_groups])
        plateau_or_plain_step(scheduler, step)
    other = optimizer(momentum=0.9)
    resumed = make(name, other, settings)
    resumed.load_state_dict(json.loads(state))
    for step in range(stop, STEPS):
        assert [(g["lr"], g["momentum"]) for g in other.param_groups] == expected[step]
        plateau_or_plain_step(resumed, step)


def test_settings_are_part_of_the_state():
    saved = lr_scheduler.StepLR(optimizer(), 3, 0.5).state_dict()
    scheduler = lr_scheduler.StepLR(optimizer(), 10, 0.1)
    scheduler.load_state_dict(saved)
    assert (scheduler.step_size, scheduler.gamma) == (3, 0.5)
    saved["base_lrs"][0] = 99.0
    assert scheduler.base_lrs == list(LRS)


def test_states_that_do_not_fit_change_nothing():
    scheduler = lr_scheduler.StepLR(optimizer(), 3)
    other = lr_scheduler.ExponentialLR(optimizer(), 0.5)
    with pytest.raises(
        StateDictError, match=r"StepLR.load_state_dict: .* only one side has step_siz"
    ):
        scheduler.load_state_dict(other.state_dict())
    narrow = lr_scheduler.StepLR(optim.SGD([nn.Parameter([0.0])]), 3)
    narrow.step()
    with pytest.raises(StateDictError, match="the state has 1 parameter groups, the optimizer 2"):
        scheduler.load_state_dict(narrow.state_dict())
    with pytest.raises(StateDictError, match="the state is a NoneType; pass what"):
        scheduler.load_state_dict(None)
    wrapped = lr_scheduler.WarmUp(lr_scheduler.StepLR(optimizer(), 3), 5)
    state = lr_scheduler.WarmUp(lr_scheduler.ExponentialLR(optimizer(), 0.5), 7).state_dict()
    with pytest.raises(StateDictError, match="only one side has step_size"):
        wrapped.load_state_dict(state)
    assert scheduler.last_epoch == 0
    assert wrapped.steps == 5


def test_one_cycle_ends_after_its_steps():
    scheduler = lr_scheduler.OneCycleLR(optimizer(), 0.1, total_steps=3, anneal_strategy="linear")
    for _ in range(2):
        scheduler.step()
    lowest = [0.1 / 25 / 1e4] * 2
    assert_equal(scheduler.get_last_lr(), lowest, 3)
    scheduler.step()  # after the last batch; the rate is not used any more
    assert_equal(scheduler.get_last_lr(), lowest, 3)
    with pytest.raises(
        ArgumentError, match=r"OneCycleLR.step: called 4 times, but total_steps is 3"
    ):
        scheduler.step()


def test_one_cycle_whose_rise_is_one_step_starts_at_the_top():
    scheduler = lr_scheduler.OneCycleLR(optimizer(), 0.1, total_steps=10, pct_start=0.1)
    assert scheduler.get_last_lr() == [0.1, 0.1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda o: lr_scheduler.StepLR(nn.ReLU(), 3),
            r"StepLR: optimizer is a ReLU; pass an optimi",
        ),
        (lambda o: lr_scheduler.StepLR(o, 0), r"StepLR: step_size is 0; give a whole number >= 1"),
        (lambda o: lr_scheduler.StepLR(o, 2.5), r"StepLR: step_size is 2.5; give a whole number"),
        (lambda o: lr_scheduler.StepLR(o, 2, -1), r"StepLR: gamma is -1; give a number >= 0"),
        (
            lambda o: lr_scheduler.MultiStepLR(o, [1, -1]),
            r"MultiStepLR: a milestone is -1; give a w",
        ),
        (
            lambda o: lr_scheduler.PolynomialLR(o, 0),
            r"PolynomialLR: total_iters is 0; give a whole number >= 1",
        ),
        (
            lambda o: lr_scheduler.ExponentialLR(o, "x"),
            r"ExponentialLR: gamma is 'x'; give a number",
        ),
        (
            lambda o: lr_scheduler.CosineAnnealingLR(o, 0),
            r"CosineAnnealingLR: T_max is 0; give a wh",
        ),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 1, -1), r"eta_min is -1; give a number >= 0"),
        (lambda o: lr_scheduler.OneCycleLR(None, 1), r"OneCycleLR: optimizer is a NoneType; pass"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1), r"OneCycleLR: its length is missing; give total"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1, epochs=2), r"its length is missing"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1, 0), r"total_steps is 0; give a whole number >= 1"),
        (
            lambda o: lr_scheduler.OneCycleLR(o, 1, 9, pct_start=2),
            r"pct_start is 2; give the rising",
        ),
        (
            lambda o: lr_scheduler.OneCycleLR(o, 1, 9, anneal_strategy="exp"),
            r"anneal_strategy is 'exp'; use 'cos' or 'linear'",
        ),
        (
            lambda o: lr_scheduler.OneCycleLR(o, 1, 9, max_momentum=1),
            r"max_momentum is 1; give a num",
        ),
        (
            lambda o: lr_scheduler.OneCycleLR(o, 1, 9, div_factor=0),
            r"div_factor is 0; give a number >",
        ),
        (
            lambda o: lr_scheduler.OneCycleLR(o, [1.0], 9),
            r"max_lr has 1 values, but the optimizer 2 p",
        ),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, "up"), r"mode is 'up'; use 'min' or 'max'"),
        (
            lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0),
            r"factor is 1.0; give a number >= 0",
        ),
        (
            lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=-1),
            r"patience is -1; give a whole n",
        ),
        (
            lambda o: lr_scheduler.ReduceLROnPlateau(o, threshold_mode="x"),
            r"threshold_mode is 'x'; use 'rel' or 'abs'",
        ),
        (
            lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=[0]),
            r"min_lr has 1 values, but the op",
        ),
        (lambda o: lr_scheduler.WarmUp(o, 3), r"WarmUp: scheduler is a SGD; pass a schedule, such"),
        (
            lambda o: lr_scheduler.WarmUp(lr_scheduler.StepLR(o, 1), -3),
            r"WarmUp: steps is -3; give a whole number >= 0",
        ),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(optimizer())


def test_warm_up_wants_a_fresh_schedule():
    decay = lr_scheduler.StepLR(optimizer(), 1)
    decay.step()
    with pytest.raises(ArgumentError, match=r"WarmUp: the StepLR is at step 1; wrap it before"):
        lr_scheduler.WarmUp(decay, 3)


def test_an_optimizer_without_momentum_cannot_cycle_it():
    class Plain(optim.Optimizer):
        def _checked(self, hyperparameters):
            return hyperparameters

    plain = Plain([nn.Parameter([0.0])], {"lr": 0.1})
    with pytest.raises(
        ArgumentError, match="Plain has no momentum to cycle; pass cycle_momentum=F"
    ):
        lr_scheduler.OneCycleLR(plain, 0.1, 9)
    assert lr_scheduler.OneCycleLR(plain, 0.1, 9, cycle_momentum=False).get_last_lr() != [0.1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"base_lrs": None}, "StepLR.load_state_dict: base_lrs is None; it must be a list"),
        ({"base_lrs": ["a"]}, r"base_lrs is \['a'\]; it must be a list of learning rates"),
        ({"last_epoch": "x"}, "last_epoch is 'x'; it must be a whole number"),
    ],
)
def test_a_state_of_something_else_than_numbers_changes_nothing(wrong, message):
    schedule = lr_scheduler.StepLR(optim.SGD([nn.Parameter(np.ones(2))], lr=0.1), 2)
    before = schedule.state_dict()
    with pytest.raises(StateDictError, match=message):
        schedule.load_state_dict({**before, **wrong})
    assert schedule.state_dict() == before
