"""Shapes as in real networks: name -> function, shapes of its arrays, settings, terms of a sum."""

from __future__ import annotations

import minicnn.functional as F


def _batch_norm(x, weight, bias):
    return F.batch_norm(x, None, None, weight, bias, training=True)


MAPS = (9, 17, 28, 30)
REAL = {
    "3x3": (F.conv2d, ((5, 9, 28, 30), (35, 9, 3, 3), (35,)), {"padding": 1}, 9 * 9),
    "3x3 on 7x7": (F.conv2d, ((3, 20, 7, 7), (33, 20, 3, 3), (33,)), {"padding": 1}, 20 * 9),
    "5x5": (F.conv2d, ((3, 4, 28, 28), (10, 4, 5, 5), (10,)), {"padding": 2}, 4 * 25),
    "7x7, stride 2": (
        F.conv2d, ((2, 3, 64, 66), (18, 3, 7, 7), (18,)), {"stride": 2, "padding": 3}, 3 * 49
    ),
    "1x1": (F.conv2d, ((3, 40, 14, 15), (24, 40, 1, 1), (24,)), {}, 40),
    "groups": (F.conv2d, ((2, 16, 14, 14), (24, 4, 3, 3)), {"groups": 4, "padding": 1}, 36),
    "depthwise": (F.conv2d, ((2, 20, 14, 14), (20, 1, 3, 3)), {"groups": 20, "padding": 1}, 9),
    "dilated": (
        F.conv2d, ((2, 8, 20, 21), (9, 8, 3, 3)), {"dilation": 2, "padding": 2}, 72
    ),
    "linear": (F.linear, ((33, 300), (70, 300), (70,)), {}, 300),
    "2x2 pool": (F.max_pool2d, (MAPS,), {"kernel_size": 2}, 0),
    "3/2 pool": (F.max_pool2d, (MAPS,), {"kernel_size": 3, "stride": 2, "padding": 1}, 0),
    "3/2 mean": (F.avg_pool2d, (MAPS,), {"kernel_size": 3, "stride": 2, "ceil_mode": True}, 9),
    "adaptive mean": (F.adaptive_avg_pool2d, (MAPS,), {"output_size": 6}, 36),
    "adaptive maximum": (F.adaptive_max_pool2d, (MAPS,), {"output_size": 6}, 0),
    "batch norm": (_batch_norm, (MAPS, (17,), (17,)), {}, 9 * 28 * 30),
    "LRN": (F.local_response_norm, (MAPS,), {"size": 5, "alpha": 1.0}, 8),
    "relu": (F.relu, (MAPS,), {}, 0),
    "leaky_relu": (F.leaky_relu, (MAPS,), {}, 1),
    "sigmoid": (F.sigmoid, (MAPS,), {}, 2),
    "tanh": (F.tanh, (MAPS,), {}, 2),
    "softmax": (F.softmax, ((300, 100),), {}, 100),
    "dropout": (F.dropout, (MAPS,), {"key": 5}, 1),
    "stochastic_depth": (F.stochastic_depth, (MAPS,), {"p": 0.4, "key": 5}, 1),
}  # fmt: skip
