"""The pages of the API: every public name of every public package, once.

What is public a package says in ``__all__``; each of its modules that has names of its own to offer
without the package repeating them is in `MODULES`. An object that several packages offer (the
`Trainer`, `load_weights`) is described where it comes first, and the others link to it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any, NamedTuple

from docstrings import first_sentence, to_rst
from markup import contents, joined, table, title

MODULES = (
    "minicnn.errors",
    "minicnn.random",
    "minicnn.nn.init",
    "minicnn.data.transforms",
    "minicnn.optim.lr_scheduler",
    "minicnn.training.trainer",
    "minicnn.training.callbacks",
    "minicnn.training.checkpoint",
    "minicnn.training.config",
    "minicnn.training.ensemble",
    "minicnn.training.history",
    "minicnn.training.inference",
    "minicnn.training.metrics",
    "minicnn.training.parallel",
    "minicnn.training.run",
    "minicnn.training.transfer",
    "minicnn.interop.sklearn",
    "minicnn.interop.tensorboard",
    "minicnn.plot.picture",
    "minicnn_kernels.geometry",
    "minicnn_kernels.reference",
    "minicnn_kernels.registry",
)
CONTRACT = "minicnn_kernels.reference"


class Name(NamedTuple):
    """A public name: where it is offered, where it is described, and what it is."""

    module: str
    name: str
    home: str
    value: Any

    @property
    def path(self) -> str:
        """The name under which it is described."""
        return f"{self.home}.{self.name}"


def packages() -> list[str]:
    """The packages that say in ``__all__`` what they offer, `minicnn` first."""
    import minicnn

    found = ["minicnn"]
    for info in pkgutil.walk_packages(minicnn.__path__, "minicnn."):
        hidden = any(part.startswith("_") for part in info.name.split("."))
        if info.ispkg and not hidden and hasattr(importlib.import_module(info.name), "__all__"):
            found.append(info.name)
    return found


def offered(module: ModuleType) -> list[str]:
    """The public names of a module: its ``__all__``, or what it defines without underscore."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("__")]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def public() -> dict[str, list[Name]]:
    """By package or module, what it offers."""
    found: dict[str, list[Name]] = {}
    homes: dict[int, str] = {}
    for place in (*packages(), *MODULES):
        module = importlib.import_module(place)
        found[place] = []
        for name in offered(module):
            value = getattr(module, name)
            counted = inspect.isclass(value) or inspect.isfunction(value)
            home = homes.setdefault(id(value), place) if counted else place
            if inspect.ismodule(value):
                home = value.__name__.rpartition(".")[0]
            found[place].append(Name(place, name, home, value))
    return found


def page_of(place: str) -> str:
    """The path of the page, without its ending.

    >>> page_of("minicnn.nn")
    'api/minicnn.nn'
    """
    return f"api/{place}"


def pages() -> dict[str, str]:
    """By path in the site, the text of each page."""
    found = public()
    done = {"api/index.rst": _index(found)}
    for place, names in found.items():
        done[f"{page_of(place)}.rst"] = _page(place, names)
    return done


def _index(found: dict[str, list[Name]]) -> str:
    rows = [
        [f":doc:`{place} <{place}>`", first_sentence(_docstring(place))] for place in sorted(found)
    ]
    return joined(
        [
            *title("The API"),
            "Every public name, with its signature, the shapes that it takes and an example that",
            "the tests run. Names and orders of arguments are PyTorch's where PyTorch has them.",
            "",
            *table(["package", "what is in it"], rows),
            *contents(sorted(found), hidden=True),
        ]
    )


def _docstring(place: str) -> list[str]:
    return (inspect.getdoc(importlib.import_module(place)) or "").splitlines()


def _page(place: str, names: list[Name]) -> str:
    lines = [*title(place), f".. py:currentmodule:: {place}", "", *to_rst(_docstring(place))]
    if place == CONTRACT:
        lines += _sets()
    rows = [[_link(name), _about(name)] for name in sorted(names, key=lambda n: n.name.lower())]
    lines += table(["name", "what it is"], rows, "names")
    own = [n for n in names if n.home == place and not inspect.ismodule(n.value)]
    if own:
        lines += title("In full", "-")
    for name in own:
        lines += _described(name)
    return joined(lines)


def _link(name: Name) -> str:
    if inspect.ismodule(name.value):
        return f":doc:`{name.name} <{name.value.__name__}>`"
    return f":py:obj:`{name.name} <{name.path}>`"


def _about(name: Name) -> str:
    if not _has_docstring(name.value):
        return f"``{name.value!r}``"
    return first_sentence((inspect.getdoc(name.value) or "").splitlines())


def _has_docstring(value: Any) -> bool:
    return inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value)


def _described(name: Name) -> list[str]:
    """The directive that lets Sphinx take signature and docstring from the object."""
    if inspect.isclass(name.value):
        kind = "exception" if issubclass(name.value, BaseException) else "class"
        options = ["    :members:", "    :member-order: bysource", "    :show-inheritance:"]
    else:
        kind, options = "function" if inspect.isroutine(name.value) else "data", []
    return [f".. auto{kind}:: {name.path}", *options, ""]


def _sets() -> list[str]:
    """Which set implements which primitive itself, read off the classes."""
    from minicnn_kernels.numba_cpu import NumbaKernels
    from minicnn_kernels.reference import PRIMITIVES, Kernels

    own = NumbaKernels.overridden()
    rows = [
        [f":py:meth:`{p} <{CONTRACT}.Kernels.{p}>`", "yes" if p in own else "", _first(Kernels, p)]
        for p in sorted(PRIMITIVES)
    ]
    headings = ["primitive", "own loops in ``numba``", "what it computes"]
    return [*title("The primitives", "-"), *table(headings, rows, "names")]


def _first(owner: type, name: str) -> str:
    return first_sentence((inspect.getdoc(getattr(owner, name)) or "").splitlines())
