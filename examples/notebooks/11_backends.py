# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
"""
# 11. Backends: the same numbers, sooner

**What you will be able to do.** Say which kernel sets your machine can use and why not the others;
show that all of them compute the same; time them fairly; find where the time of a training step
goes; explain im2col, direct and Winograd convolution; and say of a kernel whether the processor or
the memory holds it up, and how far it is from the best that your machine could do.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/11_backends.py`, which writes the pictures into
`runs/notebooks/`.

No time is printed in the text of this page: all are measured on *your* machine, now. If something
else keeps it busy, they are worthless.
"""

# %%
import statistics
import time
from collections import Counter

import numpy as np
from lesson import check, show, sized

import minicnn
import minicnn.functional as F
from minicnn import Tensor, data, models, optim, plot
from minicnn.plot.layout import text_width
from minicnn.plot.picture import headed, margins, new
from minicnn.testing import assert_close
from minicnn_kernels import registry
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.reference import PRIMITIVES, Kernels
from minicnn_kernels.threads import usable_cores

CHOSEN, THREADS = registry.selected("cpu"), minicnn.get_num_threads()  # as you had them

# %% [markdown]
"""
## What is there, and what is not

Page 10 wrote a *kernel set*: a class with all primitives of minicnn. These are the ones that come
with it, and for those that cannot be used here, the reason:
"""

# %%
found = registry.availability()
for name, reason in found.items():
    print(f"{name:10} {'can be used' if reason is None else reason}")
print(f"in use: {CHOSEN}, with {THREADS} threads on {usable_cores()} cores")

# %% [markdown]
"""
- `numpy` is the reference: plain array code, made to be read. It *defines* what is right.
- `numba` is the same contract as loops in Python, compiled for your processor on first use.
- `cupy` is the reference on an NVIDIA GPU: the same lines, with CuPy in the place of NumPy.
- `cupy_cuda` and `numba_cuda` are kernels for such a GPU, in CUDA C++ and in Python.

So that there is always something to compare, here is the set of page 10 again in short, a
convolution without columns. All sets that work here take part in what follows. If you chose the
numpy set yourself (`MINICNN_BACKEND=numpy`), we respect that and compile nothing.
"""


# %%
@minicnn.register_kernels
class Shifted(Kernels):
    """Convolutions as sums of shifted products"""

    name = "shifted"

    def conv2d(self, x, w, b, window, groups):
        """One product for each position of the filter."""
        if groups > 1:
            return super().conv2d(x, w, b, window, groups)
        padded = self._padded(x, window, 0.0)
        y = self.xp.zeros((len(x), len(w), window.oh * window.ow), x.dtype)
        for i, j in np.ndindex(window.kh, window.kw):
            rows, columns = window.tap_slices(i, j)
            view = padded[:, :, rows, columns]
            y += self.xp.matmul(w[:, :, i, j], view.reshape(*x.shape[:2], -1))
        y = y.reshape(len(x), len(w), window.oh, window.ow)
        return y if b is None else y + b.reshape(1, -1, 1, 1)


usable = [name for name, reason in found.items() if reason is None]
SETS = ["numpy", "shifted"] if CHOSEN == "numpy" else [*usable, "shifted"]
print("on this page:", ", ".join(SETS))

# %% [markdown]
"""
## Equal, but for rounding

A float32 number has 24 binary digits, so every sum is rounded, and the *order* of a sum decides
what is lost. No two kernels add in the same order. (That is no fault of a GPU, nor of anyone.)
"""

# %%
large, small = np.float32(1e8), np.float32(1)
check("(10⁸ + 1) − 10⁸, and (10⁸ − 10⁸) + 1, in float32",
      [(large + small) - large, (large - large) + small], [0, 1])  # fmt: skip
check("2²⁴ + 1 in float32", np.float32(2**24) + small, 16_777_216)

# %% [markdown]
"""
How far may two results be apart, then? A rounding errs by half a unit in the last place, and the
errors of n of them add up like a random walk, to √n. `assert_close` computes the bound from that.
The notes' CNN, one batch, forward and backward, on every set:
"""

# %%
clothes = data.fashion_mnist("train", source="sample")
images = (clothes.images / np.float32(255)).astype(np.float32)


