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
# 1. A tensor and its gradient

**What you will be able to do.** Say what a tensor is and what a picture is to a computer; follow a
gradient backwards through a computation with a pencil; write an automatic differentiation engine of
your own in forty lines; and train your first model with it and with minicnn's.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/01_tensor_and_gradient.py`, which writes the pictures into
`runs/notebooks/`.
"""

# %%
import math

import numpy as np
from lesson import check, show, sized

import minicnn.functional as F
from minicnn import Tensor, data, nn, no_grad, optim, plot
from minicnn.testing import gradcheck

# %% [markdown]
"""
## A picture is a tensor

A tensor is a block of numbers with a shape. A gray picture is two numbers wide and high; a colour
picture has three such maps, for red, green and blue. A JPEG of 260 x 194 pixels is

    260 x 194 x 3 = 151,320

numbers from 0 to 255. Networks like small numbers better, so we divide by 255.
"""

# %%
rng = np.random.default_rng(0)
photo = rng.integers(0, 256, size=(3, 194, 260), dtype=np.uint8)  # channels, rows, columns
check("numbers in a colour picture of 260 x 194", photo.size, 151_320)
print("a piece of 6 x 7 pixels of the red map:\n", photo[0, :6, :7])

scaled = data.ToFloat()(photo[None])
check("smallest and largest number after scaling", [scaled.min(), scaled.max()], [0, 1])

# %% [markdown]
"""
Here is a real one, a boot from Fashion-MNIST, and a piece of it: the bluer, the larger the number.

> **A correction.** One of the notes says that in a gray picture "0 represents white, 1 black".
> Nearly all files have it the other way round: 0 is black. When ink is drawn as 1 on a page of 0,
> as in their letter (page 3), that is a choice of the drawing. A photo of dark ink on light paper
> must be inverted to look like it: 1 − x.
"""

# %%
clothes = data.fashion_mnist("test", source="sample")
boots = clothes.images[clothes.labels == clothes.classes.index("Ankle boot")]
boot = boots[0, 0] / 255
show(plot.maps({"the whole picture": boot, "10 x 10 of its pixels": boot[2:12, 14:24]},
               title="A picture is numbers"))  # fmt: skip

# %% [markdown]
"""
## A tensor remembers how it was made

Take the number 3 and compute x² + 2x. The result is a tensor too, and it keeps a note of the
operation that made it, which keeps a note of the ones before. Together they are a *graph*.
"""

# %%
x = Tensor([3.0], requires_grad=True)
y = x * x + 2 * x
print(y)
check("the value of x² + 2x at 3", y.item(), 15)
show(plot.graph(y, {"x": x}))

# %% [markdown]
"""
Green is what you made, blue is what was done with it. Values flow downwards. Now the question that
all of deep learning turns on: **if x grows a little, how much does y grow?** Ask `backward`:
"""

# %%
y.backward()
check("the gradient, 2x + 2 at 3", x.grad, [8])


# %% [markdown]
"""
You need not believe it. Move x a little to both sides, and measure the slope:
"""


# %%
def f(x):
    """The same function of a plain number."""
    return x * x + 2 * x


h = 1e-4
slope = (f(3 + h) - f(3 - h)) / (2 * h)
check("the slope, measured", slope, 8, digits=6)
xs = np.linspace(0, 5, 101)
show(plot.lines(xs, {"x² + 2x": f(xs), "slope 8 through (3, 15)": 15 + 8 * (xs - 3)},
                "A gradient is a slope", "x", "y"))  # fmt: skip

# %% [markdown]
"""
## The chain rule, with a pencil

A long computation is a chain of short steps, and the slope of a chain is the **product** of the
slopes of its links. Take L = (σ(w·x) − 1)² with x = 2, w = 0.5, where σ(z) = 1 / (1 + e⁻ᶻ):

| step | value | slope of this step |
|---|---|---|
| z = w·x | 1 | dz/dw = x = 2 |
| s = σ(z) | 0.731 | ds/dz = s(1 − s) = 0.197 |
| e = s − 1 | −0.269 | de/ds = 1 |
| L = e² | 0.072 | dL/de = 2e = −0.538 |

