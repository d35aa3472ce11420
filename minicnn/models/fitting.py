"""Which images a network takes, and how to say so when it got others.

An error from the depth of a network names a layer: a window larger than its map, a matrix with
another number of columns. Whoever passed the images wants to know which images would do. Because a
dry run computes nothing, that can be tried out: the same network on other sizes, by bisection, and
the architecture's other presets on these images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minicnn import nn
from minicnn.errors import EmptyMapError, MiniCNNError, ShapeError
from minicnn.models.network import Network
from minicnn.models.registry import Architecture, create, find, nearest_preset
from minicnn.nn.calls import running

LARGEST = 1024  # the largest image that `smallest_size` tries


@dataclass(frozen=True)
class Misfit:
    """Where images of some shape do not fit into a network."""

    error: ShapeError
    path: str
    module: nn.Module
    input_shape: tuple[int, ...]

    def __str__(self) -> str:
        where = f"{self.path} ({type(self.module).__name__})" if self.path else "the network"
        if isinstance(self.error, EmptyMapError):
            height, width = self.error.output
            return f"{where} would return a map of {height}x{width}"
        if isinstance(self.module, nn.Linear):
            reads, gets = self.module.in_features, self.input_shape[-1]
            return f"{where} reads {reads:,} values and would get {gets:,}"
        return f"{where} cannot take its input"


def misfit(model: Network, shape: tuple[int, ...]) -> Misfit | None:
    """What happens to an image of shape (C, H, W); None where it passes through.

    >>> from minicnn import models
    >>> print(misfit(models.create("notes_cnn"), (1, 3, 3)))
    features.7 (MaxPool2d) would return a map of 0x0
    """
    started: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def start(path: str, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        started.append((path, module, _shape(arguments)))

    def end(*_: Any) -> None:
        started.pop()

    running.stack.append(model)  # a network inside another does not explain its errors
    try:
        nn.dry_run(model, shape, before=start, after=end)
    except ShapeError as error:
        return Misfit(error, *started[-1])
    finally:
        running.stack.pop()
    return None


def smallest_size(model: Network, channels: int) -> int | None:
    """Height and width of the smallest square images that a network takes, up to `LARGEST`.

    None where it takes images of a certain size only, because it flattens its maps, or none.

    >>> from minicnn import models
    >>> smallest_size(models.create("notes_cnn"), channels=1) is None
    True
    """

    def is_empty(size: int) -> bool:
        found = misfit(model, (channels, size, size))
        return found is not None and isinstance(found.error, EmptyMapError)

    size = _first_above(is_empty)
    return None if size is None or misfit(model, (channels, size, size)) else size


def _first_above(is_too_small: Callable[[int], bool]) -> int | None:
    """The smallest size up to `LARGEST` that is not too small."""
    if is_too_small(LARGEST):
        return None
    too_small, enough = 0, LARGEST
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        too_small, enough = (middle, enough) if is_too_small(middle) else (too_small, middle)
    return enough


def explain(error: ShapeError, model: Network, arguments: tuple[Any, ...]) -> None:
    """Make the message of an error say what was wrong with the images, and which would do.

    The old message becomes a note. Where the images are not the reason, nothing changes.
    """
    shape = _shape(arguments)
    if len(shape) != 4:
        return
    try:
        message = _message(model, shape[1:])
    except Exception:  # a network that cannot be tried out must not hide the error
        return
    if message:
        error.add_note(str(error))
        error.args = (message,)


def explain_building(error: EmptyMapError, entry: Architecture, arguments: dict[str, Any]) -> None:
    """Do the same for a builder that finds the size of its maps from ``image_size``."""
    size = arguments.get("image_size")
    if size is None:
        return

    def is_too_small(size: int) -> bool:
        try:
            with nn.without_weights():
                entry.builder(**{**arguments, "image_size": size})
        except EmptyMapError:
            return True
        return False

    smallest = _first_above(is_too_small)
    cures = [f"use image_size={smallest} or more"] if smallest else []
    small = [repr(n) for n, preset in entry.presets.items() if preset.input_shape[1] <= size]
    cures += [f"the preset {' or '.join(small)}"] if small else []
    error.add_note(str(error))
    error.args = (
        f"{entry.name}: image_size={size} is too small: a map would be empty; "
        f"{' or '.join(cures) or 'use larger images'}.",
    )


def _message(model: Network, shape: tuple[int, ...]) -> str:
    name, built_for = model.architecture or type(model).__name__, model.input_shape
    if built_for and built_for[0] != shape[0]:
        return (
            f"{name}: the images have {_channels(shape[0])}, shape {_form(shape)}, but it was "
            f"built with in_channels={built_for[0]}; build it with models.create({name!r}, "
            f"in_channels={shape[0]}), or pass images of {_channels(built_for[0])}."
        )
    found = misfit(model, shape)
    if found is None:
        return ""
    fits = built_for is not None and misfit(model, built_for) is None
    smallest = None
    if isinstance(found.error, EmptyMapError):
        problem, smallest = "is too small", smallest_size(model, shape[0])
    elif fits:
        problem = "does not fit"
    else:
        return ""
    cures = []
    if smallest:
        cures.append(f"pass images of {smallest}x{smallest} or larger")
    elif built_for and fits:
        cures.append(f"pass images of {_form(built_for[1:])}, for which it was built")
    if model.architecture and (ways := _ways_to_build(find(model.architecture), shape)):
        cures.append(f"build it with {' or '.join(ways)}")
    cure = ", or ".join(cures) or "pass larger images"
    return f"{name}: an input of {_form(shape)} {problem}: {found}; {cure}."


def _ways_to_build(entry: Architecture, shape: tuple[int, ...]) -> list[str]:
    """Calls of `create` that give the same architecture for images of this shape."""
    channels, height, _ = shape
    settings: list[dict[str, Any]] = [{"preset": preset} for preset in entry.presets]
    if "image_size" in entry.options:
        settings.append({"preset": nearest_preset(entry.name, height), "image_size": height})
    for setting in settings:
        if entry.preset(setting["preset"]).input_shape[0] != channels:
            setting["in_channels"] = channels
    return [_call(entry.name, setting) for setting in settings if _fits(entry, setting, shape)]


def _fits(entry: Architecture, setting: dict[str, Any], shape: tuple[int, ...]) -> bool:
    try:
        with nn.without_weights():
            return misfit(create(entry.name, **setting), shape) is None
    except MiniCNNError:  # some builders refuse sizes themselves
        return False


def _call(name: str, setting: dict[str, Any]) -> str:
    arguments = (f"{key}={value!r}" for key, value in setting.items())
    return f"models.create({', '.join((repr(name), *arguments))})"


def _shape(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(getattr(arguments[0], "shape", ())) if arguments else ()


def _channels(count: int) -> str:
    return f"{count} channel" if count == 1 else f"{count} channels"


def _form(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