def step_on(name, batch):
    """A training step of the notes' CNN on a kernel set, ready to be called; and the network."""
    minicnn.seed(0)
    xp, device = registry.load(name).xp, registry.load(name).device
    model = models.create("notes_cnn")
    if device != "cpu":
        model.to(device)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    x, labels = Tensor(xp.asarray(images[:batch])), xp.asarray(clothes.labels[:batch])

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()  # waits until a GPU is done

    return step, model


def first_step(name):
    """The gradient of the first step by the weights of the last layer."""
    with minicnn.use_backend(name), minicnn.allow_tf32(False):
        step, model = step_on(name, sized(64, 8))
        step()
        return Tensor(model.classifier.weight.grad).numpy()


expected, wrong = first_step("numpy"), 0
terms = sized(64, 8) * 1568
for name in SETS[1:]:
    found_there = first_step(name)
    assert_close(found_there, expected, terms=terms, condition=10, what=name)
    difference = np.abs(found_there - expected).max() / np.abs(expected).max()
    wrong += difference > 1e-3
    print(f"{name:10} differs by {difference:.1e} of the largest gradient")
check("sets that are further apart than rounding explains", wrong, 0)

# %% [markdown]
"""
(A GPU was asked for strict float32 here. Its tensor cores usually multiply in TF32, with fewer
digits, of which more below.)

## Timing, fairly

Five rules, learned the hard way by everyone who has compared programs:

1. **Warm up.** The first call compiles, loads and allocates. It is shown apart, not hidden.
2. **In turn.** A, B, A, B, ...: what slows the machine for a while then slows both.
3. **The median** of many times: one interruption must not count.
4. **Wait for the GPU.** A call returns before the work is done; asking for a value waits.
5. **Give everyone their threads.** Two pools of threads that fight for the same cores slow each
   other several times. minicnn gives the threads to BLAS *or* to the compiled loops: switching
   between sets moves them, which takes a moment and is not timed here.
"""


# %%
def race(runners, rounds=None, of_all=statistics.median):
    """Seconds of the first call, and the median (or ``of_all``) of those after it, by name.

    runners : by name, the kernel set and the function
    """
    rounds = sized(15, 2) if rounds is None else rounds
    first, times = {}, {name: [] for name in runners}
    for turn in range(rounds + 1):
        for name, (kernels, function) in runners.items():
            with minicnn.use_backend(kernels):
                start = time.perf_counter()
                function()
                taken = time.perf_counter() - start
            if turn:
                times[name].append(taken)
            else:
                first[name] = taken
    return first, {name: of_all(taken) for name, taken in times.items()}


def bars(title, values, unit):
    """A picture of one bar for each name, with its number."""
    digits = {name: ",.0f" if value >= 100 else ".3g" for name, value in values.items()}
    words = [f"{value:{digits[name]}} {unit}" for name, value in values.items()]
    left = max(text_width(name, 9) for name in values) + 0.3
    right = max(text_width(text, 9) for text in words) + 0.3
    with plot.style() as colors:
        told = ", ".join(f"{name} {text}" for name, text in zip(values, words, strict=True))
        height = 0.75 + 0.32 * len(values)
        picture = new(left + 3.6 + right, height, colors, title, f"{title}: {told}.")
        axes = picture.add_subplot()
        picture.subplots_adjust(**margins(picture, left, right, 0.2, 0.5))
        axes.barh(list(values), list(values.values()), color=colors.series[0], height=0.6)
        axes.invert_yaxis()
        axes.xaxis.set_visible(False)
        axes.tick_params(left=False, labelsize=9, labelcolor=colors.text)
        axes.spines[:].set_visible(False)
        axes.grid(visible=False)
        for row, (value, text) in enumerate(zip(values.values(), words, strict=True)):
            axes.annotate(text, (value, row), (4, 0), textcoords="offset points", va="center")
        return headed(picture)


# %% [markdown]
"""
Now the race: a training step of the notes' CNN.
"""

# %%
BATCH = sized(64, 4)
first, median = race({name: (name, step_on(name, BATCH)[0]) for name in SETS})
for name in SETS:
    print(f"{name:10} first step {first[name]:8.3f} s, then {median[name] * 1e3:8.1f} ms")
