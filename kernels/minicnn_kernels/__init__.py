"""Kernels: raw arrays in, raw arrays out; nothing here knows of graphs, layers or training."""
