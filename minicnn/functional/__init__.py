"""Every differentiable function, with PyTorch's names and argument orders.

One file a family; in each, an `Op` class (the mathematics, raw arrays both ways) stands beside the
documented function that checks its arguments and applies it. Functions take tensors or arrays.
"""

from minicnn.functional import comparison as comparison  # the operators ==, < and so on
from minicnn.functional.activation import (
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    softmax,
    tanh,
)
from minicnn.functional.arithmetic import add, div, exp, log, matmul, mul, neg, pow, sqrt, sub
from minicnn.functional.convolution import conv2d, conv2d_batch_norm, conv2d_relu
from minicnn.functional.linear import linear
from minicnn.functional.loss import cross_entropy, mse_loss
from minicnn.functional.normalization import (
    batch_norm,
    batch_norm_relu,
    batch_norm_relu_max_pool2d,
    local_response_norm,
)
from minicnn.functional.pooling import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    distance_weighted_pool2d,
    global_avg_pool2d,
    l2_pool2d,
    max_pool2d,
    min_pool2d,
)
from minicnn.functional.reduction import amax, argmax, mean, sum, var
from minicnn.functional.shape import (
    cat,
    concat,
    flatten,
    getitem,
    pad,
    permute,
    reshape,
    stack,
    transpose,
)
from minicnn.functional.stochastic import drop_path, dropout, stochastic_depth

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "add",
    "amax",
    "argmax",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_relu",
    "batch_norm_relu_max_pool2d",
    "cat",
    "concat",
    "conv2d",
    "conv2d_batch_norm",
    "conv2d_relu",
    "cross_entropy",
    "distance_weighted_pool2d",
    "div",
    "drop_path",
    "dropout",
    "exp",
    "flatten",
    "getitem",
    "global_avg_pool2d",
    "l2_pool2d",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log",
    "log_softmax",
    "matmul",
    "max_pool2d",
    "mean",
    "min_pool2d",
    "mse_loss",
    "mul",
    "neg",
    "pad",
    "permute",
    "pow",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "sqrt",
    "stack",
    "stochastic_depth",
    "sub",
    "sum",
    "tanh",
    "transpose",
    "var",
]