show(bars(f"A training step, {BATCH} images", {k: t * 1e3 for k, t in median.items()}, "ms"))

# %% [markdown]
"""
The first step of a compiled set can take very long the first time ever, because it compiles; what
it compiled is kept on disk, and the next start only loads it.

## Where the time goes

Which primitives are worth making faster? Put a clock around each: a kernel set that passes every
call on to another one, and notes how long it took.
"""


# %%
class Clocked(Kernels):
    """Another kernel set with a clock at each primitive."""

    def __init__(self, inner):
        super().__init__(inner.xp)
        self.name, self.device = "clocked", inner.device
        self.gives_threads_to_blas = inner.gives_threads_to_blas
        self.seconds, self.calls = Counter(), Counter()
        for primitive in PRIMITIVES:
            setattr(self, primitive, self._with_clock(primitive, getattr(inner, primitive)))

    def _with_clock(self, primitive, function):
        def call(*arguments, **named):
            start = time.perf_counter()
            result = function(*arguments, **named)
            self.seconds[primitive] += time.perf_counter() - start
            self.calls[primitive] += 1
            return result

        return call


def profile(name, batch, rounds):
    """The clocks after so many steps on a kernel set of the CPU, and seconds of all."""
    clocked = Clocked(registry.load(name))
    registry.register(registry.Backend("clocked", "cpu", "a clock", lambda strict: clocked))
    with minicnn.use_backend("clocked"):
        step, _ = step_on("clocked", batch)
        step()
        clocked.seconds.clear(), clocked.calls.clear()
        start = time.perf_counter()
        for _ in range(rounds):
            step()
        return clocked, time.perf_counter() - start


ROUNDS = sized(10, 2)
for name in dict.fromkeys(("numpy", CHOSEN)):
    clocked, whole = profile(name, BATCH, ROUNDS)
    most = {key: s / ROUNDS * 1e3 for key, s in clocked.seconds.most_common(8)}
    rest = (whole - sum(clocked.seconds.values())) / ROUNDS * 1e3
    show(bars(f"Where a step on {name} goes", {**most, "outside of kernels": rest}, "ms"))
print(f"a step calls {clocked.calls.total() / ROUNDS:.0f} primitives")

# %% [markdown]
"""
`conv2d_grad_weight`, `conv2d_grad_input` and `conv2d` are the convolutions. The others do hardly
any arithmetic, and yet count the more, the faster the convolutions are: they walk through memory.
("Outside of kernels" is Python: the graph, the layers, the optimizer's bookkeeping.)

## Three ways to convolve

**im2col** writes every window out as a column, and the convolution is *one* matrix product, which
every computer does well. The price is memory: each number is written as often as windows see it.
"""

# %%
window = Window2d.of((28, 28), 5, padding=2)
columns = registry.load("numpy").im2col(np.ones((1, 16, 28, 28), np.float32), window)
check("im2col of 16 maps for 5x5 writes the maps so many times", columns.size / (16 * 28 * 28), 25)

# %% [markdown]
"""
**Direct** convolution never writes columns: it reads the image where it is, shifted for each
position of the filter. `Shifted` does that with NumPy; the compiled set holds a small block of the
result in the processor's registers while it runs through all positions and channels
(`minicnn_kernels/numba_cpu/microkernel.py`; `examples/fast_convolution.py` gets there in steps).

**Winograd**'s algorithm multiplies *less*. Two neighbouring outputs of a filter of three,

    y₀ = d₀g₀ + d₁g₁ + d₂g₂         y₁ = d₁g₀ + d₂g₁ + d₃g₂

are six products. Four are enough (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural
Networks"), if the filter is prepared beforehand:
"""

# %%
(d0, d1, d2, d3), (g0, g1, g2) = (1, 2, 3, 5), (1, 1, 2)
m1 = (d0 - d2) * g0
m2 = (d1 + d2) * (g0 + g1 + g2) / 2
m3 = (d2 - d1) * (g0 - g1 + g2) / 2
m4 = (d1 - d3) * g2
check("two outputs from four products", [m1 + m2 + m3, m2 - m3 - m4], [9, 15])
check("directly", np.correlate([d0, d1, d2, d3], [g0, g1, g2]), [9, 15])
check("products for 2x2 outputs of 3x3: directly, by Winograd", [2 * 2 * 9, 4 * 4], [36, 16])
check("products for 4x4 outputs of 3x3: directly, by Winograd", [4 * 4 * 9, 6 * 6], [144, 36])

