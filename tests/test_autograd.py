"""The graph: order, accumulation, ownership of gradients, memory, threads, and what is refused."""

import copy
import gc
import threading
import weakref

import numpy as np
import pytest

import minicnn
from minicnn import Op, Tensor, apply, no_grad
from minicnn import functional as F
from minicnn.errors import DeviceError, DTypeError, GraphError, OutOfRangeError, ShapeError
from minicnn.functional.activation import Relu
from minicnn.testing import assert_close
from minicnn_kernels import registry
from minicnn_kernels.reference import Kernels


def leaf(*values, dtype=np.float32):
    return Tensor(np.array(values, dtype), requires_grad=True)


# ------------------------------------------------------------------ graphs


def test_a_chain_of_5000_ops():
    x = leaf(1.0, dtype=np.float64)
    y = x
    for _ in range(5000):
        y = y * 1.0001
    y.backward(np.ones(1))
    assert_close(x.grad, np.array([1.0001**5000]), terms=5000)


def test_a_diamond_adds_both_paths_once():
    x = leaf(3.0)
    a = x * x
    y = a * 2 + a * a  # dy/da = 2 + 2a = 20, da/dx = 6
    y.backward(np.ones(1, np.float32))
    assert x.grad.tolist() == [120.0]


def test_a_ladder_of_diamonds_takes_no_exponential_time():
    x = leaf(1.0, dtype=np.float64)
    y = x
    for _ in range(60):
        y = y + y
    y.backward(np.ones(1))
    assert x.grad.tolist() == [2.0**60]


def test_an_old_op_waits_for_a_late_contribution():
    """The path over one op is shorter, but its gradient must wait for the longer one."""
    x = leaf(2.0)
    a = x * 3
    b = a * 5
    c = b * 7
    (a + c).backward(np.ones(1, np.float32))
    assert x.grad.tolist() == [3.0 + 3 * 35]


def test_a_shared_leaf_gets_the_sum():
    w = leaf(2.0)
    (w * 3 + w * w).backward(np.ones(1, np.float32))
    assert w.grad.tolist() == [7.0]


def test_one_tensor_as_both_arguments():
    x = leaf(3.0, 4.0)
    (x * x).backward(np.float32([1, 10]))
    assert x.grad.tolist() == [6.0, 80.0]
    y = leaf(3.0)
    (y - y).backward(np.ones(1, np.float32))
    assert y.grad.tolist() == [0.0]


def test_gradients_add_up_over_backward_passes():
    x = leaf(1.0)
    for expected in (2.0, 4.0, 6.0):
        (x * 2).backward(np.ones(1, np.float32))
        assert x.grad.tolist() == [expected]


def test_an_unused_branch_gets_no_gradient():
    x, unused = leaf(1.0), leaf(1.0)
    _ = unused * x
    (x * 2).backward(np.ones(1, np.float32))
    assert unused.grad is None


def test_constants_get_no_gradient():
    x, c = leaf(2.0), Tensor([5.0])
    (x * c).backward(np.ones(1, np.float32))
    assert c.grad is None
    assert x.grad.tolist() == [5.0]


def test_detach_cuts_the_graph_and_shares_the_array():
    x = leaf(2.0)
    y = (x * 3).detach()
    assert not y.requires_grad
    (x * y).backward(np.ones(1, np.float32))
    assert x.grad.tolist() == [6.0]
    assert x.detach().array is x.array


def test_backward_from_a_leaf_is_the_gradient_itself():
    x, gradient = leaf(1.0, 2.0), np.float32([3, 4])
    x.backward(gradient)
    assert x.grad.tolist() == [3, 4]
    assert not np.shares_memory(x.grad, gradient)


def test_backward_takes_a_tensor_as_gradient():
    x = leaf(2.0)
    (x * 3).backward(Tensor([2.0]))
    assert x.grad.tolist() == [6.0]


@pytest.mark.parametrize("gradient", [None, np.float32(1), np.ones((), np.float32)])
def test_the_gradient_of_a_number_is_an_array(gradient):
    for make in (lambda x: x, lambda x: x * 1.0, lambda x: F.sum(x)):
        x = Tensor(2.0, requires_grad=True)
        make(x).backward(gradient)
        assert isinstance(x.grad, np.ndarray)
        assert x.grad.item() == 1


# ------------------------------------------------------------------ refused


