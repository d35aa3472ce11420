"""The fully connected layer's function."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Op, Tensor, apply
from minicnn.errors import ShapeError
from minicnn.functional._checks import check_float
from minicnn_kernels.reference import Array, Kernels


class Linear(Op):
    """x @ weight^T + bias."""

    def forward(self, k: Kernels, x: Array, weight: Array, bias: Array | None) -> Array:
        """x is saved for the weight's gradient, the weight for x's."""
        self.save(x if self.needs[1] else None, weight if self.needs[0] else None)
        return k.linear(x, weight, bias)

    def backward(self, k: Kernels, gy: Array) -> Any:
        """gx = gy @ w, gw = gy^T @ x, gb = sum of gy."""
        x, w = self.saved
        gx = k.linear_grad_input(gy, w) if self.needs[0] else None
        gw = k.linear_grad_weight(gy, x) if self.needs[1] else None
        gb = k.linear_grad_bias(gy) if self.needs[2] else None
        return gx, gw, gb


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a fully connected layer: y = x @ weight^T + bias.

    x : Tensor (..., K)
    weight : Tensor (F, K)
    bias : Tensor (F,) or None

    Returns a Tensor (..., F). Saved for backward: x and weight. Raises `ShapeError`, `DTypeError`.

    >>> linear(Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0]]), Tensor([0.5])).array
    array([[11.5]], dtype=float32)
    """
    check_float(x, "linear")
    if len(weight.shape) != 2 or len(x.shape) < 1:
        raise ShapeError(f"linear: weight must be (F, K), but is {weight.shape}; x is {x.shape}.")
    F, K = weight.shape
    if x.shape[-1] != K:
        cure = "Flatten the maps first (nn.Flatten()), or b" if len(x.shape) > 2 else "B"
        raise ShapeError(
            f"linear: x has {x.shape[-1]} features (x is {x.shape}) but weight expects {K} (weight "
            f"is {weight.shape}). {cure}uild the layer with in_features={x.shape[-1]}."
        )
    if bias is not None and bias.shape != (F,):
        raise ShapeError(
            f"linear: bias is {bias.shape} but weight has {F} rows; it must be ({F},)."
        )
    return apply(Linear(), x, weight, bias)
