"""From the graph of a network to what one would say about it: chains, branches, blocks, stages.

A graph of 4,000 operations is no picture. Three steps make one of it.

**Chains and branches.** An operation that every path from image to output passes through is a cut:
lay all operations in a row in the order of computing, draw every edge as an arc above the row, and
the cuts are the ones without an arc over them. The cuts are a chain; what lies between two of them
falls into pieces that do not touch each other, the parallel branches, each of which is again such a
row. (Graphs that this takes apart completely are called series-parallel; inception modules,
residual blocks and fractals are, and dense blocks in the form that `minicnn.plot.trace` gives
them.) A branch that does no more than fit the shape, beside one that does the work, is a shortcut.

**Layers.** Batch norm, activations and dropout are written at the convolution in front of them, or,
in a chain that begins with them ("pre-activation"), at the one behind.

**Blocks and stages.** What one module of the model does is a block; equal blocks in a row, in which
only numbers of channels, strides and shortcuts differ, are one block "x 6". The stages are the
parts of the network with maps of one size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from minicnn.nn import AvgPool2d, MaxPool2d, Module, ModuleList, Sequential
from minicnn.plot.trace import INPUT, Node, readers

LIGHT = {
    "batch_norm": "BN", "relu": "ReLU", "leaky_relu": "leaky ReLU", "tanh": "tanh",
    "sigmoid": "sigmoid", "local_response_norm": "LRN", "reshape": "flatten", "pad": "",
    "getitem": "", "multiply": "",
}  # fmt: skip
JOINS = ("add", "concat", "mean of maps")


@dataclass
class Layer:
    """An operation that matters, with the light ones before and behind it; or light ones alone."""

    core: Node | None
    before: list[Node] = field(default_factory=list)
    behind: list[Node] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        """All its operations, in order."""
        return [*self.before, *([self.core] if self.core else []), *self.behind]


@dataclass
class Parallel:
    """Branches side by side and the operation that joins them (None: the next join outside).

    ``shortcut`` is the branch around the only other one, empty where it passes its input on.
    """

    branches: list[Chain]
    join: Node | None
    behind: list[Node] = field(default_factory=list)
    shortcut: Chain | None = None

    def nodes(self) -> list[Node]:
        """All its operations, in order."""
        parts = [*self.branches, self.shortcut or []]
        inner = [node for chain in parts for part in chain for node in part.nodes()]
        return [*inner, *([self.join] if self.join else []), *self.behind]


Part = Layer | Parallel
Chain = list[Part]


@dataclass
class Unit:
    """A block, or a layer that belongs to none; ``repeats`` are the chains that are drawn as one.

    ``name`` is the class of the block's module, and ``paths`` where the modules are in the model.
    """

    name: str
    paths: list[str]
    repeats: list[Chain]
    shape: tuple[int, ...]

    def nodes(self) -> list[Node]:
        """All operations of all repeats."""
        return [node for chain in self.repeats for part in chain for node in part.nodes()]

    @property
    def parameters(self) -> int:
        """Numbers that are trained, each counted once."""
        layers = [node.layer for node in self.nodes() if node.layer is not None]
        return sum({id(p): p.size for layer in layers for p in layer.parameters()}.values())


@dataclass
class Stage:
    """Units whose results have maps of one size; ``shape`` is that of the last."""

    units: list[Unit]

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), or (features,)."""
        return self.units[-1].shape

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(unit.parameters for unit in self.units)


def stages(model: Module, nodes: dict[int, Node]) -> list[Stage]:
    """The stages of a traced model.

    >>> from minicnn import models
    >>> from minicnn.plot.trace import trace
    >>> model = models.create("resnet18")
    >>> for stage in stages(model, trace(model, (3, 224, 224))):
    ...     print(stage.shape, [(unit.name, len(unit.repeats)) for unit in stage.units])
    (64, 112, 112) [('', 1)]
    (64, 56, 56) [('', 1), ('BasicBlock', 2)]
    (128, 28, 28) [('BasicBlock', 2)]
    (256, 14, 14) [('BasicBlock', 2)]
    (512, 7, 7) [('BasicBlock', 2)]
    (1000,) [('', 1), ('', 1)]
    """
    blocks = _Blocks(model)
    parts = _Decomposer(nodes, blocks).chain(sorted(nodes))
    units = _merged(_units(parts, blocks))
    return [Stage(list(group)) for _, group in groupby(units, key=lambda unit: unit.shape[1:])]


