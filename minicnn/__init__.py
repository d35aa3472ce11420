"""minicnn: convolutional networks written by hand on NumPy and CuPy.

>>> import minicnn
>>> import minicnn.functional as F
>>> x = minicnn.tensor([[1.0, -2.0, 3.0]], requires_grad=True)
>>> F.relu(x).sum().backward()
>>> x.grad
array([[1., 0., 1.]], dtype=float32)
"""

from minicnn import errors, functional, random
from minicnn.autograd import Op, Tensor, apply, is_grad_enabled, no_grad, tensor
from minicnn.random import seed
from minicnn.version import __version__
from minicnn_kernels.registry import describe, use_backend
from minicnn_kernels.threads import get_num_threads, set_num_threads

__all__ = [
    "Op",
    "Tensor",
    "__version__",
    "apply",
    "describe",
    "errors",
    "functional",
    "get_num_threads",
    "is_grad_enabled",
    "no_grad",
    "random",
    "seed",
    "set_num_threads",
    "tensor",
    "use_backend",
]
