"""A network of each family: the same scores and gradients from the NumPy and the Numba kernels."""

import numpy as np
import pytest

import minicnn
from minicnn import data, models, nn
from minicnn import functional as F
from minicnn.autograd import Tensor
from minicnn_kernels import registry

pytestmark = pytest.mark.skipif(
    registry.availability()["numba"] is not None, reason="compares the compiled kernels"
)
FAMILIES = (
    *("notes_cnn", "lenet5_1998", "alexnet_2012", "zfnet", "vgg11_bn", "nin", "squeezenet1_1"),
    *("googlenet", "inception_v2", "inception_v3", "densenet_bc40", "fractalnet"),
    *("resnet18", "resnet20", "preact_resnet20", "wrn16_4", "resnext29_8x64d"),
)
# The compiled set may be further from the truth than the reference by this factor: sums in another
# order, and the larger numbers of Winograd's transforms.
FACTOR, FLOOR = 4, 16 * float(np.finfo(np.float32).eps)
BATCHES = 3


def gradients(state, name, kernels, dtype, first):
    """The scores of four pictures in training, and all gradients of their loss."""
    with nn.without_weights():
        model = models.create(name, preset="fashion-mnist")
    model.load_state_dict(state)
    model.astype(dtype)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    pictures = data.fashion_mnist("test", source="sample")
    x = (pictures.images[first : first + 4] / 127.5 - 1).astype(dtype)
    with minicnn.use_backend(kernels):
        minicnn.seed(1)  # FractalNet draws paths
        y = model(Tensor(x))
        y = y[0] if isinstance(y, tuple) else y
        F.cross_entropy(y, pictures.labels[first : first + 4].astype(np.int64)).backward()
    grads = (p.grad for p in model.parameters() if p.grad is not None)
    return [y.array, *grads]


def error(found, truth):
    """The largest difference, in units of the largest number of the same kind."""
    largest = max(float(np.abs(a).max()) for a in truth[1:])
    scores = float(np.abs(found[0] - truth[0]).max() / np.abs(truth[0]).max())
    pairs = zip(found[1:], truth[1:], strict=True)
    return max(scores, *(float(np.abs(a - b).max()) / largest for a, b in pairs))


@pytest.mark.parametrize("name", FAMILIES)
def test_both_kernel_sets_train_alike(name):
    """Compared with float64; a sum within rounding of 0 may pass a ReLU in one set alone.

    That happens by chance, a mistake with every batch: so one of three batches has to agree.
    """
    from minicnn_kernels.numba_cpu.winograd import ERROR_GROWTH

    minicnn.seed(0)
    state = models.create(name, preset="fashion-mnist").state_dict()
    seen = []
    for first in range(0, 4 * BATCHES, 4):
        truth = gradients(state, name, "numpy", np.float64, first)
        reference = error(gradients(state, name, "numpy", np.float32, first), truth)
        compiled = error(gradients(state, name, "numba", np.float32, first), truth)
        seen.append((compiled, reference))
        if compiled <= max(ERROR_GROWTH.values()) * (FACTOR * reference + FLOOR):
            return
    pytest.fail(f"errors of (compiled, reference): {seen}")
