"""Kernel sets that readers write: one class, checked when it is registered.

A set is a subclass of `Kernels` that overrides some primitives. Two mistakes would otherwise stay
unseen for long, because the reference takes over where a set has nothing of its own: a primitive
whose name is misspelled is never called, and one with other arguments than the contract's fails in
the middle of a training, or only for the layer that passes the last of them. So both are refused
here, with the name that was meant and the arguments that are expected.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from minicnn_kernels import registry
from minicnn_kernels.errors import BackendError, nearest
from minicnn_kernels.reference import PRIMITIVES, Kernels

_BUILT_IN = frozenset(registry._backends)
_Set = TypeVar("_Set", bound=type[Kernels])


def register_kernels(kernels: _Set) -> _Set:
    """Make a kernel set of your own known to `use_backend`; also as a decorator of the class.

    kernels : a subclass of `Kernels` or of another set, with a ``name`` of its own; what it does
        not override comes from its base. The first line of its docstring describes it in
        `describe`. A second one of the same name replaces the first.

    Raises `BackendError` for a name that is missing or belongs to a built-in set, a public method
    that is no primitive, and a primitive with other arguments than the contract's.

    >>> class Steps(Kernels):
    ...     "ReLU by a product"
    ...     name = "steps"
    ...     def rleu(self, x):
    ...         return x * (x > 0)
    >>> register_kernels(Steps)
    Traceback (most recent call last):
    ...
    minicnn_kernels.errors.BackendError: register_kernels: Steps.rleu is no primitive, so nothing
    would ever call it; did you mean 'relu'? begin the names of helpers with an underscore.
    """
    if not (isinstance(kernels, type) and issubclass(kernels, Kernels)):
        raise BackendError(
            f"register_kernels: expected a subclass of Kernels, got {kernels!r}; pass the class "
            "itself, not an object of it."
        )
    _check_name(kernels)
    _check_methods(kernels)
    words = (kernels.__doc__ or "kernels of your own").strip().partition("\n")[0].rstrip(".")
    registry.register(
        registry.Backend(kernels.name, kernels.device, words, lambda strict: kernels(strict=strict))
    )
    return kernels


def _check_name(kernels: type[Kernels]) -> None:
    if "name" not in vars(kernels):
        raise BackendError(
            f"register_kernels: {kernels.__name__} has no name of its own and would replace "
            f"{kernels.name!r}; add a line like name = {kernels.__name__.lower()!r} to the class."
        )
    if kernels.name in _BUILT_IN:
        raise BackendError(
            f"register_kernels: {kernels.name!r} is a set of minicnn; choose another name for "
            f"{kernels.__name__}."
        )


def _check_methods(kernels: type[Kernels]) -> None:
    for name, value in inspect.getmembers(kernels, callable):
        if not name.startswith("_") and not hasattr(Kernels, name):
            raise BackendError(
                f"register_kernels: {kernels.__name__}.{name} is no primitive, so nothing would "
                f"ever call it; {nearest(name, PRIMITIVES)}begin the names of helpers with an "
                "underscore."
            )
        if name in PRIMITIVES and _arguments(value) != _arguments(getattr(Kernels, name)):
            raise BackendError(
                f"register_kernels: {kernels.__name__}.{name} takes {_shown(value)}, but the "
                f"contract says {_shown(getattr(Kernels, name))}; take the same arguments, by the "
                "same names."
            )


def _arguments(method: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(method).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


def _shown(method: Callable[..., Any]) -> str:
    _, *parameters = inspect.signature(method).parameters.values()
    plain = (str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters)
    return f"({', '.join(plain)})"
