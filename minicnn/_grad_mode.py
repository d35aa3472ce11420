"""Whether a graph is built: a switch of its own for every thread.

A decorated generator needs more than a switch around its call: the call returns before the first
line of the body has run, and the body runs piece by piece, whenever somebody asks for the next
value. So the switch is turned for each piece, and back at each ``yield``, where the code of others
runs.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Generator
from contextlib import ContextDecorator
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


class _Mode(threading.local):
    def __init__(self) -> None:
        self.grad_enabled = True
        self.outer: list[bool] = []


mode = _Mode()


class no_grad(ContextDecorator):
    """Build no graph inside the ``with`` block or the decorated function, in this thread.

    >>> from minicnn import Tensor
    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """

    def __enter__(self) -> no_grad:
        mode.outer.append(mode.grad_enabled)
        mode.grad_enabled = False
        return self

    def __exit__(self, *exception: object) -> None:
        mode.grad_enabled = mode.outer.pop()

    def __call__(self, function: _F) -> _F:
        """The function, or generator function, without a graph."""
        if inspect.isgeneratorfunction(function):
            return _piece_by_piece(self, function)  # type: ignore[return-value]
        return super().__call__(function)


def is_grad_enabled() -> bool:
    """True unless this thread is inside `no_grad`.

    >>> is_grad_enabled()
    True
    """
    return mode.grad_enabled


def _piece_by_piece(
    block: no_grad, function: Callable[..., Generator[Any, Any, Any]]
) -> Callable[..., Generator[Any, Any, Any]]:
    @functools.wraps(function)
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        resume: Callable[[Any], Any] = generator.send
        sent: Any = None
        while True:
            try:
                with block:
                    result = resume(sent)
            except StopIteration as end:
                return end.value
            try:
                resume, sent = generator.send, (yield result)
            except GeneratorExit:
                with block:
                    generator.close()
                raise
            except BaseException as error:  # thrown in by the caller: it belongs to the body
                resume, sent = generator.throw, error

    return generate
