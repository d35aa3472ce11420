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
# 5. The notes' network, from the first picture to the last mistake

**What you will be able to do.** Load a data set and look at it; build the lecture notes' CNN and
predict every size and every parameter count before the computer does; train it to nine of ten right
answers; judge it by more than accuracy; look inside; save it and use it on a picture.

**How to open this page.** In Jupyter: `pip install "minicnn[notebooks]"`, right-click the file,
*Open With > Notebook*. In VS Code: the cells between the `# %%` marks have *Run Cell* above them.
Or run it all: `python examples/notebooks/05_fashion_mnist.py`, which writes the pictures into
`runs/notebooks/`. It trains for a few minutes; with `MINICNN_NOTEBOOK_SIZE=toy` for seconds, and
then the network stays as dull as you would expect.
"""

# %%
import tempfile
from pathlib import Path

import numpy as np
from lesson import TOY, check, show, sized

import minicnn
import minicnn.functional as F
from minicnn import Tensor, Trainer, data, inspect, models, nn, optim, plot, training
from minicnn.training.metrics import ConfusionMatrix, accuracy, classification_report

# %% [markdown]
"""
## The data

Fashion-MNIST: 60,000 pictures of clothes to learn from, 10,000 to be tested on, 28x28 pixels in
gray, ten classes. Where the whole set cannot be had, a sample of it that comes with minicnn is used
and the next cell says so.
"""

# %%
source = sized("auto", "sample")
whole = data.fashion_mnist("train", source=source)
test = data.fashion_mnist("test", source=source)
print(whole, test, whole.note, sep="\n")
check("shape of a picture", whole.image_shape, (1, 28, 28))
check("classes", len(whole.classes), 10)
counts = whole.class_counts()
check("the rarest and the most frequent class differ by", counts.max() - counts.min(), 0)
show(plot.samples(whole.images, whole.labels, classes=whole.classes, count=15))

# %% [markdown]
"""
**Prepare.** Pixels are 0 to 255. We divide by 255, then subtract the mean of all training pixels
and divide by their standard deviation, so that the numbers lie around 0 with a spread of 1.

**Augment.** A shirt seen in a mirror is a shirt. Mirroring at random gives twice as many different
pictures for nothing. (Only for training. And not for digits: a mirrored 2 is no 2.)
"""

# %%
prepare = [data.ToFloat(), data.Normalize(data.FASHION_MNIST_MEAN, data.FASHION_MNIST_STD)]
mirrored = data.RandomHorizontalFlip(p=1.0)(whole.images[:500])
both = np.concatenate([whole.images[:500], mirrored])
check("different pictures among 500 and their mirror images", len(np.unique(both, axis=0)), 1000)
show(plot.samples(both[[0, 500, 1, 501]], whole.labels[[0, 0, 1, 1]], classes=whole.classes,
                  columns=4))  # fmt: skip

# %% [markdown]
"""
**Hold out.** We keep a tenth of the training pictures aside as *validation*: to choose settings by.
The test set is looked at once, at the end. Who chooses by the test set has no test set any more.
"""

# %%
training_part, held_out = whole.subset(range(sized(len(whole), 240))).split(0.9)
train = data.Loader(
    training_part,
    batch_size=sized(100, 20),
    shuffle=True,
    transform=data.Compose([data.RandomHorizontalFlip(), *prepare]),
)
validation = data.Loader(held_out, batch_size=sized(100, 24), transform=data.Compose(prepare))
unseen = test.subset(range(sized(len(test), 60)))
testing = data.Loader(unseen, sized(100, 60), transform=data.Compose(prepare))
print(len(training_part), "to learn from,", len(held_out), "to choose by")

# %% [markdown]
"""
## The network

Two rounds of *convolution, batch norm, ReLU, pooling*, then one fully connected layer. Before you
look at the table: what are the sizes? With (W − F + 2P)/S + 1 from page 2:

