"""The architectures: one file a paper, the architecture as data, found by name.

>>> from minicnn import models
>>> models.create("notes_cnn").num_parameters()
29034
"""

from minicnn.models.alexnet import AlexNet, AlexNet2012
from minicnn.models.lenet import LeNet5, LeNet5Original, LeNetCaffe
from minicnn.models.network import Network
from minicnn.models.nin import NiN
from minicnn.models.notes_cnn import NotesCNN
from minicnn.models.registry import (
    Architecture,
    Preset,
    create,
    find,
    names,
    nearest_preset,
    register,
)
from minicnn.models.squeezenet import SqueezeNet
from minicnn.models.vgg import VGG
from minicnn.models.zfnet import ZFNet

__all__ = [
    "VGG",
    "AlexNet",
    "AlexNet2012",
    "Architecture",
    "LeNet5",
    "LeNet5Original",
    "LeNetCaffe",
    "Network",
    "NiN",
    "NotesCNN",
    "Preset",
    "SqueezeNet",
    "ZFNet",
    "create",
    "find",
    "names",
    "nearest_preset",
    "register",
]
