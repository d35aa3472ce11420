"""How far two results may differ: computed from number type and number of terms, never typed in.

Each rounding of a floating-point sum errs by at most eps/2 of the partial sum, and the errors of n
terms, independent in sign, add up like a random walk: to about sqrt(n). The factor 8 leaves room
for the few other operations of a formula. A comparison that fails calls for a cause: more terms
than stated, a cancellation to be stated as ``condition``, or a fault, but never for a wider number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from minicnn.autograd import Tensor


class CheckError(AssertionError):
    """A check of this package that failed; the message names the place and the numbers."""


def tolerance(dtype: npt.DTypeLike, terms: float, scale: float = 1.0) -> float:
    """Largest difference that rounding explains: 8 * eps(dtype) * sqrt(terms) * scale.

    dtype : floating-point type of the computation
    terms : numbers added up for one result (C*KH*KW for a convolution); 0 asks for equality
    scale : magnitude of the results

    >>> tolerance(np.float64, 4) == 16 * float(np.finfo(np.float64).eps)
    True
    """
    return 8.0 * float(np.finfo(dtype).eps) * math.sqrt(terms) * scale


def assert_close(
    actual: Any, expected: Any, *, terms: float, condition: float = 1.0, what: str = "the result"
) -> None:
    """Raise `CheckError` unless two arrays agree up to rounding, in the dtype of ``actual``.

    |actual - expected| <= tolerance(dtype, terms, condition * largest |expected|), element by
    element; NaN and infinity must stand at equal places.

    actual, expected : arrays, tensors or numbers of one shape
    condition : by how much the largest intermediate value exceeds the largest result
    what : what the message calls ``actual``

    >>> assert_close(np.float32([1.0, 2.0]), [1.0, 2.5], terms=1)
    Traceback (most recent call last):
    ...
    minicnn.testing.tolerance.CheckError: the result differs at 1 of 2 places, most at [1]: it is
    2.0, expected 2.5; the difference is 0.5, allowed is 2.4e-06 (float32, 1 terms).
    """
    a, e = to_host(actual), to_host(expected)
    if a.shape != e.shape:
        raise CheckError(f"{what} has shape {a.shape}, expected {e.shape}.")
    dtype = a.dtype if a.dtype.kind == "f" else np.dtype(np.float64)
    allowed = tolerance(dtype, terms, condition * largest(e))
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        difference = np.abs(a.astype(np.float64) - e.astype(np.float64))
    same = (a == e) | (np.isnan(a) & np.isnan(e))
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    wrong = difference > allowed
    if wrong.any():
        place = np.unravel_index(int(difference.argmax()), a.shape)
        raise CheckError(
            f"{what} differs at {wrong.sum()} of {a.size} places, most at {show_index(place)}: "
            f"it is {a[place]!s}, expected {e[place]!s}; the difference is "
            f"{difference[place]:.2g}, allowed is {allowed:.2g} ({dtype}, {terms:g} terms)."
        )


def distinct(
    shape: tuple[int, ...], rng: int | np.random.Generator = 0, low: float = -1.0, high: float = 1.0
) -> np.ndarray:
    """Shuffled, equally spaced float64 values between ``low`` and ``high``.

    No two are equal, so that a maximum is unique, and with ``low = -high`` none is 0 and no two are
    opposites, so that no kink of a ReLU or a norm is near. For up to a thousand values the
    distances are far beyond the steps of `gradcheck`.

    >>> distinct((2, 2), rng=0)
    array([[ 0.125, -0.875],
           [-0.375,  0.625]])
    """
    count = math.prod(shape)
    values = (np.arange(count) + 0.25) / max(count, 1)
    shuffled = np.random.default_rng(rng).permutation(low + (high - low) * values)
    return shuffled.reshape(shape)


def to_host(array: Any) -> np.ndarray:
    """A tensor, an array of any device or a number, as a NumPy array.

    >>> to_host(Tensor([1.0]))
    array([1.], dtype=float32)
    """
    array = array.array if isinstance(array, Tensor) else array
    return np.asarray(array.get() if hasattr(array, "get") else array)


def largest(array: Any) -> float:
    """Largest magnitude among the finite values, or 1 where there is none but 0.

    >>> largest(np.array([1.0, -3.0, np.inf]))
    3.0
    """
    magnitudes = np.abs(to_host(array).astype(np.float64))
    return float(magnitudes[np.isfinite(magnitudes)].max(initial=0.0)) or 1.0


def show_index(place: tuple[Any, ...]) -> str:
    """An index tuple as a person writes it.

    >>> show_index((0, np.int64(2)))
    '[0, 2]'
    """
    return f"[{', '.join(str(int(i)) for i in place)}]"


def is_float(a: Any) -> bool:
    """True for a floating-point array; NumPy scalars count as numbers.

    >>> is_float(np.zeros(2)), is_float(np.float64(2)), is_float(2.0)
    (True, False, False)
    """
    return hasattr(a, "astype") and not isinstance(a, np.generic) and a.dtype.kind == "f"
