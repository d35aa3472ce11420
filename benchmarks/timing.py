"""Clocks and statistics that the benchmarks share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

LEAST_ROUNDS = 5


def interleaved(
    functions: Sequence[Callable[[], Any]],
    seconds: float,
    before: Callable[[int], Any] = lambda number: None,
) -> list[list[float]]:
    """Times of the functions, called in turn for about so long, after one call of each untimed.

    ``before`` gets the number of the function that comes next, and is not timed.
    """
    times: list[list[float]] = [[] for _ in functions]
    for number, function in enumerate(functions):
        before(number)
        function()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < LEAST_ROUNDS:
        for number, (function, taken) in enumerate(zip(functions, times, strict=True)):
            before(number)
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return times


def quartiles(times: Sequence[float]) -> tuple[float, float]:
    """The quarter points; of a single time, that time twice.

    >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0])
    (2.0, 4.0)
    """
    if len(times) < 2:
        return times[0], times[0]
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return low, high


def spread(times: Sequence[float]) -> float:
    """Distance of the quarter points as a share of the median.

    >>> spread([1.0, 2.0, 3.0])
    0.5
    """
    low, high = quartiles(times)
    return (high - low) / statistics.median(times)
