"""Words and numbers of users on a picture: as they are, and none of them a command.

Class names come from folders, titles and runs from anybody. For matplotlib a "$" opens a formula,
and a label with "_" in front is no entry of a legend; what a file system took as bytes that are no
text, no font can draw. `Picture` turns formulas off; the rest is here.
"""

from __future__ import annotations

import unicodedata

import numpy as np

_HIDDEN = "\u200b"  # a space of no width


def readable(text: object) -> str:
    r"""Text in one line, each sign that no font can draw as "\N{REPLACEMENT CHARACTER}".

    >>> readable("a\tb\n"), readable("a\udcffb")
    ('a b', 'a\ufffdb')
    """
    words = " ".join(str(text).split()) if any(c in str(text) for c in "\t\r\n") else str(text)
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c for c in words)


def legend_label(name: str) -> str:
    """A name that a legend shows, with whatever it begins.

    >>> legend_label("a"), len(legend_label("_a"))
    ('a', 3)
    """
    return f"{_HIDDEN}{name}" if name.startswith("_") else name


def limits(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest of the finite values; nothing but NaN and infinities gives zeros.

    >>> limits(np.array([np.nan, 2.0, -1.0, np.inf]))
    (-1.0, 2.0)
    """
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def span_of(values: np.ndarray) -> str:
    """The finite values in words.

    >>> span_of(np.array([0.5, 2])), span_of(np.array([np.nan]))
    ('from 0.5 to 2', 'none of them finite')
    """
    low, high = limits(values)
    return f"from {low:.4g} to {high:.4g}" if np.isfinite(values).any() else "none of them finite"
