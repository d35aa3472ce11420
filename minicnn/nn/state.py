"""Checking a state dict against a module, before anything is changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from minicnn.autograd import Tensor
from minicnn.errors import StateDictError
from minicnn.nn._arrays import Array, is_array


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` left alone, with ``strict=False``."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def checked_state(
    owner: str,
    own: Mapping[str, Array],
    optional: Collection[str],
    state: Mapping[str, Any],
    strict: bool,
) -> tuple[dict[str, Array], IncompatibleKeys]:
    """Return the arrays of ``state`` that belong into ``own``, and the names without a partner.

    ``optional`` names may be missing. Raises one `StateDictError` listing every missing, unexpected
    and mismatched entry; the first two only if ``strict``.
    """
    if not isinstance(state, Mapping):
        raise StateDictError(
            f"load_state_dict: the state is a {type(state).__name__}; pass a dict of arrays, as "
            "state_dict() returns it."
        )
    arrays = {name: _as_array(v) for name, v in state.items()}
    keys = IncompatibleKeys(
        [name for name in own if name not in arrays and name not in optional],
        [name for name in arrays if name not in own],
    )
    mismatched = [
        f"{name} is {_described(arrays[name])} in the state, {_described(array)} in the module"
        for name, array in own.items()
        if name in arrays and not _fits(arrays[name], array)
    ]
    if mismatched or (strict and any(keys)):
        raise StateDictError(
            _message(owner, keys if strict else IncompatibleKeys([], []), mismatched)
        )
    return {name: value for name, value in arrays.items() if name in own}, keys


def _as_array(value: Any) -> Any:
    """The array of a tensor, also of one of another library that NumPy can read."""
    if isinstance(value, Tensor):
        return value.array
    if is_array(value) or not hasattr(value, "__array__"):
        return value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # on a GPU, or of a type that NumPy lacks
        return value


def _fits(value: Any, array: Array) -> bool:
    """Equal shapes, and both floating-point or both integers: precision alone may differ."""
    return is_array(value) and value.shape == array.shape and value.dtype.kind == array.dtype.kind


def _described(value: Any) -> str:
    return f"{value.shape} {value.dtype}" if is_array(value) else f"a {type(value).__name__}"


def _message(owner: str, keys: IncompatibleKeys, mismatched: list[str]) -> str:
    lists = {
        "missing": keys.missing_keys,
        "unexpected": keys.unexpected_keys,
        "mismatched": mismatched,
    }
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in lists.items() if names)
    head = (
        f"load_state_dict: the state does not fit {owner} ({counts}); build the module that it was "
        "saved from"
    )
    if any(keys):
        head += ", or pass strict=False to leave missing and unexpected entries alone"
    return "\n".join(
        [head + ".", *(f"  {kind}: {'; '.join(names)}" for kind, names in lists.items() if names)]
    )
