"""Functions of NumPy that are called with tensors: ``np.mean(x)`` computes with the values of x.

NumPy asks the first argument that has an ``__array_function__`` to run the function. Without one it
would look for a method of the function's name, whose arguments are PyTorch's here and not its own.
The result is an array outside the graph.
"""

from __future__ import annotations

from typing import Any


def without_tensors(argument: Any) -> Any:
    """What is passed to a function of NumPy, with the values in the place of tensors.

    >>> without_tensors(([1], {"axis": 0}))
    ([1], {'axis': 0})
    """
    if hasattr(argument, "requires_grad"):
        return argument.numpy()
    if isinstance(argument, dict):
        return {name: without_tensors(value) for name, value in argument.items()}
    if type(argument) in (list, tuple):
        return type(argument)(map(without_tensors, argument))
    return argument
