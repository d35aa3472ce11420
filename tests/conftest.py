"""What every test can rely on: a seeded generator, and global settings as they should be."""

from __future__ import annotations

import ast
import importlib.util
import os
import signal
import zlib
from pathlib import Path

import pytest

import minicnn
from minicnn_kernels import algorithms, precision, registry

precision.allow_tf32(False)  # float32 is what tolerances are computed for; tests of TF32 allow it

# What a checkout on a GPU machine, used without being installed, may lack. Test files that import
# one of them are then left out, by name.
OPTIONAL = (
    "hypothesis",
    "numba",
    "PIL",
    "pooch",
    "rich",
    "safetensors",
    "threadpoolctl",
    "tomli_w",
)
MISSING = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
LEFT_OUT = pytest.StashKey[list[str]]()
TEST_SETS = os.environ.get("MINICNN_TEST_SETS")
THOROUGH = os.environ.get("MINICNN_THOROUGH", "0") != "0"  # every case of what is sampled

if "hypothesis" not in MISSING:
    from hypothesis import settings

    EXAMPLES = int(os.environ.get("MINICNN_TEST_EXAMPLES", "100"))
    settings.register_profile(
        "repeatable", deadline=None, derandomize=True, database=None, max_examples=EXAMPLES
    )
    settings.load_profile("repeatable")

# The stand-in for CuPy is put on the path by those who want it, and only there is it "cupy".
collect_ignore = ["cuda_on_cpu"]

FAULTS_PLANTED = pytest.StashKey[int]()
FAULTS_CAUGHT = pytest.StashKey[int]()
COUNTERS = {"planted": FAULTS_PLANTED, "caught": FAULTS_CAUGHT}
RAN_ON_CPU = pytest.StashKey[list[str]]()


@pytest.fixture
def heard():
    """Ctrl-C and its like strike, though a shell's background or ``nohup`` may have them ignored.

    Processes that a test starts hear them too: they inherit what is ignored, but no handler.
    """
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):  # which Windows lacks
        wanted[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def global_state() -> dict[str, object]:
    """The settings of the process that a test may change only for itself."""
    return {
        "kernel set": registry.selected("cpu"),
        "strict mode": registry.load("numpy").strict,
        "grad mode": minicnn.is_grad_enabled(),
        "direct convolution": algorithms.is_direct(),
        "TF32": precision.tf32_allowed(),
        "number of threads": minicnn.get_num_threads(),
    }


def restore(state: dict[str, object]) -> None:
    minicnn.use_backend(str(state["kernel set"]), strict=bool(state["strict mode"]))
    minicnn.direct_convolution(bool(state["direct convolution"]))
    minicnn.allow_tf32(bool(state["TF32"]))
    minicnn.autograd._thread.grad_enabled = bool(state["grad mode"])
    if minicnn.get_num_threads() != state["number of threads"]:
        minicnn.set_num_threads(int(str(state["number of threads"])))


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """What differs, in words."""
    return [f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key]]


@pytest.fixture(autouse=True)
def sealed():
    """Seed the generator before the test, and fail it where it leaves a global setting changed."""
    minicnn.seed(0)
    before = global_state()
    yield
    differences = changed(before, global_state())
    if differences:
        restore(before)
        pytest.fail(f"the test left global settings changed: {', '.join(differences)}")


@pytest.fixture(scope="module")
def loops_for_every_size():
    """Small arrays too go through the compiled loops, which leave them to array code otherwise."""
    if registry.availability()["numba"] is not None:
        yield
        return
    from minicnn_kernels.numba_cpu import kernels

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "SMALL", 0)
        yield


def _imports(path: Path) -> set[str]:
    """The packages that a module imports at its top level."""
    found: set[str] = set()
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
            if (node.module or "").startswith("minicnn_kernels.numba_cpu"):
                found.add("numba")
    return found


def pytest_ignore_collect(collection_path, config):
    if not MISSING or collection_path.suffix != ".py" or collection_path.name == "conftest.py":
        return None
    missing = _imports(collection_path).intersection(MISSING)
    if not missing:
        return None
    reason = f"{collection_path.name} ({', '.join(sorted(missing))} not installed)"
    config.stash.setdefault(LEFT_OUT, []).append(reason)
    return True


def pytest_collection_modifyitems(config, items):
    """Leave out cases of what is sampled, and tests of other sets than those asked for."""
    if not THOROUGH:
        _keep(config, items, _is_in_the_sample)
    if TEST_SETS is not None:
        _keep(config, items, _fits_the_sets())


def _is_in_the_sample(item):
    """The same cases every time: chosen by their names."""
    mark = item.get_closest_marker("sampled")
    return mark is None or zlib.crc32(item.nodeid.encode()) < mark.args[0] * 2**32


def _fits_the_sets():
    """With MINICNN_TEST_SETS: the tests of the device sets named there; without names, the rest."""
    on_device = {n for n in registry.names() if registry._find(n).device != "cpu"}
    wanted = set(str(TEST_SETS).split())

    def fits(item):
        sets = on_device & _parameters(item)
        return bool(sets) and sets <= wanted if wanted else not sets

    return fits


def _keep(config, items, is_wanted):
    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(item)])
    items[:] = [item for item in items if is_wanted(item)]


def _parameters(item: pytest.Item) -> set[str]:
    call = getattr(item, "callspec", None)
    return {p for p in call.params.values() if isinstance(p, str)} if call else set()


def pytest_sessionfinish(session):
    """A process of several tells the one that started it what it has counted."""
    if hasattr(session.config, "workeroutput"):
        for name, key in COUNTERS.items():
            session.config.workeroutput[name] = session.config.stash.get(key, 0)
        session.config.workeroutput["on the stand-in"] = session.config.stash.get(RAN_ON_CPU, [])


class SeveralProcesses:
    """What the process that started others does when one of them has ended."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        for name, key in COUNTERS.items():
            counted = getattr(node, "workeroutput", {}).get(name, 0)
            node.config.stash[key] = node.config.stash.get(key, 0) + counted
        ran = getattr(node, "workeroutput", {}).get("on the stand-in", [])
        node.config.stash.setdefault(RAN_ON_CPU, []).extend(ran)


def pytest_configure(config):
    config.pluginmanager.register(SeveralProcesses())


def pytest_terminal_summary(terminalreporter, config):
    for reason in config.stash.get(LEFT_OUT, []):
        terminalreporter.write_line(f"left out: {reason}")
    planted, caught = (config.stash.get(key, 0) for key in COUNTERS.values())
    if planted:
        terminalreporter.write_line(f"{planted} planted faults, {caught} caught")
    if ran := config.stash.get(RAN_ON_CPU, []):
        terminalreporter.write_line(f"tests on the stand-in for CuPy: {', '.join(ran)}")
