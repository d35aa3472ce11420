"""The architectures: one file a paper, the architecture as data, found by name.

>>> from minicnn import models
>>> models.create("notes_cnn").num_parameters()
29034
"""

from minicnn.models.cifar_resnet import CifarResNet
from minicnn.models.network import Network
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
from minicnn.models.resnet import ResNet

__all__ = [
    "Architecture",
    "CifarResNet",
    "Network",
    "NotesCNN",
    "Preset",
    "ResNet",
    "create",
    "find",
    "names",
    "nearest_preset",
    "register",
]
