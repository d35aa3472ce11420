"""Winograd's convolution: 3x3 and 5x5 windows with fewer multiplications.

Four neighbouring outputs of a filter with 3 taps, computed directly, take 12 multiplications. But
the outputs are the coefficients of a product of two polynomials, one from the taps and one from the
outputs' place, and a product of polynomials is also found by taking both at enough points,
multiplying the *values*, and going back to coefficients. Here 6 points are enough, so that 6
multiplications do for 4 outputs. Winograd (1980) showed that it cannot be done with fewer; Lavin
and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016, section 4), brought it to
these networks. Their F(4, 3) takes the points 0, 1, -1, 2, -2 and infinity, and reads

    y = A^T [ (G g) . (B^T d) ]              g: 3 taps, d: 6 inputs, y: 4 outputs, . by elements

           4  0 -5  0  1  0              1/4     0    0
           0 -4 -4  1  1  0             -1/6  -1/6 -1/6              1  1  1  1  1  0
    B^T =  0  4 -4 -1  1  0        G =  -1/6   1/6 -1/6      A^T =   0  1 -1  2 -2  0
           0 -2 -1  2  1  0             1/24  1/12  1/6              0  1  1  4  4  0
           0  2 -1 -2  1  0             1/24 -1/12  1/6              0  1 -1  8 -8  1
           0  4  0 -5  0  1                0     0    1

In two dimensions the matrices act on rows and on columns:

    Y = A^T [ (G g G^T) . (B^T d B) ] A      g: 3x3, d: 6x6, Y: 4x4

with 36 multiplications for 16 outputs, where the direct sum takes 144. The transforms cost
additions, but each transformed tile of a map serves all filters, each transformed filter all tiles,
and the sum over the channels is taken before the way back. What is left in the middle are 36
independent matrix products, tiles x channels times channels x filters, and those run on the
register tile (`microkernel`).

Windows of 5x5 take the same six points, so that B stays as it is: 2x2 outputs then cost 36 products
where the direct sum takes 100. The rows of A^T are powers of the points, the columns of G too, each
divided by the product of the point's distances to the others (`winograd_transforms.matrices`).

Input gradient: the same convolution of gy, padded by KH - 1 - PH, with flipped taps and C and F
swapped.

Weight gradient: Y above is linear in g, and the gradient is its transpose,

    gw = G^T [ sum over tiles of (A gy A^T) . (B^T d B) ] G

so that the products run over tiles, and the way back is taken once for each pair of channels.

What it costs is exactness. The transforms add numbers of different size, and differences of them
cancel: rounding errors grow by up to `ERROR_GROWTH` over those of the direct sum, on average by a
third of it. NaN and infinity reach every output of the tile whose input has them, so they show
wherever they would show in the direct sum, but also in the tile's other outputs, and infinity
mostly as NaN. Numbers beyond 1e36 may overflow. Where that matters there is
`algorithms.direct_convolution`.

It is used for float32 alone, since whoever asks for float64 asks for exactness, and where it was
measured to be faster (`_is_worth_it`). `winograd_loops` has the loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn_kernels.algorithms import is_direct
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu.compile import Array
from minicnn_kernels.numba_cpu.microkernel import lanes
from minicnn_kernels.numba_cpu.winograd_loops import (
    add_parts,
    correlate_gradients,
    correlate_tiles,
)
from minicnn_kernels.numba_cpu.winograd_plans import (
    TilesPlan,
    forward_plan,
    input_plan,
    weight_plan,
)
from minicnn_kernels.numba_cpu.winograd_transforms import A_T3, A_T5, B_T, G3, G5, SIDE
from minicnn_kernels.numba_cpu.workspace import aligned, scratch
from minicnn_kernels.threads import get_num_threads

TRANSFORMS = {3: 0.2, 5: 0.15}  # most transformed numbers for each product of the direct sum
FILLED = 0.5  # least share of the tiles' outputs that are on the map
LEAST_TILES = 4


def _growth(first: Array, second: Array, last: Array, terms: int) -> float:
    """How much larger than the direct sum's the numbers are whose rounding errors add up.

    For independent numbers of mean square 1: the root mean square of the largest result of
    last @ [(first g) . (second d)] without any cancelling, over that of a sum of ``terms``
    products; squared for the two dimensions.
    """
    squares = (first**2).sum(axis=1) * (second**2).sum(axis=1)
    return float(((last**2) @ squares).max() / terms)


def _error_growth(A_T: Array, G: Array) -> float:
    tile, taps = len(A_T), G.shape[1]
    return max(_growth(G, B_T, A_T, taps), _growth(A_T.T, B_T, G.T, tile))


ERROR_GROWTH = {3: _error_growth(A_T3, G3), 5: _error_growth(A_T5, G5)}


def is_used(
    window: Window2d, out: tuple[int, int], N: int, C: int, F: int, groups: int,
    dtype: np.dtype[Any],
) -> bool:  # fmt: skip
    """Whether a convolution runs here that cuts maps of the size ``out`` into tiles.

    Those are y, and gx for the input gradient.
    """
    steps = window.sh, window.sw, window.dh, window.dw
    is_served = window.kh == window.kw in (3, 5) and steps == (1, 1, 1, 1)
    is_served = is_served and groups == 1 and dtype == np.float32 and not is_direct()
    return is_served and _is_worth_it(window.kh, out, N, C, F)


def _is_worth_it(taps: int, out: tuple[int, int], N: int, C: int, F: int) -> bool:
    """Whether the products saved outweigh the transforms, by what was measured.

    A tile is transformed for C + F channels and multiplied for C * F pairs: (C, F) = (8, 16) gains
    and (8, 8) or (3, 64) loses. A map of 7x7 fills its tiles to 77 % and gains, one of 5x5 to 39 %
    and loses. Few tiles do not repay transforming all weights.
    """
    tile = SIDE + 1 - taps
    tiles = -(-out[0] // tile) * -(-out[1] // tile)
    filled = out[0] * out[1] / (tiles * tile**2)
    return N * tiles >= LEAST_TILES and TRANSFORMS[taps] * C * F >= C + F and filled >= FILLED


def conv2d(x: Array, w: Array, b: Array | None, window: Window2d, relu: bool) -> Array:
    """y, as `Kernels.conv2d` or, with ``relu``, `Kernels.conv2d_affine`."""
    N, C = x.shape[:2]
    F = w.shape[0]
    y = np.empty((N, F, window.oh, window.ow), x.dtype)
    _run(forward_plan(window, C, F, N, x.dtype, get_num_threads()), x, w, b, y, relu)
    return y


def conv2d_grad_input(gy: Array, w: Array, window: Window2d) -> Array:
    """gx, as `Kernels.conv2d_grad_input`."""
    N, F = gy.shape[:2]
    C = w.shape[1]
    gx = np.empty((N, C, window.h, window.w), gy.dtype)
    _run(input_plan(window, C, F, N, gy.dtype, get_num_threads()), gy, w, None, gx, False)
    return gx


def conv2d_grad_weight(gy: Array, x: Array, window: Window2d) -> Array:
    """gw, as `Kernels.conv2d_grad_weight`."""
    N, F = gy.shape[:2]
    C = x.shape[1]
    plan = weight_plan(window, C, F, N, x.dtype, get_num_threads())
    sums = aligned(plan.sums, x.dtype)
    gw = np.empty((F, C, window.kh, window.kw), x.dtype)
    correlate_gradients(
        np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(gy).reshape(-1), sums, gw,
        plan.maps, plan.maps_of_gy, plan.sizes, plan.tasks, plan.parts, plan.row,
        scratch(len(plan.tasks), plan.workers, plan.reserved, x.dtype),
    )  # fmt: skip
    if plan.in_parts:
        add_parts(sums, gw, plan.sizes, plan.row)
    return gw


def _run(plan: TilesPlan, x: Array, w: Array, b: Array | None, y: Array, relu: bool) -> None:
    bias = np.zeros(y.shape[1] + lanes(x.dtype), x.dtype)  # a whole vector is read
    if b is not None:
        bias[: y.shape[1]] = b
    correlate_tiles(
        np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(w).reshape(-1), bias,
        y.reshape(-1), plan.maps, plan.sizes._replace(relu=relu), plan.weights, plan.tasks,
        plan.panels, plan.parts, scratch(len(plan.tasks), plan.workers, plan.reserved, x.dtype),
    )  # fmt: skip
