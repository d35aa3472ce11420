"""Reverse-mode automatic differentiation, to be read in one sitting.

Calling an `Op` on tensors computes its result at once and remembers how it came about: the result
points to the op, and the op to the ops that made its inputs. `Tensor.backward` walks these pointers
from the newest op to the oldest and applies the chain rule:

    x --Conv2d--> a --Relu--> b --CrossEntropy--> loss        forward, left to right
    gx <--------- ga <------- gb <--------------- 1           backward, right to left

An op keeps for backward only the arrays that it asks for with `Op.save`; an intermediate result
that nobody saved or holds is freed as soon as the forward pass moves on, and the saved ones as
backward passes them. Only first derivatives: backward works on raw arrays and builds no graph.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from minicnn._checks import check_call, check_gradient, check_unchanged, guarded, snake_case
from minicnn._grad_mode import is_grad_enabled, no_grad
from minicnn._numpy_calls import without_tensors
from minicnn.errors import DTypeError, GraphError, ShapeError
from minicnn_kernels import registry
from minicnn_kernels.reference import Kernels

__all__ = ["Op", "Tensor", "apply", "is_grad_enabled", "no_grad", "note_change", "tensor_method"]

Array = Any
_creation_order = itertools.count()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.record: Callable[[Op, tuple[Any, ...], Tensor], None] | None = None


_thread = _Thread()


class Tensor:
    """An array that knows how it was computed.

    ``array`` may be a NumPy or CuPy array, which is taken as it is and must not be changed while a
    graph uses it, or numbers and nested lists, which become float32 (integers stay integers). One
    in the byte order of another machine is copied into this one's.

    Attributes
        array : the values
        grad : the gradient of the last backward passes, an array like ``array``, or None
        requires_grad : whether gradients flow to this tensor

    >>> x = Tensor([3.0], requires_grad=True)
    >>> y = x * x + 2 * x
    >>> y.backward(np.ones(1, np.float32))
    >>> x.grad
    array([8.], dtype=float32)
    """

    __slots__ = ("__weakref__", "array", "grad", "op", "requires_grad")
    __array_priority__ = 1000  # NumPy's operators leave ``array + tensor`` to Tensor.__radd__
    __array_ufunc__ = None
    changed_at = -1  # on the clock of `_creation_order`; see `note_change`

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        array = array.array if isinstance(array, Tensor) else array
        if not (hasattr(array, "dtype") and hasattr(array, "shape")):
            array = np.asarray(array)
            if array.dtype == np.float64:
                array = array.astype(np.float32)
        elif isinstance(array, np.generic):
            array = np.asarray(array)
        if getattr(array.dtype, "kind", "?") not in "fiub":
            registry.device_of(array)  # an array of another library: says so
            raise DTypeError(f"Tensor: cannot hold {array.dtype} values; pass numbers or booleans.")
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if requires_grad and array.dtype.kind != "f":
            raise DTypeError(
                f"Tensor: requires_grad needs floating-point values, not {array.dtype}; "
                "convert them with .astype(np.float32)."
            )
        self.array: Array = array
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.op: Op | None = None

    # -- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the values."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """Number of values."""
        return self.array.size

    @property
    def is_leaf(self) -> bool:
        """True for a tensor that no op made: gradients are kept only in leaves."""
        return self.op is None

    def __len__(self) -> int:
        if self.ndim == 0:
            raise ShapeError("len: the tensor is a single number and has no length; use .item().")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return function(*without_tensors(args), **without_tensors(kwargs))

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", threshold=100)
        made = f", op={self.op.name}" if self.op else ""
        return f"Tensor({values}{made}{', requires_grad=True' if self.requires_grad else ''})"

    # -- leaving the graph

    def numpy(self) -> np.ndarray[Any, np.dtype[Any]]:
        """The values as a NumPy array; on the CPU it shares memory with the tensor."""
        return self.array if isinstance(self.array, np.ndarray) else self.array.get()

    def item(self) -> float | int | bool:
        """The value of a one-element tensor as a Python number.

        >>> Tensor([[2.5]]).item()
        2.5
        """
        if self.size != 1:
            raise ShapeError(
                f"item: the tensor has {self.size} values, shape {self.shape}; "
                "reduce it to one first, or use .numpy()."
            )
        return self.array.item()

    def detach(self) -> Tensor:
        """A tensor of the same array that gradients do not flow through."""
        return Tensor(self.array)

    # -- gradients

    def retain_grad(self) -> Tensor:
        """Keep ``grad`` of this intermediate result too in the next backward; returns self."""
        if self.op is not None:
            self.op.retain = weakref.ref(self)
        return self

    def backward(self, gradient: Array | None = None, on_leaf: Any = None) -> None:
        """Add the gradient of this tensor to ``grad`` of every leaf that it was computed from.

        ``gradient`` is the gradient of the final result by this tensor, an array like it; a single
        number needs none (1 is meant). ``on_leaf(leaf)`` is called after each addition. The graph
        is freed: a second call needs a second forward. Raises `ShapeError`, and `GraphError`, also
        where an optimizer or load_state_dict has written into a parameter that is needed on the
        way. What you write into arrays yourself (``p.array -= ...``) is not noticed: the gradients
        of a graph from before are wrong then.
        """
        if not self.requires_grad:
            raise GraphError(
                "backward: this tensor does not require gradients; compute it from tensors with "
                "requires_grad=True, outside no_grad()."
            )
        if gradient is None:
            if self.size != 1:
                raise GraphError(
                    f"backward: the tensor has {self.size} values, shape {self.shape}; reduce it "
                    "to one (for example with .mean()) or pass the gradient of each value."
                )
            gradient = registry.kernels_for("backward", (self.array,)).xp.ones_like(self.array)
        else:
            gradient = Tensor(gradient).array
        check_gradient("backward: gradient", gradient, (self.shape, self.dtype))
        if self.op is None:
            _accumulate_leaf(self, gradient, fresh=False)
        else:
            _backpropagate(self.op, gradient, on_leaf)

    if TYPE_CHECKING:  # installed by `minicnn.functional`, one floor up (see `tensor_method`)

        def __getattr__(self, name: str) -> Callable[..., Tensor]: ...
        def __neg__(self) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __hash__(self) -> int: ...

        __ne__ = __eq__  # type: ignore[assignment]
        __lt__ = __le__ = __gt__ = __ge__ = __add__
        __sub__ = __mul__ = __truediv__ = __pow__ = __matmul__ = __getitem__ = __add__
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __add__


class Op:
    """One differentiable operation: subclass it, write `forward` and `backward`, call `apply`.

    An op object is used once. Settings go into ``__init__``; what backward needs goes into `save`.
    In `backward`, ``self.needs[i]`` tells whether the gradient by argument i is wanted.

    >>> class Square(Op):
    ...     def forward(self, k, x):
    ...         self.save(x)
    ...         return k.multiply(x, x)
    ...     def backward(self, k, gy):
    ...         (x,) = self.saved
    ...         return k.multiply(gy, 2 * x)
    >>> x = Tensor([3.0], requires_grad=True)
    >>> apply(Square(), x).backward()
    >>> x.grad
    array([6.], dtype=float32)
    """

    needs: tuple[bool, ...] = ()
    saved: tuple[Any, ...] = ()
    freed = False
    changed_at = -1  # as a parent, beside tensors
    retain: weakref.ref[Tensor] | None = None
    # Set by `apply` where gradients flow: the makers of the inputs (an op, a leaf tensor or None),
    # shape and dtype of the inputs, the kernel set of the forward pass, and the age.
    parents: tuple[Op | Tensor | None, ...] = ()
    specs: tuple[tuple[tuple[int, ...], Any] | None, ...] = ()
    k: Kernels
    order: int

    @property
    def name(self) -> str:
        """What error messages call the operation: the class name in snake case."""
        return snake_case(type(self).__name__)

    def forward(self, k: Kernels, *arrays: Any) -> Array:
        """Compute the result from raw arrays (numbers and None pass through) with kernel set k."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, k, ...)")

    def backward(self, k: Kernels, gy: Array) -> Any:
        """From the gradient by the result, compute the gradient by each argument.

        One array, or a tuple with an array or None for each argument; None means zero.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward(self, k, gy)")

    def save(self, *arrays: Any) -> None:
        """Keep arrays for `backward`, in ``self.saved``; does nothing where none will come."""
        if any(self.needs):
            self.saved = arrays


def apply(op: Op, *arguments: Any) -> Tensor:
    """Run an op on tensors, arrays, numbers and None, and connect the result to the graph.

    All floating-point arrays must have one dtype and all arrays one device. Raises `DTypeError`,
    `DeviceError`, `GraphError` for an op that was applied before, and what the op raises.

    >>> from minicnn.functional.activation import Relu
    >>> apply(Relu(), Tensor([-1.0, 1.0])).array
    array([0., 1.], dtype=float32)
    """
    arrays = [a.array if isinstance(a, Tensor) else a for a in arguments]
    k = registry.kernels_for(op.name, arrays)
    check_call(op, arrays)
    grad_enabled = is_grad_enabled()
    op.needs = tuple(grad_enabled and isinstance(a, Tensor) and a.requires_grad for a in arguments)
    result = Tensor(guarded(op, op.forward, k, *arrays))
    if _thread.record is not None:
        _thread.record(op, arguments, result)
    if any(op.needs):
        op.parents = tuple(
            (a.op or a) if needed else None for a, needed in zip(arguments, op.needs, strict=True)
        )
        op.specs = tuple(
            (a.shape, a.dtype) if needed else None
            for a, needed in zip(arrays, op.needs, strict=True)
        )
        op.k = k
        op.order = next(_creation_order)
        result.op = op
        result.requires_grad = True
    return result


def note_change(parameter: Any) -> None:
    """Note that the array of a parameter is another one now: older ops that saved it are stale."""
    parameter.changed_at = next(_creation_order)


_F = TypeVar("_F", bound=Callable[..., Any])


def tensor_method(*names: str) -> Callable[[_F], _F]:
    """Make a function of a tensor a method of `Tensor` too, under the given names."""

    def install(function: _F) -> _F:
        for name in names:
            setattr(Tensor, name, function)
        return function

    return install


def _backpropagate(root: Op, gradient: Array, on_leaf: Any) -> None:
    """Visit ops from the newest to the oldest: then every gradient is complete when it is used."""
    gradients: dict[Op, tuple[Array, bool]] = {root: (gradient, False)}
    heap = [(-root.order, root)]
    while heap:
        op = heapq.heappop(heap)[1]
        for parent, gx, fresh in _step(op, gradients.pop(op)[0]):
            if isinstance(parent, Tensor):
                _accumulate_leaf(parent, gx, fresh)
                if on_leaf is not None:
                    on_leaf(parent)
            elif parent in gradients:
                gradients[parent] = _added(gradients[parent], gx)
            else:
                gradients[parent] = (gx, fresh)
                heapq.heappush(heap, (-parent.order, parent))


def _step(op: Op, gy: Array) -> list[tuple[Op | Tensor, Array, bool]]:
    """Run one op backward and free it; -> (maker of an input, its gradient, is that fresh)."""
    if op.freed:
        raise GraphError(
            f"backward: the graph of {op.name} is already freed by an earlier backward; "
            "run the forward pass again."
        )
    if op.retain is not None and (tensor := op.retain()) is not None:
        tensor.grad = gy.copy()
    saved = op.saved
    results = guarded(op, op.backward, op.k, gy)
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != len(op.parents):
        raise GraphError(
            f"{op.name}: backward returned {len(results)} gradients for {len(op.parents)} "
            "arguments; return one array or None for each."
        )
    steps = []
    for i, (parent, spec, gx) in enumerate(zip(op.parents, op.specs, results, strict=True)):
        if parent is not None and spec is not None and gx is not None:
            gx = np.asarray(gx) if isinstance(gx, np.generic) else gx
            check_gradient(f"{op.name}: the gradient by argument {i}", gx, spec)
            if parent.changed_at > op.order:
                check_unchanged(op, saved, parent)
            others = (gy, *saved, *results[:i], *results[i + 1 :])
            steps.append((parent, gx, _is_fresh(gx, others)))
    op.saved, op.parents, op.freed = (), (), True
    return steps


def _is_fresh(gx: Array, others: tuple[Any, ...]) -> bool:
    """True where nobody else can hold the memory of gx, so that it may be added to in place."""
    return gx.base is None and not any(
        other is gx or getattr(other, "base", None) is gx for other in others
    )


def _accumulate_leaf(leaf: Tensor, gx: Array, fresh: bool) -> None:
    """A leaf owns its gradient: shared memory is copied, later contributions are added in place."""
    if leaf.grad is None:
        leaf.grad = gx if fresh else gx.copy()
    else:
        leaf.grad += gx


def _added(total: tuple[Array, bool], gx: Array) -> tuple[Array, bool]:
    """The first contribution may be borrowed; from the second on the sum has memory of its own."""
    array, owned = total
    if owned:
        array += gx
        return array, True
    array = array + gx
    return (np.asarray(array) if isinstance(array, np.generic) else array), True
