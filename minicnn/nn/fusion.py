"""Layers that run as one operation where they follow each other.

The one place that knows which: `FUSED` lists the patterns, `run_chain` finds them in a
`Sequential`, and `residual` is the end of a residual block. A fused operation writes a feature map
to memory once where the single layers write and read it several times; the result is the same but
for rounding.
Layers with hooks run by themselves, so that a hook sees every output; so do layers whose forward
somebody replaced on the one object, which knows nothing of their neighbours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minicnn.autograd import Tensor, is_grad_enabled
from minicnn.nn.activation import ReLU
from minicnn.nn.convolution import Conv2d
from minicnn.nn.module import Module
from minicnn.nn.normalization import BatchNorm1d, BatchNorm2d
from minicnn.nn.pooling import MaxPool2d


@dataclass(frozen=True)
class Pattern:
    """Layers of exactly these classes, one after the other, and what runs in their place."""

    layers: tuple[type[Module], ...]
    run: Callable[..., Tensor]  # takes the layers, then x
    when: Callable[[Sequence[Module]], bool] = lambda modules: True

    def fits(self, modules: Sequence[Module]) -> bool:
        """Whether ``modules`` begin with it: these classes as they are, and without hooks."""
        return (
            len(modules) >= len(self.layers)
            and all(map(_is_plain, modules, self.layers))
            and self.when(modules)
        )


def passes_everything_on(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that stands in for the forward of one layer: it keeps the layer fused.

    It must hand all its arguments to the forward of the class, and return what that returns.

    >>> from minicnn import nn
    >>> layer = nn.ReLU()
    >>> layer.forward = passes_everything_on(lambda *args, **kwargs: nn.ReLU.forward(layer, *args))
    >>> has_plain_forward(layer)
    True
    """
    vars(forward)["passes_everything_on"] = True
    return forward


def has_plain_forward(module: Module) -> bool:
    """Whether a module runs the forward of its class, if through a function marked as such."""
    own = vars(module).get("forward")
    return own is None or hasattr(own, "passes_everything_on")


def _is_plain(module: Module, kind: type[Module]) -> bool:
    return type(module) is kind and not module.has_hooks and has_plain_forward(module)


def _in_inference(modules: Sequence[Any]) -> bool:
    """Whether the norm behind a convolution uses constants, and no gradient is recorded."""
    norm = modules[1]
    return not norm.training and norm.running_mean is not None and not is_grad_enabled()


_NORM_RELU = Pattern((BatchNorm2d, ReLU), lambda norm, relu, x: norm(x, relu=True))
FUSED = (  # the first that fits is taken
    Pattern(
        (Conv2d, BatchNorm2d, ReLU),
        lambda conv, norm, relu, x: conv(x, relu=True, norm=norm),
        _in_inference,
    ),
    Pattern((Conv2d, BatchNorm2d), lambda conv, norm, x: conv(x, norm=norm), _in_inference),
    Pattern(
        (BatchNorm2d, ReLU, MaxPool2d),
        lambda norm, relu, pool, x: norm(x, relu=True, pool=pool.window),
    ),
    _NORM_RELU,
    Pattern((BatchNorm1d, ReLU), lambda norm, relu, x: norm(x, relu=True)),
    Pattern((Conv2d, ReLU), lambda conv, relu, x: conv(x, relu=True)),
)


class _Thread(threading.local):
    """Whether layers are fused in one Python thread."""

    fuses = True


_thread = _Thread()


def is_fusing() -> bool:
    """Whether layers run as one operation in this thread, where they can.

    >>> with unfused():
    ...     is_fusing()
    False
    """
    return _thread.fuses


@contextmanager
def unfused() -> Iterator[None]:
    """Run every layer by itself inside the ``with`` block, in this Python thread.

    What other threads compute meanwhile is computed as ever.

    >>> from minicnn import nn
    >>> with nn.unfused():
    ...     pass
    """
    before, _thread.fuses = _thread.fuses, False
    try:
        yield
    finally:
        _thread.fuses = before


def run_chain(modules: Sequence[Module], x: Any) -> Any:
    """Send x through the modules, several at a time where they are fused.

    A `Sequential` does it with its own parts; a network whose layers have names does it with a list
    of them.

    >>> from minicnn import nn
    >>> nn.run_chain([nn.BatchNorm2d(1), nn.ReLU()], Tensor([[[[1.0, 3.0]]]])).shape
    (1, 1, 1, 2)
    """
    i = 0
    while i < len(modules):
        pattern = _pattern(modules[i:]) if _thread.fuses else None
        if pattern is None:
            x = modules[i](x)
            i += 1
        else:
            count = len(pattern.layers)
            x = pattern.run(*modules[i : i + count], x)
            i += count
    return x


def residual(body: Module | Sequence[Module], x: Tensor, skip: Tensor, relu: Module) -> Tensor:
    """Compute ``relu(body(x) + skip)``, the end of a residual block.

    Where ``body``, a `Sequential` or a list of layers, ends with a batch norm, and ``relu`` is a
    `ReLU`, the last normalisation, the sum and the ReLU are one operation. Source of the block:
    He et al. 2016, "Deep Residual Learning for Image Recognition", section 3.2.

    >>> from minicnn import nn
    >>> body = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1))
    >>> x = Tensor([[[[1.0, 2.0]]]])
    >>> nn.residual(body, x, x, nn.ReLU()).shape
    (1, 1, 1, 2)
    """
    layers = _layers(body)
    if _thread.fuses and layers and _NORM_RELU.fits([layers[-1], relu]):
        return layers[-1](run_chain(layers[:-1], x), relu=True, skip=skip)
    y = body(x) if isinstance(body, Module) else run_chain(body, x)
    return relu(y + skip)


def _layers(body: Module | Sequence[Module]) -> list[Any]:
    """The layers of a chain; none where ``body`` is another module, or a hook waits for it."""
    from minicnn.nn.containers import Sequential  # which imports `run_chain`

    if not isinstance(body, Module):
        return list(body)
    return list(body.children()) if _is_plain(body, Sequential) else []


def _pattern(modules: Sequence[Module]) -> Pattern | None:
    return next((pattern for pattern in FUSED if pattern.fits(modules)), None)
