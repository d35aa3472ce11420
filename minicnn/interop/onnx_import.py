"""ONNX files as networks of minicnn: read, checked, and turned into layers that train.

Nothing in the file is run. It is parsed (`onnx_file`), its nodes become layers and functions one by
one (`onnx_nodes`), and while they do, they are run on shapes without numbers (`onnx_build`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError, ShapeError
from minicnn.interop.onnx_build import LARGEST_MAP, LONGEST_SIDE, Builder, Node, Unsupported
from minicnn.interop.onnx_file import OnnxFile
from minicnn.interop.onnx_network import ImportedNetwork
from minicnn.interop.onnx_nodes import READERS
from minicnn_kernels.registry import in_this_thread
from minicnn_kernels.shapes import blank

DOMAINS = ("", "ai.onnx")


def import_onnx(
    path: str | os.PathLike[str], input_shape: Sequence[int] | None = None
) -> ImportedNetwork:
    """Return the network of an ONNX file as a Module, in eval mode; `Module.train` trains it.

    Weights of the file are parameters, under their names in the file where those are names of the
    kind "features.0.weight". The result takes batches of any size. ``metadata`` holds the texts
    that the file has about itself; minicnn writes classes, mean and std there.

    input_shape : of one sample, such as (3, 224, 224), where the file leaves a length open, or to
        have another

    Read are files of opset 7 or later made of the operators in `onnx_nodes.READERS`. Raises
    `CheckpointError` for a file that is damaged or has nodes that cannot be read, which it lists
    all, with their names; `MissingPackageError` without the package onnx (extra "onnx").

    >>> import_onnx("none.onnx")
    Traceback (most recent call last):
    minicnn.errors.CheckpointError: import_onnx: none.onnx could not be read: No such file ...
    """
    file = OnnxFile(path, "import_onnx")
    graph = file.model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    sources = [value for value in graph.input if value.name not in stored]
    if len(sources) != 1 or graph.sparse_initializer:
        raise file.error(f"has {len(sources)} inputs or sparse weights; one input is read")
    batch, shape = _input_shape(file, sources[0], input_shape)
    metadata = {entry.key: entry.value for entry in file.model.metadata_props}
    network = ImportedNetwork(sources[0].name, shape, metadata)
    x = Tensor(blank((batch, *shape), np.float32))
    builder = Builder(network, x, file.opset)
    builder.constants.update((name, file.array(tensor)) for name, tensor in stored.items())
    builder.trained.update(stored)
    with no_grad(), in_this_thread("shapes"):
        _read_nodes(file, builder)
    outputs = [value.name for value in graph.output]
    if missing := [name for name in outputs if name not in builder.tensors]:
        raise file.error(f"has the output {missing[0]!r:.80}, which no node computes")
    network.set_calls(builder.calls, outputs)
    return network.eval()


def _input_shape(
    file: OnnxFile, source: Any, given: Sequence[int] | None
) -> tuple[int, tuple[int, ...]]:
    """The batch that the file means (2 where it is open) and the shape of one sample."""
    kind = source.type.tensor_type
    dims = [int(d.dim_value) if d.HasField("dim_value") else None for d in kind.shape.dim]
    if kind.elem_type not in (0, 1):
        raise file.error(f"takes numbers of type {kind.elem_type}, not float32")
    batch = dims[0] if dims and dims[0] else 2
    shape = dims[1:] if given is None else list(given)
    if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise file.error(
            f"takes images of shape {tuple(shape)!s:.80}; say which with input_shape, such as "
            "input_shape=(3, 224, 224)"
        )
    if dims and len(dims) - 1 != len(shape):
        raise file.error(f"takes {len(dims) - 1} axes a sample, but input_shape is {shape!s:.80}")
    lengths = tuple(int(n) for n in shape if n)
    if (
        batch < 0
        or math.prod((batch, *lengths)) > LARGEST_MAP
        or max(lengths[1:], default=0) > (LONGEST_SIDE)
    ):
        raise file.error(f"takes images of shape {(batch, *lengths)!s:.80}, which is too much")
    return batch, lengths


def _read_nodes(file: OnnxFile, builder: Builder) -> None:
    """Turn all nodes into layers, or raise one error that lists every one that cannot be."""
    nodes = [Node(proto, i) for i, proto in enumerate(file.model.graph.node)]
    problems: list[str] = []
    lost: set[str] = set()
    for node, proto in zip(nodes, file.model.graph.node, strict=True):
        known = builder.tensors.keys() | builder.constants.keys()
        if not node.outputs or not node.outputs[0] or any(o in known for o in node.outputs if o):
            raise file.error(f"computes a value twice, or none, in {node}; it is damaged")
        unknown = [name for name in node.inputs if name and name not in known]
        try:
            if proto.domain not in DOMAINS or node.kind not in READERS:
                domain = f" of {proto.domain:.40}" if proto.domain else ""
                raise Unsupported(f"this operator{domain} is not known")
            if any(name not in lost for name in unknown):
                raise file.error(f"reads {unknown[0]!r:.80} in {node} before it is computed")
            if not unknown:
                _read(file, builder, node)
                continue
        except Unsupported as error:
            problems.append(f"{node}: {error}")
        lost.update(node.outputs)
    if problems:
        listed = "\n  ".join(problems[:50])
        more = f"\n  and {len(problems) - 50} more" if len(problems) > 50 else ""
        raise file.error(
            f"has {len(problems)} nodes that cannot be read as layers:\n  {listed}{more}\n"
            "Replace them before the export"
        )


def _read(file: OnnxFile, builder: Builder, node: Node) -> None:
    if node.kind == "Constant":
        builder.constants[node.outputs[0]] = _constant(file, node)
    elif not any(node.inputs):
        raise Unsupported("it has no input")
    else:
        try:
            READERS[node.kind](builder, node)
        except (ArgumentError, ShapeError) as error:  # a layer that refuses the node's settings
            raise Unsupported(str(error)) from error


def _constant(file: OnnxFile, node: Node) -> np.ndarray:
    if (tensor := node.tensor("value")) is not None:
        return file.array(tensor)
    if node.has("value_float"):
        return np.array(node.real("value_float", 0.0), np.float32)
    if node.has("value_int"):
        return np.array(node.integer("value_int", 0), np.int64)
    if (ints := node.integers("value_ints")) is not None:
        return np.array(ints, np.int64)
    raise Unsupported("its value is no array of numbers")