| layer | sum | size |
|---|---|---|
| conv 16@5x5, padding 2 | (28 − 5 + 4)/1 + 1 | 16 x 28 x 28 |
| max pool 2 | (28 − 2)/2 + 1 | 16 x 14 x 14 |
| conv 32@5x5, padding 2 | (14 − 5 + 4)/1 + 1 | 32 x 14 x 14 |
| max pool 2 | (14 − 2)/2 + 1 | 32 x 7 x 7 |
| flatten | 32 · 7 · 7 | 1,568 |
| fully connected | | 10 |
"""

# %%
size = inspect.output_size
check("28, 14, 14, 7", [size(28, 5, padding=2).output, size(28, 2, stride=2).output,
                        size(14, 5, padding=2).output, size(14, 2, stride=2).output],
      [28, 14, 14, 7])  # fmt: skip

minicnn.seed(0)
model = models.create("notes_cnn")
table = inspect.summary(model, (1, 28, 28))
print(table)

# %%
check("parameters of the first round", 16 * 1 * 5 * 5 + 16 + 2 * 16, 448)
check("parameters of the second round", 32 * 16 * 5 * 5 + 32 + 2 * 32, 12_896)
check("parameters of the last layer", 1568 * 10 + 10, 15_690)
check("all parameters", model.num_parameters(), 29_034)
check("multiply-adds for one picture", table.multiply_adds, 2_838_080)
pool2 = inspect.receptive_fields(model, (1, 28, 28))["features.7"]
check("one value behind the second pooling sees", pool2.size, (16, 16))
check("and its neighbour starts so many pixels further", pool2.jump, (4, 4))
show(plot.architecture(model, (1, 28, 28)))

# %% [markdown]
"""
**Batch norm** makes each channel of a batch have mean 0 and spread 1, and then lets the network
choose its own mean and spread (two parameters a channel). That is why the convolutions' 48 biases
have no effect here; the notes draw them, so they are counted.

Before training it knows nothing. It says about a tenth for every class, and the loss is about
log 10 = 2.3:
"""

# %%
images, labels = next(iter(validation))
first = F.cross_entropy(model(Tensor(images)), labels).item()
print(f"loss before training: {first:.2f}; knowing nothing costs {np.log(10):.2f}")
assert 1.5 < first < 3.5

# %% [markdown]
"""
## Training

SGD with momentum, a learning rate that rises and falls once, a little weight decay.
"""

# %%
EPOCHS = sized(8, 2)
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
schedule = optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=sized(0.1, 0.02), total_steps=EPOCHS * len(train), cycle_momentum=False
)
trainer = Trainer(model, optimizer, scheduler=schedule, schedule_every="step")
history = trainer.fit(train, validation, epochs=EPOCHS)
show(plot.learning_curves(history))

# %% [markdown]
"""
## How good is it?

Now, once, the test set. The confusion matrix has a row for what is true and a column for what was
said: look for the large numbers beside the diagonal.
"""

# %%
result = trainer.evaluate(testing)
print(f"test accuracy {result.accuracy:.4f}, loss {result.loss:.4f}")
assert result.accuracy >= (0.3 if TOY else 0.9 if whole.source == "full" else 0.85)
show(plot.confusion_matrix(result, whole.classes))

# %% [markdown]
"""
**Accuracy is not everything.** If one picture in a hundred shows a tumour, "always healthy" is 99 %
accurate. So for each class one asks two questions: of what I *called* a shirt, how much is one
(*precision*)? Of the shirts, how many did I *find* (*recall*)? F1 is their harmonic mean: good only
if both are. By hand, six examples of three classes:
"""

# %%
truth, said = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]
six = ConfusionMatrix(3)
six.update(said, truth)
check("accuracy of the six", accuracy(said, truth), 0.6667, digits=4)
check("precision", six.precision, [1.0, 0.5, 0.5])
check("recall", six.recall, [0.6667, 0.5, 1.0], digits=4)
check("F1", six.f1, [0.8, 0.5, 0.6667], digits=4)

# %%
print(classification_report(result.confusion, whole.classes))

# %% [markdown]
"""
## Its mistakes

