"""Whether kernels may use an algorithm that is faster but rounds more than the direct one.

One setting: Winograd's convolution, which the Numba set uses where it is faster. Like the kernel
set it is a plain setting of the process, and the environment variable MINICNN_WINOGRAD=0 chooses
direct convolution from the start.
"""

from __future__ import annotations

import os
from types import TracebackType

ENVIRONMENT_VARIABLE = "MINICNN_WINOGRAD"

_direct = os.environ.get(ENVIRONMENT_VARIABLE, "").strip() == "0"


class direct_convolution:
    """Compute convolutions directly: at once, and with ``with`` until the block ends.

    ``enabled=False`` allows Winograd's algorithm again, which is the default. It holds for every
    thread of the process: of blocks in several threads that overlap, the one that ends last puts
    back what held when it began.

    >>> with direct_convolution():
    ...     is_direct()
    True
    """

    def __init__(self, enabled: bool = True) -> None:
        global _direct
        self._before = _direct
        _direct = bool(enabled)

    def __enter__(self) -> direct_convolution:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global _direct
        _direct = self._before


def is_direct() -> bool:
    """Whether convolutions are to be computed directly.

    >>> with direct_convolution(False):
    ...     is_direct()
    False
    """
    return _direct
