"""Looking at networks: tables of layers, sizes and costs."""

from minicnn.inspect.summary import LayerRow, Summary, summary

__all__ = ["LayerRow", "Summary", "summary"]
