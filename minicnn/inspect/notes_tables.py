"""The lecture notes' tables, with the exact numbers beside the printed ones.

Numbers in lecture notes are rounded, and some are wrong. Here each printed number stands beside
the one that follows from the network, and a footnote says why the two differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from minicnn.errors import ArgumentError
from minicnn.inspect._sheet import Sheet, Shown, form
from minicnn.inspect.costs import Comparison, Costs, bottleneck_costs, inception_costs
from minicnn.inspect.summary import LayerRow, Summary, summary
from minicnn.models import Network


@dataclass(frozen=True)
class Value:
    """An exact number, what the notes print for it, and the number of a footnote or 0."""

    exact: int
    printed: str = ""
    footnote: int = 0


@dataclass(frozen=True)
class NotesRow:
    """One line of a `NotesTable`: a layer, the shape of its output, and a value a column."""

    name: str
    output_shape: tuple[int, ...]
    values: tuple[Value | None, ...]
    footnote: int = 0


@dataclass(frozen=True)
class NotesTable(Shown):
    """A table of the notes, corrected; a table in terminal and notebook."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[NotesRow, ...]
    total: NotesRow
    footnotes: tuple[str, ...]

    def sheet(self) -> Sheet:
        """The table as texts."""
        headings = ("layer", "output", *(h for c in self.columns for h in (c, "in the notes")))
        notes = [f"[{i}] {text}" for i, text in enumerate(self.footnotes, 1)]
        rows = [_texts(row) for row in self.rows]
        return Sheet(self.title, headings, rows, [_texts(self.total)], notes, left=2)


# VGG-16: the notes list the weights without biases.
_VGG_WEIGHTS = (
    1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648, *(2_359_296,) * 5,
    102_760_448, 16_777_216, 4_096_000,
)  # fmt: skip


def notes_vgg16(network: Network | Summary) -> NotesTable:
    """Set the notes' table of VGG-16 beside the network: values of each map, and weights.

    ``network`` is VGG-16 for 3x224x224 images and 1000 classes, without batch norm, or its
    `summary`. Raises `ArgumentError` for another network.

    >>> from minicnn import models, nn
    >>> with nn.without_weights():
    ...     table = notes_vgg16(models.create("vgg16"))
    >>> activations, weights = table.total.values
    >>> f"{activations.exact:,} values, {activations.printed} in the notes"
    '15,237,608 values, 24M in the notes'
    """
    found = _summed_up(network)
    rows = [row for row in found.layers if not row.in_place]
    weights = tuple(row.weights for row in rows if row.part != "other")
    if weights != _VGG_WEIGHTS or found.input_shape != (3, 224, 224):
        raise ArgumentError(
            f"notes_vgg16: {found.title} is not the notes' VGG-16, which has 13 convolutions of "
            "3x3, 3 fully connected layers of 4096, 4096 and 1000, and 3x224x224 images."
        )
    lines = [NotesRow("input", found.input_shape, (Value(3 * 224 * 224), None))]
    for name, row in zip(_vgg_names(rows), rows, strict=True):
        value = Value(row.weights, f"{row.weights:,}") if row.weights else None
        lines.append(NotesRow(name, row.output_shape, (Value(row.activations), value)))
    total = (Value(found.activations, "24M", 1), Value(sum(weights), "138M", 2))
    apart = found.activations + sum(r.activations for r in found.layers if r.kind == "ReLU")
    footnotes = (
        f"The maps of this table add up to {found.activations:,} values, 4 bytes each: "
        f"{found.activations * 4 / 1e6:.2f} MB. The notes print 24M and 96 MB; stored before and "
        f"after each ReLU they would be {apart:,}.",
        f"Without biases, as the notes say; with them {found.parameters:,}.",
    )
    return NotesTable(
        "VGG-16 in the notes", ("values", "weights"), tuple(lines), NotesRow("total", (), total),
        footnotes,
    )  # fmt: skip


def _vgg_names(rows: Sequence[LayerRow]) -> list[str]:
    """conv1_1, conv1_2, pool1, conv2_1, ...; the matrices are fc6, fc7 and fc8."""
    names, block, position, matrices = [], 1, 0, 5
    for row in rows:
        if row.part == "conv":
            position += 1
            names.append(f"conv{block}_{position}")
        elif row.part == "fc":
            matrices += 1
            names.append(f"fc{matrices}")
        else:
            names.append(f"pool{block}")
            block, position = block + 1, 0
    return names


_ALEXNET_SHAPES = ((96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13),
                   (4096,), (4096,), (1000,))  # fmt: skip
_ALEXNET_NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
_ALEXNET_WEIGHTS = ("35K", "307K", "", "663K", "442K", "87M", "16M", "4M")  # as printed
_ALEXNET_MARKS = {"conv2": 3, "conv4": 3, "conv5": 3, "fc6": 4}  # footnotes


