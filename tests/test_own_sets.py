"""Kernel sets that readers write: what registering one does, and what it refuses."""

import numpy as np
import pytest
from kernel_sets import each_backend

import minicnn
from minicnn import Tensor
from minicnn import functional as F
from minicnn.errors import BackendError
from minicnn_kernels import registry
from minicnn_kernels.reference import PRIMITIVES, Kernels


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_backends", dict(registry._backends))
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))


class Doubled(Kernels):
    """ReLU twice as high.

    More about it.
    """

    name = "doubled"

    def relu(self, x):
        return self._twice(super().relu(x))

    def _twice(self, x):
        return 2 * x


def test_a_registered_class_is_a_backend_like_the_others():
    assert minicnn.register_kernels(Doubled) is Doubled
    x = Tensor([-1.0, 3.0])
    with minicnn.use_backend("doubled"):
        assert F.relu(x).numpy().tolist() == [0, 6]
        assert F.tanh(x).numpy().tolist() == np.tanh(x.numpy()).tolist()
    assert "doubled" in registry.names()
    lines = minicnn.describe().split("doubled (cpu): ReLU twice as high\n")[1].splitlines()
    assert lines[0] == "  own (1): relu"


def test_strict_mode_reaches_it():
    minicnn.register_kernels(Doubled)
    with minicnn.use_backend("doubled", strict=True):
        assert F.relu(Tensor([3.0])).item() == 6
        with pytest.raises(BackendError, match="tanh: the 'doubled' kernels do not implement it"):
            F.tanh(Tensor([3.0]))


def test_the_second_of_a_name_replaces_the_first_at_once():
    minicnn.register_kernels(Doubled)

    class Again(Kernels):
        name = "doubled"

        def relu(self, x):
            return -x

    with minicnn.use_backend("doubled"):
        assert F.relu(Tensor([3.0])).item() == 6
        minicnn.register_kernels(Again)
        assert F.relu(Tensor([3.0])).item() == -3
    assert "doubled (cpu): kernels of your own\n" in minicnn.describe()


def test_a_set_may_build_on_another():
    class Deeper(Doubled):
        name = "deeper"

        def tanh(self, x):
            return 0 * x

    minicnn.register_kernels(Deeper)
    assert registry.load("deeper").overridden() == {"relu", "tanh"}


def refused(kernels, *words):
    before = registry.names()
    with pytest.raises(BackendError, match="register_kernels: ") as raised:
        minicnn.register_kernels(kernels)
    assert [word for word in words if word not in str(raised.value)] == []
    assert registry.names() == before


def test_what_is_no_set_is_refused():
    refused(Doubled(), "expected a subclass of Kernels", "pass the class itself")
    refused(dict, "expected a subclass of Kernels, got <class 'dict'>")


@pytest.mark.parametrize("base", [Kernels, Doubled])
def test_a_set_needs_a_name_of_its_own(base):
    class Nameless(base):
        pass

    refused(Nameless, "Nameless has no name", repr(base.name), "add a line like name = 'nameless'")


@pytest.mark.parametrize("name", ["numpy", "numba", "cupy_cuda", "shapes"])
def test_built_in_sets_are_not_replaced(name):
    refused(type("Bold", (Kernels,), {"name": name}), repr(name), "choose another name for Bold")


def test_a_misspelled_primitive_is_refused():
    def conv2(self, x, w, b, window, groups):
        return x

    wrong = type("Wrong", (Kernels,), {"name": "wrong", "conv2": conv2})
    refused(wrong, "Wrong.conv2 is no primitive", "did you mean 'conv2d'?", "underscore")


@pytest.mark.parametrize(("method", "arguments"), [
    (lambda self, x, w, b, window: x, "(x, w, b, window)"),
    (lambda self, x, w, b, window, group: x, "(x, w, b, window, group)"),
    (lambda self, x, w, b, window, groups=1: x, "(x, w, b, window, groups=1)"),
    (lambda self, *args: args, "(*args)"),
])  # fmt: skip
def test_other_arguments_than_the_contracts_are_refused(method, arguments):
    wrong = type("Wrong", (Kernels,), {"name": "wrong", "conv2d": method})
    refused(wrong, f"conv2d takes {arguments}, but", "contract says (x, w, b, window, groups);")


@each_backend
def test_the_sets_of_minicnn_would_pass(backend):
    """So the rules for readers are no stricter than those that the house keeps."""
    own = type(registry.load(backend))
    minicnn.register_kernels(type("Copy", (own,), {"name": "copy"}))
    assert registry.load("copy").overridden() == (
        frozenset() if own is Kernels else own.overridden()
    )
    assert registry.load("copy").device == registry.load(backend).device
    assert own.overridden() <= PRIMITIVES
