"""Starting from what another network has learned.

The first layers of a network that has seen many pictures find edges, textures and parts, and these
serve other pictures too; only the last layer is about the classes that it was trained on. So
weights are loaded for all layers, but where the classes differ the last layer keeps its random
start. With few pictures one freezes the rest and trains that layer alone: it is then a linear
classifier on features that others have paid for.

Source: J. Yosinski, J. Clune, Y. Bengio, H. Lipson, "How transferable are features in deep neural
networks?", NIPS 2014.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import CheckpointError, ConfigError, StateDictError
from minicnn.nn import Module
from minicnn.training.checkpoint import best_checkpoint, newest_checkpoint


def transfer(model: Module, path: Path, classes: Sequence[str]) -> str:
    """Load the weights of a file or of a run into a model of other classes; returns what was done.

    path : .safetensors, .pth or .pt, see `minicnn.load_weights`; or a run folder
    classes : that the model tells apart

    Layers whose number of outputs differs as the number of classes does keep their values; so does
    the last one where the classes of the run have other names.

    Raises `CheckpointError` for what is no weights, `StateDictError` where they do not fit.
    """
    state, before = _state(model, path)
    own = model.state_dict()
    layers = {
        name.rpartition(".")[0]
        for name, array in own.items()
        if _other_classes(array, state.get(name), len(classes))
    }
    if before is not None and list(before) != list(classes):
        layers.add(last_layer(model, len(classes)))
    kept = {name: array for name, array in own.items() if name.rpartition(".")[0] in layers}
    try:
        model.load_state_dict({**state, **kept})
    except StateDictError as error:
        error.add_note(f"the weights are those of {path}; --channels and --model must be theirs.")
        raise
    anew = f", and {', '.join(sorted(layers))} anew, for other classes" if layers else ""
    return f"starts from {path}: {len(own) - len(kept)} of {len(own)} arrays{anew}"


def freeze(model: Module, classes: int) -> str:
    """Let nothing learn but the last layer; returns what was done, in words."""
    last = last_layer(model, classes)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.rpartition(".")[0] == last
    trained = sum(p.size for p in model.parameters() if p.requires_grad)
    return f"frozen but for {last}: {trained:,} parameters are trained"


def last_layer(model: Module, classes: int) -> str:
    """The path of the last layer with one output for each class.

    >>> from minicnn import nn
    >>> last_layer(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)), 3)
    '2'
    """
    names = [
        name.rpartition(".")[0]
        for name, parameter in model.named_parameters()
        if len(parameter.shape) > 1 and parameter.shape[0] == classes
    ]
    if not names:
        raise ConfigError(
            f"{type(model).__name__} has no layer with {classes} outputs, one for each class; "
            "weights of other classes cannot be taken over."
        )
    return names[-1]


def _state(model: Module, path: Path) -> tuple[Mapping[str, Any], Sequence[str] | None]:
    """The weights, and the classes that they are for where that is known."""
    from minicnn.interop.weights import weights_for  # its package imports runs, as this is one's

    if not path.is_dir():
        return weights_for(model, path), None
    found = best_checkpoint(path) or newest_checkpoint(path)
    if found is None:
        raise CheckpointError(f"{path} holds no checkpoint; name a run that was trained.")
    return found.weights, found.meta.get("classes")


def _other_classes(own: np.ndarray, given: Any, classes: int) -> bool:
    """Whether two arrays differ in the number of classes and in nothing else."""
    if not isinstance(given, np.ndarray) or given.ndim != own.ndim or not own.ndim:
        return False
    same = given.shape[1:] == own.shape[1:]
    return bool(same and own.shape[0] == classes and given.shape[0] != classes)
