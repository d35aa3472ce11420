"""An ONNX graph under construction: nodes, and the arrays that they read by name.

ONNX (onnx.ai, "Open Neural Network Exchange") describes a network as a list of nodes. A node has an
operator ("Conv"), names of its inputs and outputs, and attributes. Names connect nodes; arrays with
a name of their own are "initializers". The operators change with the version of the operator set,
the opset; what is written here is `OPSET`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.interop.onnx_trace import Constant, Step, Value

#: ONNX 1.12 (2022): what runtimes on all kinds of devices read. Reductions still have their axes as
#: attributes (18 makes them inputs), and nothing that is written here was better said later.
OPSET = 17
#: the version of the file format that ONNX 1.12 wrote; a newer one is refused by older readers
IR_VERSION = 8


class GraphWriter:
    """Collects nodes and initializers; ``helper`` is the module onnx.helper."""

    def __init__(self, helper: Any) -> None:
        self.helper = helper
        self.nodes: list[Any] = []
        self.initializers: dict[str, np.ndarray] = {}
        self._names: set[str] = set()
        self._arrays: dict[tuple[str, int], str] = {}

    def node(
        self, step: Step, kind: str, inputs: list[Any], last: bool = True, **attrs: Any
    ) -> str:
        """Append a node; returns the name of its output, which is the step's if it is the last.

        Inputs are names, or what `name` takes; trailing ones that are None are left out.
        """
        names = [x if isinstance(x, str) else self.name(x, step) for x in inputs]
        while names and not names[-1]:
            names.pop()
        between = f"{step.output.name}.{kind}.between"  # no last node has such a name
        output = step.output.name if last else self.fresh(between)
        title = f"{step.output.name}.{kind}" if last else output
        self.nodes.append(self.helper.make_node(kind, names, [output], title, **attrs))
        return output

    def name(self, x: Any, step: Step) -> str:
        """What a value, a constant or a number is called; "" for None, an input left out."""
        if x is None:
            return ""
        if isinstance(x, Value):
            return x.name
        if isinstance(x, Constant):
            return self.array(x.name, x.array)
        return self.array(f"{step.output.name}.number", np.array(x, np.float32))

    def array(self, name: str, array: Any) -> str:
        """Enter an array as an initializer, once; returns its name."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))  # which makes () into (1,)
        key = name, id(array)
        known = self.initializers.get(name)
        if known is not None and known.dtype == array.dtype and np.array_equal(known, array):
            return name
        if key not in self._arrays:
            self._arrays[key] = self.fresh(name)
            self.initializers[self._arrays[key]] = array
        return self._arrays[key]

    def ints(self, step: Step, name: str, numbers: Any) -> str:
        """Enter whole numbers, such as a shape or axes."""
        return self.array(f"{step.output.name}.{name}", np.array(numbers, np.int64))

    def fresh(self, name: str) -> str:
        """The name, numbered if it is taken."""
        chosen, number = name, 1
        while chosen in self._names:
            number += 1
            chosen = f"{name}_{number}"
        self._names.add(chosen)
        return chosen
