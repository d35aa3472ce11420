"""The house map: which file is for what, told by the files themselves.

Each folder with Python modules is a page; on it each file stands with its module docstring, which
in this house explains the algorithm. Nothing is imported for it, so that kernels for a GPU are on
the map of a machine without one. The floors and the direction of imports are the table that
``tests/test_architecture.py`` holds the imports to.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from docstrings import first_sentence, of_cuda, of_python, to_rst
from markup import contents, joined, table, title

ROOT = Path(__file__).parents[2]
SOURCES = {"minicnn_kernels": ROOT / "kernels" / "minicnn_kernels", "minicnn": ROOT / "minicnn"}
FLOORS = ROOT / "tests" / "test_architecture.py"


def folders() -> dict[str, Path]:
    """Every package on the disk by its name, the kernels first."""
    found = {}
    for name, root in SOURCES.items():
        for path in sorted(root.rglob("__init__.py")):
            inside = path.parent.relative_to(root).parts
            found[".".join((name, *inside))] = path.parent
    return found


def files(folder: Path) -> list[Path]:
    """The source files of a folder: Python by name, then CUDA by name."""
    python = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    return [*python, *sorted(folder.glob("*.cu")), *sorted(folder.glob("*.cuh"))]


def exported(folder: Path) -> set[str]:
    """The names in the ``__all__`` of a package."""
    for node in ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def floors() -> list[tuple[str, ...]]:
    """The floors from the ground up, as the test has them."""
    for node in ast.parse(FLOORS.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            found: list[tuple[str, ...]] = ast.literal_eval(node.value)
            return found
    raise LookupError(f"{FLOORS} has no FLOORS")


def pages(head: str) -> dict[str, str]:
    """By path in the site, the text of each page; the map begins with the text named ``head``."""
    done = {"house/index.rst": joined(_map(head))}
    for name, folder in folders().items():
        done[f"house/{name}.rst"] = joined(_folder(name, folder))
    return done


def _map(head: str) -> Iterator[str]:
    yield from title("The house")
    yield f".. include:: {head}"
    yield "    :parser: myst_parser.sphinx_"
    yield ""
    yield from title("The floors", "-")
    yield "From the roof to the ground. A file imports only from floors below its own, or from its"
    yield "own package; a test parses every import and fails on an arrow upward."
    yield ""
    rows = []
    for number, units in reversed(list(enumerate(floors()))):
        for unit in units:
            rows.append([str(number), _unit(unit), first_sentence(of_python(_path(unit)))])
    yield from table(["floor", "package or file", "what it is for"], rows, "names")
    yield from title("The files", "-")
    for name, folder in folders().items():
        yield from title(_written(name, folder), "~")
        lines = of_python(folder / "__init__.py")
        yield from (first_sentence(lines), "") if lines else ()
        rows = [[_file_link(name, path), _first(path)] for path in files(folder)]
        yield from table(["file", "what it is for"], rows, "names") if rows else ()
    yield from contents(folders(), hidden=True)


def _unit(unit: str) -> str:
    if unit in folders():
        return f":doc:`{unit} <{unit}>`"
    return f":py:mod:`{unit}`"


def _path(unit: str) -> Path:
    first, *rest = unit.split(".")
    path = SOURCES[first].joinpath(*rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _written(name: str, folder: Path) -> str:
    return f"{folder.relative_to(ROOT).as_posix()}/"


def _label(name: str, path: Path) -> str:
    return f"file-{name}-{path.name}"


def _file_link(name: str, path: Path) -> str:
    return f":ref:`{path.name} <{_label(name, path)}>`"


def _first(path: Path) -> str:
    return first_sentence(of_python(path) if path.suffix == ".py" else of_cuda(path))


def _folder(name: str, folder: Path) -> Iterator[str]:
    yield from title(_written(name, folder))
    yield f".. py:module:: {name}"
    yield ""
    yield from to_rst(of_python(folder / "__init__.py"))
    for path in files(folder):
        yield from (f".. _{_label(name, path)}:", "")
        yield from title(path.name, "-")
        if path.suffix == ".py":
            if path.stem not in exported(folder):  # a module and a function have one name then
                yield from (f".. py:module:: {name}.{path.stem}", "    :no-typesetting:", "")
            yield from to_rst(of_python(path))
        else:
            yield from to_rst(of_cuda(path))
