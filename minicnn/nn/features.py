"""Reading the maps inside a network while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from minicnn.autograd import Tensor
from minicnn.nn.module import Module


@contextmanager
def capture(model: Module, names: Iterable[str]) -> Iterator[dict[str, np.ndarray]]:
    """Keep the outputs of parts of a network, inside a ``with`` block.

    The dictionary maps each name to the output of the last forward pass, as a NumPy array.

    names : paths of parts, such as "features.0"; `Module.named_modules` lists them

    Raises `ArgumentError` for a name that the model does not have.

    >>> from minicnn import nn, tensor
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    >>> with nn.capture(model, ["0", "1"]) as maps:
    ...     y = model(tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    >>> {name: a.shape for name, a in maps.items()}
    {'0': (1, 4), '1': (1, 3)}
    """
    names = [names] if isinstance(names, str) else list(names)
    parts = {name: model.get_submodule(name) for name in names}
    maps: dict[str, np.ndarray] = {}
    with ExitStack() as handles:
        for name, part in parts.items():
            handles.enter_context(part.register_forward_hook(_keeper(maps, name)))
        yield maps


def _keeper(maps: dict[str, np.ndarray], name: str) -> Callable[..., None]:
    def keep(module: Module, args: Any, output: Any) -> None:
        maps[name] = output.numpy() if isinstance(output, Tensor) else output

    return keep
