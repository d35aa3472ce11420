"""Networks and their layers: bookkeeping only, the mathematics is in `minicnn.functional`."""

from minicnn.nn import init
from minicnn.nn.activation import LeakyReLU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from minicnn.nn.containers import ModuleDict, ModuleList, Sequential
from minicnn.nn.convolution import Conv2d
from minicnn.nn.dry_run import dry_run
from minicnn.nn.features import capture
from minicnn.nn.fusion import residual, run_chain, unfused
from minicnn.nn.hooks import RemovableHandle
from minicnn.nn.linear import Flatten, Identity, Linear
from minicnn.nn.loss import CrossEntropyLoss, MSELoss
from minicnn.nn.modes import evaluating
from minicnn.nn.module import Module
from minicnn.nn.normalization import BatchNorm1d, BatchNorm2d, LocalResponseNorm
from minicnn.nn.parameter import Parameter, without_weights
from minicnn.nn.pooling import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    DistanceWeightedPool2d,
    GlobalAvgPool2d,
    L2Pool2d,
    MaxPool2d,
    MinPool2d,
)
from minicnn.nn.shape import ZeroPad2d
from minicnn.nn.stochastic import Dropout, DropPath, StochasticDepth

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "DistanceWeightedPool2d",
    "DropPath",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Identity",
    "L2Pool2d",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "MinPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ReLU",
    "RemovableHandle",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "StochasticDepth",
    "Tanh",
    "ZeroPad2d",
    "capture",
    "dry_run",
    "evaluating",
    "init",
    "residual",
    "run_chain",
    "unfused",
    "without_weights",
]
