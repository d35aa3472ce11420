# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
"""
# A fast convolution, step by step

A convolution is seven nested loops. This page starts with them and ends with the kernel that
minicnn trains with. Each step does the same sums in another order, is checked against the step
before, and is measured. Almost nothing here is about doing less arithmetic: it is about where the
numbers *are* when the processor wants them.

Run it as a script, or open it as a notebook with jupytext:

    python examples/fast_convolution.py
    python examples/fast_convolution.py --images 2 --channels 8 --side 14      # in a few seconds
"""

# %%
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minicnn
from minicnn.testing.tolerance import assert_close
from minicnn_kernels import registry
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.numba_cpu.winograd import ERROR_GROWTH

parser = argparse.ArgumentParser(description="A fast convolution, step by step.")
parser.add_argument("--images", type=int, default=32)
parser.add_argument("--channels", type=int, default=64, help="of the input and of the output")
parser.add_argument("--side", type=int, default=28, help="height and width of the maps")
parser.add_argument("--seconds", type=float, default=0.3, help="for each measurement")
options, _ = parser.parse_known_args()  # a notebook has arguments of its own

K = 3  # the kernel is 3x3, with a border of one zero, so that the map keeps its size
N, C, F, H, W = options.images, options.channels, options.channels, options.side, options.side

rng = np.random.default_rng(0)
x = rng.standard_normal((N, C, H, W), np.float32)
w = rng.standard_normal((F, C, K, K), np.float32)

# %% [markdown]
"""
The measure of all steps is the rate: every output pixel of every filter needs `C * K * K` products
and as many sums, however they are computed. `step` runs a function, checks its result against the
one before, and notes its best time. (The best, because other programs can only make it slower.)
"""

# %%
rows: list[tuple[str, float, float]] = []  # name, milliseconds, GFLOP/s


def step(
    name: str, convolve: Callable[..., Any], x: Any, w: Any, expected: Any, relu: bool = False,
    growth: float = 1.0,
) -> Any:  # fmt: skip
    """Run, check, measure; returns the result. ``growth``: of the rounding errors allowed."""
    y = convolve(x, w)  # the first call of a compiled function compiles it
    if expected is not None:
        expected = np.maximum(expected, 0) if relu else expected
        assert_close(y, expected, terms=int(growth * w[0].size), what=name)
    best, end = np.inf, time.perf_counter() + options.seconds
    while best == np.inf or time.perf_counter() < end:
        started = time.perf_counter()
        convolve(x, w)
        best = min(best, time.perf_counter() - started)
    operations = 2 * len(x) * w.size * x.shape[2] * x.shape[3]
    rows.append((name, best * 1e3, operations / best / 1e9))
    print(f"{name:28} {best * 1e3:10.2f} ms {operations / best / 1e9:10.3f} GFLOP/s")
    return y


def padded(x: Any) -> Any:
    """The maps with a border of zeros."""
    return np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))


# %% [markdown]
"""
## 1. The definition

Seven loops in Python: images, filters, rows, columns, and for each output pixel the channels and
the taps of the window. It gets a small problem, two images of 8x8 with four channels, because
Python spends its time on everything but arithmetic: each `*` looks up the types of its operands,
finds the function that multiplies them and makes a new object for the result.
"""

# %%


def naive(x: Any, w: Any) -> Any:
    """The definition, one product at a time."""
    x, y = padded(x), np.zeros((len(x), len(w), *x.shape[2:]), x.dtype)
    for n in range(y.shape[0]):
        for f in range(y.shape[1]):
            for r in range(y.shape[2]):
                for s in range(y.shape[3]):
                    total = 0.0
                    for c in range(w.shape[1]):
                        for i in range(K):
                            for j in range(K):
                                total += w[f, c, i, j] * x[n, c, r + i, s + j]
                    y[n, f, r, s] = total
    return y


minicnn.use_backend("numpy")  # until step 4 the cores belong to NumPy's matrix product
small_x, small_w = x[:2, :4, :8, :8], w[:4, :4]
small_y = step("1. loops in Python", naive, small_x, small_w, None)

# %% [markdown]
"""
## 2. im2col: one matrix product

The window of each output pixel, written out as a column, makes the convolution a matrix product:
`(F, C*K*K) @ (C*K*K, N*H*W)`. Nothing in computing has been tuned for longer than the matrix
product, and NumPy calls a library that has it. One call replaces all the work of the interpreter.

The price is memory. Every pixel is in nine windows, so the columns are nine times as large as the
maps, and they are written to main memory once and read back once, before and during a product that
could have had the pixel from the cache.
"""

# %%


def columns(x: Any) -> Any:
    """(N, C, H, W) -> (C*K*K, N*H*W): the window of each output pixel as a column."""
    windows = np.lib.stride_tricks.sliding_window_view(padded(x), (K, K), axis=(2, 3))
    return windows.transpose(1, 4, 5, 0, 2, 3).reshape(w_terms(x), -1)


def w_terms(x: Any) -> int:
    """Products in one output pixel."""
    return x.shape[1] * K * K


def im2col(x: Any, w: Any) -> Any:
    """One matrix product for the whole batch."""
    y = w.reshape(len(w), -1) @ columns(x)  # (F, N*H*W)
    return y.reshape(len(w), len(x), *x.shape[2:]).swapaxes(0, 1)


step("2. im2col, small", im2col, small_x, small_w, small_y)
y = step("2. im2col", im2col, x, w, None)

# %% [markdown]
"""
## 3. im2col in pieces

The same, one image at a time. The columns of a single image are used up before the next ones are
made, so they can stay in the cache: the same arithmetic and the same copies, but most of them never
go to main memory. The result also comes out in the order (N, F, H, W), which the step before only
pretends with a view of swapped axes; the next layer would pay for that.
"""

