"""The table of specs, for every public function, kernel set and dtype, and what it cannot hold.

Windows drawn at random are in test_ops_drawn.py.
"""

import dataclasses
import math

import numpy as np
import pytest
from kernel_sets import FRESH_SEED, USABLE, each_backend, each_dtype, marked, on_set, spec_of
from specs import SPECS
from specs.errors import ERRORS
from specs.real_sizes import REAL

import minicnn
from minicnn import Tensor
from minicnn import functional as F
from minicnn.errors import ShapeError
from minicnn.testing import assert_close, check_op, distinct
from minicnn.testing.tolerance import to_host
from minicnn_kernels import reference

pytestmark = pytest.mark.usefixtures("loops_for_every_size")


@each_backend
@each_dtype
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_spec(spec, dtype, backend):
    check_op(spec, backend, dtype)


def test_every_public_function_has_one_spec():
    names = [name for spec in SPECS for name in (spec.name, *spec.also)]
    assert sorted(names) == sorted(F.__all__)


def test_concat_is_cat():
    assert F.concat is F.cat


def test_convolution_in_pieces_of_one_image(monkeypatch):
    monkeypatch.setattr(reference, "COLUMN_BYTES", 1)
    check_op(spec_of("conv2d"), "numpy", np.float64)


# ------------------------------------------------------------------ sizes of real networks


def _normal(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def _results(backend, function, arrays, kwargs):
    """The result and every gradient, computed by one kernel set."""
    with minicnn.use_backend(backend):
        tensors = [Tensor(on_set(backend, a), requires_grad=True) for a in arrays]
        y = function(*tensors, **kwargs)
        (gy,) = _normal(FRESH_SEED + 1, y.shape)
        y.backward(on_set(backend, gy.astype(y.dtype)))
    return y, [t.grad for t in tensors]


@pytest.mark.parametrize("backend", [marked(name) for name in USABLE if name != "numpy"])
@each_dtype
@pytest.mark.parametrize("name", REAL)
def test_kernel_sets_agree_with_the_reference_in_real_sizes(name, dtype, backend):
    """Against float64 of the reference, which the specs have checked; many tiles and threads."""
    function, shapes, kwargs, terms = REAL[name]
    arrays = [a.astype(dtype) for a in _normal(FRESH_SEED, *shapes)]
    y, gradients = _results(backend, function, arrays, kwargs)
    exact, exact_gradients = _results(
        "numpy", function, [a.astype(np.float64) for a in arrays], kwargs
    )
    assert y.dtype == dtype
    assert_close(y, exact, terms=terms)
    for i, (gx, expected) in enumerate(zip(gradients, exact_gradients, strict=True)):
        assert gx.dtype == dtype
        what = f"the gradient of argument {i}"
        assert_close(gx, expected, terms=terms + y.size, what=what)


# ------------------------------------------------------------------ equal values and NaN


@each_backend
@each_dtype
@pytest.mark.parametrize("function", [F.max_pool2d, F.min_pool2d])
def test_the_first_of_equal_values_gets_the_gradient(function, dtype, backend):
    with minicnn.use_backend(backend):
        x = Tensor(on_set(backend, np.ones((1, 1, 3, 3), dtype)), requires_grad=True)
        gy = on_set(backend, np.array([[[[1, 2], [3, 4]]]], dtype))
        function(x, 2, stride=1).backward(gy)
    assert to_host(x.grad).tolist() == [[[[1, 2, 0], [3, 4, 0], [0, 0, 0]]]]


@each_backend
@pytest.mark.parametrize("padding", [0, 1])
def test_a_window_of_minus_infinity_has_a_winner_inside_the_map(padding, backend):
    with minicnn.use_backend(backend):
        x = Tensor(on_set(backend, np.full((1, 1, 2, 2), -np.inf, np.float32)), requires_grad=True)
        y = F.max_pool2d(x, 2, padding=padding)
        y.backward(on_set(backend, np.ones(y.shape, np.float32)))
    assert np.all(y.numpy() == -np.inf)
    assert to_host(x.grad).sum() == y.size


@each_backend
def test_adaptive_pooling_gives_the_first_of_equal_values_the_gradient(backend):
    with minicnn.use_backend(backend):
        x = Tensor(on_set(backend, np.ones((1, 1, 3, 3), np.float32)), requires_grad=True)
        gy = on_set(backend, np.array([[[[1, 2], [3, 4]]]], np.float32))
        F.adaptive_max_pool2d(x, 2).backward(gy)
    assert to_host(x.grad).tolist() == [[[[1, 2, 0], [3, 4, 0], [0, 0, 0]]]]


@each_backend
def test_equal_maxima_share_the_gradient(backend):
    with minicnn.use_backend(backend):
        x = Tensor(on_set(backend, np.float32([[3, 1, 3], [2, 2, 2]])), requires_grad=True)
        F.amax(x, 1).backward(on_set(backend, np.float32([4, 6])))
    assert to_host(x.grad).tolist() == [[2, 0, 2], [2, 2, 2]]


def _maps_with_nan(place):
    x = distinct((1, 1, 2, 2), 0).astype(np.float32)
    x[0, 0][place] = np.nan
    return x


@each_backend
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.min_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.l2_pool2d(x, 2),
        lambda x: F.adaptive_max_pool2d(x, 1),
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: F.global_avg_pool2d(x),
        lambda x: F.amax(x, (2, 3)),
    ],
    ids=["max", "min", "avg", "l2", "adaptive max", "adaptive avg", "global", "amax"],
)
def test_a_nan_anywhere_in_a_window_is_its_result(pool, place, backend):
    with minicnn.use_backend(backend):
        assert np.isnan(pool(Tensor(on_set(backend, _maps_with_nan(place)))).numpy()).all()


