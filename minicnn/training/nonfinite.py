"""Finding where NaN or infinity first appears in a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import random
from minicnn.autograd import Tensor, no_grad
from minicnn.nn import Module
from minicnn.nn._arrays import on_device, to_numpy

ONLY_THE_LOSS = "every layer's output is finite, only the loss is not"


def find_nonfinite(model: Module, images: Any) -> str:
    """Say in words where the first non-finite value appears when ``images`` pass the model.

    Runs the model once more as it is (same mode, same random numbers) and puts back what that
    changes: buffers and the random generator.

    >>> from minicnn import nn
    >>> find_nonfinite(nn.Sequential(nn.ReLU()), np.array([[np.inf]]))
    'the input already holds non-finite values'
    """
    if not np.isfinite(to_numpy(images)).all():
        return "the input already holds non-finite values"
    for name, parameter in model.named_parameters():
        if not np.isfinite(Tensor(parameter).numpy()).all():
            return f"the parameter {name} holds non-finite values since an earlier step"
    found: list[str] = []

    def watch(name: str, module: Module) -> Any:
        def hook(module: Module, arguments: Any, output: Any) -> None:
            if not found and not np.isfinite(output.numpy()).all():
                found.append(f"the first layer with a non-finite output is {name} {module!r}")

        return module.register_forward_hook(hook)

    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    handles = [watch(name, module) for name, module in leaves]
    buffers = [(buffer, buffer.copy()) for buffer in model.buffers()]
    generator = random.get_state()
    try:
        with no_grad(), np.errstate(all="ignore"):
            model(Tensor(on_device(images, model.device)))
    finally:
        random.set_state(generator)
        for buffer, before in buffers:
            buffer[...] = before
        for handle in handles:
            handle.remove()
    return found[0] if found else ONLY_THE_LOSS
