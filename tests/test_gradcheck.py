"""The gradient checker and the tolerances: right gradients pass, wrong ones are told where."""

import math
import re

import numpy as np
import pytest

import minicnn
from minicnn import Tensor, nn, random
from minicnn import functional as F
from minicnn.errors import ArgumentError
from minicnn.testing import (
    CheckError,
    GradientError,
    assert_close,
    distinct,
    gradcheck,
    gradcheck_module,
    tolerance,
)
from minicnn.testing.tolerance import largest, to_host


class Scaled(minicnn.Op):
    """x itself, with a gradient that is multiplied by ``factors``."""

    def __init__(self, factors):
        self.factors = factors

    def forward(self, k, x):
        return x * 1

    def backward(self, k, gy):
        return gy * self.factors


def scaled(factors):
    return lambda x: minicnn.apply(Scaled(factors), x)


# ------------------------------------------------------------------ gradcheck


def test_right_gradients_pass():
    gradcheck(lambda x, y: (x * F.exp(y)).sum(), distinct((3, 4)), distinct((4,)))


@pytest.mark.parametrize("shape", [(2, 2), (7, 9)], ids=["tiny", "larger"])
def test_one_wrong_element_is_named_with_both_numbers(shape):
    factors = np.ones(shape)
    factors[1, 1] = 1.001
    with pytest.raises(GradientError) as raised:
        gradcheck(scaled(factors), distinct(shape))
    found = re.match(
        r"the gradient of argument 0 at \[1, 1\] is (\S+), but central differences give (\S+) "
        r"\(allowed difference (\S+)\)",
        str(raised.value),
    )
    analytic, numeric, allowed = (float(number) for number in found.groups())
    assert abs(analytic / numeric - 1.001) < 1e-6 * 1.001
    assert allowed < abs(analytic - numeric)


def test_the_wrong_argument_is_named():
    with pytest.raises(GradientError, match=r"the gradient of argument 1 at \[0\]"):
        gradcheck(lambda x, y: x * scaled(2.0)(y), distinct((3,)), distinct((3,)))


def test_an_error_of_a_millionth_is_found():
    with pytest.raises(GradientError):
        gradcheck(scaled(1 + 1e-6), distinct((5, 5)))


def test_a_gradient_that_is_zero_for_an_upstream_of_ones_is_checked():
    """Softmax: with ones upstream the true gradient is 0, and a gradient of zeros would pass."""

    class Zero(minicnn.Op):
        def forward(self, k, x):
            return k.softmax(x, 1)

        def backward(self, k, gy):
            return 0 * gy

    gradcheck(lambda x: F.softmax(x, 1), distinct((3, 4)))
    with pytest.raises(GradientError):
        gradcheck(lambda x: minicnn.apply(Zero(), x), distinct((3, 4)))


def test_a_backward_right_for_one_direction_only_fails_the_jacobian():
    """A gradient that depends on gy in a way that is not linear."""

    class Crooked(minicnn.Op):
        def forward(self, k, x):
            return x * 1

        def backward(self, k, gy):
            return gy if np.count_nonzero(gy) > 1 else 2 * gy

    with pytest.raises(GradientError, match=r"by result \[\d\]"):
        gradcheck(lambda x: minicnn.apply(Crooked(), x), distinct((3,)))


def test_a_missing_gradient_is_named():
    with pytest.raises(GradientError, match="argument 1 got no gradient"):
        gradcheck(lambda x, y: x * y.detach(), distinct((2,)), distinct((2,)))


def test_a_result_without_a_graph_is_refused():
    with pytest.raises(GradientError, match="the result does not require gradients"):
        gradcheck(lambda x: x.detach(), distinct((2,)))
    with pytest.raises(GradientError, match="the function returned a ndarray, expected one tensor"):
        gradcheck(lambda x: x.array, distinct((2,)))


def test_a_kink_is_recognised():
    x = distinct((4,))
    x[2] = 0.0
    with pytest.raises(GradientError, match=r"not smooth in argument 0.*testing\.distinct"):
        gradcheck(F.relu, x)


def test_a_jump_is_recognised():
    with pytest.raises(GradientError, match="not smooth"):
        gradcheck(lambda x: x + 1.0 * (x.array > 0), np.array([1e-12, 1.0, -2.0]))


