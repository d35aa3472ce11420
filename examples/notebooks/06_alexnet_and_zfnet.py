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
# 6. AlexNet and ZFNet: the network that started it, and the one that looked inside

**What you will be able to do.** Recompute every number in the famous table, and find the three that
are wrong in print; say where a network keeps its weights and where it spends its time; use grouped
convolution, response normalisation, dropout and cropping, and know what each was for.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/06_alexnet_and_zfnet.py`, which writes the pictures into
`runs/notebooks/`.
"""

# %%
import numpy as np
from lesson import check, show, sized

import minicnn
import minicnn.functional as F
from minicnn import Tensor, Trainer, data, inspect, models, nn, optim, plot, training
from minicnn.training.metrics import topk_error

# %% [markdown]
"""
## 2012

ImageNet: 1.2 million photos, 1,000 classes. A network is right if the true class is among its five
best guesses. In 2012 AlexNet won with an error of 15.3 %, where the second had 26.2 %, as the paper
tells. Within a few years nearly everybody used convolutional networks.
"""

# %%
scores = np.array([[0.05, 0.4, 0.3, 0.1, 0.08, 0.05, 0.02], [0.3, 0.2, 0.2, 0.1, 0.1, 0.06, 0.04]])
truth = [2, 6]  # the first picture's class is the second guess, the other's is the last
check("top-1 error of two guesses", topk_error(scores, truth, k=1), 1)
check("top-5 error of two guesses", topk_error(scores, truth, k=5), 0.5)
show(plot.error_timeline())

# %% [markdown]
"""
> **Corrections.** Each bar says what was measured, because the notes mix things that cannot be
> compared. AlexNet's 16.4 is the mean of **five** networks; a single one has 18.2. Seven have 15.4,
> but two of those had seen more data; like for like, an ensemble brings 18.2 to 16.4. And 11.7 in
> 2013 was the winner Clarifai, built on ZFNet's ideas; ZFNet's paper reports 16.5 for one network
> and 14.7 for six.

## The network

Five convolutions, three of them followed by max pooling, then three fully connected layers. (The
notes count "2 FC + 1 softmax layer": it is three fully connected ones, and softmax has no weights.)
Networks this large are only *counted* here: `without_weights` builds them without memory.
"""

# %%
with nn.without_weights():
    paper = models.create("alexnet_2012")  # in two groups, as on two GPUs
    tower = models.create("alexnet_notes")  # a single tower, as one of the notes has it
    later = models.create("alexnet")  # the author's later version, which torchvision has
show(plot.architecture("alexnet_2012"))

# %% [markdown]
"""
## 224 or 227?

The paper says that its images have 224 pixels. So do two of the notes; another has 227, and a
fourth says that 224 "works out to be 227 due to padding". Ask the formula:
"""

# %%
print(inspect.output_size(224, 11, stride=4))
print(inspect.output_size(227, 11, stride=4))
check("227 gives", inspect.output_size(227, 11, stride=4).output, 55)
check("224 gives, before rounding", inspect.output_size(224, 11, stride=4).quotient, 54.25)
check("224 with padding 2 gives", inspect.output_size(224, 11, stride=4, padding=2).output, 55)

# %% [markdown]
"""
> **A correction.** 224 is a slip of the paper: 54.25 is no size, and the paper's own 55 needs
> **227** (or 224 with padding 2, which the later version has). With 224 and no padding the maps
> shrink to 5x5, and the first fully connected layer, which waits for 9,216 numbers, gets 6,400:
"""

# %%
maps_of_224 = [224]
for kernel, stride, padding in [(11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 2, 0)]:
    maps_of_224.append(inspect.output_size(maps_of_224[-1], kernel, stride, padding).output)
check("224: conv, pool, conv, pool, pool", maps_of_224, [224, 54, 26, 26, 12, 5])
check("numbers that arrive, and that are expected", [256 * 5 * 5, 256 * 6 * 6], [6400, 9216])
try:
    inspect.summary(paper, (3, 224, 224))
except ValueError as error:
    print("minicnn says:", error)
up = [54]
for _ in range(3):
    up.append(inspect.output_size(up[-1], 3, stride=2, ceil_mode=True).output)
check("224 with pools that round up: 6 again", up, [54, 27, 13, 6])

# %% [markdown]
"""
## The table

Read it from above: maps become smaller and more numerous. Multiply to check a line: conv1 has 96
filters of 11x11x3, 34,848 weights; each is used at 55 x 55 places, 105 million products.
"""

# %%
table = inspect.summary(paper, (3, 227, 227))
print(table)
rows = {row.name.removeprefix("features."): row for row in table.layers}
names = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"]
check("sides of the maps", [rows[name].output_shape[1] for name in names],
      [55, 27, 27, 13, 13, 13, 13, 6])  # fmt: skip
check("parameters of the paper's network", table.parameters, 60_965_224)
check("multiply-adds of the paper's network", table.multiply_adds, 724_406_816)

# %% [markdown]
"""
One of the notes prints this table with rounded numbers. Here it is again, exact, beside what is
printed there; the footnotes say what happened where the two differ.
"""

# %%
notes = inspect.notes_alexnet(paper)
print(notes)
check("neurons of the first layer", notes.rows[1].values[0].exact, 290_400)
check("all neurons (the paper: 650,000)", notes.total.values[0].exact, 659_272)
check("weights of fc6 (not 87M)", notes.rows[6].values[1].exact, 37_748_736)

# %% [markdown]
"""
> **More corrections.** "36 such filters ... 48 + 48" should be **96**, 48 on each GPU. The GPUs
> were two GTX **580** with 3 GB each, and training took five to six days. And "60 million" is right
> for the two-group network; say which AlexNet you mean:
"""

# %%
sums = {"single tower": inspect.summary(tower, (3, 227, 227)), "two groups": table,
        "later version": inspect.summary(later, (3, 224, 224))}  # fmt: skip
for name, found in sums.items():
    print(f"{name:14} {found.parameters:12,} parameters  {found.multiply_adds:14,} multiply-adds")
check("parameters of the three", [s.parameters for s in sums.values()],
      [62_378_344, 60_965_224, 61_100_840])  # fmt: skip
check("multiply-adds of the three", [s.multiply_adds for s in sums.values()],
      [1_135_256_096, 724_406_816, 714_188_480])  # fmt: skip

# %% [markdown]
"""
## Weights here, work there

Convolutions have few weights and use each at thousands of places; fully connected layers have many
and use each once. So nearly all the weights are in one part, and nearly all the work in the other.
(The notes say 5 % and 90 to 95 %; the exact shares depend on the groups.)
"""

# %%
for name in ("two groups", "single tower"):
    conv, full = sums[name].shares["conv"], sums[name].shares["fc"]
    check(f"{name}: share of the weights in convolutions, %", 100 * conv.parameter_share,
          {"two groups": 3.83, "single tower": 6.01}[name], digits=2)  # fmt: skip
    check(f"{name}: share of the work, %", 100 * conv.multiply_add_share,
          {"two groups": 91.91, "single tower": 94.84}[name], digits=2)  # fmt: skip
    check(f"{name}: share of the weights in full connections, %", 100 * full.parameter_share,
          {"two groups": 96.2, "single tower": 94.0}[name], digits=1)  # fmt: skip

# %% [markdown]
"""
## Two GPUs: grouped convolution

The network did not fit into one GPU. So half of the filters lived on each, and conv2, conv4 and
conv5 read only the maps of their *own* GPU. Only conv3 and the full connections looked across.
Today this is called a convolution in two groups. Each filter reads half as many channels, so there
are half as many weights:
"""

# %%
check("conv2 in two groups, weights", nn.Conv2d(96, 256, 5, groups=2).weight.size, 307_200)
check("conv2 in a single tower, weights", nn.Conv2d(96, 256, 5).weight.size, 614_400)
check("conv4 and conv5 in two groups", [rows["conv4"].weights, rows["conv5"].weights],
      [663_552, 442_368])  # fmt: skip
single = {row.name.removeprefix("features."): row for row in sums["single tower"].layers}
check("conv4 and conv5 in a single tower", [single["conv4"].weights, single["conv5"].weights],
      [1_327_104, 884_736])  # fmt: skip

# %% [markdown]
"""
Two groups are really two convolutions side by side. Do them one by one, put the results behind each
other, and compare:
"""

# %%
rng = np.random.default_rng(0)
x = Tensor(rng.standard_normal((1, 6, 9, 9)))
filters = Tensor(rng.standard_normal((8, 3, 3, 3)))
grouped = F.conv2d(x, filters, groups=2)
halves = [F.conv2d(x[:, :3], filters[:4]), F.conv2d(x[:, 3:], filters[4:])]
check("groups less the two halves", np.abs((grouped - F.concat(halves, 1)).numpy()).max(), 0,
      digits=12)  # fmt: skip

# %% [markdown]
"""
Drawn as one large table of weights (rows: filters, columns: channels) it is empty where a filter of
one GPU would read a map of the other:
"""

# %%
used = np.kron(np.eye(2), np.ones((4, 3)))
show(plot.maps({"one group": np.ones((8, 6)), "two groups": used},
               title="Which filter reads which channel"))  # fmt: skip

# %% [markdown]
"""
It came from a lack of memory and turned out to be an idea: page 9 has a network of 32 groups.

## Local response normalisation

In the brain an excited neuron calms its neighbours. LRN (the "channel-wise normalization" in a
legend of the notes) does it *across channels*: each value is divided by a power of what the five
channels around it have at the same pixel.

    b = a / (k + α · Σ a²)^β          k = 2, n = 5, α = 0.0001, β = 0.75

Six channels with the values 1 to 6. There are three customs: the paper's formula, its own code
(which divides α by n = 5), and Caffe and PyTorch (which also start at k = 1):
"""

# %%
six = Tensor(np.arange(1.0, 7.0).reshape(1, 6, 1, 1))


def respond(**settings):
    """The six channels behind LRN."""
    return F.local_response_norm(six, 5, beta=0.75, **settings).numpy().ravel()


check("LRN by the paper's formula", respond(alpha=1e-4, k=2, divide_alpha_by_n=False),
      [0.594292, 1.187871, 1.780140, 2.370419, 2.963466, 3.557354], digits=6)  # fmt: skip
check("LRN by the paper's code", respond(alpha=1e-4, k=2),
      [0.594541, 1.188940, 1.783075, 2.376810, 2.971102, 3.565562], digits=6)  # fmt: skip
check("LRN in Caffe and PyTorch", respond(alpha=1e-4, k=1),
      [0.999790, 1.999100, 2.997527, 3.994608, 4.993560, 5.993079], digits=6)  # fmt: skip

# %% [markdown]
"""
With α so small little happens to small values. Take α = 1 to see the effect: each value is pressed
down by its neighbours, those in the middle most.
"""

# %%
strong = respond(alpha=1.0, k=2, divide_alpha_by_n=False)
check("LRN by the formula with α = 1", strong,
      [0.125000, 0.148651, 0.144616, 0.134654, 0.174024, 0.226428], digits=6)  # fmt: skip
check("LRN by the code with α = 1", respond(alpha=1.0, k=2),
      [0.308368, 0.420448, 0.438191, 0.422949, 0.545122, 0.704270], digits=6)  # fmt: skip
show(plot.lines(range(1, 7), {"α = 0.0001": respond(alpha=1e-4, k=2, divide_alpha_by_n=False),
                              "α = 1": strong}, "Six channels behind LRN", "channel and its value",
                "value behind LRN"))  # fmt: skip

# %% [markdown]
"""
> **A remark on the order.** One of the notes has *convolution, pooling, norm*. The paper has
> convolution, ReLU, **norm, pooling**. No count changes. minicnn's `alexnet_2012` has the paper's
> order, `alexnet_notes` the other. (VGG tried LRN and found no use in it; batch norm took over.)

## Overlapping pooling

Windows of 3x3 with stride 2 share a row with their neighbours. The paper found it a little better
(0.3 to 0.4 points) than 2x2 windows side by side. The sizes are the same:
"""

# %%
check("55 with windows 3, stride 2", inspect.output_size(55, 3, stride=2).output, 27)
check("55 with windows 2, stride 2", inspect.output_size(55, 2, stride=2).output, 27)
show(plot.window((7, 7), kernel_size=3, stride=2, at=(1, 1)))

# %% [markdown]
"""
## Dropout

Sixty million weights and 1.2 million pictures: such a network can learn its pictures by heart. So
in training each neuron of the two hidden layers is switched off with probability one half, at
random, for each picture anew. No neuron can rely on a particular other one being there.

In use all are on, and twice as much arrives. The paper therefore halved the outputs in use. Today's
libraries double what is left in training, and do nothing in use. On average it is the same:
"""

# %%
ones = Tensor(np.ones(4, np.float32))
check("dropout of four ones", F.dropout(ones, 0.5, key=7), [0, 0, 2, 2])
check("the same in use", F.dropout(ones, 0.5, training=False), [1, 1, 1, 1])
many = F.dropout(Tensor(np.ones(1_000_000, np.float32)), 0.5, key=7).numpy()
papers_way = (many > 0).mean()  # kept as they are in training; in use all of them times one half
check("mean of a million ones in training, today's way", many.mean(), 1, digits=2)
check("mean in training the paper's way, and in use", [papers_way, 1 * 0.5], [0.5, 0.5], digits=2)

# %% [markdown]
"""
## More pictures from each picture

Photos are scaled to 256 pixels; training takes a random 224x224 window of it, mirrored or not. How
many different ones are there? The paper counts 32 · 32 places, times 2.
"""

# %%
factor = data.crop_mirror_factor
check("crops of 224 from 256, mirrored or not", factor(256, 224), 2048)
check("counted with the last row and column of places", factor(256, 224, inclusive=True), 2178)
check("crops of 227", factor(256, 227), 1682)
check("crops of 227, with the last ones", factor(256, 227, inclusive=True), 1800)

# %% [markdown]
"""
> **A correction.** One of the notes gives 2,048 for crops of **227**. 2048 = 32 · 32 · 2 belongs to
> 224; for 227 it is 29 · 29 · 2 = 1682. (And there are 33 places in a row, not 32, if one counts
> both ends: 2,178.) They are not independent pictures, of course: neighbours are nearly the same.

Here are eight of the many views of one picture, and the ten that are averaged when it is tested:
four corners and the centre, and all mirrored.
"""

# %%
clothes = data.fashion_mnist("train", source="sample")
shoe = clothes.images[clothes.labels == clothes.classes.index("Sneaker")][:1]
vary = data.Compose([data.RandomCrop(22), data.RandomHorizontalFlip()])
views = vary(np.repeat(shoe, 8, axis=0), np.random.default_rng(0))
show(plot.samples(views, [7] * 8, classes=clothes.classes, columns=8))
tests = data.ten_crop(shoe, 22)
check("views in a test", len(tests), 10)
check("views of 28x28 by crops of 22", factor(28, 22, inclusive=True), 98)
show(plot.samples(tests[:, 0], [7] * 10, classes=clothes.classes, columns=5))

# %% [markdown]
"""
For colour there was a third trick: move each photo's colours along the directions in which daylight
changes, found by a principal component analysis of all ImageNet pixels. The object stays what it
is, the light changes.
"""

# %%
gray = np.full((6, 3, 24, 24), 0.5, np.float32)
lit = data.PCALighting(std=1.0)(gray, np.random.default_rng(2))  # the paper's 0.1, times ten
show(plot.samples(np.clip(lit, 0, 1), range(6), classes=[f"light {i}" for i in range(1, 7)],
                  columns=6))  # fmt: skip

# %% [markdown]
"""
## ZFNet: look inside, then improve

Zeiler and Fergus, 2013, sent activations *backwards* through AlexNet to see which pattern of pixels
had excited a filter. In the first layer they found dead filters and coarse ones; in the second a
chessboard, because the first one's stride of 4 leaves holes. So they changed the first layer from
11x11 with stride 4 to **7x7 with stride 2**. Smaller steps, larger maps:
"""

# %%
with nn.without_weights():
    zf = {variant: models.create("zfnet", variant=variant) for variant in ("a", "b")}
zf_sums = {variant: inspect.summary(net, (3, 224, 224)) for variant, net in zf.items()}
zf_rows = {row.name.removeprefix("features."): row for row in zf_sums["a"].layers}
check("sides of ZFNet's maps", [zf_rows[name].output_shape[1] for name in names],
      [110, 55, 26, 13, 13, 13, 13, 6])  # fmt: skip
check("parameters of ZFNet, a and b", [s.parameters for s in zf_sums.values()],
      [62_357_608, 107_627_624])  # fmt: skip
check("multiply-adds of ZFNet, a and b", [s.multiply_adds for s in zf_sums.values()],
      [1_168_032_896, 2_476_704_896])  # fmt: skip
show(plot.architecture("zfnet"))

# %% [markdown]
"""
> **A correction.** The notes give its third to fifth layers 512, 1024 and 512 filters. The paper's
> figure 3 has **384, 384, 256**, as in AlexNet. The wide one is a variant in its table 2, slightly
> better (16.0 against 16.5) and much larger: its first fully connected layer alone has 75,501,568
> parameters.

What does one value of the last maps see? Less than AlexNet's, but more finely:
"""

# %%
wide = {row.name: row for row in zf_sums["b"].layers}
check("parameters of fc6 in the wide variant", wide["classifier.0"].parameters, 75_501_568)
conv5 = rows["conv5"].receptive_field
check("AlexNet: field and jump of conv5", [conv5.size[0], conv5.jump[0]], [163, 16])
fields = {name: found["pool5"].receptive_field for name, found in
          {"AlexNet": rows, "ZFNet": zf_rows}.items()}  # fmt: skip
check("field of the last maps: AlexNet, ZFNet", [f.size[0] for f in fields.values()], [195, 171])
check("their jumps", [f.jump[0] for f in fields.values()], [32, 32])

# %% [markdown]
"""
## What a trained AlexNet is good for: FC7

The 4,096 numbers of the second hidden layer, "FC7", turned out to describe *any* picture well:
pictures with similar numbers look alike. Here is a small AlexNet for 28x28 pixels, trained for a
moment. For each picture on the left, the five that are nearest by its own FC7:
"""

# %%
COUNT = sized(2000, 100)
minicnn.seed(0)
small = models.create("alexnet_2012", preset="fashion-mnist", width=sized(0.25, 0.0625), hidden=128)
some = clothes.subset(range(COUNT))
Trainer(small, optim.SGD(small.parameters(), lr=0.01, momentum=0.9)).fit(
    data.Loader(some, 50, shuffle=True), epochs=sized(5, 1)
)
vectors = training.features(small, some, "classifier.4")
check("a vector for each picture", vectors.shape, (COUNT, 128))

vectors = vectors - vectors.mean(0)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
nearest = np.argsort(-(vectors[:4] @ vectors.T), axis=1)[:, :6]
check("each picture is nearest to itself", nearest[:, 0], [0, 1, 2, 3])
found = nearest.ravel()
show(plot.samples(some.images[found], some.labels[found], classes=some.classes, count=24,
                  columns=6))  # fmt: skip

# %% [markdown]
"""
## Exercises

1. How many products does conv1 compute for one picture? And fc6?
2. Why does conv3 have more parameters than conv4 in the two-group network, although both make 384
   maps, and conv4 reads more of them?
3. How many weights would fc6 have if the last maps were averaged (global average pooling)?
4. You have photos of 300 pixels and crops of 288. How many views, by the paper's count?

<details><summary>Answer 1</summary>

34,848 · 55 · 55 = 105,415,200, against 9,216 · 4,096 = 37,748,736: a thousandth of the weights, and
three times the work.

```python
assert rows["conv1"].multiply_adds == 34_848 * 55 * 55 == 105_415_200
```
</details>

<details><summary>Answer 2</summary>

conv3 reads all 256 maps, of both GPUs; conv4 in each group only 192 of its 384.

```python
assert rows["conv3"].weights == 384 * 256 * 9 > rows["conv4"].weights == 384 * 192 * 9
```
</details>

<details><summary>Answer 3</summary>

256 · 4,096 = 1,048,576 in place of 37.7 million: the way of GoogLeNet and ResNet.

```python
assert nn.Linear(256, 4096).weight.size == 1_048_576
```
</details>

<details><summary>Answer 4</summary>

2 · 12² = 288.

```python
assert factor(300, 288) == 288
```
</details>
"""
