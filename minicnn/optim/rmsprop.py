"""RMSProp: every weight at the pace of its own gradients."""

from __future__ import annotations

from typing import Any, ClassVar

from minicnn.nn._arrays import Array
from minicnn.optim._checks import number_from
from minicnn.optim.optimizer import Optimizer, Params
from minicnn_kernels.reference import Kernels


class RMSprop(Optimizer):
    """Step along the gradient, divided by the root of a running mean of its squares.

    ::

        g = g + weight_decay * p
        s = alpha * s + (1 - alpha) * g**2
        v = momentum * v + g / (sqrt(s) + eps)
        p = p - lr * v

    s and v start at 0. TensorFlow adds eps to s, under the root; the form here is PyTorch's. Raises
    `ArgumentError`. Source: Tieleman & Hinton 2012, lecture 6.5 of "Neural networks for machine
    learning".

    >>> import numpy as np
    >>> from minicnn import nn
    >>> p = nn.Parameter(np.array([1.0]))
    >>> p.grad = np.array([5.0])
    >>> RMSprop([p], lr=0.1, alpha=0.75).step()
    >>> p.array.round(6)
    array([0.8])
    """

    state_arrays: ClassVar[tuple[str, ...]] = ("square", "velocity")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
            },
        )

    def _checked(self, hyperparameters: dict[str, Any]) -> dict[str, Any]:
        checked = {
            name: number_from(0, hyperparameters[name], name, "RMSprop")
            for name in ("lr", "eps", "weight_decay", "momentum")
        }
        alpha = number_from(0, hyperparameters["alpha"], "alpha", "RMSprop", below=1)
        return {**checked, "alpha": alpha}

    def _update(
        self,
        k: Kernels,
        params: list[Array],
        grads: list[Array],
        states: list[dict[str, Any]],
        group: dict[str, Any],
    ) -> None:
        for p, state in zip(params, states, strict=True):
            for name in self.state_arrays:
                if name not in state:
                    state[name] = k.xp.zeros_like(p)
        k.rmsprop_step(
            params,
            grads,
            [state["square"] for state in states],
            [state["velocity"] for state in states],
            self.changing(group["lr"]),
            float(group["alpha"]),
            float(group["eps"]),
            float(group["weight_decay"]),
            float(group["momentum"]),
        )