def notes_alexnet(network: Network | Summary) -> NotesTable:
    """Set the notes' table of AlexNet beside the network: neurons and weights of each layer.

    ``network`` is AlexNet with 96, 256, 384, 384 and 256 filters for 3x227x227 images and 1000
    classes, as a single tower or in two groups, or its `summary`. Raises `ArgumentError` for
    another network.

    >>> from minicnn import models, nn
    >>> with nn.without_weights():
    ...     table = notes_alexnet(models.create("alexnet_2012"))
    >>> neurons, weights = table.rows[1].values
    >>> f"{table.rows[1].name}: {neurons.exact:,} neurons, {neurons.printed} in the notes"
    'conv1: 290,400 neurons, 253,440 in the notes'
    """
    found = _summed_up(network)
    rows = [row for row in found.layers if row.part != "other"]
    if tuple(row.output_shape for row in rows) != _ALEXNET_SHAPES:
        raise ArgumentError(
            f"notes_alexnet: {found.title} is not the notes' AlexNet, whose first map is 96x55x55 "
            "and whose last one 256x13x13, before 3 fully connected layers of 4096, 4096 and 1000."
        )
    lines = [NotesRow("input", found.input_shape, (None, None), 5)]
    for name, row, printed in zip(_ALEXNET_NAMES, rows, _ALEXNET_WEIGHTS, strict=True):
        neurons = Value(row.activations, *(("253,440", 1) if name == "conv1" else ()))
        values = neurons, Value(row.weights, printed, _ALEXNET_MARKS.get(name, 0))
        lines.append(NotesRow(name, row.output_shape, values))
    neurons = Value(sum(row.activations for row in rows), "0.63M", 2)
    total = NotesRow("total", (), (neurons, Value(sum(row.weights for row in rows), "60M", 6)))
    footnotes = _alexnet_footnotes(found, rows)
    return NotesTable(
        "AlexNet in the notes", ("neurons", "weights"), tuple(lines), total, footnotes
    )


def _alexnet_footnotes(found: Summary, rows: Sequence[LayerRow]) -> tuple[str, ...]:
    matrices = sum(row.weights for row in rows if row.part == "fc")
    conv, fc = found.shares["conv"], found.shares["fc"]
    neurons = sum(row.activations for row in rows)
    return (
        "55 x 55 x 96 = 290,400. 253,440 is a slip of the paper: divided by 96 filters it is "
        "2,640, which is no square.",
        f"The printed neurons, 253,440 among them, add up to {neurons - 290_400 + 253_440:,}; the "
        f"exact sum is {neurons:,}, the paper's 650,000.",
        "The notes print the filters of conv2, conv4 and conv5 in two groups, one on each of the "
        "paper's two GPUs, which read half of the channels; a single tower has twice as many.",
        f"256 x 6 x 6 x 4096 = {rows[5].weights:,}, not 87M; with 87M the printed entries add up "
        "to 109.3M, not to the printed 60M.",
        "The paper and two of the notes print 224, but (224 - 11) / 4 + 1 = 54.25; 227 gives 55. "
        "And the filters of conv1 are 96, 48 on each GPU; 36 is a misprint.",
        f"All parameters, biases too, are {found.parameters:,}. Fully connected layers have "
        f"{matrices:,} weights (57M in the notes) and {fc.parameter_share:.1%} of the parameters; "
        f"convolutions have {conv.parameter_share:.2%} of the parameters and "
        f"{conv.multiply_add_share:.1%} of the multiply-adds (5% and 90-95% in the notes).",
    )


def notes_inception(naive: bool = False) -> Costs:
    """Count the inception module of the notes: 28x28x256 in, 128 + 192 + 96 filters.

    >>> notes_inception(naive=True).multiply_adds, notes_inception().multiply_adds
    (854196224, 271351808)
    """
    if naive:
        found = inception_costs(256, 128, 192, 96)
        return replace(found, notes=(*found.notes, "The notes print 854M, which is right."))
    found = inception_costs(256, 128, 192, 96, 64, 64, 64)
    wrong = found.multiply_adds + 28 * 28 * 192 * 9 * 64
    note = (
        f"The notes print the same six terms and the total 358M. The terms add up to "
        f"{found.multiply_adds / 1e6:.0f}M; {wrong:,} is the sum if 3x3 reads 128 channels, "
        "not the 64 that the 1x1 before it makes."
    )
    return replace(found, notes=(*found.notes, note))


def notes_bottleneck() -> Comparison:
    """Count the notes' 5x5 convolution from 192 to 32 channels, with and without 1x1 before it.

    >>> found = notes_bottleneck()
    >>> found.direct.multiply_adds, found.cheaper.multiply_adds
    (120422400, 12443648)
    """
    found = bottleneck_costs(192, 16, 32)
    note = (
        f"The notes print 120M and 12.4M, 10 times less; exactly {found.ratio:.3f} times. The "
        "reason is that 5x5 reads 16 channels in place of 192, which the 1x1 in front costs."
    )
    return replace(found, notes=(note,))


def _summed_up(network: Network | Summary) -> Summary:
    if isinstance(network, Summary):
        return network
    if network.input_shape is None:
        raise ArgumentError(
            "the network does not say for which images it is built; pass its summary."
        )
    return summary(network, network.input_shape)


def _texts(row: NotesRow) -> list[str]:
    texts = [_marked(row.name, row.footnote), form(row.output_shape)]
    for value in row.values:
        exact = f"{value.exact:,}" if value else ""
        texts += [exact, _marked(value.printed, value.footnote) if value else ""]
    return texts


def _marked(text: str, footnote: int) -> str:
    return f"{text} [{footnote}]" if footnote else text
