"""The same weights in a network of ours and in torchvision's, in float64."""

import importlib.util
import warnings

import numpy as np
import pytest
from networks import torchvision_models

from minicnn import models
from minicnn.autograd import Tensor, no_grad
from minicnn.inspect import summary
from minicnn.testing import assert_close, tolerance


def randomized(state, seed=0):
    """A state dict of the same shapes, whose batch norms differ in every channel."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, array in state.items():
        if name.endswith("num_batches_tracked"):
            values[name] = np.asarray(array)
        elif array.ndim > 1:  # of a convolution or a fully connected layer
            deviation = np.sqrt(2 / np.prod(array.shape[1:]))
            values[name] = rng.standard_normal(array.shape) * deviation
        elif name.endswith(("running_var", "weight")):
            values[name] = rng.uniform(0.5, 1.5, array.shape)
        else:
            values[name] = 0.5 * rng.standard_normal(array.shape)
    return values


def twins(name, size, theirs=None, **options):
    """Both networks with one random state, for ``size`` pixels; skips where torchvision is not."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip('torchvision is the extra "parity"')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages say while PyTorch is imported
        import torch

        builder = getattr(torchvision_models(), name)
    other = builder(num_classes=7, **(theirs or {})).double()
    model = models.create(name, num_classes=7, image_size=size, **options).astype(np.float64)
    state = randomized(model.state_dict())
    model.load_state_dict(state)
    other.load_state_dict({name: torch.tensor(a) for name, a in state.items()})
    return model, other


def assert_same_logits(model, other):
    """In evaluation; each multiply-add of the network counts as a term of each logit."""
    import torch

    shape = model.input_shape
    x = np.random.default_rng(1).standard_normal((2, *shape))
    with no_grad(), torch.no_grad():
        expected = other.eval()(torch.tensor(x)).numpy()
        actual = model.eval()(Tensor(x))
    terms = summary(model, shape).multiply_adds
    rounding = tolerance(np.float64, terms, np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 1000 * rounding  # the two pictures can be told apart
    assert_close(actual, expected, terms=terms)
