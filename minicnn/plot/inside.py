"""Inside a network: its first filters, the maps of a layer, and how the numbers are spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn import functional as F
from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ArgumentError, ShapeError, nearest
from minicnn.nn import Conv2d, Linear, Module, capture, evaluating
from minicnn.plot.images import grid, grid_size, numbers, pixels, show, single
from minicnn.plot.style import Theme, style
from minicnn.plot.words import limits, span_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture

CELL, TOP = 0.62, 0.72


def filters(model: Module | Any, count: int = 64, columns: int = 8, dark: bool = False) -> Picture:
    """Draw the filters of the first convolution, or filters (F, C, H, W).

    Filters that read three channels are drawn in colour, each spread over black to white. Others
    get one picture for each channel, in two colours for the two signs, on one scale for all.
    Raises `ArgumentError`, `ShapeError`.

    >>> filters(np.zeros((4, 1, 3, 3))).alt
    '4 filters of 3x3 that read 1 channel, weights from 0 to 0.'
    """
    weights, name = _first_filters(model)
    in_color = weights.shape[1] == 3
    shown = weights if in_color else weights.reshape(-1, 1, *weights.shape[2:])
    shown = shown[:count]
    F_, C, KH, KW = weights.shape
    alt = (
        f"{F_} filters of {KH}x{KW} that read {C} channel{'s' * (C > 1)}, weights "
        f"{span_of(weights)}."
    )
    columns = min(columns, len(shown))
    cell = (CELL, CELL * KH / KW)
    width, height = grid_size(len(shown), columns, cell, TOP)
    with style(dark) as colors:
        from minicnn.plot.picture import headed, new

        picture = new(max(width, 4.2), height + (0 if in_color else 0.46), colors,
                      f"Filters {name}".rstrip(), alt)  # fmt: skip
        drawn = f"{len(shown)} of {F_ * (1 if in_color else C)}" if len(shown) < F_ else f"{F_}"
        headed(picture, f"{drawn} filters of {KH}×{KW}")
        axes = grid(picture, len(shown), columns, cell, TOP)
        most = max(map(abs, limits(shown))) or 1.0
        for one, image in zip(axes, shown, strict=True):
            if in_color:
                show(one, pixels(_spread(image)), colors)
            else:
                signed(one, image[0], most, colors)
        if not in_color:
            _scale(picture, most, colors, "weight")
        return picture


def _first_filters(model: Any) -> tuple[np.ndarray, str]:
    if isinstance(model, Module):
        for path, module in model.named_modules():
            if isinstance(module, Conv2d):
                return module.weight.numpy(), f"of {path}"
        raise ArgumentError(
            f"plot.filters: {type(model).__name__} has no Conv2d; pass the filters themselves, "
            "(F, C, H, W)."
        )
    weights = numbers(model)
    if weights.ndim != 4 or not weights.size:
        raise ShapeError(
            f"plot.filters: model is an array of shape {weights.shape}; pass filters (F, C, H, W) "
            "or a model."
        )
    return weights, ""


def _spread(image: np.ndarray) -> np.ndarray:
    low, high = limits(image)
    return (image - low) / (high - low) if high > low else np.full_like(image, 0.5)


def signed(axes: Axes, values: np.ndarray, most: float, colors: Theme) -> None:
    """Draw values of both signs: 0 has the colour of the page."""
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("signed", colors.diverging)
    show(axes, values, colors, cmap=scale, vmin=-most, vmax=most)


def _scale(picture: Picture, most: float, colors: Theme, words: str) -> None:
    """The scale of the two colours, at the foot of the picture."""
    width, height = picture.get_size_inches()
    axes = picture.add_axes((0.34 / width, 0.36 / height, 1.6 / width, 0.11 / height))
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("signed", colors.diverging)
    axes.imshow(
        np.linspace(-1, 1, 256)[None], aspect="auto", cmap=scale, extent=(-most, most, 0, 1)
    )
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_xticks([-most, 0, most], [f"−{most:.2g}", "0", f"{most:.2g}"])
    axes.text(1.12, 0.5, words, transform=axes.transAxes, va="center", fontsize=8)


def feature_maps(
    model: Module, image: Any, layer: str, count: int = 32, columns: int = 8, dark: bool = False
) -> Picture:
    """Draw the maps that a layer makes of one image.

    image : (C, H, W), prepared as for the model
    layer : path of a part with maps, such as "features.0"

    All maps are on one scale, black for the least value. Raises `ArgumentError`, `ShapeError`.

    >>> from minicnn import models
    >>> image = np.zeros((1, 28, 28), np.float32)
    >>> feature_maps(models.create("notes_cnn"), image, "features.3").title
    'Feature maps of features.3'
    """
    shown = single(image, "feature_maps")
    maps = maps_of(model, shown, layer, "feature_maps")
    low, high = limits(maps)
    C, H, W = maps.shape
    cell = (0.86, 0.86 * H / W)
    chosen = min(count, C)
    columns = min(columns, chosen + 1)
    alt = (
        f"{chosen} of the {C} maps of {H}x{W} that the layer {layer} makes of an image, values "
        f"{span_of(maps)}; the first picture is the image."
    )
    with style(dark) as colors:
        from minicnn.plot.picture import headed, new

        width, height = grid_size(chosen + 1, columns, cell, TOP, 0.14)
        picture = new(max(width, 4.2), height, colors, f"Feature maps of {layer}", alt)
        headed(picture, f"{chosen} of {C} maps, {H}×{W}; black {low:.3g}, white {high:.3g}")
        axes = grid(picture, chosen + 1, columns, cell, TOP, 0.14)
        show(axes[0], pixels(shown), colors)
        axes[0].set_title("image", fontsize=7.5, pad=2)
        for i, one in enumerate(axes[1:]):
            show(one, maps[i], colors, vmin=low, vmax=high if high > low else low + 1)
            one.set_title(str(i), fontsize=7, pad=2, color=colors.faint)
        return picture


def maps_of(model: Module, image: np.ndarray, layer: str, caller: str) -> np.ndarray:
    """The maps (C, H, W) that a layer makes of an image; raises `ArgumentError`, `ShapeError`."""
    check_layer(model, layer, caller)
    with evaluating(model), no_grad(), capture(model, [layer]) as found:
        model(Tensor(as_input(model, image)))
    if layer not in found or found[layer].ndim != 4:
        what = f"has shape {found[layer].shape}" if layer in found else "does not run"
        raise ArgumentError(
            f"plot.{caller}: the result of layer {layer!r} {what}; name a layer whose result is "
            "maps, (N, C, H, W)."
        )
    return np.asarray(found[layer][0])


def check_layer(model: Module, layer: str, caller: str) -> None:
    """Raise `ArgumentError` for a path that the model does not have."""
    paths = [path for path, _ in model.named_modules() if path]
    if layer not in paths:
        raise ArgumentError(
            f"plot.{caller}: {type(model).__name__} has no layer {layer!r}; "
            f"{nearest(layer, paths)}model.named_modules() lists them."
        )


def as_input(model: Module, image: np.ndarray) -> np.ndarray:
    """An image as a batch of the model's dtype."""
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    return np.ascontiguousarray(image[None], dtype)


