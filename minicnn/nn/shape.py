"""Layers that change the size of maps without computing."""

from __future__ import annotations

import minicnn.functional as F
from minicnn.autograd import Tensor
from minicnn.errors import ArgumentError
from minicnn.nn._settings import settings
from minicnn.nn.module import Module


class ZeroPad2d(Module):
    """Surround maps with zeros: one width for all sides, or (left, right, top, bottom).

    >>> ZeroPad2d((1, 0, 0, 1))(Tensor([[[[1.0]]]])).array[0, 0]
    array([[0., 1.],
           [0., 0.]], dtype=float32)
    """

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        super().__init__()
        widths = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
        whole = all(hasattr(n, "__index__") and not isinstance(n, bool) for n in widths)
        if len(widths) != 4 or not whole or min(widths) < 0:
            raise ArgumentError(
                f"ZeroPad2d: padding is {padding!r}; give a whole number >= 0, or four of them: "
                "(left, right, top, bottom)."
            )
        self.padding = tuple(int(n) for n in widths)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H + top + bottom, W + left + right)."""
        return F.pad(x, self.padding)

    def extra_repr(self) -> str:
        """The widths."""
        return settings(self, "padding")
