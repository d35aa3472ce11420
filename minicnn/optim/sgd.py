"""Stochastic gradient descent, with momentum in both its forms."""

from __future__ import annotations

from typing import Any, ClassVar

from minicnn.errors import ArgumentError
from minicnn.nn._arrays import Array
from minicnn.optim._checks import number_from
from minicnn.optim.optimizer import Optimizer, Params
from minicnn_kernels.reference import Kernels


class SGD(Optimizer):
    """Step against the gradient g, or against its decaying sum, the velocity v.

    ::

        d = g + weight_decay * p
        v = momentum * v + (1 - dampening) * d            (v = d in the first step)
        p = p - lr * v                                    (d without momentum)
        p = p - lr * (d + momentum * v)                   (nesterov)

    Raises `ArgumentError`. Source: Sutskever et al. 2013, in PyTorch's form, where the learning
    rate scales the velocity and not what enters it.

    >>> import numpy as np
    >>> from minicnn import nn
    >>> p = nn.Parameter(np.array([1.0]))
    >>> optimizer = SGD([p], lr=0.1, momentum=0.5)
    >>> for _ in range(2):
    ...     p.grad = np.array([2.0])
    ...     optimizer.step()
    >>> p.array.round(6)
    array([0.5])
    """

    state_arrays: ClassVar[tuple[str, ...]] = ("velocity",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def _checked(self, hyperparameters: dict[str, Any]) -> dict[str, Any]:
        numbers = ("lr", "momentum", "dampening", "weight_decay")
        checked: dict[str, Any] = {n: number_from(0, hyperparameters[n], n, "SGD") for n in numbers}
        checked["nesterov"] = bool(hyperparameters["nesterov"])
        if checked["nesterov"] and (checked["momentum"] == 0 or checked["dampening"] != 0):
            raise ArgumentError(
                f"SGD: nesterov=True with momentum={checked['momentum']!r} and "
                f"dampening={checked['dampening']!r}; it needs momentum > 0 and dampening=0."
            )
        return checked

    def _update(
        self,
        k: Kernels,
        params: list[Array],
        grads: list[Array],
        states: list[dict[str, Any]],
        group: dict[str, Any],
    ) -> None:
        momentum, lr = float(group["momentum"]), self.changing(group["lr"])
        weight_decay, nesterov = float(group["weight_decay"]), group["nesterov"]
        if not momentum:
            k.sgd_step(params, grads, None, lr, 0.0, 0.0, weight_decay, nesterov)
            return
        fresh = [i for i, state in enumerate(states) if "velocity" not in state]
        for i in fresh:
            states[i]["velocity"] = k.xp.zeros_like(params[i])
        velocities = [state["velocity"] for state in states]
        dampening = float(group["dampening"])
        old = [i for i in range(len(params)) if i not in fresh]
        # In its first step v = d.
        parts = [(0.0, fresh), (dampening, old)] if dampening else [(0.0, fresh + old)]
        for rate, chosen in parts:
            if chosen:
                p, g, v = ([column[i] for i in chosen] for column in (params, grads, velocities))
                k.sgd_step(p, g, v, lr, momentum, rate, weight_decay, nesterov)
