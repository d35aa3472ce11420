"""Looking at networks: tables of layers, sizes, costs, receptive fields and memory."""

from minicnn.inspect.catalogue import Catalogue, Entry, catalogue
from minicnn.inspect.costs import (
    Comparison,
    ConvCost,
    Costs,
    OutputSize,
    bottleneck_costs,
    factorised_costs,
    inception_costs,
    output_size,
    stacked_costs,
)
from minicnn.inspect.memory import Memory, MemoryRow, memory
from minicnn.inspect.notes_tables import (
    NotesRow,
    NotesTable,
    Value,
    notes_alexnet,
    notes_bottleneck,
    notes_inception,
    notes_vgg16,
)
from minicnn.inspect.summary import (
    LayerRow,
    ReceptiveField,
    Share,
    Summary,
    receptive_fields,
    summary,
)

__all__ = [
    "Catalogue",
    "Comparison",
    "ConvCost",
    "Costs",
    "Entry",
    "LayerRow",
    "Memory",
    "MemoryRow",
    "NotesRow",
    "NotesTable",
    "OutputSize",
    "ReceptiveField",
    "Share",
    "Summary",
    "Value",
    "bottleneck_costs",
    "catalogue",
    "factorised_costs",
    "inception_costs",
    "memory",
    "notes_alexnet",
    "notes_bottleneck",
    "notes_inception",
    "notes_vgg16",
    "output_size",
    "receptive_fields",
    "stacked_costs",
    "summary",
]
