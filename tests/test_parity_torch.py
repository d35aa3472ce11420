"""The same numbers as PyTorch, forward and backward, in float64 and for every option."""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minicnn import Tensor
from minicnn import functional as F
from minicnn.testing import assert_close, distinct

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other packages say while PyTorch is imported
    torch = pytest.importorskip("torch", reason='PyTorch is the extra "parity"')
TF = torch.nn.functional


@dataclasses.dataclass
class Parity:
    """A function here and there, its arguments, and the terms of its longest sum."""

    ours: Callable[..., Tensor]
    theirs: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]
    terms: int
    condition: float = 1.0

    def check(self):
        """Compare results, and gradients under one random upstream gradient."""
        mine = [Tensor(a.copy(), requires_grad=True) for a in self.arrays]
        other = [torch.tensor(a, requires_grad=True) for a in self.arrays]
        y, expected = self.ours(*mine), self.theirs(*other)
        assert_close(y, _host(expected), terms=self.terms, condition=self.condition)
        gy = np.random.default_rng(1).standard_normal(y.shape)
        y.backward(gy)
        expected.backward(torch.tensor(gy))
        terms = self.terms + y.size
        for i, (a, b) in enumerate(zip(mine, other, strict=True)):
            what = f"the gradient of argument {i}"
            assert_close(a.grad, _host(b.grad), terms=terms, condition=self.condition, what=what)


def _host(tensor):
    return tensor.detach().numpy()


def each(function, cases):
    """Run a test for each of a dictionary of parities, made when the test runs."""
    return pytest.mark.parametrize("make", list(cases.values()), ids=list(cases))(function)