def test_a_second_backward_is_refused():
    x = leaf(2.0)
    y = x * x
    y.backward(np.ones(1, np.float32))
    with pytest.raises(GraphError, match=r"graph of multiply is already freed.*run the forward"):
        y.backward(np.ones(1, np.float32))
    assert x.grad.tolist() == [4.0]


def test_a_second_loss_over_a_freed_part_is_refused():
    x = leaf(2.0)
    shared = F.exp(x)
    first, second = shared * 2, shared * 3
    first.backward(np.ones(1, np.float32))
    with pytest.raises(GraphError, match="graph of exp is already freed"):
        second.backward(np.ones(1, np.float32))


def test_backward_from_many_values_needs_a_gradient():
    with pytest.raises(GraphError, match=r"has 2 values, shape \(2,\); reduce it to one"):
        (leaf(1.0, 2.0) * 2).backward()


def test_backward_without_gradients_is_refused():
    with pytest.raises(GraphError, match=r"does not require gradients.*outside no_grad"):
        (Tensor([1.0]) * 2).backward()


def test_the_gradient_must_fit_the_result():
    y = leaf(1.0, 2.0) * 2
    with pytest.raises(ShapeError, match=r"gradient has shape \(1,\), but the tensor has \(2,\)"):
        y.backward(np.ones(1, np.float32))
    with pytest.raises(DTypeError, match="gradient is float64, but the tensor is float32"):
        y.backward(np.ones(2))
    y.backward([1.0, 1.0])  # numbers become an array, as everywhere


def test_integers_cannot_require_gradients():
    with pytest.raises(DTypeError, match=r"requires_grad needs floating-point values, not int64"):
        Tensor(np.array([1, 2]), requires_grad=True)


def test_only_numbers_are_held():
    with pytest.raises(DTypeError, match="cannot hold"):
        Tensor(["a"])
    with pytest.raises(DTypeError, match="cannot hold complex128"):
        Tensor(np.ones(1, complex))


class Custom(Op):
    """An op whose backward returns whatever it is told to."""

    def __init__(self, gradient):
        self.gradient = gradient

    def forward(self, k, x, y=None):
        return x * 1

    def backward(self, k, gy):
        return self.gradient(gy)


def test_a_gradient_of_the_wrong_shape_names_the_op():
    y = apply(Custom(lambda gy: gy[:1]), leaf(1.0, 2.0))
    with pytest.raises(ShapeError) as raised:
        y.backward(np.ones(2, np.float32))
    assert "custom: the gradient by argument 0 has shape (1,), but the tensor has (2,)" in str(
        raised.value
    )


def test_a_tensor_as_gradient_names_the_op():
    y = apply(Custom(Tensor), leaf(1.0))
    with pytest.raises(
        DTypeError, match=r"custom: the gradient by argument 0 is a tensor, .*\.array"
    ):
        y.backward()


def test_a_gradient_of_the_wrong_dtype_names_the_op():
    y = apply(Custom(lambda gy: gy * np.float64(2)), leaf(1.0, 2.0))
    with pytest.raises(DTypeError, match="custom: the gradient by argument 0 is float64"):
        y.backward(np.ones(2, np.float32))


def test_a_gradient_too_many_names_the_op():
    y = apply(Custom(lambda gy: (gy, gy)), leaf(1.0))
    with pytest.raises(GraphError, match="custom: backward returned 2 gradients for 1 arguments"):
        y.backward(np.ones(1, np.float32))


def test_an_op_object_serves_one_graph_only():
    """A second call would send the gradients of both results to the second argument."""
    op, x, y = Custom(lambda gy: gy), leaf(1.0), leaf(2.0)
    result = apply(op, x)
    refused = r"custom: this op object is part of a graph already.*make a new one for each call"
    with pytest.raises(GraphError, match=refused):
        apply(op, y)
    with pytest.raises(GraphError, match=refused), no_grad():
        apply(op, y)
    result.backward()
    assert x.grad.tolist() == [1.0]
    with pytest.raises(GraphError, match=refused):
        apply(op, y)


def test_an_unfinished_op_says_what_is_missing():
    class Half(Op):
        pass

    with pytest.raises(NotImplementedError, match=r"Half must define forward\(self, k"):
        apply(Half(), leaf(1.0))
    with pytest.raises(NotImplementedError, match=r"Half must define backward\(self, k, gy\)"):
        Half().backward(None, None)


