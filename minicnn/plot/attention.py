"""Where a network looks: the receptive field of a cell, and Grad-CAM.

The receptive field is what a cell *can* see, known from kernels and strides alone. Which of it
decides for a class, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization" (Selvaraju et al., ICCV 2017) reads off one backward pass. Let A_k be the maps of a
late layer and y the score of the class, before the softmax:

    a_k = mean over all cells of dy / dA_k          how much map k speaks for the class
    map = ReLU(sum over k of a_k * A_k)             where the maps that do so are strong

ReLU, because only what speaks for the class is asked, not what speaks for others. The map has the
resolution of the layer and is drawn over the image, scaled up. In a network that ends in global
average pooling and one linear layer, a_k are that layer's weights up to a factor, which is the
older class activation map (CAM).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.nn import Module, evaluating
from minicnn.plot.images import bare, class_names, pixels, show, single
from minicnn.plot.inside import as_input, check_layer
from minicnn.plot.style import Theme, style
from minicnn_kernels.fields import Field, field_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture

SIDE, TOP = 2.6, 0.8


def receptive_field(
    model: Module,
    layer: str,
    image: Any,
    cell: tuple[int, int] | None = None,
    dark: bool = False,
) -> Picture:
    """Draw over an image what one cell of a layer's map sees, and where the cells lie.

    image : (C, H, W); layer : path of a part with maps, such as "features.0"
    cell : row and column in the map; by default the one in the middle

    A field may reach beyond the image, where padding is. Raises `ArgumentError`, `ShapeError`.

    >>> from minicnn import models
    >>> model = models.create("notes_cnn")
    >>> print(receptive_field(model, "features.7", np.zeros((1, 28, 28))).alt)
    Cell (3, 3) of the 7x7 map of features.7 sees 16x16 pixels of the 28x28 image, from row 6 and
    column 6 on; neighbouring cells are 4 pixels apart.
    """
    shown = single(image, "receptive_field")
    field = _field(model, layer, shown.shape)
    row, column = _checked_cell(field, cell, layer)
    top = float(field.rows.first + row * field.rows.jump)
    left = float(field.columns.first + column * field.columns.jump)
    (height, width), (down, _) = map(float, field.size), map(float, field.jump)
    alt = (
        f"Cell ({row}, {column}) of the {field.rows.cells}x{field.columns.cells} map of {layer} "
        f"sees {height:g}x{width:g} pixels of the {shown.shape[1]}x{shown.shape[2]} image, from "
        f"row {top:g} and column {left:g} on; neighbouring cells are {down:g} pixels apart."
    )
    with style(dark) as colors:
        from minicnn.plot.picture import headed, inches, new

        picture = new(SIDE + 1.6, SIDE + 1.35 + TOP, colors, f"Receptive field of {layer}", alt)
        outside = min(top, left) < 0 or top + height > shown.shape[1] or (
            left + width > shown.shape[2]
        )  # fmt: skip
        note = "; reaches into the padding" if outside else ""
        headed(picture, f"{height:g}×{width:g} pixels, cells {down:g} apart{note}")
        axes = picture.add_axes(inches(picture, 0.55, 0.5, SIDE + 0.85, SIDE + 0.85))
        _draw_field(axes, shown, field, (top, left, height, width), colors)
        return picture


def _checked_cell(field: Field, cell: tuple[int, int] | None, layer: str) -> tuple[int, int]:
    rows, columns = field.rows.cells, field.columns.cells
    row, column = cell if cell is not None else (rows // 2, columns // 2)
    if not (0 <= row < rows and 0 <= column < columns):
        raise ArgumentError(
            f"plot.receptive_field: cell is {cell}, but the map of {layer} is {rows}x{columns}; "
            f"choose rows 0 to {rows - 1} and columns 0 to {columns - 1}."
        )
    return row, column


def _field(model: Module, layer: str, shape: tuple[int, ...]) -> Field:
    check_layer(model, layer, "receptive_field")
    found: dict[str, Any] = {}

    def note(path: str, module: Module, arguments: Any, output: Any) -> None:
        found[path] = output

    nn.dry_run(model, shape, after=note)
    field = field_of(getattr(found.get(layer), "array", None))
    if field is None or found[layer].ndim != 4:
        what = f"has shape {found[layer].shape}" if layer in found else "does not run"
        raise ArgumentError(
            f"plot.receptive_field: the result of layer {layer!r} {what}; name a layer whose "
            "result is maps, (N, C, H, W)."
        )
    return field


def _draw_field(
    axes: Axes, image: np.ndarray, field: Field, box: tuple[float, ...], colors: Theme
) -> None:
    from matplotlib.patches import Rectangle

    top, left, height, width = box
    H, W = image.shape[1:]
    show(axes, pixels(image), colors, extent=(0, W, H, 0))
    centers = [[float(a.first + (i * a.jump) + a.size / 2) for i in range(a.cells)]
               for a in (field.columns, field.rows)]  # fmt: skip
    if max(map(len, centers)) <= 64:
        xs, ys = (grid.ravel() for grid in np.meshgrid(*centers))
        axes.plot(xs, ys, linestyle="none", marker="o", markersize=3.2, color=colors.series[1],
                  markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
    for color, line, dashes in (("white", 4.0, "-"), (colors.series[1], 2.0, "-")):
        axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=color,
                                 linewidth=line, linestyle=dashes))  # fmt: skip
    axes.plot([left + width / 2], [top + height / 2], marker="X", markersize=9,
              color=colors.series[1], markeredgecolor="white")  # fmt: skip
    bare(axes, colors.rule)
    edge = 0.04 * max(H, W)
    axes.set_xlim(min(-edge, left - edge), max(W + edge, left + width + edge))
    axes.set_ylim(max(H + edge, top + height + edge), min(-edge, top - edge))
    axes.set_aspect("equal", anchor="NW")
    axes.set_xticks([0, W], ["0", f"{W} px"])
    axes.set_yticks([0, H], ["0", str(H)])


def class_activation(
    model: Module,
    image: Any,
    layer: str | None = None,
    label: int | None = None,
    classes: Sequence[str] | None = None,
    dark: bool = False,
) -> Picture:
    """Draw where in an image the network sees a class, by Grad-CAM; see the module's docstring.

    image : (C, H, W), prepared as for the model
    layer : path of a part with maps; by default the last one that has maps of 2x2 or more
    label : the class; by default the one that the network finds most probable

    Raises `ArgumentError`, `ShapeError`.

    >>> from minicnn import models
    >>> image = np.ones((1, 28, 28), np.float32)
    >>> class_activation(models.create("notes_cnn"), image, label=3).title
    'Where the network sees 3'
    """
    shown = single(image, "class_activation")
    heat, name, label, share = grad_cam(model, shown, layer, label)
    names = class_names(classes, label + 1, "class_activation")
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    alt = (
        f"Grad-CAM of class {names[label]}, probability {share:.1%}, at layer {name}: "
        f"{heat.shape[0]}x{heat.shape[1]} cells, the strongest in row {row} and column {column}."
        if heat.any()
        else f"Grad-CAM of class {names[label]}, probability {share:.1%}, at layer {name}: no cell "
        "speaks for the class."
    )
    with style(dark) as colors:
        from minicnn.plot.picture import headed, new

        picture = new(2 * SIDE + 1.25, SIDE + TOP + 0.35, colors,
                      f"Where the network sees {names[label]}", alt)  # fmt: skip
        headed(picture, f"Grad-CAM at {name}; probability {share:.1%}")
        _draw_heat(picture, shown, heat, colors)
        return picture


def grad_cam(
    model: Module, image: np.ndarray, layer: str | None = None, label: int | None = None
) -> tuple[np.ndarray, str, int, float]:
    """The map of Grad-CAM, from 0 to 1; the layer, the class, and its probability.

    >>> from minicnn import models
    >>> model = models.create("notes_cnn")
    >>> heat, layer, label, share = grad_cam(model, np.ones((1, 28, 28), np.float32))
    >>> layer, heat.shape
    ('features', (7, 7))
    """
    layer = _last_maps(model, image.shape) if layer is None else layer
    check_layer(model, layer, "class_activation")
    kept: list[Tensor] = []

    def keep(module: Module, arguments: Any, output: Any) -> None:
        kept[:] = [output.retain_grad()] if isinstance(output, Tensor) else []

    with evaluating(model), model.get_submodule(layer).register_forward_hook(keep):
        # The image asks for its gradient, so that a model of frozen weights has a graph too.
        scores = model(Tensor(as_input(model, image), requires_grad=True))
    values = scores.numpy()[0].astype(np.float64)
    if not kept or kept[0].ndim != 4:
        raise ArgumentError(
            f"plot.class_activation: layer {layer!r} has no maps, (N, C, H, W); name another."
        )
    label = int(values.argmax()) if label is None else label
    if not 0 <= label < len(values):
        raise ArgumentError(
            f"plot.class_activation: label is {label}, but the network has {len(values)} classes; "
            f"choose 0 to {len(values) - 1}."
        )
    gradients = _gradients(model, scores, label, kept[0])
    heat = np.maximum(np.tensordot(gradients.mean(axis=(1, 2)), kept[0].numpy()[0], 1), 0)
    exps = np.exp(values - values.max())
    return heat / (heat.max() or 1), layer, label, float(exps[label] / exps.sum())


def _gradients(model: Module, scores: Tensor, label: int, maps: Tensor) -> np.ndarray:
    """Of one score by the maps, (C, H, W); those that the parameters have stay as they are."""
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in before:
        parameter.grad = None
    one = np.zeros_like(scores.numpy())
    one[0, label] = 1
    scores.backward(one)
    for parameter, gradient in before:
        parameter.grad = gradient
    return np.asarray(maps.grad)[0]


def _last_maps(model: Module, shape: tuple[int, ...]) -> str:
    found = ""

    def note(path: str, module: Module, arguments: Any, output: Any) -> None:
        nonlocal found
        shape = getattr(output, "shape", ())
        if path and len(shape) == 4 and min(shape[2:]) > 1:
            found = path

    nn.dry_run(model, shape, after=note)
    if not found:
        raise ArgumentError(
            f"plot.class_activation: {type(model).__name__} has no layer with maps of 2x2 or "
            "more for this image; pass larger images, or name the layer."
        )
    return found


def _draw_heat(picture: Picture, image: np.ndarray, heat: np.ndarray, colors: Theme) -> None:
    width, height = picture.get_size_inches()
    H, W = image.shape[1:]
    scale = SIDE / max(H, W)
    size = (W * scale / width, H * scale / height)
    places = [(0.16 + i * (SIDE + 0.12)) / width for i in (0, 1)]
    left, right = (picture.add_axes((x, 0.22 / height, *size)) for x in places)
    show(left, pixels(image), colors)
    left.set_title("image", fontsize=8.5, pad=4)
    gray = pixels(image)
    gray = gray.mean(axis=2) if gray.ndim == 3 else gray
    show(right, gray, colors, extent=(0, W, H, 0))
    drawn = right.imshow(heat, cmap="inferno", vmin=0, vmax=1, interpolation="bilinear",
                         extent=(0, W, H, 0), alpha=0.62)  # fmt: skip
    xs = (np.arange(heat.shape[1]) + 0.5) * W / heat.shape[1]
    ys = (np.arange(heat.shape[0]) + 0.5) * H / heat.shape[0]
    if heat.max() > 0.5:  # a line, for who cannot tell the colours
        for color, line in (("black", 2.4), ("white", 1.1)):
            right.contour(xs, ys, heat, levels=[0.5], colors=[color], linewidths=[line])
    right.set(xlim=(0, W), ylim=(H, 0))
    right.set_title("what speaks for the class; line: half", fontsize=8.5, pad=4)
    bar = picture.add_axes(
        (places[1] + size[0] + 0.1 / width, 0.22 / height, 0.12 / width, size[1])
    )
    picture.colorbar(drawn, cax=bar).set_label("share of the strongest cell")
    bar.grid(visible=False)
