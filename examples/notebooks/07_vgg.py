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
# 7. VGG: small filters, and many of them

**What you will be able to do.** Say why three small filters are better than one large one, and
prove it by counting and by training; read six networks from one table of numbers; tell where a
network keeps its memory and where its parameters; work out which batch fits into a GPU; and use
what a network has learned for things that it has never seen.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/07_vgg.py`, which writes the pictures into
`runs/notebooks/`.
"""

# %%
import numpy as np
from lesson import check, show, sized

import minicnn
import minicnn.functional as F
from minicnn import Tensor, Trainer, data, inspect, models, nn, optim, plot, training
from minicnn.models import vgg

sample = data.fashion_mnist("train", source="sample")
unseen = data.fashion_mnist("test", source="sample")

# %% [markdown]
"""
## Why smaller filters?

AlexNet began with filters of 11x11, ZFNet with 7x7. In 2014 Simonyan and Zisserman, of the Visual
Geometry Group in Oxford, took the smallest filter that still knows left from right and above from
below, **3x3**, and nothing else. How can that see anything of size?

By standing on each other's shoulders. A value behind the first layer sees 3x3 pixels, one behind
the second 5x5, and the notes ask: *what is the receptive field of three 3x3 layers?* **7x7**.
"""

# %%
shoe = unseen.images[np.flatnonzero(unseen.labels == unseen.classes.index("Sneaker"))[0]]
NAMES = ("first", "second", "third")
stack = nn.Sequential({name: nn.Conv2d(1, 1, 3, padding=1) for name in NAMES})
fields = inspect.receptive_fields(stack, shoe.shape)
check("fields behind one, two and three 3x3", [fields[name].size[0] for name in NAMES], [3, 5, 7])
show(plot.receptive_field(stack, "third", shoe))

# %% [markdown]
"""
Both ways look at the same 49 pixels, but not in the same way. The middle pixel reaches the result
by seven times seven different ways through the stack, a corner by a single one. (Count the ways by
sending a gradient of ones back through filters of ones.)
"""


# %%
def ways(kernels):
    """By how many ways each pixel of a 7x7 image reaches the one result."""
    x = Tensor(np.zeros((1, 1, 7, 7)), requires_grad=True)
    y = x
    for size in kernels:
        y = F.conv2d(y, Tensor(np.ones((1, 1, size, size))))
    y.sum().backward()
    return x.grad[0, 0]


check("ways through three 3x3", ways([3, 3, 3]), np.outer(*[[1, 3, 6, 7, 6, 3, 1]] * 2))
show(plot.maps({"one 7x7": ways([7]), "three 3x3": ways([3, 3, 3])},
               title="By how many ways a pixel gets there"))  # fmt: skip

# %% [markdown]
"""
## What three layers can do that one cannot

Without anything between them, three convolutions *are* one of 7x7, and a poorer one: it has only
27 free numbers where a real 7x7 has 49. To find it, show the stack a single bright pixel. Its
answer, upside down, is that filter.
"""

# %%
rng = np.random.default_rng(2)
three = [Tensor(rng.standard_normal((1, 1, 3, 3))) for _ in range(3)]


def through(x, between):
    """The three filters, with a function between them."""
    for i, filters in enumerate(three):
        x = F.conv2d(between(x) if i else x, filters)
    return x


pixel = np.zeros((1, 1, 13, 13))
pixel[0, 0, 6, 6] = 1
merged = through(Tensor(pixel), lambda x: x).numpy()[:, :, ::-1, ::-1].copy()
image = Tensor(rng.standard_normal((1, 1, 28, 28)))
check("the merged filter", merged.shape, (1, 1, 7, 7))
linear = through(image, lambda x: x) - F.conv2d(image, Tensor(merged))
check("three linear layers less that one", np.abs(linear.numpy()).max(), 0, digits=9)
show(plot.maps({**{f"filter {i}": f.numpy()[0, 0] for i, f in enumerate(three, 1)},
                "merged": merged[0, 0]}, title="Three filters that are one"))  # fmt: skip

# %% [markdown]
"""
The **ReLU between** the layers makes the difference. To the negative of an image a single filter
gives minus its answer, whatever its weights are. A stack with ReLUs need not: what it says of white
on black and of black on white may be two different things. Three layers bend three times, one bends
once.
"""

# %%
sums = [f(image) + f(-image) for f in (lambda x: through(x, lambda x: x),
                                       lambda x: through(x, F.relu))]  # fmt: skip
check("linear: answer to an image plus answer to its negative", np.abs(sums[0].numpy()).max(), 0,
      digits=9)  # fmt: skip
bent = np.abs(sums[1].numpy()).mean()
print(f"with ReLU: {bent:.2f} on average")
assert bent > 0.1

# %% [markdown]
"""
## And it is cheaper

A layer with C channels in and C out has C² filters' worth of weights: 49 C² with one 7x7, and
3 · 9 = 27 C² with three 3x3. That is always 45 % less; but 45 % of more is more, so the gap grows
with the square of C.
"""

# %%
costs = inspect.stacked_costs(7, channels=64)
print(costs)
check("one 7x7 and three 3x3, 64 channels", [costs.direct.weights, costs.cheaper.weights],
      [200_704, 110_592])  # fmt: skip
channels = (64, 128, 256, 512)
pairs = [inspect.stacked_costs(7, channels=C) for C in channels]
gaps = [pair.direct.weights - pair.cheaper.weights for pair in pairs]
check("the gaps, 22 C²", gaps, [90_112, 360_448, 1_441_792, 5_767_168])
check("times as many", [pair.ratio for pair in pairs], [1.815] * 4, digits=3)
show(plot.lines(channels, {"one 7x7": [p.direct.weights / 1e6 for p in pairs],
                           "three 3x3": [p.cheaper.weights / 1e6 for p in pairs]},
                "The same field, and what it costs", "channels C",
                "millions of weights"))  # fmt: skip

# %% [markdown]
"""
So *why smaller filters?* In one sentence: **a stack of three sees as far as one 7x7, has 27 C²
weights instead of 49 C², and three ReLUs instead of one.**

## Is it true? A race

Counting is one thing; does it also *learn* better? Four networks, the same but for the middle:

- one layer of 7x7 with 12 channels;
- three layers of 3x3 with 12 channels: fewer weights;
- three layers of 3x3 with 16 channels: as many weights as the first;
- three layers of 3x3 with 12 channels and *no ReLU between*, which is to say: a poor 7x7.

All get the same pictures, in the same order, for the same number of steps; three times each, from
different random weights.
"""

# %%
normal = data.Normalize(data.FASHION_MNIST_MEAN, data.FASHION_MNIST_STD)
prepare = data.Compose([data.ToFloat(), normal])
RACE = {  # sizes of the filters in the middle, channels, ReLU between
    "one 7x7": ((7,), 12, True),
    "three 3x3": ((3, 3, 3), 12, True),
    "three 3x3, wider": ((3, 3, 3), 16, True),
    "three 3x3, no ReLU": ((3, 3, 3), 12, False),
}


def racer(kernels, channels, relu):
    """28x28 pixels, 14x14 in the middle, 7x7 at the end."""
    layers = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    for i, kernel in enumerate(kernels):
        layers += [nn.ReLU()] if i and relu else []
        layers += [nn.Conv2d(channels, channels, kernel, padding="same")]
    layers += [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(49 * channels, 10)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if relu else "linear")
    return nn.Sequential(*layers)


middles = [sum(layer.weight.size for layer in racer(*middle)[3:] if isinstance(layer, nn.Conv2d))
           for middle in RACE.values()]  # fmt: skip
check("weights in the middle", middles, [7056, 3888, 6912, 3888])

# %%
learning = data.Loader(sample.subset(range(sized(3000, 40))), sized(50, 20), shuffle=True,
                       transform=prepare)  # fmt: skip
judging = data.Loader(unseen.subset(range(sized(2000, 20))), sized(50, 20), transform=prepare)
curves, ends = {}, {}
for name, middle in RACE.items():
    losses, hits = [], []
    for seed in range(sized(3, 1)):
        minicnn.seed(seed)
        network = racer(*middle)
        trainer = Trainer(network, optim.SGD(network.parameters(), lr=0.01, momentum=0.9))
        history = trainer.fit(learning, epochs=sized(4, 2))
        losses.append(history.column("loss"))
        hits.append(trainer.evaluate(judging).accuracy)
    curves[name], ends[name] = np.mean(losses, axis=0), np.array(hits)
for name, hits in ends.items():
    print(f"{name:20} {hits.mean():.3f} right, from {hits.min():.3f} to {hits.max():.3f}")
show(plot.lines(range(1, sized(4, 2) + 1), curves, "Four ways to see 7x7", "epoch",
                "loss in training"))  # fmt: skip

# %% [markdown]
"""
When we ran it, 0.832, 0.834, 0.836 and 0.847 of the pictures were right, in the order above, and
from one seed to another they moved by up to a point. So in 240 steps on small pictures the first
three are **equal**. That is half of what the theory says: the stack with 3,888 weights sees as far
and learns as well as the large filter with 7,056, and does less than six tenths of the work. It is
*cheaper*; that it is *better*, this race does not show, and the ReLUs between are not yet missed:
without them a stack that short was even a little ahead. For more one needs more layers and more
pictures, 1.3 million, as the paper had: we come to its result below.

## Six networks from one table

The whole of VGG is a few numbers: five blocks, each a row of convolutions and one 2x2 pooling; the
channels double where the map halves. All convolutions have stride 1 and padding 1, so only pooling
changes a size. Then three fully connected layers, with dropout. As data it is this:
"""

# %%
print("channels of the blocks:", vgg.WIDTHS)
for letter, blocks in vgg.CONFIGURATIONS.items():
    print(letter, " | ".join(" ".join(f"{k}x{k}" for k in kernels) for kernels in blocks))

# %% [markdown]
"""
(C has some 1x1 convolutions; the sixth network, A-LRN, is A with AlexNet's response normalisation.)
From the table everything follows. Count the parameters yourself, and then let the networks say:
"""


# %%
def parameters(letter):
    """Of one configuration, from the table of kernel sizes alone."""
    total, read = 0, 3
    for width, kernels in zip(vgg.WIDTHS, vgg.CONFIGURATIONS[letter], strict=True):
        for k in kernels:
            total, read = total + width * (read * k * k + 1), width
    for inputs, outputs in ((512 * 7 * 7, 4096), (4096, 4096), (4096, 1000)):
        total += outputs * (inputs + 1)
    return total


MODELS = {"A": "vgg11", "B": "vgg13", "C": "vgg16_c", "D": "vgg16", "E": "vgg19"}
with nn.without_weights():
    nets = {letter: models.create(name) for letter, name in MODELS.items()}
tables = {letter: inspect.summary(net, (3, 224, 224)) for letter, net in nets.items()}
for letter, table in tables.items():
    depth = table.shares["conv"].layers + table.shares["fc"].layers
    print(f"{letter}: {depth} layers with weights, {table.multiply_adds:14,} multiply-adds")
check("parameters of A to E, by hand", [parameters(letter) for letter in MODELS],
      [132_863_336, 133_047_848, 133_638_952, 138_357_544, 143_667_240])  # fmt: skip
check("parameters of A to E, in the networks", [t.parameters for t in tables.values()],
      [132_863_336, 133_047_848, 133_638_952, 138_357_544, 143_667_240])  # fmt: skip
check("multiply-adds of D, which is VGG-16", tables["D"].multiply_adds, 15_470_264_320)
show(plot.architecture("vgg16"))

# %% [markdown]
"""
What did the paper find? Errors of single networks, on pictures of a single size (its table 3):
"""

# %%
PAPER = {"A": (29.6, 10.4), "A-LRN": (29.7, 10.5), "B": (28.7, 9.9), "C": (28.1, 9.4),
         "D": (27.0, 8.8), "E": (27.3, 9.0)}  # fmt: skip
for name, (top1, top5) in PAPER.items():
    print(f"{name:6} top-1 error {top1} %, top-5 error {top5} %")
show(plot.lines([11, 13, 16, 19], {"top-1": [PAPER[name][0] for name in "ABDE"],
                                   "top-5": [PAPER[name][1] for name in "ABDE"]},
                "VGG on ImageNet: A, B, D, E", "layers with weights", "error (%)"))  # fmt: skip

# %% [markdown]
"""
Four answers in six lines. *Deeper is better*, up to 16 layers; 19 are no better than 16 (which is
where page 9, on residual networks, begins). *LRN is of no use*. *More ReLUs help*: C, with 1x1
convolutions, is better than B. *But seeing helps more*: D, with 3x3 in their place, is better than
C. And the paper ran our race too: B with one 5x5 in place of each pair of 3x3 had a top-1 error 7
points higher.

> **A remark.** The 7.3 % with which VGG came second in 2014 (GoogLeNet had 6.7, next page) are
> those of **seven** networks together. After the contest two of them reached 6.8, and a single one
> 7.1 on the validation pictures.

## The table of VGG-16, row by row

The notes have this famous table, with the values of each map and the weights of each layer. Here it
is computed from the network, with what they print beside it:
"""

# %%
table = tables["D"]
notes = inspect.notes_vgg16(table)
print(notes)
values, weights = notes.total.values
check("values in all maps, with the image", values.exact, 15_237_608)
check("megabytes of them", values.exact * 4 / 1e6, 60.95, digits=2)
check("weights", weights.exact, 138_344_128)
check("all parameters, biases too", table.parameters, 138_357_544)

# %% [markdown]
"""
> **Corrections.** Every row of the notes' table is right, and the sum is not: "24M values, 96 MB"
> should be **15.2M and 61 MB** (even their own rounded rows add up to 15.18M). It would be 28.8M if
> what comes out of each ReLU were stored beside what goes in. And 138M parameters is right both
> "not counting biases", as they say, and with them.

## Where the memory is, and where the parameters

Now read the table as a story. Both columns, row by row (a pooling has no parameters: a gap):
"""

# %%
rows = notes.rows[1:]  # without the image
memory = [row.values[0].exact for row in rows]
parameter = [row.values[1].exact if row.values[1] else 0 for row in rows]
show(plot.lines(range(1, len(rows) + 1), {"values to keep": memory, "weights": parameter},
                "VGG-16: memory first, weights last", "row of the table: conv1_1 is 1, fc6 is 19",
                "how many", log=True))  # fmt: skip
check("values of the first two convolutions, %", 100 * sum(memory[:2]) / values.exact, 42.15,
      digits=2)  # fmt: skip
check("weights of fc6, %", 100 * parameter[-3] / weights.exact, 74.28, digits=2)
convolutions = table.shares["conv"]
check("convolutions: share of the parameters, %", 100 * convolutions.parameter_share, 10.64,
      digits=2)  # fmt: skip
check("convolutions: share of the work, %", 100 * convolutions.multiply_add_share, 99.20, digits=2)

# %% [markdown]
"""
**Most memory is in the early convolutions**, where maps are large: two of twenty-one rows hold 42 %
of all values. **Most parameters are in the late fully connected layers**: fc6 alone, the first
behind the maps, has three quarters. And nearly all the *work* is in the convolutions. The next page
has a network that does without fc6, and loses nothing.

## Which batch fits?

To use a network one can forget each map as soon as the next is there. To *train* it one must keep
them all: backward needs what forward computed. That makes 61 MB a picture; and if the gradients of
all maps are kept as well, twice that. The weights come on top: themselves, their gradients and, for
SGD with momentum, the velocities.
"""

# %%
once = 3 * 4 * table.parameters  # weights, gradients, velocities; 4 bytes each
image = 4 * values.exact
check("megabytes that do not depend on the batch", once / 1e6, 1660.29, digits=2)
check("megabytes for a picture, maps and their gradients", 2 * image / 1e6, 121.90, digits=2)


def fits(gigabytes, per_picture):
    """How many pictures fit beside the weights."""
    return int((gigabytes * 1e9 - once) // per_picture)


for gigabytes in (3, 6, 12, 24, 80):
    print(f"{gigabytes:2} GB: {fits(gigabytes, 2 * image):4} pictures with all gradients kept,"
          f" {fits(gigabytes, image):5} at the very most")  # fmt: skip
check("pictures in 12 GB", [fits(12, 2 * image), fits(12, image)], [84, 169])

# %% [markdown]
"""
The truth is between the two columns, because the gradient of a map can be thrown away as soon as
the map before it has got its own; but convolutions need room to work in. One can also measure what
a training step really keeps. Here is a small VGG-11, and how it fills up on the way forward:
"""

# %%
minicnn.seed(0)
little = models.create("vgg11", preset="fashion-mnist", width=0.125, hidden=128)
BATCH = sized(16, 4)
measured = inspect.memory(little, (1, 28, 28), batch_size=BATCH)
rule = BATCH * inspect.summary(little, (1, 28, 28)).activation_bytes
print(f"kept for backward: {measured.saved:,} bytes, by the rule of the table {rule:,}")
assert 0.8 < measured.saved / rule < 1.4
kept = [sum(row.saved for row in measured.layers[:i]) / 1e6
        for i in range(1, len(measured.layers) + 1)]  # fmt: skip
weigh = np.cumsum([row.parameters for row in measured.layers]) / 1e6
show(plot.lines(range(1, len(kept) + 1), {"kept for backward": kept, "weights": weigh},
                "A small VGG-11 on the way forward", "layer", "10⁶ bytes so far"))  # fmt: skip

# %% [markdown]
"""
## What one value sees

A value of the last convolution, conv5_3, sees 196x196 of the 224x224 pixels, one behind the last
pooling 212x212: nearly everything. (Drawn on our sneaker, enlarged eight times.)
"""

# %%
seen = [row.receptive_field for row in table.layers if row.kind in ("Conv2d", "MaxPool2d")]
check("fields of VGG-16", [field.size[0] for field in seen],
      [3, 5, 6, 10, 14, 16, 24, 32, 40, 44, 60, 76, 92, 100, 132, 164, 196, 212])  # fmt: skip
check("their jumps", [field.jump[0] for field in seen][-2:], [16, 32])
large = np.repeat(np.kron(shoe, np.ones((1, 8, 8), np.uint8)), 3, axis=0)
show(plot.receptive_field(nets["D"], "features.28", large))

# %% [markdown]
"""
## Features that serve others

The notes say of FC7, the second hidden layer: its features generalise well to other tasks. To see
it, train a small VGG-11 on five kinds of things only, a sandal among them but no other shoe. Each
picture is moved to a random place, up to four pixels off, so that the network must know things by
their parts and not by where they lie.
"""

# %%
KNOWN = ["T-shirt/top", "Trouser", "Pullover", "Sandal", "Bag"]
NEW = [name for name in sample.classes if name not in KNOWN]
move = data.RandomCrop(28, padding=4)


def only(names, whole, count):
    """The first pictures of some classes, each moved to a random place."""
    numbers = [whole.classes.index(name) for name in names]
    chosen = np.flatnonzero(np.isin(whole.labels, numbers))[:count]
    images = move(whole.images[chosen], np.random.default_rng(1))
    labels = [numbers.index(label) for label in whole.labels[chosen]]
    return data.ArrayDataset(images, labels, names)


known = only(KNOWN, sample, sized(5000, 50))
anew = data.Compose([move, data.RandomHorizontalFlip(), data.ToFloat()])
minicnn.seed(0)
settings = {"width": sized(0.25, 0.0625), "hidden": 128, "num_classes": len(KNOWN)}
untrained, small = (models.create("vgg11", preset="fashion-mnist", **settings) for _ in range(2))
trainer = Trainer(small, optim.SGD(small.parameters(), lr=0.02, momentum=0.9))
trainer.fit(data.Loader(known, 50, shuffle=True, transform=anew), epochs=sized(6, 1))
seen_before = trainer.evaluate(data.Loader(only(KNOWN, unseen, sized(1000, 50)), 50))
print(f"of the five kinds that it knows, {seen_before.accuracy:.1%} right")

# %% [markdown]
"""
Now take *five other kinds*, of which it has never seen a picture, and show it a few of each. A new
picture is called what the nearest of these few is called, where "near" is measured in three ways:
by the pixels, by FC7 of the network before it was trained, and by FC7 of the trained one.
"""

# %%
examples, questions = only(NEW, sample, sized(5000, 120)), only(NEW, unseen, sized(1000, 50))
DESCRIBED = {
    "pixels": lambda pictures: pictures.images.reshape(len(pictures), -1) / 255,
    "FC7, untrained": lambda pictures: training.features(untrained, pictures, "classifier.4"),
    "FC7": lambda pictures: training.features(small, pictures, "classifier.4"),
}
SHOTS, RUNS = (1, 2, 5, 10), sized(20, 2)
check("numbers of FC7 for a picture", DESCRIBED["FC7"](questions).shape[1], 128)


def nearest(few, asked):
    """For each picture asked about, which of the few lies in the most similar direction."""
    few, asked = few - few.mean(0), asked - few.mean(0)
    lengths = np.linalg.norm(few, axis=1) + 1e-9
    return (asked @ few.T / lengths).argmax(axis=1)


right = {name: [] for name in DESCRIBED}
for name, describe in DESCRIBED.items():
    one, other = describe(examples), describe(questions)
    for shots in SHOTS:
        hits = []
        for run in range(RUNS):
            order = np.random.default_rng(run).permutation(len(examples))
            few = np.concatenate([order[examples.labels[order] == k][:shots] for k in range(5)])
            said = examples.labels[few][nearest(one[few], other)]
            hits.append((said == questions.labels).mean())
        right[name].append(float(np.mean(hits)))
for name, shares in right.items():
    print(f"{name:15}", "  ".join(f"{share:.3f}" for share in shares))
show(plot.lines(SHOTS, right, "Things that it has never seen", "examples of each kind",
                "share right"))  # fmt: skip

# %% [markdown]
"""
When we ran it, one example of each of the five was enough to be right in 51 of 100 cases by FC7, in
42 by pixels, in 37 by the untrained network, and in 20 by guessing. So something that was learned
from trousers and sandals helps with dresses and boots. It does not go on like that: from five
examples on the pixels were better. Our network is small, has seen 5,000 pictures, and had only to
tell five kinds apart; what does not serve for that, it forgot. The notes' claim is about a VGG that
has seen 1.3 million photos of 1,000 kinds. The wider the first task, the more of it serves for
others.

And what the network finds alike: each thing on the left, then the four that are nearest to it.
"""

# %%
vectors = DESCRIBED["FC7"](questions)
asked = [int(np.flatnonzero(questions.labels == k)[1]) for k in range(5)]
similar = vectors - vectors.mean(0)
similar /= np.linalg.norm(similar, axis=1, keepdims=True) + 1e-9
found = np.argsort(-(similar[asked] @ similar.T), axis=1, kind="stable")[:, :5]
check("each is nearest to itself", found[:, 0] == asked, [1] * 5)
show(plot.samples(questions.images[found.ravel()], questions.labels[found.ravel()],
                  classes=NEW, count=25, columns=5))  # fmt: skip

# %% [markdown]
"""
## Exercises

1. Which stack of 3x3 sees what an 11x11 filter sees, AlexNet's first? What does it cost, for C
   channels in and out?
2. How many parameters has the largest VGG without its three fully connected layers?
3. Take 448x448 pictures. What happens to the memory of the maps, and to what one value of conv5_3
   sees? What to fc6?
4. Before the first pooling VGG-16 has two convolutions, and they hold 42 % of the memory. How much
   would be saved if the first had stride 2, as in ResNet?

<details><summary>Answer 1</summary>

Five: 3 + 4 · 2 = 11. 5 · 9 = 45 C² in place of 121 C².

```python
five = inspect.stacked_costs(11, channels=64)
assert len(five.cheaper.terms) == 5
assert (five.direct.weights, five.cheaper.weights) == (121 * 64**2, 45 * 64**2)
```
</details>

<details><summary>Answer 2</summary>

143,667,240 − 123,642,856 = 20,024,384: less than a sixth.

```python
share = tables["E"].shares["fc"]
assert tables["E"].parameters - share.parameters == 20_024_384
```
</details>

<details><summary>Answer 3</summary>

All maps have four times as many values. The field stays 196x196, because it depends on the filters
only; so a value sees a smaller part of the picture. fc6 would need 512 · 14 · 14 inputs, four times
the weights; minicnn's network averages the last map to 7x7, and nothing changes.

```python
twice = inspect.summary(nets["D"], (3, 448, 448))
maps_only = [sum(r.activations for r in t.layers if r.part == "conv") for t in (table, twice)]
assert maps_only[1] == 4 * maps_only[0]
assert twice.parameters == table.parameters
```
</details>

<details><summary>Answer 4</summary>

Every map after it has a quarter of the values, so nearly three quarters of all are saved.

```python
left = 3 * 224 * 224 + 9192 + (values.exact - 3 * 224 * 224 - 9192) / 4
assert round(100 * (1 - left / values.exact)) == 74
```
</details>
"""
