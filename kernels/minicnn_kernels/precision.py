"""Whether products on a GPU may run on its tensor cores in TF32.

TF32 is float32 with 10 mantissa bits in the place of 23. A convolution in it reads float32, rounds
each number to TF32, multiplies, and adds up in float32; an error of at most 2^-11 of each factor is
the price of a rate several times that of float32. Here it is on unless the environment variable
MINICNN_TF32 is 0, for convolutions and fully connected layers alike. PyTorch has it on for
convolutions and off for matrix products; a comparison of speeds or of results should set both.
Off means strict float32 throughout. The CPU and float64 know no TF32.
"""

from __future__ import annotations

import os
from types import TracebackType

ENVIRONMENT_VARIABLE = "MINICNN_TF32"

_allowed = os.environ.get(ENVIRONMENT_VARIABLE, "").strip() != "0"


class allow_tf32:
    """Allow or forbid TF32: at once, and with ``with`` until the block ends.

    ``previous`` is what held before. It holds for every thread of the process: of blocks in several
    threads that overlap, the one that ends last puts back what held when it began.

    >>> before = tf32_allowed()
    >>> with allow_tf32(False) as setting:
    ...     tf32_allowed(), setting.previous == before
    (False, True)
    >>> tf32_allowed() == before
    True
    """

    def __init__(self, allowed: bool = True) -> None:
        global _allowed
        self.previous = _allowed
        _allowed = bool(allowed)

    def __enter__(self) -> allow_tf32:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _allowed
        _allowed = self.previous


def tf32_allowed() -> bool:
    """Whether products on a GPU may be in TF32.

    >>> with allow_tf32(False):
    ...     tf32_allowed()
    False
    """
    return _allowed
