"""Orders and choices drawn from a seed, the same on every machine and with every NumPy.

NumPy promises that the raw words of a bit generator never change, but not the streams of
`Generator.permutation`; a run that resumes after an upgrade must still see the same batches. So an
order here is the sorting order of raw words.
"""

from __future__ import annotations

import numpy as np


def random_words(count: int, seed: int, *key: int) -> np.ndarray:
    """Return `count` random 64-bit words that depend on the seed and the key only."""
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return np.random.PCG64(sequence).random_raw(count)


def permutation(count: int, seed: int, *key: int) -> np.ndarray:
    """Return 0..count-1 in an order that depends on the seed and the key only.

    >>> np.sort(permutation(5, 0, 1))
    array([0, 1, 2, 3, 4])
    """
    return np.argsort(random_words(count, seed, *key), kind="stable")


def choose_per_class(labels: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
    """Choose ``wanted[k]`` samples of every class k; return their indices, ascending.

    labels : int (N,)
    wanted : int (K,), at most the number of samples of each class

    >>> choose_per_class(np.array([0, 1, 0, 1]), np.array([2, 0]), seed=0)
    array([0, 2])
    """
    by_class = np.lexsort((random_words(len(labels), seed), labels))
    counts = np.bincount(labels, minlength=len(wanted))
    starts = np.cumsum(counts) - counts
    rank_in_class = np.arange(len(labels)) - np.repeat(starts, counts)
    chosen = rank_in_class < np.repeat(wanted, counts)
    return np.sort(by_class[chosen])
