"""Which kernels run: selection, strictness, the contract that every set keeps."""

import ast
import contextlib
import inspect
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import changed, global_state
from specs import SPECS

import minicnn
from minicnn import Tensor
from minicnn import functional as F
from minicnn.errors import BackendError, DeviceError
from minicnn.testing import check_op
from minicnn_kernels import registry
from minicnn_kernels.cupy_set import CupyKernels
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.reference import PRIMITIVES, Kernels

USABLE = [name for name, reason in registry.availability().items() if reason is None]
CPU = [name for name in USABLE if registry.load(name).device == "cpu"]


# ------------------------------------------------------------------ selection


def test_use_backend_selects_at_once():
    before = registry.selected()
    chosen = minicnn.use_backend("numpy")
    assert registry.selected() == "numpy"
    assert registry.kernels().name == "numpy"
    chosen.__exit__(None, None, None)
    assert registry.selected() == before


def test_use_backend_selects_for_a_block_and_nests():
    before = registry.selected()
    with minicnn.use_backend(CPU[-1]):
        with minicnn.use_backend("numpy"):
            assert registry.selected() == "numpy"
        assert registry.selected() == CPU[-1]
    assert registry.selected() == before


def test_use_backend_selects_for_each_of_several_blocks():
    """An object may be kept: what was selected before a block is back after it."""
    with minicnn.use_backend("numpy"):
        chosen = minicnn.use_backend("numpy", strict=True)
        minicnn.use_backend(CPU[-1])
        for before in (CPU[-1], CPU[-1], "numpy"):
            minicnn.use_backend(before)
            with chosen:
                assert registry.selected() == "numpy"
                assert registry.kernels().strict
            assert registry.selected() == before
            assert not registry.kernels().strict


def test_use_backend_restores_after_an_error():
    before = registry.selected()
    with pytest.raises(ZeroDivisionError), minicnn.use_backend("numpy", strict=True):
        raise ZeroDivisionError
    assert registry.selected() == before
    assert not registry.load("numpy").strict


def test_an_unknown_backend_names_the_nearest():
    with pytest.raises(BackendError) as raised:
        minicnn.use_backend("nunpy")
    text = str(raised.value)
    assert text.startswith("use_backend: unknown backend 'nunpy'; did you mean 'numpy'? choose one")
    assert all(name in text for name in registry.names())


def test_an_unavailable_backend_says_why_and_keeps_the_selection(monkeypatch):
    def missing(strict):
        raise ImportError("no such library")

    backend = registry.Backend("missing", "cpu", "a set that lacks its library", missing)
    monkeypatch.setitem(registry._backends, "missing", backend)
    before = registry.selected()
    with pytest.raises(BackendError, match=r"'missing' .* cannot be used here: no such library"):
        minicnn.use_backend("missing")
    assert registry.selected() == before
    assert "no such library" in registry.availability()["missing"]
    assert "not available: use_backend: 'missing'" in registry.describe()