@each_backend
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("function", [F.max_pool2d, F.min_pool2d])
def test_the_gradient_goes_to_the_nan(function, place, backend):
    with minicnn.use_backend(backend):
        x = Tensor(on_set(backend, _maps_with_nan(place)), requires_grad=True)
        function(x, 2).sum().backward()
    expected = np.zeros((2, 2))
    expected[place] = 1
    assert to_host(x.grad)[0, 0].tolist() == expected.tolist()


@each_backend
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("function", [F.relu, F.leaky_relu, F.sigmoid, F.tanh])
def test_infinity_and_nan_pass_through_activations(function, value, backend):
    limits = {F.relu: (math.inf, 0), F.leaky_relu: (math.inf, -math.inf)}
    limits |= {F.sigmoid: (1, 0), F.tanh: (1, -1)}
    high, low = limits[function]
    expected = math.nan if math.isnan(value) else high if value > 0 else low
    with minicnn.use_backend(backend):
        result = function(Tensor(on_set(backend, np.full(1, value, np.float32))))
    assert_close(result, np.array([expected]), terms=0)


@each_backend
def test_a_class_of_weight_0_adds_nothing_even_with_probability_0(backend):
    with minicnn.use_backend(backend):
        x = Tensor(on_set(backend, np.float32([[0.0, -np.inf]])), requires_grad=True)
        loss = F.cross_entropy(x, [0])
        loss.backward()
    assert loss.item() == 0
    assert to_host(x.grad).tolist() == [[0, 0]]


def test_batch_norm_of_a_constant_channel_is_the_bias():
    x = Tensor(np.full((4, 1, 2, 2), 7.0, np.float32))
    y = F.batch_norm(x, None, None, bias=Tensor([3.0]), training=True)
    assert np.all(y.array == 3)


def test_axes_may_stand_in_a_list():
    x = Tensor(np.arange(6.0).reshape(1, 2, 3))
    for reduction in (F.sum, F.mean, F.amax, F.var):
        assert np.array_equal(reduction(x, [0, -1]).array, reduction(x, (0, 2)).array)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_the_largest_along_an_axis_and_where_it_is(dim, keepdim):
    a = np.random.default_rng(0).standard_normal((2, 3, 4)).round(1)
    x = Tensor(a, requires_grad=True)
    values, indices = x.max(dim, keepdim)
    np.testing.assert_array_equal(values.array, a.max(dim, keepdims=keepdim))
    np.testing.assert_array_equal(indices.array, a.argmax(dim, keepdims=keepdim))
    values.sum().backward()
    chosen = np.zeros_like(a)
    np.put_along_axis(chosen, a.argmax(dim, keepdims=True), 1.0, dim)
    np.testing.assert_array_equal(x.grad, chosen)


def test_the_largest_of_all_is_one_value():
    assert Tensor(np.arange(6.0).reshape(2, 3)).max().item() == 5.0
    with pytest.raises(ShapeError, match="argmax"):
        Tensor(np.ones((2, 0))).max(1)


@pytest.mark.parametrize("shape", [(3, 0), (3, 1)])
def test_the_variance_of_too_few_values_is_nan(shape):
    with np.errstate(invalid="ignore"):
        assert np.isnan(F.var(Tensor(np.ones(shape)), 1).array).all()


def test_powers_of_zero():
    x = Tensor(np.zeros(1, np.float32), requires_grad=True)
    for exponent, slope in ((2, 0), (1, 1), (0, 0)):
        x.grad = None
        (x**exponent).sum().backward()
        assert x.grad.tolist() == [slope]


# ------------------------------------------------------------------ random masks


@each_backend
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_drops_a_share_of_p(p, backend):
    count = 40_000
    with minicnn.use_backend(backend):
        y = F.dropout(Tensor(on_set(backend, np.ones(count, np.float32))), p, key=5).numpy()
    dropped = int((y == 0).sum())
    deviation = math.sqrt(count * p * (1 - p))  # of a binomial count
    assert abs(dropped - count * p) < 5 * deviation
    together = int(((y[1:] == 0) & (y[:-1] == 0)).sum())  # neighbours are independent
    q = p * p
    assert abs(together - count * q) < 5 * math.sqrt(3 * count * q * (1 - q))


def test_dropout_draws_its_key_from_the_seeded_generator():
    x = Tensor(np.ones(64, np.float32))
    minicnn.seed(3)
    first, second = F.dropout(x).array, F.dropout(x).array
    minicnn.seed(3)
    assert np.array_equal(F.dropout(x).array, first)
    assert not np.array_equal(first, second)


@each_backend
def test_every_backend_draws_the_same_mask(backend):
    x = np.ones((3, 5_000), np.float32)
    masks = []
    for name in ("numpy", backend):
        with minicnn.use_backend(name):
            masks.append(F.dropout(Tensor(on_set(name, x)), 0.3, key=11).numpy())
    assert np.array_equal(*masks)


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_function_argument_numbers_and_cure(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind) as raised:
        call()
    assert text in str(raised.value)


def test_cases_of_a_spec_have_names_of_their_own():
    for spec in SPECS:
        names = [case.name for case in spec.cases]
        assert len(set(names)) == len(names), spec.name


def test_a_spec_is_data():
    spec = spec_of("relu")
    assert dataclasses.replace(spec, faults=[]).cases is spec.cases
