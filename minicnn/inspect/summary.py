"""The anatomy of a network, layer by layer: shapes, parameters, costs, memory, receptive fields."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.inspect._sheet import Sheet, Shown, count, form
from minicnn.nn import Module
from minicnn.nn._settings import sample_shape
from minicnn.nn.module import check_module
from minicnn_kernels.fields import Field, field_of

PARTS = ("conv", "fc", "other")  # see `LayerRow.part`
_IN_PLACE = (
    nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout,
    nn.DropPath, nn.StochasticDepth, nn.Flatten, nn.Identity,
)  # fmt: skip


@dataclass(frozen=True)
class ReceptiveField:
    """The pixels that one value of a map is computed from, (height, width).

    ``size`` is how many, ``jump`` how far the fields of neighbours lie apart. `minicnn_kernels.
    fields` explains how they follow from kernels, strides and dilations.
    """

    size: tuple[int, int]
    jump: tuple[float, float]

    @classmethod
    def of(cls, field: Field) -> ReceptiveField:
        """From exact fractions, which uneven adaptive pooling makes."""
        height, width = map(math.ceil, field.size)
        down, right = (float(j) if j % 1 else int(j) for j in field.jump)
        return cls((height, width), (down, right))


@dataclass(frozen=True)
class LayerRow:
    """One layer of a `Summary`: shapes without the batch axis; costs for one sample.

    ``part`` is "conv" or "fc" for a layer with a matrix of weights, else "other"; ``weights`` are
    the numbers in that matrix and ``parameters`` all of the layer, biases too.
    ``activations`` is how many values the output has and ``activation_bytes`` their memory;
    ``in_place`` tells that the layer can write them over its input (ReLU, batch norm, dropout,
    flatten), unless something else reads that too. ``receptive_field`` is None where the input is
    no image.
    """

    name: str
    kind: str
    part: str
    output_shape: tuple[int, ...]
    weights: int
    parameters: int
    multiply_adds: int
    activations: int
    activation_bytes: int
    in_place: bool
    receptive_field: ReceptiveField | None


@dataclass(frozen=True)
class Share:
    """What the layers of one part, such as all convolutions, have of a network."""

    layers: int
    parameters: int
    multiply_adds: int
    parameter_share: float
    multiply_add_share: float


@dataclass(frozen=True)
class Summary(Shown):
    """The layers of a network in the order in which they run; a table in terminal and notebook.

    Multiply-adds count the weights of convolutions and fully connected layers, trained or fixed,
    each as often as it is used; biases, normalisation, activations and pooling are not counted.
    ``unused_parameters`` are those of parts that did not run, such as auxiliary heads for training;
    ``parameters`` has them too. The sum of activations is the notes' way of comparing
    architectures: it leaves out what layers can write over their input. What a run really holds,
    `minicnn.inspect.memory` measures.
    """

    title: str
    input_shape: tuple[int, ...]
    input_bytes: int
    layers: tuple[LayerRow, ...]
    parameters: int
    unused_parameters: int = 0

    @property
    def multiply_adds(self) -> int:
        """Sum over the layers, for one sample."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activations(self) -> int:
        """Values in the input and in all outputs, layers that work in place left out."""
        return math.prod(self.input_shape) + sum(
            row.activations for row in self.layers if not row.in_place
        )

    @property
    def activation_bytes(self) -> int:
        """Memory of `activations`."""
        return self.input_bytes + sum(
            row.activation_bytes for row in self.layers if not row.in_place
        )

    @property
    def shares(self) -> dict[str, Share]:
        """What convolutions ("conv"), fully connected ("fc") and other layers have of what runs.

        >>> from minicnn import models
        >>> shares = summary(models.create("notes_cnn"), (1, 28, 28)).shares
        >>> shares["conv"].multiply_adds, shares["fc"].parameters
        (2822400, 15690)
        """
        return {part: self._share(part) for part in PARTS}

    def _share(self, part: str) -> Share:
        rows = [row for row in self.layers if row.part == part]
        parameters = sum(row.parameters for row in rows)
        used = self.parameters - self.unused_parameters
        if part == "other":  # also those of parts that are no layers
            parameters = used - sum(row.parameters for row in self.layers if row.part != part)
        products = sum(row.multiply_adds for row in rows)
        return Share(
            len(rows), parameters, products,
            parameters / max(used, 1), products / max(self.multiply_adds, 1),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Everything as dictionaries, lists and numbers, such as for JSON or a data frame."""
        totals = {
            name: getattr(self, name) for name in ("multiply_adds", "activations",
                                                   "activation_bytes")
        }  # fmt: skip
        shares = {part: asdict(share) for part, share in self.shares.items()}
        return {**asdict(self), **totals, "shares": shares}

    def sheet(self) -> Sheet:
        """The table as texts."""
        headings = ("layer", "kind", "output", "parameters", "multiply-adds", "activations",
                    "field", "jump")  # fmt: skip
        values = count(math.prod(self.input_shape))
        rows: list[tuple[str, ...]] = [
            ("input", "", form(self.input_shape), "", "", values, "", "")
        ]
        for row in self.layers:
            values = "" if row.in_place else count(row.activations)
            seen = row.receptive_field
            rows.append(
                (row.name, row.kind, form(row.output_shape), count(row.parameters),
                 count(row.multiply_adds), values, *(_pixels(seen) if seen else ("", "")))
            )  # fmt: skip
        totals = [("total", "", "", count(self.parameters), count(self.multiply_adds),
                   count(self.activations), "", "")]  # fmt: skip
        for part, share in self.shares.items():
            if share.layers and (share.parameters or share.multiply_adds):
                shown = f"{share.parameter_share:.2%}", f"{share.multiply_add_share:.2%}"
                totals.append(
                    (
                        part,
                        f"{share.layers} layer{'s' if share.layers != 1 else ''}",
                        "",
                        *shown,
                        "",
                        "",
                        "",
                    )
                )
        return Sheet(self.title, headings, rows, totals, self._notes(), left=3)

    def _notes(self) -> list[str]:
        notes = [
            f"activations of one image {self.activation_bytes / 1e6:,.2f} MB; layers without a "
            "number there write over their input."
        ]
        if self.unused_parameters:
            notes.append(
                f"{self.unused_parameters:,} of the parameters are in parts that run in training "
                "only; the shares are of the others."
            )
        if any(row.receptive_field for row in self.layers):
            notes.append(
                "field: pixels of the image that one value sees, padding included; jump: pixels "
                "between neighbours."
            )
        return notes


def summary(model: Module, input_shape: tuple[int, ...]) -> Summary:
    """Send the shape of one sample through the model and list its layers; nothing is computed.

    ``input_shape`` is that of one sample, (C, H, W). The model runs in eval mode, with hooks on its
    layers, and is then as it was: while another thread trains it, pass ``copy.deepcopy(model)``. A
    layer that runs twice is listed twice, its parameters once.

    >>> from minicnn import models
    >>> rows = summary(models.create("notes_cnn"), (1, 28, 28)).layers
    >>> rows[-1].output_shape, rows[-1].parameters
    ((10,), 15690)
    >>> rows[-2].receptive_field
    ReceptiveField(size=(16, 16), jump=(4, 4))
    """
    rows: list[LayerRow] = []
    counted: set[int] = set()

    def record(name: str, module: Module, arguments: Any, output: Tensor) -> None:
        fresh = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        counted.update(id(p) for p in fresh)
        if any(module.children()):
            return
        rows.append(_row(name, module, arguments, output, fresh))

    check_module(model, "summary")
    shape = sample_shape(input_shape, "summary")
    nn.dry_run(model, shape, after=record)
    total = model.num_parameters()
    unused = sum(p.size for p in model.parameters() if id(p) not in counted)
    itemsize = next((p.dtype.itemsize for p in model.parameters()), 4)
    name = getattr(model, "architecture", "") or type(model).__name__
    title = f"{name}, input {form(shape)}"
    return Summary(title, shape, math.prod(shape) * itemsize, tuple(rows), total, unused)


def receptive_fields(model: Module, input_shape: tuple[int, ...]) -> dict[str, ReceptiveField]:
    """What the output of each part of a model sees of an image (C, H, W), by the part's path.

    Parts made of others, such as a whole block, are listed too; "" is the model. A part that runs
    twice is listed as it ran last.

    >>> from minicnn import nn
    >>> three = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(3)))
    >>> receptive_fields(three, (1, 28, 28))[""].size  # three 3x3 convolutions see what a 7x7 sees
    (7, 7)
    """
    found: dict[str, ReceptiveField] = {}

    def record(name: str, module: Module, arguments: Any, output: Any) -> None:
        field = field_of(getattr(output, "array", None))
        if field is not None:
            found[name] = ReceptiveField.of(field)

    check_module(model, "receptive_fields")
    nn.dry_run(model, sample_shape(input_shape, "receptive_fields"), after=record)
    return found


def _row(
    name: str, layer: Module, arguments: Any, output: Tensor, fresh: list[nn.Parameter]
) -> LayerRow:
    """``fresh`` are the parameters that no row before has counted."""
    shape = output.shape[1:]
    weight = getattr(layer, "weight", None)  # a parameter, or a buffer where it is fixed
    dimensions = 0 if weight is None else weight.ndim
    part = "other" if dimensions < 2 else "fc" if dimensions == 2 else "conv"
    products = weights = 0
    if weight is not None and part != "other":  # the weights are used at each position
        products = weight.size * math.prod(shape[1:] if part == "conv" else shape[:-1])
        is_new = not isinstance(weight, nn.Parameter) or any(p is weight for p in fresh)
        weights = weight.size * is_new
    values, field = math.prod(shape), field_of(output.array)
    return LayerRow(
        name, type(layer).__name__, part, shape, weights, sum(p.size for p in fresh), products,
        values, values * output.dtype.itemsize, _works_in_place(layer, arguments, output),
        None if field is None else ReceptiveField.of(field),
    )  # fmt: skip


def _works_in_place(layer: Module, arguments: Any, output: Tensor) -> bool:
    """Layers that change each value by itself; adaptive pooling to the size that the map has."""
    if isinstance(layer, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
        return bool(arguments) and arguments[0].shape == output.shape
    return isinstance(layer, _IN_PLACE)


def _pixels(seen: ReceptiveField) -> Iterable[str]:
    """Size and jump, as one number where height and width are equal."""
    for height, width in (seen.size, seen.jump):
        yield f"{height:g}" if height == width else f"{height:g}x{width:g}"
