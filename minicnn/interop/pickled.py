"""Reading a pickle as data: a small machine that builds dicts, lists and numbers and runs nothing.

A pickle is a program for a machine with a stack. Most of its instructions push a number or a text,
or gather what lies above a mark into a tuple, list or dict; a memo keeps values that are used
again. Two instructions make a pickle as powerful as Python itself: GLOBAL fetches any object of any
module, and REDUCE calls it. Python's `pickle.load` obeys, which is why it must never meet a file
from a stranger: ``os.system`` is an object of a module too.

Here GLOBAL looks its name up in a table that the caller gives, and imports nothing; a name that is
not in the table ends the reading. REDUCE calls only those entries of the table that are a
`Constructor`, functions written for that purpose. The instructions themselves are decoded by
`pickletools`, which only reports what it finds. The work is a loop without recursion, and every
value that it makes takes no more memory than the instructions that made it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Constructor", "Unreadable", "read_pickle"]

_SCALARS = (str, bytes, int, float, type(None))  # True and False are of type int


class Unreadable(Exception):
    """Why a file cannot be read: the rest of a sentence that begins with the file's name."""


@dataclass(frozen=True)
class Constructor:
    """A function that a pickle may call, under the name that the table gives it."""

    build: Callable[..., Any]


def read_pickle(
    data: bytes, table: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Return the value that a pickle describes, made of plain values and of those in ``table``.

    data : the pickle, of any protocol
    table : what each global that the pickle may name stands for, by "module.name"
    persistent : makes a value of a persistent id, the pickle's reference to something beside it

    Raises `Unreadable` for a damaged pickle and for a global that is not in the table.

    >>> import pickle
    >>> read_pickle(pickle.dumps({"epoch": 3, "sizes": [(2, 3)]}), {})
    {'epoch': 3, 'sizes': [(2, 3)]}
    >>> read_pickle(pickle.dumps(print), {})
    Traceback (most recent call last):
    minicnn.interop.pickled.Unreadable: asks for builtins.print, ...
    """
    machine = _Machine(table, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except Unreadable:
        raise
    except Exception as error:  # what pickletools says about damaged input is not documented
        raise Unreadable(
            f"is damaged: its pickle cannot be read ({error!s:.200}); fetch or save it again."
        ) from error
    raise AssertionError("pickletools ends with STOP or raises")


class _Machine:
    """The stack, the stacks below the open marks, and the memo."""

    def __init__(self, table: Mapping[str, Any], persistent: Callable[[Any], Any] | None) -> None:
        self.table, self.persistent = table, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSH:
            self.push(argument)
        elif name in _CONSTANTS:
            self.push(_CONSTANTS[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _IGNORED:
            raise Unreadable(
                f"is not a dictionary of weights: its pickle has the instruction {name}, which "
                "none needs; save it again with torch.save(model.state_dict(), path)."
            )

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self, argument: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def above_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def tuple_of(self, count: int) -> None:
        if count > len(self.stack):
            raise ValueError("a tuple of more values than there are")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        self.push(tuple(values))

    def remember(self, place: int | None) -> None:
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def recall(self, place: int) -> None:
        self.push(self.memo[place])

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("items for something that is not a list")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError("entries for something that is not a dict")
        target.update(pairs(values[::2], values[1::2]))

    def find_global(self, name: str) -> None:
        if name not in self.table:
            shown = repr(name[:200].replace("__builtin__.", "builtins."))[1:-1]
            raise Unreadable(
                f"asks for {shown}, which no dictionary of weights needs and which was not run; if "
                "you trust the file, load it with PyTorch and save the weights alone: "
                "torch.save(model.state_dict(), path)."
            )
        self.push(self.table[name])

    def stack_global(self, argument: None) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a global without a name")
        self.find_global(f"{module}.{name}")

    def reduce(self, argument: None) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Constructor) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is not a function")
        self.push(function.build(*arguments))

    def build(self, argument: None) -> None:
        """Drop the attributes of a dict: a state dict's are the versions of its layers."""
        self.pop()
        if not isinstance(self.stack[-1], dict):
            raise ValueError("attributes for something that is not a dict")

    def refer(self, argument: None) -> None:
        if self.persistent is None:
            raise ValueError("a persistent id, but nothing beside the pickle")
        self.push(self.persistent(self.pop()))


def pairs(keys: list[Any], values: list[Any]) -> dict[Any, Any]:
    """The dict of keys and values; keys must be scalars, since hashing a deep tuple recurses.

    >>> pairs(["a"], [[]])
    {'a': []}
    """
    if not all(isinstance(key, _SCALARS) for key in keys):
        raise ValueError("a key that is neither text nor number")
    return dict(zip(keys, values, strict=True))


_PUSH = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
))  # fmt: skip
_IGNORED = frozenset(("PROTO", "FRAME"))
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "TUPLE": lambda m, _: m.push(tuple(m.above_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.above_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.above_mark()),
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": lambda m, name: m.find_global(name.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.refer,
}
