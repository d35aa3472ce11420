"""Checking the state dict of an optimizer, before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minicnn.errors import ArgumentError, StateDictError
from minicnn.nn._arrays import is_array

if TYPE_CHECKING:
    from minicnn.optim.optimizer import Optimizer


def checked_state(
    optimizer: Optimizer, state: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the groups and the entries of a state that fits the optimizer.

    Raises one `StateDictError` that lists everything that does not fit.
    """
    name = type(optimizer).__name__
    if not _is_state(state):
        raise StateDictError(
            f"{name}.load_state_dict: the state must be a dict with 'groups', a list of dicts, and "
            "'state', a dict of dicts; pass what state_dict() returned."
        )
    faults = [*_group_faults(optimizer, state["groups"]), *_entry_faults(optimizer, state["state"])]
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        raise StateDictError(
            f"{name}.load_state_dict: the state does not fit ({len(faults)} mismatched); make the "
            f"optimizer with the same parameters in the same groups.{lines}"
        )
    return state["groups"], state["state"]


def _is_state(state: Any) -> bool:
    if not isinstance(state, Mapping) or {"groups", "state"} - set(state):
        return False
    groups, entries = state["groups"], state["state"]
    return (
        isinstance(groups, (list, tuple))
        and isinstance(entries, Mapping)
        and all(isinstance(part, Mapping) for part in (*groups, *entries.values()))
    )


def _group_faults(optimizer: Optimizer, groups: list[dict[str, Any]]) -> list[str]:
    own = optimizer.param_groups
    if len(groups) != len(own):
        return [f"{len(groups)} groups in the state, {len(own)} in the optimizer"]
    faults = []
    for i, (loaded, group) in enumerate(zip(groups, own, strict=True)):
        count = len(loaded.get("params", ()))
        if count != len(group["params"]):
            faults.append(
                f"group {i}: {count} parameters in the state, {len(group['params'])} in the "
                "optimizer"
            )
        if set(loaded) != set(group):
            wrong = sorted(set(loaded) ^ set(group))
            faults.append(f"group {i}: hyperparameters that only one side has: {', '.join(wrong)}")
        else:
            faults += _value_faults(optimizer, i, loaded)
    return faults


def _value_faults(optimizer: Optimizer, i: int, loaded: dict[str, Any]) -> list[str]:
    try:
        optimizer._checked({name: value for name, value in loaded.items() if name != "params"})
    except ArgumentError as error:
        return [f"group {i}: {error}"]
    return []


def _entry_faults(optimizer: Optimizer, entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    shapes = {str(i): p.shape for i, p in enumerate(optimizer._params())}
    complete = {*optimizer.state_arrays, *optimizer.state_counts}
    faults = []
    for number, entry in entries.items():
        if number not in shapes:
            faults.append(f"state of parameter {number}, but there are {len(shapes)} parameters")
        elif set(entry) != complete:
            expected = ", ".join(sorted(complete)) or "nothing"
            faults.append(
                f"parameter {number}: the state holds {', '.join(sorted(entry))}, expected: "
                f"{expected}"
            )
        else:
            faults += _array_faults(optimizer, number, entry, shapes[number])
    return faults


def _array_faults(
    optimizer: Optimizer, number: str, entry: Mapping[str, Any], shape: tuple[int, ...]
) -> list[str]:
    faults = []
    for name in optimizer.state_arrays:
        array = entry[name]
        if not is_array(array) or array.dtype.kind != "f":
            faults.append(f"parameter {number}: {name} is not an array of floating-point numbers")
        elif array.shape != shape:
            faults.append(
                f"parameter {number}: {name} is {array.shape} in the state, but the parameter is "
                f"{shape}"
            )
    for name in optimizer.state_counts:
        count = entry[name]
        if not hasattr(count, "__index__") or count < 0:
            faults.append(f"parameter {number}: {name} is {count!r}, not a count")
    return faults
