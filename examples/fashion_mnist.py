"""The main job from Python, step by step: data, model, training, mistakes, one feature map.

python examples/fashion_mnist.py                    # the bundled sample, 5 epochs
python examples/fashion_mnist.py --images 500 --epochs 1
"""

from __future__ import annotations

import argparse

import numpy as np

import minicnn
from minicnn import data, inspect, models, nn, optim
from minicnn.training.callbacks import EarlyStopping
from minicnn.training.progress import ProgressBar


def main() -> None:
    """Train the notes' CNN and look at what it learnt."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000, help="training images (of 10,000)")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    # 1. The data: pictures to 0..1, then mean 0 and standard deviation 1; mirrored at random.
    prepare = [
        data.ToFloat(),
        data.Normalize(data.FASHION_MNIST_MEAN, data.FASHION_MNIST_STD),
    ]
    whole = data.fashion_mnist("train", source="sample").subset(range(options.images))
    held_out, training = whole.split(0.1)
    augmented = data.Compose([data.RandomHorizontalFlip(), *prepare])
    train = data.Loader(training, 50, shuffle=True, transform=augmented, prefetch=2)
    validation = data.Loader(held_out, 50, transform=data.Compose(prepare))

    # 2. The network, its layers, and how it learns.
    minicnn.seed(0)
    model = models.create("notes_cnn")
    print(inspect.summary(model, training.image_shape))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.05, total_steps=options.epochs * len(train), cycle_momentum=False
    )

    # 3. Training, until the validation loss no longer falls.
    trainer = minicnn.Trainer(
        model,
        optimizer,
        scheduler=schedule,
        schedule_every="step",
        callbacks=[ProgressBar(), EarlyStopping(patience=3)],
    )
    trainer.fit(train, validation, epochs=options.epochs)

    # 4. What it gets right and wrong on pictures that it has never seen.
    test = data.Loader(
        data.fashion_mnist("test", source="sample"), 100, transform=validation.transform
    )
    result = trainer.evaluate(test)
    print(f"test accuracy {result.accuracy:.3f}")
    mistakes = result.confusion.matrix * (1 - np.eye(10, dtype=int))
    row, column = np.unravel_index(mistakes.argmax(), mistakes.shape)
    print(f"most frequent mistake: {whole.classes[row]} taken for {whole.classes[column]}")

    # 5. The maps of the first convolution for one picture.
    images, _ = next(iter(test))
    model.eval()
    with nn.capture(model, ["features.2"]) as maps, minicnn.no_grad():
        model(minicnn.Tensor(images[:1]))
    active = (maps["features.2"] > 0).mean()
    print(f"share of active cells after the first ReLU: {active:.2f}")


if __name__ == "__main__":
    main()