dL/dw is the product of the last column, from the bottom up: −0.538 · 1 · 0.197 · 2.
"""

# %%
s = 1 / (1 + math.exp(-1.0))
by_hand = 2 * (s - 1) * 1 * s * (1 - s) * 2

w = Tensor([0.5], requires_grad=True)
error = F.sigmoid(w * 2.0) - 1.0
loss = error * error
show(plot.graph(loss, {"w": w}))
loss.backward()
check("dL/dw by the pencil", by_hand, -0.211508, digits=6)
check("dL/dw by backward", w.grad, [-0.211508], digits=6)

# %% [markdown]
"""
## Autograd from zero

Nothing about this is magic: here is an engine for single numbers. Every result remembers its
inputs, each with the slope of this one step. `backward` visits the results from the newest to the
oldest, and hands each input its share: *my gradient times the slope of the step*.
"""


# %%
class Number:
    """A number that remembers its inputs and the slope by each."""

    def __init__(self, value, inputs=()):
        self.value, self.inputs, self.gradient = value, inputs, 0.0

    def __add__(self, other):
        other = as_number(other)
        return Number(self.value + other.value, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        other = as_number(other)
        return Number(self.value * other.value, [(self, other.value), (other, self.value)])

    __radd__, __rmul__ = __add__, __mul__

    def exp(self):
        """e to the power of this number; its slope is itself."""
        return Number(math.exp(self.value), [(self, math.exp(self.value))])

    def backward(self):
        """Fill in the gradient of everything that this was computed from."""
        order, seen = [], set()

        def visit(number):
            if number not in seen:
                seen.add(number)
                for parent, _ in number.inputs:
                    visit(parent)
                order.append(number)

        visit(self)
        self.gradient = 1.0
        for number in reversed(order):
            for parent, slope in number.inputs:
                parent.gradient += slope * number.gradient


def as_number(value):
    """Plain numbers may stand where a `Number` is wanted."""
    return value if isinstance(value, Number) else Number(value)


# %% [markdown]
"""
Look at the `+=` in the last line of `backward`. Our x is used in two places, x·x and 2·x, and each
sends a share back. Shares **add up**. With `=` the answer would be wrong, and this is the classic
mistake of everyone who writes an engine.
"""

# %%
a = Number(3.0)
(a * a + 2 * a).backward()
check("our engine on x² + 2x", a.gradient, 8)

p, q = Number(0.3), Number(-1.2)
((p * q).exp() + p).backward()
tp, tq = (Tensor(np.array([v]), requires_grad=True) for v in (0.3, -1.2))
((tp * tq).exp() + tp).sum().backward()
check("ours and minicnn's on exp(pq) + p", [p.gradient, q.gradient],
      [tp.grad.item(), tq.grad.item()], digits=12)  # fmt: skip

# %% [markdown]
"""
minicnn's engine (`minicnn/autograd.py`, made to be read in one sitting) is this with arrays in
place of numbers. An operation is a class with a `forward` and a `backward`.

## Walking downhill

Why want slopes? To make a loss small. The gradient points uphill, so step the other way:

    w ← w − η · ∂L/∂w          η, the learning rate, is how far

> **A correction.** In one of the notes this rule has lost its shape in printing,
> "W = W − η ΔW/(1 + ΔW)^0". The line above is what it means.

Twenty points lie near the line y = 2x + 1. Find the line.
"""

# %%
px = np.linspace(-1, 1, 20).astype(np.float32)[:, None]
py = 2 * px + 1 + 0.05 * rng.standard_normal(px.shape).astype(np.float32)
weight = Tensor(np.zeros((1, 1), np.float32), requires_grad=True)
bias = Tensor(np.zeros(1, np.float32), requires_grad=True)
losses = []
for _ in range(60):
    weight.grad = bias.grad = None
    loss = F.mse_loss(F.linear(Tensor(px), weight, bias), Tensor(py))
    loss.backward()
    with no_grad():
        weight.array -= 0.3 * weight.grad
        bias.array -= 0.3 * bias.grad
    losses.append(loss.item())
check("slope and height of the line that was found", [weight.item(), bias.item()], [2, 1], digits=1)
show(plot.lines(range(1, 61), {"loss": losses}, "Downhill", "step", "mean squared error", log=True))

# %% [markdown]
"""
## Three things to know

