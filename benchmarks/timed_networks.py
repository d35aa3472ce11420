"""Networks to time, written once for two libraries: ``nn`` is `minicnn.nn` or `torch.nn`.

Both have the same layer names and argument orders, so one definition builds the same network in
each; ``cat`` joins a list of maps along the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Network:
    """A network, the shape of one image, the batch it is timed with, and the number of classes."""

    build: Callable[[Any, Callable[..., Any]], Any]
    image: tuple[int, int, int]
    batch: int
    classes: int


def notes_cnn(nn: Any, cat: Any) -> Any:
    """The lecture notes' Fashion-MNIST CNN."""
    layers: list[Any] = []
    C = 1
    for F in (16, 32):
        layers += [nn.Conv2d(C, F, 5, padding=2), nn.BatchNorm2d(F), nn.ReLU(), nn.MaxPool2d(2)]
        C = F
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 49, 10))


def alexnet(nn: Any, cat: Any) -> Any:
    """AlexNet, single tower, with local response norm after the first two ReLUs."""

    def norm() -> Any:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)

    return nn.Sequential(
        *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), norm(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), norm(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        nn.Flatten(),
        *(nn.Linear(256 * 36, 4096), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(4096, 1000),
    )


def vgg16(nn: Any, cat: Any) -> Any:
    """VGG configuration D."""
    layers: list[Any] = []
    C = 3
    for count, F in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(C, F, 3, padding=1), nn.ReLU()]
            C = F
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        *(nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(4096, 1000),
    )


def resnet20(nn: Any, cat: Any) -> Any:
    """The CIFAR ResNet of 20 layers, projection shortcuts."""
    block = _basic_block(nn)
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    C = 16
    for F in (16, 32, 64):
        for i in range(3):
            layers.append(block(C, F, 2 if i == 0 and F != 16 else 1))
            C = F
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet18(nn: Any, cat: Any) -> Any:
    """ResNet-18 for ImageNet, projection shortcuts."""
    block = _basic_block(nn)
    layers = [nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, padding=1))
    C = 64
    for F in (64, 128, 256, 512):
        for i in range(2):
            layers.append(block(C, F, 2 if i == 0 and F != 64 else 1))
            C = F
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def resnet50(nn: Any, cat: Any) -> Any:
    """ResNet-50 for ImageNet, projection shortcuts; too large to be timed on a CPU by default."""
    block = _bottleneck(nn)
    layers = [nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, padding=1))
    C = 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for i in range(count):
            layers.append(block(C, width, 2 if i == 0 and width != 64 else 1))
            C = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


def squeezenet(nn: Any, cat: Any) -> Any:
    """SqueezeNet 1.1."""

    class Fire(nn.Module):
        def __init__(self, C: int, squeeze: int, expand: int) -> None:
            super().__init__()
            self.squeeze = nn.Conv2d(C, squeeze, 1)
            self.expand1 = nn.Conv2d(squeeze, expand, 1)
            self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            x = self.relu(self.squeeze(x))
            return cat([self.relu(self.expand1(x)), self.relu(self.expand3(x))], 1)

    def pool() -> Any:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool()),
        *(Fire(64, 16, 64), Fire(128, 16, 64), pool()),
        *(Fire(128, 32, 128), Fire(256, 32, 128), pool()),
        *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
        *(nn.Dropout(0.5), nn.Conv2d(512, 1000, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


def densenet121(nn: Any, cat: Any) -> Any:
    """DenseNet-121."""

    class Layer(nn.Module):
        def __init__(self, C: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                *(nn.BatchNorm2d(C), nn.ReLU(), nn.Conv2d(C, 128, 1, bias=False)),
                *(nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 32, 3, padding=1, bias=False)),
            )

        def forward(self, x: Any) -> Any:
            return cat([x, self.body(x)], 1)

    layers = [nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, padding=1))
    C = 64
    for i, count in enumerate((6, 12, 24, 16)):
        if i:
            layers += [nn.BatchNorm2d(C), nn.ReLU(), nn.Conv2d(C, C // 2, 1, bias=False)]
            layers.append(nn.AvgPool2d(2))
            C //= 2
        layers += [Layer(C + 32 * j) for j in range(count)]
        C += 32 * count
    layers += [nn.BatchNorm2d(C), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(C, 1000))


def _basic_block(nn: Any) -> Any:
    def body(C: int, F: int, stride: int) -> list[Any]:
        return [
            *(nn.Conv2d(C, F, 3, stride, 1, bias=False), nn.BatchNorm2d(F), nn.ReLU()),
            *(nn.Conv2d(F, F, 3, 1, 1, bias=False), nn.BatchNorm2d(F)),
        ]

    return _residual_block(nn, body, 1)


def _bottleneck(nn: Any) -> Any:
    def body(C: int, width: int, stride: int) -> list[Any]:
        return [
            *(nn.Conv2d(C, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)),
        ]

    return _residual_block(nn, body, 4)


def _residual_block(nn: Any, body: Callable[..., list[Any]], expansion: int) -> Any:
    class Block(nn.Module):
        def __init__(self, C: int, width: int, stride: int) -> None:
            super().__init__()
            F = expansion * width
            self.body = nn.Sequential(*body(C, width, stride))
            self.shortcut = nn.Identity()
            if stride != 1 or C != F:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(C, F, 1, stride, bias=False), nn.BatchNorm2d(F)
                )
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            if hasattr(nn, "residual"):  # minicnn's way to write it: one operation at the end
                return nn.residual(self.body, x, self.shortcut(x), self.relu)
            return self.relu(self.body(x) + self.shortcut(x))

    return Block


NETWORKS = {
    "notes_cnn": Network(notes_cnn, (1, 28, 28), 128, 10),
    "resnet20": Network(resnet20, (3, 32, 32), 64, 10),
    "alexnet": Network(alexnet, (3, 227, 227), 16, 1000),
    "squeezenet1_1": Network(squeezenet, (3, 224, 224), 8, 1000),
    "resnet18": Network(resnet18, (3, 224, 224), 8, 1000),
    "vgg16": Network(vgg16, (3, 224, 224), 4, 1000),
    "densenet121": Network(densenet121, (3, 224, 224), 4, 1000),
}
