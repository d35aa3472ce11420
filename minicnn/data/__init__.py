"""Data sets, augmentation and batches.

>>> from minicnn.data import Loader, fashion_mnist
>>> test = fashion_mnist("test", source="sample")
>>> images, labels = next(iter(Loader(test, batch_size=100)))
>>> images.shape, test.classes[labels[0]]
((100, 1, 28, 28), 'Shirt')
"""

from minicnn.data import transforms
from minicnn.data.dataset import ArrayDataset
from minicnn.data.device_loader import DeviceLoader
from minicnn.data.fashion_mnist import FASHION_MNIST_MEAN, FASHION_MNIST_STD, fashion_mnist
from minicnn.data.idx import read_idx, write_idx
from minicnn.data.image_folder import ImageFolder
from minicnn.data.loader import Loader
from minicnn.data.mnist import MNIST_MEAN, MNIST_STD, mnist
from minicnn.data.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    Normalize,
    Pad,
    PCALighting,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    ToFloat,
    crop_mirror_factor,
    ten_crop,
)

__all__ = [
    "FASHION_MNIST_MEAN",
    "FASHION_MNIST_STD",
    "MNIST_MEAN",
    "MNIST_STD",
    "ArrayDataset",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "DeviceLoader",
    "ImageFolder",
    "Loader",
    "Normalize",
    "PCALighting",
    "Pad",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "ToFloat",
    "crop_mirror_factor",
    "fashion_mnist",
    "mnist",
    "read_idx",
    "ten_crop",
    "transforms",
    "write_idx",
]