def python(code, **variables):
    """Run code in a fresh interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != registry.ENVIRONMENT_VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**environment, **variables},
        check=False,
    )


PRINT_SELECTED = "from minicnn_kernels import registry; print(registry.selected())"


@pytest.mark.parametrize("name", CPU)
def test_the_environment_selects(name):
    done = python(PRINT_SELECTED, MINICNN_BACKEND=name)
    assert done.stdout.strip() == name


def test_a_misspelled_environment_is_an_error():
    done = python(PRINT_SELECTED, MINICNN_BACKEND="numbe")
    assert done.returncode == 1
    assert "unknown backend 'numbe'; did you mean 'numba'?" in done.stderr


def test_an_environment_for_the_gpu_leaves_the_cpu_alone():
    done = python(PRINT_SELECTED, MINICNN_BACKEND="cupy")
    assert done.stdout.strip() in CPU


def test_a_call_beats_the_environment():
    code = f"import minicnn; minicnn.use_backend('numpy'); {PRINT_SELECTED}"
    assert python(code, MINICNN_BACKEND=CPU[-1]).stdout.strip() == "numpy"


def test_the_default_is_the_fastest_that_loads():
    expected = "numba" if "numba" in CPU else "numpy"
    assert python(PRINT_SELECTED).stdout.strip() == expected


def test_describe_names_every_set_and_what_it_implements():
    text = registry.describe()
    for name in registry.names():
        assert f"{name} (" in text
    assert f"implements all {len(PRIMITIVES)} primitives" in text


def test_describe_tells_own_primitives_from_those_of_the_reference(monkeypatch):
    backend = registry.Backend("partial", "cpu", "a test", lambda strict: Partial(strict=strict))
    monkeypatch.setitem(registry._backends, "partial", backend)
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    lines = registry.describe().split("partial (cpu): a test\n")[1].splitlines()
    assert lines[0] == "  own (1): relu"
    assert lines[1].startswith(f"  from the reference ({len(PRIMITIVES) - 1}): adam_step, ")
    assert " relu," not in lines[1]


# ------------------------------------------------------------------ strict mode


class Partial(Kernels):
    """A set that implements one primitive, and that only for float32."""

    name = "partial"

    def relu(self, x):
        if x.dtype != np.float32:
            self.fall_back("relu", "float64 input")
        return super().relu(x)


def test_a_set_runs_the_reference_for_what_it_lacks():
    k = Partial()
    assert k.overridden() == {"relu"}
    assert k.tanh(np.zeros(1)) == 0
    assert k.relu(np.ones(1)) == 1


def test_strict_mode_refuses_a_primitive_of_the_reference():
    k = Partial(strict=True)
    assert k.relu(np.ones(1, np.float32)) == 1
    with pytest.raises(BackendError, match="tanh: the 'partial' kernels do not implement it"):
        k.tanh(np.zeros(1))


def test_strict_mode_refuses_to_fall_back_inside_an_override():
    with pytest.raises(BackendError, match=r"relu: the 'partial' kernels fall back .*float64 inp"):
        Partial(strict=True).relu(np.ones(1))


def test_strict_mode_is_switched_with_the_backend(monkeypatch):
    backend = registry.Backend("partial", "cpu", "a test", lambda strict: Partial(strict=strict))
    monkeypatch.setitem(registry._backends, "partial", backend)
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    x = Tensor([1.0])
    with minicnn.use_backend("partial"):
        F.tanh(x)
    with minicnn.use_backend("partial", strict=True), pytest.raises(BackendError, match="tanh"):
        F.tanh(x)


def test_the_reference_is_never_a_fallback():
    with minicnn.use_backend("numpy", strict=True):
        assert F.tanh(Tensor([0.0])).item() == 0


def test_registering_again_replaces_a_set(monkeypatch):
    monkeypatch.setattr(registry, "_backends", dict(registry._backends))
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    first, second = Partial(), Partial()
    registry.register(registry.Backend("twice", "cpu", "a test", lambda strict: first))
    assert registry.load("twice") is first
    registry.register(registry.Backend("twice", "cpu", "a test", lambda strict: second))
    assert registry.load("twice") is second


# ------------------------------------------------------------------ devices


class FakeArray:
    """What the registry sees of an array of another device."""

    __array_priority__ = 100
    shape = (1,)
    dtype = np.dtype(np.float32)


def test_arrays_of_two_devices_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=FakeArray))
    with pytest.raises(DeviceError) as raised:
        registry.kernels_for("conv2d", (np.ones(1), None, FakeArray(), 2.0))
    assert "conv2d: argument 0 on cpu, argument 2 on cuda; bring them to" in str(raised.value)


def test_an_array_of_an_unknown_library_is_named():
    with pytest.raises(DeviceError, match="cannot use an array of type FakeArray; convert it"):
        registry.kernels_for("add", (FakeArray(),))


def test_numbers_have_no_device():
    assert registry.kernels_for("add", (1.0, None, np.float64(1))).device == "cpu"
    assert registry.device_of(np.float64(1)) == "cpu"


# ------------------------------------------------------------------ the contract

CLASSES = sorted(
    {type(registry.load(name)) for name in USABLE} | {CupyKernels, Kernels},
    key=lambda cls: cls.name,
)
SIGNATURES = [
    pytest.param(cls, primitive, id=f"{cls.name}-{primitive}")
    for cls in CLASSES
    for primitive in sorted(cls.overridden())
    if cls is not Kernels
]


def parameters(function):
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize(("cls", "primitive"), SIGNATURES)
def test_an_override_has_the_signature_of_the_reference(cls, primitive):
    assert parameters(getattr(cls, primitive)) == parameters(getattr(Kernels, primitive))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_a_set_adds_no_public_primitive_of_its_own(cls):
    public = {
        name
        for name, value in inspect.getmembers(cls, callable)
        if not name.startswith("_") and name not in {"fall_back", "overridden"}
    }
    assert public == PRIMITIVES


def _primitives_used(folder):
    """Names called on a kernel set ``k`` in the library."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "k"
            ):
                yield path.name, node.attr