def test_a_random_function_is_refused():
    with pytest.raises(GradientError, match=r"different results for equal inputs.*random key"):
        gradcheck(F.dropout, np.ones((8, 8)))
    gradcheck(lambda x: F.dropout(x, key=3), distinct((8, 8)))


def test_a_result_that_is_not_finite_is_refused():
    with np.errstate(divide="ignore"), pytest.raises(GradientError, match="NaN or infinity"):
        gradcheck(F.log, np.array([1.0, 0.0]))


def test_only_the_named_arguments_are_checked():
    def half_wrong(x, y):
        return x * scaled(2.0)(y)

    gradcheck(half_wrong, distinct((2,)), distinct((2,)), differentiable=[0])
    with pytest.raises(ArgumentError, match=r"differentiable is \(2,\), but .* \(0, 1\)"):
        gradcheck(half_wrong, distinct((2,)), distinct((2,)), differentiable=[2])


def test_other_arguments_are_passed_on():
    gradcheck(F.cross_entropy, distinct((3, 4)), np.array([0, 3, 1]))
    gradcheck(lambda x, p: x**p, 2 + distinct((3,)), 3)


def test_arguments_are_left_alone_and_float32_is_widened():
    x = distinct((3, 3)).astype(np.float32)
    before = x.copy()
    gradcheck(lambda t: t * t, x)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("offset", [0.0, 100.0, -1000.0])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_values_of_any_size_and_offset(offset, scale):
    """The step follows the spread of the values, not their distance from 0."""
    gradcheck(lambda x: (x - offset) * (x - offset), offset + scale * distinct((4, 3)))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((np.arange(3),), "arrays is an array of int64;"),
        ((2.0, np.float64(2.0)), "arrays is a float, a float64;"),
        (((distinct((2,)), distinct((2,))),), "arrays is a tuple;"),
        ((), "arrays is nothing;"),
    ],
)
def test_nothing_to_check_is_no_success(arguments, named):
    with pytest.raises(ArgumentError, match=f"gradcheck: there is no gradient to check, {named}"):
        gradcheck(lambda *x: scaled(2.0)(Tensor([1.0])), *arguments)
    with pytest.raises(ArgumentError, match=r"no gradient to check, differentiable is \(\);"):
        gradcheck(scaled(2.0), distinct((2,)), differentiable=())


def test_a_function_of_numbers_and_of_empty_arrays():
    gradcheck(lambda x: x * x, np.array(3.0))
    gradcheck(lambda x: x * x, np.zeros((0, 3)))


def test_strongly_curved_functions_pass():
    gradcheck(lambda x: F.exp(x * 20.0), distinct((5,)))
    gradcheck(lambda x: 1 / x, 0.01 + np.abs(distinct((6,))))


def test_the_seed_is_the_seed():
    texts = []
    for _ in range(2):
        with pytest.raises(GradientError) as raised:
            gradcheck(scaled(3.0), distinct((3, 3)), rng=7)
        texts.append(str(raised.value))
    assert texts[0] == texts[1]


# ------------------------------------------------------------------ gradcheck_module


def network():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(2 * 4 * 4, 3),
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_module_passes_and_is_left_as_it_was(training):
    model = network()
    model.train(training)
    model(Tensor(np.ones((2, 1, 4, 4), np.float32))).sum().backward()
    state, randomness = model.state_dict(), random.get_state()
    arrays = [(p.array, p.grad) for p in model.parameters()]
    gradcheck_module(model, distinct((3, 1, 4, 4)))
    assert random.get_state() == randomness
    after = model.state_dict()
    assert list(after) == list(state)
    assert all(np.array_equal(after[key], state[key]) for key in state)
    assert all(after[key].dtype == state[key].dtype for key in state)
    for parameter, (array, grad) in zip(model.parameters(), arrays, strict=True):
        assert parameter.array is array
        assert parameter.grad is grad


def test_frozen_parameters_have_no_gradient_to_check():
    module = network()
    module[0].requires_grad_(False)
    gradcheck_module(module, distinct((2, 1, 4, 4)))
    assert not module[0].weight.requires_grad


