"""The graph that autograd recorded for a tensor, drawn: operations, and what flows between them.

Tensors that someone made are boxes with their values; operations are rounded; arrows show the way
of the forward pass, on which `backward` later goes back. Each row holds what can be computed when
the rows above it are done: the row of an operation is one more than the lowest of its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.autograd import Op, Tensor
from minicnn.errors import ArgumentError
from minicnn.plot.layout import text_width
from minicnn.plot.style import OKABE_ITO, Theme, style
from minicnn.plot.words import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minicnn.plot.picture import Picture

MOST = 200  # nodes
ROW, LINE, SPACE, EDGE, PASSING = 0.8, 0.17, 0.3, 0.3, 0.1
LEAST = 3.6  # inches, for the title


def graph(tensor: Tensor, names: Mapping[str, Tensor] | None = None, dark: bool = False) -> Picture:
    """Draw how a tensor was computed; with gradients, where leaves have them.

    names : what to call tensors that you made, such as {"x": x, "w": w}

    Draw before `backward`, which frees the graph; the gradients of a tensor are written down where
    there are some from a pass before. Raises `ArgumentError`.

    >>> x = Tensor([3.0], requires_grad=True)
    >>> print(graph(x * x + 2 * x, {"x": x}).alt)
    Graph of 3 operations: multiply, multiply, add; made from x = 3.
    """
    root = _checked(tensor)
    known = {id(t): readable(name) for name, t in (names or {}).items()}
    nodes = _nodes(root)
    if len(nodes) > MOST:
        raise ArgumentError(
            f"plot.graph: the graph has {len(nodes)} nodes, and beyond {MOST} it cannot be read; "
            "draw a smaller computation, or the network with plot.architecture."
        )
    words = {node: _words(node, known) for node in nodes}
    words[root] = [*words[root], f"= {_values(tensor.numpy())}"]
    places, width, height = _places(nodes, words)
    with style(dark) as colors:
        from minicnn.plot.picture import headed, new

        picture = new(max(width, LEAST), height + 0.5, colors, "How the tensor was computed",
                      _described(nodes, words))  # fmt: skip
        headed(picture)
        axes = picture.add_axes((0, 0, 1, 1))
        spare = max(LEAST - width, 0) / 2
        axes.set_xlim(-spare, width + spare)
        axes.set_ylim(height + 0.1, -0.4)
        axes.set_axis_off()
        _draw(axes, nodes, words, places, colors)
        return picture


def _checked(tensor: Tensor) -> Op:
    """The operation that made a tensor, with its graph."""
    if tensor.op is None:
        raise ArgumentError(
            "plot.graph: the tensor was not computed, or no_grad left no graph; pass the result of "
            "operations on tensors with requires_grad=True."
        )
    if tensor.op.freed:
        raise ArgumentError(
            "plot.graph: backward has freed the graph of this tensor; draw it before backward, or "
            "run the forward pass again."
        )
    return tensor.op


def _nodes(root: Op) -> dict[Any, list[Any]]:
    """Operations and leaves, inputs first, each with its inputs."""
    found: dict[Any, list[Any]] = {}
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        if node not in found:
            parents = [p for p in node.parents if p is not None] if isinstance(node, Op) else []
            found[node] = parents
            waiting += parents
    order = sorted(found, key=lambda node: node.order if isinstance(node, Op) else -1)
    return {node: found[node] for node in order}


def _words(node: Any, known: Mapping[int, str]) -> list[str]:
    if isinstance(node, Op):
        return [node.name]
    name = known.get(id(node), "")
    value = _values(node.numpy())
    lines = [f"{name} = {value}" if name else value]
    return lines if node.grad is None else [*lines, f"gradient {_values(np.asarray(node.grad))}"]


def _values(array: np.ndarray) -> str:
    """One number as it is, more as their shape."""
    return f"{array.item():.4g}" if array.size == 1 else "×".join(map(str, array.shape))


@dataclass(frozen=True)
class _Passing:
    """Room in a row for an arrow that goes on to a lower one."""

    source: Any
    target: Any
    number: int
    row: int


_Place = tuple[float, float, float]  # of a node: the middle, and the width


def _where(node: Any, parents: list[Any]) -> list[int]:
    """At which places a node is among others; ``==`` would compare the numbers of tensors."""
    return [i for i, parent in enumerate(parents) if parent is node]


def _rows(nodes: dict[Any, list[Any]]) -> list[list[Any]]:
    """Nodes by depth, inputs above; a leaf stands right above the first that reads it."""
    depth: dict[Any, int] = {}
    for node, parents in nodes.items():
        depth[node] = 1 + max((depth[p] for p in parents), default=-1)
    for node in nodes:
        if not nodes[node]:
            depth[node] = min(depth[n] for n, parents in nodes.items() if _where(node, parents)) - 1
    rows: list[list[Any]] = [[] for _ in range(max(depth.values()) + 1)]
    for node, level in depth.items():
        rows[level].append(node)
        for number, parent in enumerate(nodes[node]):
            for row in range(depth[parent] + 1, level):
                rows[row].append(_Passing(parent, node, number, row))
    return rows


def _places(
    nodes: dict[Any, list[Any]], words: Mapping[Any, list[str]]
) -> tuple[dict[Any, _Place], float, float]:
    """Where each node and each passing arrow is, and the size of all."""
    rows = _rows(nodes)
    sizes = {n: max(text_width(w, 8, bold=True) for w in words[n]) + 0.3 for n in nodes}
    widths = [sum(sizes.get(n, PASSING) + SPACE for n in row) - SPACE for row in rows]
    total = max(widths)
    places: dict[Any, _Place] = {}
    for level in reversed(range(len(rows))):
        row = sorted(rows[level], key=lambda n: _pull(n, nodes, places))
        x = EDGE + (total - widths[level]) / 2
        for node in row:
            size = sizes.get(node, PASSING)
            places[node] = (x + size / 2, EDGE + ROW * level + 0.2, size)
            x += size + SPACE
    return places, total + 2 * EDGE, ROW * (len(rows) - 1) + 2 * EDGE + 0.55


def _pull(node: Any, nodes: dict[Any, list[Any]], places: Mapping[Any, _Place]) -> float:
    """Where the readers of a node are, on average; inputs in the order of the arguments."""
    if isinstance(node, _Passing):
        below = _Passing(node.source, node.target, node.number, node.row + 1)
        return places[below if below in places else node.target][0] + 0.2 * node.number
    found = [places[n][0] + 0.2 * _where(node, parents)[0] for n, parents in nodes.items()
             if _where(node, parents) and n in places]  # fmt: skip
    return float(np.mean(found)) if found else 0.0


def _draw(
    axes: Axes, nodes: dict[Any, list[Any]], words: Mapping[Any, list[str]],
    places: Mapping[Any, _Place], colors: Theme,
) -> None:  # fmt: skip
    from matplotlib.patches import FancyBboxPatch

    for node, parents in nodes.items():
        x, y, width = places[node]
        is_op = isinstance(node, Op)
        color = OKABE_ITO["blue" if is_op else "green"]
        height = _height(words[node])
        look = f"round,pad=0,rounding_size={0.13 if is_op else 0.02}"
        axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, zorder=3,
                                      boxstyle=look, facecolor=colors.tint(color),
                                      edgecolor=color, linewidth=1.1))  # fmt: skip
        axes.text(x, y, "\n".join(words[node]), ha="center", va="center", fontsize=8, zorder=4,
                  fontweight="bold" if is_op else "normal")  # fmt: skip
        for number, parent in enumerate(parents):
            shift = 0.0 if len(_where(parent, parents)) == 1 else 0.14 * (-1) ** (number + 1)
            start = (places[parent][0] + shift, places[parent][1] + _height(words[parent]) / 2)
            between = [
                places[p][:2] for p in places
                if isinstance(p, _Passing) and (p.target, p.number) == (node, number)
            ]  # fmt: skip
            _arrow(axes, [start, *sorted(between, key=lambda spot: spot[1])],
                   (x + shift, y - height / 2), colors)  # fmt: skip


def _height(lines: list[str]) -> float:
    return LINE * len(lines) + 0.1


def _arrow(
    axes: Axes, way: list[tuple[float, float]], end: tuple[float, float], colors: Theme
) -> None:
    """A line through the places of its passing, with a head."""
    from matplotlib.patches import FancyArrowPatch

    way = [way[0], *(spot for x, y in way[1:] for spot in ((x, y - 0.16), (x, y + 0.16)))]
    axes.plot(*zip(*way, strict=True), color=colors.faint, linewidth=1.0, zorder=2)
    axes.add_patch(FancyArrowPatch(way[-1], end, shrinkA=0, shrinkB=0, color=colors.faint,
                                   arrowstyle="-|>,head_length=4,head_width=2", linewidth=1.0,
                                   zorder=2))  # fmt: skip


def _described(nodes: dict[Any, list[Any]], words: Mapping[Any, list[str]]) -> str:
    ops = [node.name for node in nodes if isinstance(node, Op)]
    leaves = [", ".join(words[node]) for node in nodes if not isinstance(node, Op)]
    many = "s" if len(ops) != 1 else ""
    return f"Graph of {len(ops)} operation{many}: {', '.join(ops)}; made from {'; '.join(leaves)}."