**Gradients wait for you.** `backward` adds to what is already in `grad`. Forget it before each step
(`optimizer.zero_grad()`), or old steps go on pushing.
"""

# %%
v = Tensor([1.0], requires_grad=True)
for _ in range(2):
    (v * 5).backward()
check("gradient after two backward passes", v.grad, [10])

# %% [markdown]
"""
**A graph is used once.** `backward` frees it as it goes; the memory is needed for the next step.
"""

# %%
y = v * v
y.backward()
try:
    y.backward()
except RuntimeError as problem:
    print("A second time?", problem)

# %% [markdown]
"""
**Do not trust, check.** `gradcheck` moves every single input a little and compares, as we did
above. Any gradient that you ever write can be tested so.
"""

# %%
gradcheck(lambda x, w: F.conv2d(x, w, padding=1), rng.standard_normal((1, 2, 4, 4)),
          rng.standard_normal((3, 2, 3, 3)))  # fmt: skip
print("the gradient of a convolution is right")

# %% [markdown]
"""
## A network is only a longer graph

Three numbers in, two classes out, one loss: all of it is in one picture. A large network has a
hundred times as many boxes and not one new idea. (A `Parameter` is a tensor that wants a
gradient, and that an optimizer may change.)
"""

# %%
inputs, label = Tensor([[0.2, -1.0, 0.5]]), np.array([1])
first, second = (
    nn.Parameter(rng.standard_normal(shape).astype(np.float32)) for shape in ((4, 3), (2, 4))
)
loss = F.cross_entropy(F.linear(F.relu(F.linear(inputs, first)), second), label)
show(plot.graph(loss, {"first layer": first, "second layer": second}))

# %%
optimizer = optim.SGD([first, second], lr=0.5)
for _ in range(sized(50, 20)):
    optimizer.zero_grad()
    loss = F.cross_entropy(F.linear(F.relu(F.linear(inputs, first)), second), label)
    loss.backward()
    optimizer.step()
print(f"the loss of the one example that it has seen: {loss.item():.4f}")
assert loss.item() < 0.2

# %% [markdown]
"""
## Exercises

1. With a pencil: the gradient of L = (3w − 6)² at w = 1. Then ask `backward`.
2. Give `Number` a subtraction and a `relu`.
3. In the line-fitting loop, try a learning rate of 3. What happens, and why?
4. How many numbers has a colour picture of 1920 x 1080?

<details><summary>Answer 1</summary>

2 · (3w − 6) · 3 = −18.

```python
w = Tensor([1.0], requires_grad=True)
((3 * w - 6) ** 2).backward()
assert w.grad.item() == -18
```
</details>

<details><summary>Answer 2</summary>

```python
Number.__sub__ = lambda self, other: self + as_number(other) * -1.0
Number.relu = lambda self: Number(max(self.value, 0.0), [(self, float(self.value > 0))])
a, b = Number(2.0), Number(5.0)
(a - b * 3).relu().backward()
assert (a.gradient, b.gradient) == (0.0, 0.0)  # 2 - 15 is negative: nothing passes
```
</details>

<details><summary>Answer 3</summary>

The loss grows with every step: each one jumps over the valley and lands higher up on the other
side. For this loss the limit is a rate of 1, because the loss curves by 2 along the height.

```python
height = Tensor(np.zeros(1), requires_grad=True)
found = []
for _ in range(5):
    height.grad = None
    loss = F.mse_loss(height, Tensor(np.ones(1)))
    loss.backward()
    with no_grad():
        height.array -= 3 * height.grad
    found.append(loss.item())
assert found == sorted(found) and found[-1] > 1000 * found[0]
```
</details>

<details><summary>Answer 4</summary>

1920 · 1080 · 3 = 6,220,800. What a fully connected layer would do with so many is on page 3.

```python
assert 1920 * 1080 * 3 == 6_220_800
```
</details>
"""
