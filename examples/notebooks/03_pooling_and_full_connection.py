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
# 3. Pooling, flattening, and the layer that sees everything

**What you will be able to do.** Pool a map by hand in six ways and say which one a paper means; get
the borders right (padding, rounding up, bins that overlap); turn maps into a vector and back; and
explain with two numbers why images are not simply given to a fully connected network.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/03_pooling_and_full_connection.py`, which writes the
pictures into `runs/notebooks/`.
"""

# %%
import numpy as np
from lesson import check, show

import minicnn.functional as F
from minicnn import Tensor, data, inspect, nn, plot


def maps(rows):
    """One map as a batch of one image with one channel: (1, 1, H, W)."""
    return Tensor(np.array(rows, np.float64)[None, None])


def plain(y):
    """The only map of a batch."""
    return y.numpy()[0, 0]


# %% [markdown]
"""
## Pooling: a summary of each neighbourhood

Behind a convolution a map says *where* a feature is, to the pixel. Usually that is more than we
want to know. Pooling looks at each 2x2 neighbourhood and keeps one number. There is nothing to
learn in it: no weights at all. The best known keeps the largest:
"""

# %%
SCORES = [[5, 1, 3, 4], [8, 2, 9, 2], [1, 3, 0, 1], [2, 2, 2, 0]]
largest = F.max_pool2d(maps(SCORES), 2)
check("max pooling 2x2", plain(largest), [[8, 9], [3, 2]])
show(plot.window(np.array(SCORES), 2, stride=2, output=plain(largest), at=(0, 1)))

# %% [markdown]
"""
And here is the whole family on the same map. *Average* is the gentle one, *min* the mirror image of
max, and *L2* is the length of the window's numbers as a vector: the root of the sum of squares,
not divided by anything.
"""

# %%
family = {
    "max": plain(F.max_pool2d(maps(SCORES), 2)),
    "min": plain(F.min_pool2d(maps(SCORES), 2)),
    "average": plain(F.avg_pool2d(maps(SCORES), 2)),
    "L2": plain(F.l2_pool2d(maps(SCORES), 2)),
}
check("min pooling", family["min"], [[1, 2], [1, 0]])
check("average pooling", family["average"], [[4, 4.5], [2, 0.75]])
check("L2 pooling", family["L2"], [[9.6954, 10.4881], [4.2426, 2.2361]], digits=4)
show(plot.maps({"the map": SCORES, **family}, columns=5, title="Four ways to sum up a window"))

# %% [markdown]
"""
With stride 1 the windows overlap and the map hardly shrinks. AlexNet's windows overlap a little:
3x3 with stride 2.
"""

# %%
check("max pooling 2x2, stride 1", plain(F.max_pool2d(maps(SCORES), 2, stride=1)),
      [[8, 9, 9], [8, 9, 9], [3, 3, 2]])  # fmt: skip
check("6x6, max pooling 2x2", F.max_pool2d(maps(np.ones((6, 6))), 2).shape[2:], (3, 3))

# %% [markdown]
"""
The notes name one more kind, *distance-weighted average*, without a formula. Two are natural:
weights 1/(1 + d) or a bell curve e^(−d²/2), where d is the distance from the window's middle. On
a 2x2 window all four cells are equally far, and it is the plain average.
"""

# %%
weights = {}
for falloff in ("inverse", "gaussian"):
    x = Tensor(np.zeros((1, 1, 3, 3)), requires_grad=True)
    F.distance_weighted_pool2d(x, 3, falloff=falloff).sum().backward()
    weights[falloff] = x.grad[0, 0]
where = ([0, 0, 1], [0, 1, 1])  # corner, edge, centre
check("weights 1/(1 + d): corner, edge, centre", weights["inverse"][where],
      [0.088947, 0.107369, 0.214737], digits=6)  # fmt: skip
check("weights of the bell curve", weights["gaussian"][where],
      [0.075114, 0.123841, 0.204180], digits=6)  # fmt: skip
show(plot.maps(weights, title="The weights of a 3x3 window"))

# %% [markdown]
"""
(That cell used a trick: the gradient of a weighted mean by its inputs *is* the weights.)

## What pooling is good for

Move the picture by one pixel, and most of the pooled map stays as it was. Convolution moves its
result along (equivariance); max pooling then forgets small moves (*invariance*). Not all of them:
a spot at the edge of its window would have moved on to the next one.
"""

# %%
spot = np.zeros((8, 8))
spot[2, 2], spot[5, 4] = 1, 1
moved = np.roll(spot, 1, axis=1)
pooled, pooled_moved = (plain(F.max_pool2d(maps(m), 2)) for m in (spot, moved))
check("cells of the map that a step to the right changes", (spot != moved).sum(), 4)
check("cells of the pooled map that it changes", (pooled != pooled_moved).sum(), 0)
show(plot.maps({"a map": spot, "moved by one": moved, "pooled": pooled,
                "moved and pooled": pooled_moved}))  # fmt: skip

# %% [markdown]
"""
## Backwards: the winner takes it all

Where does the gradient of a max go? Only the winner had any influence, so it gets everything. The
cells of an average share.
"""

# %%
gradients = {}
for name, pool in {"max": F.max_pool2d, "average": F.avg_pool2d}.items():
    x = Tensor(np.array(SCORES, np.float64)[None, None], requires_grad=True)
    pool(x, 2).sum().backward()
    gradients[f"gradient of {name}"] = x.grad[0, 0]
check("each window has one winner", gradients["gradient of max"],
      [[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0]])  # fmt: skip
check("or each cell gets a quarter", gradients["gradient of average"], np.full((4, 4), 0.25))
show(plot.maps(gradients, title="Who gets the gradient"))

# %% [markdown]
"""
## Borders: where libraries differ

The notes print the size of a pooled map as (W − F)/S + 1. That lacks two things, the padding P and
a rule for **rounding**. In GoogLeNet 112 becomes 56 with a 3x3 window and stride 2: (112 − 3)/2 + 1
is 55.5, and it must be rounded *up*: the last window hangs over the edge.
"""

# %%
print(inspect.output_size(112, 3, stride=2))
check("112, rounded down", inspect.output_size(112, 3, stride=2).output, 55)
check("112, rounded up", inspect.output_size(112, 3, stride=2, ceil_mode=True).output, 56)
check("112, padding 1 as in ResNet", inspect.output_size(112, 3, stride=2, padding=1).output, 56)

counting = np.arange(36).reshape(6, 6)
check("0 to 35, max 3x3, stride 2, rounded up",
      plain(F.max_pool2d(maps(counting), 3, 2, ceil_mode=True)),
      [[14, 16, 17], [26, 28, 29], [32, 34, 35]])  # fmt: skip

# %% [markdown]
"""
**Max pooling pads with minus infinity**, never with 0: a map of −1 must not get zeros at its rim.
"""

# %%
check("max of a single −1, with padding", plain(F.max_pool2d(maps([[-1]]), 3, 1, 1)), [[-1]])

# %% [markdown]
"""
**Average pooling has two customs.** PyTorch and Caffe count the padding as zeros; TensorFlow counts
only real cells. What hangs over the edge because of rounding up is counted by neither.
"""

# %%
ones = maps(np.ones((3, 3)))
counted = plain(F.avg_pool2d(ones, 3, 1, 1))
check("ones, padding counted: corner and edge, in ninths", np.round(counted[[0, 0], [0, 1]] * 9),
      [4, 6])  # fmt: skip
check("ones, padding left out", plain(F.avg_pool2d(ones, 3, 1, 1, count_include_pad=False)),
      np.ones((3, 3)))  # fmt: skip
check("0 to 15, average 3x3, stride 2, rounded up",
      plain(F.avg_pool2d(maps(np.arange(16).reshape(4, 4)), 3, 2, ceil_mode=True)),
      [[5, 6.5], [11, 12.5]])  # fmt: skip

# %% [markdown]
"""
**Adaptive pooling** turns the question round: *I want 4 numbers, whatever comes in.* Bin i of o
covers the cells from floor(i·W/o) to ceil((i+1)·W/o), so bins may overlap. **Global** average
pooling wants one number per map: the end of GoogLeNet, ResNet and most networks since.
"""

# %%
row = maps([np.arange(14)])
check("0 to 13 into 4 bins", plain(F.adaptive_avg_pool2d(row, (1, 4))), [[1.5, 4.5, 8.5, 11.5]])
check("0 to 13 by windows of 5, stride 3", plain(F.avg_pool2d(row, (1, 5), (1, 3))),
      [[2, 5, 8, 11]])  # fmt: skip
check("7 cells into 3 bins, the largest of each", plain(F.adaptive_max_pool2d(
    maps([np.arange(7)]), (1, 3))), [[2, 4, 6]])  # fmt: skip
check("global average of the first map", F.global_avg_pool2d(maps(SCORES)).item(), 2.8125)

# %% [markdown]
"""
## Flatten: from a map to a vector

A classifier at the end wants a vector. Flattening writes the rows behind each other. Here is the
letter of the notes, eight rows by six:
"""

# %%
LETTER = [
    [0, 0, 1, 1, 0, 0],
    [0, 0, 1, 1, 0, 0],
    [0, 1, 1, 1, 1, 0],
    [0, 1, 0, 0, 1, 0],
    [0, 1, 1, 1, 1, 0],
    [1, 1, 0, 0, 1, 1],
    [1, 0, 0, 0, 0, 1],
    [1, 0, 0, 0, 0, 1],
]
vector = F.flatten(maps(LETTER), 1).numpy()[0]
check("8x6 becomes", vector.shape, (48,))
check("row by row it begins", vector[:4], [0, 0, 1, 1])
check("and ends", vector[-2:], [0, 1])
show(plot.maps({"a letter": LETTER}))

# %% [markdown]
"""
> **A correction.** The vector in the notes begins 0, 0, 0, 0 and ends 1, 1. That is the same letter
> read *column by column*. Both are fine, as long as one program always does the same; minicnn,
> NumPy and PyTorch read rows.
"""

# %%
by_columns = np.array(LETTER).flatten(order="F")
check("column by column it begins", by_columns[:4], [0, 0, 0, 0])
check("column by column it ends", by_columns[-2:], [1, 1])

# %% [markdown]
"""
## Fully connected: every input with every output

A fully connected layer is a table of weights, one row for each output; each output is a dot product
with the whole vector, plus a bias.
"""

# %%
table, bias = np.array([[1.0, 2.0, 0.0], [0.5, 0.0, -1.0]]), np.array([0.1, 0.2])
check("two outputs from three inputs",
      F.linear(Tensor(np.array([[3.0, 1.0, 2.0]])), Tensor(table), Tensor(bias)).numpy(),
      [[5.1, -0.3]], digits=6)  # fmt: skip

# %% [markdown]
"""
It is a convolution too: one whose filter is as large as the map, so that there is one place to put
it. This is how networks made for 224 pixels are slid over larger photos.
"""

# %%
rng = np.random.default_rng(0)
x, w = rng.standard_normal((1, 16, 5, 5)), rng.standard_normal((10, 16, 5, 5))
connected = F.linear(F.flatten(Tensor(x), 1), Tensor(w.reshape(10, -1))).numpy()
convolved = F.conv2d(Tensor(x), Tensor(w)).numpy().reshape(1, 10)
check("largest difference", np.abs(connected - convolved).max(), 0, digits=10)

# %% [markdown]
"""
## Why not fully connected from the start?

The notes ask this, and the answer is arithmetic. A full HD colour image has 1920 x 1080 x 3 inputs.
Connect each of them to a hidden layer of four million neurons:
"""

# %%
inputs = 1920 * 1080 * 3
check("inputs of a full HD image", inputs, 6_220_800)
check("weights to 4 million neurons", inputs * 4_000_000, 24_883_200_000_000)
check("weights of ONE neuron over 28x28x3", 28 * 28 * 3, 2_352)
check("weights of ONE neuron over 200x200x3", 200 * 200 * 3, 120_000)
filters = nn.Conv2d(3, 64, kernel_size=3)
check("weights of 64 filters of 3x3, for an image of any size", filters.weight.size, 1_728)

# %% [markdown]
"""
> **A correction.** The notes have "6 million x 4 million = 24 million". It is 24 *trillion*:
> 24,883,200,000,000 weights, 100 terabytes in float32. (And 2,352 and 120,000 are right for **one**
> neuron, not for the layer.)

Size is only half of it. A fully connected layer does not know that pixels have neighbours. What it
has learned about a boot in the upper left corner, it has to learn again for the lower right. A
filter is *local* (it looks at neighbours) and *shared* (the same everywhere). See what a move of
four pixels does to each of them:
"""

# %%
clothes = data.fashion_mnist("test", source="sample")
boots = clothes.images[clothes.labels == clothes.classes.index("Ankle boot")]
boot = np.zeros((28, 36))
boot[:, 4:32] = boots[0, 0] / 255
shifted = np.roll(boot, 4, axis=1)
edge = rng.standard_normal((1, 1, 3, 3))
dense = rng.standard_normal((6, boot.size)) / 30
before, after = (plain(F.conv2d(maps(m), Tensor(edge))) for m in (boot, shifted))
check("the feature map only moves", np.abs(before[:, :-4] - after[:, 4:]).max(), 0, digits=12)
one, other = (dense @ m.ravel() for m in (boot, shifted))
print("six fully connected outputs before:", one.round(1))
print("and after:                         ", other.round(1))
assert np.abs(one - other).min() > 0.01
show(plot.maps({"a boot": boot, "moved": shifted, "filtered": before, "filtered, moved": after},
               columns=2))  # fmt: skip

# %% [markdown]
"""
## Exercises

1. A 13x13 map, max pooling 3x3 with stride 2. How large is the result? Is anything left out?
2. Which pooling is the same as a convolution with a fixed filter, and with which?
3. A network ends in maps of 32x7x7 and has ten classes. Weights and biases of the last layer with
   flattening, and with global average pooling?
4. L2 pooling of a window that holds 3 and 4 and otherwise zeros?

<details><summary>Answer 1</summary>

6, exactly: (13 − 3)/2 + 1. Nothing is left out.

```python
size = inspect.output_size(13, 3, stride=2)
assert size.output == 6 and size.is_exact
```
</details>

<details><summary>Answer 2</summary>

Average pooling: a filter of 1/4 in all cells, with stride 2, for each channel by itself.

```python
quarter = Tensor(np.full((1, 1, 2, 2), 0.25))
assert (plain(F.conv2d(maps(SCORES), quarter, stride=2)) == family["average"]).all()
```
</details>

<details><summary>Answer 3</summary>

Flattened 1,568 · 10 + 10 = 15,690; behind global average pooling 32 · 10 + 10 = 330.

```python
assert nn.Linear(32 * 7 * 7, 10).num_parameters() == 15_690
assert nn.Linear(32, 10).num_parameters() == 330
```
</details>

<details><summary>Answer 4</summary>

5, by Pythagoras.

```python
assert F.l2_pool2d(maps([[3, 0], [0, 4]]), 2).item() == 5
```
</details>
"""