class Crooked(nn.Module):
    """A linear layer whose bias gets twice its gradient."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(np.ones((2, 3), np.float32))
        self.bias = nn.Parameter(np.ones(2, np.float32))

    def forward(self, x):
        return F.linear(x, self.weight) + scaled(2.0)(self.bias)


def test_the_wrong_parameter_is_named():
    with pytest.raises(GradientError, match=r"the gradient of parameter '1\.bias' at \[0\] is"):
        gradcheck_module(nn.Sequential(nn.Tanh(), Crooked()), distinct((2, 3)))


def test_a_wrong_gradient_of_the_input_is_named():
    class Wrong(nn.Module):
        def forward(self, x):
            return scaled(0.0)(x)

    with pytest.raises(GradientError, match=r"the gradient of the input at \[0, 0\] is 0, but"):
        gradcheck_module(Wrong(), distinct((2, 3)))


# ------------------------------------------------------------------ tolerance


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tolerance_follows_the_formula(dtype):
    eps = float(np.finfo(dtype).eps)
    assert tolerance(dtype, 9, 2.0) == 8 * eps * 3 * 2
    assert tolerance(dtype, 0) == 0


def test_the_worst_element_is_shown():
    with pytest.raises(CheckError) as raised:
        assert_close(np.float32([[1, 2], [3, 4]]), [[1, 2.5], [3, 5]], terms=4, what="y")
    allowed = tolerance(np.float32, 4, 5)
    assert str(raised.value) == (
        "y differs at 2 of 4 places, most at [1, 1]: it is 4.0, expected 5.0; the difference is 1, "
        f"allowed is {allowed:.2g} (float32, 4 terms)."
    )


def test_the_allowed_difference_is_allowed_and_twice_is_not():
    expected = np.array([1.0, 2.0])
    allowed = tolerance(np.float64, 4, 2.0)
    last = np.array([0.0, 1.0])
    assert_close(expected + 0.9 * allowed * last, expected, terms=4)
    with pytest.raises(CheckError):
        assert_close(expected + 2 * allowed * last, expected, terms=4)
    assert_close(expected + 2 * allowed * last, expected, terms=4, condition=4.0)


def test_shapes_must_agree():
    with pytest.raises(CheckError, match=r"the result has shape \(2,\), expected \(1, 2\)"):
        assert_close(np.ones(2), np.ones((1, 2)), terms=1)


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        ([math.nan], [math.nan], True),
        ([math.inf], [math.inf], True),
        ([math.inf], [-math.inf], False),
        ([math.nan], [1.0], False),
        ([1.0], [math.nan], False),
        ([math.inf], [1.0], False),
    ],
)
def test_nan_and_infinity_must_stand_at_equal_places(actual, expected, same):
    if same:
        assert_close(actual, expected, terms=1)
    else:
        with pytest.raises(CheckError, match="differs at 1 of 1 places"):
            assert_close(actual, expected, terms=1)


def test_no_terms_ask_for_equality():
    assert_close([0.1], [0.1], terms=0)
    with pytest.raises(CheckError):
        assert_close([np.nextafter(0.1, 1)], [0.1], terms=0)


def test_integers_are_compared_exactly():
    assert_close(np.array([1, 2]), [1, 2], terms=0)
    with pytest.raises(CheckError, match="it is 2, expected 3"):
        assert_close(np.array([1, 2]), [1, 3], terms=0)


# ------------------------------------------------------------------ inputs


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1000])
def test_distinct_values_keep_their_distance(count):
    values = distinct((count,), rng=count)
    spacing = 2 / count
    magnitudes = np.sort(np.abs(values))
    rounding = tolerance(np.float64, 1)
    assert magnitudes[0] >= spacing / 4 - rounding
    assert np.all(np.diff(magnitudes) >= spacing / 2 - rounding)
    assert np.all(np.diff(np.sort(values)) >= spacing - rounding)
    assert values.min() >= -1
    assert values.max() < 1


def test_distinct_values_are_shuffled_by_the_seed():
    assert np.array_equal(distinct((50,), 1), distinct((50,), 1))
    assert not np.array_equal(distinct((50,), 1), distinct((50,), 2))
    assert distinct((), 0).shape == ()
    assert distinct((0, 3)).shape == (0, 3)


def test_largest_ignores_what_is_not_finite():
    assert largest(np.array([-3.0, math.inf, math.nan])) == 3.0
    assert largest(np.zeros(3)) == 1.0
    assert largest(np.zeros(0)) == 1.0
    assert to_host(Tensor([1.0])).dtype == np.float32
