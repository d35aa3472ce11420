"""The architectures by name, each with its presets: for which images it is built, and how.

A builder is a class or function that takes ``num_classes`` and ``in_channels``; where the number of
weights depends on the size of the images (a fully connected layer that reads a flattened map),
``image_size`` too; and options of its own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from minicnn.errors import ArgumentError, EmptyMapError, nearest
from minicnn.models.network import Network
from minicnn.nn._settings import positive_int

_Builder = TypeVar("_Builder", bound=Callable[..., Network])


@dataclass(frozen=True)
class Preset:
    """One way to build an architecture: the shape of an image (C, H, W), classes, and options."""

    input_shape: tuple[int, int, int]
    num_classes: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """An entry of the registry; the first preset is the one of the paper."""

    name: str
    builder: Callable[..., Network]
    presets: Mapping[str, Preset]

    @property
    def options(self) -> frozenset[str]:
        """Names of the arguments that the builder takes."""
        return frozenset(inspect.signature(self.builder).parameters)

    def preset(self, name: str | None) -> Preset:
        """The preset of that name, or without one the paper's; raises `ArgumentError`."""
        if name is None:
            return next(iter(self.presets.values()))
        if not isinstance(name, str) or name not in self.presets:
            raise ArgumentError(
                f"models.create: {self.name} has no preset {name!r}; "
                f"{_nearest(name, self.presets)}choose one of {', '.join(self.presets)}."
            )
        return self.presets[name]


_architectures: dict[str, Architecture] = {}


def register(name: str, presets: Mapping[str, Preset]) -> Callable[[_Builder], _Builder]:
    """Enter a class or function that builds a `Network` under a name for `create`.

    >>> from minicnn import nn
    >>> @register("one_layer", {"fashion-mnist": Preset((1, 28, 28), 10)})
    ... class OneLayer(Network):
    ...     def __init__(self, num_classes, in_channels, image_size):
    ...         super().__init__()
    ...         self.flatten = nn.Flatten()
    ...         self.fc = nn.Linear(in_channels * image_size**2, num_classes)
    ...     def forward(self, x):
    ...         return self.fc(self.flatten(x))
    >>> create("one_layer").num_parameters()
    7850
    >>> _ = _architectures.pop("one_layer")  # only an example
    """

    def enter(builder: _Builder) -> _Builder:
        _architectures[name] = Architecture(name, builder, dict(presets))
        return builder

    return enter


def names() -> list[str]:
    """Names of all architectures, in alphabetical order, numbers by their size.

    >>> [name for name in names() if name.startswith("vgg") and name.endswith("_bn")]
    ['vgg11_bn', 'vgg13_bn', 'vgg16_bn', 'vgg16_c_bn', 'vgg19_bn']
    >>> names().index("resnet50") < names().index("resnet101")
    True
    """
    return sorted(_architectures, key=_natural)


def _natural(name: str) -> list[str | int]:
    """A key to sort by: words and numbers in turn."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def find(name: str) -> Architecture:
    """The entry of an architecture: its builder and its presets.

    Raises `ArgumentError` for an unknown name, with the nearest one that exists.

    >>> find("notes_cnn").preset("fashion-mnist").input_shape
    (1, 28, 28)
    """
    if not isinstance(name, str) or name not in _architectures:
        raise ArgumentError(
            f"models.create: unknown model {name!r}; {_nearest(name, _architectures)}"
            f"choose one of {', '.join(names())}."
        )
    return _architectures[name]


def _nearest(name: object, known: Iterable[str]) -> str:
    return nearest(name, known) if isinstance(name, str) else "it goes by its name, a text; "


def nearest_preset(name: str, image_size: int) -> str:
    """The preset of an architecture whose images are the nearest in height to ``image_size``.

    >>> nearest_preset("notes_cnn", 32)
    'fashion-mnist'
    """
    presets = find(name).presets
    return min(presets, key=lambda key: abs(presets[key].input_shape[1] - image_size))


def create(
    name: str,
    num_classes: int | None = None,
    in_channels: int | None = None,
    preset: str | None = None,
    image_size: int | None = None,
    **options: Any,
) -> Network:
    """Build the architecture ``name``.

    preset : for which images, such as ``"imagenet"`` or ``"fashion-mnist"``; the paper's if None
    num_classes, in_channels, image_size : in place of what the preset says
    options : more arguments of the builder, in place of the preset's

    Raises `ArgumentError` for an unknown name, preset or option and for an ``image_size`` that is
    no whole number from 1 up, and `ShapeError` for one that is too small.

    >>> create("notes_cnn", num_classes=3).num_parameters()
    18051
    """
    entry = find(name)
    chosen = entry.preset(preset)
    C, H, W = chosen.input_shape
    if unknown := sorted(options.keys() - entry.options):
        raise ArgumentError(
            f"models.create: {name} has no option {unknown[0]!r}; "
            f"{nearest(unknown[0], entry.options)}it has {', '.join(sorted(entry.options))}."
        )
    size = H if image_size is None else positive_int(image_size, "image_size", "models.create")
    arguments = {**chosen.options, **options}
    arguments["num_classes"] = chosen.num_classes if num_classes is None else num_classes
    arguments["in_channels"] = C if in_channels is None else in_channels
    if "image_size" in entry.options:
        arguments["image_size"] = size
    try:
        model = entry.builder(**arguments)
    except EmptyMapError as error:
        from minicnn.models.fitting import explain_building  # it builds networks to find out

        explain_building(error, entry, arguments)
        raise
    model.architecture = name
    model.input_shape = (arguments["in_channels"], size, W if image_size is None else size)
    return model