# %%


def chunked(x: Any, w: Any) -> Any:
    """One matrix product for each image."""
    flat, y = w.reshape(len(w), -1), np.empty((len(x), len(w), *x.shape[2:]), x.dtype)
    for n in range(len(x)):
        np.matmul(flat, columns(x[n : n + 1]), out=y[n].reshape(len(w), -1))
    return y


y = step("3. im2col in pieces", chunked, x, w, y)

# %% [markdown]
"""
## 4. Compiled loops

Without columns: Numba turns the seven loops of step 1 into machine code and gives the images and
filters to all cores. The order of the loops is another one. The innermost now runs along a row of
pixels, so that neighbours are read one after the other and the compiler can put 8 or 16 of them
into one vector instruction. No copies are left but the padding.

And yet this is usually *slower* than the matrix product. Look at the innermost line: for one
multiplication and one addition it reads a pixel, reads a sum and writes the sum back. A core can do
two vector multiply-adds in the time of one such write. The arithmetic waits for the cache.
"""

# %%
minicnn.use_backend("numba")  # now the compiled loops have the cores

import numba  # noqa: E402


@numba.njit(parallel=True, fastmath={"contract"})
def row_loops(x: Any, w: Any, y: Any) -> None:
    """Add each tap of each channel to whole rows of the output."""
    for plane in numba.prange(y.shape[0] * y.shape[1]):
        n, f = plane // y.shape[1], plane % y.shape[1]
        for c in range(w.shape[1]):
            for i in range(w.shape[2]):
                for j in range(w.shape[3]):
                    weight = w[f, c, i, j]
                    for r in range(y.shape[2]):
                        sums, pixels = y[n, f, r], x[n, c, r + i, j:]
                        for s in range(len(sums)):
                            sums[s] += weight * pixels[s]


def compiled(x: Any, w: Any) -> Any:
    """The loops, compiled."""
    y = np.zeros((len(x), len(w), *x.shape[2:]), x.dtype)
    row_loops(padded(x), w, y)
    return y


y = step("4. compiled loops", compiled, x, w, y)

# %% [markdown]
"""
## 5. Register tiles

The cure is to take the sums out of the innermost loop. A core has 16 or 32 vector registers, and
whatever is in a register costs nothing to read. So keep a *tile* of sums there, 8 filters by 48
pixels with AVX-512, and run over all channels and taps before any of them is written. One step then
fetches 3 vectors of pixels and 8 weights and does 24 vector multiply-adds with them: each number
that is fetched is used several times, and each sum is written once instead of `C * K * K` times.

Compilers do not find this by themselves, and Python has no word for a register. minicnn's kernel
writes the vector instructions of the tile through LLVM; `numba_cpu/microkernel.py` explains it line
by line. It reads the pixels in place or through small copies that stay in the cache, so that step
2's memory is not needed either.
"""

# %%
minicnn.direct_convolution()  # until step 7 the products are those of the definition
kernels = registry.load("numba", strict=True)  # strict: an error instead of a slower way
window = Window2d.of((H, W), K, 1, 1)


def tiles(x: Any, w: Any) -> Any:
    """minicnn's convolution."""
    return kernels.conv2d(x, w, None, window, 1)


y = step("5. register tiles", tiles, x, w, y)

# %% [markdown]
"""
## 6. Fusion

After a convolution comes a ReLU, which reads every sum from memory, compares it with 0 and writes
it back: hardly any arithmetic, but the whole map crosses memory twice. When the tile leaves the
registers, the sums are at hand for free. Taking the maximum there saves both crossings. In minicnn
a `Sequential` does that by itself where a convolution is followed by a ReLU.
"""

# %%


def tiles_then_relu(x: Any, w: Any) -> Any:
    """Two kernels, one after the other."""
    return kernels.relu(kernels.conv2d(x, w, None, window, 1))


def fused(x: Any, w: Any) -> Any:
    """One kernel for both."""
    return kernels.conv2d_affine(x, w, None, None, window, 1, True)


step("5. tiles, then ReLU", tiles_then_relu, x, w, y, relu=True)
step("6. fused with ReLU", fused, x, w, y, relu=True)

# %% [markdown]
"""
## 7. Fewer products

The tile runs near the arithmetic peak, so the only way on is less arithmetic. Winograd's algorithm
computes 4x4 outputs of a 3x3 filter with 36 products where the definition has 144: it transforms a
6x6 piece of the map and the filter, multiplies number by number, and transforms back. The
transforms are additions, and the sum over the channels is taken between them.
`numba_cpu/winograd.py` shows the matrices. The rate below still counts the products of the
definition, which is why it can pass the peak. The price is rounding, about ten times that of the
direct sum. minicnn takes this way where it is faster; `minicnn.direct_convolution()` forbids it.
"""

# %%
minicnn.direct_convolution(False)
step("7. fewer products", fused, x, w, y, relu=True, growth=ERROR_GROWTH[3])

# %% [markdown]
"""
## The table

Between the small problem and the large one times cannot be compared, rates can. What is left to
gain is in `benchmarks/kernels.py`, which puts each kernel beside the limits of the machine that it
runs on.
"""

# %%
print(f"\n{N} images, {C} -> {F} channels, {H}x{W}, {minicnn.get_num_threads()} threads")
print(f"{'':28} {'ms':>10} {'GFLOP/s':>10} {'by the row above':>18}")
before = None
for name, milliseconds, rate in rows:
    gain = f"{rate / before:.2f}" if before else ""
    print(f"{name:28} {milliseconds:10.2f} {rate:10.3f} {gain:>18}")
    before = rate
