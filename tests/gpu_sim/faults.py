"""Planted faults: a module with one expression changed, and the cases and checks to notice it.

Two missing barriers are among them: a thread of the simulator runs on until it has to wait, and so
reads shared memory that is still filled with NaN. A barrier that keeps a fast thread from writing
over what a slow one still reads is missed only now and then, so no test here depends on one.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = "minicnn_kernels.numba_cuda"


@dataclass(frozen=True)
class Fault:
    """``old`` stands once in the text of ``module`` and becomes ``new``."""

    module: str
    old: str
    new: str
    cases: tuple[str, ...]


FAULTS = {
    "threads take one turn only": Fault(
        "elementwise", "x.size, cuda.gridsize(1)):\n        y[i] = ZERO if",
        "x.size, x.size):\n        y[i] = ZERO if", ("relu",),
    ),
    "ReLU hides NaN": Fault(
        "elementwise", "ZERO if x[i] <= ZERO else x[i]", "x[i] if x[i] > ZERO else ZERO",
        ("relu: special",),
    ),
    "the exponential overflows": Fault("elementwise", "-abs(x[i])", "-x[i]", ("sigmoid: large",)),
    "no guard at the top": Fault("columns", "0 <= row < x.shape[2]", "row < x.shape[2]",
                                 ("im2col",)),
    "no guard on the right": Fault("columns", "0 <= column < x.shape[3]", "0 <= column",
                                   ("im2col",)),
    "the rest of the stride is dropped": Fault("columns", "offset % stride != 0", "stride < 0",
                                               ("col2im",)),
    "dilation forgotten": Fault("columns", "offset = position + padding - tap * dilation",
        "offset = position + padding - tap",
                                ("col2im",)),
    "a window beyond the last": Fault("columns", "offset // stride >= outputs",
                                      "offset // stride > outputs", ("col2im",)),
    "no guard at the edge of a matrix": Fault(
        "linear", "i < a.shape[0] and j < a.shape[1]", "i < a.shape[0]", ("linear",)),
    "a tile transposed": Fault("linear", "right[k, column]", "right[column, k]", ("linear",)),
    "the last tile left out": Fault(
        "linear", "range(0, a.shape[1], TILE)", "range(0, a.shape[1] - TILE, TILE)", ("linear",)),
    "the next tile is not fetched": Fault(
        "linear", "read(a, i, start + column)", "read(a, i, column)", ("linear",)),
    "a tap from the wrong axis": Fault(
        "convolution", "tap % window.kw * window.dw", "tap % window.kh * window.dw",
        ("conv2d: uneven",)),
    "every group reads the first channels": Fault(
        "convolution", "c = first_channel + k // taps", "c = k // taps", ("conv2d: uneven",)),
    "every group has the first weights": Fault(
        "convolution", "w[first_filter + k // taps, c,", "w[k // taps, c,",
        ("conv2d_grad_input: uneven",)),
    "all images are the first": Fault(
        "convolution", "pixel // (window.oh * window.ow), pixel // window.ow % window.oh,",
        "0, pixel // window.ow % window.oh,", ("conv2d: two images",)),
    "multiplied before the tile is complete": Fault(
        "linear", "start + row, j)\n        cuda.syncthreads()\n", "start + row, j)\n",
        ("linear",)),
    "added before all numbers are there": Fault(
        "reduction", "    cuda.syncthreads()\n    half =", "    half =", ("conv2d_grad_bias",)),
    "slices overlap": Fault(
        "convolution", "range(s * TILE, pixels,", "range(0, pixels,",
        ("conv2d_grad_weight: two images",)),
    "the shift is added to filters of other groups": Fault(
        "convolution", "total += shift[f]", "total += shift[in_group]", ("conv2d: uneven",)),
    "the tree loses a level": Fault("reduction", "half = THREADS // 2", "half = THREADS // 4",
                                    ("conv2d_grad_bias", "squared_norm")),
    "the last slice is not added": Fault("reduction", "range(partial.shape[0])",
                                         "range(partial.shape[0] - 1)", ("conv2d_grad_bias",)),
    "a slice starts late": Fault(
        "reduction", "s * THREADS + cuda.threadIdx.x, N * cells, THREADS * cuda.gridDim.y):\n"
        "        total +=", "(s + 1) * THREADS + cuda.threadIdx.x, N * cells, THREADS * "
        "cuda.gridDim.y):\n        total +=", ("conv2d_grad_bias",)),
    "a norm counts its first tensors again": Fault(
        "reduction", "partial[first + tensor, block]", "partial[tensor, block]",
        ("squared_norm",)),
    "a maximum passes over NaN": Fault(
        "pooling", "value > best or (value != value and best == best)", "value > best",
        ("max_pool2d: special",)),
    "the last of equals wins": Fault("pooling", "value > best or", "value >= best or",
                                     ("max_pool2d: special",)),
    "nothing wins where all is infinite": Fault("pooling", "if is_first or beats", "if beats",
                                                ("max_pool2d: nothing better than the padding",)),
    "gradient to every tap": Fault(
        "pooling", "ow >= 0 and tap[n, c, oh, ow] == i * window.kw + j", "ow >= 0",
        ("max_pool2d_grad",)),
    "the scale of another output": Fault("pooling", "total * scale[oh, ow]",
                                         "total * scale[ow % window.oh, ow]",
                                         ("weighted_pool2d",)),
    "bins end one cell early": Fault(
        "adaptive_pooling", "((i + 1) * length + bins - 1) // bins", "(i + 1) * length // bins",
        ("adaptive_avg_pool2d", "adaptive_avg_pool2d_grad")),
    "the gradient forgets the mean": Fault("batch_norm", "share * (gb[c] + xhat * gw[c])",
                                           "share * xhat * gw[c]", ("batch_norm_grad",)),
    "a negative factor is not seen": Fault(
        "batch_norm", "sign = MINUS_ONE if _factor(c, w, var, eps) < ZERO else ONE", "sign = ONE",
        ("batch_norm_relu_max_pool2d",)),
    "the skip of another channel": Fault("batch_norm", "skip[i]", "skip[cell]",
                                         ("batch_norm_relu: skip",)),
    "biased running variance": Fault("batch_norm", "var[c] * unbiased", "var[c]",
                                     ("batch_norm_move",)),
    "the window of channels is not mirrored": Fault(
        "lrn", "before, after = (size - 1) // 2, size // 2", "before, after = size // 2, "
        "(size - 1) // 2", ("local_response_norm_grad",)),
    "channels beyond the last": Fault(
        "lrn", "if 0 <= d < C:\n                total += x",
        "if 0 <= d:\n                total += x",
        ("local_response_norm",)),
    "not shifted by the maximum": Fault(
        "softmax", "total += math.exp(x[o, k, i] - largest)", "total += math.exp(x[o, k, i])",
        ("softmax",)),
    "threads beyond the first are not added": Fault("softmax", "half = ROW // 2", "half = 0",
                                                    ("softmax",)),
    "rows of another axis": Fault("softmax", "cuda.blockIdx.x % x.shape[2]", "0",
                                  ("softmax: first axis",)),
    "a class of weight 0 counts": Fault("softmax", "if q[n, k] != ZERO:", "if True:",
                                        ("softmax_cross_entropy",)),
    "units ignored": Fault("dropout", "_is_kept(i // unit,", "_is_kept(i,", ("dropout: units",)),
    "another hash": Fault("dropout", "uint64(27)", "uint64(28)", ("dropout", "random_keep")),
    "the flip ignored": Fault("batches", "placement[n, 2] * j", "j", ("gather_images",)),
    "the border counted twice": Fault("batches", "2 * (length - 1) - at", "2 * length - 1 - at",
                                      ("gather_images: reflected",)),
    "all blocks take the first tensor": Fault(
        "optimizers", "    tensor = cuda.blockIdx.y\n    p, g, v = ",
        "    tensor = 0\n    p, g, v = ", ("sgd_step",)),
    "the second launch repeats the first": Fault(
        "device", "arrays[first : first + AT_ONCE]", "arrays[:AT_ONCE]", ("sgd_step",)),
    "a number copied at the capture": Fault(
        "device", "return value.reshape(1)", "return xp.full(1, float(value), dtype)",
        ("numbers stay where they are",)),
    "strides ignored": Fault(
        "device", "np.ndarray(shape, number, memory, strides=strides)",
        "np.ndarray(shape, number, memory)",
        ("an array of another library is seen by its address",)),
    "Nesterov's step without its look ahead": Fault(
        "optimizers", "d + momentum * v[i] if nesterov else v[i]", "v[i]",
        ("sgd_step: nesterov",)),
    "Adam starts anew each step": Fault("optimizers", "math.pow(beta2, step[0])", "beta2",
                                        ("adam_step",)),
    "decay in the gradient too": Fault("optimizers", "if decoupled or weight_decay == ZERO",
                                       "if weight_decay == ZERO", ("adam_step: decoupled",)),
    "another root": Fault("optimizers", "v[i] + d / (math.sqrt(square[i]) + eps)",
                                 "v[i] + d / (square[i] + eps)",
                          ("rmsprop_step",)),
}  # fmt: skip


class _Edited(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds one module, with an edited text."""

    def __init__(self, name: str, path: str, text: str) -> None:
        self.name, self.path, self.text = name, path, text

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self) if name == self.name else None

    def get_source(self, name: str) -> str:
        return self.text

    def get_filename(self, name: str) -> str:
        return self.path


@contextlib.contextmanager
def plant(fault: Fault) -> Iterator[None]:
    """While in the block, the package is imported anew with the fault in it."""
    name = f"{PACKAGE}.{fault.module}"
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text()
    assert text.count(fault.old) == 1, f"{fault.old!r} stands {text.count(fault.old)} times"
    edited = _Edited(name, spec.origin, text.replace(fault.old, fault.new))
    _forget()
    sys.meta_path.insert(0, edited)
    try:
        yield
    finally:
        sys.meta_path.remove(edited)
        _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]