def test_none_as_a_gradient_means_zero():
    x = leaf(1.0)
    apply(Custom(lambda gy: None), x).backward(np.ones(1, np.float32))
    assert x.grad is None


# ------------------------------------------------------------------ who owns a gradient


def test_both_arguments_of_a_sum_own_their_gradients():
    x, y, gradient = leaf(1.0), leaf(2.0), np.ones(1, np.float32)
    (x + y).backward(gradient)
    assert not np.shares_memory(x.grad, y.grad)
    assert not np.shares_memory(x.grad, gradient)
    x.grad += 5
    assert y.grad.tolist() == [1.0]
    assert gradient.tolist() == [1.0]


@pytest.mark.parametrize(
    "gradients",
    [
        lambda gy: (g := gy * 2, g),
        lambda gy: (g := gy * 2, g[::1]),
        lambda gy: ((g := gy * 2)[::1], g),
        lambda gy: (gy, gy),
        lambda gy: ((g := gy * 2).reshape(2, 1)[:, 0], g),
        lambda gy: (np.broadcast_to(gy[:1], (2,)), gy * 1),
    ],
    ids=["one array twice", "array and view", "view and array", "gy", "view of view", "broadcast"],
)
def test_two_gradients_in_one_memory_are_told_apart(gradients):
    x, y, gradient = leaf(1.0, 2.0), leaf(3.0, 4.0), np.ones(2, np.float32)
    apply(Custom(gradients), x, y).backward(gradient)
    assert not np.shares_memory(x.grad, y.grad)
    assert not np.shares_memory(x.grad, gradient)
    expected = y.grad.copy()
    x.grad += 100  # raises too where the gradient is a read-only view
    assert y.grad.tolist() == expected.tolist()


def test_a_borrowed_gradient_is_not_added_to():
    """Both parents of a sum borrow one array; what the one collects must not reach the other."""
    x, y = leaf(1.0), leaf(1.0)
    a, b = x * 2, y * 3
    total = a + b
    (total + a * 10).backward(np.ones(1, np.float32))
    assert x.grad.tolist() == [22.0]
    assert y.grad.tolist() == [3.0]


def test_a_saved_array_returned_as_gradient_is_copied():
    class Product(Op):
        def forward(self, k, x, y):
            self.save(x, y)
            return k.multiply(x, y)

        def backward(self, k, gy):
            x, y = self.saved
            return y, x  # right for gy = 1

    x, y = leaf(2.0), leaf(3.0)
    apply(Product(), x, y).backward(np.ones(1, np.float32))
    assert not np.shares_memory(x.grad, y.array)
    assert not np.shares_memory(y.grad, x.array)
    x.grad += 1
    assert y.array.tolist() == [3.0]


def test_the_upstream_gradient_is_left_alone():
    x, gradient = leaf(1.0, 2.0), np.float32([1, 2])
    y = x + 0.0
    (y + y * 2).backward(gradient)
    (x + 0.0).backward(gradient)
    assert gradient.tolist() == [1, 2]
    assert x.grad.tolist() == [4, 8]


# ------------------------------------------------------------------ memory


def alive(array):
    """A weak reference to an array; NumPy arrays allow it."""
    return weakref.ref(array)


def test_results_that_nobody_saved_are_freed_at_once():
    x = leaf(*range(100))
    a = x + 1.0
    seen = alive(a.array)
    b = a + 1.0
    del a
    assert seen() is None
    b.backward(np.ones(100, np.float32))
    assert x.grad.tolist() == [1.0] * 100


def test_saved_arrays_live_until_backward_has_passed():
    x = leaf(*range(1, 100))
    a = x + 1.0
    seen = alive(a.array)
    b = a * a
    del a
    assert seen() is not None
    b.backward(np.ones(99, np.float32))
    assert seen() is None


def test_saved_arrays_are_freed_on_the_way_back():
    """When the older op runs backward, what the newer one saved is gone already."""
    seen = []

    class Witness(Op):
        def forward(self, k, x):
            return x * 1

        def backward(self, k, gy):
            seen.append(later() is None)
            return gy

    x = leaf(1.0, 2.0)
    y = apply(Witness(), x)
    a = F.exp(y)
    later = alive(a.array)
    b = F.sum(a)
    del a, y
    b.backward()
    assert seen == [True]