class _Blocks:
    """Which block of the model a layer belongs to: the innermost module that is no mere list."""

    def __init__(self, model: Module) -> None:
        self._names = {
            path: type(module).__name__
            for path, module in model.named_modules()
            if path and any(module.children()) and type(module) not in (Sequential, ModuleList)
        }

    def of(self, nodes: Sequence[Node]) -> str:
        """The path of the innermost block that has all the nodes, or ""."""
        paths = [node.path.split(".") for node in nodes if node.path]
        if not paths:
            return ""
        shared = paths[0][:-1]
        for path in paths[1:]:
            length = 0
            while length < min(len(shared), len(path)) and shared[length] == path[length]:
                length += 1
            shared = shared[:length]
        ends = range(len(shared), 0, -1)
        return next((p for p in (".".join(shared[:e]) for e in ends) if p in self._names), "")

    def name(self, path: str) -> str:
        """The class of the block."""
        return self._names.get(path, "")


class _Decomposer:
    """Takes the graph apart into chains and branches."""

    def __init__(self, nodes: dict[int, Node], blocks: _Blocks) -> None:
        self._nodes, self._readers, self._blocks = nodes, readers(nodes), blocks

    def chain(self, members: list[int]) -> Chain:
        """The chain of some operations, in their order, that touch the others at its ends only."""
        places = {number: place for place, number in enumerate(members)}
        edges = list(self._edges(members, places))
        covered = [0] * (len(members) + 1)
        for start, end in edges:
            covered[start + 1] += 1
            covered[end] -= 1
        found: list[Node | Parallel] = []
        depth, gap = 0, []
        direct = set(edges)
        last = -1
        for place in range(len(members) + 1):
            depth += covered[place]
            at_end = place == len(members)
            if depth and not at_end:
                gap.append(members[place])
                continue
            node = None if at_end else self._nodes[members[place]]
            if gap:
                found.append(self._parallel(gap, node, (last, place) in direct, len(members)))
            elif node:
                found.append(node)
            gap, last = [], place
        return _folded(found, self._blocks)

    def _edges(self, members: list[int], places: dict[int, int]) -> Iterator[tuple[int, int]]:
        """Edges by place; -1 is before the chain and its length behind it."""
        for number, place in places.items():
            for source in self._nodes[number].inputs:
                yield places.get(source, -1), place
            following = self._readers[number]
            if not following or any(reader not in places for reader in following):
                yield place, len(members)

    def _parallel(self, gap: list[int], join: Node | None, direct: bool, whole: int) -> Parallel:
        pieces = self._pieces(gap)
        if len(pieces) == 1 and len(gap) == whole:  # it cannot be taken apart: one after the other
            flat = _folded([self._nodes[number] for number in gap], self._blocks)
            return Parallel([flat], join)
        branches = [self.chain(piece) for piece in pieces]
        parallel = Parallel([*branches, *([[]] if direct else [])], join)
        _find_shortcut(parallel)
        return parallel

    def _pieces(self, gap: list[int]) -> list[list[int]]:
        """The parts of a gap that no edge connects, each in order."""
        inside, seen, pieces = set(gap), set[int](), []
        for start in gap:
            if start in seen:
                continue
            piece, waiting = set[int](), [start]
            while waiting:
                number = waiting.pop()
                if number in inside and number not in piece:
                    piece.add(number)
                    sources = [s for s in self._nodes[number].inputs if s != INPUT]
                    waiting += [*self._readers[number], *sources]
            seen |= piece
            pieces.append(sorted(piece))
        return pieces


