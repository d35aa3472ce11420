"""Stream capture: what is recorded instead of run, and what may not happen meanwhile.

A captured operation keeps the addresses and the numbers that it was called with, like a node of a
CUDA graph. It does not keep the arrays alive: memory that is given back meanwhile is handed out
again, and the graph works on it all the same.
"""

from __future__ import annotations

from collections.abc import Callable

SYNCHRONOUS = "the current stream is capturing, so synchronous API calls are disallowed"


CUBLAS = frozenset({"matmul", "dot", "vdot", "inner", "outer", "tensordot", "einsum"})


class Recording:
    """The operations captured so far on one stream."""

    def __init__(self) -> None:
        self.operations: list[Callable[[], object]] = []


_stack: list[object] = []  # streams entered with `with`; the last is current
_default: list[object] = []


def enter(stream: object) -> None:
    _stack.append(stream)


def leave() -> None:
    _stack.pop()


def use(stream: object) -> None:
    _default[:] = [stream]


def current_stream() -> object:
    """The stream that operations go to, or None for the null stream."""
    return _stack[-1] if _stack else (_default[0] if _default else None)


def recording() -> Recording | None:
    """Where operations on the current stream are recorded, or None where they run."""
    return getattr(current_stream(), "recording", None)


def refuse_synchronisation() -> None:
    """Raise where the host would have to wait for a stream that is being captured."""
    if recording() is not None:
        raise RuntimeError(SYNCHRONOUS)


def refuse_cublas(name: str) -> None:
    """Raise for a function of cuBLAS, none of which CuPy 14 calls while a stream is captured."""
    if name in CUBLAS and recording() is not None:
        raise NotImplementedError(
            "calling cuBLAS API during stream capture is currently unsupported"
        )


def perform(operation: Callable[[], object]) -> None:
    """Run ``operation`` now, or record it."""
    target = recording()
    if target is None:
        operation()
    else:
        target.operations.append(operation)