def test_without_gradients_nothing_is_saved():
    x = Tensor(np.ones(3, np.float32))
    op = Relu()
    apply(op, x)
    assert op.saved == ()
    assert op.parents == ()


def test_a_leaf_holds_nothing_of_its_forward_passes():
    w = leaf(1.0)
    gc.collect()
    before = len(gc.get_referents(w))
    results = [weakref.ref(w * i) for i in range(100)]
    assert len(gc.get_referents(w)) == before
    assert all(result() is None for result in results)


def test_a_graph_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = leaf(1.0)
        y = F.exp(x * 2)
        op, array = weakref.ref(y.op), alive(y.array)
        y.backward(np.ones(1, np.float32))
        del y
        assert op() is None
        assert array() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------ no_grad and retain_grad


def test_no_grad_nests_and_restores():
    x = leaf(1.0)
    with no_grad():
        with no_grad():
            assert not minicnn.is_grad_enabled()
        assert not minicnn.is_grad_enabled()
        assert not (x * 2).requires_grad
    assert minicnn.is_grad_enabled()
    assert (x * 2).requires_grad


def test_no_grad_restores_after_an_error():
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert minicnn.is_grad_enabled()


def test_one_no_grad_object_can_nest_in_itself():
    block = no_grad()
    with block, block:
        assert not minicnn.is_grad_enabled()
    assert minicnn.is_grad_enabled()


def test_no_grad_as_a_decorator():
    @no_grad()
    def double(x, depth=2):
        return double(x, depth - 1) if depth else x * 2

    assert not double(leaf(1.0)).requires_grad
    assert minicnn.is_grad_enabled()


def test_no_grad_as_a_decorator_of_a_generator():
    """The body runs after the call: without a graph there, with one where the values are used."""
    x, seen, sent = leaf(1.0), [], []

    @no_grad()
    def doubled(times):
        try:
            for _ in range(times):
                try:
                    sent.append((yield x * 2))
                except KeyError:
                    seen.append((x * 2).requires_grad)
        finally:
            seen.append((x * 2).requires_grad)
        return times

    values = doubled(2)
    assert not next(values).requires_grad
    assert (x * 2).requires_grad
    assert not values.throw(KeyError()).requires_grad
    with pytest.raises(StopIteration) as end:
        values.send("a value")
    assert end.value.value == 2
    assert seen == [False, False]
    assert sent == ["a value"]
    values = doubled(1)
    next(values)
    values.close()
    assert seen == [False] * 3
    assert minicnn.is_grad_enabled()
    assert doubled.__name__ == "doubled"


def test_no_grad_of_one_thread_is_not_that_of_another():
    inside, checked = threading.Event(), threading.Event()
    found = []

    def other():
        inside.wait()
        found.append((leaf(1.0) * 2).requires_grad)
        checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        inside.set()
        checked.wait()
    thread.join()
    assert found == [True]


def test_one_no_grad_object_serves_two_threads():
    """As a decorator one object serves every call of the function, in every thread."""
    block, entered, leave = no_grad(), threading.Event(), threading.Event()
    after = {}

    def with_gradients():
        with block:
            entered.set()
            leave.wait()
        after["with gradients"] = minicnn.is_grad_enabled()

    thread = threading.Thread(target=with_gradients)
    thread.start()
    entered.wait()
    with no_grad():
        with block:
            leave.set()
            thread.join()
        after["without"] = minicnn.is_grad_enabled()
    assert after == {"with gradients": True, "without": False}


def test_retain_grad_keeps_an_intermediate_gradient():
    x = leaf(3.0)
    a = (x * 2).retain_grad()
    b = a * a
    b.backward(np.ones(1, np.float32))
    assert a.grad.tolist() == [12.0]
    assert b.grad is None
    assert not np.shares_memory(a.grad, x.grad)


def test_retain_grad_of_the_result_and_of_a_leaf():
    x = leaf(3.0)
    assert x.retain_grad() is x
    y = (x * 2).retain_grad()
    y.backward(np.ones(1, np.float32))
    assert y.grad.tolist() == [1.0]
    assert x.grad.tolist() == [2.0]


def test_retain_grad_of_a_forgotten_tensor_does_nothing():
    x = leaf(3.0)
    y = (x * 2).retain_grad() * 5
    y.backward(np.ones(1, np.float32))
    assert x.grad.tolist() == [10.0]


# ------------------------------------------------------------------ dtypes