def _find_shortcut(parallel: Parallel) -> None:
    """Of two branches, the one that only fits the shape is the shortcut around the other."""
    if len(parallel.branches) != 2 or parallel.join is None:
        return
    for shortcut, body in (parallel.branches, parallel.branches[::-1]):
        if all(map(_only_fits, shortcut)) and _work(body) > max(_work(shortcut), 0):
            parallel.branches, parallel.shortcut = [body], shortcut
            return


def _work(chain: Chain) -> int:
    return sum(node.kind in ("conv2d", "linear") for part in chain for node in part.nodes())


def _only_fits(part: Part) -> bool:
    if isinstance(part, Parallel):
        return False
    layer = part.core.layer if part.core else None
    if isinstance(layer, (AvgPool2d, MaxPool2d)):
        return True
    return part.core is None or getattr(layer, "kernel_size", None) == (1, 1)


def is_light(node: Node) -> bool:
    """Whether an operation is written at its neighbour: it changes each value by itself."""
    return node.kind in LIGHT and (node.layer is None or node.kind != "multiply" or
                                   len(set(node.inputs)) == len(node.inputs))  # fmt: skip


def _folded(found: Sequence[Node | Parallel], blocks: _Blocks) -> Chain:
    """Light operations go to the layer before, or where the chain starts with one, behind them."""
    chain: Chain = []
    waiting: list[Node] = []
    starts_light = bool(found) and isinstance(found[0], Node) and is_light(found[0])
    for item in found:
        if isinstance(item, Parallel):
            if waiting:
                chain.append(Layer(None, waiting))
            chain.append(item)
            waiting = []
        elif not is_light(item):
            chain.append(Layer(item, waiting))
            waiting = []
        elif chain and not waiting and not starts_light and _belongs(item, chain[-1], blocks):
            chain[-1].behind.append(item)
        else:
            waiting.append(item)
    if waiting and chain:
        chain[-1].behind += waiting
    elif waiting:
        chain.append(Layer(None, waiting))
    return chain


def _belongs(item: Node, part: Part, blocks: _Blocks) -> bool:
    """Whether a light operation is of the same block as the part before it, and keeps its size."""
    if item.kind == "reshape":
        return False
    return not item.path or blocks.of([item]) == blocks.of(part.nodes())


def _units(parts: Chain, blocks: _Blocks) -> list[Unit]:
    """Neighbouring parts of one block are one unit."""
    units = []
    keys = [blocks.of(part.nodes()) or place for place, part in enumerate(parts)]
    for key, group in groupby(zip(keys, parts, strict=True), key=lambda pair: pair[0]):
        chain = [part for _, part in group]
        where = key if isinstance(key, str) else ""
        paths = [where or next((n.path for n in chain[0].nodes() if n.path), "")]
        units.append(Unit(blocks.name(where), paths, [chain], chain[-1].nodes()[-1].shape))
    return units


def _merged(units: list[Unit]) -> list[Unit]:
    """Equal blocks in a row, with maps of one size, become one unit."""
    merged: list[Unit] = []
    for unit in units:
        last = merged[-1] if merged else None
        if last and unit.name and last.shape[1:] == unit.shape[1:] and (
            signature(last.repeats[-1]) == signature(unit.repeats[0])
        ):  # fmt: skip
            last.repeats += unit.repeats
            last.paths += unit.paths
            last.shape = unit.shape
        else:
            merged.append(unit)
    return merged


def signature(chain: Chain) -> tuple[object, ...]:
    """What two blocks must have in common to be drawn as one."""
    return tuple(_signature(part) for part in chain)


def _signature(part: Part) -> tuple[object, ...]:
    if isinstance(part, Layer):
        layer = part.core.layer if part.core else None
        size, groups = getattr(layer, "kernel_size", None), getattr(layer, "groups", 1)
        kinds = [[node.kind for node in nodes] for nodes in (part.before, part.behind)]
        return type(layer).__name__, size, groups, str(kinds)
    branches = tuple(signature(branch) for branch in part.branches)
    join = part.join.kind if part.join else ""
    return branches, join, part.shortcut is None, str([node.kind for node in part.behind])
