"""A tensor that training changes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minicnn.autograd import Tensor
from minicnn.errors import DTypeError
from minicnn_kernels.shapes import blank


class _Thread(threading.local):
    without_weights = False


_thread = _Thread()


class Parameter(Tensor):
    """A tensor that a `Module` registers when it is assigned, and that an optimizer updates.

    It owns its memory: ``array`` is a copy of what is passed, because optimizers and
    `Module.load_state_dict` write into it. A pickled or copied parameter has no gradient.
    Raises `DTypeError` for values that are not floating-point numbers.

    >>> import numpy as np
    >>> Parameter(np.zeros(2, np.float32))
    Parameter containing:
    Tensor([0., 0.], requires_grad=True)
    """

    __slots__ = ("changed_at",)

    def __init__(self, array: Any, requires_grad: bool = True) -> None:
        super().__init__(array)
        if self.dtype.kind != "f":
            raise DTypeError(
                f"Parameter: needs floating-point values, not {self.dtype}; convert them with "
                ".astype(np.float32)."
            )
        self.array = blank(self.shape, self.dtype) if _thread.without_weights else self.array.copy()
        self.requires_grad = requires_grad
        self.changed_at = -1

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.array, self.requires_grad)


def zero_grad(parameters: Iterable[Parameter], set_to_none: bool) -> None:
    """Forget the gradients, or with ``set_to_none=False`` fill those that exist with zeros."""
    for parameter in parameters:
        if set_to_none or parameter.grad is None:
            parameter.grad = None
        else:
            parameter.grad[...] = 0


@contextmanager
def without_weights() -> Iterator[None]:
    """Give the parameters made inside the ``with`` block a shape but no memory, in this thread.

    They read as zeros and cannot be written. That is enough to count the parameters of a network
    of any size, and to find the shapes of its maps. `Module.load_state_dict` gives them memory.

    >>> from minicnn import nn
    >>> with nn.without_weights():
    ...     layer = nn.Linear(1_000_000, 1_000_000, bias=False)
    >>> layer.num_parameters()
    1000000000000
    """
    before, _thread.without_weights = _thread.without_weights, True
    try:
        yield
    finally:
        _thread.without_weights = before


def has_weights(parameter: Tensor) -> bool:
    """Whether the values of a parameter have memory of their own; see `without_weights`."""
    array = parameter.array  # one on a GPU can always be written
    return not isinstance(array, np.ndarray) or bool(array.flags.writeable)