def test_mixed_dtypes_name_the_arguments():
    x = Tensor(np.ones((1, 1, 3, 3), np.float32))
    w, b = Tensor(np.ones((1, 1, 2, 2))), Tensor(np.ones(1, np.float32))
    with pytest.raises(DTypeError) as raised:
        F.conv2d(x, w, b)
    assert str(raised.value) == (
        "conv2d: x is float32 (1, 1, 3, 3), weight is float64 (1, 1, 2, 2), bias is float32 (1,); "
        "convert their arrays to one dtype with .astype()."
    )


def test_mixed_dtypes_in_a_list_are_numbered():
    parts = [Tensor(np.ones(1, np.float32)), Tensor(np.ones(1))]
    with pytest.raises(DTypeError, match="cat: the tensors are float32, float64"):
        F.cat(parts)


SCALARS = [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2), np.bool_(True)]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_keep_the_dtype(scalar, dtype):
    x = leaf(1.0, 4.0, dtype=dtype)
    results = [x + scalar, scalar + x, x - scalar, scalar - x, x * scalar, scalar * x, x / scalar]
    results += [scalar / x]
    results += [] if isinstance(scalar, (bool, np.bool_)) else [x**scalar]
    for y in results:
        assert isinstance(y, Tensor)
        assert y.dtype == dtype
        y.backward(np.ones(2, dtype))
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
def test_whole_numbers_do_not_widen_float32(dtype):
    x, whole = leaf(1.0, 2.0), np.array([1, 0], dtype)
    for function in (F.add, F.mul, F.sub):
        y = function(x, whole)
        assert y.dtype == np.float32
        y.backward(np.ones(2, np.float32))
    assert x.grad.dtype == np.float32


def test_python_data_becomes_float32_and_arrays_keep_their_dtype():
    assert Tensor([1.0]).dtype == np.float32
    assert Tensor(1.5).dtype == np.float32
    assert Tensor([1, 2]).dtype.kind == "i"
    assert Tensor(np.ones(1)).dtype == np.float64
    assert Tensor(np.float64(1)).shape == ()
    assert minicnn.tensor([1.0], dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize(("value", "dtype"), [(0.1, np.float64), (16777217.0, np.int64)])
def test_a_wanted_dtype_gets_the_number_as_it_was_written(value, dtype):
    """Not rounded to float32 on the way."""
    assert minicnn.tensor([value], dtype=dtype).item() == value
    assert minicnn.tensor(value, dtype=dtype).item() == value


def test_arrays_in_a_foreign_byte_order_train_like_others():
    x = Tensor(np.array([1.0, 2.0, 3.0], np.dtype(np.float32).newbyteorder()), requires_grad=True)
    assert x.dtype == np.float32
    weight = minicnn.nn.Parameter(np.ones((1, 3), np.dtype(np.float32).newbyteorder()))
    F.linear(x * x, weight).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0, 6.0]
    assert weight.grad.tolist() == [[1.0, 4.0, 9.0]]


def test_arrays_of_other_libraries_are_named():
    class Foreign:
        dtype, shape = "float32", (2,)

    with pytest.raises(DeviceError, match="type Foreign; convert it to NumPy or CuPy"):
        Tensor(Foreign())


def test_the_sum_of_gradients_of_a_number_is_an_array():
    x = leaf(1.0, 2.0)
    total = x.sum().retain_grad()
    (total * 2 + total * 3).backward()
    assert isinstance(total.grad, np.ndarray)
    assert total.grad.item() == 5.0


def test_tensor_copies_and_tensor_class_does_not():
    array = np.ones(2, np.float32)
    assert Tensor(array).array is array
    assert not np.shares_memory(minicnn.tensor(array).array, array)
    x = leaf(1.0)
    assert not minicnn.tensor(x).requires_grad


def test_arrays_and_lists_mix_with_tensors():
    x = leaf(1.0, 2.0)
    for y in (np.float32([3, 4]) + x, x * [3.0, 4.0], np.float32([3, 4]) * x, x + Tensor([3.0])):
        assert isinstance(y, Tensor)
        assert y.requires_grad
    product = np.ones((2, 2), np.float32) @ Tensor(np.ones((2, 1), np.float32))
    assert product.array.tolist() == [[2.0], [2.0]]


# ------------------------------------------------------------------ kernel sets


