"""Arrays as pictures: which axis is which, which numbers are black, and grids of small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError, ShapeError
from minicnn.plot.style import Theme
from minicnn.plot.words import limits, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture


def numbers(value: Any) -> np.ndarray:
    """A tensor, array or list as a NumPy array."""
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def batch(images: Any, caller: str) -> np.ndarray:
    """Images as (N, C, H, W); gray ones may come as (N, H, W). Raises `ShapeError`.

    >>> batch(np.zeros((5, 28, 28)), "samples").shape
    (5, 1, 28, 28)
    """
    array = numbers(images)
    array = array[:, None] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise ShapeError(
            f"plot.{caller}: images has shape {numbers(images).shape}; pass (N, C, H, W) with one "
            "or three channels, or gray images as (N, H, W), and at least one."
        )
    return array


def single(image: Any, caller: str) -> np.ndarray:
    """One image as (C, H, W); (H, W) and (1, C, H, W) are taken too. Raises `ShapeError`."""
    array = numbers(image)
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[0] not in (1, 3) or 0 in array.shape:
        raise ShapeError(
            f"plot.{caller}: image has shape {numbers(image).shape}; pass one image (C, H, W) with "
            "one or three channels."
        )
    return array


def pixels(image: np.ndarray) -> np.ndarray:
    """(C, H, W) as matplotlib draws it: (H, W) or (H, W, 3), from 0 to 1.

    Whole numbers are 0 to 255. Others that leave 0 to 1, such as normalised ones, are spread from
    the least to the greatest that is finite. NaN has no colour; among three channels it is black.

    >>> pixels(np.array([[[-1.0, 3.0]]]))
    array([[0., 1.]])
    """
    shown = image.transpose(1, 2, 0) if image.shape[0] == 3 else image[0]
    if shown.dtype.kind in "iub":
        top = 1 if shown.dtype.kind == "b" else 255
        return shown / top
    low, high = limits(shown)
    if low < 0 or high > 1:
        shown = (shown - low) / max(high - low, float(np.finfo(np.float32).tiny))
    shown = np.clip(shown, 0, 1)
    return np.nan_to_num(shown) if shown.ndim == 3 else shown


def show(axes: Axes, image: np.ndarray, colors: Theme, **look: Any) -> None:
    """Draw an image without ticks, with a thin frame; gray from black to white."""
    look = {"cmap": "gray", "vmin": 0, "vmax": 1, **look}
    axes.imshow(image, aspect="equal", **look)
    bare(axes, colors.rule)


def bare(axes: Axes, color: str, width: float = 0.8) -> None:
    """No ticks and no grid, but a frame on all sides."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=color, linewidth=width)


def grid(
    picture: Picture, count: int, columns: int, cell: tuple[float, float], top: float,
    words: float = 0.0,
) -> list[Axes]:  # fmt: skip
    """``count`` axes of ``cell`` inches in rows, with ``words`` inches of room above each.

    ``top`` is the room above all. The picture must have the size that `grid_size` tells.
    """
    width, height = picture.get_size_inches()
    found = []
    for i in range(count):
        row, column = divmod(i, columns)
        x = EDGE + column * (cell[0] + SPACE)
        y = top + row * (cell[1] + SPACE + words) + words
        place = (x / width, 1 - (y + cell[1]) / height, cell[0] / width, cell[1] / height)
        found.append(picture.add_axes(place))
    return found


EDGE, SPACE = 0.16, 0.1


def grid_size(
    count: int, columns: int, cell: tuple[float, float], top: float, words: float = 0.0
) -> tuple[float, float]:
    """The inches that a picture with a `grid` needs."""
    rows = math.ceil(count / columns)
    width = 2 * EDGE + columns * (cell[0] + SPACE) - SPACE
    return width, top + rows * (cell[1] + SPACE + words) - SPACE + EDGE


def class_names(classes: Sequence[str] | None, least: int, caller: str) -> list[str]:
    """Names of classes, or their numbers; raises `ArgumentError` where there are too few."""
    if classes is None:
        return [str(i) for i in range(least)]
    if len(classes) < least:
        raise ArgumentError(
            f"plot.{caller}: classes has {len(classes)} names, but there are labels up to "
            f"{least - 1}; give {least} names or more."
        )
    return [readable(name) for name in classes]
