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
# 9. ResNet and its family: how networks became deep

**What you will be able to do.** Say what happens when layers are stacked deeper on a plain network,
and what it is not; build a residual block, with its shortcuts and bottlenecks; take its seven
relatives apart, each down to one sum that you can check; and compare them all fairly, with one
small budget.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/09_resnet_and_its_family.py`, which writes the pictures
into `runs/notebooks/`. Near the end it trains nine networks, for two or three minutes; with
`MINICNN_NOTEBOOK_SIZE=toy` for moments, and then they have learned nothing.
"""

# %%
import json
from functools import partial
from pathlib import Path

import lesson
import numpy as np
from lesson import TOY, check, show, sized

import minicnn
import minicnn.functional as F
from minicnn import Tensor, Trainer, data, inspect, models, nn, optim, plot, training
from minicnn.models.densenet import DenseBlock, DenseNet
from minicnn.models.fractalnet import FractalBlock, survivors
from minicnn.models.preact_resnet import PreActBasic
from minicnn.models.resnet import BasicBlock, Bottleneck, ResNet
from minicnn.models.squeezenet import Fire
from minicnn.models.stochastic_depth import StochasticBlock, StochasticDepthResNet
from minicnn.training import recipes
from minicnn.training.ensemble import evaluate_ensemble


def size_of(name, **options):
    """Parameters and multiply-adds of a network, which is counted and not filled with weights."""
    with nn.without_weights():
        network = models.create(name, **options)
    table = inspect.summary(network, network.input_shape)
    return table.parameters, table.multiply_adds


def largest(difference):
    """The largest number of an array, without its sign."""
    return np.abs(difference.numpy() if isinstance(difference, Tensor) else difference).max()


# %% [markdown]
"""
## Stack more layers. What happens?

*What happens when layers are stacked deeper on a plain net?*, ask the notes. For a while it gets
better: VGG with 16 layers beats VGG with 11. Then it gets **worse**. ResNet's paper has the
numbers for ImageNet (table 2, top-1 error): plain with 18 layers 27.94 %, with 34 layers 28.54 %.
On CIFAR-10 a plain network of 56 layers lies above one of 20 (figure 1).

Is that overfitting? An overfitting network is good on the pictures it learned and bad on others.
So look at the *training* error. These four networks learned 10,000 pictures of clothes with
minicnn, for 20 epochs; `examples/degradation.py`, with `experiments.py` beside it, repeats that,
and `examples/results/` keeps what it found:
"""

# %%
RESULTS = Path(lesson.__file__).resolve().parents[1] / "results"
curves = json.loads((RESULTS / "degradation-2026-11-21.json").read_text(encoding="utf-8"))["curves"]
errors = {name: 100 * np.array(found["training"]) for name, found in curves.items()}
picture = plot.lines(range(1, 21), errors, "Training error, 20 and 56 layers", "epoch",
                     "training error, %")  # fmt: skip
picture.axes[0].set_xticks(range(0, 21, 5))
show(picture)
check("training error in the end: plain 20 and 56, ResNet 20 and 56",
      [found[-1] for found in errors.values()], [7.70, 18.32, 6.24, 5.77], digits=2)  # fmt: skip

# %% [markdown]
"""
**So the answer:** from some depth on, a plain network of more layers is worse *on its own training
pictures*. It is called **degradation**, and it is not overfitting. With shortcuts, the deeper
network is the better one there. (On the test pictures the three good ones were within what a seed
changes: plain-20 10.4 %, ResNet-20 10.2 %, ResNet-56 10.7 %, plain-56 19.9 %.)

And it should not be! A deeper network can copy the shallower one and do nothing in the layers that
it has more. There is a convolution that does nothing: 1 in the middle of its filter, 0 elsewhere.
It is the A·I = A of page 4. ReLU does nothing either, behind a ReLU.
"""

# %%
rng = np.random.default_rng(0)
minicnn.seed(0)
shallow = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
deep = nn.Sequential(*shallow)
for _ in range(30):
    nothing = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    middle = np.zeros((8, 8, 3, 3), np.float32)
    middle[range(8), range(8), 1, 1] = 1
    nothing.load_state_dict({"weight": middle})
    deep.extend([nothing, nn.ReLU()])
image = Tensor(rng.standard_normal((2, 1, 9, 9)).astype(np.float32))
check("31 layers less one layer", largest(deep(image) - shallow(image)), 0)

# %% [markdown]
"""
So the best deep network is at least as good as the best shallow one. But training does not *find*
it: 30 identity matrices are hard to hit by small steps from random numbers.

## One plus sign

ResNet's block, 2015. Two 3x3 convolutions with batch norm compute F, and its input is added:

    y = ReLU(F(x) + x)

Now *nothing* is F = 0, which small weights nearly give. With a last batch norm that starts at
weight zero a block returns exactly its input: "initially a copy of the input", as the notes have
it.
"""

# %%
minicnn.seed(0)
start = models.create("resnet20", preset="fashion-mnist", zero_init_residual=True)
x = Tensor(np.abs(rng.standard_normal((2, 8, 9, 9))).astype(np.float32))
check("three blocks that start at zero, less their input", largest(start.layer1(x) - x), 0)
with_shortcut, without = BasicBlock(8, 8), BasicBlock(8, 8, shortcut="none")
check("parameters of a block with shortcut and without",
      [block.num_parameters() for block in (with_shortcut, without)], [1184, 1184])  # fmt: skip

# %% [markdown]
"""
On the way back a sum hands its gradient to both sides. So what arrives at x is the gradient itself
and what F makes of it:

    dL/dx = dL/dy · (1 + F'(x))
"""

# %%
conv = nn.Conv2d(4, 4, 3, padding=1)
start_at = rng.standard_normal((1, 4, 6, 6)).astype(np.float32)
by_f, by_sum = (Tensor(start_at, requires_grad=True) for _ in range(2))
upstream = Tensor(rng.standard_normal((1, 4, 6, 6)).astype(np.float32))
(F.relu(conv(by_f)) * upstream).sum().backward()
((by_sum + F.relu(conv(by_sum))) * upstream).sum().backward()
check("dL/dx of x + F(x), less dL/dy and the part of F",
      largest(by_sum.grad - (upstream.numpy() + by_f.grad)), 0, digits=5)  # fmt: skip

# %% [markdown]
"""
## Is it the vanishing gradient?

*What is the vanishing gradient?* was answered on page 4: on the way back the gradient is multiplied
by every layer, and where the factors are below 1, nothing is left for the first layers. Is that why
deep plain networks degrade? Measure it. Networks of 56 layers, fresh from their start; we send one
batch forward and back and note how large the gradient of each convolution's weights is. Two have no
batch norm, and weights drawn by Xavier's rule or by He's.
"""

# %%
DEPTH = sized(56, 20)
clothes = data.fashion_mnist("train", source="sample")
some = clothes.images[: sized(64, 8)].astype(np.float32) / 255 * 2 - 1


def gradients_of(kind, start=None):
    """The length of the gradient of each 3x3 convolution's weights, from the first on."""
    minicnn.seed(0)
    net = models.create(f"{kind}{DEPTH}", preset="fashion-mnist", width=4)
    if start is not None:  # without batch norm
        for part in net.modules():
            if isinstance(part, BasicBlock | ResNet):
                part.bn1 = part.bn2 = nn.Identity()
            elif isinstance(part, nn.Conv2d):
                start(part.weight)
    F.cross_entropy(net(Tensor(some)), clothes.labels[: len(some)]).backward()
    found = [p.grad for p in net.parameters() if p.grad is not None and p.shape[2:] == (3, 3)]
    return np.array([np.linalg.norm(gradient) for gradient in found])


he = partial(nn.init.kaiming_normal_, nonlinearity="relu")
lengths = {
    "plain, Xavier, no batch norm": gradients_of("plain", nn.init.xavier_normal_),
    "plain, He, no batch norm": gradients_of("plain", he),
    "plain, batch norm": gradients_of("plain"),
    "ResNet, batch norm": gradients_of("resnet"),
}
for name, found in lengths.items():
    print(f"{name:29} first {found[0]:8.2g}, last {found[-1]:8.2g}")
assert TOY or lengths["plain, batch norm"][0] > 100 * lengths["ResNet, batch norm"][0]
assert TOY or lengths["plain, Xavier, no batch norm"].max() < 1e-9
picture = plot.lines(range(1, DEPTH), lengths, f"Gradients of {DEPTH} layers before training",
                     "convolution, counted from the input", "length of the gradient",
                     log=True)  # fmt: skip
picture.axes[0].legend(loc=(0.3, 0.2), handlelength=3.2, frameon=False, fontsize=9)
show(picture)

# %% [markdown]
"""
> **A correction that is often needed.** "ResNet cured the vanishing gradient" is not what
> happened. With Xavier's start and without batch norm, gradients do vanish: every ReLU throws half
> of the signal away, forward and backward. (All layers alike, because a weight's gradient is signal
> times gradient: one fades on the way in, the other on the way back.) But He's start makes up for
> that half, and so does batch norm, which all these networks have. The paper says itself (section
> 4.1) that neither signal vanishes in its plain networks. The third line even **grows** towards the
> input, thousands of times: batch norm without shortcuts does that (Yang et al. 2019, arXiv
> 1902.08129).

**So the answer:** a vanishing gradient leaves the first layers without a signal; a good start or
batch norm prevents it; the shortcut prevents it as well, by its 1 (page 4), *and* keeps the
gradient from growing, *and* makes "change nothing" the easy thing to learn. Why plain networks
degrade, the paper leaves open: "exponentially low convergence rates" is its guess.

Half of the signal, in numbers, and a slip in the notes:
"""

# %%
z = rng.standard_normal(1_000_000)
kept = (np.maximum(z, 0) ** 2).mean() / (z**2).mean()
check("what a ReLU leaves of the mean square", kept, 0.5, digits=2)
check("20 layers by Xavier's rule leave", 0.5**20, 9.5e-7, digits=8)
xavier, by_he = (nn.Conv2d(64, 64, 3).weight for _ in range(2))
nn.init.xavier_normal_(xavier)
he(by_he)
check("variance of He's weights / of Xavier's", by_he.numpy().var() / xavier.numpy().var(), 2,
      digits=1)  # fmt: skip
check("weight decay of the recipe", recipes.load("resnet")["weight_decay"], 1e-4)

# %% [markdown]
"""
> **Two corrections.** One of the notes gives ResNet "Xavier initialization" and a weight decay of
> 1e-5. It is **He's** initialisation, which has twice Xavier's variance (slides call it "Xavier/2",
> too), and **1e-4**. The rest of that slide is right: SGD with momentum 0.9, batches
> of 256, a rate of 0.1 divided by ten on plateaus, no dropout.

## When the shape changes: shortcuts A, B, C

Each new stage halves the map and doubles the channels. Then x and F(x) have different shapes, and
cannot be added. **A**: take every second pixel, and fill up with channels of zeros. **B**: a 1x1
convolution with stride 2, there only. **C**: a 1x1 convolution around every block.
"""

# %%
counting = Tensor(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4))
by_zeros = BasicBlock(1, 2, stride=2, shortcut="A").skip(counting)
check("option A: the first channel", by_zeros[0, 0], [[0, 2], [8, 10]])
check("option A: the new channel", by_zeros[0, 1], [[0, 0], [0, 0]])
show(plot.maps({"x": counting[0, 0], "A: channel 1": by_zeros[0, 0],
                "A: channel 2": by_zeros[0, 1]}, title="A has no parameters"))  # fmt: skip
kinds = {kind: size_of("resnet34", shortcut=kind)[0] for kind in ("none", "A", "B", "C")}
check("parameters of 34 layers: plain, A, B, C", list(kinds.values()),
      [21_623_848, 21_623_848, 21_797_672, 22_716_840])  # fmt: skip

# %% [markdown]
"""
Plain and A have the same parameters to the last one: what differs between them is the plus sign
alone. The paper's errors (34 layers, ten crops, top-1): plain 28.54, A 25.03, B 24.52, C 24.19. All
three close the gap; so what matters is that *something* is passed on. B is the usual choice.

## The bottleneck

From 50 layers on, two 3x3 become three convolutions: 1x1 makes 256 channels 64, a 3x3 works on
those, 1x1 makes them 256 again. That costs less than two 3x3 on 64 channels, and the path beside it
is four times as wide.
"""

# %%
narrow, wide_path = BasicBlock(64, 64), Bottleneck(256, 64)
straight = BasicBlock(256, 256)


def weights(block):
    """Weights of a block's convolutions."""
    return sum(part.weight.size for part in block.modules() if isinstance(part, nn.Conv2d))


check("weights: two 3x3 on 64 channels, a bottleneck on 256, two 3x3 on 256",
      [weights(block) for block in (narrow, wide_path, straight)],
      [73_728, 69_632, 1_179_648])  # fmt: skip
DEPTHS = (18, 34, 50, 101, 152)
sizes = {depth: size_of(f"resnet{depth}") for depth in DEPTHS}
for depth, (parameters, multiply_adds) in sizes.items():
    print(f"ResNet-{depth:<4}{parameters:12,} parameters {multiply_adds:15,} multiply-adds")
check("parameters of 18, 34, 50, 101, 152 layers", [size[0] for size in sizes.values()],
      [11_689_512, 21_797_672, 25_557_032, 44_549_160, 60_192_808])  # fmt: skip
check("their multiply-adds, in millions", [size[1] // 10**6 for size in sizes.values()],
      [1814, 3663, 4089, 7801, 11_513])  # fmt: skip
show(plot.architecture("resnet50"))

# %% [markdown]
"""
152 layers, and less work than VGG-16's 15.5 billion.

> **Corrections.** The notes list 34, 50 and 152 layers, say that "every block has two 3x3", and "no
> FC". There are **18, 34, 50, 101 and 152**; from 50 on blocks are 1x1, 3x3, 1x1; and **one** fully
> connected layer makes the 1,000 scores. And "152 layers, 3.57 %" (the last bar of the timeline of
> errors on page 6) is the mean of **six** networks of several depths; the 152 layers alone had
> 4.49 %.

### Where does the stride go?

In the paper the first 1x1 has the stride 2: it reads one pixel of four and ignores the others. In
torchvision, and here, the 3x3 has it, which sees all of them. That costs a little more, with the
same weights. Which pixels have any influence on F? Ask the gradient:
"""

# %%
read = {}
for where in ("1x1", "3x3"):
    seen = Tensor(rng.standard_normal((1, 8, 8, 8)).astype(np.float32), requires_grad=True)
    block = Bottleneck(8, 4, stride=2, stride_in=where)
    block.conv2(block.conv1(seen)).sum().backward()
    read[where] = (np.abs(seen.grad[0]).sum(0) > 0).astype(float)
check("share of the pixels that F reads: stride in 1x1, in 3x3", [m.mean() for m in read.values()],
      [0.25, 1])  # fmt: skip
show(plot.maps({f"stride in {where}": found for where, found in read.items()},
               title="Pixels that a bottleneck reads"))  # fmt: skip
check("multiply-adds of ResNet-50: stride in 1x1, in 3x3",
      [size_of("resnet50", stride_in=where)[1] for where in ("1x1", "3x3")],
      [3_857_973_248, 4_089_184_256])  # fmt: skip

# %% [markdown]
"""
## Pre-activation: a clear road, 2016

In the block above a ReLU stands *behind* the sum, on the road itself. The same authors moved batch
norm and ReLU in front of the convolutions, into F. Then nothing at all stands on the road:

    x₁ = x + F₁(x),    x₂ = x₁ + F₂(x₁),    ...    so the last is x + F₁ + F₂ + ... + Fₙ
"""

# %%
blocks = [PreActBasic(8, 8) for _ in range(5)]
x = Tensor(rng.standard_normal((2, 8, 9, 9)).astype(np.float32))
added, here = x, x
for block in blocks:
    f = nn.run_chain([block.bn1, block.relu, *block.body()], here)
    added, here = added + f, block(here)
check("output of five blocks, less x and the five F", largest(here - added), 0, digits=5)

old, new = BasicBlock(8, 8), PreActBasic(8, 8)
nn.init.zeros_(old.bn2.weight)
nn.init.zeros_(new.conv2.weight)
check("F = 0: the block of 2016 less x", largest(new(x) - x), 0)
check("F = 0: the block of 2015 less ReLU(x)", largest(old(x) - F.relu(x)), 0)
check("parameters of pre-activation 18, 34, 50, 101, 152, 200",
      [size_of(f"preact_resnet{depth}")[0] for depth in (*DEPTHS, 200)],
      [11_687_720, 21_795_880, 25_549_352, 44_541_480, 60_185_128, 64_666_152])  # fmt: skip
thousand = size_of("preact_resnet1001")
check("parameters and multiply-adds of 1001 layers for CIFAR", thousand,
      [10_327_706, 1_487_849_984])  # fmt: skip

# %% [markdown]
"""
(The paper prints 10.2 million for the last one: it leaves out the batch norms.) A thousand layers
can be trained: 4.62 % error on CIFAR-10.

## Wide: as good without a thousand layers, 2016

The notes: "F x k filters instead of F". k times as many maps in, k times as many out: about **k²**
times as many weights. WRN-28-10 has 28 layers, ten times as wide.
"""

# %%
wide = {name: size_of(name) for name in ("wrn40_1", "wrn40_2", "wrn40_4", "wrn28_10")}
check("parameters of WRN-40-1, 40-2, 40-4 and 28-10", [size[0] for size in wide.values()],
      [563_930, 2_243_546, 8_949_210, 36_479_194])  # fmt: skip
check("twice as wide, so many times the weights", wide["wrn40_4"][0] / wide["wrn40_2"][0], 4,
      digits=1)  # fmt: skip
check("work of WRN-28-10 / work of 1001 layers", wide["wrn28_10"][1] / thousand[1], 3.52, digits=2)
check("parameters of WRN-50-2 for ImageNet", size_of("wide_resnet50_2")[0], 68_883_240)

# %% [markdown]
"""
Its error on CIFAR-10 is 4.00 %, with dropout inside the blocks 3.89 %, below that of the thousand
layers. It does 3.5 times their work, but in 28 steps, each of which keeps a processor busy. A
thousand small steps must wait for each other. On ImageNet the authors' WRN-50-2 has 21.9 %,
ResNet-152 22.16 %: there the notes are right, too.

## ResNeXt: many narrow paths, 2017

In place of one wide road, 32 narrow ones side by side: "cardinality". The paper says that three
forms of it are equal. **A**: each path is 1x1, 3x3, 1x1 of its own, and the results are added.
**B**: the outputs of all 3x3 are put behind each other, and one 1x1 reads them. **C**: one 1x1,
one *grouped* 3x3 (page 6's way out of a lack of memory!), one 1x1. With the same weights:
"""

# %%
PATHS, MAPS, ROAD = 4, 3, 10
one = rng.standard_normal((PATHS, MAPS, ROAD, 1, 1))
three = rng.standard_normal((PATHS, MAPS, MAPS, 3, 3))
back = rng.standard_normal((PATHS, ROAD, MAPS, 1, 1))
x = Tensor(rng.standard_normal((2, ROAD, 7, 7)))


def path(i):
    """The first two convolutions of a path."""
    inner = F.relu(F.conv2d(x, Tensor(one[i])))
    return F.relu(F.conv2d(inner, Tensor(three[i]), padding=1))


form_a = F.conv2d(path(0), Tensor(back[0]))
for i in range(1, PATHS):
    form_a = form_a + F.conv2d(path(i), Tensor(back[i]))
all_back = Tensor(np.concatenate(list(back), axis=1))
form_b = F.conv2d(F.concat([path(i) for i in range(PATHS)], 1), all_back)
inner = F.relu(F.conv2d(x, Tensor(one.reshape(-1, ROAD, 1, 1))))
grouped = F.conv2d(inner, Tensor(three.reshape(-1, MAPS, 3, 3)), padding=1, groups=PATHS)
form_c = F.conv2d(F.relu(grouped), all_back)
check("ResNeXt: form A less form B", largest(form_a - form_b), 0, digits=10)
check("ResNeXt: form B less form C", largest(form_b - form_c), 0, digits=10)

# %% [markdown]
"""
A filter of a group sees few channels, so at equal cost there may be more of them. Five settings
with the weights of a ResNet-50; from the first to the last the error falls, to 22.2 % (ResNet-50:
23.9):
"""

# %%
equal = {}
for groups, maps in ((1, 64), (2, 40), (4, 24), (8, 14), (32, 4)):
    equal[f"{groups}x{maps}d"] = size_of("resnext50_32x4d", groups=groups, width_per_group=maps)[0]
check("parameters of 1x64d, 2x40d, 4x24d, 8x14d, 32x4d", list(equal.values()),
      [25_557_032, 25_425_000, 25_292_968, 25_603_016, 25_028_904])  # fmt: skip
check("maps inside a first block", [Bottleneck(256, 64, groups=g, width_per_group=w).conv2.weight
                                    .shape[0] for g, w in ((1, 64), (2, 40), (32, 4))],
      [64, 80, 128])  # fmt: skip

# %% [markdown]
"""
## Stochastic depth: short in training, long in use, 2016

If a block only adds something, one can leave it out. For each mini-batch every block is dropped by
chance: it runs neither forward nor backward, and the shortcut goes on alone. Block l of L survives
with probability 1 − l/L · (1 − 0.5): the first nearly always, the last every other time.

    in training: ReLU(b·F(x) + x), b is 0 or 1             in use: ReLU(p·F(x) + x)
"""

# %%
with nn.without_weights():
    chain = StochasticDepthResNet(depth=110).blocks()
alive = np.array([block.survival for block in chain])
check("blocks of 110 layers", len(alive), 54)
check("the first and the last survive with", [alive[0], alive[-1]], [0.9907, 0.5], digits=4)
check("blocks that run on average", alive.sum(), 40.25, digits=9)
check("share of the blocks that run", alive.mean(), 0.745, digits=3)
steps = np.random.default_rng(0).random((1000, 54)) < alive
draws = steps.sum(1)
show(plot.maps({"rows: 16 steps, columns: 54 blocks from the first to the last": steps[:16] * 1.0},
               title="Which blocks run"))  # fmt: skip
print(f"in 1,000 steps {draws.min()} to {draws.max()} blocks ran, on average {draws.mean():.2f}")

# %% [markdown]
"""
So a quarter of the work is saved, as the paper measured in time. One block, in training and in use:
"""

# %%
minicnn.seed(0)
block = StochasticBlock(4, 4, survival=0.5)
x = Tensor(rng.standard_normal((1, 4, 6, 6)).astype(np.float32))
ran = 0
for _ in range(100):
    out = block(x)
    ran += block.is_active
    if not block.is_active:
        skipped = out
print(f"in training it ran {ran} times of 100")
check("a dropped block less ReLU(x)", largest(skipped - F.relu(x)), 0)
block.eval()
f = nn.run_chain(block.body(), x)
check("in use, less ReLU(F(x)/2 + x)", largest(block(x) - F.relu(f * 0.5 + x)), 0, digits=6)
check("in use twice: the difference", largest(block(x) - block(x)), 0)

# %% [markdown]
"""
In training the answer is drawn, in use it is the same each time, and every block counts by how
often it was there. (The sum is scaled in *use*, as dropout was in 2012.) On CIFAR-10 the 110
layers had 6.41 % without it and 5.23 % with it.

## FractalNet: deep without a shortcut, 2017

Is it the plus sign, or is it that short paths exist? FractalNet has no residual. It joins a deep
path and a shallow one by their **mean**, and repeats that inside each path:

    f₁(z) = conv(z)
    f₂(z) = mean of f₁(f₁(z)) and conv(z)
    f₃(z) = mean of f₂(f₂(z)) and conv(z)        and so on
"""

# %%
minicnn.seed(0)
fractal = FractalBlock(2, 4, 8, dropout=0.0, bias=True, affine=False)
x = Tensor(rng.standard_normal((2, 4, 8, 8)).astype(np.float32))
short, long = (nn.run_chain(fractal.column(c), x) for c in (0, 1))
check("a block of two columns less their mean", largest(fractal(x) - (short + long) * 0.5), 0,
      digits=6)  # fmt: skip
with nn.without_weights():
    paper = models.create("fractalnet")
depths = [sum(isinstance(part, nn.Conv2d) for part in paper.column(c).modules()) for c in range(3)]
check("convolutions of its three columns", depths, [5, 10, 20])
check("parameters of FractalNet-20", size_of("fractalnet")[0], 33_714_314)
show(plot.architecture("fractalnet", preset="fashion-mnist"))

# %% [markdown]
"""
> **A number that cannot be reproduced.** DenseNet's paper gives this network 38.6 million
> parameters; the authors' own generator makes **33.7**. In the same table
> ResNet-1202 has 10.2 million; it has **19.4**.

**Drop-path** is its way to train. For one half of the mini-batches each join drops its inputs at
random, but keeps one at least (*local*). For the other half one column alone is the network
(*global*). So each column learns to work by itself, and in use one can take all, or the shallow one
when time is short.
"""

# %%
minicnn.seed(0)
joins = [sum(survivors(3, 0.15)) for _ in range(2000)]
check("never fewer than one, never more than three", [min(joins), max(joins)], [1, 3])
check("kept, if all would be dropped", sum(survivors(3, 1.0)), 1)
print(f"all three are kept in {np.mean(np.equal(joins, 3)):.1%} of joins; 0.85³ is {0.85**3:.1%}")
check("parameters of ResNet-1202", size_of("resnet1202")[0], 19_421_274)

# %% [markdown]
"""
## DenseNet: put behind, instead of add, 2017

A sum mixes what was there with what is new. DenseNet keeps both: each layer adds k new maps, its
*growth rate*, **behind** all that it got. Every layer reads what all layers before it made, so a
block of L layers has L(L + 1)/2 connections.
"""

# %%
minicnn.seed(0)
dense = DenseBlock(4, 6, growth_rate=3, bottleneck=12, drop_rate=0.0)
x = Tensor(rng.standard_normal((1, 6, 5, 5)).astype(np.float32))
y = dense(x)
check("6 channels, and 4 layers of 3", y.shape[1], 18)
check("the first six are the input, less it", largest(y[:, :6] - x), 0)
check("channels that the four layers read", [layer.norm1.num_features for layer in dense.values()],
      [6, 9, 12, 15])  # fmt: skip
reads = np.tril(np.ones((4, 4)))  # row: a layer; column: the input, then the layers before it
check("connections of four layers, 4 · 5 / 2",
      sum((layer.norm1.num_features - 6) // 3 + 1 for layer in dense.values()), 10)  # fmt: skip
show(plot.maps({"rows: layers, columns: input and layers": reads}, title="Who reads whom"))

# %% [markdown]
"""
Maps would pile up. So between two blocks a **transition** halves their number by a 1x1 convolution,
and their size by average pooling. Follow the channels of DenseNet-121, with k = 32:
"""

# %%
with nn.without_weights():
    dense = models.create("densenet121")
followed = []
for i in range(1, 5):
    layers = dense.features.get_submodule(f"denseblock{i}").values()
    widths = [layer.norm1.num_features for layer in layers]
    followed += [widths[0], widths[-1] + 32]
check("channels into and out of the four blocks", followed,
      [64, 256, 128, 512, 256, 1024, 512, 1024])  # fmt: skip
check("parameters of DenseNet-121, 161, 169, 201",
      [size_of(f"densenet{depth}")[0] for depth in (121, 161, 169, 201)],
      [7_978_856, 28_681_000, 14_149_480, 20_013_928])  # fmt: skip
check("ResNet-50's parameters / DenseNet-121's",
      sizes[50][0] / size_of("densenet121")[0], 3.2, digits=1)  # fmt: skip
show(plot.architecture("densenet121"))

# %% [markdown]
"""
## SqueezeNet: small, 2016

The opposite wish: AlexNet's accuracy with as few weights as possible. Three rules: 1x1 filters
where 3x3 are not needed; few channels in front of the 3x3; pool late, so that maps stay large. The
*fire* module squeezes to a few channels by 1x1, and expands them by 1x1 and 3x3 side by side:
"""

# %%
fire2 = Fire(96, 16, 64)
check("parameters of fire2", fire2.num_parameters(), 11_920)
check("a 3x3 from 96 to 128 channels has", nn.Conv2d(96, 128, 3).num_parameters(), 110_720)
squeeze = {version: size_of(f"squeezenet1_{version}") for version in (0, 1)}
check("parameters of SqueezeNet 1.0 and 1.1", [size[0] for size in squeeze.values()],
      [1_248_424, 1_235_496])  # fmt: skip
alexnet = size_of("alexnet_2012")[0]
check("AlexNet's parameters (two groups) / SqueezeNet's", alexnet / squeeze[0][0], 48.8, digits=1)
check("megabytes of its weights", 4 * squeeze[0][0] / 1e6, 4.99, digits=2)
check("work of 1.0 at 227 / of 1.1 at 224", squeeze[0][1] / squeeze[1][1], 2.38, digits=2)

# %% [markdown]
"""
> **Corrections.** "50 times fewer parameters" is **48.8** times, by the AlexNet in two groups. "500
> times smaller" is not the network: that needs Deep Compression on top (pruned and rounded weights,
> 0.47 MB). And 1.0 needs images of **227**: the paper prints 224, but its 111x111 behind the first
> layer does not come out of that.

*Pool late* is a price: work. Version 1.1 pools a little earlier and has a smaller first filter,
for about as many weights and less than half of the multiply-adds. Where do they pool?
"""

# %%
check("first map from 227 and from 224", [inspect.output_size(n, 7, stride=2).output
                                          for n in (227, 224)], [111, 109])  # fmt: skip
for version, places in enumerate([[1, 4, 8], [1, 3, 5]]):
    with nn.without_weights():
        net = models.create(f"squeezenet1_{version}")
    kinds_of_parts = [type(part).__name__ for part in net.features]
    fires = np.cumsum([kind == "Fire" for kind in kinds_of_parts]) + 1
    pools = [int(fires[i]) for i, kind in enumerate(kinds_of_parts) if kind == "MaxPool2d"]
    check(f"1.{version} pools behind conv 1 and fire number", pools, places)
show(plot.architecture("squeezenet1_1"))

# %% [markdown]
"""
## Ensembles: ask several

Networks that started differently make different mistakes. Average their softmax outputs, and answer
with the largest. Three networks, the right class is the first; **two of the three are wrong**:
"""

# %%
three_say = np.array([[0.60, 0.30, 0.10], [0.40, 0.50, 0.10], [0.45, 0.05, 0.50]])
check("what the three answer", three_say.argmax(1), [0, 1, 2])
together = three_say.mean(0)
check("the mean of their probabilities", together, [0.4833, 0.2833, 0.2333], digits=4)
check("what they answer together", together.argmax(), 0)

# %% [markdown]
"""
Top-5 errors on ImageNet from the papers. The bars of page 6's timeline are of several
networks, not of one, so compare like with like:

| | one network | several |
|---|---|---|
| AlexNet | 18.2 | 16.4 with five; 15.4 with seven, of which two had seen more data |
| ZFNet | 16.5 | 15.3 with five; 14.7 with six of two kinds |
| GoogLeNet | 10.07, one crop | 6.67 with seven, each on 144 crops |
| ResNet | 4.49 (152 layers, validation) | 3.57 with six (test) |

## What each changes, in one table

| network | what it changes | what it is for |
|---|---|---|
| plain | nothing: layers in a row | the comparison |
| ResNet | adds the input of a block to its output | depth that can be trained |
| pre-activation | batch norm and ReLU move into F | a road with nothing on it: 1001 layers |
| wide | k times the maps, fewer layers | the same accuracy in few large steps |
| ResNeXt | the 3x3 in 32 groups | more maps at equal cost |
| stochastic depth | drops whole blocks in training | shorter training, fewer errors |
| FractalNet | means of deep and shallow paths | depth without a residual; a short exit |
| DenseNet | puts maps behind each other | few new maps a layer, few weights |
| SqueezeNet | 1x1 in front of 3x3, late pooling | few weights |
| ensemble | averages answers | fewer errors, times the work |

And their full sizes for ImageNet, with the older ones. Down and left is cheap. AlexNet has nearly
half of VGG-16's weights and a twentieth of its work; SqueezeNet 1.0 has about AlexNet's work with
a fiftieth of its weights.
"""

# %%
names = ["alexnet_2012", "zfnet", "vgg16", "googlenet", "inception_v3", "resnet18", "resnet34",
         "resnet50", "resnet101", "resnet152", "preact_resnet200", "wide_resnet50_2",
         "resnext50_32x4d", "resnext101_64x4d", "densenet121", "densenet161", "densenet201",
         "squeezenet1_0", "squeezenet1_1"]  # fmt: skip
whole_zoo = inspect.catalogue(names if not TOY else names[-4:])
print(whole_zoo)
show(plot.zoo_scatter(whole_zoo))

# %% [markdown]
"""
## One small budget for all

Now the same for everybody: 3,000 pictures of clothes, six epochs, one schedule, one seed. Each
network is made by its own builder, small: about 20 layers and about 8 million multiply-adds.
(FractalNet has columns of 4, 8 and 16 convolutions, the wide network 10 layers, DenseNet 28, and
SqueezeNet half of the work.) One exception: SqueezeNet has no batch norm, and gets a gentler
optimizer, as in `examples/league_table.py`.
"""

# %%
COUNT, BATCH, EPOCHS = sized((3000, 100, 6), (8, 4, 1))
prepare = [*sized([], [data.CenterCrop(16)]), data.ToFloat(),
           data.Normalize(data.FASHION_MNIST_MEAN, data.FASHION_MNIST_STD)]  # fmt: skip
vary = data.Compose([data.RandomHorizontalFlip(), *prepare])
unseen = data.fashion_mnist("test", source="sample").subset(range(sized(2000, 20)))
train = data.Loader(clothes.subset(range(COUNT)), BATCH, shuffle=True, transform=vary)
test = data.Loader(unseen, sized(200, 20), transform=data.Compose(prepare))

small = partial(models.create, preset="fashion-mnist")
MAKERS = {
    "plain20": partial(small, "plain20"),
    "resnet20": partial(small, "resnet20"),
    "preact_resnet20": partial(small, "preact_resnet20"),
    "wrn10_2": partial(small, "wrn16_4", depth=10, k=2, width=8),
    "resnext20_8x2d": partial(small, "resnext29_8x64d", layers=(2, 2, 2), width=8, groups=8,
                              width_per_group=16),
    "stochastic_depth20": partial(small, "stochastic_depth_resnet110", depth=20),
    "fractalnet16": partial(small, "fractalnet", widths=(8, 16, 32, 32)),
    "densenet28": partial(DenseNet, (4, 4, 4), 10, 1, growth_rate=6, small_images=True),
    "squeezenet": partial(small, "squeezenet1_1", width=0.5),
}  # fmt: skip


def budgeted(name):
    """The network after its training."""
    minicnn.seed(0)
    net = MAKERS[name]()
    if name == "squeezenet":
        rate, optimizer = 0.002, optim.AdamW(net.parameters(), lr=0.002)
    else:
        rate, optimizer = 0.1, optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True,
                                         weight_decay=5e-4)  # fmt: skip
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=EPOCHS * len(train), cycle_momentum=False
    )
    Trainer(net, optimizer, scheduler=schedule, schedule_every="step", clip_norm=5.0).fit(
        train, epochs=EPOCHS
    )
    return net


# %%
trained, rows = {}, []
for name in MAKERS:
    net = trained[name] = budgeted(name)
    table, result = inspect.summary(net, (1, 28, 28)), training.evaluate(net, test)
    rows.append({"model": name, "parameters": table.parameters,
                 "multiply_adds": table.multiply_adds, "accuracy": result.accuracy})  # fmt: skip
    print(f"{name:20}{table.parameters:9,} parameters {table.multiply_adds:11,} multiply-adds, "
          f"accuracy {result.accuracy:.4f}")  # fmt: skip
assert TOY or rows[1]["accuracy"] > 0.7
show(plot.zoo_scatter(rows))

# %% [markdown]
"""
Do not read a ranking out of this: it is one seed and six epochs, the pictures are simple, and 20
layers are few. The plain network learns as well: its trouble begins deeper. What the page shows of
56 layers took 14 minutes in all. A longer race of all families, on the whole data set, is
`examples/league_table.py`.

Now let them vote. And let FractalNet answer with a single column, which is the same weights, cut:
"""

# %%
alone = [row["accuracy"] for row in rows]
everyone = evaluate_ensemble(list(trained.values()), test).accuracy
print(f"the mean of the nine {np.mean(alone):.4f}, the best {max(alone):.4f}, all {everyone:.4f}")
assert TOY or everyone > np.mean(alone)
fractal = trained["fractalnet16"].eval()
for c in range(3):
    accuracy = training.evaluate(fractal.column(c), test).accuracy
    print(f"FractalNet's column of {4 * 2**c:2} convolutions alone: {accuracy:.4f}")

# %% [markdown]
"""
## Exercises

1. ResNets for CIFAR have 6n + 2 layers. Where are they? And what does one more n cost in
   parameters?
2. The last batch norm of each block starts at weight zero. Which weights of such a block get a
   gradient in the very first step?
3. Stochastic depth with 54 blocks, the last of which survives with 0.8. How many run on average?
4. A dense block of 12 layers, k = 32, gets 128 channels. How many come out, by how many
   connections?
5. Three networks are right with 70 %, independently. How often is a majority of them right? Why do
   real ensembles gain less?

<details><summary>Answer 1</summary>

One convolution first, three stages of n blocks with two each, and one fully connected layer. One
more n is 97,216 parameters.

```python
assert size_of("resnet32")[0] - size_of("resnet20")[0] == 2 * 97_216
assert size_of("resnet20")[0] == 269_722
```
</details>

<details><summary>Answer 2</summary>

That batch norm's own (its weight and bias), and nothing in front of it: their gradient is
multiplied by its weight, 0. One step later they learn, too.

```python
block = BasicBlock(4, 4)
nn.init.zeros_(block.bn2.weight)
(block(Tensor(np.ones((2, 4, 5, 5), np.float32))) * 1.5).sum().backward()
assert largest(block.conv1.weight.grad) == largest(block.conv2.weight.grad) == 0
assert largest(block.bn2.bias.grad) > 0
```
</details>

<details><summary>Answer 3</summary>

54 − 0.2 · 55/2 = 48.5.

```python
with nn.without_weights():
    others = StochasticDepthResNet(depth=110, p_last=0.8).blocks()
assert abs(sum(block.survival for block in others) - 48.5) < 1e-9
```
</details>

<details><summary>Answer 4</summary>

128 + 12 · 32 = 512 channels, 12 · 13/2 = 78 connections.

```python
with nn.without_weights():
    made = DenseBlock(12, 128, growth_rate=32, bottleneck=128, drop_rate=0.0)
read = [layer.norm1.num_features for layer in made.values()]
assert read[-1] + 32 == 512 and sum((n - 128) // 32 + 1 for n in read) == 78
```
</details>

<details><summary>Answer 5</summary>

0.7³ + 3 · 0.7² · 0.3 = 78.4 %. Real networks are not independent: they have learned the same
pictures, and a picture that is hard for one is hard for the others.

```python
right = np.random.default_rng(0).random((200_000, 3)) < 0.7
assert abs((right.sum(1) >= 2).mean() - 0.784) < 0.005
```
</details>
"""
