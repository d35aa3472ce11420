"""The lecture notes' CNN for Fashion-MNIST: two convolutions, two poolings, one layer on top.

    1x28x28 -> conv 16@5x5 -> BN -> ReLU -> pool 2 -> 16x14x14
            -> conv 32@5x5 -> BN -> ReLU -> pool 2 -> 32x7x7 -> flatten 1568 -> linear 10

All convolutions have padding 2, which keeps the map's size. 29,034 parameters, of which 48 biases
in front of a batch norm have no effect; the notes draw them, so they are here.
"""

from __future__ import annotations

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.errors import ShapeError
from minicnn.models.network import Network
from minicnn.models.registry import Preset, register

WIDTHS = (16, 32)  # filters of the two stages


@register("notes_cnn", {"fashion-mnist": Preset((1, 28, 28), 10)})
class NotesCNN(Network):
    """The notes' CNN: 29,034 parameters and 2,838,080 multiply-adds for a 1x28x28 image.

    ``image_size`` is the height and width of the images, a multiple of 4 or not: pooling rounds
    down. Input (N, in_channels, image_size, image_size), output (N, num_classes) logits.

    >>> NotesCNN().num_parameters()
    29034
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        if image_size < 4:
            raise ShapeError(
                f"notes_cnn: image_size is {image_size}, but two poolings need 4 or more; "
                "resize the images."
            )
        self.features = nn.Sequential()
        for width in WIDTHS:
            self.features.append(nn.Conv2d(in_channels, width, kernel_size=5, padding=2))
            self.features.append(nn.BatchNorm2d(width))
            self.features.append(nn.ReLU())
            self.features.append(nn.MaxPool2d(2))
            in_channels = width
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(in_channels * (image_size // 4) ** 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.classifier(self.flatten(self.features(x)))