CONVOLUTIONS = {
    "plain": ((2, 3, 7, 8), (4, 3, 3, 3), {}),
    "stride": ((2, 2, 9, 8), (3, 2, 3, 2), {"stride": (2, 3)}),
    "padding": ((1, 2, 4, 5), (2, 2, 3, 5), {"padding": (1, 3)}),
    "dilation": ((1, 2, 9, 8), (2, 2, 3, 2), {"dilation": (2, 3), "padding": 1}),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": ((2, 4, 5, 5), (8, 1, 3, 3), {"groups": 4, "stride": 2}),
    "same": ((1, 2, 5, 6), (2, 2, 3, 3), {"padding": "same", "dilation": 2}),
    "valid": ((1, 2, 5, 6), (2, 2, 3, 4), {"padding": "valid"}),
    "pointwise": ((2, 5, 4, 3), (3, 5, 1, 1), {}),
    "AlexNet's first, small": ((1, 3, 35, 35), (2, 3, 11, 11), {"stride": 4, "padding": 2}),
    "everything": (
        (2, 4, 11, 9),
        (6, 2, 3, 2),
        {"stride": (2, 1), "padding": (2, 1), "dilation": (2, 3), "groups": 2},
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_conv2d(name, bias):
    x, w, settings = CONVOLUTIONS[name]
    arrays = (distinct(x, 1), distinct(w, 2), *([distinct(w[:1], 3)] if bias else []))
    Parity(
        lambda *a: F.conv2d(*a, **settings),
        lambda *a: TF.conv2d(*a, **settings),
        arrays,
        terms=math.prod(w[1:]) + 1,
    ).check()


POOLS = {
    "2x2": dict(kernel_size=2),
    "3/2": dict(kernel_size=3, stride=2),
    "padded": dict(kernel_size=3, stride=2, padding=1),
    "unequal": dict(kernel_size=(2, 3), stride=(3, 1), padding=(1, 0)),
    "ceil": dict(kernel_size=3, stride=2, ceil_mode=True),
    "ceil, padded": dict(kernel_size=(3, 2), stride=(2, 3), padding=1, ceil_mode=True),
    "ceil, one dropped": dict(kernel_size=2, stride=3, padding=1, ceil_mode=True),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("size", [(8, 7), (5, 6), (4, 4)])
def test_pooling(name, size):
    x, settings = (distinct((2, 2, *size), 1) - 2,), POOLS[name]
    max_pool = lambda a: TF.max_pool2d(a, **settings)  # noqa: E731
    Parity(lambda a: F.max_pool2d(a, **settings), max_pool, x, terms=0).check()
    Parity(lambda a: F.min_pool2d(a, **settings), lambda a: -max_pool(-a), x, terms=0).check()
    for count_include_pad in (True, False):
        counted = {**settings, "count_include_pad": count_include_pad}
        Parity(
            lambda a, counted=counted: F.avg_pool2d(a, **counted),
            lambda a, counted=counted: TF.avg_pool2d(a, **counted),
            x,
            terms=9,
        ).check()


@pytest.mark.parametrize("size", [(2, 2), (2, 7)])
def test_pooling_by_a_window_larger_than_the_map(size):
    test_pooling("ceil", size)


@pytest.mark.parametrize("dilation", [2, (1, 3), (3, 2)])
@pytest.mark.parametrize("ceil_mode", [True, False])
def test_dilated_max_pooling(dilation, ceil_mode):
    settings = dict(kernel_size=2, stride=2, padding=1, dilation=dilation, ceil_mode=ceil_mode)
    Parity(
        lambda a: F.max_pool2d(a, **settings),
        lambda a: TF.max_pool2d(a, **settings),
        (distinct((1, 2, 9, 8), 1),),
        terms=0,
    ).check()


@pytest.mark.parametrize("settings", [POOLS["2x2"], POOLS["3/2"], POOLS["ceil"]])
def test_l2_pooling(settings):
    Parity(
        lambda a: F.l2_pool2d(a, **settings),
        lambda a: TF.lp_pool2d(a, 2.0, **settings),
        (distinct((2, 2, 7, 9), 1),),
        terms=9,
    ).check()


@pytest.mark.parametrize("output_size", [1, 2, (3, 5), (7, 6), (9, 8)])
def test_adaptive_pooling(output_size):
    x = (distinct((2, 3, 7, 6), 1),)
    Parity(
        lambda a: F.adaptive_avg_pool2d(a, output_size),
        lambda a: TF.adaptive_avg_pool2d(a, output_size),
        x,
        terms=42,
    ).check()
    Parity(
        lambda a: F.adaptive_max_pool2d(a, output_size),
        lambda a: TF.adaptive_max_pool2d(a, output_size),
        x,
        terms=0,
    ).check()


def test_equal_maxima_of_a_window():
    """Both give the whole gradient to the first."""
    x = (np.zeros((1, 1, 5, 5)),)
    Parity(lambda a: F.max_pool2d(a, 3, 1), lambda a: TF.max_pool2d(a, 3, 1), x, terms=0).check()


# ------------------------------------------------------------------ normalisation


@pytest.mark.parametrize("shape", [(4, 3, 3, 2), (6, 3), (3, 3, 5)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape, training, affine):
    x = 10 + 3 * distinct(shape, 1)
    affine_arrays = (1 + distinct((3,), 2), distinct((3,), 3)) if affine else ()
    statistics = (9 + distinct((3,), 4), 2 + distinct((3,), 5))
    mine, other = [a.copy() for a in statistics], [torch.tensor(a) for a in statistics]
    settings = dict(training=training, momentum=0.3, eps=1e-3)
    condition = float(np.abs(x).max() / x.std(axis=(0, *range(2, x.ndim))).min())
    terms = x.size // 3 + 3
    Parity(
        lambda a, *wb: F.batch_norm(a, *mine, *wb, **settings),
        lambda a, *wb: TF.batch_norm(a, *other, *wb, **settings),
        (x, *affine_arrays),
        terms,
        condition,
    ).check()
    for a, b in zip(mine, other, strict=True):
        assert_close(a, b.numpy(), terms=terms, condition=condition)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("settings", [{}, dict(alpha=1.0, beta=0.5, k=2.0)])
def test_local_response_norm(size, settings):
    Parity(
        lambda a: F.local_response_norm(a, size, **settings),
        lambda a: TF.local_response_norm(a, size, **settings),
        (2 * distinct((2, 6, 2, 3), 1),),
        terms=size + 3,
    ).check()


# ------------------------------------------------------------------ losses

LABELS = [3, 0, 1, 1, 2]
WEIGHTS = [0.2, 3.0, 1.0, 0.5]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(reduction, weight, label_smoothing):
    settings = dict(reduction=reduction, label_smoothing=label_smoothing)
    theirs = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    Parity(
        lambda a: F.cross_entropy(a, LABELS, weight, **settings),
        lambda a: TF.cross_entropy(a, torch.tensor(LABELS), theirs, **settings),
        (3 * distinct((5, 4), 1),),
        terms=40,
    ).check()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignore_index", [-100, 1, 9])
def test_cross_entropy_ignores_a_label(reduction, weight, label_smoothing, ignore_index):
    labels = np.where(np.arange(5) % 2, ignore_index, LABELS)
    settings = dict(reduction=reduction, label_smoothing=label_smoothing, ignore_index=ignore_index)
    theirs = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    Parity(
        lambda a: F.cross_entropy(a, labels, weight, **settings),
        lambda a: TF.cross_entropy(a, torch.tensor(labels), theirs, **settings),
        (3 * distinct((5, 4), 1),),
        terms=40,
    ).check()


@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_a_batch_of_ignored_labels_alone_has_no_mean_but_a_gradient_of_zero(weight):
    x = Tensor(distinct((3, 4), 1), requires_grad=True)
    theirs = torch.tensor(x.array, requires_grad=True)
    for reduction in ("sum", "mean"):
        x.grad = theirs.grad = None
        loss = F.cross_entropy(x, [-100] * 3, weight, reduction=reduction)
        weights = None if weight is None else torch.tensor(weight, dtype=torch.float64)
        expected = TF.cross_entropy(theirs, torch.tensor([-100] * 3), weights, reduction=reduction)
        loss.backward()
        expected.backward()
        np.testing.assert_array_equal(loss.array, expected.detach())
        np.testing.assert_array_equal(x.grad, theirs.grad)
        assert not x.grad.any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_cross_entropy_of_probabilities(reduction, weight, label_smoothing):
    shares = np.random.default_rng(0).dirichlet(np.ones(4), size=5)
    settings = dict(reduction=reduction, label_smoothing=label_smoothing)
    theirs = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    Parity(
        lambda a: F.cross_entropy(a, shares, weight, **settings),
        lambda a: TF.cross_entropy(a, torch.tensor(shares), theirs, **settings),
        (3 * distinct((5, 4), 1),),
        terms=40,
    ).check()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss(reduction):
    Parity(
        lambda a, b: F.mse_loss(a, b, reduction=reduction),
        lambda a, b: TF.mse_loss(a, b, reduction=reduction),
        (distinct((3, 4), 1), distinct((3, 4), 2)),
        terms=12,
    ).check()


# ------------------------------------------------------------------ everything without windows

x34, x4, x234 = distinct((3, 4), 1), distinct((4,), 2), distinct((2, 3, 4), 3)
rows = [2, 0, 2, 2]
SIMPLE = {
    "relu": Parity(F.relu, torch.relu, (x234,), 0),
    "leaky_relu": Parity(
        lambda a: F.leaky_relu(a, 0.2), lambda a: TF.leaky_relu(a, 0.2), (x234,), 1
    ),
    "sigmoid": Parity(F.sigmoid, torch.sigmoid, (3 * x234,), 2),
    "tanh": Parity(F.tanh, torch.tanh, (3 * x234,), 2),
    "softmax": Parity(F.softmax, lambda a: torch.softmax(a, -1), (3 * x234,), 4),
    "softmax of channels": Parity(
        lambda a: F.softmax(a, 1), lambda a: torch.softmax(a, 1), (3 * x234,), 3
    ),
    "log_softmax": Parity(
        lambda a: F.log_softmax(a, 1), lambda a: torch.log_softmax(a, 1), (3 * x234,), 3
    ),
    "linear": Parity(F.linear, TF.linear, (x234, distinct((5, 4), 4), distinct((5,), 5)), 5),
    "matmul": Parity(F.matmul, torch.matmul, (x234, distinct((4, 5), 4)), 4),
    "batched matmul": Parity(
        F.matmul, torch.matmul, (x234[:, None], distinct((3, 4, 2), 4)), 4
    ),
    "add": Parity(F.add, torch.add, (x34, x4), 1),
    "sub": Parity(F.sub, torch.sub, (x4, x34), 1),
    "mul": Parity(F.mul, torch.mul, (x34[:2, None], x234), 1),
    "div": Parity(F.div, torch.div, (x34, 2 + x4), 1),
    "power": Parity(lambda a: a**2.5, lambda a: a**2.5, (2 + x34,), 2),
    "square root": Parity(F.sqrt, torch.sqrt, (2 + x34,), 1),
    "exp": Parity(F.exp, torch.exp, (x34,), 2),
    "log": Parity(F.log, torch.log, (2 + x34,), 2),
    "sum": Parity(lambda a: F.sum(a, (0, 2)), lambda a: a.sum((0, 2)), (x234,), 8),
    "mean": Parity(
        lambda a: F.mean(a, 1, keepdim=True), lambda a: a.mean(1, keepdim=True), (x234,), 3
    ),
    "var": Parity(lambda a: F.var(a, 1), lambda a: a.var(1), (x234,), 3),
    "biased var": Parity(
        lambda a: F.var(a, (0, 2), unbiased=False),
        lambda a: a.var((0, 2), unbiased=False),
        (x234,),
        8,
    ),
    "amax": Parity(lambda a: F.amax(a, (0, 1)), lambda a: a.amax((0, 1)), (x234,), 0),
    "amax of equals": Parity(
        lambda a: F.amax(a, 1), lambda a: a.amax(1), (np.array([[2.0, 1, 2], [3, 3, 3]]),), 0
    ),
    "reshape": Parity(lambda a: a.reshape(4, -1), lambda a: a.reshape(4, -1), (x234,), 0),
    "flatten": Parity(lambda a: F.flatten(a, 1), lambda a: a.flatten(1), (x234,), 0),
    "permute": Parity(lambda a: a.permute(2, 0, 1), lambda a: a.permute(2, 0, 1), (x234,), 0),
    "transpose": Parity(lambda a: a.transpose(0, -1), lambda a: a.transpose(0, -1), (x234,), 0),
    "slices": Parity(lambda a: a[:, 1:, ::2], lambda a: a[:, 1:, ::2], (x234,), 0),
    "rows twice": Parity(lambda a: a[rows], lambda a: a[rows], (x34,), 0),
    "cat": Parity(
        lambda *a: F.cat(a, 1), lambda *a: torch.cat(a, 1), (x234, x234[:, :2], x234), 0
    ),
    "stack": Parity(lambda *a: F.stack(a, -1), lambda *a: torch.stack(a, -1), (x34, x34), 0),
    "pad": Parity(
        lambda a: F.pad(a, (1, 2, 0, 3), value=0.5), lambda a: TF.pad(a, (1, 2, 0, 3), value=0.5),
        (x234,),
        0,
    ),
    "global mean": Parity(
        F.global_avg_pool2d, lambda a: a.mean((2, 3)), (distinct((2, 3, 4, 5), 1),), 20
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIMPLE)
def test_functions_without_windows(name):
    SIMPLE[name].check()


def test_argmax():
    assert F.argmax(Tensor(x234), 1).array.tolist() == torch.tensor(x234).argmax(1).tolist()


def test_a_small_network_in_every_gradient():
    """Convolution, batch norm, ReLU, pooling, linear layer and loss in one graph."""
    labels = [1, 0, 2]

    def network(f, cat_entropy, a, w, gamma, beta, v, b):
        h = f.conv2d(a, w, None, 2, 1)
        h = f.batch_norm(h, None, None, gamma, beta, True)
        h = f.max_pool2d(f.relu(h), 2, 1)
        return cat_entropy(f.linear(h.flatten(1), v, b))

    arrays = (
        distinct((3, 2, 7, 7), 1),
        distinct((4, 2, 3, 3), 2),
        1 + distinct((4,), 3) / 2,
        distinct((4,), 4),
        distinct((3, 36), 5),
        distinct((3,), 6),
    )
    Parity(
        lambda *a: network(F, lambda z: F.cross_entropy(z, labels), *a),
        lambda *a: network(TF, lambda z: TF.cross_entropy(z, torch.tensor(labels)), *a),
        arrays,
        terms=sum(a.size for a in arrays),
    ).check()