These are the answers of which it was most certain, and wrong. Look long enough and you learn
something about the network, about the data (some labels are wrong!), or about clothes.
"""

# %%
probabilities, truth = training.probabilities(model, testing)
show(plot.mistakes(unseen.images, truth, probabilities, whole.classes, count=10))

# %% [markdown]
"""
## Looking inside

The sixteen filters of the first layer, and what they make of one boot: some react to edges on one
side, some to flat areas. One step further in, maps are smaller, and harder to put into words.
"""

# %%
show(plot.filters(model))

# %%
boot = int(np.flatnonzero(truth == whole.classes.index("Ankle boot"))[0])
one = data.Compose(prepare)(unseen.images[boot : boot + 1])[0]
model.eval()
show(plot.feature_maps(model, one, "features.2"))
with nn.capture(model, ["features.2", "features.7"]) as kept, minicnn.no_grad():
    model(Tensor(one[None]))
check("maps of the first round", kept["features.2"].shape, (1, 16, 28, 28))
check("maps behind the second pooling", kept["features.7"].shape, (1, 32, 7, 7))

# %% [markdown]
"""
And *where* did it look? Grad-CAM weighs the last maps by how much they speak for the class:
"""

# %%
show(plot.class_activation(model, one, classes=whole.classes))

# %% [markdown]
"""
## Save it, load it, use it

> **A guess at the notes.** Where they save a "model.htm" they must mean a *model file* ("model.h5"
> in Keras), and by "interpretation" tests the integration test: train, save, load, predict, and get
> the same answer. Here is one.
"""

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "clothes.safetensors")
    minicnn.save_weights(model, path)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    copy = models.create("notes_cnn")
    minicnn.load_weights(copy, path)

before, after = (training.predict(m, one[None])[0] for m in (model, copy))
check("largest difference after loading", np.abs(before - after).max(), 0)
for index in before.argsort()[::-1][:3]:
    print(f"{whole.classes[index]:12} {before[index]:.1%}")

# %% [markdown]
"""
At the command line the same is `minicnn train`, `minicnn evaluate` and `minicnn predict photo.jpg`.

## Exercises

1. How many parameters has the network for 3x32x32 images and 100 classes? Do it by hand first.
2. What share of the multiply-adds do the two 5x5 convolutions have, what share of the parameters?
3. What do the first layers see if you leave out the padding? What are the sizes?
4. Which two classes does your network confuse most often? (And would you?)

<details><summary>Answer 1</summary>

The first filters read 3 channels (1,216 + 32), the second round stays (12,896), the last layer
reads 32 · 8 · 8 = 2,048 values: 204,900. Together 219,044.

```python
larger = models.create("notes_cnn", num_classes=100, in_channels=3, image_size=32)
assert larger.num_parameters() == 1216 + 32 + 12_896 + 204_900 == 219_044
```
</details>

<details><summary>Answer 2</summary>

99.45 % of the work, 45.6 % of the parameters.

```python
conv = table.shares["conv"]
assert round(conv.multiply_add_share, 4) == 0.9945 and round(conv.parameter_share, 3) == 0.456
```
</details>

<details><summary>Answer 3</summary>

28, 24, 12, 8, 4: a field of the same size, but of the border less and less is left.

```python
assert [size(28, 5).output, size(24, 2, 2).output, size(12, 5).output, size(8, 2, 2).output] == [
    24, 12, 8, 4]
```
</details>

<details><summary>Answer 4</summary>

Usually shirts and T-shirts, or coats and pullovers. People who were asked got 83.5 % of such
pictures right.

```python
wrong = result.confusion.matrix * (1 - np.eye(10, dtype=int))
row, column = np.unravel_index(wrong.argmax(), wrong.shape)
print(whole.classes[row], "taken for", whole.classes[column])
```
</details>
"""
