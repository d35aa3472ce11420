"""Network in Network: a small network in place of each filter, and no fully connected layer.

M. Lin, Q. Chen, S. Yan, "Network in network", ICLR 2014, arXiv 1312.4400, figure 2.

Where the networks here differ from the paper:

- It prints few widths; those here are the authors' own (the model files of CIFAR-10 and MNIST for
  cuda-convnet and Caffe, and Caffe's model zoo for ImageNet).
- The second pool of the CIFAR-10 network takes means, as in the Caffe file; the file for
  cuda-convnet takes the largest.

An "mlpconv" is a convolution and two of 1x1 behind it: the 1x1 convolutions are a little
fully connected network that slides over the map, so that a filter is no longer linear in its
window. The last mlpconv has one map for each class, and its mean is the class's score: a map shows
where the network sees the class, and there is no layer of millions of weights to overfit. A ReLU
stands behind the last 1x1 convolution too, so that no score is negative.

The preset "mnist" is the authors' narrower network for MNIST. "fashion-mnist" is the same with He's
initial values and without the ReLU behind the last convolution, which can give a class the score 0
for every image from the start, with no gradient to change it.
"""

from __future__ import annotations

from minicnn import nn
from minicnn.autograd import Tensor
from minicnn.models.network import Network
from minicnn.models.parts import checked, draw_weights, scaled
from minicnn.models.registry import Preset, register

CLASSES = 0  # stands for the number of classes
# For each mlpconv: kernel size, stride and padding of its first convolution; its three widths; and
# what follows: the kind of pool, and whether dropout comes behind it.
LAYOUTS = {
    "cifar10": (
        ((5, 1, 2), (192, 160, 96), "max", True),
        ((5, 1, 2), (192, 192, 192), "mean", True),
        ((3, 1, 1), (192, 192, CLASSES), "", False),
    ),
    "mnist": (
        ((5, 1, 2), (96, 64, 48), "max", True),
        ((5, 1, 2), (128, 96, 48), "max", True),
        ((5, 1, 2), (128, 96, CLASSES), "", False),
    ),
    "imagenet": (
        ((11, 4, 0), (96, 96, 96), "max", False),
        ((5, 1, 2), (256, 256, 256), "max", False),
        ((3, 1, 1), (384, 384, 384), "max", True),
        ((3, 1, 1), (1024, 1024, CLASSES), "", False),
    ),
}


@register(
    "nin",
    {
        "cifar10": Preset((3, 32, 32), 10),
        "mnist": Preset((1, 28, 28), 10, {"layout": "mnist"}),
        "fashion-mnist": Preset(
            (1, 28, 28), 10, {"layout": "mnist", "init": "kaiming", "relu_scores": False}
        ),
        "imagenet": Preset((3, 224, 224), 1000, {"layout": "imagenet"}),
    },
)
class NiN(Network):
    """Network in Network: 966,986 parameters and 222,486,528 multiply-adds for a 3x32x32 image.

    layout : "cifar10"; "mnist" with 349,674 parameters and 50,699,712 multiply-adds for 1x28x28; or
        "imagenet" with 7,595,176 and 1,100,188,800 for 3x224x224
    init : "paper" draws weights from N(0, 0.05**2), in the first and the last convolution for
        ImageNet from N(0, 0.01**2), as the authors' files do; "kaiming" is He's; biases are 0
    relu_scores : whether the scores of a place are rectified before their mean
    width : factor of the numbers of filters
    dropout : probability behind the pools that have it

    >>> NiN().num_parameters()
    966986
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        layout: str = "cifar10",
        init: str = "paper",
        relu_scores: bool = True,
        width: float = 1.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        checked("nin", "layout", layout, LAYOUTS)
        checked("nin", "init", init, ("paper", "kaiming"))
        self.features = nn.Sequential()
        add = self.features.add_module
        for number, (geometry, table, pool, drop) in enumerate(LAYOUTS[layout], 1):
            widths = [scaled(filters, width) if filters else num_classes for filters in table]
            add(f"mlpconv{number}", _mlpconv(in_channels, widths, geometry))
            if pool:
                kind = nn.MaxPool2d if pool == "max" else nn.AvgPool2d
                add(f"pool{number}", kind(3, stride=2, ceil_mode=True))
            if drop:
                add(f"drop{number}", nn.Dropout(dropout))
            in_channels = widths[-1]
        if not relu_scores:
            del self.features[-1][-1]
        self.avgpool = nn.GlobalAvgPool2d()
        self._initialise(init, layout)

    def _initialise(self, init: str, layout: str) -> None:
        if init == "kaiming":
            draw_weights(self, lambda weight: nn.init.kaiming_normal_(weight))
            return
        draw_weights(self, lambda weight: nn.init.normal_(weight, std=0.05))
        if layout == "imagenet":
            for layer in (self.features.mlpconv1[0], self.features.mlpconv4[4]):
                nn.init.normal_(layer.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Images in, logits out."""
        return self.avgpool(self.features(x))


def _mlpconv(in_channels: int, widths: list[int], geometry: tuple[int, int, int]) -> nn.Sequential:
    """A convolution and two of 1x1, each with a ReLU."""
    first, second, third = widths
    return nn.Sequential(
        nn.Conv2d(in_channels, first, *geometry),
        nn.ReLU(),
        nn.Conv2d(first, second, 1),
        nn.ReLU(),
        nn.Conv2d(second, third, 1),
        nn.ReLU(),
    )
