"""Networks as ONNX files, which other programs run: ONNX Runtime, TensorRT, OpenVINO, browsers.

The network is traced in eval mode (`onnx_trace`), so any Python ``forward`` of minicnn's functions
will do; each op is written as one node or a few (`onnx_ops`). A batch norm behind a convolution is,
in eval mode, a factor and a number to add for each filter, and both can go into the filters:

    (w * x + b - mean) / sqrt(var + eps) * gamma + beta  =  (s w) * x + ((b - mean) s + beta)

with s = gamma / sqrt(var + eps). That folding is computed in float64 and saves a pass over the map.

The batch may be of any size; height and width are those that the network was traced with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.errors import ArgumentError
from minicnn.functional.convolution import Conv2d
from minicnn.functional.normalization import BatchNorm
from minicnn.interop._packages import needed
from minicnn.interop.onnx_graph import IR_VERSION, OPSET, GraphWriter
from minicnn.interop.onnx_ops import write_step
from minicnn.interop.onnx_trace import Constant, Step, Trace, Value, trace
from minicnn.nn import Module
from minicnn.nn._arrays import to_numpy
from minicnn.nn._settings import sample_shape
from minicnn.nn.module import check_module
from minicnn.nn.parameter import has_weights
from minicnn.training.files import atomic_write
from minicnn.training.run import load_model
from minicnn.version import __version__

PathLike = str | os.PathLike[str]
#: what one file of Protocol Buffers, the format of ONNX, can hold
LARGEST = 2**31 - 1
PREPARED = {"preprocessing": "8-bit pixels / 255, then (images - mean) / std for each channel"}


def export_onnx(
    model: Module,
    path: PathLike,
    input_shape: Sequence[int] | None = None,
    *,
    classes: Sequence[str] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    metadata: Mapping[str, Any] | None = None,
    fold_batch_norm: bool = True,
) -> None:
    """Write a network, as it computes in eval mode, as an ONNX file of opset 17.

    The file's input is "images", float32 (N, *input_shape) for any N, and its output "logits" (more
    outputs are "logits_1", ...). Weights have the names of `Module.state_dict`. A file that was
    there is replaced when the new one is whole on disk. The model is not changed.

    input_shape : of one sample, such as (3, 224, 224); without it `Network.input_shape`
    classes, mean, std : names of the classes, and what `data.Normalize` had in training: metadata
    metadata : more of it by name; what is no text becomes JSON
    fold_batch_norm : whether batch norms go into the convolutions before them

    Raises `ArgumentError` for an op without an ONNX form (naming its layer), and for a network that
    computes with the images by a way around minicnn's functions; `CheckpointError` where the file
    cannot be written; `MissingPackageError` without the package onnx (extra "onnx").

    >>> from minicnn import models
    >>> export_onnx(models.create("notes_cnn"), "notes.onnx")  # doctest: +SKIP
    """
    onnx = needed("onnx", "export_onnx", "onnx")
    check_module(model, "export_onnx")
    found = trace(model, _checked(model, input_shape), "export_onnx")
    if (mean is None) != (std is None) or isinstance(classes, str):
        raise ArgumentError(
            f"export_onnx: mean is {mean!r}, std is {std!r} and classes is {classes!r}; give mean "
            "and std both or neither, and classes as a list of names."
        )
    properties = {
        "minicnn_version": __version__,
        "architecture": getattr(model, "architecture", ""),
        "image_shape": found.input.shape[1:],
        "classes": None if classes is None else list(classes),
        **({} if mean is None else {"mean": mean, "std": std, **PREPARED}),
        **(metadata or {}),
    }
    texts = {name: _text(name, value) for name, value in properties.items()}
    atomic_write(path, packed(onnx, found, texts, fold_batch_norm))


def export_run(folder: PathLike, path: PathLike, fold_batch_norm: bool = True) -> str:
    """Write the best network of a run folder as an ONNX file; returns a line that says what.

    Raises as `export_onnx` and `training.run.load_model` do.

    >>> export_run("runs/none", "model.onnx")
    Traceback (most recent call last):
    minicnn.errors.CheckpointError: runs/none is not a run folder: ...
    """
    model, checkpoint = load_model(Path(folder))
    meta = checkpoint.meta
    export_onnx(
        model,
        path,
        meta["image_shape"],
        classes=meta["classes"],
        mean=meta["mean"],
        std=meta["std"],
        metadata={"epoch": meta["epoch"]},
        fold_batch_norm=fold_batch_norm,
    )
    size = Path(path).stat().st_size
    return f"{path}: {meta['model']}, weights of epoch {meta['epoch']}, {size:,} bytes"


def packed(onnx: Any, found: Trace, properties: Mapping[str, str], fold: bool) -> bytes:
    """The bytes of the file of a trace, checked by the onnx package."""
    helper = onnx.helper
    graph = GraphWriter(helper)
    found.input.name = graph.fresh("images")
    for i, value in enumerate(found.outputs):
        value.name = graph.fresh(f"logits_{i}" if i else "logits")
    steps = _used(found)
    for step in _folded(steps, found.outputs) if fold else steps:
        if step.output not in found.outputs:
            step.output.name = graph.fresh(step.output.name)
        write_step(graph, step)
    arrays = {name: np.asarray(a) for name, a in graph.initializers.items()}
    size = sum(array.nbytes for array in arrays.values())
    if size > LARGEST:
        raise ArgumentError(
            f"export_onnx: the weights are {size:,} bytes, but a file of this format holds "
            f"{LARGEST:,}; export a smaller network."
        )
    described = helper.make_graph(
        graph.nodes,
        "minicnn",
        [_info(onnx, found.input)],
        [_info(onnx, value) for value in found.outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(
        described,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="minicnn",
        producer_version=__version__,
    )
    helper.set_model_props(model, {k: v for k, v in properties.items() if v not in ("", "null")})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _checked(model: Module, input_shape: Sequence[int] | None) -> tuple[int, ...]:
    wanted = getattr(model, "input_shape", None) if input_shape is None else input_shape
    shape = sample_shape(wanted, "export_onnx")
    if 0 in shape:
        raise ArgumentError(
            f"export_onnx: input_shape is {shape}; give sides of 1 or more, such as (3, 224, 224)."
        )
    for name, parameter in model.named_parameters():
        if parameter.dtype != np.float32:
            raise ArgumentError(
                f"export_onnx: {name} is {parameter.dtype}; convert the model with "
                ".astype(np.float32)."
            )
        if not has_weights(parameter):
            raise ArgumentError(
                f"export_onnx: {name} has no values (the model was built under "
                "nn.without_weights); build it without that, or load weights first."
            )
    return shape


def _text(name: Any, value: Any) -> str:
    """A piece of metadata as the text that ONNX keeps; numbers of NumPy are numbers."""
    if not isinstance(name, str):
        raise ArgumentError(f"export_onnx: metadata has the name {name!r}; give a text.")
    try:
        return value if isinstance(value, str) else json.dumps(value, default=_plain)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"export_onnx: {name!r} is {value!r}, which is no JSON ({error}); give a text or lists "
            "and dicts of numbers and texts."
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"it holds a {type(value).__name__}")


def _info(onnx: Any, value: Value) -> Any:
    shape = ["N" if n is None else n for n in value.shape]
    return onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, shape)


def _used(found: Trace) -> list[Step]:
    """The steps that the outputs need; what only training looks at is left out."""
    wanted = set(map(id, found.outputs))
    kept = []
    for step in reversed(found.steps):
        if id(step.output) in wanted:
            kept.append(step)
            wanted.update(id(x) for x in step.inputs if isinstance(x, Value))
    return kept[::-1]


def _folded(steps: list[Step], outputs: Sequence[Value]) -> list[Step]:
    """Each batch norm that alone reads a convolution with constant filters is put into it."""
    readers: dict[int, int] = {id(value): 1 for value in outputs}
    for step in steps:
        for x in step.inputs:
            readers[id(x)] = readers.get(id(x), 0) + 1
    makers: dict[int, Step] = {}
    result: list[Step] = []
    for step in steps:
        conv = makers.get(id(step.inputs[0]))
        if type(step.op) is BatchNorm and conv is not None and readers[id(conv.output)] == 1:
            result[result.index(conv)] = _with_norm(conv, step)
            continue
        if type(step.op) is Conv2d and isinstance(step.inputs[1], Constant):
            makers[id(step.output)] = step
        result.append(step)
    return result


def _with_norm(conv: Step, norm: Step) -> Step:
    """One convolution in the place of two steps; see the module's docstring."""
    x, weight, bias = conv.inputs
    op: Any = norm.op
    gamma, beta = (None if a is None else a.array.astype(np.float64) for a in norm.inputs[1:3])
    mean, var = (to_numpy(a).astype(np.float64) for a in (op.mean, op.var))
    scale = (var + op.eps) ** -0.5 * (1.0 if gamma is None else gamma)
    shift = (0.0 if bias is None else bias.array.astype(np.float64)) - mean
    shift = shift * scale + (0.0 if beta is None else beta)
    filters = (weight.array * scale[:, None, None, None]).astype(np.float32)
    name = weight.name.removesuffix("weight") + "bias" if bias is None else bias.name
    inputs = (x, Constant(weight.name, filters), Constant(name, shift.astype(np.float32)))
    return Step(conv.op, inputs, norm.output, conv.layer)
