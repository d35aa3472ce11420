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
# 10. Your own operation, and your own kernels

**What you will be able to do.** Write a differentiable operation of your own, forward and backward;
prove its gradient right, and see a wrong one caught; make a layer of it that learns, and train it;
then go one floor down, write a convolution your own way, and train a network with it.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/10_own_op_and_kernels.py`, which writes the pictures into
`runs/notebooks/`.
"""

# %%
import numpy as np
from lesson import check, show, sized

import minicnn
import minicnn.functional as F
from minicnn import Op, Tensor, Trainer, apply, data, nn, optim, plot
from minicnn.errors import MiniCNNError
from minicnn.testing import (
    Case,
    GradientError,
    OpSpec,
    assert_close,
    check_op,
    distinct,
    gradcheck,
    gradcheck_module,
    planted_faults,
    surviving_faults,
)
from minicnn_kernels import registry
from minicnn_kernels.geometry import Window2d
from minicnn_kernels.reference import Kernels

selected_before = registry.selected()

# %% [markdown]
"""
## An operation is a forward and a backward

On page 1 an engine grew out of single numbers. minicnn's has arrays instead, and an operation is a
class with two methods. Our first one is *SiLU* (also called Swish), a ReLU without the corner:

    y = x · σ(x)                     σ(x) = 1 / (1 + e⁻ˣ)

Its slope is the product rule with a pencil. With s = σ(x), whose slope is s(1 − s):

    y' = s + x · s(1 − s)

`forward` gets arrays and returns an array. What backward will need is kept with `save`. `backward`
gets `gy`, how much the loss grows with each y, and returns how much it grows with each x: **gy
times the slope**. And `k`? It is the set of kernels that computes at the moment, of which more
below; `k.sigmoid` is the fast and careful sigmoid of the machine at hand.
"""


# %%
class Silu(Op):
    """x times its sigmoid."""

    def forward(self, k, x):
        """y = x · σ(x); keep x and σ(x)."""
        s = k.sigmoid(x)
        self.save(x, s)
        return x * s

    def backward(self, k, gy):
        """The upstream gradient times the slope."""
        x, s = self.saved
        return gy * (s + x * s * (1 - s))


def silu(x):
    """What users call: a function of a tensor."""
    return apply(Silu(), x)


points = Tensor(np.array([-2.0, 0.0, 2.0]), requires_grad=True)
y = silu(points)
check("SiLU at −2, 0, 2", y, [-0.238406, 0, 1.761594], digits=6)
y.sum().backward()
check("its slope there", points.grad, [-0.090784, 0.5, 1.090784], digits=6)

# %% [markdown]
"""
It is an operation like all others now: it stands in the graph, and everything that works with
graphs works with it.
"""

# %%
z = np.linspace(-6, 4, 201)
drawn = Tensor(z, requires_grad=True)
y = silu(drawn)
y.sum().backward()
show(plot.lines(z, {"SiLU": y.numpy(), "its slope": drawn.grad, "ReLU": np.maximum(z, 0)},
                "A ReLU without the corner", "x"))  # fmt: skip
x, w = Tensor([[1.0, 2.0]], requires_grad=True), Tensor([[0.5, -1.0]], requires_grad=True)
show(plot.graph(silu(F.linear(x, w)).sum(), {"x": x, "w": w}))

# %% [markdown]
"""
## Do not trust, check

`gradcheck` measures the slope from the function's values alone, and compares. That is the whole
proof that a backward needs:
"""

# %%
rng = np.random.default_rng(0)
gradcheck(silu, rng.standard_normal((3, 5)))
print("the gradient of SiLU is right")

# %% [markdown]
"""
Would it have noticed a mistake? Here is a popular one: half of the product rule.
"""


# %%
class HalfSilu(Silu):
    """SiLU with a backward that takes s for a constant."""

    def backward(self, k, gy):
        """The other half of the product rule is missing."""
        return gy * self.saved[1]


def caught(function, *arrays):
    """Show the complaint of `gradcheck`; returns whether there was one."""
    try:
        gradcheck(function, *arrays)
    except GradientError as problem:
        print(problem)
        return True
    return False


check("half of the product rule is caught", caught(lambda x: apply(HalfSilu(), x), points.array), 1)

# %% [markdown]
"""
The message names the place, what your backward says there and what the function's values say.

## How a slope is measured, and why in double precision

(f(x + h) − f(x − h)) / 2h. How small should h be? Small, or the curve bends between the two points:
that error is as large as h². But not *too* small: two nearly equal numbers are subtracted, and what
is left of them is mostly their rounding, which is then divided by h. So there is a best h in
between, and how good it gets depends on the number type. Let us measure the slope of SiLU at many
points, with every h, in both types:
"""

# %%
exponents = np.linspace(-9, 0, sized(91, 46))
places = np.linspace(-2, 2, 41)
s = 1 / (1 + np.exp(-places))
exact = s + places * s * (1 - s)


def slope_error(dtype, h):
    """By how much measured slopes are wrong on average with the step h."""
    high, low = (silu(Tensor((places + step).astype(dtype))).numpy() for step in (h, -h))
    return np.abs((high - low) / (2 * h) - exact).mean()


errors = {dtype.__name__: [slope_error(dtype, h) for h in 10.0**exponents]
          for dtype in (np.float32, np.float64)}  # fmt: skip
show(plot.lines(exponents, errors, "The error of a measured slope",
                "power of ten of the step h", "error", log=True))  # fmt: skip
best = [min(values) for values in errors.values()]
print("the best that any step gives:", [f"{value:.0e}" for value in best])
check("float64 is at least ten thousand times as exact", best[0] > 1e4 * best[1], 1)

# %% [markdown]
"""
From the right: the error falls with h² until rounding takes over, in float32 so early that the
last digits of a slope are never right, and a small mistake in a backward could hide in them. So
`gradcheck` computes in float64, whatever you train with. It also draws the upstream gradient `gy`
at random: with ones, a backward that forgot `gy` altogether would pass.

## What the engine checks for you

Every gradient that a backward returns must have the shape and the number type of its argument. A
classic: a number of NumPy, which is float64, makes float32 arrays wider without a word.
"""


# %%
class Wide(Silu):
    """A factor from NumPy instead of a plain number."""

    def backward(self, k, gy):
        """Right numbers of the wrong type."""
        return np.float64(1.0) * super().backward(k, gy)


class TooFew(Silu):
    """A gradient for half of the values."""

    def backward(self, k, gy):
        """Every second one."""
        return super().backward(k, gy)[::2]


refused = 0
for mistake in (Wide, TooFew):
    try:
        apply(mistake(), Tensor(np.ones(4, np.float32), requires_grad=True)).sum().backward()
    except MiniCNNError as problem:
        refused += 1
        print(problem)
check("mistakes that the engine refuses", refused, 2)

# %% [markdown]
"""
## Two inputs, of different shapes

Multiply every channel of some maps with a number of its own: x is (N, C, H, W), g is (C,). Forward,
g is *broadcast*: one number of it is copied to all places of its channel. On the way back it gets
a share from each of them, and shares **add up** (page 1): the gradient of what was copied is the
**sum over the copies**.

`self.needs` says which gradients are wanted. The images of the first layer want none, and what is
not wanted need neither be saved nor computed.
"""


# %%
class Gain(Op):
    """Each channel times a number of its own."""

    def forward(self, k, x, g):
        """Channel c of every map times g[c]."""
        self.save(x if self.needs[1] else None, g)
        return k.multiply(x, g.reshape(1, -1, 1, 1))

    def backward(self, k, gy):
        """By x: gy, scaled alike. By g: summed over the copies."""
        x, g = self.saved
        gx = k.multiply(gy, g.reshape(1, -1, 1, 1)) if self.needs[0] else None
        gg = k.sum(k.multiply(gy, x), (0, 2, 3), False) if self.needs[1] else None
        return gx, gg


def gain(x, g):
    """Multiply the channels of maps (N, C, H, W) with g (C,)."""
    return apply(Gain(), x, g)


gradcheck(gain, rng.standard_normal((2, 3, 4, 4)), rng.standard_normal(3))
g = Tensor([1.0, 1.0, 1.0], requires_grad=True)
gain(Tensor(np.ones((2, 3, 4, 4), np.float32)), g).sum().backward()
check("one number of g is copied to so many places", g.grad, [32, 32, 32])

# %% [markdown]
"""
## An operation from the notes: L2 pooling

The length of each window's numbers, √(Σ x²). (x/y is the slope: a number that is most of the length
moves it most.) We need a sum over windows, and its way back; kernel sets have both, under the name
of *weighted pooling*, and `Window2d` knows all sizes. So there is no loop to write:
"""

# %%
TAPS = np.ones((2, 2))


class L2Pool(Op):
    """The root of the sum of squares of each 2x2 window."""

    def __init__(self, size):
        self.window = Window2d.of(size, 2, stride=2)
        self.ones = np.ones((self.window.oh, self.window.ow))

    def forward(self, k, x):
        """Square, sum over each window, take the root."""
        y = k.power(k.weighted_pool2d(k.multiply(x, x), TAPS, self.ones, self.window), 0.5)
        self.save(x, y)
        return y

    def backward(self, k, gy):
        """gy · x/y, each window to its own cells."""
        x, y = self.saved
        return x * k.weighted_pool2d_grad(k.divide(gy, y), TAPS, self.ones, self.window)


def l2_pool(x):
    """L2 pooling of maps (N, C, H, W) by windows of 2x2."""
    return apply(L2Pool(x.shape[2:]), x)


scores = np.array([[[[5.0, 1, 3, 4], [8, 2, 9, 2], [1, 3, 0, 1], [2, 2, 2, 0]]]])  # of page 3
check("L2 pooling", l2_pool(Tensor(scores)).numpy()[0, 0], [[9.6954, 10.4881], [4.2426, 2.2361]],
      digits=4)  # fmt: skip
gradcheck(l2_pool, distinct((1, 2, 4, 6)))
ours, theirs = l2_pool(Tensor(scores)), F.l2_pool2d(Tensor(scores), 2)
check("less minicnn's own", np.abs((ours - theirs).numpy()).max(), 0, digits=12)

# %% [markdown]
"""
(Two things make a gradcheck fail though the code is right: kinks, such as ReLU's at 0, and a slope
that does not exist, such as L2 pooling's for a window of zeros. `distinct` draws numbers that keep
away from both.)

## Everything at once

A gradient is not all that can be wrong. Does the operation change its input? Does a NaN show? Is
float32 as good as it can be? Does it work on a slice of a larger array, and on an empty batch? An
`OpSpec` says what is right, by an *oracle* written in another way, and `check_op` asks all of that.
"""

# %%
spec = OpSpec("silu", silu, [Case("plain", lambda rng: (rng.normal(size=(3, 4)),), batch=(0,))],
              oracle=lambda x: x / (1 + np.exp(-x)), terms=4)  # fmt: skip
for dtype in (np.float64, np.float32):
    check_op(spec, dtype=dtype)
print("SiLU keeps all the rules")

# %% [markdown]
"""
And who checks the checks? `surviving_faults` breaks the operation on purpose, in all the ways in
which operations usually break, and lists those that nobody noticed.
"""

# %%
print("\n".join(fault.name for fault in planted_faults(spec)))
check("broken copies of SiLU that nobody noticed", len(surviving_faults(spec)), 0)

# %% [markdown]
"""
## A layer that learns its own activation

Swish in full has a number β inside, y = x · σ(βx): with β = 0 it is a straight line (x/2), with
β = 1 it is SiLU, with a large β it is ReLU in all but name. Let each channel *learn* its β. With
s = σ(βx):

    ∂y/∂x = s + βx · s(1 − s)              ∂y/∂β = x² · s(1 − s), summed over the copies
"""


# %%
class SwishOp(Op):
    """x times the sigmoid of beta times x; x is (N, C, H, W), beta (C,)."""

    def forward(self, k, x, beta):
        """y = x · σ(βx)."""
        s = k.sigmoid(x * beta.reshape(1, -1, 1, 1))
        self.save(x, beta, s)
        return x * s

    def backward(self, k, gy):
        """By x and by β."""
        x, beta, s = self.saved
        bend = x * s * (1 - s)
        gx = gy * (s + beta.reshape(1, -1, 1, 1) * bend)
        return gx, k.sum(gy * x * bend, (0, 2, 3), False)


class Swish(nn.Module):
    """A layer that owns the beta of each channel; at first they are all 1."""

    def __init__(self, channels):
        super().__init__()
        self.beta = nn.Parameter(np.ones(channels, np.float32))

    def forward(self, x):
        """Maps in, maps out."""
        return apply(SwishOp(), x, self.beta)


layer = Swish(3)
check("the layer's parameters", [layer.num_parameters(), len(list(layer.state_dict()))], [3, 1])
gradcheck_module(layer, rng.standard_normal((2, 3, 4, 4)))
print("right by the input, and by", ", ".join(name for name, _ in layer.named_parameters()))

# %% [markdown]
"""
`nn.Module` saw the `Parameter` when it was assigned, and so will an optimizer, a checkpoint and
`model.to("cuda")`. Now a race on clothes, the same start for both:
"""

# %%
COUNT, EPOCHS = sized((4000, 4), (200, 2))
train = data.fashion_mnist("train", source="sample").subset(range(COUNT))
halved = train.images.reshape(COUNT, 1, 14, 2, 14, 2).mean(axis=(3, 5), dtype=np.float32)
halved = halved / 255 - 0.3
small = data.ArrayDataset(halved, train.labels, train.classes)  # 14x14: a quick race


def network(activation):
    """Two convolutions and a layer on top; activation(channels) makes what bends."""
    minicnn.seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), activation(8), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), activation(16), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 3 * 3, 10),
    )  # fmt: skip


def losses(model, epochs=EPOCHS):
    """The training loss of each epoch."""
    minicnn.seed(1)
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    return trainer.fit(data.Loader(small, 50, shuffle=True), epochs=epochs).column("loss")


swish = network(Swish)
betas_before = swish[1].beta.numpy().copy()
race = {"ReLU": losses(network(lambda channels: nn.ReLU())), "Swish with learned β": losses(swish)}
show(plot.lines(range(1, EPOCHS + 1), race, "A race on clothes", "epoch", "training loss"))
moved = np.abs(swish[1].beta.numpy() - betas_before)
assert race["Swish with learned β"][-1] < race["Swish with learned β"][0]
assert (moved > 0).all()

# %% [markdown]
"""
Who wins such a short race says little. That the β moved says that gradients reach them. What has
each channel of the first layer made of its activation?
"""

# %%
found = [round(float(beta), 2) for beta in swish[1].beta.numpy()]
print("β of the eight channels:", found)
z = np.linspace(-5, 2, 101)
betas = sorted({min(found), 1.0, max(found)})
curves = {f"β = {beta:.2f}": z / (1 + np.exp(-beta * z)) for beta in betas}
show(plot.lines(z, curves, "The activations with the smallest and the largest β", "x", "y"))

# %% [markdown]
"""
## One floor down: a kernel set of your own

Our operations called `k.sigmoid`, `k.multiply`, `k.weighted_pool2d`: *primitives*. A **kernel set**
is a class with all of them, and nothing else knows how anything is computed. The reference set
(`kernels/minicnn_kernels/reference.py`) is plain NumPy and *defines* what each primitive is. Every
other set is a subclass that overrides what it can do faster. So will ours be.

The reference's convolution is *im2col*: it writes out every window as a column, nine times the
memory for a 3x3 filter, and makes one matrix product of it. Here is another way, without columns.
Look at one position of the filter at a time. What the top left weight contributes to *all* outputs
is **the image, shifted, times that weight**. So a 3x3 convolution is the sum of nine shifted,
weighted images:
"""

# %%
image = np.zeros((5, 5))
image[1:4, 2] = 1
weights = np.array([[0.0, 1, 0], [1, -2, 1], [0, 1, 0]])
padded = np.pad(image, 1)
parts = {f"{weights[i, j]:+.0f} × shifted by ({1 - i}, {1 - j})".replace("-", "−"):
         weights[i, j] * padded[i : i + 5, j : j + 5] + 0.0  # no minus before a zero
         for i, j in np.ndindex(3, 3) if weights[i, j]}  # fmt: skip
total = sum(parts.values())
show(plot.maps({"the image": image, **parts, "their sum": total}, columns=4,
               title="A convolution is a sum of shifted images"))  # fmt: skip
right = F.conv2d(Tensor(image[None, None]), Tensor(weights[None, None]), padding=1).numpy()[0, 0]
check("the sum of the shifted images", total, right)

# %% [markdown]
"""
With channels, "times that weight" becomes "times that *matrix* of weights", from C channels to F:
nine small matrix products, each straight on a shifted view of the image. (The literature calls it
*kn2row*.) The two gradients go over the same nine positions:

- the input gets `wᵀ · gy` **added** where the view was: windows overlap, shares add up;
- the weight at this position gets `gy · viewᵀ`.

The *contract* gives the names and arguments. `window` (a `Window2d`) knows stride, padding and
dilation; `window.tap_slices(i, j)` are the rows and columns that position (i, j) meets. G is the
number of groups. `register_kernels` checks the class and makes its name known. First a helper that
lays maps out as matrices:
"""


# %%
def flat(maps, groups):
    """The maps as matrices: (N, C, H, W) -> (N, G, C/G, H*W)."""
    N, C, H, W = maps.shape
    return maps.reshape(N, groups, C // groups, H * W)


# %% [markdown]
"""
Three primitives, one loop each:
"""


# %%
@minicnn.register_kernels
class Shifted(Kernels):
    """Convolutions as sums of shifted products"""

    name = "shifted"

    def conv2d(self, x, w, b, window, groups):
        """y = Σ over positions of w[i, j] @ view of x."""
        N, F = x.shape[0], w.shape[0]
        y = self.xp.zeros((N, groups, F // groups, window.oh * window.ow), x.dtype)
        for i, j, view in self._views(x, window):
            y += self.xp.matmul(self._grouped(w, i, j, groups), flat(view, groups))
        y = y.reshape(N, F, window.oh, window.ow)
        return y if b is None else y + b.reshape(1, F, 1, 1)

    def conv2d_grad_input(self, gy, w, window, groups):
        """The view of gx at (i, j) gets w[i, j]ᵀ @ gy."""
        gx = self.xp.zeros((gy.shape[0], w.shape[1] * groups, *window.reach), gy.dtype)
        each = flat(gy, groups)
        for i, j, view in self._places(gx, window):
            share = self.xp.matmul(self._grouped(w, i, j, groups).swapaxes(1, 2), each)
            view += share.reshape(view.shape)
        return self._cropped(gx, window)

    def conv2d_grad_weight(self, gy, x, window, groups):
        """gw[i, j] = Σ over images of gy @ (view of x)ᵀ."""
        F, C = gy.shape[1], x.shape[1]
        gw = self.xp.zeros((F, C // groups, window.kh, window.kw), x.dtype)
        each = flat(gy, groups)
        for i, j, view in self._views(x, window):
            products = self.xp.matmul(each, flat(view, groups).swapaxes(2, 3))
            gw[:, :, i, j] = products.sum(axis=0).reshape(F, C // groups)
        return gw

    def _views(self, x, window):
        return self._places(self._padded(x, window, 0.0), window)

    def _places(self, padded, window):
        for i, j in np.ndindex(window.kh, window.kw):
            rows, columns = window.tap_slices(i, j)
            yield i, j, padded[:, :, rows, columns]

    def _grouped(self, w, i, j, groups):  # (G, F/G, C/G)
        return w[:, :, i, j].reshape(groups, w.shape[0] // groups, w.shape[1])


# %% [markdown]
"""
`minicnn.describe()` lists it among the others: what it does itself, and what it leaves to the
reference.
"""

# %%
table = minicnn.describe().partition("shifted (cpu)")
print(table[1] + table[2].partition("\n  from")[0])

# %% [markdown]
"""
Now check it against the reference, with everything that a convolution can be asked: stride,
padding, dilation, groups, no bias. The oracle is the same function on the reference set, and
`check_op` compares values and gradients, in both number types.
"""

# %%
CASES = [
    ("plain", (2, 3, 5, 6), (4, 3, 3, 3), {}),
    ("stride and padding", (2, 2, 6, 7), (3, 2, 3, 2), {"stride": (2, 1), "padding": (1, 2)}),
    ("dilated", (1, 2, 7, 7), (2, 2, 3, 3), {"dilation": 2, "padding": 1}),
    ("two groups", (2, 4, 4, 4), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    ("1x1", (2, 3, 3, 3), (2, 3, 1, 1), {}),
]


def drawn_case(name, x_shape, w_shape, settings):
    """Random images, filters and biases of these shapes."""
    return Case(name, lambda rng: tuple(rng.normal(size=shape)
                for shape in (x_shape, w_shape, w_shape[:1])), settings, batch=(0,))  # fmt: skip


def by_reference(*arrays, **settings):
    """The same convolution on the reference set."""
    with minicnn.use_backend("numpy"):
        return F.conv2d(*(Tensor(array) for array in arrays), **settings).numpy()


parity = OpSpec("conv2d", F.conv2d, [drawn_case(*case) for case in CASES], by_reference, terms=27)
for dtype in (np.float64, np.float32):
    check_op(parity, "shifted", dtype)
print("shifted convolutions agree with the reference in", len(CASES), "cases")

# %% [markdown]
"""
Would it notice? Break the set on purpose: the nine positions in transposed order. For a square
window nothing crashes; all shapes are right; a network would even learn something.
"""


# %%
@minicnn.register_kernels
class Transposed(Shifted):
    """Shifted products with rows and columns mixed up"""

    name = "transposed"

    def _grouped(self, w, i, j, groups):
        return super()._grouped(w, min(j, w.shape[2] - 1), min(i, w.shape[3] - 1), groups)


try:
    check_op(parity, "transposed")
    noticed = False
except AssertionError as problem:
    noticed = True
    print(problem)
check("the transposed kernel is caught", noticed, 1)

# %% [markdown]
"""
Two mistakes are refused already at registration, because otherwise the reference would silently
take over, or fail in the middle of a training:
"""


# %%
class Misspelled(Kernels):
    """conv2d without its d"""

    name = "misspelled"
    conv2 = Shifted.conv2d


class NoGroups(Kernels):
    """A convolution that never heard of groups"""

    name = "no_groups"
    conv2d = lambda self, x, w, b, window: None  # noqa: E731


refused = 0
for wrong in (Misspelled, NoGroups):
    try:
        minicnn.register_kernels(wrong)
    except MiniCNNError as problem:
        refused += 1
        print(problem)
check("classes that are refused", refused, 2)

# %% [markdown]
"""
And where you *measure* kernels, ask for strictness: then a primitive that falls back on the
reference is an error, so that you never time the wrong one.
"""

# %%
with minicnn.use_backend("shifted", strict=True):
    try:
        F.tanh(Tensor([1.0]))
    except MiniCNNError as problem:
        print(problem)

# %% [markdown]
"""
## Train with it

`use_backend` selects a set, here for a `with` block, and everything computes with it: layers, loss
and optimizer know nothing of the change. The same network from the same start, once with each:
"""

# %%
runs, results = {}, {}
for name in ("numpy", "shifted"):
    with minicnn.use_backend(name):
        model = network(lambda channels: nn.ReLU())
        runs[name] = losses(model, epochs=2)
        results[name] = model.state_dict()
print({name: [f"{value:.6f}" for value in values] for name, values in runs.items()})
far = max(np.abs(results["numpy"][name] - results["shifted"][name]).max()
          for name in results["numpy"])  # fmt: skip
print(f"largest difference between two weights after the training: {far:.1e}")
apart = abs(runs["shifted"][0] - runs["numpy"][0])
check("loss of the first epoch, difference of the two", apart, 0, digits=2)

# %% [markdown]
"""
Equal, *but for rounding*: the sums run in another order, each step starts from weights that differ
in the last digit, and a training amplifies that slowly. After one step it can still be bounded:
"""

# %%
grads = {}
for name in ("numpy", "shifted"):
    with minicnn.use_backend(name):
        model = network(lambda channels: nn.ReLU())
        F.cross_entropy(model(Tensor(halved[:20])), train.labels[:20]).backward()
        grads[name] = {key: parameter.grad for key, parameter in model.named_parameters()}
for key, gradient in grads["shifted"].items():
    assert_close(gradient, grads["numpy"][key], terms=20 * 14 * 14 * 9, what=key)
gap = np.abs(grads["shifted"]["0.weight"] - grads["numpy"]["0.weight"])
order = np.arange(1, gap.size + 1)
show(plot.lines(order, {"gradient": np.sort(np.abs(grads["numpy"]["0.weight"]).ravel())[::-1],
                        "difference": np.sort(gap.ravel())[::-1]},
                "First layer: gradients, and how far the two sets differ",
                "weights, sorted by size", "magnitude", log=True))  # fmt: skip

# %% [markdown]
"""
## Fused primitives: less walking to memory

A convolution is often followed by a bias and a ReLU. Done one after the other, the whole map is
written to memory and read again at each step, and for such light work memory is the slow part. A
*fused* primitive does it all while the numbers are at hand: `conv2d_affine` is

    relu(scale · conv(x, w) + shift)

`nn.Sequential` uses it where the layers follow each other; the table of patterns is
`minicnn/nn/fusion.py`. In the reference a fused primitive is just the plain ones in a row, and so
it *is* for our set: it inherits `conv2d_affine`, which calls **our** `conv2d`. But we can do
better. Scaling the result is the same as scaling the filters, which are far smaller:
"""


# %%
@minicnn.register_kernels
class Fused(Shifted):
    """Shifted products, scaled beforehand"""

    name = "fused"
    calls = 0

    def conv2d_affine(self, x, w, scale, shift, window, groups, relu):
        """The scale goes into the filters, ReLU into the result."""
        Fused.calls += 1
        w = w if scale is None else w * scale.reshape(-1, 1, 1, 1)
        y = self.conv2d(x, w, shift, window, groups)
        return self.xp.maximum(y, 0, out=y) if relu else y


some = Tensor(halved[:20])
trio = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
trio(some)  # in training mode: the norm sees some numbers
trio.eval()
with minicnn.no_grad(), minicnn.use_backend("fused"):
    together = trio(some)
    check("calls of the fused primitive: three layers at once", Fused.calls, 1)
    with nn.unfused():
        one_by_one = trio(some)
    check("and one by one", Fused.calls, 1)
assert_close(together, one_by_one, terms=9, condition=4, what="fused")
print("fused or not: the same but for rounding")
check("afterwards the set is the one you had", registry.selected() == selected_before, 1)

# %% [markdown]
"""
How fast is all this? On your machine page 11 will tell, where the sets race each other. Ours is a
page of NumPy; the compiled set (`minicnn_kernels/numba_cpu`) and that in CUDA C++
(`minicnn_kernels/cupy_cuda`) are built the same way: subclasses that override what they can do
faster, held to the same reference by the same checks.

## Exercises

1. Write *softplus*, y = log(1 + eˣ), as an operation. What is its slope? Check it.
2. Why does `gradcheck(lambda x: F.relu(x), np.zeros(3))` complain, though ReLU is right?
3. Write an operation `Shift`: x (N, C, H, W) plus b (C,). What is the gradient by b? (You know it
   under another name.)
4. Write a kernel set that counts how often `conv2d` is called, and leaves the work to its base.

<details><summary>Answer 1</summary>

The slope is the sigmoid.

```python
class Softplus(Op):
    def forward(self, k, x):
        self.save(x)
        return np.logaddexp(x, 0)

    def backward(self, k, gy):
        return gy * k.sigmoid(self.saved[0])

