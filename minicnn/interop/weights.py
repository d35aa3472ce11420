"""Weights of a model from a file, and into one: .safetensors, and PyTorch's .pth and .pt.

What a file is, its first bytes say, not its name. It is read whole and checked before a number of
the model changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import ArgumentError, CheckpointError, StateDictError, nearest
from minicnn.interop.pickled import Unreadable
from minicnn.interop.torch_writer import pack_torch_zip
from minicnn.interop.torch_zip import read_torch_zip
from minicnn.nn import Module
from minicnn.nn.module import check_module
from minicnn.nn.parameter import has_weights
from minicnn.nn.state import IncompatibleKeys
from minicnn.training.files import atomic_write
from minicnn.training.packing import pack_weights, unpack_weights

__all__ = ["load_weights", "read_weights", "save_weights"]

PathLike = str | os.PathLike[str]

#: under which name a training script keeps the weights beside epoch, optimizer and the like
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
#: what PyTorch's DataParallel and torch.compile put in front of every name
PREFIXES = ("module.", "_orig_mod.")
SAVE_AGAIN = "save them with torch.save(model.state_dict(), path)"

ZIP, PICKLE = b"PK\x03\x04", b"\x80"


def load_weights(model: Module, path: PathLike, strict: bool = True) -> IncompatibleKeys:
    """Load weights from a .safetensors file, or one of PyTorch (.pth, .pt), into a model.

    float16, bfloat16, float32 and float64 are converted to what the model has. Of a PyTorch file
    nothing is run, and PyTorch need not be installed. ``{"state_dict": ..., "epoch": ...}`` is
    opened, and the "module." that DataParallel puts in front of every name is taken off. A model
    built under `nn.without_weights` gets its memory here.

    model : built as the one whose weights the file holds
    path : the file
    strict : False leaves alone what is missing or left over, and returns the names

    Raises `CheckpointError` for a file that is damaged, malicious or something else, and
    `StateDictError`, which lists everything that does not fit at once; the model is then unchanged.

    >>> import tempfile
    >>> from minicnn import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(nn.Linear(4, 3), f"{folder}/linear.pth")
    ...     load_weights(nn.Linear(4, 3), f"{folder}/linear.pth")
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    state = weights_for(model, path)
    try:
        return model.load_state_dict(state, strict)
    except StateDictError as error:
        error.add_note(f"load_weights: the state is that of {path}.")
        raise


def weights_for(model: Module, path: PathLike) -> dict[str, Any]:
    """The arrays of a file under the names that the model gives them; `load_weights` has more."""
    check_module(model, "load_weights")
    state = _read("load_weights", Path(path))
    own = {name for name, _ in model.named_parameters()}
    for prefix in PREFIXES * 2:  # one may wrap the other
        if not any(name.startswith(prefix) for name in own):
            state = _without_prefix(state, prefix)
    return state


def save_weights(model: Module, path: PathLike) -> None:
    """Save the weights of a model, as .safetensors or for PyTorch, as the ending of ``path`` says.

    A file that was there is replaced when the new one is whole on disk, and otherwise untouched.
    ``torch.load(path, weights_only=True)`` reads what is written with the ending .pth or .pt.

    model : its parameters and buffers are saved, under the names of `Module.state_dict`
    path : ends in .safetensors, .pth or .pt, in letters of either size

    Raises `ArgumentError` for another ending and for a model without weights, and
    `CheckpointError` where the file cannot be written.

    >>> import tempfile
    >>> from minicnn import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(nn.Linear(4, 3), f"{folder}/linear.safetensors")
    ...     sorted(read_weights(f"{folder}/linear.safetensors"))
    ['bias', 'weight']
    """
    check_module(model, "save_weights")
    pack = _packer(Path(path))
    blank = [name for name, p in model.named_parameters() if not has_weights(p)]
    if blank:
        raise ArgumentError(
            f"save_weights: {blank[0]} has no values (the model was built under "
            "nn.without_weights); build it without that, or load weights first."
        )
    atomic_write(path, pack(model.state_dict()))


def read_weights(path: PathLike) -> dict[str, Any]:
    """Return the arrays of a file by name, without a model; `load_weights` has the formats.

    The arrays of a PyTorch file cannot be written, and may share memory as its tensors did.

    Raises `CheckpointError`.

    >>> read_weights("none.pth")
    Traceback (most recent call last):
    minicnn.errors.CheckpointError: read_weights: none.pth could not be read: No such file ...
    """
    return _read("read_weights", Path(path))


def _read(function: str, path: Path) -> dict[str, Any]:
    try:
        start = _beginning(path)
        if start.startswith(ZIP):
            return state_of(read_torch_zip(path))
        if start[8:9] == b"{":
            return unpack_weights(function, path, path.read_bytes())
        raise Unreadable(_what_else(start))
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{function}: {path} could not be read: {reason}.") from error
    except Unreadable as error:
        raise CheckpointError(f"{function}: {path} {error}") from error


def state_of(value: Any) -> dict[str, Any]:
    """The state dict in what a file holds: the value itself, or one level down.

    >>> state_of({"epoch": 3, "state_dict": {"bias": np.zeros(2)}})
    {'bias': array([0., 0.])}
    """
    places = [value, *map(value.get, WRAPPERS)] if isinstance(value, dict) else []
    for state in [*places[1:], *places[:1]]:
        if isinstance(state, dict) and any(isinstance(a, np.ndarray) for a in state.values()):
            break
    else:
        kind = f"a dict of {list(value)}" if places else f"a {type(value).__name__}"
        raise Unreadable(f"holds {kind:.200}, not weights by name; {SAVE_AGAIN}.")
    if strange := next((name for name in state if not isinstance(name, str)), None):
        raise Unreadable(f"has weights under the name {strange!r:.50}, not a text; {SAVE_AGAIN}.")
    return state


def _packer(path: Path) -> Callable[[Mapping[str, np.ndarray]], bytes]:
    packers = {".safetensors": pack_weights, ".pth": pack_torch_zip, ".pt": pack_torch_zip}
    ending = path.suffix.lower()
    if ending not in packers:
        raise ArgumentError(
            f"save_weights: {path} ends in {path.suffix or 'nothing'!r}; "
            f"{nearest(ending, packers)}choose {', '.join(packers)}."
        )
    return packers[ending]


def _without_prefix(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    if not all(name.startswith(prefix) for name in state):
        return state
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _beginning(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or pipe"
        raise Unreadable(f"is {kind}; pass the path of a file of weights.")
    with path.open("rb") as file:
        return file.read(16)


def _what_else(start: bytes) -> str:
    """Why a file that begins like this cannot be read."""
    if not start:
        return "is empty; fetch or save it again."
    if start.startswith(PICKLE):
        return (
            "is a bare pickle, as torch.save wrote before version 1.6, and is not opened; convert "
            "it with PyTorch: torch.save(torch.load(path, weights_only=True), path)."
        )
    return (
        f"begins with {start[:8]!r}, so it is neither a .safetensors nor a PyTorch file, or is cut "
        f"short; {SAVE_AGAIN}."
    )
