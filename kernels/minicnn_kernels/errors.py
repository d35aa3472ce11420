"""The exceptions that kernels raise. `minicnn.errors` shows them to users and adds the rest."""

import difflib
from collections.abc import Iterable


class MiniCNNError(Exception):
    """Base of every error that minicnn raises on purpose.

    The message is one sentence for a person: the function, the argument, the numbers, the cure.
    """


class ShapeError(MiniCNNError, ValueError):
    """Sizes that do not fit together."""


class EmptyMapError(ShapeError):
    """A window that is larger than its map; ``output`` is the (height, width) it would leave."""

    def __init__(self, message: str, output: tuple[int, int] = (0, 0)) -> None:
        super().__init__(message)
        self.output = output


class DTypeError(MiniCNNError, TypeError):
    """Number types that do not fit together."""


class DeviceError(MiniCNNError, ValueError):
    """Arrays of one call that live on different devices."""


class OutOfMemoryError(MiniCNNError, MemoryError):
    """A GPU whose memory does not suffice."""


class BackendError(MiniCNNError, RuntimeError):
    """A kernel set that is unknown, cannot be used here, or fell back in strict mode."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'? "`` for a misspelled name, or an empty string.

    >>> nearest("restnet", ["resnet", "vgg16"])
    "did you mean 'resnet'? "
    >>> nearest("zzz", ["resnet", "vgg16"])
    ''
    """
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}? " if match else ""
