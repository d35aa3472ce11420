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
        self, k: Kernels, p: Array, g: Array, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        momentum, dampening = float(group["momentum"]), float(group["dampening"])
        if momentum and "velocity" not in state:
            state["velocity"] = k.xp.zeros_like(p)
            dampening = 0.0
        k.sgd_step(
            p,
            g,
            state["velocity"] if momentum else None,
            float(group["lr"]),
            momentum,
            dampening,
            float(group["weight_decay"]),
            group["nesterov"],
        )
