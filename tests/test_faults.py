"""Every planted fault must be caught, and correct code must pass: the checks check something."""

import numpy as np
import pytest
from conftest import FAULTS_CAUGHT, FAULTS_PLANTED
from kernel_sets import ON_DEVICE
from specs import SPECS

from minicnn import functional as F
from minicnn.errors import MiniCNNError
from minicnn.testing import (
    Case,
    CheckError,
    OpSpec,
    Tampered,
    broken_attribute,
    broken_function,
    broken_kernel,
    check_op,
    planted_faults,
    surviving_faults,
    tampered,
)
from minicnn_kernels import registry

each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


@each_spec
def test_every_planted_fault_is_caught(spec, request):
    survivors = surviving_faults(spec, "numpy")
    stash, planted = request.config.stash, len(planted_faults(spec))
    stash[FAULTS_PLANTED] = stash.get(FAULTS_PLANTED, 0) + planted
    stash[FAULTS_CAUGHT] = stash.get(FAULTS_CAUGHT, 0) + planted - len(survivors)
    assert survivors == []


@each_spec
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_tampering_itself_is_no_fault(spec, dtype):
    """An operation inside an op that tampers with nothing passes: what is caught is the fault."""
    with tampered("nothing", Tampered).plant(spec, "numpy") as same:
        check_op(same, "numpy", dtype)


@each_spec
def test_fault_names_tell_faults_apart(spec):
    names = [fault.name for fault in planted_faults(spec)]
    assert len(set(names)) == len(names)


def test_a_fault_is_gone_after_its_block():
    k = registry.load("numpy")
    fault = broken_kernel("nothing", "tanh", lambda right, x: 0 * x)
    spec = OpSpec("tanh", F.tanh, [], oracle=np.tanh)
    with fault.plant(spec, "numpy"):
        assert k.tanh(np.ones(1)) == 0
    assert k.tanh(np.ones(1)) == np.tanh(1)
    assert "tanh" not in vars(k)


def test_a_weak_spec_lets_faults_survive():
    """Without a negative input a leaking ReLU passes for a tight one."""
    case = Case("positive", lambda rng: (1 + rng.random((2, 3)),))
    fault = broken_function("leak", lambda x: F.leaky_relu(x, 0.1))
    weak = OpSpec("relu", F.relu, [case], oracle=lambda x: np.maximum(x, 0), faults=[fault])
    assert surviving_faults(weak) == ["leak"]


def test_a_mistake_in_the_planting_is_not_counted_as_caught():
    def crash(right, x):
        raise ZeroDivisionError("a slip in the test")

    case = Case("plain", lambda rng: (rng.normal(size=3),))
    faults = [broken_kernel("crash", "tanh", crash)]
    spec = OpSpec("tanh", F.tanh, [case], oracle=np.tanh, faults=faults)
    with pytest.raises(ZeroDivisionError, match="a slip in the test"):
        surviving_faults(spec)


MESSAGES = {
    "one result off by 1 %": "the result differs at 1 of 6 places, most at [1, 2]: it is",
    "float64 result from float32": "the result is float64 for float32 arguments",
    "input changed in place": "argument 0 is changed in place",
    "another result at every second call": "two runs give different results",
    "strides of the arguments ignored": "the result for non-contiguous arguments differs",
    "NaN replaced by 0": "a NaN in the first element of argument 0 is lost",
    "empty batch gets a sample": "an empty batch gives shape (1, 3), expected (0, 3)",
    "zero gradient": "the gradient of argument 0 at [0, 0] is 0, but central differences give",
    "doubled gradient": "the gradient of argument 0 at [0, 0] is",
    "gradient with the wrong sign": "the gradient of argument 0 at [0, 0] is",
    "one element of the gradient dropped": "the gradient of argument 0 at [1, 2] is 0, but",
    "upstream gradient taken as ones": "the gradient of argument 0 at [0, 0] is",
    "upstream gradient changed in place": "backward changes the upstream gradient",
    "gradient in the memory of the argument": "shares memory with argument 0",
    "gradient in a buffer used again": "two runs share the memory of the gradient of argument 0",
    "gradients only together with that of argument 0": "argument 1 wanted alone differs",
}


def _check_both_dtypes(spec):
    for dtype in (np.float64, np.float32):
        check_op(spec, "numpy", dtype)


@pytest.mark.parametrize("name", MESSAGES)
def test_each_general_fault_is_caught_by_the_check_meant_for_it(name):
    def two(rng):
        return rng.normal(size=(2, 3)), rng.normal(size=(2, 3))

    spec = OpSpec("mul", F.mul, [Case("two", two, batch=(0, 1))], oracle=np.multiply)
    (fault,) = (fault for fault in planted_faults(spec) if fault.name == name)
    with fault.plant(spec, "numpy") as broken, pytest.raises(CheckError) as caught:
        _check_both_dtypes(broken)
    assert str(caught.value).startswith("mul, case 'two' (numpy, float")
    assert MESSAGES[name] in str(caught.value)


def test_the_general_faults_are_all_in_the_list_above():
    spec = OpSpec("mul", F.mul, [Case("two", lambda rng: (rng.normal(size=3),) * 2, batch=(0, 1))],
                  oracle=np.multiply)  # fmt: skip
    assert {fault.name for fault in planted_faults(spec)} == set(MESSAGES)


def test_a_wrong_gradient_that_the_library_refuses_counts_as_caught():
    class Wrong(Tampered):
        def gradient(self, i, gx, gy):
            return gx[:1]

    case = Case("plain", lambda rng: (rng.normal(size=3),))
    spec = OpSpec("tanh", F.tanh, [case], oracle=np.tanh, faults=[tampered("shape", Wrong)])
    assert surviving_faults(spec) == []
    with spec.faults[0].plant(spec, "numpy") as broken, pytest.raises(MiniCNNError, match="shape"):
        check_op(broken, "numpy")


def test_a_method_of_a_class_can_be_broken():
    from minicnn.functional.activation import Tanh

    fault = broken_attribute("half", Tanh, "backward", lambda right, self, k, gy: gy / 2)
    case = Case("plain", lambda rng: (rng.normal(size=3),))
    spec = OpSpec("tanh", F.tanh, [case], oracle=np.tanh, faults=[fault])
    before = Tanh.backward
    assert surviving_faults(spec) == []
    assert Tanh.backward is before


@pytest.mark.gpu
@pytest.mark.sampled(0.2)
@each_spec
def test_every_planted_fault_is_caught_on_the_device(spec):
    """With the set that the device uses; what differs there is where the arrays live."""
    if not ON_DEVICE:
        pytest.skip("no CUDA device")
    assert surviving_faults(spec, registry.selected("cuda")) == []