def test_the_library_calls_only_primitives():
    used = set(_primitives_used(Path(minicnn.__file__).parent / "functional"))
    assert {name for _, name in used} - PRIMITIVES == {"xp"}


def _arrays(values):
    """The arrays among values, one level deep."""
    for value in values:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from (v for v in value if isinstance(v, np.ndarray))


@contextlib.contextmanager
def watched(k, calls):
    """Note for every call of a primitive from outside what breaks a rule of the contract."""
    depth = [0]

    def watch(name, function):
        def call(*args, **kwargs):
            before = [a.copy() for a in _arrays(args)] if not depth[0] else []
            depth[0] += 1
            try:
                result = function(*args, **kwargs)
            finally:
                depth[0] -= 1
            if not depth[0]:
                calls.append((name, args, before, result))
            return result

        return call

    for name in PRIMITIVES:
        setattr(k, name, watch(name, getattr(k, name)))
    try:
        yield
    finally:
        for name in PRIMITIVES:
            delattr(k, name)


MOVED = {"batch_norm_move": 2}  # arguments that a primitive is there to change, the first so many


def _broken_rules(name, args, before, result):
    """Rules of the contract that a call broke, in words."""
    inputs, outputs = list(_arrays(args)), list(_arrays([result]))
    moved = MOVED.get(name, 0)
    for old, now in zip(before[moved:], inputs[moved:], strict=True):
        if not np.array_equal(old, now, equal_nan=old.dtype.kind == "f"):
            yield f"{name} changes an input"
    floats = {a.dtype for a in inputs if a.dtype.kind == "f" and a.ndim}
    for y in outputs:
        if any(np.may_share_memory(y, a) for a in inputs if a.size):
            yield f"{name} returns memory of an input"
        if y.dtype == np.float64 and np.dtype(np.float32) in floats:
            yield f"{name} returns float64 for float32"


@pytest.fixture(scope="module", params=CPU)
def calls(request, loops_for_every_size):
    """Every call of a primitive in all cases of all specs, on arrays of every layout."""
    made = []
    with watched(registry.load(request.param), made):
        for spec in SPECS:
            check_op(spec, request.param, np.float32)
    return made


def test_every_primitive_leaves_its_inputs_and_returns_new_arrays(calls):
    assert {rule for call in calls for rule in _broken_rules(*call)} == set()


def test_the_specs_call_every_primitive(calls):
    """Except those that others are built from, the optimizer steps, clipping, and batches."""
    never = PRIMITIVES - {name for name, *_ in calls}
    steps = {"sgd_step", "adam_step", "rmsprop_step", "squared_norm", "scale_by", "gather_images"}
    assert never <= {"im2col", "col2im", "random_keep"} | steps


@pytest.mark.parametrize("backend", CPU)
def test_im2col_and_col2im_are_transposes(backend):
    """<im2col(x), y> = <x, col2im(y)> for all x and y; with whole numbers exactly."""
    k, rng = registry.load(backend), np.random.default_rng(0)
    window = Window2d.of((5, 6), (2, 3), (2, 1), (0, 1), (2, 1))
    x = rng.integers(-9, 9, (2, 3, 5, 6)).astype(np.float32)
    col = k.im2col(x, window)
    assert col.shape == (2, 3, 2, 3, window.oh, window.ow)
    y = rng.integers(-9, 9, col.shape).astype(np.float32)
    assert (col * y).sum() == (x * k.col2im(y, window)).sum()


# ------------------------------------------------------------------ the tests' own seal


def test_the_seal_notices_what_a_test_leaves_changed():
    before = global_state()
    with minicnn.use_backend("numpy", strict=True), minicnn.no_grad():
        differences = changed(before, global_state())
    assert any(d.startswith("strict mode: False -> True") for d in differences)
    assert any(d.startswith("grad mode: True -> False") for d in differences)
    assert changed(before, global_state()) == []
