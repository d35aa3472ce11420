"""How a module keeps its parameters, buffers and parts: by plain assignment, in order, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from minicnn.errors import ArgumentError, nearest
from minicnn.nn._arrays import Array, is_array
from minicnn.nn.parameter import Parameter

_T = TypeVar("_T")
_KINDS = {"_parameters": "a parameter", "_buffers": "a buffer", "_modules": "a module"}


class Attributes:
    """The part of `Module` behind ``module.name``, and the walks over what is registered."""

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Array | None]
    _modules: dict[str, Any]

    def __init__(self) -> None:
        self.__dict__.update({kind: {} for kind in _KINDS})

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Attributes):
            self.add_module(name, value)
        elif name in own.get("_buffers", ()):
            self._buffers[name] = self._as_buffer(name, value)
        elif name in own.get("_parameters", ()):
            self.register_parameter(name, value)
        elif name in own.get("_modules", ()):
            self.add_module(name, value)
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if "_parameters" not in own:
            raise AttributeError(self._uninitialised(name))
        for kind in _KINDS:
            if name in own[kind]:
                return own[kind][name]
        if hasattr(type(self), name):  # a property that failed: show its own error
            return object.__getattribute__(self, name)
        known = [] if name.startswith("__") else [n for n in dir(self) if not n.startswith("_")]
        hint = nearest(name, known)
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}; {hint}".rstrip("; ")
        )

    def __delattr__(self, name: str) -> None:
        for kind in _KINDS:
            if name in self.__dict__.get(kind, ()):
                del self.__dict__[kind][name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        own = self.__dict__
        return sorted({*super().__dir__(), *(n for kind in _KINDS for n in own.get(kind, ()))})

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Add a parameter, as assigning it does; None keeps its place."""
        self._check_type(name, parameter, Parameter, "Parameter")
        self._register("_parameters", name, parameter)

    def register_buffer(self, name: str, array: Array | None) -> None:
        """Add an array that belongs to the state but is not trained, such as running statistics.

        The module keeps a copy. Assigning to the name later keeps it a buffer.
        """
        self._register("_buffers", name, None)
        self._buffers[name] = self._as_buffer(name, array)

    def add_module(self, name: str, module: Any) -> None:
        """Add a part, as assigning it does; the name may be a number in a string."""
        self._check_type(name, module, Attributes, "Module")
        if module is not None and any(part is self for _, part in module._walk("")):
            raise ArgumentError(
                f"{type(self).__name__}.{name}: a module cannot be a part of itself; keep such a "
                "reference in a list."
            )
        self._register("_modules", name, module)

    def _register(self, kind: str, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(self._uninitialised(name))
        owner = type(self).__name__
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError(
                f"{owner}: {name!r} cannot name {_KINDS[kind]}; use a string without dots."
            )
        if hasattr(type(self), name):
            raise ArgumentError(
                f"{owner}: {name!r} cannot name {_KINDS[kind]}, because the class has an attribute "
                "of that name; choose another."
            )
        for other in _KINDS:
            if other != kind:
                self.__dict__[other].pop(name, None)
        self.__dict__.pop(name, None)
        self.__dict__[kind][name] = value

    def _check_type(self, name: str, value: Any, wanted: type, word: str) -> None:
        if value is None or isinstance(value, wanted):
            return
        cure = "assign None or delete the attribute first to use the name for something else"
        what = type(value).__name__
        if isinstance(value, type):
            what, cure = f"the class {value.__name__}", f"write {value.__name__}(...)"
        raise ArgumentError(f"{type(self).__name__}.{name}: must be a {word}, not {what}; {cure}.")

    def _as_buffer(self, name: str, value: Any) -> Array | None:
        if value is None or value is self._buffers.get(name):
            return value
        if not is_array(value):
            raise ArgumentError(
                f"{type(self).__name__}.{name}: a buffer holds an array or None, not a "
                f"{type(value).__name__}; pass a NumPy array."
            )
        return np.array(value) if isinstance(value, np.generic) else value.copy()

    def _uninitialised(self, name: str) -> str:
        return (
            f"{type(self).__name__}.{name}: the module is not initialised yet; call "
            "super().__init__() first in its __init__."
        )

    def _walk(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """(path, module) for this module and all its parts, under every path that leads to them."""
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module._walk(joined(prefix, name))

    def _entries(self, kind: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        """(path, value) for the "_parameters" or "_buffers" of this module, and of its parts."""
        for path, module in self._walk(prefix) if recurse else ((prefix, self),):
            for name, value in module.__dict__[kind].items():
                if value is not None:
                    yield joined(path, name), value


def joined(prefix: str, name: str) -> str:
    """``"features" + "0"`` -> ``"features.0"``."""
    return f"{prefix}.{name}" if prefix else name


def unique(entries: Iterator[tuple[str, _T]]) -> Iterator[tuple[str, _T]]:
    """Every object once, under the first of its names."""
    seen: set[int] = set()
    for name, value in entries:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value
