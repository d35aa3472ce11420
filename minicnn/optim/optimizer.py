"""`Optimizer`: what all optimizers share, parameter groups and their state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, cast

from minicnn.autograd import note_change
from minicnn.errors import ArgumentError, DTypeError, GraphError, ShapeError, nearest
from minicnn.nn._arrays import Array, on_device, to_numpy, write
from minicnn.nn.module import Module
from minicnn.nn.parameter import Parameter, zero_grad
from minicnn.optim.state import checked_state
from minicnn_kernels import registry
from minicnn_kernels.reference import Kernels

Params = Iterable[Parameter] | Iterable[dict[str, Any]]


class Optimizer:
    """The base class: subclass it and define ``_checked`` and ``_update``.

    params : the parameters to train, as `Module.parameters` yields them; or dicts, each a group
        with hyperparameters of its own: ``{"params": [...], "lr": 0.1}``
    defaults : hyperparameters of the groups that do not set their own

    Attributes
        param_groups : one dict a group, with its ``params`` and hyperparameters, which may be
            changed between steps, as schedules do
        state : what the optimizer remembers of each parameter
        changing : every number that may be another one in the next step passes through it on its
            way to a kernel; a captured graph puts it on the device here
    """

    #: names of the arrays, of a parameter's shape, that the state of a parameter can hold
    state_arrays: ClassVar[tuple[str, ...]] = ()
    #: names of the whole numbers in it
    state_counts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = self._checked(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Parameter, dict[str, Any]] = {}
        self.changing: Callable[[float], Any] = float
        for group in _as_groups(params, self._name):
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _checked(self, hyperparameters: dict[str, Any]) -> dict[str, Any]:
        """The hyperparameters in their plain form, or `ArgumentError`."""
        raise NotImplementedError

    def _update(
        self,
        k: Kernels,
        params: list[Array],
        grads: list[Array],
        states: list[dict[str, Any]],
        group: dict[str, Any],
    ) -> None:
        """Change params in place, all of one group and on one device, given their gradients.

        One call of a kernel for all of them costs a GPU little more than one for a single array.
        What changes from step to step, such as the learning rate, goes through `changing`.
        """
        raise NotImplementedError

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Train more parameters: ``{"params": [...]}``, with hyperparameters of their own if given.

        Raises `ArgumentError` for an empty list, what is no `Parameter`, a parameter that is
        trained already, and unknown hyperparameters.
        """
        number = len(self.param_groups)
        if "params" not in group:
            raise ArgumentError(f"{self._name}: group {number} lacks 'params', the list to train.")
        own = {name: value for name, value in group.items() if name != "params"}
        for name in own:
            if name not in self.defaults:
                raise ArgumentError(
                    f"{self._name}: group {number} sets {name!r}; {nearest(name, self.defaults)}"
                    f"the hyperparameters are {', '.join(self.defaults)}."
                )
        params = [group["params"]] if isinstance(group["params"], Parameter) else group["params"]
        checked = self._checked({**self.defaults, **own})
        params = self._checked_params(params, number)
        self.param_groups.append({"params": params, **checked})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or with False fill them with zeros in place."""
        zero_grad(self._params(), set_to_none)

    def step(self) -> None:
        """Update every parameter that has a gradient, in place.

        Raises `GraphError` if none has: then ``loss.backward()`` was not called.
        """
        if all(p.grad is None for p in self._params()):
            raise GraphError(
                f"{self._name}.step: no parameter has a gradient; call loss.backward() first, and "
                "zero_grad() before the forward pass."
            )
        for p in self._params():
            self._check_gradient(p)
        try:
            for group in self.param_groups:
                for k, (params, grads, states) in self._by_device(group).items():
                    self._update(k, params, grads, states, group)
        except MemoryError as error:
            registry.raise_out_of_memory(f"{self._name}.step", error)
        finally:
            for p in self._params():
                if p.grad is not None:
                    note_change(p)

    def advance(self) -> None:
        """Count a step that a captured graph is to take, without touching an array.

        What `step` passes to `changing` is passed again, with the values of this step: the same
        code runs, only its kernels do nothing.
        """
        for group in self.param_groups:
            for k, (params, grads, states) in self._by_device(group).items():
                self._update(cast(Kernels, _Idle(k.xp)), params, grads, states, group)

    def _check_gradient(self, p: Parameter) -> None:
        g = p.grad
        if g is not None and (g.shape, g.dtype) != (p.shape, p.dtype):
            wrong = ShapeError if g.shape != p.shape else DTypeError
            raise wrong(
                f"{self._name}.step: a gradient is {g.shape} {g.dtype}, but its parameter is "
                f"{p.shape} {p.dtype}; they must be equal."
            )

    def _by_device(self, group: dict[str, Any]) -> dict[Kernels, tuple[list[Any], ...]]:
        """What is to be updated, as (arrays, gradients, states), for each kernel set."""
        found: dict[Kernels, tuple[list[Any], ...]] = {}
        for p in group["params"]:
            if p.grad is not None:
                state = self.state.setdefault(p, {})
                k = self._kernels_for(p, state)
                if k not in found:
                    found[k] = [], [], []
                params, grads, states = found[k]
                params.append(p.array)
                grads.append(p.grad)
                states.append(state)
        return found

    def _kernels_for(self, p: Parameter, state: dict[str, Any]) -> Kernels:
        """The kernel set of a parameter's device, to which its state follows it."""
        remembered = [state[name] for name in self.state_arrays if name in state]
        device = registry.device_of(p.array)
        if registry.device_of(p.grad) != device:
            return registry.kernels_for(f"{self._name}.step", (p.array, p.grad))  # says so
        if any(registry.device_of(array) != device for array in remembered):
            for name in set(self.state_arrays) & set(state):
                state[name] = on_device(state[name], device)
        return registry.kernels(device)

    # -- state

    def state_dict(self) -> dict[str, Any]:
        """Return the hyperparameters and what is remembered of each parameter.

        ``{"groups": [{"params": [0, 1], "lr": 0.1, ...}], "state": {"0": {...}}}``, where
        parameters are numbered in order. All of it is plain data except the NumPy arrays, copies,
        in the entries of "state".
        """
        numbers = {p: i for i, p in enumerate(self._params())}
        groups = [
            {**_plain(group), "params": [numbers[p] for p in group["params"]]}
            for group in self.param_groups
        ]
        state = {
            str(numbers[p]): {
                name: to_numpy(v) if name in self.state_arrays else v for name, v in entry.items()
            }
            for p, entry in self.state.items()
            if entry
        }
        return {"groups": groups, "state": state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken, hyperparameters included.

        The optimizer must have been made with the same parameters in the same groups and order.
        Raises one `StateDictError` that lists all that does not fit, before anything is changed.
        """
        groups, entries = checked_state(self, state)
        for group, loaded in zip(self.param_groups, groups, strict=True):
            group.update(self._checked(_plain(loaded)))
        self.state = {}
        for number, p in enumerate(self._params()):
            for name, value in entries.get(str(number), {}).items():
                if name in self.state_arrays:
                    array = p.array.copy()
                    write(array, to_numpy(value))
                    value = array
                else:
                    value = int(value)
                self.state.setdefault(p, {})[name] = value

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for number, group in enumerate(self.param_groups):
            sizes = f"{len(group['params'])} parameters"
            lines.append(f"  group {number}: {sizes}")
            lines += [f"    {name}: {value}" for name, value in _plain(group).items()]
        return "\n".join([*lines, ")"])

    def _params(self) -> Iterator[Parameter]:
        for group in self.param_groups:
            yield from group["params"]

    def _checked_params(self, params: Iterable[Any], number: int) -> list[Parameter]:
        params = list(params)
        if not params:
            raise ArgumentError(
                f"{self._name}: the list of parameters of group {number} is empty; pass "
                "model.parameters() (a generator serves only once)."
            )
        seen = set(map(id, self._params()))
        for i, p in enumerate(params):
            if not isinstance(p, Parameter):
                raise ArgumentError(
                    f"{self._name}: parameter {i} of group {number} is a {type(p).__name__}, not a "
                    "Parameter; pass model.parameters(), or wrap it in nn.Parameter."
                )
            if id(p) in seen:
                raise ArgumentError(
                    f"{self._name}: parameter {i} of group {number}, of shape {p.shape}, is listed "
                    "twice; list every parameter once."
                )
            seen.add(id(p))
        return params


class _Idle:
    """A kernel set whose primitives do nothing."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


def _as_groups(params: Any, caller: str) -> list[dict[str, Any]]:
    if isinstance(params, (Module, Parameter)) or not isinstance(params, Iterable):
        cure = "model.parameters()" if isinstance(params, Module) else "a list of parameters"
        raise ArgumentError(f"{caller}: params is a {type(params).__name__}; pass {cure}.")
    if isinstance(params, Mapping):
        raise ArgumentError(f"{caller}: params is one dict; pass a list of groups: [{{...}}].")
    listed = list(params)
    if listed and all(isinstance(group, Mapping) for group in listed):
        return [dict(group) for group in listed]
    return [{"params": listed}]


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a group, in a form that JSON can hold."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in group.items()
        if name != "params"
    }
