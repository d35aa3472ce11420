"""ZFNet: AlexNet with a finer first layer.

M. Zeiler, R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, arXiv
1311.2901, figure 3 and table 2.

Where the network here differs from the paper:

- Paddings and rounding are those that give the map sizes of figure 3 (110, 55, 26, 13, 6): the
  first convolution is padded by 1, and pools round up. The paper does not print them.
- Its contrast normalisation is AlexNet's local response normalisation.
- The paper scales down filters whose root mean square exceeds 0.1 while it trains; nothing here
  does.

Looking at AlexNet's first filters through a network that runs backwards, the authors saw few middle
frequencies, and a grid in the second layer's maps that came from the stride of 4. So the first
convolution is 7x7 with stride 2 in place of 11x11 with stride 4. Variant "a" is otherwise AlexNet
in one tower; variant "b" has wider third to fifth convolutions, and is the one that the lecture
notes list.

The preset "fashion-mnist" (and "cifar10" for 3x32x32) has three eighths of the filters, a first
convolution of 3x3 and a second of 5x5 without strides, 512 hidden units in place of 4096, and He's
initial values.
"""

from __future__ import annotations

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.network import Network
from minicnn.models.parts import checked, draw_weights, fully_connected, last_map_size, scaled
from minicnn.models.registry import Preset, register

WIDTHS = {  # filters of the five convolutions
    "a": (96, 256, 384, 384, 256),
    "b": (96, 256, 512, 1024, 512),
}
Geometry = tuple[int, int, int]  # kernel size, stride and padding of a convolution

_SMALL = {
    "width": 0.375,
    "stem": (3, 1, 1),
    "second": (5, 1, 2),
    "hidden": 512,
    "init": "kaiming",
}


@register(
    "zfnet",
    {
        "imagenet": Preset((3, 224, 224), 1000),
        "cifar10": Preset((3, 32, 32), 10, _SMALL),
        "fashion-mnist": Preset((1, 28, 28), 10, _SMALL),
    },
)
class ZFNet(Network):
    """ZFNet: 62,357,608 parameters and 1,168,032,896 multiply-adds for a 3x224x224 image.

    variant : "a", or "b" with 107,627,624 parameters and 2,476,704,896 multiply-adds
    init : "paper" draws weights from N(0, 0.01**2), "kaiming" is He's; biases are 0
    width : factor of the numbers of filters; hidden : units of the two hidden layers
    stem, second : kernel size, stride and padding of the first two convolutions
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int = 224,
        variant: str = "a",
        init: str = "paper",
        width: float = 1.0,
        stem: Geometry = (7, 2, 1),
        second: Geometry = (5, 2, 0),
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        checked("zfnet", "variant", variant, WIDTHS)
        checked("zfnet", "init", init, ("paper", "kaiming"))
        self.features = nn.Sequential()
        add = self.features.add_module
        geometries = (stem, second, *3 * ((3, 1, 1),))
        for number, (filters, geometry) in enumerate(zip(WIDTHS[variant], geometries, strict=True)):
            number, filters = number + 1, scaled(filters, width)
            add(f"conv{number}", nn.Conv2d(in_channels, filters, *geometry))
            add(f"relu{number}", nn.ReLU())
            if number in (1, 2, 5):
                add(f"pool{number}", nn.MaxPool2d(3, stride=2, ceil_mode=True))
            if number in (1, 2):
                add(f"norm{number}", nn.LocalResponseNorm(5, k=2.0, divide_alpha_by_n=False))
            in_channels = filters
        size = last_map_size(self.features, image_size, "zfnet")
        self.flatten = nn.Flatten()
        self.classifier = fully_connected(in_channels * size**2, hidden, num_classes, dropout)
        if init == "paper":
            draw_weights(self, lambda weight: nn.init.normal_(weight, std=0.01))
        else:
            draw_weights(self, lambda weight: nn.init.kaiming_normal_(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.classifier(self.flatten(self.features(x)))
