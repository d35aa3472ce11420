"""Comparisons, element by element: ``(logits.argmax(1) == labels).sum()`` counts the right ones.

They have no gradient, and the result holds booleans. With anything but tensors, arrays and numbers
Python's own rules hold: ``x == None`` is False. Tensors stay keys of dictionaries, by identity.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from minicnn.autograd import Tensor, tensor_method
from minicnn.functional._checks import check_broadcast
from minicnn_kernels import registry


def _comparison(name: str) -> None:
    """Install the operator of this name."""
    compare: Callable[[Any, Any], Any] = getattr(operator, name)

    @tensor_method(f"__{name}__")
    def compared(x: Tensor, y: Any) -> Any:
        is_array = hasattr(y, "shape") and hasattr(y, "dtype")
        if not is_array and not isinstance(y, (bool, int, float)):
            return NotImplemented
        a, b = x.array, y.array if isinstance(y, Tensor) else y
        registry.kernels_for(name, (a, b))
        if is_array:
            check_broadcast(name, a.shape, b.shape)
        return Tensor(compare(a, b))


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_name)