gradcheck(lambda x: apply(Softplus(), x), distinct((3, 4), low=-3, high=3))
```
</details>

<details><summary>Answer 2</summary>

0 is ReLU's kink: there is a slope on the left and another on the right, and differences find the
mean of the two. Away from the kink all is well.

```python
assert caught(F.relu, np.zeros(3))
gradcheck(F.relu, distinct((3, 4)))
```
</details>

<details><summary>Answer 3</summary>

The sum of gy over batch and map: it is the bias of a convolution, and the sets have a primitive for
it.

```python
class Shift(Op):
    def forward(self, k, x, b):
        return k.add(x, b.reshape(1, -1, 1, 1))

    def backward(self, k, gy):
        return gy, k.conv2d_grad_bias(gy)

gradcheck(lambda x, b: apply(Shift(), x, b), np.ones((2, 3, 2, 2)), np.array([1.0, 2.0, 3.0]))
```
</details>

<details><summary>Answer 4</summary>

```python
@minicnn.register_kernels
class Counting(Kernels):
    name = "counting"
    calls = 0

    def conv2d(self, x, w, b, window, groups):
        Counting.calls += 1
        return super().conv2d(x, w, b, window, groups)

with minicnn.use_backend("counting"):
    network(lambda channels: nn.Tanh())(some)
assert Counting.calls == 2
```
</details>
"""
