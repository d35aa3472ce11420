"""Looking at networks: tables of layers, sizes, costs and memory."""

from minicnn.inspect.catalogue import Catalogue, Entry, catalogue
from minicnn.inspect.memory import Memory, MemoryRow, memory
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
    "Entry",
    "LayerRow",
    "Memory",
    "MemoryRow",
    "ReceptiveField",
    "Share",
    "Summary",
    "catalogue",
    "memory",
    "receptive_fields",
    "summary",
]
