"""Modules made of modules: a chain, a list, a dictionary."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self, overload

from minicnn.errors import ArgumentError, nearest
from minicnn.nn.fusion import run_chain
from minicnn.nn.module import Module


class _Listed(Module):
    """Modules in order, numbered "0", "1", ... unless they have names."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self._modules.values()))

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return self._part(list(self._modules.items())[index])
        return self._modules[self._name_at(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self._put(self._name_at(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)[index] if isinstance(index, slice) else [self._name_at(index)]
        for name in names:
            del self._modules[name]
        if all(name.isdigit() for name in self._modules):  # close the gaps
            modules = list(self._modules.values())
            self._modules.clear()
            self._modules.update({str(i): module for i, module in enumerate(modules)})

    def append(self, module: Module) -> Self:
        """Add a module at the end; return self."""
        numbers = [int(name) + 1 for name in self._modules if name.isdigit()]
        self._put(str(max([len(self), *numbers])), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end; return self."""
        for module in modules:
            self.append(module)
        return self

    def _part(self, items: list[tuple[str, Module]]) -> Self:
        raise NotImplementedError

    def _put(self, name: str, module: Module) -> None:
        self.add_module(name, _checked(self, name, module))

    def _name_at(self, index: int) -> str:
        names = list(self._modules)
        if not -len(names) <= index < len(names):
            raise IndexError(
                f"{type(self).__name__}: no module {index}; it has {len(names)}, numbered from 0."
            )
        return names[index]


class Sequential(_Listed):
    """A chain: each module gets the output of the one before it.

    Takes modules, or one dict of modules by name. Indexing gives a module, slicing a shorter chain
    of the same modules under the same names.

    >>> from minicnn import nn
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> net[:2]
    Sequential(
      (0): Linear(4, 3)
      (1): ReLU()
    )
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else None
        for name, module in enumerate(modules) if named is None else named.items():
            self._put(str(name), module)

    def forward(self, x: Any) -> Any:
        """Send x through the modules."""
        return run_chain(list(self), x)

    def _part(self, items: list[tuple[str, Module]]) -> Any:
        return Sequential(dict(items))


class ModuleList(_Listed):
    """A list whose modules are parts of the network; call them yourself in ``forward``.

    A plain list would hide them from `parameters` and `state_dict`.

    >>> from minicnn import nn
    >>> len(nn.ModuleList(nn.Linear(4, 4) for _ in range(3)))
    3
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _part(self, items: list[tuple[str, Module]]) -> Any:
        return ModuleList(module for _, module in items)


class ModuleDict(Module):
    """A dictionary whose modules are parts of the network; call them yourself in ``forward``.

    >>> from minicnn import nn
    >>> heads = nn.ModuleDict({"digit": nn.Linear(4, 10), "sign": nn.Linear(4, 2)})
    >>> heads["sign"]
    Linear(4, 2)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __getitem__(self, name: str) -> Module:
        self._check_known(name)
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, _checked(self, name, module))

    def __delitem__(self, name: str) -> None:
        self._check_known(name)
        del self._modules[name]

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> ValuesView[Module]:
        """The modules."""
        return self._modules.values()

    def items(self) -> ItemsView[str, Module]:
        """Pairs of name and module."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules, from a mapping or from pairs."""
        for name, module in dict(modules).items():
            self[name] = module

    def _check_known(self, name: str) -> None:
        if name not in self._modules:
            raise KeyError(
                f"ModuleDict: no module {name!r}; {nearest(str(name), self._modules)}"
                f"it has {', '.join(self._modules) or 'none'}."
            )


def _checked(owner: Module, name: str, module: Any) -> Module:
    if not isinstance(module, Module):
        what = type(module).__name__
        cure = "give modules, such as nn.ReLU()"
        if isinstance(module, type):
            what, cure = f"the class {module.__name__}", f"write {module.__name__}(...)"
        raise ArgumentError(
            f"{type(owner).__name__}: {name!r} must be a Module, not {what}; {cure}."
        )
    return module
