"""Making tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.autograd import Tensor


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor from a copy of numbers, nested lists or an array.

    Python numbers become float32 (integers stay integers); arrays keep their dtype unless ``dtype``
    says otherwise.

    >>> tensor([[1.0, 2.0]]).dtype
    dtype('float32')
    """
    if dtype is not None and not hasattr(data, "dtype"):
        data = np.asarray(data)  # as exact as it was given: float32 on the way would round it
    copied = Tensor(data).array.copy()
    return Tensor(copied if dtype is None else copied.astype(dtype), requires_grad)
