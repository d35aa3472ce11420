"""A tensor that training changes."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Tensor
from minicnn.errors import DTypeError


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

    __slots__ = ()

    def __init__(self, array: Any, requires_grad: bool = True) -> None:
        super().__init__(array)
        if self.dtype.kind != "f":
            raise DTypeError(
                f"Parameter: needs floating-point values, not {self.dtype}; convert them with "
                ".astype(np.float32)."
            )
        self.array = self.array.copy()
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.array, self.requires_grad)
