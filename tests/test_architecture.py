"""Imports point downwards, `import minicnn` stays light, public functions have examples."""

import ast
import configparser
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import minicnn
import minicnn_kernels

ROOT = Path(__file__).parents[1]
PACKAGES = {"minicnn": ROOT / "minicnn", "minicnn_kernels": ROOT / "kernels" / "minicnn_kernels"}

# From the ground up. Modules of one floor do not import each other, except within one package.
FLOORS = (
    ("minicnn_kernels",),
    ("minicnn.version", "minicnn.errors"),
    ("minicnn.random", "minicnn._checks", "minicnn._grad_mode", "minicnn._numpy_calls"),
    ("minicnn.autograd",),
    ("minicnn.functional",),
    ("minicnn.nn",),
    ("minicnn.models",),
    ("minicnn.optim", "minicnn.data", "minicnn.inspect", "minicnn.testing"),
    # files of weights, which training reads too
    ("minicnn.training.files", "minicnn.training.packing"),
    ("minicnn.interop.pickled",),
    ("minicnn.interop.torch_zip", "minicnn.interop.torch_writer"),
    ("minicnn.interop.weights",),
    ("minicnn.training",),
    ("minicnn.interop", "minicnn.plot"),
    ("minicnn.report",),
    ("minicnn.commands",),
    ("minicnn.cli",),
    ("minicnn.__main__",),
)


def modules():
    """Every module of both packages: name -> file."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((package, *parts))] = path
    return found


MODULES = modules()


def unit_of(module):
    """The floor's entry that a module belongs to, and the number of the floor."""
    for number, units in enumerate(FLOORS):
        for unit in units:
            if module == unit or module.startswith(unit + "."):
                return unit, number
    return None, None


def imports(name, path):
    """Our own modules that a module imports, anywhere in it, as (module, line)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno} has a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [w if w in MODULES else node.module for w in whole]
        else:
            continue
        for target in targets:
            if target.split(".")[0] in PACKAGES:
                yield target, node.lineno


def test_every_module_stands_on_a_floor():
    homeless = [name for name in MODULES if unit_of(name)[0] is None]
    assert homeless == ["minicnn"], "give the module's package a floor"


@pytest.mark.parametrize("name", [name for name in MODULES if name != "minicnn"])
def test_imports_point_downwards(name):
    unit, floor = unit_of(name)
    for target, line in imports(name, MODULES[name]):
        other, other_floor = unit_of(target)
        assert other is not None, f"{name}:{line} imports from the package minicnn itself"
        assert other_floor < floor or other == unit, f"{name}:{line} imports {target}, above it"


def test_the_parser_sees_imports_of_every_kind(tmp_path):
    path = tmp_path / "example.py"
    path.write_text(
        "import minicnn.cli\nfrom minicnn import random, Tensor\nimport numpy\n"
        "def f():\n    from minicnn.nn.module import Module\n"
    )
    assert list(imports("example", path)) == [
        ("minicnn.cli", 1),
        ("minicnn.random", 2),
        ("minicnn", 2),
        ("minicnn.nn.module", 5),
    ]


HEAVY = (
    *("cupy", "numba", "llvmlite", "matplotlib", "torch", "rich", "pooch", "PIL", "safetensors"),
    *("onnx", "sklearn", "tensorboardX", "jinja2"),
)


def test_importing_minicnn_imports_nothing_heavy():
    code = f"import sys, minicnn; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_setup_lists_the_packages_on_disk():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    on_disk = [name for name, path in MODULES.items() if path.name == "__init__.py"]
    assert sorted(listed) == sorted(on_disk)


def public_functions():
    """Functions in ``__all__`` of the package and its public subpackages, once each."""
    found = {}
    places = [minicnn, minicnn_kernels]
    for info in pkgutil.iter_modules(minicnn.__path__, "minicnn."):
        if info.ispkg and not info.name.rpartition(".")[2].startswith("_"):
            places.append(importlib.import_module(info.name))
    for place in places:
        for name in getattr(place, "__all__", ()):
            value = getattr(place, name)
            if inspect.isfunction(value):
                found[f"{value.__module__}.{value.__name__}"] = value
    return found


PUBLIC = public_functions()


def test_the_list_of_public_functions_is_not_empty():
    assert "minicnn.functional.convolution.conv2d" in PUBLIC
    assert "minicnn.testing.gradcheck.gradcheck" in PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_have_a_docstring_with_an_example(name):
    text = inspect.getdoc(PUBLIC[name]) or ""
    assert text.splitlines()[0].endswith((".", ":")), "the first line is a sentence"
    assert ">>>" in text


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short_and_say_what_they_are(name):
    text = MODULES[name].read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "the module has no docstring"
    assert len(text.splitlines()) <= 400 or name == "minicnn_kernels.reference"
