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
# 2. Convolution: one small question, asked everywhere

**What you will be able to do.** Compute a convolution by hand and in code; say how large its result
is before you run it; explain what padding and stride are for; and build, with nine numbers, a
detector that tells a 9 from a 6, and sees that a crooked X is still an X.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/02_convolution.py`, which writes the pictures into
`runs/notebooks/`.
"""

# %%
import numpy as np
from lesson import check, show

import minicnn.functional as F
from minicnn import Tensor, data, inspect, nn, plot


def maps(rows):
    """One map as a batch of one image with one channel: (1, 1, H, W)."""
    return Tensor(np.array(rows, np.float32)[None, None])


# %% [markdown]
"""
## A detector made of nine numbers

Here is a picture of a nine, seven rows by five columns. Ink is 1, paper is −1. Beside it stands a
*filter*: a picture of what we look for, a ring with a hole in the middle.
"""

# %%
NINE = [
    [-1, 1, 1, 1, -1],
    [-1, 1, -1, 1, -1],
    [-1, 1, 1, 1, -1],
    [-1, -1, -1, 1, -1],
    [-1, -1, -1, 1, -1],
    [-1, -1, 1, -1, -1],
    [-1, 1, -1, -1, -1],
]
RING = [[1, 1, 1], [1, -1, 1], [1, 1, 1]]

show(plot.maps({"a nine": NINE, "the filter": RING}, title="What we have, what we look for"))

# %% [markdown]
"""
Lay the filter on the upper left corner of the picture. Nine cells of the one lie on nine cells of
the other. Multiply the pairs and add: where ink meets ink, or paper meets paper, the product is +1;
where they differ, −1. So the sum counts agreements minus disagreements, and 9 means *exactly this*.
"""

# %%
patch = np.array(NINE)[0:3, 0:3]
print("products:\n", patch * np.array(RING))
print("sum:", (patch * np.array(RING)).sum())

# %% [markdown]
"""
Now slide it: one step to the right, and again; then one row down. That is all a convolution is.
With loops it is four lines:
"""


# %%
def convolve(image, kernel):
    """Slide the kernel over the image, without padding, one cell at a time."""
    image, kernel = np.asarray(image, float), np.asarray(kernel, float)
    (H, W), (KH, KW) = image.shape, kernel.shape
    y = np.zeros((H - KH + 1, W - KW + 1))
    for i, j in np.ndindex(y.shape):
        y[i, j] = (image[i : i + KH, j : j + KW] * kernel).sum()
    return y


score = convolve(NINE, RING) / 9
check(
    "ring filter on the nine, in ninths",
    np.round(score * 9),
    [[-1, 9, -1], [-5, 1, -3], [-3, 3, -3], [-5, -1, -5], [-3, -5, -3]],
)
show(plot.window(np.array(NINE), 3, output=score, at=(0, 1)))

# %% [markdown]
"""
The result is called a *feature map*: a picture of **where** the feature is. Its only 1 is in the
top row, in the middle, where the ring of the nine is.

> **A correction.** The lecture notes print this map too. Its first three rows are right (with
> −0.5556 cut off to −.55), but three of the six cells of the last two rows are not: they print
> −.22, −.11, −.22 and −.33, −.33, −.33. Count it yourself at row 3, column 0: two cells agree and
> seven do not, −5/9.
"""

# %%
check("row 3 of the map", score[3], [-0.5556, -0.1111, -0.5556], digits=4)
check("row 4 of the map", score[4], [-0.3333, -0.5556, -0.3333], digits=4)

# %% [markdown]
"""
minicnn does the same with `conv2d`, for whole batches of images with many channels. (Strictly,
what all deep learning libraries call convolution is *cross-correlation*: a mathematician's
convolution turns the filter upside down first. For a filter that is learned it makes no difference;
our ring looks the same both ways.)
"""

# %%
y = F.conv2d(maps(NINE), maps(RING))
check("conv2d agrees with the loops", y.numpy()[0, 0], np.round(score * 9))
turned = np.array(RING)[::-1, ::-1]
check("a turned ring is the same ring", turned, RING)

# %% [markdown]
"""
Then follow two steps that you will meet again. ReLU throws away what speaks against the feature,
and max pooling keeps the best score of a neighbourhood: *there is a ring, up here somewhere*.
"""

# %%
rectified = F.relu(y / 9)
check("after ReLU, in ninths", np.round(rectified.numpy()[0, 0] * 9),
      [[0, 9, 0], [0, 1, 0], [0, 3, 0], [0, 0, 0], [0, 0, 0]])  # fmt: skip
check("max pooling 2x2, stride 1", F.max_pool2d(rectified, 2, stride=1).numpy()[0, 0],
      [[1, 1], [0.333, 0.333], [0.333, 0.333], [0, 0]], digits=3)  # fmt: skip
check("max pooling 2x2, stride 2", F.max_pool2d(rectified, 2, stride=2).numpy()[0, 0],
      [[1], [0.333]], digits=3)  # fmt: skip

# %% [markdown]
"""
## Six, eight, ninety-six

The filter was never told where the ring is. Turn the nine upside down and you have a six: the peak
moves to the bottom. An eight has two rings, and two peaks. Write 9 and 6 side by side, and each
ring is found where it is. If the input moves, the map moves with it. That is called
*equivariance*, and it is why one set of nine numbers is enough for the whole picture.

(The notes show these digits as figures only; the matrices here are ours.)
"""

# %%
SIX = np.rot90(NINE, 2)
EIGHT = np.array(NINE)[[0, 1, 2, 1, 2]]
NINETY_SIX = np.hstack([NINE, SIX])


def peaks(image):
    """Where the ring fits exactly: a list of [row, column]."""
    return np.argwhere(convolve(image, RING) == 9).tolist()


check("ring of the nine", peaks(NINE), [[0, 1]])
check("ring of the six", peaks(SIX), [[4, 1]])
check("rings of the eight", peaks(EIGHT), [[0, 1], [2, 1]])
check("rings of ninety-six", peaks(NINETY_SIX), [[0, 1], [4, 6]])
digits = {"6": SIX, "8": EIGHT, "96": NINETY_SIX}
found = {f"map of {name}": convolve(image, RING) / 9 for name, image in digits.items()}
show(plot.maps({**digits, **found}, columns=3, title="The ring is found where it is"))

# %% [markdown]
"""
## An X and a crooked X

Is the second picture an X? You say yes at once. A program that compares pixel by pixel is less
sure:
"""

# %%
X = -np.ones((9, 9), int)
for i in range(1, 8):
    X[i, i] = X[i, 8 - i] = 1
CROOKED = -np.ones((9, 9), int)
for cell in [(1, 6), (2, 1), (2, 5), (3, 2), (3, 3), (3, 5), (4, 4),
             (5, 3), (5, 5), (5, 6), (6, 3), (6, 7), (7, 2)]:  # fmt: skip
    CROOKED[cell] = 1

equal = X == CROOKED
check("cells that are equal, of 81", equal.sum(), 65)
check("that is a share of", equal.mean(), 0.8025, digits=4)
check("cells that differ", (~equal).sum(), 16)
show(plot.maps({"an X": X, "a crooked X": CROOKED, "1: they differ": ~equal}))

# %% [markdown]
"""
Sixteen cells differ, so a program that asks for equality says no. One that is content with 80 %
says yes, but nearly all of the 65 agreements are paper on paper: it would take a blank page for an
X too.

> **A correction.** As typed in the notes, the first matrix has a 1 too many, at row 7, column 6,
> and the second has five wrong cells: (1,7) and (2,6) are 1 instead of (1,6) and (2,5), and (6,7)
> is missing. Their third matrix, the one that marks the differences, is right, and from it the two
> pictures above can be restored. As typed the two would differ in only 12 cells.
"""

# %%
typed_x, typed_crooked = X.copy(), CROOKED.copy()
typed_x[7, 6] = 1
for cell, value in {(1, 7): 1, (2, 6): 1, (1, 6): -1, (2, 5): -1, (6, 7): -1}.items():
    typed_crooked[cell] = value
check("differences between the matrices as typed", (typed_x != typed_crooked).sum(), 12)

# %% [markdown]
"""
So compare *pieces* instead of pixels. An X has strokes that fall, strokes that rise, and one place
where they cross. Three filters:
"""

# %%
FALLING = 2 * np.eye(3, dtype=int) - 1
RISING = FALLING[:, ::-1]
CROSSING = np.maximum(FALLING, RISING)
FILTERS = {"falling": FALLING, "rising": RISING, "crossing": CROSSING}
show(plot.maps(FILTERS, title="Three pieces of an X"))

# %%
on_x = {name: convolve(X, f) / 9 for name, f in FILTERS.items()}
on_crooked = {name: convolve(CROOKED, f) / 9 for name, f in FILTERS.items()}
check("best scores on the X", [m.max() for m in on_x.values()], [1, 1, 1])
check("best scores on the crooked X", [m.max() for m in on_crooked.values()], [0.78, 0.78, 1.0],
      digits=2)  # fmt: skip
check("falling strokes of the X: where", np.argwhere(on_x["falling"] == 1),
      [[1, 1], [2, 2], [4, 4], [5, 5]])  # fmt: skip
check("crossing of the X: where", np.argwhere(on_x["crossing"] == 1), [[3, 3]])
check("falling strokes: corner and centre", on_x["falling"][[0, 3], [0, 3]], [0.78, 0.56], digits=2)
both = {f"X: {name}": m for name, m in on_x.items()}
both |= {f"crooked X: {name}": m for name, m in on_crooked.items()}
show(plot.maps(both, columns=3, title="Where the pieces are"))

# %% [markdown]
"""
The crooked X has no stroke of three cells that is quite straight, so two scores fall from 1 to .78,
and the crossing is still perfect. No score falls to anything like zero: **by its pieces it is an
X**. A network learns such filters by itself, and in its next layer, filters over *maps of pieces*:
lines, then corners, then eyes, then faces. A koala's eyes are found in every corner of the photo
by the same filter.

## How large is the result?

A 3x3 window has 4 places along a side of 6. Counting them is the whole formula:

    (W − F + 2P) / S + 1        W size, F filter, P padding on each side, S stride
"""

# %%
check("6x6 with a 3x3 filter", F.conv2d(maps(np.ones((6, 6))), maps(RING)).shape[2:], (4, 4))
check("n − m + 1", inspect.output_size(6, 3).output, 6 - 3 + 1)
show(plot.window((6, 6), kernel_size=3, at=(1, 2)))

# %% [markdown]
"""
## Padding

Two things about that are a nuisance. The map shrinks with every layer. And the border is
overlooked: how often does each cell of a 6x6 image lie under the 3x3 window?
"""


# %%
def coverage(size, kernel_size, padding):
    """How many windows each cell lies under: the gradient of the sum of all windows."""
    x = Tensor(np.zeros((1, 1, size, size), np.float32), requires_grad=True)
    ones = maps(np.ones((kernel_size, kernel_size)))
    F.conv2d(x, ones, padding=padding).sum().backward()
    return x.grad[0, 0]


without, padded = coverage(6, 3, padding=0), coverage(6, 3, padding=1)
check("coverage of 6x6 without padding", without, np.outer([1, 2, 3, 3, 2, 1], [1, 2, 3, 3, 2, 1]))
check("with padding 1: corner, edge, inside", padded[[0, 0, 2], [0, 2, 2]], [4, 6, 9])
show(plot.maps({"padding 0": without, "padding 1": padded}, title="How often each cell is used"))

# %% [markdown]
"""
A corner is used once, the middle nine times. A frame of zeros around the image mends both: with
P = (F − 1)/2 the map keeps its size (*same* padding; none at all is called *valid*).
"""

# %%
check("9x9, 3x3 filter, padding 1", F.conv2d(maps(X), maps(RING), padding=1).shape[2:], (9, 9))
check("the same by name", F.conv2d(maps(X), maps(RING), padding="same").shape[2:], (9, 9))
check("6x6 with a frame of 1", F.pad(maps(np.ones((6, 6))), (1, 1, 1, 1)).shape[2:], (8, 8))
show(plot.window((6, 6), kernel_size=3, padding=1, at=(0, 0)))

# %% [markdown]
"""
> **A correction.** The notes say that 9x9 with padding 1 gives 9x9, and beside it stands a figure
> of 8x8. Both are true, of different things: the figure shows a 6x6 image *with its frame*.

## Stride

With stride 2 the window moves two cells at a time, and the map is half as large. The division need
not come out even; then the last column has no window of its own, and the result is rounded down.
"""

# %%
print(inspect.output_size(7, 3, stride=2))
print(inspect.output_size(28, 5, padding=2))
print(inspect.output_size(227, 11, stride=4))
print(inspect.output_size(224, 11, stride=4))
check("28, filter 3, no padding", inspect.output_size(28, 3).output, 26)
check("28, filter 3, padding 1", inspect.output_size(28, 3, padding=1).output, 28)
check("227, filter 11, stride 4", inspect.output_size(227, 11, stride=4).output, 55)
show(plot.window((7, 7), kernel_size=3, stride=2, at=(1, 2)))

# %% [markdown]
"""
> **A correction.** One of the notes writes "28x28, S = 3: (28 − 3)/1 + 1 = 26". That 3 is the
> *filter*; the stride is 1. And its formula has no P. Where it is used, in an inception module, the
> convolution must be padded (P = 1, so 28), for a reason that comes next.

## Can branches of different size be concatenated?

The notes ask this. Maps are joined channel behind channel, like sheets in a pile, so the sheets
must be equally large. Here is what happens if they are not:
"""

# %%
image = Tensor(np.ones((1, 3, 28, 28), np.float32))
filters = Tensor(np.ones((8, 3, 3, 3), np.float32))
unpadded, same = F.conv2d(image, filters), F.conv2d(image, filters, padding=1)
try:
    F.concat([image, unpadded], 1)
except ValueError as error:
    refused = True
    print("No:", error)
check("unequal sizes are refused", refused, True)
check("with padding they fit", F.concat([image, same], 1).shape, (1, 3 + 8, 28, 28))

# %% [markdown]
"""
## Channels

A colour image is three maps, and a filter that reads it has three sheets: it is 3x3x**3**. All 27
products are added into **one** number, so one filter makes one map. Eight filters make eight. The
number of weights has nothing to do with the size of the image:
"""

# %%
layer = nn.Conv2d(3, 8, kernel_size=3, padding=1)
check("weights of 8 filters of 3x3 over 3 channels", layer.weight.shape, (8, 3, 3, 3))
check("parameters, with a bias for each filter", layer.num_parameters(), 8 * (3 * 3 * 3 + 1))
check("the result", layer(image).shape, (1, 8, 28, 28))

patch, one = image.numpy()[0, :, 4:7, 9:12], layer.weight.numpy()[2]
by_hand = float((patch * one).sum() + layer.bias.numpy()[2])
check("one value is a dot product", layer(image).numpy()[0, 2, 5, 10], round(by_hand, 4), digits=4)

# %% [markdown]
"""
## On a real picture

Two classic filters: the difference between left and right finds upright edges, that between above
and below finds level ones. (This picture comes with minicnn.)
"""

# %%
clothes = data.fashion_mnist("test", source="sample")
index = int(np.flatnonzero(clothes.labels == clothes.classes.index("Sneaker"))[0])
sneaker = clothes.images[index, 0] / 255
UPRIGHT = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 4
edges = {
    "sneaker": sneaker,
    "upright edges": convolve(sneaker, UPRIGHT),
    "level edges": convolve(sneaker, UPRIGHT.T),
}
check("28x28 with a 3x3 filter", edges["upright edges"].shape, (26, 26))
show(plot.maps(edges, columns=3, title="Two filters that people designed"))

# %% [markdown]
"""
## How much does one value see?

One value behind a 3x3 filter sees 3x3 pixels. Behind a second such layer it sees 5x5, behind a
third 7x7: the *receptive field* grows. So three small filters look as far as one large one, and
*why smaller filters?*, as the notes ask, has this answer: 27 weights for each pair of channels
instead of 49, and two more ReLUs on the way. (Page 7, on VGG, goes on from here.)
"""

# %%
three = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(3)))
two = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(2)))
check("field of two 3x3", inspect.receptive_fields(two, (1, 28, 28))[""].size, (5, 5))
check("field of three 3x3", inspect.receptive_fields(three, (1, 28, 28))[""].size, (7, 7))
costs = inspect.stacked_costs(7, channels=64)
check("weights of one 7x7, 64 channels", costs.direct.weights, 49 * 64**2)
check("weights of three 3x3, 64 channels", costs.cheaper.weights, 110_592)
show(plot.receptive_field(three, "2", sneaker[None]))

# %% [markdown]
"""
## Exercises

1. A 32x32 image, 5x5 filters, stride 1. Which padding keeps 32? And which size gives padding 0?
2. Write a filter that finds the *foot* of the nine, its falling tail at the bottom, and find it.
3. Twelve filters of 5x5 read 16 maps. How many weights, and how many biases?
4. What does stride 2 with a 1x1 filter do to a map?

<details><summary>Answer 1</summary>

P = (5 − 1)/2 = 2. Without padding 28.

```python
assert inspect.output_size(32, 5, padding=2).output == 32
assert inspect.output_size(32, 5).output == 28
```
</details>

<details><summary>Answer 2</summary>

The tail runs from upper right to lower left: it is the rising stroke. It fits exactly at row 4,
column 1, and nowhere else.

```python
assert np.argwhere(convolve(NINE, RISING) == 9).tolist() == [[4, 1]]
```
</details>

<details><summary>Answer 3</summary>

12 · 16 · 5 · 5 = 4,800 weights, 12 biases.

```python
assert nn.Conv2d(16, 12, 5).num_parameters() == 4800 + 12
```
</details>

<details><summary>Answer 4</summary>

It keeps every second row and column, and multiplies by one number.

```python
kept = F.conv2d(maps(X), maps([[1]]), stride=2).numpy()[0, 0]
assert (kept == X[::2, ::2]).all()
```
</details>
"""
