"""PyTorch on the same device: its settings, its clock, and its functions beside our primitives."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cupy
import device as our_device
import numpy as np

Array = Any


def library(options: argparse.Namespace) -> Any:
    """PyTorch where it is installed and sees the device; None otherwise.

    On the CPU stand-in for CuPy its CPU serves, so that every line runs there too.
    """
    if options.no_torch:
        return None
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() or our_device.IS_STAND_IN else None


def device(torch: Any) -> str:
    """Where its tensors live."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def set_tf32(torch: Any, allowed: bool) -> dict[str, Any]:
    """TF32 for convolutions and products alike, and cuDNN's search; -> what the results log."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.benchmark = True
    return {
        "cudnn.allow_tf32": allowed,
        "cuda.matmul.allow_tf32": allowed,
        "cudnn.benchmark": True,
    }


def times(
    torch: Any, call: Callable[[int], Any], repeats: int, seconds: float = float("inf")
) -> list[float]:
    """Seconds of each call, by the clock of our own kernels: both use the default stream."""
    if device(torch) == "cuda":
        return our_device.times(call, repeats, seconds)
    call(0)
    taken = []
    for i in range(repeats):
        started = time.perf_counter()
        call(i)
        taken.append(time.perf_counter() - started)
    return taken


def tensor(torch: Any, array: Any) -> Any:
    """An array of CuPy as a tensor that shares its memory; on the CPU as a copy."""
    if device(torch) == "cuda":
        return torch.from_dlpack(array)
    return torch.from_numpy(array.get())


def calls(torch: Any) -> dict[str, Callable[..., Any]]:
    """Primitive -> PyTorch's function of the same arguments, arrays being tensors."""
    functional, ops = torch.nn.functional, torch.ops.aten

    def geometry(window: Any) -> tuple[Any, ...]:
        return [window.sh, window.sw], [window.ph, window.pw], [window.dh, window.dw]

    def backward(mask: list[bool]) -> Callable[..., Any]:
        def run(gy: Any, other: Any, window: Any, groups: int) -> Any:
            x, w = (other, None) if mask[1] else (None, other)
            if x is None:
                x = w.new_empty((gy.shape[0], w.shape[1] * groups, window.h, window.w))
            else:
                depth = x.shape[1] // groups
                w = x.new_empty((gy.shape[1], depth, window.kh, window.kw))
            steps = geometry(window)
            results = ops.convolution_backward(
                gy, x, w, None, *steps, False, [0, 0], groups, [*mask, False]
            )
            return results[1 if mask[1] else 0]

        return run

    return {
        "conv2d": lambda x, w, b, window, groups: functional.conv2d(
            x, w, b, *geometry(window), groups
        ),
        "conv2d_grad_input": backward([True, False]),
        "conv2d_grad_weight": backward([False, True]),
        "linear": functional.linear,
        "relu": torch.relu,
        "max_pool2d": lambda x, window: functional.max_pool2d(
            x, (window.kh, window.kw), (window.sh, window.sw), (window.ph, window.pw),
            return_indices=True,
        )[0],
        "softmax": torch.softmax,
        "tanh": torch.tanh,
    }  # fmt: skip


def channels_last(torch: Any, value: Any) -> Any:
    """A map or filter in the layout that cuDNN's tensor cores read; anything else as it is."""
    if isinstance(value, torch.Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def to_cupy(tensor: Any) -> Array:
    """A result for the comparison."""
    if tensor.is_cuda:
        return cupy.from_dlpack(tensor.contiguous())
    return cupy.asarray(np.ascontiguousarray(tensor.numpy()))
