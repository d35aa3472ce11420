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
# 8. Inception: all filters at once, and how to pay for them

**What you will be able to do.** Build the module that GoogLeNet is made of, first the naive one,
which nobody could afford, then the real one; say what a 1x1 convolution is and why it stands where
it stands; join branches, and say when that is impossible; split filters into cheaper ones; and
explain what auxiliary classifiers are for.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/08_inception.py`, which writes the pictures into
`runs/notebooks/`.
"""

# %%
import numpy as np
from lesson import check, show, sized

import minicnn
import minicnn.functional as F
from minicnn import Tensor, Trainer, data, inspect, models, nn, optim, plot
from minicnn.models import googlenet
from minicnn.training.auxiliary import total_loss

sample = data.fashion_mnist("train", source="sample")
unseen = data.fashion_mnist("test", source="sample")
normal = data.Normalize(data.FASHION_MNIST_MEAN, data.FASHION_MNIST_STD)
prepare = data.Compose([data.ToFloat(), normal])

# %% [markdown]
"""
## Which filter is best? All of them

A face may fill the photo or be a spot in the crowd. So is 3x3 right, or 5x5, or 1x1, or should one
pool here? Szegedy and others, 2014, did not choose. Their *inception module* does all four side by
side, puts the maps behind each other like sheets in a pile, and lets the next layer decide.
"""


# %%
class Inception(nn.Module):
    """Branches of 1x1, 3x3, 5x5 and pooling; with 1x1 convolutions to save work, or naive."""

    def __init__(self, channels, one, three, five, reduce3=None, reduce5=None, projection=None):
        super().__init__()

        def conv(inputs, outputs, size):
            return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.ReLU())

        def branch(reduced, outputs, size):
            if reduced is None:
                return conv(channels, outputs, size)
            return nn.Sequential(conv(channels, reduced, 1), conv(reduced, outputs, size))

        self.branch1 = conv(channels, one, 1)
        self.branch2 = branch(reduce3, three, 3)
        self.branch3 = branch(reduce5, five, 5)
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1))
        if projection is not None:
            self.branch4.append(conv(channels, projection, 1))

    def forward(self, x):
        """The branches' maps, one behind the other."""
        return F.cat([branch(x) for branch in self.children()], dim=1)


with nn.without_weights():
    naive = Inception(256, 128, 192, 96)
show(plot.architecture(naive, (256, 28, 28)))

# %% [markdown]
"""
## Can branches of different size be concatenated?

**No.** A pile needs sheets of one size. A 3x3 filter without padding makes 26x26 of 28x28, a 5x5
makes 24x24, and then:
"""

# %%
image = Tensor(np.ones((1, 2, 28, 28), np.float32))
unpadded = {k: F.conv2d(image, Tensor(np.ones((4, 2, k, k), np.float32))) for k in (1, 3, 5)}
check("1x1, 3x3 and 5x5 without padding", [y.shape[2] for y in unpadded.values()], [28, 26, 24])
refused = False
try:
    F.cat(list(unpadded.values()), dim=1)
except ValueError as error:
    refused = True
    print("minicnn says:", error)
check("branches of different size are refused", refused, True)
sizes = [inspect.output_size(28, k, padding=k // 2).output for k in (1, 3, 5)]
check("with padding 0, 1 and 2", sizes, [28, 28, 28])
check("pooling 3x3 with stride 1 and padding 1", inspect.output_size(28, 3, padding=1).output, 28)

# %% [markdown]
"""
So every branch is padded with half its filter, and pools with **stride 1**. Only the numbers of
channels may differ; they add up.

> **A correction.** The notes calculate "28x28, S = 3: (28 − 3)/1 + 1 = 26". The 3 is the filter,
> the stride is 1, and 26 is right without padding; but in the module it must be 28.

## What is the issue with the naive module?

The notes' example: 256 maps of 28x28 come in, and we want 128 maps of 1x1, 192 of 3x3 and 96 of
5x5. Every filter reads all 256 maps:
"""

# %%
print(inspect.notes_inception(naive=True))
counted = inspect.summary(naive, (256, 28, 28))
check("multiply-adds of the naive module", counted.multiply_adds, 854_196_224)
out = naive.branch1[0].out_channels + 192 + 96 + 256
check("maps that come out", out, 672)
check("values that come out", out * 28 * 28, 526_848)

# %% [markdown]
"""
Two issues. **It is far too expensive**: 854 million multiply-adds for one module, more than all of
the paper's AlexNet (724 million). And **it only grows**: pooling keeps all 256 maps, so 672 come
out; the next module reads 672, and so on. GoogLeNet with naive modules throughout would be this:
"""

# %%
forms = {"naive": {"form": "naive", "aux_logits": False}, "real": {"form": "paper",
         "aux_logits": False}}  # fmt: skip
with nn.without_weights():
    whole = {name: models.create("googlenet", **form) for name, form in forms.items()}
sums = {name: inspect.summary(net, (3, 224, 224)) for name, net in whole.items()}
check("parameters: naive, real", [s.parameters for s in sums.values()], [97_526_008, 6_998_552])
check("multiply-adds: naive, real", [s.multiply_adds for s in sums.values()],
      [12_568_061_056, 1_582_671_872])  # fmt: skip
modules = list(googlenet.MODULES)
widths = {name: [getattr(net, f"inception{m}").out_channels for m in modules]
          for name, net in whole.items()}  # fmt: skip
check("maps behind the modules of the real one", widths["real"],
      [256, 480, 512, 512, 512, 528, 832, 832, 1024])  # fmt: skip
show(plot.lines(range(1, 10), widths, "Naive modules only grow", "module: 3a is 1, 5b is 9",
                "maps that come out"))  # fmt: skip

# %% [markdown]
"""
## What is a 1x1 convolution?

It looks at one pixel. Is that not nothing? No: at that pixel there are *many maps*, and it weighs
them. 32 filters of 1x1x64 make 32 maps of 56x56 from 64; each value is a dot product of 64 numbers.
It is a fully connected layer from 64 to 32, the same at every pixel:
"""

# %%
rng = np.random.default_rng(0)
x = rng.standard_normal((1, 64, 56, 56))
mixing = rng.standard_normal((32, 64))
y = F.conv2d(Tensor(x), Tensor(mixing[:, :, None, None])).numpy()
check("64 maps become", y.shape, (1, 32, 56, 56))
check("weights", mixing.size, 2048)
product = mixing[5] @ x[0, :, 10, 20]
check("one value less the dot product", abs(y[0, 5, 10, 20] - product), 0, digits=9)
dense = np.einsum("fc,nchw->nfhw", mixing, x)
check("all values less the fully connected layer's", np.abs(y - dense).max(), 0, digits=9)

# %% [markdown]
"""
Here are two maps of a sneaker, its upright and its level edges, and two 1x1 filters over them: one
adds (edges of any kind), one subtracts (which kind?). No pixel has looked at its neighbours.
"""

# %%
shoe = unseen.images[np.flatnonzero(unseen.labels == unseen.classes.index("Sneaker"))[0]] / 255
UPRIGHT = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 4
edges = F.relu(F.conv2d(Tensor(shoe[None]), Tensor(np.stack([[UPRIGHT], [UPRIGHT.T]])), padding=1))
mixed = F.conv2d(edges, Tensor(np.array([[1.0, 1], [1, -1]])[:, :, None, None])).numpy()[0]
upright, level = edges.numpy()[0]
show(plot.maps({"upright": upright, "level": level, "1x1: their sum": mixed[0],
                "1x1: their difference": mixed[1]}, columns=2,
               title="A 1x1 filter mixes maps"))  # fmt: skip

# %% [markdown]
"""
## The bottleneck

That is the remedy. In front of each large filter put a 1x1 convolution that makes *few* maps out of
many; then the large filter has little to read. 5x5 from 192 maps to 32, straight or through 16:
"""

# %%
print(inspect.notes_bottleneck())
bottleneck = inspect.notes_bottleneck()
check("multiply-adds straight", bottleneck.direct.multiply_adds, 120_422_400)
check("through 16 maps, term by term", [t.multiply_adds for t in bottleneck.cheaper.terms],
      [2_408_448, 10_035_200])  # fmt: skip
check("through 16 maps", bottleneck.cheaper.multiply_adds, 12_443_648)
check("times less", bottleneck.ratio, 9.677, digits=3)

# %% [markdown]
"""
> **A correction.** "120M against 12.4M, ten times less" is right (9.677 times). But the reason that
> the notes give, "due to more information", is none. The 5x5 filter reads **16 maps in place of
> 192**; that is all. There is *less* information, and the network learns which 16 mixtures to keep.

In the notes' module each 1x1 in front has 64 maps, and so has the one behind the pooling:
"""

# %%
print(inspect.notes_inception())
with nn.without_weights():
    reduced = Inception(256, 128, 192, 96, 64, 64, 64)
cheaper = inspect.summary(reduced, (256, 28, 28))
check("multiply-adds of the reduced module", cheaper.multiply_adds, 271_351_808)
check("values that come out of the reduced module", (128 + 192 + 96 + 64) * 28 * 28, 376_320)
wrong = cheaper.multiply_adds + 28 * 28 * 192 * 9 * 64
check("the sum if 3x3 reads 128 maps", wrong, 358_055_936)
show(plot.architecture(reduced, (256, 28, 28)))

# %% [markdown]
"""
> **A correction.** The notes print the same six terms as this table, and the total "358M". The
> terms add up to **271,351,808**. 358,055,936 is what comes out if the 3x3 reads 128 maps, as in
> the real network's module 3b (which has other widths in its last branches, and needs 304,267,264).

## Why 1x1 after pooling?

The branches with filters get their 1x1 *before*, this one *after*: the question is one of the
notes. Because **pooling cannot change how many maps there are**. 256 go in, 256 come out, and all
of them would go into the pile. A convolution may make as many maps as it likes; pooling may not, so
a 1x1 behind it must cut them down, here to 64.
"""

# %%
maps = nn.dry_run(nn.MaxPool2d(3, stride=1, padding=1), (256, 28, 28))
check("maps behind the pooling", maps.shape[1], 256)
check("maps behind pooling and projection", nn.dry_run(reduced.branch4, (256, 28, 28)).shape[1], 64)

# %% [markdown]
"""
## Does the narrow module learn as well?

Three small networks: two naive modules; two reduced ones; and plain 3x3 convolutions that cost
about as much as the reduced modules. Same pictures, same order, same number of steps.
"""


# %%
def classifier(*middle, channels):
    """28x28 pixels, 14x14 in the middle, the mean of each map at the end."""
    network = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), *middle,
                            nn.GlobalAvgPool2d(), nn.Linear(channels, 10))  # fmt: skip
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network


def plain(inputs, outputs):
    """A 3x3 convolution and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())


RACE = {
    "naive": lambda: classifier(Inception(24, 16, 24, 12), Inception(76, 24, 32, 16), channels=148),
    "reduced": lambda: classifier(Inception(24, 16, 24, 12, 8, 4, 12),
                                  Inception(64, 24, 32, 16, 12, 6, 16), channels=88),
    "plain 3x3": lambda: classifier(plain(24, 26), plain(26, 32), channels=32),
}  # fmt: skip
learning = data.Loader(sample.subset(range(sized(2500, 20))), sized(50, 10), shuffle=True,
                       transform=prepare)  # fmt: skip
judging = data.Loader(unseen.subset(range(sized(2000, 20))), sized(50, 20), transform=prepare)
losses = {}
for name, make in RACE.items():
    curves, hits = [], []
    for seed in range(sized(2, 1)):
        minicnn.seed(seed)
        network = make()
        trainer = Trainer(network, optim.SGD(network.parameters(), lr=0.02, momentum=0.9))
        curves.append(trainer.fit(learning, epochs=sized(6, 2)).column("loss"))
        hits.append(trainer.evaluate(judging).accuracy)
    losses[name] = np.mean(curves, axis=0)
    cost = inspect.summary(network, (1, 28, 28)).multiply_adds
    print(f"{name:10} {cost:11,} multiply-adds, {np.mean(hits):.3f} right")
show(plot.lines(range(1, sized(6, 2) + 1), losses, "What the modules learn", "epoch",
                "loss in training"))  # fmt: skip

# %% [markdown]
"""
What to look for: the naive network does nearly five times the work of the reduced one. Is it nearly
five times as good? And do branches of several sizes learn more than one size of filter for the same
work? When we ran it, 0.707, 0.663 and 0.647 were right, in the order above: more for more work, but
not five times more; and for the same work a little more with branches. Change the seeds before you
believe the little: a point of accuracy is soon there by chance.

## GoogLeNet

Nine modules on a stem of plain convolutions. As data they are nine rows of six numbers:
"""

# %%
print("       1x1   3x3 (from)  5x5 (from)  pool    out   parameters  multiply-adds")
products, made = {}, {}
for name, (one, from3, three, from5, five, pool) in googlenet.MODULES.items():
    rows = [row for row in sums["real"].layers if row.name.startswith(f"inception{name}.")]
    products[name] = sum(row.multiply_adds for row in rows)
    made[name] = sum(row.parameters for row in rows)
    print(f"{name}  {one:6} {three:6} ({from3:3}) {five:6} ({from5:2}) {pool:6} "
          f"{one + three + five + pool:6} {made[name]:12,} {products[name]:14,}")  # fmt: skip
check("multiply-adds of 3a and 3b", [products["3a"], products["3b"]], [128_049_152, 304_267_264])
check("parameters of 4c and 5b", [made["4c"], made["5b"]], [510_104, 1_444_080])
ours = Inception(256, 128, 192, 96, 128, 32, 64)  # the class above, with the widths of 3b
check("3b in our class, multiply-adds", inspect.summary(ours, (256, 28, 28)).multiply_adds,
      304_267_264)  # fmt: skip
show(plot.architecture(whole["real"]))

# %% [markdown]
"""
> **Corrections.** *"5 million parameters, 12 times fewer than AlexNet"*: the network has
> **6,998,552**, and AlexNet's 60,965,224 are **8.7 times** as many. (5 million is near the count
> without the last layer, 5,973,552; "12 times" is in the paper too.) *"No fully connected layers"*:
> it has **one**, the last; another of the notes says so. *22 layers* is right, and means layers
> with weights on the longest way; there are 57 convolutions.
"""

# %%
real = sums["real"]
check("AlexNet's parameters, as many times", 60_965_224 / real.parameters, 8.71, digits=2)
check("parameters without the last layer", real.parameters - 1_025_000, 5_973_552)
check("convolutions and fully connected layers", [real.shares[k].layers for k in ("conv", "fc")],
      [57, 1])  # fmt: skip
check("layers with weights on the longest way", 3 + 2 * len(googlenet.MODULES) + 1, 22)
last = inspect.receptive_fields(whole["real"], (3, 224, 224))["inception5b"]
check("field and jump of 5b", [last.size[0], last.jump[0]], [715, 32])

# %% [markdown]
"""
## No fc6: global average pooling

VGG-16 has 102.8 million weights between its last maps and its first hidden layer. GoogLeNet takes
the **mean of each map** instead, an idea from *Network in Network*: 1024 maps of 7x7 become 1024
numbers, and one fully connected layer makes the classes. The paper tells that this made the top-1
error 0.6 points *smaller*. And as a mean exists for maps of any size, photos may have any size.
"""

# %%
check("weights of VGG's fc6 on these maps", 1024 * 7 * 7 * 4096, 205_520_896)
check("weights of GoogLeNet's only matrix", nn.Linear(1024, 1000).weight.size, 1_024_000)
with nn.without_weights():
    check("classes for a photo of 288x320", nn.dry_run(whole["real"], (3, 288, 320)).shape[1], 1000)

# %% [markdown]
"""
## Why auxiliary classifiers?

The notes ask. In 2014 there was no batch norm and no shortcut yet, and through 22 layers **little
of the gradient reached the first ones** (page 4). So two small classifiers were hung on the middle,
on 4a and 4d. Each has a loss of its own, and gives what is below it a gradient by a short way. It
also asks for maps that are already useful half-way. They are for **training only**: in use they are
not even computed.

    loss = loss(main) + 0.3 · loss(head on 4a) + 0.3 · loss(head on 4d)

> **A correction.** "Adding all the gradients" lacks the weights: the heads count **0.3** each.
"""

# %%
minicnn.seed(0)
deep = models.create("googlenet", preset="fashion-mnist", form="paper")
images, labels = next(iter(data.Loader(sample, sized(64, 4), transform=prepare)))
outputs = deep.train()(Tensor(images))
check("outputs in training, outputs in use", [len(outputs), deep.eval()(Tensor(images)).ndim - 1],
      [3, 1])  # fmt: skip
parts = [F.cross_entropy(logits, labels).item() for logits in outputs]
whole_loss = total_loss(deep, outputs, labels, F.cross_entropy)[1].item()
check("the loss less main + 0.3 · head + 0.3 · head", whole_loss - parts[0] - 0.3 * sum(parts[1:]),
      0, digits=5)  # fmt: skip
with nn.without_weights():
    large = models.create("googlenet", form="paper")
heads = inspect.summary(large, (3, 224, 224)).unused_parameters
check("parameters of the two heads of the large one", heads, 6_379_728)

# %% [markdown]
"""
Let us look at the gradients of a small GoogLeNet that has just been born. How much of each loss
arrives at which module? (The length of the gradient of all its filters.)
"""

# %%
PARTS = ["conv1", "conv2", "conv3", *(f"inception{name}" for name in modules)]


def arriving(index, weight):
    """The gradient in each part that one of the three losses causes."""
    minicnn.seed(1)
    deep.zero_grad()
    (F.cross_entropy(deep.train()(Tensor(images))[index], labels) * weight).backward()
    lengths = []
    for name in PARTS:
        found = [p.grad for p in getattr(deep, name).parameters() if p.grad is not None]
        lengths.append(np.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in found)))
    return np.array(lengths)


gradients = {"main": arriving(0, 1.0), "head on 4d": arriving(1, 0.3), "head on 4a":
             arriving(2, 0.3)}  # fmt: skip
for name, lengths in gradients.items():
    print(f"{name:11} first layer {lengths[0]:.2e}, 4a {lengths[PARTS.index('inception4a')]:.2e}")
check("parts that the head on 4a teaches", (gradients["head on 4a"] > 0).sum(), 6)
show(plot.lines(range(1, 13), gradients, "Who teaches whom", "part: conv1 is 1, 3a is 4, 5b is 12",
                "length of the gradient", log=True))  # fmt: skip

# %% [markdown]
"""
The main loss grows weaker with each part on its way down; the first layer gets a hundredth or so of
what the last one gets. The head on 4a is near, and even with its 0.3 gives the first layer several
times as much as the main loss does. In a large network, untrained, that is a great help.

Were the heads worth it? The same authors wrote in 2015 that they do not help early in training but
at its end, that the lower one can be left out, and that they act as **regularisers**. Their next
networks keep one; residual networks (page 9) need none.

## Splitting filters

The next idea is VGG's. A 5x5 filter is two 3x3 in a row (25 C² against 18 C²). And a 3x3 filter is
a 3x1 and a 1x3 in a row (9 C² against 6 C²), an nxn one an nx1 and a 1xn.
"""

# %%
stacked, split = inspect.stacked_costs(5, channels=64), inspect.factorised_costs(3, channels=64)
print(split)
check("5x5, two 3x3; 3x3, 3x1 and 1x3; 64 channels",
      [stacked.direct.weights, stacked.cheaper.weights, split.direct.weights,
       split.cheaper.weights], [102_400, 73_728, 36_864, 24_576])  # fmt: skip
savings = [100 * (1 - c.cheaper.weights / c.direct.weights) for c in (stacked, split)]
check("that saves, %", savings, [28, 33], digits=0)
sides = np.arange(3, 12, 2)
show(plot.lines(sides, {"n x n": sides**2, "stack of 3x3": 9 * (sides // 2),
                        "n x 1 and 1 x n": 2 * sides}, "Three ways to see n x n", "n",
                "weights for a pair of channels"))  # fmt: skip

# %% [markdown]
"""
> **A correction.** "25c parameters against only 18": both belong to *one* output map, so it is 25c
> and 18c; for c maps in and c out 25c² and 18c².

*Can every filter be split* into a column and a row? No: only if its rows are multiples of one
another (its *rank* is 1). The filter for upright edges can be, the ring of page 2 cannot. A layer
loses less than that sounds, because it adds up many columns and rows. With a ReLU between the two
the paper found it better than without.
"""

# %%
RING = np.array([[1.0, 1, 1], [1, -1, 1], [1, 1, 1]])
check("ranks: upright edges, ring", [np.linalg.matrix_rank(f) for f in (UPRIGHT, RING)], [1, 2])
column, row = np.array([1.0, 2, 1])[:, None] / 4, np.array([1.0, 0, -1])[None]
two_steps = F.conv2d(F.conv2d(Tensor(shoe[None]), Tensor(column[None, None])),
                     Tensor(row[None, None]))  # fmt: skip
at_once = F.conv2d(Tensor(shoe[None]), Tensor(UPRIGHT[None, None]))
check("column and row less upright edges", np.abs((two_steps - at_once).numpy()).max(), 0, digits=9)
left, sizes_of, right = np.linalg.svd(RING)
closest = sizes_of[0] * np.outer(left[:, 0], right[0])
show(plot.maps({"column": column, "row": row, "upright edges": UPRIGHT, "ring": RING,
                "closest split": closest}, columns=5,
               title="Which filters can be split"))  # fmt: skip

# %% [markdown]
"""
## Inception v2 and v3

**v2** (BN-Inception, 2015) is GoogLeNet with batch norm, and two 3x3 for each 5x5. **v3** splits
further, by the size of the map: on 35x35 one branch has two 3x3, beside one that kept its 5x5; on
17x17 there are 1x7 and 7x1 in a row; on 8x8 1x3 *beside* 3x1. Where it halves a map it pools and
convolves side by side, so that nothing is thrown away before it has been looked at. From the
networks themselves:
"""

# %%
VERSIONS = {"googlenet": {"form": "paper"}, "inception_v2": {}, "inception_v3": {}}
with nn.without_weights():
    family = {name: models.create(name, **how) for name, how in VERSIONS.items()}
found = {name: inspect.summary(net, net.input_shape) for name, net in family.items()}
for name, table in found.items():
    used = table.parameters - table.unused_parameters
    print(f"{name:13} {table.input_shape[1]} pixels, {table.shares['conv'].layers:3} convolutions, "
          f"{used:11,} parameters, {table.multiply_adds:14,} multiply-adds")  # fmt: skip
check("parameters without heads: v1, v2, v3",
      [t.parameters - t.unused_parameters for t in found.values()],
      [6_998_552, 11_194_984, 23_834_568])  # fmt: skip
check("multiply-adds: v1, v2, v3", [t.multiply_adds for t in found.values()],
      [1_582_671_872, 2_018_851_840, 5_713_216_096])  # fmt: skip
check("parameters of the head of v3", found["inception_v3"].unused_parameters, 3_326_696)
stages = [row.output_shape[1] for row in found["inception_v3"].layers if len(row.output_shape) == 3]
check("sides of the maps of v3", list(dict.fromkeys(stages)), [149, 147, 73, 71, 35, 17, 8])
show(plot.architecture(family["inception_v3"]))

# %% [markdown]
"""
> **A remark on v2.** The paper's table cannot be right everywhere: it gives the pooling branches of
> 4c and 4d 128 maps, but then 608 come out, and it prints 576. minicnn takes 96, as the authors'
> later release does; `pool_projection=128` makes the other one. And GoogLeNet's paper prints 2.7
> thousand weights and 34 million operations for its first layer; 7x7 filters over three colours
> are 9,408 weights, and 118,013,952 multiply-adds.
"""

# %%
with nn.without_weights():
    other = models.create("inception_v2", pool_projection=128)
check("parameters of v2 with 608 maps", other.num_parameters(), 11_285_224)
first = real.layers[0]
check("GoogLeNet's first layer", [first.weights, first.multiply_adds], [9_408, 118_013_952])

# %% [markdown]
"""
How good were they? Top-5 errors on ImageNet: GoogLeNet 10.07 % alone with one view of each photo,
6.67 % with seven networks and 144 views, which won in 2014; v3 5.6 % alone, 3.5 % with four.

## Exercises

1. Build module 4e of GoogLeNet with the class above. How many maps come out, and what does it cost?
2. A 1x1 convolution from 64 to 64 maps: how many weights? Is it of any use?
3. How many multiply-adds would 7x7 filters cost in v3's 17x17 modules, and the pair 1x7 and 7x1,
   for 192 maps in and out?
4. Which branch of the naive module of the notes costs most? What remains of it in the reduced one?

<details><summary>Answer 1</summary>

832 maps, from the 528 of 4d.

```python
e = Inception(528, 256, 320, 128, 160, 32, 128)
assert nn.dry_run(e, (528, 14, 14)).shape == (1, 832, 14, 14)
assert inspect.summary(e, (528, 14, 14)).multiply_adds == products["4e"] == 169_996_288
```
</details>

<details><summary>Answer 2</summary>

4,096. It cannot save anything, but it mixes, and has a ReLU behind it: one more bend.
*Network in Network* is made of such layers, and GoogLeNet has one in its stem.

```python
assert nn.Conv2d(64, 64, 1).weight.size == 4096
assert [row.weights for row in real.layers if row.name == "conv2.conv"] == [4096]
```
</details>

<details><summary>Answer 3</summary>

7x7: 17 · 17 · 192 · 192 · 49; the pair has 14 in place of 49.

```python
pair = inspect.factorised_costs(7, channels=192, size=17)
assert pair.direct.multiply_adds == 17 * 17 * 192 * 192 * 49
assert pair.ratio == 49 / 14
```
</details>

<details><summary>Answer 4</summary>

The 5x5: 482 of 854 million. With its 1x1 in front 133 million.

```python
before, after = inspect.notes_inception(naive=True), inspect.notes_inception()
assert before.terms[-1].multiply_adds == 481_689_600
assert sum(t.multiply_adds for t in after.terms if "5x5" in t.name) == 133_267_456
```
</details>
"""
