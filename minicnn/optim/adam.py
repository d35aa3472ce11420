"""Adam, and AdamW, which takes the weight decay out of it."""

from __future__ import annotations

from typing import Any, ClassVar

from minicnn.errors import ArgumentError
from minicnn.nn._arrays import Array
from minicnn.optim._checks import number_from
from minicnn.optim.optimizer import Optimizer, Params
from minicnn_kernels.reference import Kernels


class Adam(Optimizer):
    """Step along the mean of the gradients, divided by the root of the mean of their squares.

    ::

        g = g + weight_decay * p
        m = b1 * m + (1 - b1) * g             v = b2 * v + (1 - b2) * g**2
        p = p - lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)

    in step t, counted from 1; the divisions undo the start at m = v = 0. Raises `ArgumentError`.
    Source: Kingma & Ba 2015, algorithm 1.

    >>> import numpy as np
    >>> from minicnn import nn
    >>> p = nn.Parameter(np.array([1.0]))
    >>> p.grad = np.array([5.0])
    >>> Adam([p], lr=0.1).step()
    >>> p.array.round(6)
    array([0.9])
    """

    state_arrays: ClassVar[tuple[str, ...]] = ("m", "v")
    state_counts: ClassVar[tuple[str, ...]] = ("step",)
    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def _checked(self, hyperparameters: dict[str, Any]) -> dict[str, Any]:
        name, betas = type(self).__name__, hyperparameters["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ArgumentError(f"{name}: betas is {betas!r}; give a pair, such as (0.9, 0.999).")
        b1, b2 = (number_from(0, b, f"betas[{i}]", name, below=1) for i, b in enumerate(betas))
        lr, eps, decay = (
            number_from(0, hyperparameters[n], n, name) for n in ("lr", "eps", "weight_decay")
        )
        return {"lr": lr, "betas": (b1, b2), "eps": eps, "weight_decay": decay}

    def _update(
        self,
        k: Kernels,
        params: list[Array],
        grads: list[Array],
        states: list[dict[str, Any]],
        group: dict[str, Any],
    ) -> None:
        b1, b2 = group["betas"]
        settings = (float(b1), float(b2)), float(group["eps"]), float(group["weight_decay"])
        lr = self.changing(group["lr"])
        same_step: dict[int, tuple[list[Array], list[Array], list[Array], list[Array]]] = {}
        for p, g, state in zip(params, grads, states, strict=True):
            if not state:
                state.update(step=0, m=k.xp.zeros_like(p), v=k.xp.zeros_like(p))
            state["step"] += 1
            lists = same_step.setdefault(state["step"], ([], [], [], []))
            for arrays, array in zip(lists, (p, g, state["m"], state["v"]), strict=True):
                arrays.append(array)
        for step, lists in same_step.items():
            k.adam_step(*lists, self.changing(step), lr, *settings, self.decoupled)


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights directly instead of entering the gradient.

    p = p - lr * weight_decay * p, then the step of `Adam` without decay: so the decay is not
    divided by the root of the squares. Source: Loshchilov & Hutter 2019, algorithm 2.

    >>> import numpy as np
    >>> from minicnn import nn
    >>> p = nn.Parameter(np.array([1.0]))
    >>> p.grad = np.array([0.0])
    >>> AdamW([p], lr=0.1, weight_decay=0.5).step()
    >>> p.array
    array([0.95])
    """

    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
