"""What the notebooks share: their size, how a picture appears, and how a number is checked.

The same file is a notebook and a script. A notebook shows a picture below its cell; a script has no
place for one, so `show` writes it to ``runs/notebooks/NAME/`` and says where.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minicnn.plot.picture import Picture

TOY = os.environ.get("MINICNN_NOTEBOOK_SIZE") == "toy"  # a few seconds, for tests and first looks
FOLDER = Path("runs", "notebooks")

checked: dict[str, Any] = {}  # by what was checked: the number that was found
_shown: dict[str, int] = {}


def sized(full: Any, toy: Any) -> Any:
    """The first, or with MINICNN_NOTEBOOK_SIZE=toy the second."""
    return toy if TOY else full


def show(picture: Picture) -> None:
    """Show a picture below the cell; in a script write it to a file and print its name."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        sys.modules["IPython"].display.display(picture)
        return
    name = Path(sys._getframe(1).f_globals.get("__file__", "notebook")).stem
    _shown[name] = _shown.get(name, 0) + 1
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    path = picture.save(folder / f"{_shown[name]:02d}.png")
    print(f"picture {path}: {picture.title}")


def check(fact: str, found: Any, expected: Any, digits: int | None = None) -> None:
    """Print what was found, and stop where it is not what was expected.

    digits : how many decimals of ``expected`` were printed; None: the two must be equal
    """
    one, other = (np.asarray(value, np.float64) for value in (_plain(found), expected))
    slack = 0.0 if digits is None else 0.5 * 10.0**-digits * (1 + 1e-9)
    if one.shape != other.shape or not (np.abs(one - other) <= slack).all():
        raise AssertionError(f"{fact}: found {_plain(found)}, expected {expected}")
    kept = one if digits is None else np.round(one, digits)
    checked[fact] = kept.tolist()
    print(f"✓ {fact}: {_words(kept)}")


def _plain(value: Any) -> Any:
    return value.numpy() if hasattr(value, "numpy") else value


def _words(value: np.ndarray) -> str:
    whole = bool((value == np.round(value)).all())
    if value.ndim >= 2:
        shown = value.astype(np.int64) if whole else value
        return "\n  " + np.array2string(shown, precision=6, prefix="  ")
    if value.ndim == 1:
        return f"({', '.join(_words(item) for item in value)})"
    return f"{value.item():,.0f}" if whole else f"{value.item():.10g}"
