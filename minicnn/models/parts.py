"""What networks of several papers share: options, scaled widths, ends, initial values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from minicnn import nn
from minicnn.errors import ArgumentError, nearest
from minicnn_kernels.geometry import Window2d

_Value = TypeVar("_Value")


def checked(caller: str, option: str, value: _Value, choices: Collection[_Value]) -> _Value:
    """Return the value of an option, which must be one of ``choices``.

    Raises `ArgumentError`, which names them.

    >>> checked("vgg", "init", "normal", ("normal", "kaiming"))
    'normal'
    """
    if value not in choices:
        raise ArgumentError(
            f"{caller}: {option} is {value!r}; {nearest(str(value), map(str, choices))}"
            f"choose one of {', '.join(map(repr, choices))}."
        )
    return value


def scaled(width: int, factor: float) -> int:
    """A number of filters times a factor, as a whole number.

    Raises `ArgumentError` where nothing would be left.
    """
    number = round(width * factor)
    if number < 1:
        raise ArgumentError(
            f"models.create: width is {factor!r}, which leaves {number} of {width} filters; "
            "give a larger factor."
        )
    return number


def fully_connected(
    in_features: int, hidden: int, num_classes: int, dropout: float = 0.5
) -> nn.Sequential:
    """Three linear layers with dropout behind the first two: the end of AlexNet, ZFNet and VGG."""
    return nn.Sequential(
        nn.Linear(in_features, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, num_classes),
    )


def last_map_size(layers: Iterable[nn.Module], image_size: int, caller: str) -> int:
    """Height and width of the last map of a chain of undilated layers, for square images.

    Raises `ShapeError` for images that are too small.
    """
    size = image_size
    for layer in layers:
        kernel_size = getattr(layer, "kernel_size", None)
        if kernel_size is not None:
            stride, padding = getattr(layer, "stride", 1), getattr(layer, "padding", 0)
            ceil_mode = getattr(layer, "ceil_mode", False)
            window = Window2d.of(
                (size, size), kernel_size, stride, padding, ceil_mode=ceil_mode, caller=caller
            )
            size = window.oh
    return size


def draw_weights(module: nn.Module, draw: Callable[[nn.Parameter], Any], bias: float = 0.0) -> None:
    """Draw the weights of all convolutions and linear layers anew, and set their biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias)