# %% [markdown]
"""
In two dimensions it is done by rows and by columns: 2x2 outputs come from a 4x4 piece of the image.
Everything in between is a sum over channels, 16 matrix products. In NumPy:
"""

# %%
B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], np.float32) / 2
A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)


def winograd(x, w):
    """3x3 convolution with padding 1 of maps with an even number of rows and columns."""
    N, C, H, W = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), (2, 3))[:, :, ::2, ::2]
    pieces = B.astype(x.dtype) @ pieces @ B.T.astype(x.dtype)  # (N, C, H/2, W/2, 4, 4)
    filters = G.astype(x.dtype) @ w @ G.T.astype(x.dtype)  # (F, C, 4, 4)
    right = pieces.transpose(4, 5, 0, 1, 2, 3).reshape(4, 4, N, C, -1)
    sums = filters.transpose(2, 3, 0, 1)[:, :, None] @ right  # (4, 4, N, F, H/2 * W/2)
    tiles = sums.reshape(4, 4, N, len(w), H // 2, W // 2).transpose(2, 3, 4, 5, 0, 1)
    y = A.astype(x.dtype) @ tiles @ A.T.astype(x.dtype)  # (N, F, H/2, W/2, 2, 2)
    return y.transpose(0, 1, 2, 4, 3, 5).reshape(N, len(w), H, W)


rng = np.random.default_rng(0)
N, C, SIDE = sized((16, 32, 28), (2, 8, 12))
x, w = rng.standard_normal((N, C, SIDE, SIDE)), rng.standard_normal((C, C, 3, 3))
window = Window2d.of((SIDE, SIDE), 3, padding=1)
numpy_set, shifted_set = registry.load("numpy"), registry.load("shifted")
exact = numpy_set.conv2d(x, w, None, window, 1)
assert_close(winograd(x, w), exact, terms=9 * C, condition=4, what="winograd in float64")
x, w = x.astype(np.float32), w.astype(np.float32)
ways = {
    "im2col": lambda: numpy_set.conv2d(x, w, None, window, 1),
    "shifted": lambda: shifted_set.conv2d(x, w, None, window, 1),
    "Winograd": lambda: winograd(x, w),
}
for name, way in ways.items():
    print(f"{name:10} error {np.abs(way() - exact).max() / np.abs(exact).max():.1e} of the largest")

# %% [markdown]
"""
All are equal up to rounding. (Winograd adds and subtracts before it multiplies: with 2x2 outputs
that costs next to nothing, with larger tiles, whose matrices hold larger numbers, some accuracy.)
And the time?
"""

# %%
runners = {name: ("numpy", way) for name, way in ways.items()}
if CHOSEN != "numpy":
    chosen_set = registry.load(CHOSEN)
    runners[CHOSEN] = CHOSEN, lambda: chosen_set.conv2d(x, w, None, window, 1)
_, taken = race(runners)
show(bars(f"A 3x3 convolution, {C} maps to {C}", {k: t * 1e3 for k, t in taken.items()}, "ms"))

# %% [markdown]
"""
Fewer products are not less time: our Winograd in NumPy spends it on moving pieces around. It pays
where these steps stay in the cache, as in the compiled set, which uses it for 3x3 where it is
faster (`minicnn.direct_convolution()` forbids it).

## The size of a batch

Every operation has a fixed cost: Python, the graph, the call. With one image it is paid for one
image; with 64, once for all of them. How many images a second?
"""

# %%
powers = np.arange(sized(8, 3))
speeds = {}
for name in SETS:
    steps = {str(2**p): (name, step_on(name, int(2**p))[0]) for p in powers}
    _, taken = race(steps, rounds=sized(5, 1))
    speeds[name] = [2**p / taken[str(2**p)] for p in powers]
show(plot.lines(powers, speeds, "Images a second", "batch size, as a power of two", "images/s",
                log=True))  # fmt: skip

# %% [markdown]
"""
The line rises while the fixed cost rules and is flat when the arithmetic does. How large *is* the
fixed cost? Ask for the ReLU of a single number:
"""

# %%
one, plain = Tensor(np.ones(1, np.float32)), np.ones(1, np.float32)
calls = sized(2000, 50)
_, taken = race({
    "NumPy": (CHOSEN, lambda: [np.maximum(plain, 0) for _ in range(calls)]),
    "F.relu": (CHOSEN, lambda: [F.relu(one) for _ in range(calls)]),
})  # fmt: skip
show(bars("ReLU of one number", {k: t / calls * 1e6 for k, t in taken.items()}, "µs"))

# %% [markdown]
"""
## A CUDA graph

On a GPU the fixed cost is the bottleneck: its kernels for a small network take a few microseconds
each, less than Python needs to launch the next one, so the GPU *waits*. A **CUDA graph** records
all launches of a step (the profile above counted them) and replays them with one call. Nothing
gets computed faster, but nothing waits:

    minicnn.use_backend("cupy_cuda")
    model.to("cuda")
    trainer = Trainer(model, optimizer, graph=True)     # eight steps to a graph

The weights are the same, bit for bit. Large networks gain nothing: their kernels run longer than a
launch takes. `minicnn/training/graphed.py` tells what must hold still to be recorded.

## Threads

Two cores are at most twice as fast as one (and less where memory is the bottleneck, because they
share it). More threads than cores are slower.
"""

# %%
counts, speed = sorted({1, 2, 4, 8, 16, 32, THREADS} & set(range(1, THREADS + 1))), []
try:
    for count in counts:
        minicnn.set_num_threads(count)
        _, taken = race({CHOSEN: (CHOSEN, step_on(CHOSEN, BATCH)[0])}, rounds=sized(9, 1))
        speed.append(BATCH / taken[CHOSEN])
finally:
    minicnn.set_num_threads(THREADS)
show(bars(f"Images a second on {CHOSEN}", {f"{c} thread{'s' * (c > 1)}": s
          for c, s in zip(counts, speed, strict=True)}, "images/s"))  # fmt: skip

# %% [markdown]
"""
## Where numbers lie

Memory is one long row. An array (N, C, H, W) lies in it image by image, map by map, row by row;
its *strides* say how many bytes to go for the next number along each axis. `transpose` moves no
number, it only swaps strides, and whoever reads the result row by row then jumps through memory:
each jump fetches a cache line of 64 bytes for the sake of 4.
"""

# %%
block = np.zeros((2, 3, 4, 5), np.float32)
check("strides of (N, C, H, W) = (2, 3, 4, 5)", block.strides, [240, 80, 20, 4])
seen = block.transpose(0, 2, 3, 1)
check("the same numbers seen as (N, H, W, C)", seen.strides, [240, 20, 4, 80])

side = sized(3000, 300)
square = rng.standard_normal((side, side), np.float32)
turned = square.T
target = np.empty_like(square)
_, taken = race({
    "copy, row by row": ("numpy", lambda: np.copyto(target, square)),
    "copy of the transpose": ("numpy", lambda: np.copyto(target, turned)),
})  # fmt: skip
show(bars(f"The same {side} x {side} numbers", {k: t * 1e3 for k, t in taken.items()}, "ms"))

# %% [markdown]
"""
minicnn keeps maps as (N, C, H, W) everywhere. Operations accept any strides, and pay once for a
copy where their loops need rows.

## TF32: fewer digits on purpose

The tensor cores of a GPU multiply float32 numbers after rounding them to *TF32*: the same range,
10 binary digits behind the point in the place of 23. Sums are still float32. We can do the rounding
on the CPU, by adding half of the last digit kept and cutting the bits behind it:
"""


# %%
def tf32(x):
    """float32 numbers rounded to TF32, to the nearest."""
    bits = np.asarray(x, np.float32).view(np.uint32) + np.uint32(1 << 12)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


check("1 + 2⁻¹⁰ and 1 + 2⁻¹² in TF32", tf32([1 + 2**-10, 1 + 2**-12]), [1.0009765625, 1])
a, b = (rng.standard_normal((200, 200)).astype(np.float32) for _ in range(2))
exact = a.astype(np.float64) @ b.astype(np.float64)
for name, product in {"float32": a @ b, "TF32": tf32(a) @ tf32(b)}.items():
    error = np.abs(product - exact).max() / np.abs(exact).max()
    print(f"{name:8} error {error:.0e} of the largest result")

# %% [markdown]
"""
That is enough for training, where gradients of a batch are far noisier, and not for comparing
results digit by digit: `minicnn.allow_tf32(False)` switches it off. The CPU knows no TF32.

## How fast could it be? The roofline

Two things can hold a kernel up: the processor cannot add and multiply faster than its *peak*, and
memory cannot deliver faster than its *bandwidth*. Which one it is depends on the **arithmetic
intensity**: how many operations a kernel does for each byte that it must read or write. ReLU does
one for 8 bytes. A matrix product of n x n does 2n³ for three matrices.
"""

# %%
check("operations for a byte: ReLU", 1 / 8, 0.125)
check("operations for a byte: product of 1024 x 1024", 2 * 1024**3 / (3 * 4 * 1024**2), 170.666667,
      digits=6)  # fmt: skip

# %% [markdown]
"""
Measure both limits of this machine: the peak by a large matrix product (with all threads for
BLAS, which is what choosing the numpy set does), the bandwidth by copying an array far larger than
the caches. A limit is what can be reached at all, so here the *best* time counts.
"""

# %%
n, numbers = sized((1536, 2**25), (128, 2**16))
left, right = (rng.standard_normal((n, n), np.float32) for _ in range(2))
source, goal = np.ones(numbers, np.float32), np.zeros(numbers, np.float32)
_, taken = race({"product": ("numpy", lambda: left @ right),
                 "copy": ("numpy", lambda: np.copyto(goal, source))}, of_all=min)  # fmt: skip
PEAK = 2 * n**3 / taken["product"] / 1e9
BANDWIDTH = 2 * source.nbytes / taken["copy"] / 1e9
RIDGE = PEAK / BANDWIDTH
print(f"peak {PEAK:.3g} GFLOP/s, bandwidth {BANDWIDTH:.3g} GB/s (copied by one thread)")
print(f"a kernel needs {RIDGE:.3g} operations for each byte to be held up by arithmetic alone")

# %% [markdown]
"""
Now the kernels of the network's second stage, on the set that you use: for each its operations,
the bytes that it must read and write at least, and its time.
"""

# %%
k, N = registry.load(CHOSEN), BATCH
maps, deep = (rng.standard_normal((N, C, 14, 14), np.float32) for C in (16, 32))
filters, top = rng.standard_normal((32, 16, 5, 5), np.float32), np.ones((10, 1568), np.float32)
five, two = Window2d.of((14, 14), 5, padding=2), Window2d.of((14, 14), 2, 2)
flat, per_channel = np.ones((N, 1568), np.float32), np.ones(32, np.float32)
KERNELS = {  # the call, its operations, the arrays besides the result
    "convolution": (lambda: k.conv2d(maps, filters, None, five, 1), 2 * deep.size * 16 * 25,
                    (maps, filters)),
    "its weights' gradient": (lambda: k.conv2d_grad_weight(deep, maps, five, 1),
                              2 * deep.size * 16 * 25, (deep, maps)),
    "batch norm": (lambda: k.batch_norm_eval(deep, None, None, per_channel, per_channel, 1e-5),
                   2 * deep.size, (deep,)),
    "ReLU": (lambda: k.relu(deep), deep.size, (deep,)),
    "max pooling": (lambda: k.max_pool2d(deep, two), deep.size, (deep,)),
    "full connection": (lambda: k.linear(flat, top, None), 2 * N * 1568 * 10, (flat, top)),
}  # fmt: skip
_, taken = race({name: (CHOSEN, call) for name, (call, _, _) in KERNELS.items()})
points = {}
for name, (call, operations, arrays) in KERNELS.items():
    result = call()
    results = result if isinstance(result, tuple) else (result,)
    intensity = operations / sum(array.nbytes for array in (*arrays, *results))
    points[name] = intensity, operations / taken[name] / 1e9
    roof = min(PEAK, intensity * BANDWIDTH)
    print(f"{name:22} {intensity:6.2f} operations a byte, {points[name][1]:7.1f} GFLOP/s, "
          f"{points[name][1] / roof:5.0%} of the roof")  # fmt: skip


# %%
def roofline(title, points):
    """Kernels below the roof of a machine; powers of ten along both axes."""
    told = ", ".join(f"{name} {rate:.3g} GFLOP/s" for name, (_, rate) in points.items())
    with plot.style() as colors:
        picture = new(7.2, 3.8, colors, title, f"{title}: {told}.")
        axes = picture.add_subplot()
        picture.subplots_adjust(**margins(picture, 0.75, 2.2, 0.6, 0.5))
        low = min(intensity for intensity, _ in points.values()) / 2
        high = max(RIDGE, *(intensity for intensity, _ in points.values())) * 3
        across = np.geomspace(low, high, 400)
        axes.plot(across, np.minimum(PEAK, across * BANDWIDTH), color=colors.text, label="the roof")
        for i, (name, place) in enumerate(points.items()):
            axes.plot(*place, "os^DvP"[i], color=colors.series[i % 4], markersize=7, label=name,
                      linestyle="none")  # fmt: skip
        axes.set(xscale="log", yscale="log", ylabel="GFLOP/s",
                 xlabel="arithmetic intensity: operations for each byte")  # fmt: skip
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return headed(picture)


show(roofline(f"What {CHOSEN} makes of this machine", points))

# %% [markdown]
"""
Read it so. Under the slope on the left, memory holds a kernel up: a faster processor would not
help, and *fusing* it with its neighbour would, because then the map does not travel twice. Under
the flat part on the right the arithmetic counts. The distance to the roof is what a better kernel
could gain at most. (A kernel can lie *above* the slope: its maps may still be in the cache from the
last call, which is faster than memory, and it may run on all cores, where the copy ran on one.)

This page has changed sets and threads many times. They are as you had them:
"""

# %%
as_before = [registry.selected("cpu") == CHOSEN, minicnn.get_num_threads() == THREADS]
check("set and threads are as before", as_before, [1, 1])

# %% [markdown]
"""
## Exercises

1. A 1x1 convolution from 64 to 64 channels on 28x28 maps: how many operations for each byte, if the
   weights are not counted? And a 3x3 one?
2. What share of the products does Winograd save with 4x4 outputs of a 3x3 filter?
3. Why does `race` call the functions in turn, not one after the other?
4. Time `F.max_pool2d` on a batch of images against the same on their transposed view
   (`x.transpose(0, 1, 3, 2)`), and check that both find the same.

<details><summary>Answer 1</summary>

For each output number 2 · 64 operations, and for each place 64 numbers of 4 bytes in and as many
out: 2 · 64 · 64 / (2 · 64 · 4) = 16. With 3x3 it is nine times the arithmetic and no more bytes.

```python
assert 2 * 64 * 64 / (2 * 64 * 4) == 16
assert 9 * 2 * 64 * 64 / (2 * 64 * 4) == 144
```
</details>

<details><summary>Answer 2</summary>

Three quarters: 36 instead of 144.

```python
assert 1 - 36 / 144 == 0.75
```
</details>

<details><summary>Answer 3</summary>

Because a machine is not equally fast all the time: it gets warm, and other programs come and go.
In turn, what happens for a while happens to all. Nobody can promise which one will look better
otherwise; this shows the order of the calls:

```python
order = []
race({"a": ("numpy", lambda: order.append("a")), "b": ("numpy", lambda: order.append("b"))}, 2)
assert "".join(order) == "ababab"
```
</details>

<details><summary>Answer 4</summary>

```python
views = {"rows": images[:8], "transposed": images[:8].transpose(0, 1, 3, 2)}
pools = {name: F.max_pool2d(Tensor(view), 2).numpy() for name, view in views.items()}
assert (pools["rows"] == pools["transposed"].transpose(0, 1, 3, 2)).all()
_, pool_times = race({name: (CHOSEN, lambda view=view: F.max_pool2d(Tensor(view), 2))
                      for name, view in views.items()})
print({name: f"{taken * 1e6:.0f} µs" for name, taken in pool_times.items()})
```
</details>
"""
