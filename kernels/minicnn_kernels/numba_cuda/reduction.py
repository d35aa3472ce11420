"""Sums: a tree in a block, two stages over the device, and the same bits every time.

Threads of one block can work together. They have *shared memory*, some ten kilobytes next to the
arithmetic that all of them read and write, and a *barrier*, ``cuda.syncthreads()``, at which each
waits until all have come. With those a block adds up one number of each thread as a tree
(`block_sum`), here for eight threads:

    7 numbers in turn  ->  3 rounds:   [a b c d e f g h]
                                        a+e b+f c+g d+h     the first half adds the second
                                        then 2 threads, then 1

A round reads what another thread wrote in the round before, so there is a barrier between them.
Leave one out and a fast warp reads a number that a slow one has not written yet; on a quiet day the
result is right all the same, which makes a missing barrier the worst kind of mistake. And all
threads of the block must come to each barrier: never put one behind an ``if`` that only some pass.

Blocks cannot wait for each other, and one block is 1/132 of a large device. So a long sum takes two
launches. In the first, each block adds a slice and writes one partial sum; the second adds the
partial sums (`add_slices`). The second launch starts when the first has ended, which is a barrier
for the whole device. Atomic additions to one cell would spare the second launch, but their order,
and with it the last bits of the sum, would change from run to run.

Both stages are also more accurate than one long loop in float32: each number passes through some
tens of additions, not through a million. The tree adds in float64, which costs nothing in a few
rounds; the loops that read the arrays stay in float32.

A kernel that calls a function with barriers lives in one module with it: the simulator gives each
module its meaning of ``cuda`` when a kernel or a function of it is entered, and takes it away when
the first thread leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

from numba import cuda, float64

from minicnn_kernels.numba_cuda.device import (
    SIMULATED,
    THREADS,
    ZERO,
    Array,
    channels,
    chunks,
    device_function,
    empty,
    flat,
    launch,
    launch_for,
    slices,
)

NORM_BLOCKS = 2 if SIMULATED else 64  # for each tensor of a norm


def channel_sums(x: Array, scale: float = 1.0) -> Array:
    """``scale`` times the sum of each channel of x (N, C, ...), over all axes but 1; -> (C,)."""
    x = channels(x)
    partial = _partial(x)
    launch(_slice_sums, partial.shape[::-1], THREADS, x, partial)
    return add_slices(partial, scale)


def channel_squares(x: Array, mean: Array, scale: float) -> Array:
    """``scale`` times the sum of (x - mean)**2 over each channel; -> (C,)."""
    x = channels(x)
    partial = _partial(x)
    launch(_slice_squares, partial.shape[::-1], THREADS, x, mean, partial)
    return add_slices(partial, scale)


def channel_products(gy: Array, x: Array, mean: Array) -> Array:
    """The sum of gy * (x - mean) over each channel; -> (C,)."""
    gy, x = channels(gy), channels(x)
    partial = _partial(x)
    launch(_slice_products, partial.shape[::-1], THREADS, gy, x, mean, partial)
    return add_slices(partial)


def add_slices(partial: Array, scale: float = 1.0) -> Array:
    """The second stage: ``scale`` times the sum of partial (slices, count); -> (count,)."""
    total = empty(partial.shape[1], partial)
    launch_for(total.size, _add_slices, partial, float(scale), total)
    return total


def squared_norm(arrays: Sequence[Array]) -> Array:
    """See `Kernels.squared_norm`; ``arrays`` has at least one. The terms are float64, too."""
    partial = empty((len(arrays), NORM_BLOCKS), arrays[0], "float64")
    for first, count, (chunk,) in chunks([arrays]):
        launch(_squares, (NORM_BLOCKS, count), THREADS, chunk, first, partial)
    total = empty(1, arrays[0], "float64")
    launch(_add_all, 1, THREADS, flat(partial), total)
    return total.reshape(())


def _partial(x: Array) -> Array:
    N, C, cells = x.shape
    return empty((slices(C, N * cells), C), x)


@device_function
def block_sum(value: float) -> float:
    """The sum of ``value`` over the threads of the block; every thread is given it."""
    sums = cuda.shared.array(THREADS, float64)
    thread = cuda.threadIdx.x
    sums[thread] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if thread < half:
            sums[thread] += sums[thread + half]
        cuda.syncthreads()
        half //= 2
    total = sums[0]
    cuda.syncthreads()  # none may write its next value before all have read this sum
    return total


@cuda.jit
def _slice_sums(x: Array, partial: Array) -> None:
    N, _, cells = x.shape
    c, s = cuda.blockIdx.x, cuda.blockIdx.y
    total = ZERO
    for i in range(s * THREADS + cuda.threadIdx.x, N * cells, THREADS * cuda.gridDim.y):
        total += x[i // cells, c, i % cells]
    added = block_sum(total)
    if cuda.threadIdx.x == 0:
        partial[s, c] = added


@cuda.jit
def _slice_squares(x: Array, mean: Array, partial: Array) -> None:
    N, _, cells = x.shape
    c, s = cuda.blockIdx.x, cuda.blockIdx.y
    total = ZERO
    for i in range(s * THREADS + cuda.threadIdx.x, N * cells, THREADS * cuda.gridDim.y):
        centred = x[i // cells, c, i % cells] - mean[c]
        total += centred * centred
    added = block_sum(total)
    if cuda.threadIdx.x == 0:
        partial[s, c] = added


@cuda.jit
def _slice_products(gy: Array, x: Array, mean: Array, partial: Array) -> None:
    N, _, cells = x.shape
    c, s = cuda.blockIdx.x, cuda.blockIdx.y
    total = ZERO
    for i in range(s * THREADS + cuda.threadIdx.x, N * cells, THREADS * cuda.gridDim.y):
        n, cell = i // cells, i % cells
        total += gy[n, c, cell] * (x[n, c, cell] - mean[c])
    added = block_sum(total)
    if cuda.threadIdx.x == 0:
        partial[s, c] = added


@cuda.jit
def _add_slices(partial: Array, scale: float, total: Array) -> None:
    for i in range(cuda.grid(1), total.size, cuda.gridsize(1)):
        result = ZERO
        for s in range(partial.shape[0]):
            result += partial[s, i]
        total[i] = scale * result


@cuda.jit
def _squares(arrays: tuple[Array, ...], first: int, partial: Array) -> None:
    tensor, block = cuda.blockIdx.y, cuda.blockIdx.x
    a, total = arrays[tensor], float64(0)
    for i in range(block * THREADS + cuda.threadIdx.x, a.size, THREADS * cuda.gridDim.x):
        total += float64(a[i]) * float64(a[i])
    total = block_sum(total)
    if cuda.threadIdx.x == 0:
        partial[first + tensor, block] = total


@cuda.jit
def _add_all(partial: Array, total: Array) -> None:
    result = float64(0)
    for i in range(cuda.threadIdx.x, partial.size, THREADS):
        result += partial[i]
    result = block_sum(result)
    if cuda.threadIdx.x == 0:
        total[0] = result
