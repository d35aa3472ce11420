"""The one random generator of the process, for initial weights, dropout keys and defaults.

It always lives on the CPU, so one seed gives one network on every backend. Data loading has
generators of its own, derived from the loader's seed, so that it never disturbs this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minicnn.errors import ArgumentError, CaptureError

_held: Callable[[int], Any] | None = None
_generator = np.random.Generator(np.random.PCG64())
_stream = 0


def seed(value: int) -> None:
    """Restart the generator from ``value``, a whole number >= 0.

    >>> seed(1); a = next_key(); seed(1); a == next_key()
    True
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ArgumentError(f"seed: value is {value!r}; give a whole number >= 0.")
    _generator.bit_generator.state = np.random.PCG64(int(value)).state


def generator() -> np.random.Generator:
    """Return the process's generator; drawing from it advances it for everybody."""
    if _held is not None:
        raise CaptureError(
            "a layer draws random numbers on the CPU, and a captured CUDA graph would repeat the "
            "same ones in every step; use graph=False."
        )
    return _generator


def next_key() -> Any:
    """Draw a fresh 64-bit key, from which a kernel makes a random mask of any size."""
    key = int(_generator.integers(0, 2**64, dtype=np.uint64))
    if _stream:
        key = int(np.random.SeedSequence([key, _stream]).generate_state(1, np.uint64)[0])
    return key if _held is None else _held(key)


def use_stream(number: int) -> None:
    """Let `next_key` give other keys than in processes that use another number; 0 changes nothing.

    Processes that train one network start with one seed and draw equally often, so that their
    generators stay alike and one state serves them all; but dropout must drop other values in each.

    >>> seed(1); first = next_key(); use_stream(1); seed(1); second = next_key(); use_stream(0)
    >>> first == second
    False
    """
    global _stream
    _stream = number


@contextmanager
def keys_through(hold: Callable[[int], Any]) -> Iterator[None]:
    """Inside the ``with`` block `next_key` returns what ``hold`` makes of each key.

    For capturing a CUDA graph, which reads keys from the memory of the GPU. Other draws raise
    `CaptureError` there.
    """
    global _held
    _held = hold
    try:
        yield
    finally:
        _held = None


def get_state() -> dict[str, Any]:
    """Return the generator's state as plain data that JSON can hold."""
    return dict(_generator.bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Continue from a state that `get_state` returned."""
    try:
        _generator.bit_generator.state = state
    except (TypeError, ValueError, KeyError) as error:
        raise ArgumentError(
            f"set_state: not a state of the generator ({error}); pass what get_state returned."
        ) from error