def histograms(
    model: Module,
    images: Any,
    labels: Any,
    loss: Callable[[Tensor, Any], Tensor] = F.cross_entropy,
    dark: bool = False,
) -> Picture:
    """Draw for each layer with weights how its weights, results and gradients are spread.

    images : a batch (N, C, H, W), prepared as for the model; labels : (N,)

    One forward and backward pass in the model's mode; gradients and batch statistics are left as
    they were. Boxes span the middle half of the absolute values, lines 5 % to 95 %, on a scale of
    powers of ten: signals that fade from layer to layer walk to the left.

    >>> from minicnn import models
    >>> images = np.ones((2, 1, 28, 28), np.float32)
    >>> histograms(models.create("notes_cnn"), images, [0, 1]).title
    'Weights, results and gradients by layer'
    """
    rows = _measured(model, np.asarray(images), numbers(labels), loss)
    names = list(rows)
    parts = (("weights", "weights"), ("results", "results (activations)"),
             ("gradients", "gradients of the weights"))  # fmt: skip
    with style(dark) as colors:
        from minicnn.plot.picture import headed, margins, new

        label = 0.075 * max(map(len, names)) + 0.3
        size = label + 3 * 2.35 + 0.3, 0.21 * len(names) + 1.5
        picture = new(*size, colors, "Weights, results and gradients by layer", _spread_words(rows))
        headed(picture, "absolute values: middle half, and 5 % to 95 %; ● median")
        where = {**margins(picture, label, 0.15, 0.5, 0.95), "wspace": 0.1}
        axes = picture.subplots(1, 3, sharey=True, gridspec_kw=where)
        for one, (part, title), color in zip(axes, parts, colors.series, strict=False):
            _spans(one, [rows[name][part] for name in names], color)
            one.set_title(title)
            one.set_xlabel("absolute value")
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.4, -0.6)
        return picture


def _measured(
    model: Module, images: np.ndarray, labels: np.ndarray, loss: Callable[[Tensor, Any], Tensor]
) -> dict[str, dict[str, np.ndarray]]:
    """Five percentiles of the absolute values of each part of each layer with weights."""
    layers = {p: m for p, m in model.named_modules() if isinstance(m, (Conv2d, Linear))}
    if not layers:
        raise ArgumentError(
            f"plot.histograms: {type(model).__name__} has no Conv2d and no Linear layer."
        )
    before = [(p, p.grad) for p in model.parameters()]
    state = {name: buffer.copy() for name, buffer in model.named_buffers()}
    try:
        for parameter, _ in before:
            parameter.grad = None
        with capture(model, layers) as results:
            output = model(Tensor(images))
        first = output[0] if isinstance(output, tuple) else output
        loss(first, labels).backward()
        return {
            path: {
                "weights": _percentiles(layer.weight.numpy()),
                "results": _percentiles(results[path]),
                "gradients": _percentiles(numbers(layer.weight.grad)),
            }
            for path, layer in layers.items()
            if path in results and layer.weight.grad is not None
        }
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient
        for name, buffer in model.named_buffers():
            buffer[...] = state[name]


def _percentiles(values: np.ndarray) -> np.ndarray:
    return np.percentile(np.abs(values), (5, 25, 50, 75, 95))


def _spans(axes: Axes, rows: list[np.ndarray], color: str) -> None:
    """A line, a box and a point for each row; values of 0 have no place on this scale."""
    least = min((v for row in rows for v in row if v > 0), default=1e-8)
    for y, row in enumerate(rows):
        low, left, middle, right, high = np.maximum(row, least)
        axes.plot([low, high], [y, y], color=color, linewidth=1.0)
        axes.plot([left, right], [y, y], color=color, linewidth=5.5, alpha=0.45,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot([middle], [y], marker="o", markersize=4, color=color)
    axes.set_xscale("log")
    axes.grid(visible=False, axis="y")


def _spread_words(rows: dict[str, dict[str, np.ndarray]]) -> str:
    first, last = next(iter(rows)), next(reversed(rows))
    words = [
        f"{part} {rows[first][part][2]:.2g} in {first} and {rows[last][part][2]:.2g} in {last}"
        for part in ("weights", "results", "gradients")
    ]
    return f"Spread of absolute values in {len(rows)} layers. Medians: {'; '.join(words)}."