class Recording(Kernels):
    """The reference, noting which primitives it ran."""

    name = "recording"

    def __init__(self, xp=np, *, strict=False):
        super().__init__(xp, strict=strict)
        self.calls = []

    def relu(self, x):
        self.calls.append("relu")
        return super().relu(x)

    def relu_grad(self, gy, y):
        self.calls.append("relu_grad")
        return super().relu_grad(gy, y)


def test_backward_uses_the_kernel_set_of_the_forward_pass(monkeypatch):
    recording = Recording()
    backend = registry.Backend("recording", "cpu", "a test", lambda strict: recording)
    monkeypatch.setitem(registry._backends, "recording", backend)
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    x = leaf(1.0)
    with minicnn.use_backend("recording"):
        y = F.relu(x)
    with minicnn.use_backend("numpy"):
        y.backward(np.ones(1, np.float32))
    assert recording.calls == ["relu", "relu_grad"]


# ------------------------------------------------------------------ the tensor itself


def test_repr():
    assert repr(Tensor([1.0, 2.0])) == "Tensor([1., 2.])"
    assert repr(leaf(1.0)) == "Tensor([1.], requires_grad=True)"
    assert repr(leaf(1.0) * 2) == "Tensor([2.], op=multiply, requires_grad=True)"
    assert len(repr(Tensor(np.zeros(10_000)))) < 200


def test_op_names_are_snake_case():
    assert [op.__new__(op).name for op in (Relu, Custom)] == ["relu", "custom"]
    assert F.max_pool2d(leaf(1.0).reshape(1, 1, 1, 1), 1).op.name == "max_pool2d"
    assert F.cross_entropy(leaf(1.0, 2.0).reshape(1, 2), [0]).op.name == "mean"


def test_item_and_len():
    assert Tensor([[2.5]]).item() == 2.5
    assert len(Tensor([1.0, 2.0])) == 2
    with pytest.raises(ShapeError, match=r"item: the tensor has 2 values, shape \(2,\); reduce"):
        Tensor([1.0, 2.0]).item()
    with pytest.raises(ShapeError, match="len: the tensor is a single number"):
        len(Tensor(1.0))


def test_iteration_ends():
    rows = list(Tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert [row.array.tolist() for row in rows] == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(OutOfRangeError, match="index 5 is out of bounds"):
        Tensor([1.0])[5]


def test_numpy_sees_the_values():
    x = Tensor([[1.0, 2.0]])
    assert np.asarray(x).tolist() == [[1.0, 2.0]]
    assert np.asarray(x).dtype == np.float32
    assert np.asarray(x, np.float64).dtype == np.float64
    assert float(Tensor([2.0])) == 2.0
    assert Tensor([1.0])
    assert not Tensor(0.0)


def test_methods_are_the_functions():
    x = Tensor([[4.0, 1.0]])
    assert x.sqrt().array.tolist() == [[2.0, 1.0]]
    assert x.max().item() == 4.0
    assert x.argmax(1).array.tolist() == [0]
    assert x.view(2).shape == (2,)
    assert x.transpose(0, 1).shape == (2, 1)
    assert (x @ Tensor([[1.0], [1.0]])).item() == 5.0
    assert (-x).array.tolist() == [[-4.0, -1.0]]
    assert (2 - x).array.tolist() == [[-2.0, 1.0]]
    assert (8 / x).array.tolist() == [[2.0, 8.0]]


def test_a_tensor_can_be_copied():
    x = leaf(1.0, 2.0)
    other = copy.deepcopy(x)
    other.array[0] = 5
    assert x.array.tolist() == [1.0, 2.0]
    assert other.requires_grad


def test_functions_of_numpy_take_the_values_of_tensors():
    x = Tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    assert np.sum(x) == 11
    assert np.mean(x, axis=0).tolist() == [2.0, 3.5]
    assert np.max(x) == 5
    assert np.var(x, axis=1).tolist() == [0.25, 1.0]
    assert np.stack([x, x]).shape == (2, 2, 2)
    assert isinstance(np.concatenate((x, x.array), axis=0), np.ndarray)


def test_a_tensor_of_one_value_is_a_whole_number_for_int():
    assert int(Tensor([[2.5]])) == 2
    with pytest.raises(ShapeError, match="item: the tensor has 2 values"):
        int(Tensor([1, 2]))


def test_the_largest_of_an_array():
    assert F.argmax(np.array([[1.0, 5.0], [3.0, 4.0]]), dim=1).array.tolist() == [1, 1]
