"""Running a network without computing anything, to see the shapes that pass through it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from minicnn.autograd import Tensor, no_grad
from minicnn.errors import ShapeError
from minicnn.nn._settings import sample_shape
from minicnn.nn.modes import evaluating
from minicnn.nn.module import Module, check_module
from minicnn_kernels.fields import image
from minicnn_kernels.registry import in_this_thread


def dry_run(
    model: Module,
    input_shape: tuple[int, ...],
    before: Callable[[str, Module, tuple[Any, ...]], None] | None = None,
    after: Callable[[str, Module, tuple[Any, ...], Any], None] | None = None,
) -> Tensor:
    """Send the shape of one sample, such as (C, H, W), through a model; return the output's.

    The tensors have a shape, a dtype and a receptive field (`minicnn_kernels.fields`), but no
    numbers. The model runs in eval mode, with hooks on its parts, and is then as it was; a thread
    that trains it meanwhile would notice: give one a copy, ``copy.deepcopy(model)``.

    before, after : called as ``before(path, module, arguments)`` when a part starts and as
        ``after(path, module, arguments, output)`` when it has ended; every part runs by itself

    Raises `ArgumentError` for what is no shape, and what the model raises for images of this one.

    >>> from minicnn import nn
    >>> show = lambda path, module, arguments, y: print(path, y.shape)
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2))
    >>> dry_run(model, (3, 32, 32), after=show).shape
    0 (1, 8, 30, 30)
    1 (1, 8, 15, 15)
     (1, 8, 15, 15)
    (1, 8, 15, 15)
    """
    check_module(model, "dry_run")
    shape = sample_shape(input_shape, "dry_run")
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    with ExitStack() as handles:
        for path, module in model.named_modules():
            if before:
                handles.enter_context(module.register_forward_pre_hook(_named(before, path)))
            if after:
                handles.enter_context(module.register_forward_hook(_named(after, path)))
        with evaluating(model), no_grad(), in_this_thread("fields"):
            return _run(model, shape, dtype)


def _run(model: Module, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    try:
        return model(Tensor(image((1, *shape), dtype)))
    except ShapeError as error:
        if len(shape) == 2:
            error.add_note(
                f"input_shape was {shape}; that of an image has its channels too, {(1, *shape)}."
            )
        raise


def _named(watch: Callable[..., None], path: str) -> Callable[..., None]:
    def hook(*what: Any) -> None:
        watch(path, *what)

    return hook
