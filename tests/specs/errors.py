"""What users get wrong, and what they are told: call -> error class, part of the message."""

from __future__ import annotations

import numpy as np

import minicnn.functional as F
from minicnn import Tensor
from minicnn.errors import ArgumentError, DTypeError, GraphError, OutOfRangeError, ShapeError


def ones(*shape):
    return Tensor(np.ones(shape, np.float32))


def integers(*shape):
    return Tensor(np.ones(shape, np.uint8))


ERRORS = {
    "channels": (
        lambda: F.conv2d(ones(2, 3, 8, 8), ones(6, 1, 5, 5)),
        ShapeError,
        "conv2d: x has 3 channels (x is (2, 3, 8, 8)) but weight expects 1 (weight is "
        "(6, 1, 5, 5), groups=1). Build the layer with in_channels=3",
    ),
    "no batch": (
        lambda: F.conv2d(ones(3, 8, 8), ones(6, 3, 5, 5)),
        ShapeError,
        "conv2d: x must be (N, C, H, W), but has 3 axes, shape (3, 8, 8); add the batch axis",
    ),
    "bytes into a convolution": (
        lambda: F.conv2d(integers(1, 1, 4, 4), ones(1, 1, 2, 2)),
        DTypeError,
        "conv2d: x is uint8, but must hold floating-point numbers; convert its array with .astype",
    ),
    "bytes into pooling": (
        lambda: F.avg_pool2d(integers(1, 1, 4, 4), 2),
        DTypeError,
        "avg_pool2d: x is uint8",
    ),
    "integers into linear": (
        lambda: F.linear(integers(2, 3), ones(1, 3)),
        DTypeError,
        "linear: x is uint8",
    ),
    "integers into batch norm": (
        lambda: F.batch_norm(integers(2, 3), None, None),
        DTypeError,
        "batch_norm: x is uint8",
    ),
    "integers into response normalisation": (
        lambda: F.local_response_norm(integers(2, 3), 3),
        DTypeError,
        "local_response_norm: x is uint8",
    ),
    "integers into dropout": (
        lambda: F.dropout(integers(2, 3)),
        DTypeError,
        "dropout: x is uint8",
    ),
    "integers into stochastic depth": (
        lambda: F.stochastic_depth(integers(2, 3), 0.5),
        DTypeError,
        "stochastic_depth: x is uint8",
    ),
    "integer logits": (
        lambda: F.cross_entropy(integers(2, 3), [0, 1]),
        DTypeError,
        "cross_entropy: x is uint8",
    ),
    "boolean labels": (
        lambda: F.cross_entropy(ones(2, 2), np.array([True, False])),
        DTypeError,
        "cross_entropy: target is bool; give class numbers as integers, for example target.astype(",
    ),
    "labels as text": (
        lambda: F.cross_entropy(ones(2, 2), ["0", "1"]),
        DTypeError,
        "cross_entropy: target is <U1; give class numbers as integers",
    ),
    "a list into linear": (
        lambda: F.linear([[1.0]], ones(1, 1)),
        DTypeError,
        "linear: x is a list, not a tensor; make one with minicnn.tensor(x)",
    ),
    "an axis by name": (
        lambda: F.softmax(ones(2), "a"),
        ArgumentError,
        "softmax: dim is 'a'; give the number of an axis",
    ),
    "half groups": (
        lambda: F.conv2d(ones(1, 2, 3, 3), ones(2, 1, 3, 3), groups=2.0),
        ArgumentError,
        "conv2d: groups is 2.0; give a whole number >= 1",
    ),
    "a probability as text": (
        lambda: F.dropout(ones(2), "0.5"),
        ArgumentError,
        "dropout: p is '0.5'; give a probability from 0 to 1",
    ),
    "smoothing by nothing": (
        lambda: F.cross_entropy(ones(1, 2), [0], label_smoothing=None),
        ArgumentError,
        "cross_entropy: label_smoothing is None; give a number from 0 to 1",
    ),
    "half a row": (
        lambda: ones(2, 4).reshape(2.5, -1),
        ArgumentError,
        "reshape: (2.5, -1) holds something else than whole numbers (use //)",
    ),
    "half an axis": (
        lambda: ones(2, 4).permute(0.5, 1),
        ArgumentError,
        "permute: (0.5, 1) holds something else than whole numbers",
    ),
    "groups": (
        lambda: F.conv2d(ones(1, 3, 4, 4), ones(4, 1, 2, 2), groups=2),
        ShapeError,
        "conv2d: groups=2 must divide both the 3 channels of x and the 4 filters",
    ),
    "bias": (
        lambda: F.conv2d(ones(1, 1, 4, 4), ones(4, 1, 2, 2), ones(3)),
        ShapeError,
        "conv2d: bias is (3,) but weight has 4 filters",
    ),
    "kernel": (
        lambda: F.max_pool2d(ones(1, 1, 4, 4), 5),
        ShapeError,
        "max_pool2d: kernel_size 5 (dilation 1) covers 5 rows, but the input has 4",
    ),
    "pool padding": (
        lambda: F.avg_pool2d(ones(1, 1, 4, 4), 2, padding=2),
        ShapeError,
        "avg_pool2d: padding 2 is more than half of the window's height 2; use padding <= 1",
    ),
    "features": (
        lambda: F.linear(ones(2, 3, 4, 4), ones(5, 48)),
        ShapeError,
        "linear: x has 4 features (x is (2, 3, 4, 4)) but weight expects 48 (weight is (5, 48)). "
        "Flatten the maps first",
    ),
    "broadcast": (lambda: ones(2, 3) + ones(2), ShapeError, "add: shapes (2, 3) and (2,) do not"),
    "matmul": (lambda: ones(2, 3) @ ones(2, 3), ShapeError, "matmul: x is (2, 3) and y is (2, 3)"),
    "exponent": (lambda: F.pow(ones(2), ones(2)), ArgumentError, "pow: exponent is a Tensor"),
    "operand": (lambda: ones(2) + "1", ArgumentError, "add: cannot use a str"),
    "label": (
        lambda: F.cross_entropy(ones(2, 3), [0, 3]),
        ArgumentError,
        "cross_entropy: target[1] is 3, but x has 3 classes; labels must be 0 to 2, or",
    ),
    "label to ignore": (
        lambda: F.cross_entropy(ones(2, 3), [0, 1], ignore_index=None),
        ArgumentError,
        "cross_entropy: ignore_index is None; give a whole number",
    ),
    "label to ignore among probabilities": (
        lambda: F.cross_entropy(ones(1, 2), np.ones((1, 2)), ignore_index=1),
        ArgumentError,
        "cross_entropy: ignore_index=1 names a class number, but target holds probabilities",
    ),
    "label count": (
        lambda: F.cross_entropy(ones(2, 3), [0]),
        ShapeError,
        "cross_entropy: target holds (1,) class numbers, but x has 2 rows",
    ),
    "target gradient": (
        lambda: F.cross_entropy(ones(1, 2), Tensor(np.ones((1, 2)), requires_grad=True)),
        GraphError,
        "cross_entropy: no gradient flows to the target; pass target.detach()",
    ),
    "class weights": (
        lambda: F.cross_entropy(ones(2, 3), [0, 1], weight=[1.0, 2.0]),
        ShapeError,
        "cross_entropy: weight is (2,), but x has 3 classes",
    ),
    "reduction": (
        lambda: F.mse_loss(ones(2), ones(2), reduction="avg"),
        ArgumentError,
        "mse_loss: reduction is 'avg'; use 'mean', 'sum' or 'none'",
    ),
    "smoothing": (
        lambda: F.cross_entropy(ones(1, 2), [0], label_smoothing=2),
        ArgumentError,
        "cross_entropy: label_smoothing is 2; give a number from 0 to 1",
    ),
    "mse": (
        lambda: F.mse_loss(ones(2), ones(2, 1)),
        ShapeError,
        "mse_loss: x is (2,) but target is (2, 1); they must be equal",
    ),
    "one value": (
        lambda: F.batch_norm(ones(1, 2, 1, 1), None, None, training=True),
        ShapeError,
        "need more than one value a channel, but x is (1, 2, 1, 1)",
    ),
    "num_features": (
        lambda: F.batch_norm(ones(2, 2), None, None, ones(3)),
        ShapeError,
        "batch_norm: x has 2 channels (x is (2, 2)) but weight is (3,). Build the layer with "
        "num_features=2",
    ),
    "half a pair": (
        lambda: F.batch_norm(ones(2, 2), np.zeros(2), None),
        ArgumentError,
        "batch_norm: give both running_mean and running_var, or neither",
    ),
    "size": (
        lambda: F.local_response_norm(ones(1, 2), 0),
        ArgumentError,
        "local_response_norm: size is 0; give the number of channels",
    ),
    "dim": (
        lambda: F.softmax(ones(2, 3), dim=2),
        ShapeError,
        "softmax: dim is 2, but the tensor has 2 axes; use -2 to 1",
    ),
    "reshape": (lambda: ones(2, 3).reshape(4), ShapeError, "reshape: 6 values of shape (2, 3)"),
    "permute": (
        lambda: ones(2, 3).permute(0, 0),
        ShapeError,
        "permute: dims (0, 0) must name each",
    ),
    "flatten": (
        lambda: ones(2, 3).flatten(1, 0),
        ShapeError,
        "flatten: start_dim 1 comes after end_dim 0; swap them",
    ),
    "index": (
        lambda: ones(2, 3)[2],
        OutOfRangeError,
        "getitem: index 2 is out of bounds for axis 0 with size 2; the tensor has shape (2, 3)",
    ),
    "cat": (
        lambda: F.cat([ones(1, 2, 4, 4), ones(1, 3, 2, 2)], 1),
        ShapeError,
        "cat: tensor 1 is (1, 3, 2, 2), but tensor 0 is (1, 2, 4, 4); all axes except dim=1 must "
        "be equal. Give branches of a block padding='same'",
    ),
    "cat of nothing": (lambda: F.cat([]), ArgumentError, "cat: the list of tensors is empty"),
    "pad": (lambda: F.pad(ones(2), (1,)), ShapeError, "pad: pad is (1,) for a tensor of 1 axes"),
    "pad mode": (
        lambda: F.pad(ones(2), (1, 1), mode="reflect"),
        ArgumentError,
        "pad: mode is 'reflect'; only 'constant' is offered",
    ),
    "probability": (
        lambda: F.dropout(ones(2), 1.5),
        ArgumentError,
        "dropout: p is 1.5; give a probability from 0 to 1",
    ),
    "depth mode": (
        lambda: F.stochastic_depth(ones(2), 0.5, mode="column"),
        ArgumentError,
        "stochastic_depth: mode is 'column'; use 'row' or 'batch'",
    ),
    "falloff": (
        lambda: F.distance_weighted_pool2d(ones(1, 1, 2, 2), 2, falloff="linear"),
        ArgumentError,
        "distance_weighted_pool2d: falloff is 'linear'; use 'inverse' or 'gaussian'",
    ),
    "empty map": (
        lambda: F.adaptive_avg_pool2d(ones(1, 1, 0, 2), 1),
        ShapeError,
        "adaptive_avg_pool2d: x has an empty map, shape (1, 1, 0, 2)",
    ),
    "softmax of nothing": (lambda: F.softmax(ones(2, 0)), ShapeError, "softmax"),
    "maximum of nothing": (lambda: F.amax(ones(2, 0), 1), ShapeError, "amax"),
    "argmax of nothing": (lambda: F.argmax(ones(2, 0), 1), ShapeError, "argmax"),
    "stack": (lambda: F.stack([ones(2), ones(3)]), ShapeError, "stack: tensor 1 is (3,)"),
}
