"""A training batch from a data set that lies on the device: indices that are data themselves.

Which image a thread reads is a number that it has to read first: ``images[index[n], ...]``. Such an
indirect read costs one more access, but all threads of one image read the same index, which the
cache then holds. Flipping, cropping and shifting are arithmetic on the row and the column, and
normalising 256 possible bytes is a look into a table of 256 numbers. So one launch makes the batch,
without an intermediate array, and a captured graph makes another one when the indices in memory
have changed.
"""

from __future__ import annotations

from numba import cuda

from minicnn_kernels.numba_cuda.device import Array, device_function, empty, launch_for, place


def gather_images(
    images: Array, index: Array, placement: Array, size: tuple[int, int], reflect: bool,
    table: Array,
) -> Array:  # fmt: skip
    """See `Kernels.gather_images`."""
    y = empty((index.shape[0], images.shape[1], *size), table)
    launch_for(y.size, _gather, images, index, placement, bool(reflect), table, y)
    return y


@device_function
def _reflected(at: int, length: int) -> int:
    """As far inside the border as ``at`` is outside."""
    at = abs(at)
    return at if at < length else 2 * (length - 1) - at


@cuda.jit
def _gather(
    images: Array, index: Array, placement: Array, reflect: bool, table: Array, y: Array
) -> None:
    _, _, H, W = images.shape
    for pixel in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, c, i, j = place(pixel, y.shape)
        row, column = placement[n, 0] + i, placement[n, 1] + placement[n, 2] * j
        if reflect:
            row, column = _reflected(row, H), _reflected(column, W)
        value = 0
        if 0 <= row < H and 0 <= column < W:
            value = images[index[n], c, row, column]
        y[n, c, i, j] = table[c, value]
