"""`Module`: what all layers and networks are.

Assigning registers: a `Parameter` becomes a parameter, a `Module` a part, and a name that
`Module.register_buffer` introduced stays a buffer. Names and state-dict keys are PyTorch's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Self

import numpy as np

from minicnn.autograd import note_change
from minicnn.errors import ArgumentError, DTypeError, nearest
from minicnn.nn._arrays import Array, check_device, on_device, to_numpy, write
from minicnn.nn.attributes import Attributes, joined, unique
from minicnn.nn.calls import running
from minicnn.nn.hooks import RemovableHandle
from minicnn.nn.parameter import Parameter, has_weights, zero_grad
from minicnn.nn.state import IncompatibleKeys, checked_state
from minicnn_kernels import registry


class Module(Attributes):
    """The base class of layers and networks: subclass it and define ``forward``.

    ``training`` tells layers such as dropout which of their two behaviours is wanted; `train` and
    `eval` set it for all parts.

    >>> from minicnn import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.body = nn.Linear(4, 3)
    ...         self.head = nn.Linear(3, 2, bias=False)
    ...     def forward(self, x):
    ...         return self.head(self.body(x).relu())
    >>> [name for name, _ in Net().named_parameters()]
    ['body.weight', 'body.bias', 'head.weight']
    """

    training: bool
    #: names of own parameters and buffers that a state dict may lack
    optional_state: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.training = True
        self._forward_pre_hooks: dict[int, Callable[..., Any]] = {}
        self._forward_hooks: dict[int, Callable[..., Any]] = {}

    # -- running

    def _forward_undefined(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} has no forward(); define it in the class (of a ModuleList or "
            "ModuleDict, call the members one by one)."
        )

    forward: Callable[..., Any] = _forward_undefined

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pre-hooks, ``forward`` and the hooks.

        An exception gets a note that says in which module it happened, and with what input.
        """
        running.stack.append(self)
        try:
            for pre_hook in list(self._forward_pre_hooks.values()):
                changed = pre_hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
            output = self.forward(*args, **kwargs)
            for hook in list(self._forward_hooks.values()):
                changed = hook(self, args, output)
                output = output if changed is None else changed
            return output
        except Exception as error:
            error.add_note(
                running.note((*args, *(v for v in kwargs.values() if hasattr(v, "shape"))))
            )
            raise
        finally:
            running.stack.pop()

    def predict(self, images: Any, batch_size: int = 32) -> np.ndarray:
        """Return class probabilities (N, K) for images (N, C, H, W), computed in eval mode.

        Safe in several threads; the mode stays as it is, and an image's result does not depend on
        the others: see `minicnn.nn.prediction`.

        >>> from minicnn import nn
        >>> nn.Sequential(nn.Flatten(), nn.Dropout()).predict(np.zeros((3, 1, 1, 2), np.float32))[0]
        array([0.5, 0.5], dtype=float32)
        """
        from minicnn.nn.prediction import predict  # it stands on modules itself

        return predict(self, images, batch_size)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, args)`` before every forward.

        What it returns, if anything, is used as the arguments instead.

        >>> from minicnn import nn
        >>> layer = nn.Identity()
        >>> with layer.register_forward_pre_hook(lambda module, args: args[0] + 1):
        ...     layer(1)
        2
        """
        return RemovableHandle(self._forward_pre_hooks, hook)

    @property
    def has_hooks(self) -> bool:
        """Whether a hook waits for this module's input or output."""
        return bool(self._forward_hooks or self._forward_pre_hooks)

    def register_forward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after every forward.

        What it returns, if anything, replaces the output.

        >>> from minicnn import nn
        >>> layer = nn.Identity()
        >>> handle = layer.register_forward_hook(lambda module, args, output: print(output))
        >>> layer(7)
        7
        7
        >>> handle.remove()
        """
        return RemovableHandle(self._forward_hooks, hook)

    # -- walking

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield (path, module) for this module ("") and all its parts, shared ones once."""
        yield from unique(self._walk(prefix))

    def modules(self) -> Iterator[Module]:
        """Yield this module and all its parts, shared ones once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for the direct parts, shared ones once."""
        yield from unique((name, m) for name, m in self._modules.items() if m is not None)

    def children(self) -> Iterator[Module]:
        """Yield the direct parts, shared ones once."""
        for _, module in self.named_children():
            yield module

    def get_submodule(self, path: str) -> Module:
        """Return the part at a path such as ``"features.0"``; raises `ArgumentError`."""
        known = dict(self._walk(""))
        if path not in known:
            raise ArgumentError(
                f"{type(self).__name__} has no part {path!r}; {nearest(path, known)}"
                f"it has {', '.join(name for name in known if name) or 'none'}."
            )
        return known[path]

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield (path, parameter), shared ones once."""
        yield from unique(self._entries("_parameters", prefix, recurse))

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters, shared ones once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Array]]:
        """Yield (path, array) for the buffers, shared ones once."""
        yield from unique(self._entries("_buffers", prefix, recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Array]:
        """Yield the buffers, shared ones once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def num_parameters(self) -> int:
        """Count the numbers in all parameters, shared ones once.

        >>> from minicnn import nn
        >>> nn.Linear(4, 3).num_parameters()
        15
        """
        return sum(parameter.size for parameter in self.parameters())

    # -- state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and buffers, as NumPy arrays by path.

        >>> from minicnn import nn
        >>> {name: a.shape for name, a in nn.Sequential(nn.Linear(4, 3)).state_dict().items()}
        {'0.weight': (3, 4), '0.bias': (3,)}
        """
        return {name: to_numpy(array) for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Overwrite parameters and buffers, in place, with the arrays of a state dict.

        Tensors of PyTorch in the memory of the CPU serve too.
        Everything is checked first: one `StateDictError` lists every missing, unexpected and
        mismatched entry, and then nothing is changed. ``strict=False`` leaves missing and
        unexpected entries alone and returns their names. float32 and float64 are cast to what the
        module has. Counters that old files lack (``num_batches_tracked``) may be missing.
        Parameters made under `without_weights` get their memory here.
        """
        own = self._state()
        optional = {joined(path, name) for path, m in self._walk("") for name in m.optional_state}
        arrays, keys = checked_state(type(self).__name__, own, optional, state, strict)
        values = {name: on_device(array, "cpu") for name, array in arrays.items()}
        self._give_memory(values)
        own = self._state()
        for name, array in values.items():
            write(own[name], array)
        for name, parameter in self._entries("_parameters", "", recurse=True):
            if name in values:
                note_change(parameter)
        return keys

    def _give_memory(self, names: Collection[str]) -> None:
        """Zeros of their own for the parameters of these names that have no memory."""
        entries = self._entries("_parameters", "", recurse=True)
        blank = {id(p): p for name, p in entries if name in names and not has_weights(p)}
        # all or none, where memory is short
        memory = [np.zeros(p.shape, p.dtype) for p in blank.values()]
        for parameter, array in zip(blank.values(), memory, strict=True):
            parameter.array = array

    def _state(self) -> dict[str, Array]:
        entries: dict[str, Array] = {}
        for path, module in self._walk(""):
            for kind in ("_parameters", "_buffers"):
                for name, value in module._entries(kind, path, recurse=False):
                    entries[name] = value.array if isinstance(value, Parameter) else value
        return entries

    # -- changing all parts

    def train(self, mode: bool = True) -> Self:
        """Switch this module and its parts to training, or with False to evaluation.

        Returns self.
        """
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Switch this module and its parts to evaluation; return self."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or with False fill them with zeros in place."""
        zero_grad(self.parameters(), set_to_none)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Train all parameters, or with False freeze them; return self."""
        for parameter in self.parameters():
            parameter.requires_grad = bool(requires_grad)
        return self

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call ``function(module)`` for every part and at last this module; return self."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def astype(self, dtype: Any) -> Self:
        """Convert floating-point parameters and buffers to ``dtype``, for example np.float64.

        Gradients are forgotten; make the optimizer afterwards. Returns self.
        """
        wanted = np.dtype(dtype)
        if wanted.kind != "f":
            raise DTypeError(f"astype: {wanted} is not a floating-point type; use np.float32.")
        return self._convert(lambda a: a.astype(wanted) if a.dtype.kind == "f" else a)

    def to(self, device: str) -> Self:
        """Move all parameters and buffers to "cpu" or "cuda", or none of them; return self.

        Gradients are forgotten; what an optimizer remembers follows at its next step. Raises
        `DeviceError`, `BackendError`, `OutOfMemoryError`.
        """
        check_device(device, "to")
        return self._convert(lambda a: on_device(a, device))

    @property
    def device(self) -> str:
        """Where the parameters (or, without any, the buffers) are: "cpu" or "cuda"."""
        arrays = itertools.chain((p.array for p in self.parameters()), self.buffers())
        return next(map(registry.device_of, arrays), "cpu")

    def _convert(self, convert: Callable[[Array], Array]) -> Self:
        parameters = [(p, convert(p.array)) for p in self.parameters()]
        buffers = [
            (module._buffers, name, convert(array))
            for module in self.modules()
            for name, array in module._buffers.items()
            if array is not None
        ]
        for parameter, array in parameters:
            parameter.array, parameter.grad = array, None
        for owner, name, array in buffers:
            owner[name] = array
        return self

    # -- printing

    def extra_repr(self) -> str:
        """Settings of the layer, for ``repr``; to be overridden."""
        return ""

    def __repr__(self) -> str:
        parts = [
            f"({name}): {module!r}".replace("\n", "\n  ")
            for name, module in self._modules.items()
            if module is not None
        ]
        settings = self.extra_repr()
        if not parts:
            return f"{type(self).__name__}({settings})"
        lines = [settings] * bool(settings) + parts
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"


def check_module(model: Any, caller: str) -> None:
    """Raise `ArgumentError` where a model is a name, a class or anything else than a module."""
    if isinstance(model, Module):
        return
    what, cure = f"a {type(model).__name__}", "pass a network or a layer"
    if isinstance(model, str):
        what, cure = repr(model), f"build it with models.create({model!r})"
    elif isinstance(model, type) and issubclass(model, Module):
        what, cure = f"the class {model.__name__}", f"pass an object, {model.__name__}(...)"
    raise ArgumentError(f"{caller}: model is {what}, not a module; {cure}.")
