"""All architectures side by side: presets, size and cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from minicnn import models, nn
from minicnn.errors import ArgumentError
from minicnn.inspect._sheet import Sheet, Shown, count, form
from minicnn.inspect.summary import summary


@dataclass(frozen=True)
class Entry:
    """An architecture as its paper has it, the first preset; multiply-adds for one image.

    Auxiliary heads, which only training uses, are not counted.
    """

    name: str
    presets: tuple[str, ...]
    input_shape: tuple[int, ...]
    num_classes: int
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Catalogue(Shown):
    """Architectures; a table in terminal and notebook."""

    entries: tuple[Entry, ...]

    def sheet(self) -> Sheet:
        """The table as texts."""
        headings = ("name", "presets", "input", "classes", "parameters", "multiply-adds")
        rows = [
            (e.name, ", ".join(e.presets), form(e.input_shape), count(e.num_classes),
             count(e.parameters), count(e.multiply_adds))
            for e in self.entries
        ]  # fmt: skip
        title = "architectures; the numbers are those of the first preset, without auxiliary heads"
        return Sheet(title, headings, rows, left=3)


def catalogue(names: Iterable[str] | None = None) -> Catalogue:
    """Sum up the architectures of those names, or all; no weights are made.

    Raises `ArgumentError` for what is no list of names, or has a name that is unknown.

    >>> print(catalogue(["notes_cnn"]).entries[0].parameters)
    29034
    """
    if isinstance(names, str) or not isinstance(names, (Iterable, type(None))):
        cure = f"catalogue([{names!r}])" if isinstance(names, str) else "such as ['lenet5']"
        raise ArgumentError(f"catalogue: names is {names!r}; give a list of names, {cure}.")
    return Catalogue(tuple(map(_entry, models.names() if names is None else names)))


def _entry(name: str) -> Entry:
    found = models.find(name)
    preset = found.preset(None)
    with nn.without_weights():
        table = summary(models.create(name), preset.input_shape)
    return Entry(
        name, tuple(found.presets), preset.input_shape, preset.num_classes,
        table.parameters - table.unused_parameters, table.multiply_adds,
    )  # fmt: skip
