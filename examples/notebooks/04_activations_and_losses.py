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
# 4. Activations, losses, and the gradient that vanishes

**What you will be able to do.** Choose an activation and say why; turn scores into probabilities
and probabilities into a loss; show why a classifier is not trained with squared errors; make a
gradient vanish, measure it, and bring it back with one plus sign.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/04_activations_and_losses.py`, which writes the pictures
into `runs/notebooks/`.
"""

# %%
import numpy as np
from lesson import TOY, check, show, sized

import minicnn
import minicnn.functional as F
from minicnn import Tensor, Trainer, data, nn, optim, plot

# %% [markdown]
"""
## Without a bend, depth is worth nothing

Two layers without an activation between them are one layer: W₂(W₁x) = (W₂W₁)x. A hundred are one,
too. So something that is not a straight line must stand between them.
"""

# %%
rng = np.random.default_rng(0)
x, one, two = (rng.standard_normal(shape) for shape in ((5, 3), (4, 3), (2, 4)))
stacked = F.linear(F.linear(Tensor(x), Tensor(one)), Tensor(two)).numpy()
check("two layers less one layer, largest difference", np.abs(stacked - x @ (two @ one).T).max(), 0,
      digits=12)  # fmt: skip

# %% [markdown]
"""
## The usual bends

*Sigmoid* squeezes everything into 0 to 1, *tanh* into −1 to 1. *ReLU* lets positive numbers pass
and stops the others; the *leaky* one lets a hundredth of them through.
"""

# %%
ACTIVATIONS = {"sigmoid": F.sigmoid, "tanh": F.tanh, "ReLU": F.relu, "leaky ReLU": F.leaky_relu}
z = np.linspace(-4, 4, 161)
show(plot.lines(z, {name: f(Tensor(z)) for name, f in ACTIVATIONS.items()},
                "Activations", "z", "f(z)"))  # fmt: skip

points = Tensor(np.array([-2.0, 0.0, 2.0]))
check("sigmoid at −2, 0, 2", F.sigmoid(points), [0.1192, 0.5, 0.8808], digits=4)
check("tanh at −2, 0, 2", F.tanh(points), [-0.9640, 0, 0.9640], digits=4)
check("ReLU at −2, 0, 2", F.relu(points), [0, 0, 2])
check("leaky ReLU at −2, 0, 2", F.leaky_relu(points), [-0.02, 0, 2])

# %% [markdown]
"""
What matters for learning is not the curve but its **slope**, because slopes are what gradients are
multiplied with on the way back. Let autograd draw them:
"""


# %%
def slopes(f, z):
    """The slope of f at each of the points z."""
    x = Tensor(np.array(z), requires_grad=True)
    f(x).sum().backward()
    return x.grad


show(plot.lines(z, {name: slopes(f, z) for name, f in ACTIVATIONS.items()},
                "The slopes of the activations", "z", "slope"))  # fmt: skip
check("largest slope of sigmoid, and of tanh", [slopes(F.sigmoid, [0.0])[0],
                                                slopes(F.tanh, [0.0])[0]], [0.25, 1])  # fmt: skip
check("their slopes at 5", [slopes(F.sigmoid, [5.0])[0], slopes(F.tanh, [5.0])[0]],
      [0.006648, 0.000182], digits=6)  # fmt: skip
check("slope of ReLU left and right", slopes(F.relu, [-5.0, 5.0]), [0, 1])
check("slope of leaky ReLU left and right", slopes(F.leaky_relu, [-5.0, 5.0]), [0.01, 1])

# %% [markdown]
"""
Sigmoid and tanh are *flat* on both sides: they **saturate**, and where it is flat no gradient gets
through. ReLU has slope 1 for every positive number, however large.

> **A correction.** One of the notes says that networks with "saturating functions like
> tanh/sigmoid ... train much more quickly". It is the other way round: with the non-saturating ReLU
> AlexNet's authors reached 25 % training error on CIFAR-10 six times as fast as with tanh.
> (ReLUs are older than AlexNet, by the way: it made them famous.)

## The race: ReLU against tanh

Four convolutional layers, the same start, a few images of clothes with pixels of large magnitude as
in the paper's time: centred, but not made small. Each activation gets the learning rate that suits
it best of three. We watch the training error.
"""

# %%
COUNT, EPOCHS = sized((4000, 10), (200, 2))
pictures = data.fashion_mnist("train", source="sample").subset(range(COUNT))
small = pictures.images.reshape(COUNT, 1, 14, 2, 14, 2).mean(axis=(3, 5))  # 14x14: a quick race
small = ((small - small.mean()) / small.std() * 90).astype(np.float32)
track = data.ArrayDataset(small, pictures.labels, pictures.classes)


def race(activation, rate):
    """The training error after each epoch."""
    minicnn.seed(0)
    layers, channels = [], 1
    for number, width in enumerate((16, 16, 32, 32), start=1):
        conv = nn.Conv2d(channels, width, 3, padding=1)
        nn.init.normal_(conv.weight, std=0.05)
        layers += [conv, activation()] + ([nn.MaxPool2d(2)] if number % 2 == 0 else [])
        channels = width
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 3 * 3, 10))
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=rate, momentum=0.9))
    history = trainer.fit(data.Loader(track, 50, shuffle=True), epochs=EPOCHS)
    return 1 - np.array(history.column("accuracy"))


best = {}
for name, activation in {"ReLU": nn.ReLU, "tanh": nn.Tanh}.items():
    runs = {rate: race(activation, rate) for rate in sized((0.001, 0.003, 0.01), (0.003,))}
    rate = min(runs, key=lambda rate: runs[rate].min())
    best[f"{name}, rate {rate:g}"] = runs[rate] * 100
relu, tanh = best.values()
print(f"after {EPOCHS} epochs: ReLU {relu[-1]:.1f} %, tanh {tanh[-1]:.1f} %")
assert TOY or relu[-1] < tanh[-1]
show(plot.lines(range(1, EPOCHS + 1), best, "A race on clothes", "epoch", "training error, %"))

# %% [markdown]
"""
A larger race with the same outcome is `examples/relu_vs_tanh.py`: on Fashion-MNIST tanh took 2.3
times as many epochs as ReLU to a training error of 10 %. The scale of the inputs matters: with
pixels scaled to variance 1, a tanh stays in its steep middle, and the difference is gone.

## Softmax: from scores to probabilities

The last layer gives one score for each class, any number at all, called a *logit*. Softmax makes
all of them positive, by exp, and makes them add up to 1, by dividing.
"""

# %%
logits = np.array([[2.0, 1.0, 0.1]])
p = F.softmax(Tensor(logits)).numpy()[0]
check("softmax of (2, 1, 0.1)", p, [0.659001, 0.242433, 0.098566], digits=6)
check("their sum", p.sum(), 1, digits=12)
shifted = F.softmax(Tensor(logits + 1000)).numpy()[0]
check("softmax of the same scores plus 1000", shifted, [0.659001, 0.242433, 0.098566], digits=6)

# %% [markdown]
"""
Only differences count. (exp(1000) would overflow; every good softmax subtracts the largest score
first.)

## Cross-entropy: how surprised are we?

Say the right class is the first one. Our probability for it is 0.659. The loss is −log of that:
nothing for certainty, and more and more the less we believed in what turned out to be true.

    L = −Σ y · log p         y is 1 for the right class and 0 for the others
"""

# %%
scores = Tensor(logits, requires_grad=True)
loss = F.cross_entropy(scores, np.array([0]))
check("cross-entropy", loss.item(), 0.417030, digits=6)
loss.backward()
check("its gradient: p − y", scores.grad[0], [-0.340999, 0.242433, 0.098566], digits=6)
smooth = F.cross_entropy(Tensor(logits), np.array([0]), label_smoothing=0.1).item()
check("with label smoothing 0.1", smooth, 0.513697, digits=6)

believed = np.linspace(0.01, 1, 100)
show(plot.lines(believed, {"−log p": -np.log(believed)}, "Cross-entropy",
                "probability that we gave the right class", "loss"))  # fmt: skip

# %% [markdown]
"""
The gradient is as simple as can be: **what we said minus what is true**. (In the notes the
derivation got garbled on its way into text; this is where it leads.)

## Why not squared errors?

Squared error is right for *regression*, where the answer is a number: the price of a house. Take a
single sigmoid neuron for the question *cat or not*, and a case where it is badly wrong: z = −6, so
it says 0.0025, and it is a cat. Who complains louder?

    cross-entropy:    dL/dz =  σ(z) − y                    → −0.998
    squared error:    dL/dz = (σ(z) − y) · σ'(z)           → −0.0025
"""


# %%
def gradients(z, y):
    """By z: of cross-entropy and of half the squared error, for a sigmoid neuron."""
    found = []
    for square in (False, True):
        x = Tensor(np.array(z, np.float64), requires_grad=True)
        s = F.sigmoid(x)
        loss = (s - y) * (s - y) * 0.5 if square else -(s.log() * y + (1.0 - s).log() * (1 - y))
        loss.sum().backward()
        found.append(x.grad)
    return found


entropy, square = gradients([-6.0], 1.0)
check("cross-entropy: gradient at z = −6", entropy, [-0.997527], digits=6)
check("squared error: gradient at z = −6", square, [-0.002460], digits=6)

z = np.linspace(-8, 8, 161)
entropy, square = gradients(z, 1.0)
show(plot.lines(z, {"cross-entropy": -entropy, "squared error": -square},
                "How hard a wrong neuron is pushed", "z, where the answer should be 1",
                "push towards 1"))  # fmt: skip

# %% [markdown]
"""
The squared error has the extra factor σ', and where the neuron is *most* wrong, σ is flat. It has
stopped listening. With inputs x the same factor stands in every weight's gradient: Σ x (σ(z) − y)
for cross-entropy, Σ x (σ(z) − y) σ'(z) for squared error.
"""

# %%
inputs, truth = rng.standard_normal((8, 3)), (rng.random(8) > 0.5) * 1.0
w = Tensor(np.array([[0.3, -0.8, 0.5]]), requires_grad=True)
s = F.sigmoid(F.linear(Tensor(inputs), w)).reshape(8)
(-(s.log() * truth + (1.0 - s).log() * (1 - truth))).sum().backward()
by_formula = inputs.T @ (s.numpy() - truth)
check("Σ x (σ − y) less the gradient of backward", np.abs(by_formula - w.grad[0]).max(), 0,
      digits=12)  # fmt: skip

# %% [markdown]
"""
## The gradient that vanishes

*What is the vanishing gradient?*, ask the notes. On the way back, the gradient is multiplied with
the slope of every activation it passes. Sigmoid's slope is at most 1/4. Ten of them:
"""

# %%
check("a quarter to the power of ten", 0.25**10, 9.5367e-07, digits=11)


# %% [markdown]
"""
Now in a real network: forty layers of 64 neurons, weights drawn so that signals neither grow nor
shrink on their own. We send one batch forward and back, and note how long the gradient is when it
arrives at each layer. (From one level line of the picture to the next it is ten thousand times.)
"""


# %%
def gradient_by_layer(f, gain, skip=False, depth=40, width=64):
    """The length of the loss's gradient by the input of each layer, from the first to the last."""
    draw = np.random.default_rng(1)
    x = Tensor(draw.standard_normal((16, width)), requires_grad=True)
    states = [x]
    for _ in range(depth):
        weight = Tensor(draw.standard_normal((width, width)) * gain / np.sqrt(width))
        y = f(F.linear(states[-1], weight))
        states.append((states[-1] + y * 0.2 if skip else y).retain_grad())
    (states[-1] * Tensor(draw.standard_normal((16, width)))).sum().backward()
    return [np.linalg.norm(state.grad) for state in states]


arrived = {
    "sigmoid": gradient_by_layer(F.sigmoid, 1.0),
    "tanh": gradient_by_layer(F.tanh, 1.0),
    "ReLU": gradient_by_layer(F.relu, np.sqrt(2)),
    "sigmoid with skips": gradient_by_layer(F.sigmoid, 1.0, skip=True),
}
show(plot.lines(range(41), arrived, "How much gradient arrives at each layer",
                "layer, counted from the input", "length of the gradient", log=True))  # fmt: skip
for name, lengths in arrived.items():
    print(f"{name:20} first layer / last layer: {lengths[0] / lengths[-1]:.1e}")
assert arrived["sigmoid"][0] < 1e-20 * arrived["sigmoid"][-1]
assert arrived["sigmoid with skips"][0] > 0.1 * arrived["sigmoid with skips"][-1]

# %% [markdown]
"""
Read it from right to left. With sigmoids every layer divides the gradient by about four, and the
first layers learn *nothing at all*: added to a weight of ordinary size, a step so small is lost in
rounding. tanh loses nine tenths over the whole way, ReLU with well-drawn weights (He's) hardly
anything.

## One plus sign

The fourth line is the sigmoid network again with a *skip connection* around each layer:

    y = x + F(x)             so             dL/dx = dL/dy · (1 + F'(x))

However small F' is, the 1 remains: the gradient has a road of its own, straight through.

> **A correction.** In the notes the formulas of this paragraph came out as "dy/dn = dn/dn". The
> line above is what they mean. And ReLU's derivative is 1 for x > 0 (leaky: α = 0.01 below).
"""

# %%
x = Tensor(np.array([0.3, -1.2]), requires_grad=True)
(x + F.tanh(x)).sum().backward()
slope_of_tanh = 1 - np.tanh([0.3, -1.2]) ** 2
check("dL/dx of x + tanh(x), less 1 + tanh'", np.abs(x.grad - (1 + slope_of_tanh)).max(), 0,
      digits=12)  # fmt: skip
plain_chain, skip_chain = np.prod([0.25] * 20), np.prod([1 + 0.0] * 20)
check("twenty slopes of 1 + 0", skip_chain, 1)
check("twenty slopes of 1/4", plain_chain, 9.09e-13, digits=15)

# %% [markdown]
"""
There is a second gift. If the best thing that a layer can do is *nothing*, a plain layer must learn
the identity matrix (A·I = A), which is hard to hit. A residual block only has to set its weights to
zero. "Initially a copy of the input", say the notes:
"""

# %%
block = nn.Conv2d(8, 8, 3, padding=1)
nn.init.zeros_(block.weight)
nn.init.zeros_(block.bias)
image = Tensor(rng.standard_normal((1, 8, 6, 6)).astype(np.float32))
check("x + F(x) with zero weights, less x", np.abs((image + block(image) - image).numpy()).max(), 0)
A = rng.standard_normal((3, 3))
check("A·I − A", np.abs(A @ np.eye(3) - A).max(), 0)

# %% [markdown]
"""
That is the idea of ResNet, to which page 9 comes: what happens when plain layers are stacked
deeper and deeper, and what skips do to it.

## Exercises

1. What are the slopes of sigmoid and of tanh at z, written with s = σ(z) and t = tanh(z)?
2. Ten classes, and the network knows nothing: all logits are 0. What is the cross-entropy? (You
   will see this number at the start of many trainings.)
3. A network says 0.9 for the right class, another 0.6. Both are right. Which loss is larger, and
   how much?
4. A neuron's ReLU gets only negative inputs, for every image. What gradient do its weights get, and
   what does the leaky one do about it?

<details><summary>Answer 1</summary>

s(1 − s) and 1 − t².

```python
s, t = 1 / (1 + np.exp(-0.7)), np.tanh(0.7)
assert np.allclose(slopes(F.sigmoid, [0.7]), s * (1 - s))
assert np.allclose(slopes(F.tanh, [0.7]), 1 - t**2)
```
</details>

<details><summary>Answer 2</summary>

log 10 = 2.303.

```python
assert abs(F.cross_entropy(Tensor(np.zeros((1, 10))), np.array([3])).item() - 2.302585) < 1e-6
```
</details>

<details><summary>Answer 3</summary>

−log 0.6 = 0.511 against −log 0.9 = 0.105: nearly five times. The loss goes on asking for certainty
where accuracy is already content.

```python
assert 4.8 < np.log(0.6) / np.log(0.9) < 4.9
```
</details>

<details><summary>Answer 4</summary>

Zero, so it never changes again: a *dead* ReLU. The leaky one passes a hundredth, and can recover.

```python
assert slopes(F.relu, [-1.0, -3.0]).tolist() == [0, 0]
assert slopes(F.leaky_relu, [-1.0, -3.0]).tolist() == [0.01, 0.01]
```
</details>
"""
