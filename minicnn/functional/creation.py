"""Making tensors."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Tensor


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor from a copy of numbers, nested lists or an array.

    Python numbers become float32 (integers stay integers); arrays keep their dtype unless ``dtype``
    says otherwise.

    >>> tensor([[1.0, 2.0]]).dtype
    dtype('float32')
    """
    copied = Tensor(data).array.copy()
    return Tensor(copied if dtype is None else copied.astype(dtype), requires_grad)
