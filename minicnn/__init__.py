"""minicnn: convolutional networks written by hand on NumPy and CuPy.

>>> import minicnn
>>> import minicnn.functional as F
>>> x = minicnn.tensor([[1.0, -2.0, 3.0]], requires_grad=True)
>>> F.relu(x).sum().backward()
>>> x.grad
array([[1., 0., 1.]], dtype=float32)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minicnn import data, errors, functional, inspect, models, nn, optim, random, training
from minicnn.autograd import Op, Tensor, apply, is_grad_enabled, no_grad
from minicnn.functional.creation import tensor
from minicnn.random import seed
from minicnn.training.trainer import Trainer
from minicnn.version import __version__
from minicnn_kernels.algorithms import direct_convolution
from minicnn_kernels.own_sets import register_kernels
from minicnn_kernels.precision import allow_tf32
from minicnn_kernels.registry import describe, use_backend
from minicnn_kernels.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from minicnn import interop
    from minicnn.interop import load_weights, save_weights

__all__ = [
    "Op",
    "Tensor",
    "Trainer",
    "__version__",
    "allow_tf32",
    "apply",
    "data",
    "describe",
    "direct_convolution",
    "errors",
    "functional",
    "get_num_threads",
    "inspect",
    "interop",
    "is_grad_enabled",
    "load_weights",
    "models",
    "nn",
    "no_grad",
    "optim",
    "random",
    "register_kernels",
    "save_weights",
    "seed",
    "set_num_threads",
    "tensor",
    "training",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    """Import what exchanges files with other libraries when it is first asked for."""
    if name == "interop":
        return import_module("minicnn.interop")
    if name in ("load_weights", "save_weights"):
        return getattr(import_module("minicnn.interop"), name)
    raise AttributeError(f"module 'minicnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
