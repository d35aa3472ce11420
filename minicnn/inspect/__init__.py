"""Looking at networks: tables of layers, sizes, costs and memory."""

from minicnn.inspect.memory import Memory, MemoryRow, memory
from minicnn.inspect.summary import LayerRow, Summary, summary

__all__ = ["LayerRow", "Memory", "MemoryRow", "Summary", "memory", "summary"]
